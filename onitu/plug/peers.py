"""The other drivers, as sources of chunks: one DEALER to each, shared by all transfers from there."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import logbook
import msgspec
import trio

from onitu.wire.channel import Channel
from onitu.wire.messages import Chunk, Fetch

log = logbook.Logger("plug")


class _Asked(msgspec.Struct):
    """A chunk that was asked for."""

    came: trio.Event = msgspec.field(default_factory=trio.Event)
    chunk: Chunk | None = None


class _Peer(msgspec.Struct):
    """A connection, and what was asked there."""

    socket: Channel
    asked: dict[int, _Asked] = msgspec.field(default_factory=dict)


class Peers:
    """Connections are made when they are needed first, and stay until `run` ends."""

    def __init__(self, connect: Callable[[str], Channel]) -> None:
        """`connect`: a DEALER to the chunks of a service."""
        self._connect = connect
        self._peers: dict[str, _Peer] = {}
        self._requests = itertools.count(1)
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the connections until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for peer in self._peers.values():
                peer.socket.close()
            self._peers.clear()

    async def fetch(self, service: str, folder: str, path: bytes, token: bytes, offset: int, length: int) -> Chunk:
        """Ask a service's driver for one chunk. Waits for as long as it takes: the caller has the deadline."""
        peer = self._peer(service)
        number = next(self._requests)
        peer.asked[number] = asked = _Asked()
        try:
            await peer.socket.send(Fetch(number, folder, path, token, offset, length))
            await asked.came.wait()
        finally:
            del peer.asked[number]
        assert asked.chunk is not None
        return asked.chunk

    def _peer(self, service: str) -> _Peer:
        peer = self._peers.get(service)
        if peer is None:
            if self._nursery is None:
                raise RuntimeError("Peers.run does not run")
            peer = self._peers[service] = _Peer(self._connect(service))
            self._nursery.start_soon(self._receive, service, peer)
        return peer

    async def _receive(self, service: str, peer: _Peer) -> None:
        while True:
            _, message = await peer.socket.receive()
            if not isinstance(message, Chunk):
                log.warning("{} from {} instead of a chunk: dropped", type(message).__name__, service)
                continue
            asked = peer.asked.get(message.request)
            if asked is not None:  # else its transfer has ended
                asked.chunk = message
                asked.came.set()
