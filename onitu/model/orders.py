"""Orders: what the Referee asks a driver to do. Every one is a compare-and-swap at the far end.

An order names the token that it expects to find at its path (empty: nothing stands there). A driver that finds
something else changes nothing and answers with what it found.
"""

from __future__ import annotations

import enum

import msgspec

from .versions import Kind, Version


class Do(enum.IntEnum):
    """What is to be done."""

    PUT = 1
    """Make `version` (a file, a directory or a link) stand at `path`, in the place of what `expect` names."""
    DELETE = 2
    """Take away what `expect` names: a file or link, or a directory that is empty."""
    MOVE = 3
    """Rename what `expect` names from `path` to `target`, where nothing stands; it then is `version`."""
    META = 4
    """Give what `expect` names the mode and the mtime of `version`; its content is already right."""
    FINGERPRINT = 5
    """Read what stands at `path` and answer STANDS with its BLAKE3."""


class Source(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the content of a version can be had: a service, the path there (its spelling), and the token there."""

    service: str
    path: bytes
    token: bytes


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing to do on one service.

    Attributes:
        number: unique within a run of the Referee; the answer carries it.
        do: what.
        path: where, as the service spells it (or the Referee's key, where the service does not hold it yet).
        version: what shall stand there afterwards; a tombstone for DELETE.
        expect: the token that must stand at `path` now; empty: nothing may stand there.
        held: the version that `expect` stands for, so that the driver can verify by digest what it displaced.
        target: MOVE: the new path.
        keep: PUT over something: do not drop the displaced content, give it this (unused) path. Empty: drop it.
        sources: PUT of a file: where to fetch it, best first.
    """

    number: int
    do: Do
    path: bytes
    version: Version
    expect: bytes = b""
    held: Version | None = None
    target: bytes = b""
    keep: bytes = b""
    sources: tuple[Source, ...] = ()

    @property
    def ends_a_directory(self) -> bool:
        """Whether a directory stands at the path, and is to go."""
        stands = self.held is not None and self.held.kind is Kind.DIRECTORY
        return stands and self.version.kind is not Kind.DIRECTORY

    def numbered(self, number: int) -> Order:
        """The same, under this number."""
        return Order(
            number,
            self.do,
            self.path,
            self.version,
            self.expect,
            self.held,
            self.target,
            self.keep,
            self.sources,
        )
