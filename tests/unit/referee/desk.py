"""A folder's referee over a store in memory, and drivers that say only what a test tells them to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from onitu.model.events import Event, Seen
from onitu.model.orders import Order
from onitu.model.outside import REAL, Outside
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.model.versions import Kind, Version
from onitu.referee.folder import FolderReferee
from onitu.referee.greeting import greet
from onitu.store.memory import MemoryStore
from onitu.wire.messages import Batch, Expected, Hello, Message, Orders, ReplicaState

NAMES = ("a", "b", "c")


def settings(names: tuple[str, ...] = NAMES, **more: Any) -> Settings:
    services = {n: Service(n, "local", replicas={"f": Replica("f", f"/{n}")}) for n in names}
    return Settings("t", {"f": Folder("f")}, services, **more)


def file(value: str, mtime: int = 1) -> Version:
    return Version(Kind.FILE, len(value), {"blake3": value.encode()}, mtime=mtime, mode=0o644)


def stands(path: bytes, value: str, token: bytes = b"t", mtime: int = 1) -> Event:
    return Event(Seen.STANDS, path, file(value, mtime), token)


@attrs.define
class Desk:
    """A folder's referee with drivers that say only what a test tells them to."""

    folder: FolderReferee
    sent: list[tuple[str, Message]]
    news: list[tuple[str, dict[str, Any]]]
    numbers: dict[str, int] = attrs.field(factory=dict)

    async def meet(
        self, service: str, state: ReplicaState | None = None, epoch: str = "e", scanned: bool = True
    ) -> Expected:
        """A driver says Hello and, where it is accepted, ends its first scan."""
        state = state or ReplicaState(f"marker {service}", 1, 0)
        hello = Hello(service, epoch, 100, "", {"f": state})
        answer = await self.folder.ask(lambda: greet(self.folder, service, hello, state))
        self.numbers[service] = answer.number
        if answer.accepted:
            self.folder.links[service].connected = True
            if scanned:
                await self.say(service, scanned=True)
        return answer

    async def say(self, service: str, *events: Event, scanned: bool = False, number: int = 0, epoch: str = "e") -> None:
        """A driver sends a batch; it is decided when this returns."""
        if not number:
            self.numbers[service] += 1
        batch = Batch("f", epoch, number or self.numbers[service], events, scanned)
        await self.folder.post(lambda: self.folder.batch(service, batch))
        await self.settle()

    async def settle(self) -> None:
        async def nothing() -> None: ...

        await self.folder.ask(nothing)

    async def until(self, what: Callable[[], Any]) -> Any:
        """The first true value; the test's deadline ends the wait."""
        while not (value := what()):  # noqa: ASYNC110
            await trio.sleep(0.02)
        return value

    def orders(self, service: str) -> list[Order]:
        """Orders sent to a service since the last look."""
        found = [o for to, m in self.sent if to == service and isinstance(m, Orders) for o in m.orders]
        self.sent[:] = [(to, m) for to, m in self.sent if not (to == service and isinstance(m, Orders))]
        return found

    def of(self, kind: type[Message]) -> list[Any]:
        return [m for _, m in self.sent if isinstance(m, kind)]


@asynccontextmanager
async def desk(
    store: MemoryStore | None = None, given: Settings | None = None, meet: bool = True, outside: Outside = REAL
) -> AsyncIterator[Desk]:
    sent: list[tuple[str, Message]] = []
    news: list[tuple[str, dict[str, Any]]] = []

    async def send(service: str, message: Message) -> bool:
        await trio.lowlevel.checkpoint()
        sent.append((service, message))
        return True

    given = given or settings()
    async with (store or MemoryStore()).open_folder("f") as held, trio.open_nursery() as nursery:
        folder = FolderReferee(given, "f", held, send, lambda topic, _, data: news.append((topic, data)), outside)
        await folder.load()
        nursery.start_soon(folder.run)
        found = Desk(folder, sent, news)
        if meet:
            for name in given.services:
                await found.meet(name)
        with trio.fail_after(30):
            yield found
        nursery.cancel_scope.cancel()
