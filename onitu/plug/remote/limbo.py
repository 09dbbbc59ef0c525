"""`.onitu/tmp` and `.onitu/limbo` on a service that can rename: what is not visible yet, and what stepped aside.

What stands in the limbo is a user's value until it was looked at. Its name tells where it came from, and what was
expected of it, so that a life that ended in between is made good by the next one.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

import attrs
import logbook
import trio
from blake3 import blake3

from onitu.model import paths
from onitu.model.conflicts import conflict_name
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.bell import finishing
from onitu.plug.driver import Refused

from .content import Content
from .interface import NOTHING_THERE, Busy, Changed, Missing, Thing
from .replica import CHUNK, LIMBO, TMP, Replica
from .spool import KEEP, Spool

BESIDE = b".path"
"""What the name of a file ends with that tells a path, where that is too long for a name in the limbo."""

LATE = 3600.0
"""Seconds for which a request whose answer did not come may still be carried out. (Linux gives up to bring what a
connection was given after a quarter of an hour: `tcp_retries2` in its ip-sysctl.)"""

UNDO = 20.0
"""Seconds that are given to let something step aside, and to put it back, also where everything else was cancelled."""

UNSURE = b"unsure"
"""The mark of what a new life takes for a value that nobody has seen."""

log = logbook.Logger("remote")
T = TypeVar("T")


def by_token(thing: Thing) -> bytes:
    """The mark of what its token proves."""
    return blake3(thing.token).hexdigest()[:16].encode()


def by_content(value: bytes) -> bytes:
    """The mark of a file with this BLAKE3, whose token proves little."""
    return b"x" + value.hex()[:16].encode()


def _name(path: bytes, delete: bool, mark: bytes, longest: int) -> bytes:
    """A name in the limbo, nobody else's, for what stands at a path; it has `longest` bytes at most."""
    start = b".".join([b"d" if delete else b"p", secrets.token_hex(4).encode(), mark, b""])
    told = base64.urlsafe_b64encode(path).rstrip(b"=")
    if len(start) + len(told) > longest:
        told = b"." + blake3(path).hexdigest()[:32].encode()
    return LIMBO + b"/" + start + told


def _told_beside(aside: bytes) -> bool:
    """Whether the path that it came from stands in a file beside it."""
    return b".." in aside


@attrs.define
class Limbo:
    """One replica's.

    Attributes:
        spool: on this host, for what has to be copied over it.
        doubtful: names of which nobody takes care, and until when something may come there; infinite: it may be there.
    """

    replica: Replica
    service: str
    spool: Spool
    doubtful: dict[bytes, float] = attrs.field(factory=dict)
    _made: bool = False
    _taken: set[bytes] = attrs.field(factory=set)
    _used: set[bytes] = attrs.field(factory=set)
    """Names in the limbo of which somebody takes care."""
    _unlisted: bool = False
    """Whether an earlier life may have left something that was not seen yet."""

    # --- on the way in ------------------------------------------------------------------------------------------

    def take_tmp(self, version: Version, stamp: bytes = b"") -> bytes:
        """A path in `.onitu/tmp` for this content, nobody else's until `give_tmp`. `stamp`: `Content.stamp`."""
        value = version.digests.get(BLAKE3) or next(iter(version.digests.values()), b"unknown")
        name = f"{value.hex()}-{version.size}" if version.kind is Kind.FILE else f"link-{secrets.token_hex(8)}"
        if stamp:
            name += f"-{blake3(stamp).hexdigest(8)}"
        stem = f"{TMP.decode()}/{name}"
        names = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
        path = next(name.encode() for name in names if name.encode() not in self._taken)
        self._taken.add(path)
        return path

    def give_tmp(self, path: bytes) -> None:
        self._taken.discard(path)

    async def in_private(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do what needs `.onitu/tmp` and `.onitu/limbo`, which are made once, and once more where somebody took them
        away; not in a root that is not ours any more: it would be made with them."""
        if self._made:
            with contextlib.suppress(Missing):  # of them, perhaps
                return await act()
        await self.replica.prove()
        for directory in (paths.PRIVATE, TMP, LIMBO):
            await self.replica.make_private(directory)
        self._made = True
        return await act()

    # --- aside --------------------------------------------------------------------------------------------------

    async def take_aside(self, path: bytes, thing: Thing, delete: bool, mark: bytes) -> bytes:
        """What stands at a path steps aside; returns where to. Raises `Missing`, `Changed`.

        `mark`: by which a new life knows whether it is what was expected: `by_token`, `by_content`, or `UNSURE`.

        A request whose answer did not come may have been carried out, or may be yet, when the path is another's: each
        try has a name of its own, so that none takes the place of what stands aside already (S1).
        """
        tried: list[bytes] = []
        aside = b""
        try:
            # Once the service was asked its answer is waited for, also where all is cancelled: only that tells.
            named = partial(_name, path, delete, mark, self.replica.remote.longest_name)
            rename = partial(self._step_aside, path, thing, named, tried)
            ask = partial(self.replica.calls.call, "rename", path, rename)
            aside = await finishing(UNDO, lambda: self.in_private(ask))
        except trio.Cancelled:
            if not delete:
                with trio.move_on_after(UNDO, shield=True), contextlib.suppress(Missing, Refused, Unavailable):
                    # The service may have done it, or do it yet: then the next life puts it back.
                    for name in tried:
                        if await self.replica.stat(name) is not None:
                            await self.put_back(name, path)
            raise
        finally:
            self._doubt([name for name in tried if name != aside and name in self._used], LATE)
        return aside

    async def _step_aside(self, path: bytes, thing: Thing, named: Callable[[], bytes], tried: list[bytes]) -> bytes:
        """One try. `tried`: where something stands by it or by those before it, as far as is known."""
        remote, translated = self.replica.remote, self.replica.calls.translated

        async def earlier() -> bytes:
            """Where to it stepped already; empty: nowhere."""
            for name in tried:
                if await remote.stat(name) is not None:
                    return name
            return b""

        if done := await earlier():
            return done
        aside = named()
        self._used.add(aside)
        if _told_beside(aside):
            await remote.put(aside + BESIDE, Content.of(path), None)
        tried.append(aside)
        try:
            with translated():
                await remote.rename(path, aside, thing.token)
        except (Missing, Changed) as error:  # else it is not certain that nothing came there
            tried.remove(aside)
            self._used.discard(aside)
            if _told_beside(aside):
                with contextlib.suppress(Missing, Busy, Refused), translated():
                    await remote.delete(aside + BESIDE, None)
            if isinstance(error, Missing) and (done := await earlier()):
                return done
            raise
        return aside

    async def put_back(self, aside: bytes, path: bytes) -> bool:
        """Give what stepped aside a path; False: something stands there. Raises `Refused`, `Unavailable`."""
        call, remote = self.replica.calls.call, self.replica.remote
        if await self.replica.stat(path) is not None:
            return False
        try:
            await call("rename", aside, lambda: remote.rename(aside, path, None))
        except (Changed, Missing) as error:
            if await self.replica.stat(aside) is not None:
                if isinstance(error, Changed):
                    return False
                raise
            # An earlier try did it, whose answer did not come: nobody else takes it away from there.
        self.replica.named(path)
        await self._forget_path(aside)
        return True

    async def drop(self, aside: bytes) -> None:
        """What stepped aside was what was expected. Where it cannot be dropped now, that is done later."""
        remote = self.replica.remote
        try:
            await self.replica.calls.call("delete", aside, lambda: remote.delete(aside, None))
        except Missing:
            pass
        except Refused:
            return
        await self._forget_path(aside)

    def leave(self, taken: Iterable[bytes]) -> None:
        """Whoever let these step aside is done: what was neither put back nor dropped is settled by the next poll."""
        self._doubt([aside for aside in taken if aside in self._used], float("inf"))

    async def _forget_path(self, aside: bytes) -> None:
        """It is there no more."""
        self._used.discard(aside)
        if _told_beside(aside):
            remote = self.replica.remote
            with contextlib.suppress(Missing, Refused):
                await self.replica.calls.call("delete", aside, lambda: remote.delete(aside + BESIDE, None))

    # --- what is left, and what comes late ----------------------------------------------------------------------

    def _doubt(self, names: Iterable[bytes], seconds: float) -> None:
        """Something may stand there, or come there within so long, and nobody looks after it any more."""
        until = trio.current_time() + seconds
        self.doubtful.update((name, until) for name in names)
        self._used.difference_update(names)

    async def settle_doubtful(self) -> None:
        """Give what is aside, and in nobody's hands, its path again. Raises `Unavailable`."""
        now = trio.current_time()
        for name in [name for name, until in self.doubtful.items() if until <= now]:
            del self.doubtful[name]
        if not (self.doubtful or self._unlisted):
            return
        found = await self._found_in(LIMBO)
        if found is None:
            return
        left = self.doubtful.keys() & found.keys()
        if self._unlisted:
            left = found.keys() - self._used
            self._unlisted = False
        for name in left:
            self.doubtful[name] = float("inf")
            await self._try_to_settle(name, found[name])
        for name in self.doubtful.keys() - found.keys():
            if self.doubtful[name] == float("inf"):
                del self.doubtful[name]

    async def _try_to_settle(self, aside: bytes, thing: Thing) -> None:
        try:
            await self._settle(aside, thing)
        except (Missing, Changed, Refused):
            self.doubtful[aside] = float("inf")  # the next poll tries it again
        else:
            self.doubtful.pop(aside, None)

    async def is_empty(self) -> bool:
        """Whether an earlier life left nothing to settle. Raises `Unavailable`."""
        remote = self.replica.remote
        try:
            return not await self.replica.calls.call("list", LIMBO, partial(remote.list, LIMBO))
        except Missing:
            return True
        except Refused:
            return False

    async def recover(self) -> None:
        """Settle what an earlier life left. Raises `Unavailable`."""
        found = await self._found_in(LIMBO)
        self._unlisted = found is None
        for aside, thing in (found or {}).items():
            if not aside.endswith(BESIDE):
                await self._try_to_settle(aside, thing)
            elif aside.removesuffix(BESIDE) not in (found or {}):
                await self._sweep(aside, thing, LATE)  # what it told of never came, or is gone
        unfinished = self.replica.remote.unfinished
        for path, thing in (await self._found_in(TMP) or {}).items():
            cut = bool(unfinished) and path.endswith(unfinished)
            await self._sweep(path, thing, float("-inf") if cut else KEEP)

    async def _found_in(self, directory: bytes) -> dict[bytes, Thing] | None:
        """What stands in one of our own directories; None: it cannot be listed. Raises `Unavailable`."""
        remote = self.replica.remote
        try:
            found = await self.replica.calls.call("list", directory, partial(remote.list, directory))
        except Missing:
            return {}
        except Refused:
            return None
        return {paths.join(directory, name): thing for name, thing in found.items()}

    async def _sweep(self, path: bytes, thing: Thing, seconds: float) -> None:
        """Delete what is older than that: content on its way in is kept for a while, so that a transfer can go on."""
        if thing.kind is not Kind.DIRECTORY and time.time() - thing.mtime / 1e9 > seconds:
            remote = self.replica.remote
            with contextlib.suppress(Missing, Changed, Refused):
                await self.replica.calls.call("delete", path, lambda: remote.delete(path, None))

    async def _settle(self, aside: bytes, thing: Thing) -> None:
        parts = paths.name(aside).split(b".")
        if len(parts) < 4 or aside.endswith(BESIDE):
            return
        path = await self._came_from(aside, parts)
        if not path:
            log.warning("{}: it is not known where {} came from: it stays", self.service, paths.show(aside))
            return
        expected = await self._is(aside, thing, parts[2])
        if expected and (parts[0] == b"d" or await self.replica.stat(path) is not None):
            await self.drop(aside)
            return
        names = (conflict_name(path, self.service, thing.mtime, n) for n in itertools.count(1))
        for name in itertools.chain([path], names):
            if await self.put_back(aside, name):
                log.info("{}: {} stands again", self.service, paths.show(name))
                return

    async def _is(self, aside: bytes, thing: Thing, mark: bytes) -> bool:
        """Whether it is what was expected when it stepped aside."""
        if mark[:1] != by_content(b"")[:1]:
            return mark == by_token(thing)
        value = await self.replica.digest(aside, thing) if thing.kind is Kind.FILE else None
        return value is not None and mark == by_content(value)

    async def _came_from(self, aside: bytes, parts: list[bytes]) -> bytes:
        if parts[3]:
            told = parts[3]
            path = base64.urlsafe_b64decode(told + b"=" * (-len(told) % 4))
        else:
            thing = await self.replica.stat(aside + BESIDE)
            remote = self.replica.remote
            if thing is None:
                return b""
            size, token = thing.size, thing.token
            path = await self.replica.calls.call("read", aside, lambda: remote.read(aside + BESIDE, token, 0, size))
        try:
            return paths.checked(path)
        except paths.BadPath:
            return b""

    # --- over this host -----------------------------------------------------------------------------------------

    async def copy_here(self, path: bytes, target: bytes, thing: Thing) -> Thing:
        """Copy a file where the service cannot: its content makes its way over this host. Raises `Changed`, `Missing`,
        `Refused`, `Unavailable`."""
        call, remote = self.replica.calls.call, self.replica.remote
        where = self.spool.take(Version(Kind.FILE, thing.size, {"token": blake3(thing.token + target).digest()}))
        fd = os.open(where, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            offset = 0
            hasher = blake3()
            while offset < thing.size:
                length = min(CHUNK, thing.size - offset)
                data = await call("read", path, partial(remote.read, path, thing.token, offset, length))
                if not data:
                    raise Changed
                hasher.update(await self.replica.calls.came(data))
                os.pwrite(fd, data, offset)
                offset += len(data)
            version = Version(Kind.FILE, thing.size, {BLAKE3: hasher.digest()}, thing.mtime, thing.mode)
            content = self.replica.calls.paced(Content(version, fd=fd, path=where, checked=True))
            return await call("write", target, lambda: remote.put(target, content, NOTHING_THERE), quiet=float("inf"))
        except OSError as error:
            raise Refused(Trouble.NO_SPACE, f"the content cannot be kept on its way: {error.strerror}") from error
        finally:
            os.close(fd)
            self.spool.give(where, drop=True)
