"""A bucket, or a prefix in one, as a remote.

An object's token is its ETag. Directories are zero-byte objects whose keys end in `/`, as other tools mark them; one
that has no mark stands as long as something is in it, and gets its mark before the last of that is deleted by Onitu.
Symbolic links and the modes of directories are not kept. Moves are copies made by the service, then a deletion.
"""

from __future__ import annotations

import base64
import contextlib
import mimetypes
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from onitu.model import paths
from onitu.model.events import Trouble
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Capabilities, Refused
from onitu.plug.remote import DENYING, NOTHING_THERE, Busy, Changed, Content, Missing, Posting, Remote, Thing
from onitu.plug.remote.headers import date_of

from .bucket import PLACEHOLDER, Bucket
from .client import Answer, Exchange, Failed, conditions
from .errors import meaning
from .listing import headers_of, is_md5, md5, md5_of, thing_of
from .probe import Able, probed
from .uploads import PART, Upload, Uploads

COPIED = 5 << 30
"""Bytes of the largest object that the service copies in one request."""
DIRECTORY = Thing(Kind.DIRECTORY)

_CLASH = Thing(
    Kind.FILE,
    b"-",
    trouble=Trouble.NAME_CLASH,
    reason="an object has the name of a directory: what is in that is not looked at until one of the two is renamed",
)
_NO_PATH = Thing(
    Kind.FILE,
    b"-",
    trouble=Trouble.NAME_IMPOSSIBLE,
    reason="there are keys with an empty name, `.` or `..` here, which are no paths: they are left as they are",
)
_NO_NAMES = {b"": b"%2F", b".": b"%2E", b"..": b"%2E%2E"}
"""What keys may have between two slashes and no path has, and as what it is told then."""


class _Small(Posting):
    """A file that is put in one request. `headers`: what does not depend on its content."""

    def __init__(self, bucket: Bucket, key: str, version: Version, headers: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._key = key
        self._version = version
        self._headers = headers
        self._md5 = ""
        self._exchange = Exchange()

    def put(self, data: bytes) -> Thing:
        self.requests += 1
        answer = self._bucket.change_in_thread(self._exchange, self._key, self.headers(data), data)
        self.received += len(answer.body)
        return self.made(answer)

    def interrupt(self) -> None:
        self._exchange.interrupt()

    def headers(self, data: bytes) -> dict[str, str]:
        """Of the request; `made` has to know its answer."""
        self._md5 = md5(data)
        whole = base64.b64encode(bytes.fromhex(self._md5)).decode()
        return {**self._headers, **headers_of(self._version, self._md5), "content-md5": whole}

    def made(self, answer: Answer) -> Thing:
        """What stands there."""
        version = self._version
        digests = {BLAKE3: version.digests[BLAKE3]} if BLAKE3 in version.digests else {}
        if answer.etag == self._md5.encode():
            digests |= md5_of(answer.etag)
        mtime = version.mtime or int((date_of(answer.headers.get("date", "")) or 0) * 1e9)
        return Thing(Kind.FILE, answer.etag, version.size, mtime, version.mode, digests=digests)


class S3Remote(Remote):
    """See the module. `md5s`: whether ETags may be taken for MD5s; `look_only`: nothing may be written."""

    concurrency = 16
    counts_requests = True
    exact_names = True
    rich_stat = True
    posts = True

    def __init__(self, bucket: Bucket, uploads: Uploads, md5s: bool, look_only: bool) -> None:
        self.client = bucket.client
        self._bucket = bucket
        self._uploads = uploads
        self._look_only = look_only
        self._asked_md5s = md5s
        self._probed = False
        self._recalled = False
        self._marked: set[bytes] = set()
        self._made: list[bytes] = []
        self._directories: set[bytes] = set()

    @property
    def able(self) -> Able:
        return self._bucket.able

    @property
    def _md5s(self) -> bool:
        return self._asked_md5s and self.able.md5s

    # --- looking ------------------------------------------------------------------------------------------------

    async def probe(self) -> Capabilities:
        recalled, self._recalled = self._recalled, False  # for this try only, also where the service is not reached
        await self._reach()
        if not (recalled or self._probed or self._look_only):
            await self._try()
        if not self._look_only:
            await self._uploads.sweep()
        swaps = self.able.swaps and self.able.creates
        return Capabilities(
            compare_and_swap=swaps,
            create_only=self.able.creates,
            moves=False,
            links=False,
            racy=0,
            digests=("md5",) if self._md5s else (),
        )

    async def _try(self) -> None:
        """Find out what the service can do."""
        stem = f"{self._bucket.prefix}.onitu/probe-{secrets.token_hex(8)}"
        self.denied, self._bucket.able = None, Able()
        try:
            self._bucket.able = await probed(self.client, stem)
            self._probed = True
        except Failed as error:
            refusal = self.translate(error)
            if not isinstance(refusal, Refused) or refusal.trouble not in DENYING:
                raise
            self.denied = refusal

    def memory(self) -> bytes:
        return msgspec.json.encode(self.able)

    def recall(self, memory: bytes) -> bool:
        with contextlib.suppress(msgspec.MsgspecError):
            self._bucket.able = msgspec.json.decode(memory, type=Able)
            self._recalled = True
        return self._recalled

    async def _reach(self) -> None:
        for last in (False, True):
            try:
                await self._bucket.page(self._bucket.prefix, most=1)
                return
            except Failed as error:
                region = error.answer.headers.get("x-amz-bucket-region", "")
                if last or not region or region == self.client.region:
                    raise
                self.client.move_to(region)

    async def list(self, directory: bytes) -> Mapping[bytes, Thing]:
        prefix = self._bucket.below(directory)
        found: dict[bytes, Thing] = {}
        there = directory == paths.ROOT
        async for listed in self._bucket.pages(prefix, "/"):
            there = there or bool(listed.objects or listed.prefixes)
            for key, etag, size, mtime in listed.objects:
                name = self._name(directory, key.removeprefix(prefix))
                if name and name in _NO_NAMES:
                    found[_NO_NAMES[name]] = _NO_PATH
                elif name:
                    found[name] = _CLASH if found.get(name) is DIRECTORY else self._listed(etag, size, mtime)
            for inner in listed.prefixes:
                name = inner.removeprefix(prefix)[:-1].encode()
                if name in _NO_NAMES:
                    found[_NO_NAMES[name]] = _NO_PATH
                else:
                    found[name] = _CLASH if name in found and found[name] is not DIRECTORY else DIRECTORY
        if not there:
            raise Missing
        return found

    async def list_tree(self) -> AsyncIterator[tuple[bytes, Thing]]:
        files: set[bytes] = set()
        directories: set[bytes] = set()
        no_paths: set[bytes] = set()
        self._marked = set()
        async for listed in self._bucket.pages(self._bucket.prefix):
            for key, etag, size, mtime in listed.objects:
                relative = key.removeprefix(self._bucket.prefix).encode()
                directory, slash, last = relative.rpartition(b"/")
                if slash and directory not in directories:
                    if outside := _no_path(directory):
                        no_paths.add(outside)
                        continue
                    directories.update((directory, *paths.ancestors(directory)))
                    directories.discard(paths.ROOT)
                if last and last in _NO_NAMES:
                    no_paths.add(paths.join(directory, _NO_NAMES[last]))
                elif self._name(directory, last.decode()):
                    files.add(relative)
                    yield relative, self._listed(etag, size, mtime)
                elif directory:
                    yield directory, DIRECTORY
        for path in files & directories:
            yield path, _CLASH
        for path in no_paths:
            yield path, _NO_PATH
        self._directories = directories

    def _name(self, directory: bytes, last: str) -> bytes:
        """The name of an object in a directory; empty: it is the directory's mark, which is noted."""
        if last not in ("", PLACEHOLDER):
            return last.encode()
        self._marked.add(directory)
        return b""

    def _listed(self, etag: bytes, size: int, mtime: int) -> Thing:
        return Thing(Kind.FILE, etag, size, mtime, digests=md5_of(etag) if self._md5s else {})

    async def stat(self, path: bytes) -> Thing | None:
        if path == paths.ROOT:
            return DIRECTORY
        answer = await self._bucket.head(self._bucket.key(path))
        if answer is not None:
            return thing_of(answer, self._md5s)
        if not (await self._bucket.page(self._bucket.below(path), most=1)).objects:
            return None
        self._directories.add(path)
        return DIRECTORY

    async def read(self, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        headers = {"range": f"bytes={offset}-{offset + length - 1}", **conditions([("if-match", token)])}
        answer = await self.client.ask("GET", self._bucket.key(path), headers=headers)
        if answer.etag != token:
            raise Changed
        ranged = answer.status == 206 or "content-range" in answer.headers  # `rclone serve s3` says 200 and sends it
        return answer.body if ranged else answer.body[offset : offset + length]

    # --- acting -------------------------------------------------------------------------------------------------

    async def prepare(self, path: bytes, content: Content) -> object:
        return await self._bring(path, content) if content.size > PART else None

    async def _bring(self, path: bytes, content: Content) -> Upload:
        headers = {**_typed(path), **headers_of(content.version, "")}
        return await self._uploads.bring(self._bucket.key(path), content, headers)

    async def put(self, path: bytes, content: Content, expect: bytes | None, prepared: object = None) -> Thing:
        if expect is not None:
            await self._check_way(path)
        if content.size > PART:
            return await self._put_parts(path, content, expect, prepared)
        data, small = await content.read(), self._small(path, content.version, expect)
        return small.made(await self._bucket.changing("PUT", path, lambda: small.headers(data), data))

    def posting(self, path: bytes, version: Version, expect: bytes) -> Posting | None:
        known = all(directory in self._directories for directory in paths.ancestors(path))
        return self._small(path, version, expect) if known and path not in self._directories else None

    def _small(self, path: bytes, version: Version, expect: bytes | None) -> _Small:
        key, when = self._bucket.key(path), self._bucket.only_where(expect)
        return _Small(self._bucket, key, version, {**_typed(path), **when})

    async def _put_parts(self, path: bytes, content: Content, expect: bytes | None, prepared: object) -> Thing:
        key = self._bucket.key(path)
        upload = prepared if isinstance(prepared, Upload) else await self._bring(path, content)
        for again in (False, True):
            # Not every server compares when an upload is completed: then the window is the time of one request.
            if expect is not None:
                before = await self._bucket.head(key)
                if (before.etag if before is not None else NOTHING_THERE) != expect:
                    raise Changed
            try:
                await self._uploads.complete(upload, expect if self.able.swaps and self.able.creates else None)
            except Failed as error:
                if error.status != 404 or error.code == "NoSuchBucket":
                    raise
                if error.code == "NoSuchKey":
                    raise Changed from error
                await self._uploads.forget(key)
                if (after := await self._put_by_us(key, content, upload)) is not None:
                    return after  # an earlier try did it, and its answer was lost
                if again:
                    raise Busy("the service forgot an upload twice") from error
                upload = await self._bring(path, content)
                continue
            break
        await self._uploads.forget(key)
        after = await self._put_by_us(key, content, upload)
        if after is None:
            raise Changed
        return after

    async def _put_by_us(self, key: str, content: Content, upload: Upload) -> Thing | None:
        """What stands there, where it is what was uploaded; it may be something else already."""
        answer = await self._bucket.head(key)
        if answer is None:
            return None
        thing = thing_of(answer, self._md5s)
        ours = content.version.digests.get(BLAKE3)
        same = thing.token == upload.etag or (ours is not None and thing.digests.get(BLAKE3) == ours)
        return thing if same and thing.size == content.size else None

    async def delete(self, path: bytes, expect: bytes | None) -> None:
        if expect is not None and not self.able.deletes:
            before = await self._bucket.head(self._bucket.key(path))
            if before is None:
                raise Missing
            if before.etag != expect:
                raise Changed
        await self._keep_directory(paths.parent(path))
        when = conditions([("if-match", expect)]) if expect is not None and self.able.deletes else {}
        answer = await self.client.ask("DELETE", self._bucket.key(path), headers=when)
        if answer.status != HTTPStatus.NO_CONTENT and await self._bucket.head(self._bucket.key(path)) is not None:
            raise Busy("the service says that it deleted it, and it is there")

    async def _keep_directory(self, directory: bytes) -> None:
        """Give a directory its mark, so that it does not go with the last thing in it."""
        if directory == paths.ROOT or directory in self._marked or _is_private(directory):
            return
        self._made.append(directory)  # also where an earlier try made it, whose answer did not come
        with contextlib.suppress(Changed):
            await self._mark(directory)

    def take_made(self) -> Sequence[bytes]:
        made, self._made = self._made, []
        return made

    async def make_directory(self, path: bytes) -> None:
        if _is_private(path):
            return  # no mark is needed for what is only ever asked for by its whole name
        await self._check_way(path)
        if await self.stat(path) is not None:
            raise Changed
        await self._mark(path)

    async def _mark(self, path: bytes) -> None:
        key = self._bucket.marks(path)[0 if self.able.marks else 1]
        try:
            await self._bucket.changing("PUT", path, self._bucket.only_where(NOTHING_THERE), key=key)
        except Changed:
            listed = await self._bucket.page(key, most=1)
            if any(found == key for found, _, _, _ in listed.objects):
                raise
            await self._bucket.changing("PUT", path, {}, key=key)  # SeaweedFS means what is below it
        self._marked.add(path)
        self._directories.add(path)

    async def remove_directory(self, path: bytes) -> None:
        listed = await self._bucket.page(self._bucket.below(path), most=3)
        if not listed.objects:
            raise Missing
        marks = self._bucket.marks(path)
        if any(key not in marks or size for key, _, size, _ in listed.objects):
            raise Refused(Trouble.NOT_EMPTY, "the directory is not empty")
        await self._keep_directory(paths.parent(path))
        for key, _, _, _ in listed.objects:
            await self.client.ask("DELETE", key)
        self._marked.discard(path)
        self._directories.discard(path)

    async def copy(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        before = await self._bucket.head(self._bucket.key(path))
        if before is None:
            raise Missing
        if expect is not None and before.etag != expect:
            raise Changed
        thing = thing_of(before, self._md5s)
        if thing.size > COPIED:
            raise NotImplementedError
        await self._check_way(target)
        headers = {**self._from(path, before.etag), **self._bucket.only_where(NOTHING_THERE)}
        return await self._copied(thing, await self._bucket.changing("PUT", target, headers), target)

    async def set_meta(self, path: bytes, version: Version, expect: bytes | None) -> Thing | None:
        if version.kind is Kind.DIRECTORY:
            return None
        before = await self._bucket.head(self._bucket.key(path))
        if before is None:
            raise Missing
        if expect is not None and before.etag != expect:
            raise Changed
        thing = thing_of(before, self._md5s)
        if thing.size > COPIED:
            return None
        kept = {
            name: value for name, value in before.headers.items() if name in _KEPT or name.startswith("x-amz-meta-")
        }
        told = {BLAKE3: thing.digests[BLAKE3]} if BLAKE3 in thing.digests else {}
        own = Version(Kind.FILE, thing.size, told, version.mtime or thing.mtime, version.mode or thing.mode)
        value = before.etag.decode() if "md5" in thing.digests else ""
        headers = {**kept, **headers_of(own, value), **self._from(path, before.etag)}
        headers["x-amz-metadata-directive"] = "REPLACE"
        answer = await self._bucket.changing("PUT", path, headers)
        return await self._copied(msgspec.structs.replace(thing, mtime=own.mtime, mode=own.mode), answer, path)

    def _from(self, path: bytes, etag: bytes) -> dict[str, str]:
        source = f"/{self.client.bucket}/{quote(self._bucket.key(path), safe='-_.~/')}"
        return {"x-amz-copy-source": source, **conditions([("x-amz-copy-source-if-match", etag)])}

    async def _copied(self, thing: Thing, answer: Answer, path: bytes) -> Thing | None:
        """What a copy is. None: it has to be looked at. Raises `Changed` where the server copied something else."""
        etag = answer.xml().findtext("ETag", "").strip('"').encode()
        if is_md5(etag) and "md5" in thing.digests:
            if etag != thing.token:
                raise Changed
            return thing
        after = await self._bucket.head(self._bucket.key(path))
        if after is None:
            raise Missing
        return thing_of(after, self._md5s)

    async def _check_way(self, path: bytes) -> None:
        """Keys are in nobody's way, but files are. Raises `Changed` where a directory stands at a path, and `Missing`
        where a file stands above it. It asks only where that cannot be known from the last listing."""
        if path in self._directories:
            if (await self._bucket.page(self._bucket.below(path), most=1)).objects:
                raise Changed
            self._directories.discard(path)
        for directory in paths.ancestors(path):
            if directory not in self._directories:
                if await self._bucket.head(self._bucket.key(directory)) is not None:
                    raise Missing
                self._directories.add(directory)

    def translate(self, error: Exception) -> Exception:
        return meaning(error, self.client) or super().translate(error)


_KEPT = ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires")


def _typed(path: bytes) -> dict[str, str]:
    kind, encoding = mimetypes.guess_type(paths.name(path).decode(errors="replace"))
    return {"content-type": kind} if kind and not encoding else {}


def _is_private(path: bytes) -> bool:
    return path == paths.PRIVATE or paths.within(path, paths.PRIVATE)


def _no_path(directory: bytes) -> bytes:
    """As what the keys below are told, where one of the names in it is none; empty: it is a path, or the root."""
    names = directory.split(b"/")
    for place, name in enumerate(names):
        if name in _NO_NAMES:
            return b"/".join([*names[:place], _NO_NAMES[name]])
    return b""
