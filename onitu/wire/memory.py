"""Sockets in memory: the interface of `sockets.Socket` within one Trio run, for simulations.

What is kept of ZeroMQ: a DEALER goes on trying to connect; messages of one connection arrive in their order, each whole
or not at all; between two connections there is no order. A connection that breaks takes with it what was under way, and
nobody is told, but that a ROUTER's `send` to a peer that is not there raises `PeerGone`. Nothing here depends on
hashing or on a real clock: two runs with the same delays do the same.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
import trio

from onitu.model.errors import PeerGone

from .messages import Message, decode, encode
from .sockets import Kind

Delay = Callable[[str], float]
"""Seconds that the next message from a socket, or its next connection, takes; by the socket's name."""


def at_once(name: str) -> float:
    """No delay."""
    return 0.0


class _Connection(msgspec.Struct, eq=False):
    """A DEALER and the ROUTER that it is connected to. `ready`: by receiver, when its last message arrives."""

    router: MemorySocket
    dealer: MemorySocket
    open: bool = True
    ready: dict[int, float] = msgspec.field(default_factory=dict)


class Network:
    """What connects the sockets. `run` it as long as there are any.

    Attributes:
        sent: called with each message on its way: sender's name, receiver's name, and the bytes.
    """

    def __init__(self, delay: Delay = at_once, sent: Callable[[str, str, bytes], None] | None = None) -> None:
        self.delay = delay
        self.sent = sent
        self._routers: dict[str, MemorySocket] = {}
        self._dealers: dict[str, list[MemorySocket]] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count(1)
        self._earlier = trio.Event()

    async def run(self) -> None:
        """Let messages arrive, until cancelled."""
        while True:
            while self._due and self._due[0][0] <= trio.current_time():
                heapq.heappop(self._due)[2]()
            self._earlier = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else float("inf")):
                await self._earlier.wait()

    def bind(self, kind: Kind, endpoint: str, name: str = "", effect: Callable[[], None] | None = None) -> MemorySocket:
        """A socket that peers connect to. `effect` is called before each send and receive, and may raise."""
        socket = MemorySocket(self, kind, endpoint, name or endpoint, b"", effect)
        if kind is Kind.ROUTER:
            self._routers[endpoint] = socket
            for dealer in self._dealers.get(endpoint, []):
                self._connect_after(dealer, self.delay(dealer.name))
        return socket

    def connect(
        self, endpoint: str, name: str = "", identity: bytes = b"", effect: Callable[[], None] | None = None
    ) -> MemorySocket:
        """A DEALER. `identity`: what the ROUTER calls it; chosen where it is empty."""
        identity = identity or b"\0%d" % next(self._count)
        socket = MemorySocket(self, Kind.DEALER, endpoint, name or endpoint, identity, effect)
        self._dealers.setdefault(endpoint, []).append(socket)
        self._connect_after(socket, self.delay(socket.name))
        return socket

    def cut(self, name: str, seconds: float) -> int:
        """Break every connection of the sockets of that name, which connect anew after so long; how many there were."""
        broken = 0
        for socket in [*self._routers.values(), *(one for dealers in self._dealers.values() for one in dealers)]:
            if socket.name == name:
                for connection in list(socket.connections.values()):
                    self._break(connection, seconds)
                    broken += 1
        return broken

    # --- within -------------------------------------------------------------------------------------------------

    def transmit(self, connection: _Connection, receiver: MemorySocket, data: bytes) -> None:
        """Have a message arrive after its delay, and after those that were sent before it."""
        sender = connection.dealer if receiver is connection.router else connection.router
        if self.sent is not None:
            self.sent(sender.name, receiver.name, data)
        when = max(trio.current_time() + self.delay(sender.name), connection.ready.get(id(receiver), 0.0))
        connection.ready[id(receiver)] = when

        def arrive() -> None:
            if connection.open:
                receiver.arrived(connection.dealer.identity if receiver is connection.router else b"", data)

        self._at(when, arrive)

    def closed(self, socket: MemorySocket) -> None:
        """A socket is no more."""
        for connection in list(socket.connections.values()):
            self._break(connection, self.delay(connection.dealer.name))
        if self._routers.get(socket.endpoint) is socket:
            del self._routers[socket.endpoint]
        if socket in self._dealers.get(socket.endpoint, []):
            self._dealers[socket.endpoint].remove(socket)

    def _break(self, connection: _Connection, seconds: float) -> None:
        connection.open = False
        connection.router.connections.pop(connection.dealer.identity, None)
        connection.dealer.connections.clear()
        self._connect_after(connection.dealer, seconds)

    def _connect_after(self, dealer: MemorySocket, seconds: float) -> None:
        def connect() -> None:
            router = self._routers.get(dealer.endpoint)
            if dealer.closed or dealer.connections or router is None:
                return
            before = router.connections.get(dealer.identity)
            if before is not None:  # a restarted peer takes its name over from the connection of its earlier life
                self._break(before, float("inf"))
            connection = _Connection(router, dealer)
            router.connections[dealer.identity] = connection
            dealer.connections[b""] = connection
            dealer.wake()

        if seconds < float("inf"):
            self._at(trio.current_time() + seconds, connect)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._count), act))
        self._earlier.set()


class MemorySocket:
    """One socket; see `channel.Channel`. Made by a `Network`."""

    def __init__(
        self, network: Network, kind: Kind, endpoint: str, name: str, identity: bytes, effect: Callable[[], None] | None
    ) -> None:
        self.kind = kind
        self.endpoint = endpoint
        self.name = name
        self.identity = identity
        self.closed = False
        self.connections: dict[bytes, _Connection] = {}
        self._network = network
        self._effect = effect
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._lot = trio.lowlevel.ParkingLot()

    async def send(self, message: Message, to: bytes | None = None) -> None:
        """As `Channel.send`; each is a checkpoint that lets others run."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                self.send_nowait(message, to)
            except trio.WouldBlock:
                await self._lot.park()
            else:
                return

    def send_nowait(self, message: Message, to: bytes | None = None) -> None:
        """As `Channel.send_nowait`. What a PUB says is only told to `Network.sent`."""
        self._look()
        if self.kind is Kind.PUB:
            if self._network.sent is not None:
                self._network.sent(self.name, "", encode(message))
            return
        connection = self.connections.get(to or b"")
        if connection is None and self.kind is Kind.ROUTER:
            raise PeerGone(f"the peer {to!r} is not connected")
        if connection is None:
            raise trio.WouldBlock
        receiver = connection.dealer if self.kind is Kind.ROUTER else connection.router
        self._network.transmit(connection, receiver, encode(message))

    async def receive(self) -> tuple[bytes, Message]:
        """As `Channel.receive`."""
        await trio.lowlevel.checkpoint()
        self._look()
        while not self._inbox:
            await self._lot.park()
            self._look()
        identity, data = self._inbox.popleft()
        return identity, decode(data)

    async def receive_many(self, limit: int = 1000) -> list[tuple[bytes, Message]]:
        """As `Channel.receive_many`."""
        messages = [await self.receive()]
        while self._inbox and len(messages) < limit:
            identity, data = self._inbox.popleft()
            messages.append((identity, decode(data)))
        return messages

    def close(self) -> None:
        """As `Channel.close`."""
        if not self.closed:
            self.closed = True
            self._network.closed(self)
            self.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- for the network ----------------------------------------------------------------------------------------

    def arrived(self, identity: bytes, data: bytes) -> None:
        """A message is here."""
        self._inbox.append((identity, data))
        self.wake()

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        self._lot.unpark_all()

    def _look(self) -> None:
        if self._effect is not None:
            self._effect()
        if self.closed:
            raise trio.ClosedResourceError("this socket was already closed")
