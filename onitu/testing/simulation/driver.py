"""The driver of a simulated service: what it promises is what `onitu.plug.driver` says, over a `disk.Disk`.

A `Host` is what a service is without its driver: its disk, the marker, what was staged, the deeds. It outlives drivers.
Tokens are those of the local driver: inode, size, mtime and ctime, and dirty where the stamps cannot tell one more
change apart.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType

import attrs
import trio
from blake3 import blake3
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Event, Trouble
from onitu.model.orders import Order
from onitu.model.versions import NOTHING, Kind, Version
from onitu.plug.driver import Capabilities, Driver, Entry, Hint, HintKind, Identity, Listing, Refused
from onitu.plug.familiar import tally_of

from . import acting, life
from .disk import Disk, Thing
from .tokens import DIRECTORY, identity_of, matches, read_token, token_of

NO_RIGHT = "permission denied"

PIECE = 512
"""Bytes that are read at a time: between two of them somebody may write."""


@attrs.frozen
class Flavour:
    """What kind of service it is.

    Attributes:
        grain: of its time stamps, in nanoseconds; 0: each change gets its own.
        watches: whether it tells of changes; else it is polled.
        kernel: whether other services on the host can copy its files themselves.
        skew: seconds that its wall clock is ahead.
    """

    grain: int = 0
    watches: bool = True
    kernel: bool = False
    skew: float = 0.0


@attrs.define(eq=False)
class Host:
    """A service without its driver.

    Attributes:
        disk: what users see of it.
        away: why its root is not there; empty: it is.
        failing: so many of the next calls of the driver fail.
        closed: inodes of directories that the driver may not enter, and of files that it may not read, each with how
            often that was taken away.
        forgetting: whether hints are lost.
        lateness: seconds that a hint takes.
        counts: what the driver was asked, and did.
        watcher: where hints go while the driver watches.
        snapshot: a backup of the whole replica.
    """

    name: str
    flavour: Flavour
    disk: Disk
    clock: Callable[[], int]
    chance: random.Random
    identity: Identity = attrs.field(factory=Identity)
    staged: dict[bytes, bytes] = attrs.field(factory=dict)
    deeds: dict[str, bytes] = attrs.field(factory=dict)
    away: str = ""
    failing: int = 0
    closed: Counter[int] = attrs.field(factory=Counter)
    forgetting: bool = False
    lateness: float = 0.0
    counts: Counter[str] = attrs.field(factory=Counter)
    watcher: trio.MemorySendChannel[Hint] | None = None
    snapshot: tuple[Thing, Identity] | None = None

    @property
    def racy(self) -> int:
        """Nanoseconds within which two changes may look like one."""
        return 2 * self.flavour.grain

    def out_of_reach(self, path: bytes) -> bool:
        """Whether the path is in a directory that the driver may not enter."""
        above = (self.disk.find(directory) for directory in paths.ancestors(path))
        return any(thing is not None and self.closed[thing.inode] > 0 for thing in above)

    def unreadable(self, path: bytes) -> bool:
        """Whether the driver may not read the file, or list the directory, at the path."""
        thing = self.disk.find(path)
        return (thing is not None and self.closed[thing.inode] > 0) or self.out_of_reach(path)

    def overflow(self) -> None:
        """The watcher missed something, and knows it."""
        if self.watcher is not None:
            self.watcher.send_nowait(Hint(HintKind.OVERFLOW))


def familiar(listing: Listing, tallies: Mapping[bytes, bytes]) -> Listing:
    """What `scan_familiar` makes of a listing."""
    tally = tallies.get(listing.directory)
    if tally is None or listing.missing or not listing.complete or tally_of(listing.entries) != tally:
        return listing
    return replace(listing, entries=tuple(e for e in listing.entries if e.kind is Kind.DIRECTORY), familiar=True)


class SimulatedDriver(Driver):
    """See the module. One for each life of the process; `hosts`: every service's, by root."""

    small = 64
    compares = True

    def __init__(self, host: Host, hosts: Mapping[str, Host], roots: Mapping[str, str]) -> None:
        super().__init__(host.name, {}, roots)
        self.host = host
        self.hosts = hosts

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def capabilities(self, folder: str) -> Capabilities:
        grain = self.host.flavour.grain
        return Capabilities(racy=2 * grain, watches=self.host.flavour.watches)

    def identity_of(self, token: bytes) -> bytes | None:
        return identity_of(token)

    async def identify(self, folder: str) -> Identity:
        await self._call("identify")
        return self.host.identity

    async def mark(self, folder: str, identity: Identity) -> None:
        await self._call("mark")
        self.host.identity = identity

    # --- looking ------------------------------------------------------------------------------------------------

    async def scan(self, folder: str, directories: Sequence[bytes]) -> list[Listing]:
        await self._call("scan")
        listings = []
        for directory in directories:
            place = self.host.disk.find(directory)
            if self.fails():
                listings.append(Listing(directory, (), complete=False, reason="an input/output error"))
            elif self.host.unreadable(directory):
                listings.append(Listing(directory, (), complete=False, reason=NO_RIGHT))
            elif place is None or place.kind is not Kind.DIRECTORY:
                listings.append(Listing(directory, (), missing=True))
            else:
                inside = sorted(place.entries.items())
                entries = tuple(entry_of(paths.join(directory, name), thing) for name, thing in inside)
                listings.append(Listing(directory, entries))
            await self.pause()
        return listings

    async def scan_familiar(
        self, folder: str, directories: Sequence[bytes], tallies: Mapping[bytes, bytes]
    ) -> list[Listing]:
        return [familiar(listing, tallies) for listing in await self.scan(folder, directories)]

    async def stat(self, folder: str, wanted: Sequence[bytes]) -> list[Entry | None]:
        await self._call("stat")
        found: list[Entry | None] = []
        for path in wanted:
            thing = self.host.disk.find(path)
            if self.host.out_of_reach(path):
                found.append(Entry(path, NOTHING, b"", Trouble.DENIED, NO_RIGHT))
            else:
                found.append(entry_of(path, thing) if thing is not None else None)
        return found

    async def fingerprint(self, folder: str, entries: Sequence[Entry]) -> list[Entry | None]:
        await self._call("fingerprint")
        found: list[Entry | None] = []
        for entry in entries:
            if self.fails():
                found.append(replace(entry, trouble=Trouble.IO, reason="an input/output error"))
                continue
            thing = self.host.disk.find(entry.path)
            if self.host.out_of_reach(entry.path) or (thing is not None and self.host.unreadable(entry.path)):
                found.append(replace(entry, trouble=Trouble.DENIED, reason=NO_RIGHT))
                continue
            if thing is None or not matches(entry.token, thing):
                found.append(None)
                continue
            self.host.counts["read"] += 1
            found.append(await self.settled(entry.path, thing, entry.token) if entry.kind is Kind.FILE else entry)
        return found

    async def settled(self, path: bytes, thing: Thing, token: bytes) -> Entry | None:
        """The file with its digest; None where it changed while it was read."""
        now = self.host.clock()
        before = token_of(thing)
        read = bytearray()
        while piece := thing.data[len(read) : len(read) + PIECE]:
            read += piece
            await self.pause()
        if token_of(thing) != before or len(read) != len(thing.data) or not matches(token, thing):
            return None
        version = replace(version_of(thing), digests={"blake3": blake3(bytes(read)).digest()})
        return Entry(path, version, read_token(thing, now, self.host.racy))

    async def watch(self, folder: str, hints: trio.MemorySendChannel[Hint], ready: trio.Event) -> None:
        host = self.host
        if not host.flavour.watches:
            ready.set()
            return
        host.watcher, seen = trio.open_memory_channel[Hint](float("inf"))

        def watcher(hint: Hint) -> None:
            if not host.forgetting and host.watcher is not None:
                host.watcher.send_nowait(hint)

        host.disk.watchers = [watcher]
        ready.set()
        while True:
            hint = await seen.receive()
            if host.lateness:
                await trio.sleep(host.lateness)
            for _ in range(2 if host.chance.random() < 0.05 else 1):
                await hints.send(hint)

    async def read(self, folder: str, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        await self._call("serve")
        thing = self.host.disk.find(path)
        if self.fails():
            raise Refused(Trouble.IO, "an input/output error")
        if self.host.unreadable(path):
            raise Refused(Trouble.DENIED, NO_RIGHT)
        if thing is None or thing.kind is not Kind.FILE or not matches(token, thing):
            raise Refused(Trouble.SOURCE_LOST, "it changed since it was last seen")
        data = thing.data[offset : offset + length // 2]
        await self.pause()
        data += thing.data[offset + len(data) : offset + length]
        if not matches(token, thing):
            raise Refused(Trouble.SOURCE_LOST, "it changed since it was last seen")
        return data

    # --- acting -------------------------------------------------------------------------------------------------

    def stage(self, folder: str, version: Version, path: bytes = b"") -> StagedContent:
        return StagedContent(self, version)

    async def perform(
        self,
        folder: str,
        orders: Sequence[Order],
        staged: Mapping[int, object],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
    ) -> list[list[Event]]:
        await self._call("perform")
        outcomes = []
        for order in orders:
            await self.pause()
            life.touch()
            content = staged.get(order.number)
            assert content is None or isinstance(content, StagedContent)
            outcomes.append(await acting.carry_out(self, order, content, local.get(order.number, ())))
        return outcomes

    # --- what may go wrong --------------------------------------------------------------------------------------

    def fails(self) -> bool:
        """Whether this call is one that fails."""
        if self.host.failing > 0:
            self.host.failing -= 1
            return True
        return False

    async def _call(self, name: str) -> None:
        """The beginning of every call. Raises `Unavailable`, `life.Died`."""
        await trio.lowlevel.checkpoint()
        life.touch()
        self.host.counts[name] += 1
        if self.host.away:
            raise Unavailable(self.host.away)

    async def pause(self) -> None:
        """Others may do something here; sometimes for long."""
        if self.host.chance.random() < 0.02:
            await trio.sleep(self.host.chance.random() * 0.05)
        else:
            await trio.lowlevel.checkpoint()


class StagedContent:
    """Content on its way, kept by digest, so that a later try goes on with it."""

    def __init__(self, driver: SimulatedDriver, version: Version) -> None:
        self.version = version
        self._host = driver.host
        self._driver = driver
        self._name = version.digests["blake3"]
        self.data = bytearray(self._host.staged.get(self._name, b""))
        self.offset = len(self.data)

    async def write(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        life.touch()
        if self._driver.fails():
            raise Refused(Trouble.IO, "an input/output error")
        if self._host.disk.used() + len(self.data) + len(data) > self._host.disk.space:
            raise Refused(Trouble.NO_SPACE, "no space left")
        self.data += data
        self._host.staged[self._name] = bytes(self.data)

    async def clone(self, root: str, path: bytes, token: bytes) -> None:
        await trio.lowlevel.checkpoint()
        life.touch()
        host = self._driver.hosts[root]
        thing = host.disk.find(path)
        if thing is None or host.unreadable(path) or not matches(token, thing) or thing.kind is not Kind.FILE:
            raise Refused(Trouble.SOURCE_LOST, "it changed since it was last seen")
        await self.write(thing.data[len(self.data) :])
        if not matches(token, thing):
            raise Refused(Trouble.SOURCE_LOST, "it changed since it was last seen")

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()
        life.touch()
        if blake3(bytes(self.data)).digest() != self._name:
            self._host.staged.pop(self._name, None)
            raise Refused(Trouble.CORRUPT, "what arrived is not the version's content")

    async def __aenter__(self) -> StagedContent:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


def version_of(thing: Thing) -> Version:
    """What a look tells of a thing."""
    match thing.kind:
        case Kind.FILE:
            return Version(Kind.FILE, len(thing.data), {}, thing.mtime, thing.mode)
        case Kind.LINK:
            return Version(Kind.LINK, mtime=thing.mtime, link=thing.link)
        case _:
            return Version(Kind.DIRECTORY, mode=thing.mode)


def entry_of(path: bytes, thing: Thing) -> Entry:
    """The entry of what stands at a path."""
    return Entry(path, version_of(thing), token_of(thing))


__all__ = ["DIRECTORY", "Flavour", "Host", "SimulatedDriver", "StagedContent"]
