"""What the plug's tests need: a driver in memory, a Referee and a peer that do as they are told, on real sockets."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType

import attrs
import trio
import zmq
from blake3 import blake3
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Do, Order, Source
from onitu.model.settings import Filter, Folder, Replica, Service, Settings
from onitu.model.versions import NOTHING, Kind, Version
from onitu.plug.driver import Capabilities, Driver, Entry, Hint, Identity, Listing, Refused
from onitu.plug.familiar import Proof
from onitu.plug.run import ZmqWire, run
from onitu.plug.serving import chunk_endpoint
from onitu.testing.simulation.driver import familiar
from onitu.wire.charter import Charter, Endpoints
from onitu.wire.messages import (
    Ack,
    Audit,
    Audited,
    Batch,
    Beat,
    Busy,
    Chunk,
    Expected,
    Fetch,
    Hello,
    Index,
    Known,
    Lookup,
    Message,
    Orders,
    Welcome,
)
from onitu.wire.sockets import Kind as SocketKind
from onitu.wire.sockets import Socket

FOLDER = "docs"
NO_FILTER = Filter()
LONG_AGO = 1_600_000_000_000_000_000


@attrs.define
class Thing:
    """What stands at a path of a service in memory."""

    kind: Kind
    data: bytes = b""
    inode: int = 0
    revision: int = 0
    mtime: int = LONG_AGO
    mode: int = 0o644


async def eventually(true: Callable[[], object]) -> None:
    """Wait for something of which the Referee hears nothing."""
    with trio.fail_after(10):
        while not true():  # noqa: ASYNC110 (nothing tells of it)
            await trio.sleep(0.001)


class MemoryDriver(Driver):
    """A service in memory that does what the interface promises, and counts what it is asked."""

    small = 100
    compares = True

    def __init__(self, service: str = "here") -> None:
        super().__init__(service, {}, {FOLDER: "/nowhere"})
        self.things: dict[bytes, Thing] = {}
        self.marker = Identity()
        self.marks: list[Identity] = []
        self.unavailable = ""
        self.incomplete: set[bytes] = set()
        self.staged: dict[bytes, bytes] = {}
        self.counts: dict[str, int] = {}
        self.hints: trio.MemorySendChannel[Hint] | None = None
        self.before_fingerprint: Callable[[], None] | None = None
        self.before_perform: Callable[[], object] | None = None
        self.performed: list[Order] = []
        self._clock = itertools.count(1)

    # --- a user -------------------------------------------------------------------------------------------------

    def write(self, path: bytes, data: bytes) -> None:
        """A user writes a file, with the directories above it."""
        for directory in reversed(paths.ancestors(path)):
            self.things.setdefault(directory, Thing(Kind.DIRECTORY, mode=0o755))
        old = self.things.get(path)
        inode = old.inode if old is not None and old.kind is Kind.FILE else next(self._clock)
        self.things[path] = Thing(Kind.FILE, data, inode, next(self._clock))

    def sneak(self, path: bytes, data: bytes) -> None:
        """A program writes a file in place, keeps its size, and gives it its time back."""
        assert len(data) == len(self.things[path].data)
        self.things[path].data = data
        self.things[path].revision = next(self._clock)

    def remove(self, path: bytes) -> None:
        self.things = {p: t for p, t in self.things.items() if p != path and not paths.within(p, path)}

    def rename(self, source: bytes, target: bytes) -> None:
        moved = {p: t for p, t in self.things.items() if p == source or paths.within(p, source)}
        self.remove(source)
        moved[source].revision = next(self._clock)  # as a ctime: what is below a directory keeps its own
        for path, thing in moved.items():
            self.things[target + path[len(source) :]] = thing

    def exchange(self, one: bytes, other: bytes) -> None:
        """Two names change places, in one step."""
        self.rename(one, between := one + b" on its way")
        self.rename(other, one)
        self.rename(between, other)

    def entry(self, path: bytes) -> Entry | None:
        thing = self.things.get(path)
        if thing is None:
            return None
        if thing.kind is Kind.DIRECTORY:
            return Entry(path, Version(Kind.DIRECTORY, mode=thing.mode), b"directory")
        version = Version(Kind.FILE, len(thing.data), {}, thing.mtime, thing.mode)
        return Entry(path, version, b"%d:%d" % (thing.inode, thing.revision))

    def known(self, path: bytes, **more: bool) -> Known:
        """The row that a Referee has who knows what stands there."""
        entry = self.entry(path)
        assert entry is not None
        return Known(path, entry.token, self._read(entry).version, **more)

    # --- the interface ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def capabilities(self, folder: str) -> Capabilities:
        return Capabilities()

    def identity_of(self, token: bytes) -> bytes | None:
        return token.partition(b":")[0] if b":" in token else None

    async def identify(self, folder: str) -> Identity:
        await self._call("identify")
        return self.marker

    async def mark(self, folder: str, identity: Identity) -> None:
        await self._call("mark")
        self.marker = identity
        self.marks.append(identity)

    async def scan(self, folder: str, directories: Sequence[bytes]) -> list[Listing]:
        await self._call("scan")
        listings = []
        for directory in directories:
            if directory and directory not in self.things:
                listings.append(Listing(directory, (), missing=True))
                continue
            inside = sorted(path for path in self.things if paths.parent(path) == directory)
            complete = directory not in self.incomplete
            entries = [self.entry(path) for path in inside] if complete else []
            listings.append(Listing(directory, tuple(e for e in entries if e), complete, reason="no access"))
        return listings

    async def scan_familiar(
        self, folder: str, directories: Sequence[bytes], tallies: Mapping[bytes, bytes]
    ) -> list[Listing]:
        return [familiar(listing, tallies) for listing in await self.scan(folder, directories)]

    async def stat(self, folder: str, wanted: Sequence[bytes]) -> list[Entry | None]:
        await self._call("stat")
        return [self.entry(path) for path in wanted]

    async def fingerprint(self, folder: str, entries: Sequence[Entry]) -> list[Entry | None]:
        await self._call("fingerprint")
        self.counts["read"] = self.counts.get("read", 0) + len(entries)
        read = []
        for entry in entries:
            now = self.entry(entry.path)
            read.append(self._read(now) if now is not None and now.token == entry.token else None)
        if self.before_fingerprint is not None:
            self.before_fingerprint()
        return read

    def _read(self, entry: Entry) -> Entry:
        if entry.kind is not Kind.FILE:
            return entry
        digests = {"blake3": blake3(self.things[entry.path].data).digest()}
        return replace(entry, version=replace(entry.version, digests=digests))

    async def watch(self, folder: str, hints: trio.MemorySendChannel[Hint], ready: trio.Event) -> None:
        self.hints = hints
        ready.set()
        await trio.sleep_forever()

    async def read(self, folder: str, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        await self._call("read")
        entry = self.entry(path)
        if entry is None or entry.token != token:
            raise Refused(Trouble.SOURCE_LOST, "it is not that any more")
        return self.things[path].data[offset : offset + length]

    def stage(self, folder: str, version: Version, path: bytes = b"") -> MemoryStaged:
        return MemoryStaged(self, version)

    async def perform(
        self,
        folder: str,
        orders: Sequence[Order],
        staged: Mapping[int, object],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
    ) -> list[list[Event]]:
        await self._call("perform")
        if self.before_perform is not None:
            wait = self.before_perform()
            if isinstance(wait, trio.Event):
                await wait.wait()
        return [[self._do(order, staged.get(order.number))] for order in orders]

    def _do(self, order: Order, staged: object) -> Event:
        self.performed.append(order)
        stands = self.entry(order.path)
        if (stands.token if stands is not None else b"") != order.expect:
            if stands is None:
                return Event(Seen.GONE, order.path, order=order.number)
            return Event(Seen.STANDS, order.path, self._read(stands).version, stands.token, order=order.number)
        if order.do is Do.DELETE:
            self.remove(order.path)
            return Event(Seen.DONE, order.path, NOTHING, order=order.number)
        if order.version.kind is Kind.DIRECTORY:
            self.things[order.path] = Thing(Kind.DIRECTORY, mode=order.version.mode)
        else:
            assert isinstance(staged, MemoryStaged)
            assert staged.opened, "what is performed must not have been put away"
            data = bytes(staged.data)
            self.things[order.path] = Thing(Kind.FILE, data, next(self._clock), next(self._clock))
        done = self.entry(order.path)
        assert done is not None
        return Event(Seen.DONE, order.path, order.version, done.token, order=order.number)

    async def _call(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
        await trio.lowlevel.checkpoint()
        if self.unavailable:
            raise Unavailable(self.unavailable)


class MemoryStaged:
    """Staged content, kept by digest."""

    def __init__(self, driver: MemoryDriver, version: Version) -> None:
        self.driver = driver
        self.version = version
        self.name = version.digests.get("blake3", b"of another kind")
        self.data = bytearray(driver.staged.get(self.name, b""))
        self.offset = len(self.data)
        self.opened = False

    async def write(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.data += data
        self.driver.staged[self.name] = bytes(self.data)

    async def clone(self, root: str, path: bytes, token: bytes) -> None:
        raise Refused(Trouble.UNSUPPORTED, "memory cannot be cloned")

    async def finish(self) -> None:
        if blake3(self.data).digest() != self.name:
            del self.driver.staged[self.name]
            raise Refused(Trouble.CORRUPT, "not the version's content")

    async def __aenter__(self) -> MemoryStaged:
        self.opened = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.opened = False


class ScriptedReferee:
    """Answers a driver as a test wants, and writes down what it hears.

    Attributes:
        rows: what it says that the service holds, by path; `learns` keeps it up with the events.
        events: in the order of the batches, each batch once.
    """

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.service = "here"
        self.run_id = "run1"
        self.rows: dict[bytes, Known] = {}
        self.learns = True
        self.welcomes = True
        self.acks = True
        self.answers = True
        self.scan = True
        self.hellos: list[Hello] = []
        self.batches: list[Batch] = []
        self.events: list[Event] = []
        self.lookups: list[Lookup] = []
        self.busy: list[int] = []
        self.notes: list[str] = []
        self.beats: list[Beat] = []
        self.audited: list[Audited] = []
        self.number = 0
        self.scans = 0
        self._heard = trio.Event()

    async def run(self) -> None:
        while True:
            _, message = await self.socket.receive()
            await self._hear(message)
            self._heard.set()
            self._heard = trio.Event()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something that can only become true by a message."""
        with trio.fail_after(10):
            while not true():
                await self._heard.wait()

    async def quiet(self) -> None:
        """Until the driver said that it has nothing left to look at, after a scan."""
        await self.until(lambda: self.scans and self.busy and self.busy[-1] == 0)

    async def send(self, message: Message) -> None:
        await self.socket.send(message, to=self.service.encode())

    async def order(self, *orders: Order) -> None:
        await self.send(Orders(FOLDER, orders))

    async def audit(self, number: int = 1) -> dict[bytes, str]:
        """Have the replica audited; what disagrees, by path."""
        await self.send(Audit(FOLDER, number))
        await self.until(lambda: self.last_report(number).done)
        return {one.path: one.what for report in self.audited if report.number == number for one in report.found}

    def last_report(self, number: int) -> Audited:
        return next((r for r in reversed(self.audited) if r.number == number), Audited(FOLDER, number))

    def answer(self, number: int) -> list[Event]:
        return [event for event in self.events if event.order == number]

    def seen(self, seen: Seen) -> list[bytes]:
        return [event.path for event in self.events if event.seen is seen]

    def restart(self) -> None:
        """Become another run, that knows only the rows and what was committed."""
        self.run_id += "+"
        self.busy.clear()

    async def welcome(self) -> None:
        state = self.hellos[-1].replicas[FOLDER]
        generation = state.pending or state.generation + 1
        known = Proof()
        known.told(self.rows.values())
        tally = bytes(known)
        expected = Expected(not state.trouble, generation, len(self.rows), self.number, state.trouble, self.scan, tally)
        await self.send(Welcome(self.run_id, {FOLDER: expected}))

    async def _hear(self, message: Message) -> None:
        match message:
            case Hello():
                self.hellos.append(message)
                self.busy.clear()
                if self.welcomes:
                    await self.welcome()
            case Batch():
                self._batch(message)
                if self.acks:
                    await self.send(Ack(FOLDER, message.epoch, self.number))
            case Lookup():
                self.lookups.append(message)
                if self.answers:
                    await self.index(message)
            case Busy():
                self.busy.append(message.looking)
                self.notes.append(message.note)
            case Beat():
                self.beats.append(message)
            case Audited():
                self.audited.append(message)

    async def index(self, lookup: Lookup) -> None:
        wanted = map(paths.key, lookup.directories)
        pages = [tuple(r for p, r in self.rows.items() if paths.key(paths.parent(p)) == d) for d in wanted]
        if lookup.paths:
            pages.append(tuple(self.rows[path] for path in lookup.paths if path in self.rows))
        await self.send(Index(lookup.request, tuple(pages)))

    def _batch(self, batch: Batch) -> None:
        self.batches.append(batch)
        if batch.number != self.number + 1:
            return
        self.number += 1
        self.events += batch.events
        self.scans += batch.scanned
        if self.learns:
            for event in batch.events:
                self._learn(event)

    def _learn(self, event: Event) -> None:
        if event.source:
            self.rows.pop(event.source, None)
        if event.seen is Seen.GONE or (event.seen is Seen.DONE and not event.version.exists):
            self.rows.pop(event.path, None)
        elif event.seen is Seen.HIDDEN and event.path in self.rows:
            row = self.rows[event.path]
            self.rows[event.path] = Known(row.path, row.token, row.version, hidden=True)
        elif event.seen in (Seen.STANDS, Seen.MOVED, Seen.DONE):
            self.rows[event.path] = Known(event.path, event.token, event.version)


class ScriptedPeer:
    """Another service's chunks: serves `data`, in whatever way a test wants."""

    def __init__(self, socket: Socket, data: bytes) -> None:
        self.socket = socket
        self.data = data
        self.fetched: list[Fetch] = []
        self.change: Callable[[Chunk], Chunk | None] = lambda chunk: chunk

    async def run(self) -> None:
        while True:
            identity, message = await self.socket.receive()
            assert isinstance(message, Fetch)
            self.fetched.append(message)
            data = self.data[message.offset : message.offset + message.length]
            chunk = self.change(Chunk(message.request, message.offset, data, blake3(data).digest()))
            if chunk is not None:
                await self.socket.send(chunk, to=identity)


@attrs.define
class Stage:
    """A plug in the making: its driver, its Referee, and how to start it."""

    driver: MemoryDriver
    referee: ScriptedReferee
    charter: Charter
    context: zmq.Context[zmq.Socket[bytes]]
    nursery: trio.Nursery

    ended: trio.Event = attrs.field(factory=trio.Event)

    def start(self) -> trio.CancelScope:
        """Run the plug until the scope is cancelled; then it has `ended`."""
        scope = trio.CancelScope()
        self.ended = ended = trio.Event()

        async def life() -> None:
            with scope:
                await run(self.charter, self.driver, ZmqWire(self.context, self.charter))
            ended.set()

        self.nursery.start_soon(life)
        return scope

    async def started(self) -> trio.CancelScope:
        """Run the plug, and wait until its first scan is over."""
        scope = self.start()
        await self.referee.quiet()
        return scope

    async def another(self, scope: trio.CancelScope) -> trio.CancelScope:
        """End this life in order, and begin the next one: until its first scan is over."""
        scope.cancel()
        await self.ended.wait()
        referee = self.referee
        referee.number = referee.scans = 0
        for heard in (referee.busy, referee.lookups, referee.events):
            heard.clear()
        return await self.started()

    async def hint(self, hint: Hint) -> None:
        assert self.driver.hints is not None
        await self.driver.hints.send(hint)

    def peer(self, name: str, data: bytes) -> ScriptedPeer:
        """The chunks of another service."""
        endpoint = chunk_endpoint(self.charter.endpoints.runtime, name)
        peer = ScriptedPeer(Socket.bind(self.context, SocketKind.ROUTER, endpoint), data)
        self.nursery.start_soon(peer.run)
        return peer


@contextlib.asynccontextmanager
async def stage(runtime: str, hiding: Filter = NO_FILTER, watch: bool = True, state: str = "") -> AsyncIterator[Stage]:
    """Everything for one plug of the service `here`, with peers `p1` and `p2`; ends whatever was started. `state`: the
    directory in which it keeps what is for its next life; empty: nowhere."""
    services = {
        name: Service(name, "memory", replicas={FOLDER: Replica(FOLDER, f"/{name}", hiding)})
        for name in ("here", "p1", "p2")
    }
    settings = Settings("test", {FOLDER: Folder(FOLDER)}, services, watch=watch, state=state)
    events = f"ipc://{runtime}/events"
    charter = Charter("driver here", settings, Endpoints(events, "", "", "", "", runtime), "here")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        async with Socket.bind(context, SocketKind.ROUTER, events) as socket, trio.open_nursery() as nursery:
            referee = ScriptedReferee(socket)
            nursery.start_soon(referee.run)
            yield Stage(MemoryDriver(), referee, charter, context, nursery)
            nursery.cancel_scope.cancel()
    finally:
        context.destroy(linger=0)


def file_of(data: bytes, seq: int = 7) -> Version:
    """The version of a file, as a Referee orders it."""
    return Version(Kind.FILE, len(data), {"blake3": blake3(data).digest()}, LONG_AGO, 0o644, seq=seq)


def put(number: int, path: bytes, data: bytes, *sources: str, expect: bytes = b"") -> Order:
    """An order to put a file."""
    return Order(number, Do.PUT, path, file_of(data), expect, sources=tuple(Source(s, path, b"t") for s in sources))


def mkdir(number: int, path: bytes) -> Order:
    return Order(number, Do.PUT, path, Version(Kind.DIRECTORY, mode=0o755, seq=7))
