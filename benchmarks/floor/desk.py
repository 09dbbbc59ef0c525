"""What all stages stand on: a tree, a clock for processor time, and a Referee with its store and no socket."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from onitu.drivers.local import LocalDriver
from onitu.model.events import Event, Seen
from onitu.model.orders import Order
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.plug.driver import Identity
from onitu.referee.folder import FolderReferee
from onitu.referee.greeting import greet
from onitu.store.embedded import Embedded, wait_ready
from onitu.store.redis import RedisStore
from onitu.wire.messages import Ack, Batch, Hello, Message, Orders, ReplicaState, decode, encode

M = TypeVar("M", bound=Message)

SIZE = 4096
FOLDER = "f"
TOGETHER = 64
"""Files that a driver reads, or orders that it carries out, in one hop to a thread."""
MESSAGES, DECIDED, STORE = "write and read the messages", "decide, commit and order", "the store"


Took = defaultdict[str, float]
"""Seconds of processor time, by stage."""


@contextmanager
def clocked(took: Took, stage: str) -> Iterator[None]:
    """Add the processor time of the block, all threads together, to the stage's."""
    began = time.process_time()
    yield
    took[stage] += time.process_time() - began


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

    async def tell(self, service: str, events: Sequence[Event], took: Took, scanned: bool = False) -> None:
        """Hand a batch over, as it comes out of a socket, and have it decided."""
        with clocked(took, MESSAGES):
            batch = decode(encode(Batch(FOLDER, "epoch", next(self.numbers[service]), tuple(events), scanned)))
            assert isinstance(batch, Batch)
        with clocked(took, DECIDED):
            await self.referee.post(lambda: self.referee.batch(service, batch))
            for _ in range(2):  # the second is answered after the round that the first one was in
                await self.referee.ask(_nothing)

    def orders(self, service: str, took: Took) -> list[Order]:
        """The orders that were sent to it since."""
        return [order for message in self.received(service, Orders, took) for order in message.orders]

    def received(self, service: str, kind: type[M], took: Took) -> list[M]:
        """What was sent to it since, as it comes out of a socket."""
        found = [message for to, message in self.sent if to == service and isinstance(message, kind)]
        self.sent[:] = [(to, message) for to, message in self.sent if to != service]
        with clocked(took, MESSAGES):
            read = [decode(encode(message)) for message in found]
        return [message for message in read if isinstance(message, kind)]

    async def asked(self, question: Callable[[], Awaitable[None]], took: Took, stage: str) -> None:
        """Have the Referee do something, to its end."""
        with clocked(took, stage):
            await self.referee.post(question)
            await self.referee.ask(_nothing)


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


@asynccontextmanager
async def met(root: Path, replicas: dict[str, Path]) -> AsyncIterator[tuple[Desk, dict[str, LocalDriver]]]:
    """A Referee that knows these replicas, by service, and their drivers, open."""
    services = {n: Service(n, "local_storage", replicas={FOLDER: Replica(FOLDER, str(p))}) for n, p in replicas.items()}
    drivers = {n: LocalDriver(n, {"durability": "full"}, {FOLDER: str(p)}) for n, p in replicas.items()}
    async with desk(root, Settings("floor", {FOLDER: Folder(FOLDER)}, services)) as at, AsyncExitStack() as stack:
        for name, driver in drivers.items():
            await stack.enter_async_context(driver.open())
            await driver.identify(FOLDER)
            await driver.mark(FOLDER, Identity(f"marker of {name}", 1, 0))
            await at.meet(name)
        yield at, drivers


async def carried_out(
    at: Desk, name: str, driver: LocalDriver, roots: Mapping[str, Path], took: Took, stage: str
) -> bool:
    """Carry out what a service was ordered, and tell what came of it; whether there was something."""
    orders = at.orders(name, took)
    for start in range(0, len(orders), TOGETHER):
        part = orders[start : start + TOGETHER]
        local = {order.number: [(str(roots[s.service]), s.path, s.token) for s in order.sources] for order in part}
        with clocked(took, stage):
            outcomes = await driver.perform(FOLDER, part, {}, local)
        events = [event for outcome in outcomes for event in outcome]
        assert all(event.seen is Seen.DONE for event in events), events
        await at.tell(name, events, took)
    return bool(orders)
