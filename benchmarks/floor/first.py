"""Where the time of a first copy goes: each stage of it alone, in one process, beside the bare system calls.

    python -m benchmarks.floor [--files 10000] [--directory /dev/shm] [--rounds 3]

The stages do what the processes of `onitu sync` do, with the same code, one after the other: the driver that has the
files lists and reads them, messages are written and read, the Referee decides, commits and orders, the other driver
carries its orders out. Nobody waits, and nothing crosses a socket. So their sum is the least processor time that a
first copy can take as Onitu is made, and what a run takes beyond it are sockets, threads and waiting. "Bare" is what
Python takes for the system calls alone, or the encoding alone. Printed as Markdown: seconds of processor time, medians.
It needs a checkout and `pip install -e '.[test]'`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import trio
from blake3 import blake3

from onitu.drivers.local import LocalDriver
from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.orders import Order
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.model.versions import Kind
from onitu.plug.driver import Entry, Identity
from onitu.referee.folder import FolderReferee
from onitu.referee.greeting import greet
from onitu.store.embedded import Embedded, wait_ready
from onitu.store.redis import RedisStore
from onitu.wire.messages import Ack, Batch, Hello, Message, Orders, ReplicaState, decode, encode

from . import processes

SIZE = 4096
IN_DIRECTORY = 100
FOLDER, HAS, LACKS = "f", "a", "b"
TOGETHER = 64
"""Files that a driver reads, or orders that it carries out, in one hop to a thread."""
STAGES = (
    "start and end: a run on two empty directories",
    "list and read the files",
    "write and read the messages",
    "decide, commit and order",
    "the store",
    "write the copies",
)


def make(root: Path, files: int) -> None:
    for number in range(files):
        directory = root / f"d{number // IN_DIRECTORY:04}"
        if number % IN_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number:06}").write_bytes(os.urandom(SIZE))


# --- bare ---------------------------------------------------------------------------------------------------------


@contextmanager
def clocked(took: Counter[str], stage: str) -> Iterator[None]:
    """Add the processor time of the block, all threads together, to the stage's."""
    began = time.process_time()
    yield
    took[stage] += time.process_time() - began


def bare(source: Path, target: Path) -> Counter[str]:
    """The system calls alone: each file listed, read and hashed; written beside, given its time, renamed."""
    took: Counter[str] = Counter()
    contents: list[tuple[str, bytes, os.stat_result]] = []
    took[STAGES[0]] = processes.run([sys.executable, "-c", "pass"]).processor
    with clocked(took, STAGES[1]):
        for directory in sorted(source.iterdir()):
            with os.scandir(directory) as listing:
                for item in listing:
                    st = item.stat(follow_symlinks=False)
                    fd = os.open(item.path, os.O_RDONLY)
                    data = os.read(fd, SIZE + 1)
                    os.close(fd)
                    blake3(data).digest()
                    contents.append((os.path.join(directory.name, item.name), data, st))
    with clocked(took, STAGES[5]):
        for directory in source.iterdir():
            (target / directory.name).mkdir()
        for name, data, st in contents:
            where = os.path.join(target, name)
            fd = os.open(where + ".part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, data)
            os.fchmod(fd, st.st_mode & 0o777)
            os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
            os.close(fd)
            os.rename(where + ".part", where)
    return took


# --- as Onitu does it ---------------------------------------------------------------------------------------------


@attrs.define
class Desk:
    """A Referee, its store, and what it sends."""

    referee: FolderReferee
    store: subprocess.Popen[bytes]
    sent: list[tuple[str, Message]]
    numbers: dict[str, Iterator[int]] = attrs.field(factory=dict)

    async def meet(self, service: str) -> None:
        self.numbers[service] = itertools.count(1)
        state = ReplicaState(f"marker of {service}", 1, 0)
        hello = Hello(service, "epoch", 512, "ipc://none", {FOLDER: state}, os.getpid())
        await self.referee.ask(lambda: greet(self.referee, service, hello, state))
        self.referee.links[service].connected = True

    async def tell(self, service: str, events: Sequence[Event], took: Counter[str], scanned: bool = False) -> None:
        """Hand a batch over, as it comes out of a socket, and have it decided."""
        with clocked(took, STAGES[2]):
            batch = decode(encode(Batch(FOLDER, "epoch", next(self.numbers[service]), tuple(events), scanned)))
            assert isinstance(batch, Batch)
        with clocked(took, STAGES[3]):
            await self.referee.post(lambda: self.referee.batch(service, batch))
            for _ in range(2):  # the second is answered after the round that the first one was in
                await self.referee.ask(_nothing)

    def orders(self, service: str, took: Counter[str]) -> list[Order]:
        """What was sent to it since, as it comes out of a socket."""
        found = [message for to, message in self.sent if to == service and isinstance(message, Orders)]
        self.sent.clear()
        with clocked(took, STAGES[2]):
            read = [decode(encode(message)) for message in found]
        return [order for message in read if isinstance(message, Orders) for order in message.orders]


async def _nothing() -> None: ...


@asynccontextmanager
async def desk(root: Path, settings: Settings) -> AsyncIterator[Desk]:
    embedded = Embedded(str(root / "state"), str(root / "run"))
    embedded.prepare()
    process = subprocess.Popen(embedded.command(), stdout=subprocess.DEVNULL)  # noqa: ASYNC220 (it is waited for)
    sent: list[tuple[str, Message]] = []

    async def send(service: str, message: Message) -> bool:
        if not isinstance(message, Ack):
            sent.append((service, message))
        return True

    try:
        await wait_ready(embedded.url, 20.0)
        async with RedisStore(embedded.url).open_folder(FOLDER) as store, trio.open_nursery() as nursery:
            referee = FolderReferee(settings, FOLDER, store, send, lambda topic, folder, data: None)
            await referee.load()
            nursery.start_soon(referee.run)
            yield Desk(referee, process, sent)
            nursery.cancel_scope.cancel()
    finally:
        process.terminate()
        process.wait()


async def copied(root: Path, source: Path, target: Path) -> Counter[str]:
    """A first copy, stage by stage."""
    took: Counter[str] = Counter()
    roots = {HAS: source, LACKS: target}
    services = {n: Service(n, "local_storage", replicas={FOLDER: Replica(FOLDER, str(p))}) for n, p in roots.items()}
    drivers = {n: LocalDriver(n, {"durability": "full"}, {FOLDER: str(p)}) for n, p in roots.items()}
    async with desk(root, Settings("floor", {FOLDER: Folder(FOLDER)}, services)) as at:
        async with drivers[HAS].open(), drivers[LACKS].open():
            for name, driver in drivers.items():
                await driver.identify(FOLDER)
                await driver.mark(FOLDER, Identity(f"marker of {name}", 1, 0))
                await at.meet(name)
            before = processes.used([at.store.pid])
            await at.tell(LACKS, (), took, scanned=True)
            with clocked(took, STAGES[1]):
                found = [entry async for entry in _read(drivers[HAS])]
            for start in range(0, len(found), 256):
                events = [Event(Seen.STANDS, e.path, e.version, e.token) for e in found[start : start + 256]]
                await at.tell(HAS, events, took, scanned=start + 256 >= len(found))
                await _carried_out(at, drivers[LACKS], source, took)
            took[STAGES[4]] = processes.used([at.store.pid]) - before
    return took


async def _read(driver: LocalDriver) -> AsyncIterator[Entry]:
    """All that stands, directories first, files with their digests."""
    (top,) = await driver.scan(FOLDER, [paths.ROOT])
    directories = [entry for entry in top.entries if entry.kind is Kind.DIRECTORY]
    files: list[Entry] = []
    for start in range(0, len(directories), TOGETHER):
        for listing in await driver.scan(FOLDER, [entry.path for entry in directories[start : start + TOGETHER]]):
            files += listing.entries
    for entry in directories:
        yield entry
    for start in range(0, len(files), TOGETHER):
        for entry in await driver.fingerprint(FOLDER, files[start : start + TOGETHER]):
            assert entry is not None
            yield entry


async def _carried_out(at: Desk, driver: LocalDriver, source: Path, took: Counter[str]) -> None:
    while orders := at.orders(LACKS, took):
        for start in range(0, len(orders), TOGETHER):
            part = orders[start : start + TOGETHER]
            local = {order.number: [(str(source), s.path, s.token) for s in order.sources] for order in part}
            with clocked(took, STAGES[5]):
                outcomes = await driver.perform(FOLDER, part, {}, local)
            events = [event for outcome in outcomes for event in outcome]
            assert all(event.seen is Seen.DONE for event in events), events
            await at.tell(LACKS, events, took)


# --- together -----------------------------------------------------------------------------------------------------


def onitu(root: Path, source: Path, target: Path) -> processes.Measured:
    command = [sys.executable, "-m", "onitu", "sync", source, target, "--state", root / "state"]
    return processes.run([str(word) for word in command])


def once(root: Path, files: int, seen: dict[str, list[float]]) -> None:
    """One round: what each way took, in a place of its own."""
    source = root / "source"
    make(source, files)
    for name in ("bare", "staged", "copy", "one", "other"):
        (root / name).mkdir()
    for stage, seconds in bare(source, root / "bare").items():
        seen.setdefault(f"bare {stage}", []).append(seconds)
    empty = onitu(root / "empty", root / "one", root / "other")
    whole = onitu(root / "whole", source, root / "copy")
    shutil.rmtree(source / ".onitu")
    took = trio.run(copied, root / "stages", source, root / "staged")
    took[STAGES[0]] = empty.processor
    for stage, seconds in took.items():
        seen.setdefault(stage, []).append(seconds)
    for name, seconds in (("empty", empty.seconds), ("whole", whole.seconds), ("processor", whole.processor)):
        seen.setdefault(name, []).append(seconds)


def table(seen: dict[str, list[float]], files: int) -> str:
    middle = {name: statistics.median(values) for name, values in seen.items()}
    lines = [f"| stage, {files:,} files of 4 KiB | bare, s | Onitu, s |", "| --- | ---: | ---: |"]
    for stage in STAGES:
        one = middle.get(f"bare {stage}")
        lines.append(f"| {stage} | {f'{one:.2f}' if one is not None else ''} | {middle[stage]:.2f} |")
    bares = sum(value for name, value in middle.items() if name.startswith("bare "))
    stages = sum(middle[stage] for stage in STAGES)
    processors = len(os.sched_getaffinity(0))
    least = middle["empty"] + (stages - middle[STAGES[0]]) / processors
    lines += [
        f"| together | {bares:.2f} | {stages:.2f} |",
        f"| a run as it is, processor time | | {middle['processor']:.2f} |",
        f"| a run as it is, from start to end | | {middle['whole']:.2f} |",
        f"| the least with {processors} processors that never wait | | {least:.2f} |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the trees are made (default: for temporary files)")
    options = parser.parse_args()
    seen: dict[str, list[float]] = {}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="onitu-", dir=options.directory) as directory:
            once(Path(directory), options.files, seen)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print(table(seen, options.files))


if __name__ == "__main__":
    main()
