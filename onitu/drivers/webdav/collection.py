"""`Collection`: requests below one root, in paths instead of URLs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from urllib.parse import quote

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import Kind
from onitu.plug.driver import Refused
from onitu.plug.remote import PIECE, Busy, Content, Missing, Thing, text, unsized
from onitu.plug.remote.headers import size_of
from onitu.plug.remote.http import httpx

from .client import SLOW, Answer, Body, Bytes, Client, read_answer, refusal
from .multistatus import LARGEST, Member, members, opaque, seconds_of

FOLDER = b"/"
"""The token of every collection."""
SENT = 1 << 18
"""Bytes that are handed to a connection at a time: they have to be gone within its time-out. More are read at a time,
as each read is a hop to a thread."""
SMALL_ANSWER = 1 << 20
"""Bytes of an answer about one resource."""

_PROPERTIES = "<d:resourcetype/><d:getcontentlength/><d:getlastmodified/><d:getetag/>"
_ASK = '<?xml version="1.0" encoding="utf-8"?><d:propfind xmlns:d="DAV:"{}><d:prop>{}{}</d:prop></d:propfind>'
PLAIN = _ASK.format("", _PROPERTIES, "").encode()
CLOUD = _ASK.format(' xmlns:o="http://owncloud.org/ns"', _PROPERTIES, "<o:checksums/>").encode()
WHO = _ASK.format(' xmlns:o="http://owncloud.org/ns"', _PROPERTIES, "<o:fileid/>").encode()
"""What is asked: `checksums` only of Nextcloud and ownCloud, which have them at hand: rclone would read each file for
them. `fileid` tells these two from others."""
_TIME = (
    '<?xml version="1.0" encoding="utf-8"?><d:propertyupdate xmlns:d="DAV:"><d:set><d:prop>'
    "<d:lastmodified>{}</d:lastmodified></d:prop></d:set></d:propertyupdate>"
)
SECOND = 1_000_000_000


class Sending:
    """A content as a body: read as it goes, and again from its start where the request is sent again."""

    def __init__(self, content: Content, offset: int = 0, size: int = -1) -> None:
        self._content = content
        self._offset = offset
        self.size = content.size - offset if size < 0 else size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        offset, end = self._offset, self._offset + self.size
        while offset < end:
            data = await self._content.read(offset, min(PIECE, end - offset))
            for start in range(0, len(data), SENT):
                yield data[start : start + SENT]
            offset += len(data)


class Collection:
    """One root. `url`: of the collection, with a slash at its end; `names`: its path as the server spells it."""

    def __init__(self, client: Client, url: httpx.URL) -> None:
        self.client = client
        self.url = url
        self.names: list[bytes] = []
        self.cloud = False

    def at(self, path: bytes, slash: bool = False) -> httpx.URL:
        """The URL of a path."""
        quoted = quote(path, safe="/") + ("/" if slash and path else "")
        return self.url.copy_with(raw_path=self.url.raw_path + quoted.encode("ascii"))

    # --- looking ------------------------------------------------------------------------------------------------

    async def open(self) -> Member:
        """What the server tells of the root. Raises `Unavailable` where that is no collection."""
        found = [member async for _, member in self._propfind(self.url, "0", WHO, True)]
        if len(found) != 1 or not found[0].collection:
            raise Unavailable(f"{self.client.service}: {self.shown} is not a directory (a WebDAV collection)")
        self.names, self.cloud = found[0].names, "fileid" in found[0].values
        return found[0]

    @property
    def shown(self) -> str:
        return str(self.url.copy_with(username=None, password=None))

    async def look(self, path: bytes, slash: bool = False) -> Member | None:
        """What the server tells of one path; None: nothing stands there."""
        try:
            found = [item async for item in self._propfind(self.at(path, slash), "0", self._question(), False)]
        except Refused as error:
            if error.trouble is not Trouble.NAME_IMPOSSIBLE or not paths.parent(path):
                raise
            above = await self.look(paths.parent(path))
            if above is not None and above.collection:
                raise
            return None  # below a file: Apache answers 400
        except (Busy, httpx.TransportError):
            text(path)  # WsgiDAV fails at what is not UTF-8
            raise
        if not found:
            return None
        told, member = found[0]
        if len(found) != 1 or told is None or paths.key(told) != paths.key(path):
            raise Refused(Trouble.IO, "the server tells of something else than it was asked for")
        return None if member.status in (404, 410) else member

    async def stat(self, path: bytes) -> Thing | None:
        member = await self.look(path)
        return None if member is None else thing_of(member)

    async def head(self, path: bytes) -> Thing | None:
        """What a server tells of a file where a GET has the entity tag of a listing: for less work on both sides than
        `stat`. None: that does not say what stands there."""
        answer = await self.ask("HEAD", path)
        size, tag = size_of(answer.headers.get("content-length", "")), opaque(answer.tag)
        if answer.status != 200 or not tag or size is None:
            return None
        mtime = seconds_of(answer.headers.get("last-modified", "")) * SECOND
        return Thing(Kind.FILE, tag, size, mtime)

    async def inside(self, directory: bytes, depth: str = "1") -> AsyncIterator[tuple[bytes, Member]]:
        """Everything in a directory ("infinity": below it), by its path from the root. Raises `Missing`; `Refused`
        where the answer is not about that directory, so that nothing must be concluded from it."""
        itself = False
        found = self._propfind(self.at(directory, slash=True), depth, self._question(), False)
        async with contextlib.aclosing(found):
            async for path, member in found:
                if path is None:
                    continue
                if path == directory:
                    itself = member.collection
                    if member.known and not member.collection:
                        raise Missing
                elif paths.within(path, directory) and (depth != "1" or paths.parent(path) == directory):
                    yield path, member
                else:
                    raise Refused(Trouble.IO, f"the server tells of {paths.show(path)} where it was not asked for")
        if not itself:
            raise Refused(Trouble.IO, "the server's list of it is not one of this directory")

    def _question(self) -> bytes:
        return CLOUD if self.cloud else PLAIN

    async def _propfind(
        self, url: httpx.URL, depth: str, question: bytes, first: bool
    ) -> AsyncGenerator[tuple[bytes | None, Member], None]:
        headers = {"Depth": depth, "Content-Type": "application/xml; charset=utf-8"}
        async with self.client.asking("PROPFIND", url, headers, Bytes(question)) as response:
            if response.status_code != 207:
                answer = await read_answer(response)
                if depth == "0" and answer.status in (404, 410, 409) and not first:
                    return
                raise self._no_list(answer, first)
            told = members(response.aiter_raw(), SMALL_ANSWER if depth == "0" else LARGEST)
            async for member in told:
                yield (b"" if first else self._path_of(member)), member

    def _no_list(self, answer: Answer, first: bool) -> Exception:
        if first and answer.status in (404, 410, 409):
            return Unavailable(f"{self.client.service}: there is no directory {self.shown}")
        if (first and answer.status in (400, 405, 501)) or answer.status // 100 in (2, 3):
            return Unavailable(
                f"{self.client.service}: {self.shown} does not speak WebDAV (the answer is {answer.status})"
            )
        if answer.status == 412:
            return Busy("the server answers 412 where there is no condition")
        return refusal(answer)

    def _path_of(self, member: Member) -> bytes | None:
        """The path of what is told, from the root; None: it is no path that a folder could hold. Raises `Refused`
        where it does not lie below the root: a listing with such a one is about something else."""
        count = len(self.names)
        if member.names[:count] != self.names:
            shown = paths.show(b"/" + b"/".join(member.names))
            raise Refused(Trouble.IO, f"the server tells of {shown}, which is not below the root")
        inner = member.names[count:]
        if any(b"/" in name or b"\0" in name or name in (b".", b"..") for name in inner):
            return None
        return b"/".join(inner)

    # --- changing -----------------------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: bytes, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        """A request to a path, and its answer, whatever it is."""
        return await self.client.ask(method, self.at(path), headers, body)

    async def make(self, path: bytes) -> Answer:
        """MKCOL."""
        return await self.client.ask("MKCOL", self.at(path, slash=True))

    async def send(self, path: bytes, body: Body, headers: Mapping[str, str]) -> Answer:
        """PUT."""
        return await self.ask("PUT", path, {"Content-Type": "application/octet-stream", **headers}, body)

    async def move(
        self, path: bytes, target: bytes, headers: Mapping[str, str], folder: bool = False, method: str = "MOVE"
    ) -> Answer:
        """MOVE or COPY; `headers` say what it may overwrite."""
        destination = str(self.at(target, slash=folder))
        sent = {"Destination": destination, "Overwrite": "F", **headers}
        return await self.client.ask(method, self.at(path, slash=folder), sent, seconds=SLOW)

    async def set_time(self, path: bytes, mtime: int, headers: Mapping[str, str]) -> Answer:
        """PROPPATCH of the time, as rclone, Nextcloud and ownCloud take it."""
        body = Bytes(_TIME.format(mtime // SECOND).encode())
        return await self.ask("PROPPATCH", path, {"Content-Type": "application/xml; charset=utf-8", **headers}, body)


def expected(answer: Answer) -> Answer:
    """The answer, where it is a success. Raises what it means else."""
    if answer.status // 100 != 2 or answer.status == 207:
        raise refusal(answer)
    return answer


def thing_of(member: Member) -> Thing:
    """What a server tells, as the interface has it."""
    if member.collection:
        return Thing(Kind.DIRECTORY, FOLDER)
    if member.status or not member.known:
        reason = f"the server tells nothing of it ({member.status})" if member.status else "the server hides what it is"
        return Thing(Kind.NOTHING, trouble=Trouble.DENIED if member.status == 403 else Trouble.IO, reason=reason)
    if member.size is None:
        return unsized()
    token = member.tag or b"%d-%d" % (member.size, member.mtime)
    return Thing(Kind.FILE, token, member.size, member.mtime, digests=member.digests)
