"""Ports of loopback for servers that are started, and started again, by their numbers."""

from __future__ import annotations

import contextlib
import random
import socket

LOW, HIGH = 12_000, 22_000
"""Below what kernels give to connections (32768 and above on Linux, 49152 on macOS), so that no connection takes a port
before its server has it, nor while the server is away."""


def free_ports(count: int, spare: int = 0) -> list[int]:
    """Ports that nobody has now, nor the ones `spare` above them.

    They are drawn by chance, so that who asks at the same time gets others.
    """
    chance = random.SystemRandom()
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = chance.randrange(LOW, HIGH)
            with contextlib.suppress(OSError):
                for one in {port, port + spare}:
                    held.enter_context(socket.create_server(("127.0.0.1", one)))
                found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
