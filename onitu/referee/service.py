"""The Referee's process: sockets on one side, one `FolderReferee` for each folder on the other.

Here nothing is decided. Messages are validated, handed to their folder's inbox, and answered; drivers that fall silent
are taken for dead; news are published for whoever listens.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any, Protocol

import logbook
import msgspec
import trio
import zmq

from onitu.model.errors import Fenced, OnituError, PeerGone, ProtocolError, StoreGone
from onitu.model.outside import REAL, Outside
from onitu.store.interface import Store
from onitu.wire.channel import Channel
from onitu.wire.charter import Charter, Endpoints
from onitu.wire.messages import (
    BEAT,
    DEAD_AFTER,
    Answer,
    Ask,
    Audited,
    Batch,
    Beat,
    Busy,
    Command,
    Expected,
    Hello,
    Lookup,
    Message,
    News,
    Welcome,
)
from onitu.wire.sockets import Kind, Options, Socket

from .checking import Audits
from .folder import FolderReferee
from .greeting import greet
from .questions import QUESTIONS

log = logbook.Logger("referee")

ASKING = 16
"""Questions that are answered at the same time."""

WAITING_NEWS = 100
"""Messages of news that wait for who listens; a round's decisions are one, of a megabyte perhaps."""


class Wire(Protocol):
    """Where sockets come from: ZeroMQ, or a simulation's memory."""

    def news(self) -> Channel:
        """The PUB for news."""

    def events(self) -> Channel:
        """The ROUTER that drivers connect to."""

    def questions(self) -> Channel:
        """The ROUTER for questions."""


class ZmqWire:
    """ZeroMQ, as the charter says."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoints: Endpoints) -> None:
        self._context = context
        self._endpoints = endpoints

    def news(self) -> Socket:
        return Socket.bind(self._context, Kind.PUB, self._endpoints.news, options=Options(high_water=WAITING_NEWS))

    def events(self) -> Socket:
        return Socket.bind(self._context, Kind.ROUTER, self._endpoints.events)

    def questions(self) -> Socket:
        return Socket.bind(self._context, Kind.ROUTER, self._endpoints.referee)


class Peer(msgspec.Struct):
    """A driver's process, as far as the sockets go.

    Attributes:
        service: its service.
        heard: when something came from it last.
        epoch: of its start.
        lost: whether something that was to be sent to it could not be.
        sent: how many messages were sent to it since its `Welcome`.
        received: how many came since its `Hello`.
    """

    service: str
    heard: float
    epoch: str = ""
    lost: bool = False
    sent: int = 0
    received: int = 0


class RefereeService:
    """See the module. `run` it inside the store's life."""

    def __init__(self, charter: Charter, store: Store, wire: Wire | None = None, outside: Outside = REAL) -> None:
        """`wire`: left out, ZeroMQ at the charter's endpoints."""
        self.settings = charter.settings
        self.store = store
        self.outside = outside
        self.run_id = outside.name()
        self._endpoints = charter.endpoints
        self._wire = wire
        self.folders: dict[str, FolderReferee] = {}
        self.peers: dict[str, Peer] = {}
        self.audits = Audits()
        self._news: Channel | None = None
        self._events: Channel | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled.

        Raises:
            StateError: the store cannot be used, or another Referee took over.
        """
        async with contextlib.AsyncExitStack() as stack:
            wire = self._wire or ZmqWire(stack.enter_context(zmq.Context()), self._endpoints)
            for name in self.settings.folders:
                folder_store = await stack.enter_async_context(self.store.open_folder(name))
                folder = FolderReferee(self.settings, name, folder_store, self.send, self.tell, self.outside)
                await folder.load()
                self.folders[name] = folder
            self._news = await stack.enter_async_context(wire.news())
            self._events = await stack.enter_async_context(wire.events())
            control = await stack.enter_async_context(wire.questions())
            async with trio.open_nursery() as nursery:
                for folder in self.folders.values():
                    nursery.start_soon(folder.run)
                nursery.start_soon(self._listen)
                nursery.start_soon(self._beat)
                nursery.start_soon(self._answer, control)
                task_status.started()

    # --- to others ----------------------------------------------------------------------------------------------

    async def send(self, service: str, message: Message) -> bool:
        """Send to a service's driver; False where it is gone. Then it has to be greeted anew, even if it is connected
        again in a moment: it lacks what could not be sent."""
        assert self._events is not None
        try:
            await self._events.send(message, to=service.encode())
        except PeerGone:
            if service in self.peers:
                self.peers[service].lost = True
            return False
        if service in self.peers:
            peer = self.peers[service]
            peer.sent = 0 if isinstance(message, Welcome) else peer.sent + 1
        return True

    def _say_alive(self, peer: Peer) -> bool:
        """A beat, at once, so that what it says of the messages before it is true; False where the driver is gone."""
        assert self._events is not None
        try:
            self._events.send_nowait(Beat(self.run_id, sent=peer.sent), to=peer.service.encode())
        except PeerGone:
            return False
        except trio.WouldBlock:
            return True  # it takes nothing now; if that goes on, its own silence tells
        peer.sent += 1
        return True

    def tell(self, topic: str, folder: str, data: dict[str, Any]) -> None:
        """Publish news. They are lost where nobody listens, or listens too slowly: nothing depends on them."""
        assert self._news is not None
        with contextlib.suppress(trio.WouldBlock):
            self._news.send_nowait(News(topic, folder, data))

    # --- drivers ------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        assert self._events is not None
        while True:
            for identity, message in await self._events.receive_many(64):
                service = identity.decode(errors="replace")
                if service not in self.settings.services:
                    log.warning("a message from {}, which is no service of the configuration: dropped", service)
                    continue
                try:
                    await self._hear(service, message)
                except ProtocolError as error:
                    log.error("{} from the driver of {}: dropped", error, service)

    async def _hear(self, service: str, message: Message) -> None:
        peer = self.peers.get(service)
        if isinstance(message, Hello):
            self.audits.greeted(service, message, peer is not None and peer.epoch == message.epoch)
            self.peers[service] = Peer(service, trio.current_time(), message.epoch)
            await self._welcome(service, message)
            return
        if peer is None:
            # It knew another run of the Referee: it has to introduce itself to this one.
            await self.send(service, Command("hello"))
            return
        peer.heard = trio.current_time()
        before, peer.received = peer.received, peer.received + 1
        match message:
            case Batch():
                folder = self._folder(service, message.folder)
                await folder.post(functools.partial(folder.batch, service, message))
            case Busy():
                folder = self._folder(service, message.folder)
                await folder.post(functools.partial(folder.busy, service, message.looking, message.note))
            case Lookup():
                folder = self._folder(service, message.folder)
                await folder.post(functools.partial(folder.lookup, service, message))
            case Audited():
                self._audited(service, message)
            case Beat():
                if message.counters:
                    for folder in self._of(service):
                        folder.links[service].counters = dict(message.counters)
                if message.sent not in (-1, before):
                    log.warning("something that the driver of {} said was lost: it has to begin anew", service)
                    await self.send(service, Command("hello"))
            case _:
                raise ProtocolError(f"{type(message).__name__} is nothing that a driver says")

    def _audited(self, service: str, report: Audited) -> None:
        run = self.audits.hear(service, report)
        if run is not None:
            self.tell("progress", run.folder, {"service": service, "checked": run.checked, "bytes": run.read})

    def _folder(self, service: str, name: str) -> FolderReferee:
        folder = self.folders.get(name)
        if folder is None or service not in folder.links:
            raise ProtocolError(f"{name!r} is no folder of this service")
        return folder

    def _of(self, service: str) -> list[FolderReferee]:
        return [folder for folder in self.folders.values() if service in folder.links]

    async def _welcome(self, service: str, hello: Hello) -> None:
        log.info("the driver of {} is here (pid {})", service, hello.pid)
        answers: dict[str, Expected] = {}
        for folder in self._of(service):
            state = hello.replicas.get(folder.folder)
            if state is not None:
                answers[folder.folder] = await folder.ask(functools.partial(greet, folder, service, hello, state))
        await self.send(service, Welcome(self.run_id, answers))
        for folder in self._of(service):
            if answers.get(folder.folder) is not None and answers[folder.folder].accepted:
                await folder.post(functools.partial(_connected, folder, service))

    async def _beat(self) -> None:
        while True:
            await trio.sleep(BEAT)
            now = trio.current_time()
            for service, peer in list(self.peers.items()):
                silent = now - peer.heard > DEAD_AFTER
                if silent or peer.lost or not self._say_alive(peer):
                    if silent:
                        log.warning("the driver of {} fell silent", service)
                    else:
                        log.info("the driver of {} left", service)
                    del self.peers[service]
                    self.audits.lost(service)
                    for folder in self._of(service):
                        await folder.post(functools.partial(_disconnected, folder, service))

    # --- questions ----------------------------------------------------------------------------------------------

    async def _answer(self, control: Channel) -> None:
        limit = trio.Semaphore(ASKING)
        async with trio.open_nursery() as nursery:
            while True:
                identity, message = await control.receive()
                if not isinstance(message, Ask):
                    continue
                await limit.acquire()
                nursery.start_soon(self._one, control, identity, message, limit)

    async def _one(self, control: Channel, identity: bytes, question: Ask, limit: trio.Semaphore) -> None:
        try:
            known = QUESTIONS.get(question.what)
            if known is None:
                answer = Answer(question.request, error=f"the Referee does not know how to {question.what!r}")
            else:
                answer = Answer(question.request, await known(self, question.arguments))
        except OnituError as error:
            answer = Answer(question.request, error=str(error), gone=isinstance(error, StoreGone | Fenced))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            answer = Answer(question.request, error=f"{question.what}: {error!r} in its arguments")
        finally:
            limit.release()
        with contextlib.suppress(PeerGone):  # who asked did not wait
            await control.send(answer, to=identity)


async def _connected(folder: FolderReferee, service: str) -> None:
    folder.links[service].connected = True
    for link in folder.links.values():
        if link.service != service:
            link.restart()  # what waited for this service as a source can go on


async def _disconnected(folder: FolderReferee, service: str) -> None:
    link = folder.links[service]
    link.connected = link.scanned = False
    link.in_flight.clear()
    link.busy.clear()


@contextlib.asynccontextmanager
async def serving(
    charter: Charter, store: Store, wire: Wire | None = None, outside: Outside = REAL
) -> AsyncIterator[RefereeService]:
    """A Referee that serves while the block runs; for tests and for simulations."""
    service = RefereeService(charter, store, wire, outside)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        yield service
        nursery.cancel_scope.cancel()
