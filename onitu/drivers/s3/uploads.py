"""Multipart uploads that a later try, or a later life, goes on with.

Of each a note is kept on this host: which upload, of which content. What the server has of it already is used where a
part's ETag is the MD5 of that part of the content, so nothing foreign gets in. What nobody went on with is given up
after a week, also by the server, which charges for it until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree

import msgspec
import trio
from blake3 import blake3

from onitu.plug.remote import Content

from .client import Broken, Client, Failed, conditions

PART = 8 << 20
"""Bytes of a part, and of the largest file that is put in one request; more where there would be too many parts."""
PARTS_AT_MOST = 10_000
AT_ONCE = 8
"""Parts of all uploads together that are in memory and under way at the same time."""
TRIES = 6
"""A part that the server has no time for (`SlowDown`) is tried so often, after a second, two, four…"""
KEEP = 7 * 24 * 3600.0
"""Seconds after which an upload that nobody went on with is given up."""


class Upload(msgspec.Struct, frozen=True):
    """One whose parts are all there: what is left is to complete it."""

    key: str
    number: str
    etags: tuple[str, ...]

    @property
    def etag(self) -> bytes:
        """The ETag that the object will have on Amazon's servers: the MD5 of the parts' MD5s."""
        with contextlib.suppress(ValueError):
            whole = hashlib.md5(b"".join(map(bytes.fromhex, self.etags)), usedforsecurity=False).hexdigest()
            return f"{whole}-{len(self.etags)}".encode()
        return b""


class _Note(msgspec.Struct, frozen=True):
    key: str
    number: str
    part: int
    content: str
    """The digest of what it is to be, metadata and all."""


class Uploads:
    """Those to one bucket; `folder` is on this host, and made when it is needed."""

    def __init__(self, client: Client, folder: str) -> None:
        self._client = client
        self._folder = folder
        self._parts = trio.CapacityLimiter(AT_ONCE)

    async def bring(self, key: str, content: Content, headers: Mapping[str, str]) -> Upload:
        """Have all parts of a content at the server. `headers`: of the object. Raises as `Client.ask`, and `Refused`
        where the content is not what it should be."""
        part = PART
        while part * PARTS_AT_MOST < content.size:
            part *= 2
        digest = blake3(repr((sorted(content.version.digests.items()), sorted(headers.items()))).encode()).hexdigest()
        note, there = await self._begun(key, part, digest)
        if note is None:
            answer = await self._client.ask("POST", key, {"uploads": ""}, headers)
            number = answer.xml().findtext("UploadId")
            if not number:
                raise Broken("a multipart upload was begun without a number")
            note = _Note(key, number, part, digest)
            await trio.to_thread.run_sync(self._write, note)
        etags: dict[int, str] = {}
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def bring_part(index: int, borrower: object) -> None:
                nonlocal failure
                try:
                    etags[index] = await self._bring_part(note, index, content, there.get(index))
                except Exception as error:  # a nursery would wrap it
                    failure = failure or error
                    nursery.cancel_scope.cancel()
                finally:
                    self._parts.release_on_behalf_of(borrower)

            for index in range(-(-content.size // part)):
                borrower = object()
                await self._parts.acquire_on_behalf_of(borrower)  # in this sequence: some servers want that
                nursery.start_soon(bring_part, index, borrower)
        if failure is not None:
            raise failure
        await content.verified()
        return Upload(key, note.number, tuple(etags[index] for index in sorted(etags)))

    async def complete(self, upload: Upload, expect: bytes | None) -> None:
        """Make it the object. Raises as `Client.ask`; `Failed` with `NoSuchUpload` where it is not there any more."""
        root = ElementTree.Element("CompleteMultipartUpload")
        for number, etag in enumerate(upload.etags, 1):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = f'"{etag}"'
        body = ElementTree.tostring(root)
        query = {"uploadId": upload.number}
        when = conditions([("if-none-match", b"*" if expect == b"" else None), ("if-match", expect or None)])
        answer = await self._client.ask("POST", upload.key, query, when, body)
        if answer.xml().tag == "Error":  # the line was kept open with a 200 before it failed
            raise Failed(msgspec.structs.replace(answer, status=500))

    async def forget(self, key: str) -> None:
        """It became an object, or is not there any more."""
        await trio.to_thread.run_sync(self._drop, self._path(key))

    async def sweep(self) -> None:
        """Give up what nobody went on with. Raises as `Client.ask`."""
        for path, note in await trio.to_thread.run_sync(self._old):
            await self._abort(note)
            await trio.to_thread.run_sync(self._drop, path)

    # --- its own ------------------------------------------------------------------------------------------------

    async def _begun(self, key: str, part: int, digest: str) -> tuple[_Note | None, dict[int, tuple[str, int]]]:
        """An upload of the same content that was begun before, and (ETag, size) of the parts that are there."""
        note = await trio.to_thread.run_sync(self._read, self._path(key))
        if note is None:
            return None, {}
        if (note.key, note.part, note.content) != (key, part, digest):
            await self._abort(note)
            return None, {}
        there: dict[int, tuple[str, int]] = {}
        query = {"uploadId": note.number}
        try:
            while True:
                root = (await self._client.ask("GET", key, query)).xml()
                there.update(_parts(root.iterfind("Part")))
                marker = root.findtext("NextPartNumberMarker", "")
                if root.findtext("IsTruncated") != "true" or marker == query.get("part-number-marker", ""):
                    return note, there
                query["part-number-marker"] = marker
        except Failed as error:
            if error.status != 404:
                raise
            return None, {}

    async def _bring_part(self, note: _Note, index: int, content: Content, there: tuple[str, int] | None) -> str:
        data = await content.read(index * note.part, note.part)
        if there is not None and there[1] == len(data):
            value = await trio.to_thread.run_sync(lambda: hashlib.md5(data, usedforsecurity=False).hexdigest())
            if value == there[0]:
                return value
        query = {"partNumber": str(index + 1), "uploadId": note.number}
        for attempt in range(TRIES):
            try:
                answer = await self._client.ask("PUT", note.key, query, None, data)
                return answer.etag.decode()
            except Failed as error:
                if error.status not in (429, 500, 503) or attempt == TRIES - 1:
                    raise
                await trio.sleep(2.0**attempt)
        raise AssertionError("the last try returns or raises")

    async def _abort(self, note: _Note) -> None:
        try:
            await self._client.ask("DELETE", note.key, {"uploadId": note.number})
        except Failed as error:
            if error.status != 404:
                raise

    # --- notes, in threads --------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, blake3(f"{self._client.bucket}\0{key}".encode()).hexdigest()[:32])

    def _write(self, note: _Note) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = self._path(note.key)
        with open(f"{path}.new", "w") as file:
            json.dump(msgspec.structs.asdict(note), file)
        os.replace(f"{path}.new", path)

    def _read(self, path: str) -> _Note | None:
        try:
            with open(path) as file:
                fields: dict[str, Any] = json.load(file)
                return _Note(**fields)
        except (OSError, ValueError, TypeError):
            return None

    def _drop(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def _old(self) -> list[tuple[str, _Note]]:
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as listing:
            for item in listing:
                if time.time() - item.stat().st_mtime > KEEP and (note := self._read(item.path)) is not None:
                    found.append((item.path, note))
        return found


def _parts(elements: Iterable[ElementTree.Element]) -> dict[int, tuple[str, int]]:
    found = {}
    for element in elements:
        with contextlib.suppress(ValueError):
            number, size = int(element.findtext("PartNumber", "")), int(element.findtext("Size", ""))
            found[number - 1] = (element.findtext("ETag", "").strip('"'), size)
    return found
