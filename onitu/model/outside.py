"""What comes from outside of the program: the time of day, numbers that nobody can guess, the process's own number.

Everything that asks for one of them is given an `Outside`, so that a simulation can give its own. (Time that only
passes, for delays and deadlines, is Trio's.)
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable

import msgspec


class Outside(msgspec.Struct, frozen=True):
    """See the module.

    Attributes:
        clock: nanoseconds since 1970, which may jump either way.
        bits: a number of so many random bits.
        pid: the number of the process, for people. (Asked for when it is needed: a fork has another one.)
    """

    clock: Callable[[], int] = time.time_ns
    bits: Callable[[int], int] = secrets.randbits
    pid: Callable[[], int] = os.getpid

    def name(self, bits: int = 64) -> str:
        """A name that nobody else has, in hexadecimal."""
        return f"{self.bits(bits):0{bits // 4}x}"


REAL = Outside()
"""The real one."""
