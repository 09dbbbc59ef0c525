"""The trace of a history: a line for everything that happens, the same for the same script."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable


class Trace:
    """See the module.

    Attributes:
        lines: what was told.
        messages: how many went over the network.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.lines: list[str] = []
        self.messages = 0
        self._now = now

    def line(self, text: str) -> None:
        """Something happened now."""
        self.lines.append(f"{self._now():.4f} {text}")

    def message(self, sender: str, receiver: str, data: bytes) -> None:
        """A message is on its way: its class, its size and a checksum."""
        self.messages += 1
        # A message is an array that begins with its class's name, a short string.
        name = data[2 : 2 + (data[1] & 31)].decode()
        self.lines.append(f"{self._now():.4f} {sender} > {receiver or 'all'} {name} {len(data)} {zlib.crc32(data):08x}")

    def digest(self) -> str:
        """A name for the whole trace: two traces with the same are the same."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]
