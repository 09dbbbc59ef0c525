"""ZeroMQ sockets on Trio: ordinary pyzmq sockets that wait on their descriptor.

How it works: try without blocking; if that would block, look at EVENTS; only then wait for the descriptor. Three things
make this more than three lines:

- The descriptor is edge-triggered, and *any* call on the socket, a look at EVENTS too, may swallow the edge that
  another task waits for. So every operation here looks whether somebody else's condition came true, and wakes them.
- Trio allows one waiter for a descriptor. One task is the *watcher*, the others are parked; when the watcher leaves,
  whatever the reason, all look again and one of them becomes the next.
- A receive takes a whole multipart or nothing, and there is no checkpoint between the taking and the return. So a
  cancelled receive loses nothing; a cancelled send has sent nothing.

Each socket belongs to the thread of its Trio run. Nothing here is a promise that a message arrives: what must not be
lost is acknowledged by the other side before it is forgotten, and before the socket is closed (over `ipc://` a close
can lose the last message whatever LINGER says).

What a message looks like on the wire: its bytes (`onitu.wire.messages`) in one frame; on a ROUTER the peer's identity
in a frame before it; on PUB and SUB the topic in a frame before it.

Control channels: the server is a ROUTER, the client (`ask`) a DEALER with one question at a time, matched by number.
A REQ would do the same with an empty frame, a correlation frame and two options more.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import logbook
import msgspec
import trio
import zmq
from anyio import wait_readable

from onitu.model.errors import OnituError, PeerGone, ProtocolError

from .messages import Answer, Ask, Message, News, decode, encode

__all__ = ["MAX_IPC_PATH", "Kind", "Options", "PeerGone", "Security", "Socket", "ask", "check_endpoint"]

MAX_IPC_PATH = 103
"""Bytes of an `ipc://` path at most: what macOS takes (Linux takes 107)."""

_LARGE = 64 * 1024
"""Frames from this size on are sent without a copy."""
_TURNS = 16
"""So many operations may go through without letting other tasks run."""
_PATIENCE = 5.0
"""Seconds that a ROUTER waits for room in a peer's queue. Credit keeps queues from filling: such a peer is dead."""

_log = logbook.Logger("onitu.wire")
_requests = itertools.count(1)

Frames = list[bytes] | list[zmq.Frame]
Context = zmq.Context[zmq.Socket[bytes]]


class Kind(enum.Enum):
    """The kinds of sockets that Onitu uses."""

    ROUTER = zmq.ROUTER
    DEALER = zmq.DEALER
    PUB = zmq.PUB
    SUB = zmq.SUB
    PUSH = zmq.PUSH
    PULL = zmq.PULL


class Security(Protocol):
    """What `onitu.wire.curve` gives to sockets on `tcp://`."""

    def secure(self, socket: zmq.Socket[bytes], *, server: bool) -> None:
        """Set the keys on a socket that is neither bound nor connected yet."""


class Options(msgspec.Struct, frozen=True):
    """How a socket is set up.

    Attributes:
        identity: what a ROUTER at the other end calls this socket; it chooses one itself where this is empty.
        topics: what a SUB subscribes to; an empty tuple means everything.
        high_water: messages that may wait, for each peer and direction.
        max_size: bytes of the largest message that is taken; a peer that sends a larger one is disconnected.
        heartbeat: seconds between pings; a peer silent for three times as long is disconnected. 0: no heartbeats.
        immediate: messages only wait for peers that are connected: nothing piles up for one that is away, and a
            restarted one does not begin with messages that were meant for the one before. (Sends wait meanwhile.)
        large: messages are large (chunks): received without a copy.
    """

    identity: bytes = b""
    topics: tuple[str, ...] = ()
    high_water: int = 10_000
    max_size: int = 64 * 1024 * 1024
    heartbeat: float = 5.0
    immediate: bool = True
    large: bool = False


class Socket:
    """One socket. An async context manager: leaving it closes the socket at once.

    Tasks of one Trio run may use it concurrently, also several for the same direction. Tasks that wait when the socket
    is closed get `trio.ClosedResourceError`, as does everybody afterwards.

    Attributes:
        dropped: how many multiparts were received that were no messages of ours. They are logged and forgotten: who
            serves many peers must not fall over one of them.
    """

    def __init__(self, context: Context, kind: Kind, options: Options | None = None) -> None:
        self.kind = kind
        self.dropped = 0
        self._options = options or Options()
        self._copy = not self._options.large
        self._socket: zmq.Socket[bytes] = context.socket(kind.value)
        self._fd: int = self._socket.getsockopt(zmq.FD)  # type: ignore[assignment]
        self._lot = trio.lowlevel.ParkingLot()
        self._watch: trio.CancelScope | None = None
        self._waiting = {int(zmq.POLLIN): 0, int(zmq.POLLOUT): 0}
        self._turns = 0
        self._set_up()

    @classmethod
    def bind(
        cls,
        context: Context,
        kind: Kind,
        endpoint: str,
        *,
        options: Options | None = None,
        curve: Security | None = None,
    ) -> Self:
        """A socket that peers connect to. Raises `OnituError` where the endpoint cannot be used."""
        return cls._open(context, kind, endpoint, options, curve, server=True)

    @classmethod
    def connect(
        cls,
        context: Context,
        kind: Kind,
        endpoint: str,
        *,
        options: Options | None = None,
        curve: Security | None = None,
    ) -> Self:
        """A socket that connects, and goes on trying; nobody has to be there yet. Raises `OnituError` as `bind`."""
        return cls._open(context, kind, endpoint, options, curve, server=False)

    @property
    def endpoint(self) -> str:
        """Where the socket is bound, with the port that was chosen for `tcp://…:*`."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def closed(self) -> bool:
        return self._socket.closed

    # --- messages -----------------------------------------------------------------------------------------------

    async def send(self, message: Message, to: bytes | None = None) -> None:
        """Hand a message over, to the peer `to` where this is a ROUTER. Waits for room, and for a connection.

        Raises:
            PeerGone: `to` is not connected, or did not take anything for some seconds.
            trio.Cancelled: nothing was sent.
        """
        await self.send_frames(self._frames(message, to))

    def send_nowait(self, message: Message, to: bytes | None = None) -> None:
        """As `send`, but raises `trio.WouldBlock` instead of waiting."""
        self._put(self._frames(message, to))

    async def receive(self) -> tuple[bytes, Message]:
        """The next message, on a ROUTER with its sender's identity (else `b""`). Cancelled, it has taken nothing."""
        while True:
            message = self._message(await self.receive_frames())
            if message is not None:
                return message

    async def receive_many(self, limit: int = 1000) -> list[tuple[bytes, Message]]:
        """At least one message, and what else is there already, up to `limit`. Cancelled, it has taken nothing."""
        messages = [await self.receive()]
        while len(messages) < limit:
            try:
                message = self._message(self._take())
            except trio.WouldBlock:
                break
            if message is not None:
                messages.append(message)
        return messages

    # --- frames -------------------------------------------------------------------------------------------------

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send a multipart as it is; the errors are those of `send`."""
        await self._breathe()
        if self.kind is Kind.ROUTER:
            await self._send_routed(frames)
            return
        while True:
            try:
                self._put(frames)
            except trio.WouldBlock:
                await self._wait(zmq.POLLOUT)
            else:
                return

    async def receive_frames(self) -> Frames:
        """The next multipart as it is."""
        while True:
            await self._breathe()
            try:
                return self._take()
            except trio.WouldBlock:
                await self._wait(zmq.POLLIN)

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close at once. What waits in its queues is gone. Idempotent."""
        if not self._socket.closed:
            if self._watch is not None:
                self._watch.cancel()  # takes the descriptor out of the waiting at once, before it is gone
            self._lot.unpark_all()
            self._socket.close(linger=0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- within -------------------------------------------------------------------------------------------------

    @classmethod
    def _open(
        cls,
        context: Context,
        kind: Kind,
        endpoint: str,
        options: Options | None,
        curve: Security | None,
        *,
        server: bool,
    ) -> Self:
        check_endpoint(endpoint, secured=curve is not None)
        self = cls(context, kind, options)
        try:
            if curve is not None and endpoint.startswith("tcp:"):
                curve.secure(self._socket, server=server)
            if server:
                self._socket.bind(endpoint)
            else:
                if endpoint.startswith("ipc:"):
                    # A try costs some microseconds here, and who starts a run waits for its sockets.
                    self._socket.setsockopt(zmq.RECONNECT_IVL, 10)
                    self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 20)
                self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise OnituError(f"cannot {'bind' if server else 'connect'} a socket at {endpoint}: {error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def _set_up(self) -> None:
        socket, options = self._socket, self._options
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, options.high_water)
        socket.setsockopt(zmq.RCVHWM, options.high_water)
        socket.setsockopt(zmq.MAXMSGSIZE, options.max_size)
        socket.setsockopt(zmq.IMMEDIATE, int(options.immediate))
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
        if options.heartbeat:
            interval = int(options.heartbeat * 1000)
            socket.setsockopt(zmq.HEARTBEAT_IVL, interval)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * interval)
            # The peer forgets us after the same time, should it send no heartbeats itself.
            socket.setsockopt(zmq.HEARTBEAT_TTL, 3 * interval)
        if options.identity:
            socket.setsockopt(zmq.IDENTITY, options.identity)
        if self.kind is Kind.ROUTER:
            # Without MANDATORY it drops silently; without HANDOVER a restarted peer is refused until the old
            # connection is found dead.
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        if self.kind is Kind.SUB:
            for topic in options.topics or ("",):
                socket.setsockopt_string(zmq.SUBSCRIBE, topic)

    def _frames(self, message: Message, to: bytes | None) -> list[bytes]:
        data = encode(message)
        if self.kind is Kind.ROUTER:
            if to is None:
                raise ValueError("a ROUTER sends to somebody")
            return [to, data]
        if to is not None:
            raise ValueError(f"a {self.kind.name} does not choose to whom it sends")
        if self.kind is Kind.PUB:
            topic = message.topic if isinstance(message, News) else type(message).__name__
            return [topic.encode(), data]
        return [data]

    def _message(self, frames: Frames) -> tuple[bytes, Message] | None:
        """The message in a multipart; None where there is none."""
        try:
            if len(frames) != (2 if self.kind in (Kind.ROUTER, Kind.SUB) else 1):
                raise ProtocolError(f"{len(frames)} frames")
            last = frames[-1]
            message = decode(last if isinstance(last, bytes) else last.buffer)
        except ProtocolError as error:
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # the 1st, 2nd, 4th…: a flood of them must not flood the log
                _log.warning("dropped something at {}, {} so far: {}", self.endpoint, self.dropped, error)
            return None
        if self.kind is not Kind.ROUTER:
            return b"", message
        identity = frames[0]
        return (identity if isinstance(identity, bytes) else identity.bytes), message

    async def _send_routed(self, frames: Sequence[bytes]) -> None:
        """A ROUTER's POLLOUT is true as long as any peer has room: waiting for it would spin. So time must do."""
        pause, deadline = 0.001, trio.current_time() + _PATIENCE
        while True:
            try:
                self._put(frames)
            except trio.WouldBlock:
                if trio.current_time() >= deadline:
                    raise PeerGone(f"the peer {frames[0]!r} took nothing for {_PATIENCE:g} s") from None
                await trio.sleep(pause)
                pause = min(2 * pause, 0.1)
            else:
                return

    def _put(self, frames: Sequence[bytes]) -> None:
        self._check_open()
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=len(frames[-1]) < _LARGE)
        except zmq.Again:
            raise trio.WouldBlock from None
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise PeerGone(f"the peer {frames[0]!r} is not connected") from None
            raise
        finally:
            self._look_for_others()

    def _take(self) -> Frames:
        self._check_open()
        try:
            frames: Frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=self._copy)
        except zmq.Again:
            raise trio.WouldBlock from None
        finally:
            self._look_for_others()
        return frames

    async def _breathe(self) -> None:
        """The checkpoint of an operation, before it does anything. Not every one lets others run: that costs more than
        the operation itself."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _wait(self, flag: int) -> None:
        """Until `flag` may be true. The caller tries again, and comes back if it was not."""
        if self._events() & flag:
            return
        self._waiting[flag] += 1
        self._turns = 0
        try:
            if self._watch is not None:
                await self._lot.park()
            else:
                await self._be_watcher()
        finally:
            self._waiting[flag] -= 1

    async def _be_watcher(self) -> None:
        try:
            # Between the look at EVENTS and this nothing else ran, so no edge can have gone unseen.
            with trio.CancelScope() as self._watch:
                await wait_readable(self._fd)
        finally:
            self._watch = None
            self._lot.unpark_all()

    def _events(self) -> int:
        """EVENTS; those whom it concerns are woken, for this look may have swallowed their edge."""
        self._check_open()
        events = int(self._socket.getsockopt(zmq.EVENTS))
        if any(events & flag and count for flag, count in self._waiting.items()):
            self._lot.unpark_all()
            if self._watch is not None:
                self._watch.cancel()
        return events

    def _look_for_others(self) -> None:
        if (self._watch is not None or self._lot) and not self._socket.closed:
            self._events()

    def _check_open(self) -> None:
        if self._socket.closed:
            raise trio.ClosedResourceError("this socket was already closed")


def check_endpoint(endpoint: str, *, secured: bool = False) -> None:
    """Raise `OnituError` where an endpoint cannot be used: too long a path, `tcp://` without keys, another scheme."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in ("ipc", "tcp", "inproc"):
        raise OnituError(f"not an endpoint: {endpoint} (ipc://PATH or tcp://HOST:PORT)")
    if scheme == "ipc" and len(os.fsencode(rest)) > MAX_IPC_PATH:
        raise OnituError(
            f"the path of a socket may have {MAX_IPC_PATH} bytes, {rest} has {len(os.fsencode(rest))}: "
            "choose a shorter runtime directory"
        )
    if scheme == "tcp" and not secured:
        raise OnituError(f"{endpoint} would be open to everybody: tcp:// needs CURVE keys")


async def ask(
    endpoint: str,
    what: str,
    arguments: dict[str, Any] | None = None,
    timeout: float = 5.0,  # noqa: ASYNC109 (the error is for people, and names the time)
    *,
    context: Context | None = None,
    curve: Security | None = None,
) -> dict[str, Any]:
    """Ask a question on a control channel and return the answer's data.

    Args:
        context: whose context to use; left out, one is made for this question.

    Raises:
        OnituError: the answer's own error.
        PeerGone: nobody answered within `timeout` seconds, or what the answer needs is not there at the moment.
    """
    with contextlib.ExitStack() as stack:
        if context is None:
            context = stack.enter_context(zmq.Context())
        async with Socket.connect(context, Kind.DEALER, endpoint, curve=curve) as socket:
            answer = None
            number = next(_requests)
            with trio.move_on_after(timeout):
                await socket.send(Ask(number, what, arguments or {}))
                answer = await _answer(socket, number)
    if answer is None:
        raise PeerGone(f"nobody answered {what!r} at {endpoint} within {timeout:g} s")
    if answer.error:
        raise PeerGone(answer.error) if answer.gone else OnituError(answer.error)
    return answer.data


async def _answer(socket: Socket, number: int) -> Answer:
    while True:
        _, message = await socket.receive()
        if isinstance(message, Answer) and message.request == number:
            return message
