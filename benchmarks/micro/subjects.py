"""What is measured: each subject is a context manager that sets it up and gives the function to be timed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs
import trio
import zmq
from anyio.from_thread import BlockingPortal, start_blocking_portal
from blake3 import blake3

from benchmarks import trees
from onitu.drivers.local import LocalDriver, reading
from onitu.drivers.local.tree import Tree
from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.nodes import Holding, Node
from onitu.model.orders import Do, Order, Source
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.model.versions import Kind, Version
from onitu.plug.bell import Throttle
from onitu.plug.counters import Counters
from onitu.plug.driver import Identity
from onitu.plug.peers import Peers
from onitu.plug.serving import Serving
from onitu.plug.transfers import Transfers
from onitu.referee.machine import observe
from onitu.referee.planner import plan
from onitu.referee.rules import Rules
from onitu.referee.view import View
from onitu.store import codec
from onitu.store.embedded import Embedded, wait_ready
from onitu.store.interface import Change, FolderStore
from onitu.store.redis import RedisStore
from onitu.wire import sockets
from onitu.wire.messages import Batch, Index, Known, Message, Orders, decode, encode

Act = Callable[[], object]
Subject = Callable[[], AbstractContextManager[Act]]

MANY = 512
"""Nodes, events or orders in one: a page of the Referee."""
SCANNED = 10_000
LARGE = 64 << 20
SMALL_FILES = 1_000
SERVICES = ("a", "b", "c")
RULES = Rules(Folder("f"), {name: Replica("f", "/" + name) for name in SERVICES})
TOKEN = bytes(32)

SUBJECTS: dict[str, Subject] = {}


def subject(act: Callable[[], Iterator[Act]]) -> Subject:
    """Have it measured, under its name."""
    made = contextlib.contextmanager(act)
    SUBJECTS[act.__name__] = made
    return made


# --- the values that go through Onitu -----------------------------------------------------------------------------


def version(number: int, service: str = "a") -> Version:
    """A file's version, as many as there are numbers."""
    value = {"blake3": blake3(b"%d" % number).digest()}
    return Version(
        Kind.FILE, 4096 + number, value, 1_700_000_000_000_000_000 + number, 0o644, service=service, seq=number
    )


def path(number: int) -> bytes:
    return b"part %02d/group %02d/file %05d.bin" % (number // 10_000, number // 100 % 100, number)


def nodes(count: int) -> list[Node]:
    """Files that two of three services hold, and the directories above them, which all have."""
    found = []
    for number in range(1, count + 1):
        head = version(number)
        found.append(Node(path(number), head, {name: Holding(head, TOKEN) for name in SERVICES[:2]}))
    above = dict.fromkeys(directory for node in found for directory in paths.ancestors(node.path))
    made = Version(Kind.DIRECTORY, mode=0o755, service="a", seq=1)
    found += [Node(each, made, {name: Holding(made, b"directory") for name in SERVICES}) for each in above]
    return found


def edits(count: int) -> list[Event]:
    return [Event(Seen.STANDS, path(number), version(number + count, ""), TOKEN) for number in range(1, count + 1)]


def orders(count: int) -> tuple[Order, ...]:
    return tuple(
        Order(n, Do.PUT, path(n), version(n), TOKEN, version(n + count), sources=(Source("a", path(n), TOKEN),))
        for n in range(1, count + 1)
    )


# --- the Referee ---------------------------------------------------------------------------------------------------


@subject
def decide() -> Iterator[Act]:
    """512 edits of files that are known."""
    view, events = View(nodes(MANY)), edits(MANY)

    def act() -> None:
        for event in events:
            observe(view, RULES, "a", event, 10_000, False)

    yield act


@subject
def planning() -> Iterator[Act]:
    """What a service is to do that lacks 512 files."""
    view, everyone = View(nodes(MANY)), frozenset(SERVICES)
    wanted = [path(number) for number in range(1, MANY + 1)]

    def act() -> None:
        for each in wanted:
            plan(view, RULES, "c", each, everyone)

    yield act


# --- messages ------------------------------------------------------------------------------------------------------


def messages() -> list[Message]:
    """The three that there are most of, with 512 things each."""
    rows = tuple(Known(path(number), TOKEN, version(number)) for number in range(1, MANY + 1))
    return [Batch("f", "epoch", 1, tuple(edits(MANY))), Orders("f", orders(MANY)), Index(1, (rows,))]


@subject
def encode_messages() -> Iterator[Act]:
    """A batch, an order and an index, of 512 each."""
    made = messages()
    yield lambda: [encode(message) for message in made]


@subject
def decode_messages() -> Iterator[Act]:
    """The same, taken apart."""
    made = [encode(message) for message in messages()]
    yield lambda: [decode(data) for data in made]


# --- the store -----------------------------------------------------------------------------------------------------


@subject
def encode_nodes() -> Iterator[Act]:
    """512 nodes, as they stand in the store."""
    made = nodes(MANY)[:MANY]
    yield lambda: [codec.encode(node) for node in made]


@subject
def decode_nodes() -> Iterator[Act]:
    """The same, read."""
    made = [(codec.encode(node), node.path) for node in nodes(MANY)[:MANY]]
    yield lambda: [codec.decode(data, "f", where) for data, where in made]


@subject
def commit_nodes() -> Iterator[Act]:
    """512 nodes into a real server, forced to its disk."""
    made = {node.path: node for node in nodes(MANY)[:MANY]}
    numbers = itertools.count(1)
    with _server() as url, start_blocking_portal("trio") as portal:
        with portal.wrap_async_context_manager(RedisStore(url).open_folder("f")) as store:

            def act() -> None:
                number = next(numbers)
                change = Change(seq=number, nodes=made, todo=dict.fromkeys(made, number))
                _call(portal, functools.partial(_commit, store, change))

            yield act


async def _commit(store: FolderStore, change: Change) -> None:
    await store.commit(change)


@contextlib.contextmanager
def _server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="onitu-") as directory:
        embedded = Embedded(f"{directory}/state", f"{directory}/run")
        embedded.prepare()
        process = subprocess.Popen(embedded.command(), stdout=subprocess.DEVNULL)
        try:
            trio.run(wait_ready, embedded.url, 20.0)
            yield embedded.url
        finally:
            process.terminate()
            process.wait()


def _call(portal: BlockingPortal, act: Callable[[], Awaitable[Any]]) -> object:
    return portal.call(act)


# --- the local driver ----------------------------------------------------------------------------------------------


@subject
def scan() -> Iterator[Act]:
    """10,000 files in a hundred directories, listed."""
    with _tree(SCANNED) as tree:
        directories = [os.fsencode(Path(each).relative_to(tree.root)) for each, _, _ in os.walk(tree.root)]
        wanted = [b"" if each == b"." else each for each in directories]

        def act() -> None:
            assert sum(len(listing.entries) for listing in tree.scan(wanted, reading.never)) >= SCANNED

        yield act


@subject
def hash_small_files() -> Iterator[Act]:
    """1,000 files of up to 4 KiB, opened, looked at, read, and looked at again."""
    with _tree(SMALL_FILES) as tree:
        names = [os.fsencode(each.relative_to(tree.root)) for each in Path(tree.root).rglob("*.bin")]

        def act() -> None:
            for name in names:
                with tree.place(name) as place:
                    assert reading.read_settled(place, fine=True) is not None

        yield act


@subject
def hash_large_file() -> Iterator[Act]:
    """64 MiB, in the system's cache."""
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(LARGE))
        file.flush()
        yield lambda: reading.digest(file.fileno(), LARGE)


@contextlib.contextmanager
def _tree(files: int) -> Iterator[Tree]:
    with tempfile.TemporaryDirectory(prefix="onitu-") as directory:
        trees.make(Path(directory) / "a", files)
        tree = Tree.open(f"{directory}/a")
        try:
            yield tree
        finally:
            tree.close()


# --- contents over sockets -----------------------------------------------------------------------------------------


@attrs.define
class Sink:
    """Takes what is brought, and drops it."""

    offset: int = 0

    async def write(self, data: bytes | memoryview) -> None:
        self.offset += len(data)


@subject
def pump() -> Iterator[Act]:
    """64 MiB from a local driver over sockets: asked for, read, sent, checked; not written."""
    with tempfile.TemporaryDirectory(prefix="onitu-") as directory, start_blocking_portal("trio") as portal:
        with portal.wrap_async_context_manager(_pumping(directory)) as once:
            yield lambda: _call(portal, once)


@contextlib.asynccontextmanager
async def _pumping(directory: str) -> Any:
    source = Path(directory) / "a"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(LARGE))
    replicas = {name: {"f": Replica("f", f"{directory}/{name}")} for name in ("a", "b")}
    services = {
        name: Service(name, "local_storage", {"kernel_copy": False}, replicas=replicas[name]) for name in replicas
    }
    settings = Settings("bench", {"f": Folder("f")}, services)
    driver = LocalDriver("a", {}, {"f": str(source)})
    unlimited, counters, context = Throttle(0), Counters(), zmq.Context()
    endpoint = f"ipc://{directory}/chunks"
    peers = Peers(
        lambda service: sockets.Socket.connect(
            context, sockets.Kind.DEALER, endpoint, options=sockets.Options(large=True)
        )
    )
    async with driver.open(), sockets.Socket.bind(context, sockets.Kind.ROUTER, endpoint) as serving:
        await driver.identify("f")
        await driver.mark("f", Identity("m" * 32, 1, 0))
        (entry,) = await driver.stat("f", [b"large"])
        assert entry is not None
        order = Order(1, Do.PUT, b"large", entry.version, sources=(Source("a", b"large", entry.token),))
        transfers = Transfers(settings, "b", peers, unlimited, counters)

        async def once() -> None:
            sink = Sink()
            await transfers.fill("f", order, sink, order.sources[0])  # type: ignore[arg-type]
            assert sink.offset == LARGE

        async with trio.open_nursery() as nursery:
            await nursery.start(peers.run)
            nursery.start_soon(Serving(driver, replicas["a"], unlimited, counters).run, serving)
            yield once
            nursery.cancel_scope.cancel()
    context.term()
