"""The store as dicts: the same interface and the same promises within one process, for tests and for the simulation.

It does nothing by itself: no threads, no clock but Trio's, no order that depends on hashing. What it holds outlives an
`open_folder`, as a server's data outlives a Referee, and ends with the `MemoryStore`.
"""

from __future__ import annotations

import copy
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import trio

from onitu.model import paths
from onitu.model.errors import Fenced, StateError
from onitu.model.nodes import Node

from . import codec
from .interface import Change, Entry, FolderStore, Meta, Problem, ServiceRecord
from .keys import JOURNAL

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

PAGE = 256
"""Nodes in one page of `walk`."""


class Call(msgspec.Struct, frozen=True):
    """One call of the store.

    Attributes:
        number: counted from 1 over all folders of the store.
        operation: the method's name.
        done: False before it takes effect, True after it, before its caller hears of it.
    """

    number: int
    operation: str
    done: bool


Hook = Callable[[Call], None]
"""What it raises, the caller of the method gets: before the effect, or in the place of its answer."""


class _State(msgspec.Struct):
    """All that is stored of one folder. `entered` counts journal lines ever."""

    nodes: dict[bytes, dict[bytes, Node]] = msgspec.field(default_factory=dict)
    todo: dict[bytes, int] = msgspec.field(default_factory=dict)
    services: dict[str, ServiceRecord] = msgspec.field(default_factory=dict)
    journal: list[bytes] = msgspec.field(default_factory=list)
    entered: int = 0
    problems: dict[tuple[str, bytes], Problem] = msgspec.field(default_factory=dict)
    quarantine: dict[str, dict[bytes, None]] = msgspec.field(default_factory=dict)
    seq: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    forgotten: int = 0
    rules: str = ""
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    conflicts: dict[bytes, bytes] = msgspec.field(default_factory=dict)


class MemoryStore:
    """A server in memory.

    Args:
        ttl: seconds (of Trio's clock) after which the lease of a holder that was `abandoned` runs out.
        wait: seconds to wait for another's lease.

    Attributes:
        hook: called before and after the effect of each call; see `fail_at`.
        calls: how many calls there were.
    """

    def __init__(self, *, ttl: float = 15.0, wait: float = 20.0) -> None:
        self.ttl = ttl
        self.wait = wait
        self.hook: Hook | None = None
        self.calls = 0
        self._folders: dict[str, _State] = {}
        self._fences: dict[str, int] = {}
        self._leases: dict[str, float] = {}
        self._taken = 0

    def fail_at(self, number: int, *, done: bool = False, error: Exception | None = None) -> None:
        """Let the call `number` (counted from the next one, which is 1) fail: before its effect, or after it."""
        target = self.calls + number

        def hook(call: Call) -> None:
            if call.number == target and call.done is done:
                raise error or StateError(f"call {number} ({call.operation}) was told to fail")

        self.hook = hook

    def flush(self) -> None:
        """Forget everything, leases and fences too, as FLUSHALL does."""
        self._folders.clear()
        self._fences.clear()
        self._leases.clear()

    def backup(self) -> object:
        """All that is stored now, for `restore`."""
        return copy.deepcopy(self._folders)

    def restore(self, backup: object) -> None:
        """Go back to a `backup`; who holds a folder then is fenced."""
        assert isinstance(backup, dict)
        self._folders = copy.deepcopy(backup)
        self._fences.clear()
        self._leases.clear()

    def abandon(self, folder: str) -> None:
        """Let the folder's holder die without giving the lease back: it runs out after `ttl`."""
        self._leases[folder] = trio.current_time() + self.ttl

    async def ping(self) -> None:
        """Comes back at once."""
        self.call("ping", lambda: None)
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def open_folder(self, folder: str) -> AsyncIterator[FolderStore]:
        """Take the folder's lease, waiting for an abandoned one to run out. Raises `StateError`."""
        deadline = trio.current_time() + self.wait
        while (until := self._leases.get(folder, 0.0)) > trio.current_time():
            if until > deadline:
                raise StateError(f"folder {folder!r} is held by another Onitu, in this process")
            await trio.sleep_until(until)
        await trio.lowlevel.checkpoint()
        token, fresh = self.call("open_folder", lambda: self._take(folder))
        try:
            yield MemoryFolder(self, folder, token, fresh)
        finally:
            if self._fences.get(folder) == token and self._leases.get(folder) == float("inf"):
                del self._leases[folder]

    def call(self, operation: str, effect: Callable[[], T]) -> T:
        """Count a call and let the hook see it before and after its effect."""
        self.calls += 1
        number = self.calls
        if self.hook is not None:
            self.hook(Call(number, operation, done=False))
        result = effect()
        if self.hook is not None:
            self.hook(Call(number, operation, done=True))
        return result

    def state(self, folder: str) -> _State:
        """What is stored of the folder."""
        return self._folders.get(folder) or _State()

    def checked(self, folder: str, token: int) -> _State:
        """What is stored of the folder, for its holder; else `Fenced`."""
        if self._fences.get(folder) != token:
            raise Fenced(f"another Onitu took over folder {folder!r}, or the store was emptied")
        return self._folders[folder]

    def _take(self, folder: str) -> tuple[int, bool]:
        fresh = folder not in self._folders
        self._folders.setdefault(folder, _State())
        self._taken += 1
        self._fences[folder] = self._taken
        self._leases[folder] = float("inf")
        return self._taken, fresh


class MemoryFolder:
    """One folder's state; see `FolderStore`."""

    def __init__(self, store: MemoryStore, folder: str, token: int, fresh: bool) -> None:
        self.folder = folder
        self._store = store
        self._token = token
        self._fresh = fresh

    async def meta(self) -> Meta:
        """Sequence number, services, counters."""
        return await self._read(
            "meta",
            lambda s: Meta(self._fresh, s.seq, dict(s.services), dict(s.counts), s.rules, s.gaps, s.forgotten),
        )

    async def nodes(self, wanted: Sequence[bytes]) -> dict[bytes, Node]:
        """The nodes of these paths; a path that is not known is left out."""

        def read(state: _State) -> dict[bytes, Node]:
            found = ((p, state.nodes.get(paths.parent(p), {}).get(p)) for p in wanted)
            return {path: node for path, node in found if node is not None}

        return await self._read("nodes", read)

    async def children(
        self, directories: Sequence[bytes], at_hand: Mapping[bytes, Node] | None = None
    ) -> list[list[Node]]:
        """All nodes directly in each directory; those `at_hand` as they are there."""
        known = at_hand or {}
        return await self._read(
            "children",
            lambda s: [[known.get(n.path, n) for n in s.nodes.get(d, {}).values()] for d in directories],
        )

    async def commit(self, change: Change) -> None:
        """Write it atomically. Raises `Fenced`, and ValueError or TypeError for a change that cannot be stored."""
        journal = [codec.encode_entry(entry) for entry in change.journal]
        for path, node in change.nodes.items():
            if node.path != path:
                raise ValueError(f"the node of {node.path!r} stands under {path!r}")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._store.call("commit", lambda: _apply(self._store.checked(self.folder, self._token), change, journal))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def todo(self, after: tuple[int, bytes], limit: int) -> list[tuple[int, bytes]]:
        """(score, path) of what is left to plan, ascending, strictly after the given pair; at most `limit`."""
        return await self._read(
            "todo",
            lambda s: heapq.nsmallest(
                limit, ((score, path) for path, score in s.todo.items() if (score, path) > after)
            ),
        )

    async def todo_count(self) -> int:
        """How many paths have something left to plan."""
        return await self._read("todo_count", lambda s: len(s.todo))

    async def journal(self, path: bytes | None, limit: int, after: str = "") -> list[Entry]:
        """The newest lines first; of one path (and of what it came from or went to), or of all; only those after the
        one with the id `after`, where one is named."""
        oldest = int(after.partition("-")[0] or 0)

        def read(state: _State) -> list[Entry]:
            found: list[Entry] = []
            for back, data in enumerate(reversed(state.journal)):
                if len(found) >= limit or state.entered - back <= oldest:
                    break
                entry = codec.decode_entry(data, self.folder, f"{state.entered - back}-0")
                if path is None or codec.speaks_of(entry, path):
                    found.append(entry)
            return found

        return await self._read("journal", read)

    async def problems(self, kind: str | None, limit: int) -> list[Problem]:
        """Problems of one kind or of all; at most `limit`."""
        return await self._read(
            "problems", lambda s: [p for p in s.problems.values() if kind in (None, p.kind)][:limit]
        )

    async def problem_counts(self) -> dict[str, int]:
        """By kind."""
        return await self._read("problem_counts", lambda s: dict(Counter(p.kind for p in s.problems.values())))

    async def quarantined(self, service: str, limit: int) -> list[bytes]:
        """Paths whose deletion on the service is held back, at most `limit`, sorted."""
        return await self._read("quarantined", lambda s: sorted(s.quarantine.get(service, {}))[:limit])

    async def conflicts(self) -> dict[bytes, bytes]:
        """Conflict copies that stand: copy → original path."""
        return await self._read("conflicts", lambda s: dict(s.conflicts))

    async def walk(self) -> AsyncIterator[list[Node]]:
        """All nodes, in pages. Nodes changed meanwhile may be seen old or new."""
        found = await self._read("walk", lambda s: [n for d in s.nodes.values() for n in d.values()])
        for start in range(0, len(found), PAGE):
            yield found[start : start + PAGE]

    async def _read(self, operation: str, read: Callable[[_State], T]) -> T:
        await trio.lowlevel.checkpoint()
        return self._store.call(operation, lambda: read(self._store.state(self.folder)))


def _apply(state: _State, change: Change, journal: list[bytes]) -> None:
    for path, node in change.nodes.items():
        directory = state.nodes.setdefault(paths.parent(path), {})
        if node.empty:
            directory.pop(path, None)
        else:
            directory[path] = node
        if not directory:
            del state.nodes[paths.parent(path)]
    _update(state.todo, change.todo)
    _update(state.problems, change.problems)
    _update(state.conflicts, change.conflicts)
    state.services.update(change.services)
    for (service, path), back in change.quarantine.items():
        held = state.quarantine.setdefault(service, {})
        if back:
            held[path] = None
        else:
            held.pop(path, None)
    for name, by in change.counts.items():
        state.counts[name] = state.counts.get(name, 0) + by
    state.seq = state.seq if change.seq is None else change.seq
    state.gaps = state.gaps if change.gaps is None else change.gaps
    state.forgotten = state.forgotten if change.forgotten is None else change.forgotten
    state.rules = state.rules if change.rules is None else change.rules
    state.journal += journal
    state.entered += len(journal)
    del state.journal[:-JOURNAL]


def _update(stored: dict[K, V], change: dict[K, V | None]) -> None:
    for key, value in change.items():
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value
