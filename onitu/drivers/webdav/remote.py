"""`WebdavRemote`: one root on a WebDAV server, as the base for remote services wants it.

How a file is put depends on what the server was found to be able to (`probing.Able`):

- `direct`: a PUT with `If-Match` or `If-None-Match: *` is one request, a compare-and-swap;
- `tagged`: the content first goes where nobody looks, and a MOVE with the condition puts it in place: for what is large
  (a server compares when an upload begins, not when it ends), and where a PUT does not tell what it made;
- else the base lets it go into `.onitu/tmp` and renames.

A name that is not UTF-8 is looked at and read as the server tells it, but none is made: a server may make another one
of it (sabre/dav takes it for Latin-1).
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping

import msgspec
import trio
from blake3 import blake3

from onitu.model import paths
from onitu.model.errors import Anew
from onitu.model.events import Trouble
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Capabilities, Refused
from onitu.plug.remote import NOTHING_THERE, Busy, Changed, Content, Missing, Remote, Thing, text

from .client import Answer, refusal, translated
from .collection import FOLDER, SECOND, Collection, Sending, expected, thing_of
from .multistatus import opaque, seconds_of
from .probing import Able, ascertain, learn
from .tree import Tree
from .uploads import Prepared, Uploads

SMALL = 1 << 17
"""Bytes up to which a file is put by one PUT, where that is a compare-and-swap."""

_TMP = paths.PRIVATE + b"/tmp"
_GONE = _TMP + b"/gone-"


class _Brought(msgspec.Struct, frozen=True):
    """A content that lies where nobody looks. `path`: where."""

    path: bytes
    thing: Thing


class WebdavRemote(Remote):
    """See the module. `known`: what was found out about roots, by URL; `part`: bytes of a part of a chunked upload."""

    counts_requests = True

    def __init__(self, root: Collection, known: dict[str, Able], part: int, look_only: bool) -> None:
        self._root = root
        self._known = known
        self._part = part
        self._look_only = look_only
        self._able = Able()
        self._recalled: Able | None = None
        self._swaps = False
        self._uploads: Uploads | None = None
        self._tree = Tree(root)
        self._asking = trio.Lock()
        self._mistaken = False
        """Whether the server can do less than was believed: only another `probe` helps."""

    async def probe(self) -> Capabilities:
        await self._root.open()
        key, recalled = str(self._root.url), self._recalled
        self._recalled = None
        if not (recalled or key in self._known or self._look_only):
            await self._learn(key)
        self._able = recalled or self._known.get(key, Able())
        able = self._able.capabilities(self._root.cloud)
        self._swaps = able.compare_and_swap
        self.timed = self._able.timed
        self._tree = Tree(self._root, deep=self._able.deep, folders=self._able.folders)
        if self._able.tagged and self._swaps:
            self._uploads = await Uploads.of(self._root, self._part)
        if not self._look_only:
            await self._recover()
        return able

    async def _learn(self, key: str) -> None:
        """Find out what the server can do."""
        self.denied = None
        try:
            self._known[key] = await learn(self._root)
        except Refused as error:
            self.denied = error

    def memory(self) -> bytes:
        # What is found out at the first change that needs it is found out anew in each life.
        return msgspec.json.encode(msgspec.structs.replace(self._able, unsure=False))

    def recall(self, memory: bytes) -> bool:
        with contextlib.suppress(msgspec.MsgspecError):
            self._recalled = msgspec.json.decode(memory, type=Able)
        return self._recalled is not None

    # --- looking ------------------------------------------------------------------------------------------------

    async def list(self, directory: bytes) -> Mapping[bytes, Thing]:
        found = self._root.inside(directory)
        return {paths.name(path): thing_of(member) async for path, member in found}

    def list_tree(self) -> AsyncIterator[tuple[bytes, Thing]] | None:
        return self._tree.listed() if self._tree.at_once else None

    async def stat(self, path: bytes) -> Thing | None:
        self._check_belief()
        return await self._root.stat(path)

    async def read(self, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        async with self._root.client.asking("GET", self._root.at(path), headers) as response:
            if response.status_code == 416:
                raise Changed
            if response.status_code not in (200, 206):
                raise refusal(Answer(response.status_code, response.headers))
            tag = response.headers.get("etag", "")
            if self._able.reads and opaque(tag) != token:
                raise Changed
            if not self._able.reads and not self._may_be(token, response.headers):
                raise Changed
            skip = offset if response.status_code == 200 else 0
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece[skip:]
                skip = max(0, skip - len(piece))
                if len(data) >= length:
                    break
            return bytes(data[:length])

    @staticmethod
    def _may_be(token: bytes, headers: Mapping[str, str]) -> bool:
        """Whether an answer may be about what a token names, where its entity tag need not be the one of a listing."""
        if opaque(headers.get("etag", "")) == token:
            return True  # it is one of Apache's that looks as if it were made of a size and a time
        size, _, mtime = token.partition(b"-")
        modified = headers.get("last-modified", "")
        if not (size.isdigit() and mtime.isdigit() and modified):
            return True
        return seconds_of(modified) * SECOND == int(mtime)

    # --- files --------------------------------------------------------------------------------------------------

    async def prepare(self, path: bytes, content: Content) -> object:
        self.check_name(path)
        if not (self._swaps and self._able.tagged):
            return None
        if self._uploads is not None and content.size > self._part:
            return await self._uploads.bring(path, content)
        return await self._bring(path, content, look=True)

    async def put(self, path: bytes, content: Content, expect: bytes | None, prepared: object = None) -> Thing:
        self.check_name(path)
        try:
            return await self._put(path, content, expect, prepared)
        except (Missing, Refused):
            there = await self._root.look(path)
            if there is not None and there.collection:
                raise Changed from None
            raise

    async def _put(self, path: bytes, content: Content, expect: bytes | None, prepared: object) -> Thing:
        if not self._swaps:
            return await self._put_anyhow(path, content)
        if self._able.tagged and (prepared or not self._able.direct or content.size > SMALL):
            if not prepared and content.size > SMALL:
                prepared = await self.prepare(path, content)
            if isinstance(prepared, Prepared):
                return await self._assemble(path, content, expect, prepared)
            if not isinstance(prepared, _Brought):  # to look for a small one costs as much as to send it again
                prepared = await self._bring(path, content, look=False)
            return await self._place(path, content, expect, prepared)
        headers = {**self._time(content), **self._condition(expect)}
        answer = await self._root.send(path, Sending(content), headers)
        if answer.status == 412:
            await self._weak(path, expect)
        tag = opaque(expected(answer).tag)
        if not (tag and self._able.tells):
            return await self._after(path, content)
        return Thing(Kind.FILE, tag, content.size, self._mtime(content))

    async def _put_anyhow(self, path: bytes, content: Content) -> Thing:
        """On a server that compares nothing: below `.onitu`, and elsewhere only where it cannot rename."""
        large = content.size > SMALL and paths.within(path, _TMP)
        there = await self._root.stat(path) if large else None
        if there is None or there.size != content.size or (self._able.times and there.mtime != self._mtime(content)):
            expected(await self._root.send(path, Sending(content), self._time(content)))
        else:
            await content.verified()
        return await self._after(path, content)

    async def _after(self, path: bytes, content: Content) -> Thing:
        there = (await self._root.head(path) if self._able.reads else None) or await self._root.stat(path)
        if there is None or there.kind is not Kind.FILE:
            raise Missing
        if there.size != content.size:
            raise Changed
        return there

    async def _bring(self, path: bytes, content: Content, look: bool) -> _Brought:
        """A content, where nobody looks. `look`: an earlier try may have brought it."""
        digest = content.version.digests.get(BLAKE3) or repr(sorted(content.version.digests.items())).encode()
        name = blake3(b"%d\0%b\0%b" % (content.size, digest, path)).hexdigest()[:40].encode()
        where = _TMP + b"/put-" + name
        there = await self._root.stat(where) if look else None
        if there is not None and there.size == content.size and self._able.whole:
            await content.verified()
            return _Brought(where, there)
        answer = await self._root.send(where, Sending(content), self._time(content))
        if answer.status in (404, 409):
            for directory in (paths.PRIVATE, _TMP):
                await self._root.make(directory)
            answer = await self._root.send(where, Sending(content), self._time(content))
        tag = opaque(expected(answer).tag)
        if tag and self._able.tells:
            return _Brought(where, Thing(Kind.FILE, tag, content.size, self._mtime(content)))
        return _Brought(where, await self._after(where, content))

    async def _place(self, path: bytes, content: Content, expect: bytes | None, brought: _Brought) -> Thing:
        """Give what was brought its name, on the condition."""
        answer = await self._root.move(brought.path, path, self._replacing(path, expect))
        if answer.status in (404, 409):
            there = await self._root.stat(path)
            if there is not None and there.token == brought.thing.token:
                return there  # an earlier try, whose answer was lost, did it
            if await self._root.stat(brought.path) is None:
                again = await self._bring(path, content, look=False)
                answer = await self._root.move(again.path, path, self._replacing(path, expect))
                brought = again
        if answer.status == 412:
            await self._weak(path, expect)
        await self._moved(answer, path)
        return brought.thing

    async def _assemble(self, path: bytes, content: Content, expect: bytes | None, prepared: Prepared) -> Thing:
        assert self._uploads is not None
        headers = {**self._replacing(path, expect), **self._time(content)}
        try:
            tag = await self._uploads.assemble(path, content, prepared, headers)
        except Missing:  # the server swept the parts away, or an earlier try did it, and its answer was lost
            prepared = await self._uploads.bring(path, content)
            tag = await self._uploads.assemble(path, content, prepared, headers)
        except Changed:
            await self._weak(path, expect)
            raise
        if not tag:
            return await self._after(path, content)
        return Thing(Kind.FILE, opaque(tag), content.size, self._mtime(content))

    async def delete(self, path: bytes, expect: bytes | None) -> None:
        answer = await self._root.ask("DELETE", path, self._condition(expect))
        if answer.status == 412:
            await self._weak(path, expect)
        expected(answer)
        if answer.status == 200 and (there := await self._root.stat(path)) is not None and there.token == expect:
            raise Busy("the server says that it deleted it, and it is there")

    async def rename(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        return await self._to(path, target, expect, "MOVE")

    async def copy(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        return await self._to(path, target, expect, "COPY")

    async def _to(self, path: bytes, target: bytes, expect: bytes | None, method: str) -> Thing | None:
        if not paths.within(path, paths.PRIVATE):  # what comes back from there may have a name that we would not give
            self.check_name(target)
        if not self._able.creates and await self._root.look(target) is not None:
            raise Changed
        headers = self._condition(expect) if expect != FOLDER else {}
        answer = await self._root.move(path, target, headers, folder=expect == FOLDER, method=method)
        if answer.status == 412:
            await self._weak(path, expect, target)
        await self._moved(answer, target)
        return None

    async def _moved(self, answer: Answer, target: bytes) -> None:
        """Raise what the answer to a MOVE or COPY means. Where the directory of the target is not there, it should be
        409; Apache answers 500, and 400 where that is a file, and rclone 403."""
        if answer.status in (400, 403, 409, 500):
            above = await self._root.look(paths.parent(target), slash=True)
            if above is None or not above.collection:
                raise Missing
            if answer.status == 409:  # then it is the target itself
                raise Changed
        expected(answer)

    async def set_meta(self, path: bytes, version: Version, expect: bytes | None) -> Thing | None:
        if not self._able.settable:
            return None
        headers = self._condition(expect) if expect != FOLDER else {}
        answer = await self._root.set_time(path, version.mtime, headers)
        if answer.status == 412:
            await self._weak(path, expect)
        if answer.status != 207:
            raise refusal(answer)
        there = await self._root.stat(path)
        if there is None:
            raise Missing
        if there.mtime // SECOND != version.mtime // SECOND:
            raise Changed  # somebody else's, meanwhile
        return there

    def check_name(self, path: bytes) -> None:
        """Raise `Refused` where the server would make another name of this one."""
        text(path)
        spoilt = bytes(sorted(set(path) & set(self._able.spoils)))
        if spoilt:
            raise Refused(Trouble.NAME_IMPOSSIBLE, f"the server makes another name of one with {paths.show(spoilt)}")

    # --- conditions ---------------------------------------------------------------------------------------------

    async def _be_sure(self) -> bool:
        """A condition that holds was refused: find out what `learn` left open. False: it was not open any more.
        Raises `Unavailable` where the server refuses every condition."""
        async with self._asking:
            open_ = self._able.unsure and not self._mistaken
            if open_:
                able = await ascertain(self._root, self._able)
                self._known[str(self._root.url)] = able
                cloud = self._root.cloud
                self._mistaken = able.capabilities(cloud) != self._able.capabilities(cloud)
                if not self._mistaken:
                    self._able = able
        self._check_belief()
        return open_

    def _check_belief(self) -> None:
        if self._mistaken:
            raise Anew(f"{self._root.client.service}: the server refuses conditions that hold: it is tried anew")

    def _condition(self, expect: bytes | None) -> dict[str, str]:
        """On what stands at the path of the request."""
        if expect is None or not self._swaps:
            return {}
        return {"If-None-Match": "*"} if expect == NOTHING_THERE else {"If-Match": f'"{expect.decode()}"'}

    def _replacing(self, path: bytes, expect: bytes | None) -> dict[str, str]:
        """On what stands at the target of a MOVE."""
        if expect == NOTHING_THERE:
            return {"Overwrite": "F"}
        if expect is None:
            return {"Overwrite": "T"}
        return {"Overwrite": "T", "If": f'<{self._root.at(path)}> (["{expect.decode()}"])'}

    async def _weak(self, path: bytes, expect: bytes | None, target: bytes | None = None) -> None:
        """After a condition did not hold: raise `Busy` where it is only that the server did not stand by its entity tag
        yet, as Apache in the first second, which may have passed by now; `Unavailable` where it never does. Else
        `Changed`. `target`: where nothing had to stand."""
        if expect and expect != FOLDER:
            member = await self._root.look(path)
            if member is not None and member.tag == expect:
                waited = await self._be_sure()
                if member.weak:
                    raise Busy("the server is not sure of its entity tag yet", after=0.0 if waited else 1.0)
                if target is None or await self._root.look(target) is None:
                    raise Busy("the server was not sure of its entity tag", after=0.0)
        raise Changed

    def _time(self, content: Content) -> dict[str, str]:
        mtime = content.version.mtime
        return {"X-OC-Mtime": str(mtime // SECOND)} if self._able.times and mtime > 0 else {}

    def _mtime(self, content: Content) -> int:
        return content.version.mtime // SECOND * SECOND if self._able.times else 0

    # --- directories --------------------------------------------------------------------------------------------

    async def make_directory(self, path: bytes) -> None:
        self.check_name(path)
        if not self._able.refuses and await self._root.stat(path) is not None:
            raise Changed
        answer = await self._root.make(path)
        if answer.status == 405:
            raise Changed
        expected(answer)

    async def remove_directory(self, path: bytes) -> None:
        """A DELETE would take along what is in it. So it steps aside first, where nobody can put anything into it, and
        is looked at there."""
        await self._need_empty(path)
        told = base64.urlsafe_b64encode(path).rstrip(b"=")
        aside = _GONE + secrets.token_hex(4).encode() + b"." + told
        if not self._able.creates or len(paths.name(aside)) > paths.MAX_NAME:
            expected(await self._root.client.ask("DELETE", self._root.at(path, slash=True)))
            return
        answer = await self._root.move(path, aside, {}, folder=True)
        if answer.status == 409:
            for directory in (paths.PRIVATE, _TMP):
                await self._root.make(directory)
            answer = await self._root.move(path, aside, {}, folder=True)
        expected(answer)
        await self._settle(aside, path)

    async def _need_empty(self, path: bytes) -> None:
        found = [inner async for inner, _ in self._root.inside(path)]
        if found:
            raise Refused(Trouble.NOT_EMPTY, f"{paths.show(paths.name(found[0]))} is in it")

    async def _settle(self, aside: bytes, path: bytes) -> None:
        """A directory that stepped aside goes where it is empty; else it comes back."""
        try:
            await self._need_empty(aside)
        except Refused:
            answer = await self._root.move(aside, path, {}, folder=True)
            if answer.status == 412:  # it was made anew meanwhile
                beside = path + b" (" + secrets.token_hex(4).encode() + b")"
                answer = await self._root.move(aside, beside, {}, folder=True)
            expected(answer)
            raise
        expected(await self._root.client.ask("DELETE", self._root.at(aside, slash=True)))

    async def _recover(self) -> None:
        """Settle directories that an earlier life left aside."""
        with contextlib.suppress(Missing, Refused):
            for aside in [p async for p, _ in self._root.inside(_TMP) if p.startswith(_GONE)]:
                told = aside.rpartition(b".")[2]
                with contextlib.suppress(Missing, Refused, ValueError):
                    path = paths.checked(base64.urlsafe_b64decode(told + b"=" * (-len(told) % 4)))
                    await self._settle(aside, path)

    def translate(self, error: Exception) -> Exception:
        found = translated(error, self._root.url)
        return found if found is not error else super().translate(error)
