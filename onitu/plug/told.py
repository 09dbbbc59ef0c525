"""What was told of each path lately: what the Referee will know of this service once it has heard everything.

An `Index` shows what the Referee knew when it answered. Events that were still on their way then are missing in it, and
a conclusion from such a row would be wrong: a directory that was reported gone, and stands again, would look as if
nothing had happened. So what was told is laid over the rows until no answer can be older than it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

import msgspec

from onitu.model import paths
from onitu.model.events import Event, Seen, Trouble
from onitu.model.versions import NOTHING, Kind
from onitu.wire.messages import Known

from .driver import Entry
from .familiar import Familiar

REMEMBERED = 5_000
"""Paths whose last report is remembered, so that the echo of an order or a second hint costs one stat only: a third of
a kilobyte each."""
PASSING = frozenset({Trouble.IO, Trouble.DENIED, Trouble.UNAVAILABLE})
"""Troubles that may be over without a change that anybody would be told of."""
TROUBLED = 10_000
"""Troubled paths that are remembered; beyond, the next full scan finds them."""


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What the last event about a path said: at which position, and of what; kind None: that it is hidden."""

    position: int
    kind: Kind | None
    token: bytes
    mode: int


class Told:
    """One folder's events, by path.

    Attributes:
        troubled: the paths of which the last that was told is a trouble: no event need come when that is over.
        familiar: what the next life may take on trust; nothing of which anything was told.
    """

    def __init__(self, familiar: Familiar | None = None) -> None:
        self.familiar = familiar or Familiar()
        self.troubled: dict[bytes, None] = {}
        self._latest: OrderedDict[bytes, _Said] = OrderedDict()
        self._recent: dict[bytes, dict[bytes, tuple[int, Known | None]]] = {}
        self._order: deque[tuple[int, bytes]] = deque()
        self._fences: deque[tuple[int, int]] = deque()

    def note(self, event: Event, position: int) -> None:
        """An event entered the outbox, as the `position`th of all."""
        for path, known in _effects(event):
            self.troubled.pop(path, None)
            self.familiar.forget(path)
            self._latest[path] = _said(position, known)
            self._latest.move_to_end(path)
            if len(self._latest) > REMEMBERED:
                self._latest.popitem(last=False)
            self._recent.setdefault(paths.parent(path), {})[path] = (position, known)
            self._order.append((position, path))
        if event.seen is Seen.HIDDEN and event.trouble in PASSING and len(self.troubled) < TROUBLED:
            self.troubled[event.path] = None

    def says(self, entry: Entry, since: int = 0) -> bool:
        """Whether exactly this was the last that was told of its path, and after the event at position `since`."""
        said = self._latest.get(entry.path)
        if said is None or said.position <= since or said.kind is Kind.NOTHING:
            return False  # what cannot be read has no kind either, and is no absence
        return _agree(said.kind, said.token, said.mode, entry)

    def says_gone(self, path: bytes) -> bool:
        """Whether the last that was told of the path is that nothing stands there."""
        return self._kind(path) is Kind.NOTHING

    def is_hidden(self, path: bytes) -> bool:
        """Whether the last that was told of the path is that it is hidden."""
        return path in self._latest and self._kind(path) is None

    def kind(self, path: bytes) -> Kind | None:
        """What was told to stand at the path; None: nothing was told lately, or that it is gone."""
        kind = self._kind(path)
        return None if kind is Kind.NOTHING else kind

    def _kind(self, path: bytes) -> Kind | None:
        said = self._latest.get(path)
        return None if said is None else said.kind

    def overlay(self, directory: bytes, rows: Iterable[Known]) -> dict[bytes, Known]:
        """The rows of one directory of an Index, with what was told since, by path."""
        known = {row.path: row for row in rows}
        for path, (_, telling) in self._recent.get(directory, {}).items():
            _lay_over(known, path, telling)
        return known

    def overlay_at(self, wanted: Iterable[bytes], rows: Iterable[Known]) -> dict[bytes, Known]:
        """The rows of these paths in an Index, with what was told since, by path."""
        known = {row.path: row for row in rows}
        for path in wanted:
            recent = self._recent.get(paths.parent(path), {})
            if path in recent:
                _lay_over(known, path, recent[path][1])
        return known

    def committed(self, position: int, newest_lookup: int) -> None:
        """All up to `position` is in the Referee's store; only answers up to `newest_lookup` may be older."""
        self._fences.append((newest_lookup, position))

    def purge(self, oldest_open: int | None) -> None:
        """Drop what no answer can be older than. `oldest_open`: the first lookup without an answer yet."""
        while self._fences and (oldest_open is None or self._fences[0][0] < oldest_open):
            _, position = self._fences.popleft()
            while self._order and self._order[0][0] <= position:
                self._drop(*self._order.popleft())

    def forget(self) -> None:
        """A new Welcome: what the Referee heard before may be lost with its state. What is on its way stays."""
        self._latest.clear()

    def _drop(self, position: int, path: bytes) -> None:
        directory = paths.parent(path)
        siblings = self._recent.get(directory, {})
        if path in siblings and siblings[path][0] <= position:
            del siblings[path]
            if not siblings:
                del self._recent[directory]


def _lay_over(known: dict[bytes, Known], path: bytes, telling: Known | None) -> None:
    """Let the rows show what was told of a path."""
    if telling is None:
        known.pop(path, None)
    elif not telling.hidden:
        known[path] = telling
    elif path in known:
        row = known[path]
        unread = telling.unread and not row.excluded
        known[path] = Known(row.path, row.token, row.version, hidden=True, unread=unread)


def agrees(known: Known, entry: Entry, modes: bool = True) -> bool:
    """Whether the entry is what is known already. `modes`: whether the service keeps permission bits; a directory
    whose bits are 0 is one of which it does not tell them."""
    return _agree(known.version.kind, known.token, known.version.mode, entry, modes)


def _agree(kind: Kind | None, token: bytes, mode: int, entry: Entry, modes: bool = True) -> bool:
    if kind is not entry.kind or token != entry.token:
        return False
    told = modes and kind is Kind.DIRECTORY and entry.version.mode
    return not told or mode == entry.version.mode


def _said(position: int, known: Known | None) -> _Said:
    if known is None:
        return _Said(position, Kind.NOTHING, b"", 0)
    if known.hidden:
        return _Said(position, None, b"", 0)
    return _Said(position, known.version.kind, known.token, known.version.mode)


def _effects(event: Event) -> list[tuple[bytes, Known | None]]:
    """What the event says of paths; None: nothing stands there."""
    match event.seen:
        case Seen.FAILED:
            return []
        case Seen.HIDDEN:
            unread = event.trouble is not Trouble.NONE
            return [(event.path, Known(event.path, b"", NOTHING, hidden=True, unread=unread))]
        case Seen.GONE:
            return [(event.path, None)]
    effects: list[tuple[bytes, Known | None]] = [(event.source, None)] if event.source else []
    stands = event.version.exists
    return [*effects, (event.path, Known(event.path, event.token, event.version) if stands else None)]
