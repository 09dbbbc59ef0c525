"""The interface of a socket, as far as the Referee and the plug use one: ZeroMQ's (`sockets`), or one in memory
(`memory`). What is promised of each method stands in `sockets.Socket`."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from .messages import Message


class Channel(Protocol):
    """One socket. An async context manager: leaving it closes the socket at once."""

    async def send(self, message: Message, to: bytes | None = None) -> None:
        """Hand a message over, to the peer `to` where this is a ROUTER. Waits for room, and for a connection.

        Raises:
            PeerGone: `to` is not connected, or did not take anything for some seconds.
            trio.Cancelled: nothing was sent.
        """

    def send_nowait(self, message: Message, to: bytes | None = None) -> None:
        """As `send`, but raises `trio.WouldBlock` instead of waiting."""

    async def receive(self) -> tuple[bytes, Message]:
        """The next message, on a ROUTER with its sender's identity (else `b""`). Cancelled, it has taken nothing."""

    async def receive_many(self, limit: int = 1000) -> list[tuple[bytes, Message]]:
        """At least one message, and what else is there already, up to `limit`. Cancelled, it has taken nothing."""

    def close(self) -> None:
        """Close at once. What waits in its queues is gone. Idempotent."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
