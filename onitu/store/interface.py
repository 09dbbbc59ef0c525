"""What the Referee needs of a store, one folder at a time.

A `FolderStore` is held by one Referee, under a lease with a fencing token; every commit checks the token in the same
atomic step. All methods are coroutines; a cancelled `commit` may or may not have happened, so its caller ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from onitu.model.nodes import Node


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line of the journal: a decision with its evidence. `id` is given by the store."""

    path: bytes
    service: str
    case: str
    outcome: str
    detail: dict[str, Any] = {}
    time: float = 0.0
    id: str = ""


class Problem(msgspec.Struct, frozen=True, gc=False):
    """A path that is blocked, hidden or held back on one service, with the reason; for status, and for retries."""

    path: bytes
    service: str
    kind: str
    """`blocked` (an order failed), `clash` (two entries of one name), `hidden` or `quarantined`."""
    reason: str


class ServiceRecord(msgspec.Struct, frozen=True):
    """What is remembered of one service of the folder."""

    marker: str = ""
    generation: int = 0
    epoch: str = ""
    number: int = 0
    """The last batch committed of `epoch`."""
    known: int = 0
    """About how many paths it holds."""
    paused: bool = False
    tally: bytes = b""
    """What it holds (`onitu.model.tally`); empty: it was not counted yet."""
    awaits: bool = False
    """Whether its deletions that are held back were judged to need a yes."""


class Change(msgspec.Struct):
    """What one commit writes. Everything or nothing.

    Attributes:
        nodes: by path, the new node; an `empty` node is deleted.
        todo: by path, the score under which it is to be planned (the seq of the commit); None: nothing is left.
        services: by name, the new record.
        journal: lines to append.
        problems: by (service, path), the problem, or None: it is over.
        quarantine: by (service, path), True: held back, False: released.
        seq: the highest seq given so far.
        gaps: the gaps between the sequence numbers, from now on.
        forgotten: the last sequence number before a replica is forgotten.
        rules: the digest of the rules by which the index of what is left is made from now on.
        counts: what to add to the folder's counters (`files`, `bytes`, `conflicts`…).
        conflicts: by conflict copy's path, the path it is a copy of; None: resolved.
    """

    nodes: dict[bytes, Node] = msgspec.field(default_factory=dict)
    todo: dict[bytes, int | None] = msgspec.field(default_factory=dict)
    services: dict[str, ServiceRecord] = msgspec.field(default_factory=dict)
    journal: list[Entry] = msgspec.field(default_factory=list)
    problems: dict[tuple[str, bytes], Problem | None] = msgspec.field(default_factory=dict)
    quarantine: dict[tuple[str, bytes], bool] = msgspec.field(default_factory=dict)
    seq: int | None = None
    gaps: tuple[tuple[int, int], ...] | None = None
    forgotten: int | None = None
    rules: str | None = None
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    conflicts: dict[bytes, bytes | None] = msgspec.field(default_factory=dict)


class Meta(msgspec.Struct, frozen=True):
    """What is remembered of the folder as a whole.

    `fresh`: the store knew nothing of it when it was opened. `rules`: the digest of the rules by which the index of
    what is left was made. `gaps`: (a, b), ascending: no sequence number above `a` and up to `b` was given.
    `forgotten`: the last sequence number before a replica was forgotten; 0: none was.
    """

    fresh: bool
    seq: int
    services: Mapping[str, ServiceRecord]
    counts: Mapping[str, int]
    rules: str = ""
    gaps: tuple[tuple[int, int], ...] = ()
    forgotten: int = 0


class FolderStore(Protocol):
    """One folder's state, under this Referee's lease."""

    folder: str

    async def meta(self) -> Meta:
        """Sequence number, services, counters."""

    async def nodes(self, paths: Sequence[bytes]) -> dict[bytes, Node]:
        """The nodes of these paths; a path that is not known is left out."""

    async def children(
        self, directories: Sequence[bytes], at_hand: Mapping[bytes, Node] | None = None
    ) -> list[list[Node]]:
        """All nodes directly in each directory. One of a path that is `at_hand` is taken from there: to decode it would
        be most of the work."""

    async def commit(self, change: Change) -> None:
        """Write it durably and atomically. Raises `Fenced` where the lease is another's (or the store was emptied)."""

    async def todo(self, after: tuple[int, bytes], limit: int) -> list[tuple[int, bytes]]:
        """(score, path) of what is left to plan, ascending, strictly after the given pair; at most `limit`."""

    async def todo_count(self) -> int: ...

    async def journal(self, path: bytes | None, limit: int, after: str = "") -> list[Entry]:
        """The newest lines first; of one path (and of what it came from or went to), or of all; only those after the
        one with the id `after`, where one is named."""

    async def problems(self, kind: str | None, limit: int) -> list[Problem]: ...

    async def problem_counts(self) -> dict[str, int]:
        """By kind."""

    async def quarantined(self, service: str, limit: int) -> list[bytes]: ...

    async def conflicts(self) -> dict[bytes, bytes]:
        """Conflict copies that stand: copy → original path."""

    def walk(self) -> AsyncIterator[list[Node]]:
        """All nodes, in pages, in no order. Nodes changed meanwhile may be seen old or new."""


class Store(Protocol):
    """A server, or a dict in memory."""

    def open_folder(self, folder: str) -> AbstractAsyncContextManager[FolderStore]:
        """Take the folder's lease (waiting for a dead holder's to run out) and keep it alive. Raises `StateError`."""

    async def ping(self) -> None: ...
