"""What a server can do, found out by trying it: headers like `If-Match` are ignored by many, and none says so.

It is tried in a directory of its own below `.onitu`, with files of a few bytes, and taken away again.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import msgspec
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.plug.driver import Capabilities, Refused
from onitu.plug.remote import DENYING, Busy, Changed, Missing

from .client import Answer, Bytes, refusal
from .collection import SECOND, Collection, expected
from .multistatus import Member, NotXml

TRIED = paths.PRIVATE + b"/tried-"
_WRONG = '"onitu-never"'
_OLD = 1_000_000_000
_WAS = b"as it was"
_MARKS = b'?#;%&+\\"<>|*:'
_CONTROLS = bytes((*range(1, 32), 127))
_SOME = b"\n\t\x01\x7f"
_CUT = 1 << 18
"""Bytes of an upload that is cut off in its middle."""
_PAUSES = 0.05, 0.1, 0.2, 0.4, 0.8
"""Seconds before a list that broke off is asked for again."""
_UNITS = 1, 10**3, 10**6, 10**9
"""Of a second, in which entity tags have times."""
_SECONDS = re.compile(rb"(\d{1,12})(\.\d*)?")
_USUAL = 405, 412, 415, 501
"""Answers of servers that do not do what they are asked for. Another one may be a proxy's, once: it is all tried again,
and only what is said then is the server's own."""
_PASSING = 408, 425, 429, 503, 504
"""Answers that say nothing of what a server can do, however often. (502 is what some say of a target that they take for
elsewhere.)"""


class Able(msgspec.Struct, frozen=True):
    """What was found out.

    Attributes:
        swaps: `If-Match` and `If-None-Match: *` are obeyed by PUT, DELETE and MOVE.
        whole: an upload that is cut off leaves what stood there.
        tells: a PUT answers with the entity tag that a listing tells.
        reads: a GET does.
        tagged: MOVE replaces a target on the condition of its entity tag (`If`, RFC 4918, 10.4), and what is moved
            keeps its own.
        keeps: what is moved keeps its entity tag.
        creates: MOVE with `Overwrite: F` replaces nothing.
        fine: each change has another entity tag, also in the same second.
        timed: entity tags are made of times (Apache, nginx, rclone), so that a rename may bring another file under the
            same one. Taken for so where any part of one looks like it.
        deep: `Depth: infinity` is answered.
        folders: a collection's entity tag changes with everything below it.
        times: X-OC-Mtime is obeyed.
        settable: so is PROPPATCH of the time. rclone says so, and forgets the time with its cache: what can be given a
            time only with its content is one that keeps none, but is given it nevertheless.
        refuses: MKCOL refuses where a collection stands.
        spoils: characters of which the server makes others, or that it cuts, where it is to MOVE: WsgiDAV cuts a name
            at a `?`, rclone shows control characters as others.
        unsure: whether a condition that holds lets the request through was not tried yet (`ascertain` does, once one
            was refused that seems to hold): the server's entity tags are weak ones at first, as Apache's for a second.
            Until then it is believed: nothing can be lost by a request that is refused.
    """

    swaps: bool = False
    whole: bool = False
    tells: bool = False
    reads: bool = False
    tagged: bool = False
    keeps: bool = False
    creates: bool = False
    fine: bool = False
    timed: bool = False
    deep: bool = False
    folders: bool = False
    times: bool = False
    settable: bool = False
    refuses: bool = False
    spoils: bytes = b""
    unsure: bool = False

    @property
    def direct(self) -> bool:
        """Whether a PUT is a compare-and-swap whose outcome is known."""
        return self.swaps and self.whole and self.tells

    def capabilities(self, cloud: bool) -> Capabilities:
        swaps = self.swaps and self.creates and self.fine and (self.direct or self.tagged)
        return Capabilities(
            compare_and_swap=swaps,
            create_only=self.creates,
            moves=self.creates and (self.keeps or swaps),
            links=False,
            modes=False,
            mtimes=SECOND if self.times and self.settable else 0,
            racy=0 if self.fine else SECOND,
            watches=False,
            digests=("sha1", "md5") if cloud else (),
        )


async def learn(root: Collection) -> Able:
    """Try it. Raises `Busy` and `Unavailable` where the server does not answer; `Refused` where it lets nothing be
    written now, so that nothing was found out."""
    return await _tried(root, lambda trial: trial.all()) or Able()


async def ascertain(root: Collection, able: Able) -> Able:
    """What `learn` left open, which takes Apache a second. Raises as `learn`."""
    found = await _tried(root, lambda trial: trial.what_holds(able))
    return found or msgspec.structs.replace(able, swaps=False, tagged=False, unsure=False)


async def _tried(root: Collection, what: Callable[[_Trial], Awaitable[Able]]) -> Able | None:
    """What a trial gives; None: it goes as on no server that is known."""
    for last in (False, True):
        try:
            async with _place(root) as box:
                return await what(_Trial(root, box, any_answer=last))
        except Refused as error:
            if error.trouble in DENYING:
                raise
        except (_Odd, Missing, Changed):
            continue
    return None


def has_time(member: Member) -> bool:
    """Whether a part of the entity tag is the file's time: in seconds or parts of them, hexadecimal (Apache:
    `size-time`, nginx: `time-size`, rclone: both without a mark between) or decimal (WsgiDAV)."""
    second = member.mtime // SECOND
    for part in member.tag.split(b"-") if second > 0 else ():
        if (written := _SECONDS.fullmatch(part)) and int(written[1]) == second:
            return True
        for units in _UNITS:
            digits = len(b"%x" % (second * units))
            with contextlib.suppress(ValueError):
                if int(part[:digits], 16) // units == second:
                    return True
    return False


@contextlib.asynccontextmanager
async def _place(root: Collection) -> AsyncIterator[bytes]:
    """A directory to try things in, which goes with all that is in it."""
    box = TRIED + secrets.token_hex(6).encode()
    made = await root.stat(paths.PRIVATE) is None
    try:
        if made:
            expected(await root.make(paths.PRIVATE))
        expected(await root.make(box))
        yield box
    finally:
        # What goes wrong here is the next one's trouble, and must not stand in for what went wrong above.
        with trio.move_on_after(30, shield=True), contextlib.suppress(Refused, Missing, Changed, Busy, Unavailable):
            await root.client.ask("DELETE", root.at(box, slash=True))
            if made and not [path async for path, _ in root.inside(paths.PRIVATE)]:
                await root.client.ask("DELETE", root.at(paths.PRIVATE, slash=True))


class _Cut:
    """A body that breaks off."""

    size = 2 * _CUT

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x" * _CUT
        raise _CutOff


class _CutOff(Exception):
    """The end of `_Cut`."""


class _Odd(Exception):
    """An answer that no known server gives there."""


class _Trial:
    """What is tried, one after the other. `any_answer`: odd ones count, too."""

    def __init__(self, root: Collection, box: bytes, any_answer: bool) -> None:
        self._root = root
        self._any_answer = any_answer
        self._box = box
        self._a, self._b, self._c, self._d = box + b"/in/a", box + b"/b", box + b"/c", box + b"/d"

    async def all(self) -> Able:
        root = self._root
        refuses = (await self._make(self._box)).status == 405
        expected(await self._make(self._box + b"/in"))
        before, again = await self._folder(), await self._folder()
        put = expected(await self._send(self._a, Bytes(b"1"), {"X-OC-Mtime": str(_OLD), "If-None-Match": "*"}))
        first = await self._look(self._a)
        folders = bool(before) and before == again != await self._folder()
        times = first.mtime == _OLD * SECOND
        able = Able(
            refuses=refuses,
            folders=folders,
            times=times,
            timed=has_time(first),
            tells=put.tag.strip('"').encode() == first.tag != b"",
            reads=(await self._ask("GET", self._a)).tag.strip().removeprefix("W/").strip('"').encode() == first.tag,
            deep=await self._deep(),
            fine=await self._fine(),
        )
        await self._write(self._b)
        await self._write(self._c)
        await self._cut(self._c)  # what became of it is looked at later: a server may take its time to notice
        await self._cut(self._d)
        able = await self._conditions(able)
        able = await self._moves(able)
        able = msgspec.structs.replace(able, spoils=await self._spoils())
        kept = await root.look(self._c)
        whole = kept is not None and kept.size == len(_WAS) and await root.look(self._d) is None
        able = msgspec.structs.replace(able, whole=whole)
        if times and root.cloud:
            self._sure(await root.set_time(self._a, (_OLD + 1000) * SECOND, {}))
            after = await self._look(self._a)
            able = msgspec.structs.replace(able, settable=after.mtime == (_OLD + 1000) * SECOND)
        return able

    def _sure(self, answer: Answer) -> Answer:
        """The answer, where it says something of the server. Raises `Busy` where that has no time now, and `_Odd`."""
        if answer.status in _PASSING:
            raise refusal(answer)
        if not (answer.status // 100 == 2 or answer.status in _USUAL or self._any_answer):
            raise _Odd
        return answer

    async def _send(self, path: bytes, body: Bytes, headers: Mapping[str, str]) -> Answer:
        return self._sure(await self._root.send(path, body, headers))

    async def _move(self, path: bytes, target: bytes, headers: Mapping[str, str], folder: bool = False) -> Answer:
        return self._sure(await self._root.move(path, target, headers, folder=folder))

    async def _ask(self, method: str, path: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return self._sure(await self._root.ask(method, path, headers or {}))

    async def _make(self, path: bytes) -> Answer:
        return self._sure(await self._root.make(path))

    async def _write(self, path: bytes) -> None:
        expected(await self._send(path, Bytes(_WAS), {}))

    async def _look(self, path: bytes) -> Member:
        member = await self._root.look(path)
        if member is None:
            raise Missing
        return member

    async def _folder(self) -> bytes:
        member = await self._root.look(b"", slash=True)
        return member.tag if member is not None else b""

    async def _spoils(self) -> bytes:
        survive = await self._survivors([_SOME, _MARKS])
        spoils = b"" if _SOME in survive else _CONTROLS
        if _MARKS not in survive:
            each = [bytes([mark]) for mark in _MARKS]
            spoils += bytes(set(_MARKS) - set(b"".join(await self._survivors(each))))
        return bytes(sorted(spoils))

    async def _survivors(self, some: Sequence[bytes]) -> list[bytes]:
        """Those of which a file that is moved to a name with them has that name.

        What is listed is a directory that was renamed since: of another one the server may remember what it was asked
        to make (rclone does, for as long as `--dir-cache-time`), where it would show another name to whoever comes
        later.
        """
        source, made = self._box + b"/plain", self._box + b"/odd"
        moved = made + b"-" + secrets.token_hex(4).encode()
        expected(await self._make(made))
        for characters in some:
            await self._write(source)
            await self._move(source, made + b"/a" + characters + b"41", {})
        expected(await self._move(made, moved, {}, folder=True))
        names = await self._names(moved)
        return [characters for characters in some if moved + b"/a" + characters + b"41" in names]

    async def _names(self, directory: bytes) -> list[bytes]:
        """What is in a directory. rclone breaks a list off where it is just clearing away an upload that was cut."""
        for pause in _PAUSES:
            with contextlib.suppress(NotXml):
                return [path async for path, _ in self._root.inside(directory)]
            await trio.sleep(pause)
        return [path async for path, _ in self._root.inside(directory)]

    async def _deep(self) -> bool:
        try:
            found = [path async for path, _ in self._root.inside(self._box, "infinity")]
        except (Refused, Missing, Changed):
            return False
        return self._a in found

    async def _fine(self) -> bool:
        """Whether changes in the same second are told apart. One of three may fall into the next one."""
        tags = set()
        for data in (b"2", b"3", b"4"):
            expected(await self._send(self._a, Bytes(data), {}))
            tags.add((await self._look(self._a)).tag)
        return len(tags) == 3 and b"" not in tags

    async def _cut(self, path: bytes) -> None:
        with contextlib.suppress(_CutOff):
            await self._root.send(path, _Cut(), {})

    async def _conditions(self, able: Able) -> Able:
        a = self._a
        refused = [
            await self._send(a, Bytes(b"5"), {"If-None-Match": "*"}),
            await self._send(a, Bytes(b"5"), {"If-Match": _WRONG}),
            await self._send(self._box + b"/none", Bytes(b"5"), {"If-Match": _WRONG}),
            await self._ask("DELETE", a, {"If-Match": _WRONG}),
        ]
        swaps = all(answer.status == 412 for answer in refused)
        if not swaps:
            await self._write(a)
            return msgspec.structs.replace(able, swaps=False)
        moved = await self._move(a, a + b"2", {"If-Match": _WRONG})
        if moved.status // 100 == 2:
            await self._write(a)
        if moved.status != 412:
            return msgspec.structs.replace(able, swaps=False)
        if (await self._look(a)).weak:
            return msgspec.structs.replace(able, swaps=True, unsure=True)
        return msgspec.structs.replace(able, swaps=await self._holds())

    async def what_holds(self, able: Able) -> Able:
        """Whether conditions that hold let requests through, once the server stands by its entity tags."""
        expected(await self._make(self._box + b"/in"))
        await self._write(self._b)
        await self._write(self._a)
        swaps = await self._holds()
        tagged = able.tagged and await self._replaces()
        return msgspec.structs.replace(able, swaps=able.swaps and swaps, tagged=tagged, unsure=False)

    async def _holds(self) -> bool:
        tag = await self._strong(self._a)
        return (await self._send(self._a, Bytes(b"6"), {"If-Match": f'"{tag}"'})).status // 100 == 2

    async def _replaces(self) -> bool:
        """Whether a MOVE on the condition of its target's entity tag is carried out."""
        tag = await self._strong(self._b)
        where = {"Overwrite": "T", "If": f'<{self._root.at(self._b)}> (["{tag}"])'}
        return (await self._move(self._a, self._b, where)).status // 100 == 2

    async def _strong(self, path: bytes) -> str:
        """The entity tag, once it is a strong one: Apache's is a weak one as long as the file is a second old."""
        member = await self._look(path)
        for _ in range(3):
            if not member.weak:
                break
            await trio.sleep(1.1)
            member = await self._look(path)
        return member.tag.decode()

    async def _moves(self, able: Able) -> Able:
        root, a, b = self._root, self._a, self._b
        creates = (await self._move(a, b, {})).status == 412
        if not creates:
            return able
        mine = await self._look(a)
        wrong = await self._move(a, b, {"Overwrite": "T", "If": f"<{root.at(b)}> ([{_WRONG}])"})
        if wrong.status // 100 == 2:
            await self._write(a)
            mine = await self._look(a)
        moved = not able.unsure and await self._replaces()
        tagged = wrong.status == 412 and (moved or able.unsure)
        if not moved:
            b = self._box + b"/moved"
            expected(await self._move(a, b, {}))
        keeps = mine.tag == (await self._look(b)).tag
        await self._write(a)
        return msgspec.structs.replace(able, creates=creates, keeps=keeps, tagged=tagged and keeps)
