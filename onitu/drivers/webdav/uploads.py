"""Nextcloud's chunked upload, version 2: a file comes in numbered parts into a directory of its own below
`/remote.php/dav/uploads/USER/`, and is put together by one MOVE.

Source: docs.nextcloud.com, Developer manual, Client APIs, WebDAV, Chunked upload; the condition on the target is the
one that ownCloud's and Nextcloud's desktop clients send.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec
from blake3 import blake3

from onitu.model.versions import BLAKE3
from onitu.plug.remote import Content, Missing
from onitu.plug.remote.http import httpx

from .client import SLOW
from .collection import Collection, Sending, expected

MOST = 10_000
"""Parts of one file."""
LEAST = 5 << 20
"""Bytes of one part, but for the last."""

_FILES = re.compile(rb"^(.*)/remote\.php/dav/files/([^/]+)/")


class Prepared(msgspec.Struct, frozen=True):
    """A file whose parts are all there. `where`: their directory."""

    where: httpx.URL


class Uploads:
    """The uploads of one user."""

    def __init__(self, root: Collection, url: httpx.URL, part: int) -> None:
        self._root = root
        self._part = max(part, LEAST)
        self._here = Collection(root.client, url)

    @classmethod
    async def of(cls, root: Collection, part: int) -> Uploads | None:
        """Those that belong to a root; None: the server has none."""
        found = _FILES.match(root.url.raw_path)
        if not root.cloud or found is None:
            return None
        url = root.url.copy_with(raw_path=found[1] + b"/remote.php/dav/uploads/" + found[2] + b"/")
        answer = await root.client.ask("PROPFIND", url, {"Depth": "0"})
        return cls(root, url, part) if answer.status == 207 else None

    async def bring(self, path: bytes, content: Content) -> Prepared:
        """Bring the parts that are not there yet. The directory's name tells the content, so that a later try, or a
        later life, finds what an earlier one brought."""
        part = max(self._part, -(-content.size // MOST))
        where = self._name(path, content, part)
        await self._open(where, path)
        there = await self._there(where)
        for number in range(-(-content.size // part)):
            size = min(part, content.size - number * part)
            if there.get(number + 1) != size:
                headers = self._headers(path, content)
                body = Sending(content, number * part, size)
                expected(await self._here.send(b"%s/%05d" % (where, number + 1), body, headers))
        await content.verified()
        return Prepared(self._here.at(where, slash=True))

    def _name(self, path: bytes, content: Content, part: int) -> bytes:
        digest = content.version.digests.get(BLAKE3) or repr(sorted(content.version.digests.items())).encode()
        target = self._root.url.raw_path + b"\0" + path
        told = b"%d\0%d\0%b\0%b\0%b" % (content.size, part, digest, target, content.stamp)
        return b"onitu-" + blake3(told).hexdigest()[:40].encode()

    def _headers(self, path: bytes, content: Content) -> dict[str, str]:
        return {"Destination": str(self._root.at(path)), "OC-Total-Length": str(content.size)}

    async def _open(self, where: bytes, path: bytes) -> None:
        answer = await self._here.client.ask(
            "MKCOL", self._here.at(where, slash=True), {"Destination": str(self._root.at(path))}
        )
        if answer.status != 405:  # it stands there: an earlier try made it
            expected(answer)

    async def _there(self, where: bytes) -> dict[int, int]:
        """The sizes of the parts that are there, by their numbers."""
        if not self._here.names:
            await self._here.open()
        found = {}
        async for name, member in self._parts(where):
            number = name.rpartition(b"/")[2]
            if number.isdigit() and len(number) == 5:
                found[int(number)] = member
        return found

    async def _parts(self, where: bytes) -> AsyncIterator[tuple[bytes, int]]:
        async for name, member in self._here.inside(where):
            yield name, member.size or 0

    async def assemble(self, path: bytes, content: Content, prepared: Prepared, headers: dict[str, str]) -> str:
        """Put a file together, on a condition; its new entity tag, where the server tells it. Raises `Missing` where
        the parts are gone."""
        sent = {**self._headers(path, content), "Overwrite": "F", **headers}
        answer = await self._here.client.ask("MOVE", prepared.where.join(".file"), sent, seconds=SLOW)
        if answer.status in (404, 410):
            raise Missing
        return expected(answer).tag
