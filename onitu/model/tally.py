"""A tally: a proof, in 64 bytes, of what stands in a tree, whatever the order in which it was met.

Each thing (its path, kind and token) is hashed to a number, and the numbers are added up. So the Referee, which takes
in one change after the other, and a driver, which meets everything in the order of its listings, come to the same
tally exactly where the one knows what the other sees; and neither has to hold more than the sum. The bits of
directories are added up beside, as some services do not tell them.

The sum is of whole BLAKE2b-256 digests, modulo 2**256 (the additive hash of Bellare and Micciancio, 1997): that two
trees come to one tally by chance is out of the question. Somebody who may write to a replica, and goes to great length,
could make two such trees; all that is gained by it is that their own change is not noticed before the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import attrs
import msgspec

from .nodes import Holding
from .versions import Kind

SIZE = 32
"""Bytes of a digest, and of each of the two sums."""

_MODULUS = 1 << 8 * SIZE
_THING = tuple(b"\0%d" % kind for kind in sorted(Kind))
"""By kind, which is its place: to look one up by hash would take longer than all else."""
_BITS = b"\0m"
_ELSEWHERE = b"\0?"


@attrs.define
class Tally:
    """See the module.

    Attributes:
        things: the sum over everything that stands.
        bits: the sum over the permission bits of directories.
        told: directories that were seen and have bits.
        untold: directories that were seen and have none, as where a service does not tell them.
    """

    things: int = 0
    bits: int = 0
    told: int = attrs.field(default=0, eq=False)
    untold: int = attrs.field(default=0, eq=False)

    @classmethod
    def read(cls, data: bytes) -> Tally | None:
        """A tally from its bytes; None where they are none."""
        if len(data) != 2 * SIZE:
            return None
        return cls(int.from_bytes(data[:SIZE], "big"), int.from_bytes(data[SIZE:], "big"))

    def __bytes__(self) -> bytes:
        return self.things.to_bytes(SIZE, "big") + self.bits.to_bytes(SIZE, "big")

    def see(self, path: bytes, kind: Kind, token: bytes, mode: int, sign: int = 1) -> None:
        """Count something that stands at a path, or (`sign` -1) something that did. `mode`: of a directory."""
        self._add(thing(path, kind, token), sign)
        if kind is Kind.DIRECTORY:
            self.bits = (self.bits + sign * _number(_bits(path, mode))) % _MODULUS
            if mode:
                self.told += sign
            else:
                self.untold += sign

    def see_all(self, things: Iterable[bytes], directories: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Count many at once: what is no directory, as `thing` writes it; paths, tokens and modes of directories."""
        self.things = (self.things + sum(map(_number, things))) % _MODULUS
        for path, token, mode in directories:
            self.see(path, Kind.DIRECTORY, token, mode)

    def miss_all(self, things: Iterable[bytes]) -> None:
        """Count many no more that are no directories, as `thing` writes them."""
        self.things = (self.things - sum(map(_number, things))) % _MODULUS

    def include(self, other: Tally) -> None:
        """Count all that another tally counts."""
        self.things = (self.things + other.things) % _MODULUS
        self.bits = (self.bits + other.bits) % _MODULUS

    def agrees(self, known: Tally, modes: bool) -> bool:
        """Whether what was seen is what is known. `modes`: whether the service keeps permission bits at all; where it
        does not tell those of directories, they are as they are known."""
        if self.things != known.things:
            return False
        return not modes or not self.told or (not self.untold and self.bits == known.bits)

    def know(self, path: bytes, held: Holding, sign: int = 1) -> None:
        """Count what a service is known to hold at a node's path, or (`sign` -1) what it was known to hold. What a rule
        hides there is not counted; what is held back or cannot be read is, as something that nobody can see."""
        if held.excluded:
            return
        where = held.name or path
        if held.hidden or held.gone:
            self._add(where + _ELSEWHERE + held.token, sign)
        else:
            self.see(where, held.version.kind, held.token, held.version.mode, sign)

    def _add(self, data: bytes, sign: int) -> None:
        self.things = (self.things + sign * _number(data)) % _MODULUS


def thing(path: bytes, kind: Kind, token: bytes) -> bytes:
    """Something that stands at a path, as it is hashed. (No path has a NUL in it, so no two are written alike.)"""
    return path + _THING[kind] + token


def _bits(path: bytes, mode: int) -> bytes:
    """The permission bits of a directory, as they are hashed."""
    return path + _BITS + b"%d" % mode


def _number(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=SIZE).digest(), "big")


class Sealed(msgspec.Struct, frozen=True):
    """What a run that ended with everything in sync knew of one replica.

    Attributes:
        marker: its marker.
        generation: the generation that the store has.
        tally: the bytes of the tally of what it holds.
        time: when that was, nanoseconds since 1970.
    """

    marker: str
    generation: int
    tally: bytes
    time: int

    def is_of(self, marker: str, generation: int, pending: int) -> bool:
        """Whether a replica with this marker is the one that is meant, at the time that is meant (S6)."""
        return bool(marker) and marker == self.marker and self.generation in (generation, pending)
