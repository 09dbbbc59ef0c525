"""Dirty paths: where a watcher's hints say that something happened, each once, with when to look. Pure but for the time
that is passed in.

What was written and closed is looked at at once, a few times in a row; a path that goes on changing gets one look each
half second (a large file: each few seconds), so that a log, or a data base, is not read and sent at every write. What
somebody still holds open for writing has to be quiet for a while, twice as long after each look, so that a file that is
being copied or downloaded is not sent in pieces; but it is looked at all the same after a few times that long.

What vanishes, or is renamed, is told a moment later: many programs save a file by deleting it, or by renaming it to a
backup, and writing it anew. If it stands again by then, it is one edit, and no replica has seen it gone for an instant.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

import msgspec

from onitu.model import paths

from .driver import Hint, HintKind

MOST = 100_000
"""Dirty paths that are remembered; beyond, everything is scanned."""
QUICK = 8.0
"""Looks at one path that may follow each other without a pause."""
PAUSE = 0.5
"""Seconds for each look beyond."""
HEAVY = 16 << 20
"""Bytes of a file that count as one look more, up to `QUICK`."""
SOON = 5.0
"""Seconds after a look within which a further write makes a file that is held open restless."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds that a restless file has to be quiet: at first, and at most."""
PATIENCE = 5
"""A restless file that is never quiet is looked at after so many times its pause."""
FLASH = 0.1
"""Seconds after which something that vanished or was renamed is told. It bounds how soon a deletion or the rename of a
file stands on the others; an editor's save needs a few milliseconds, a slow one some tens."""
FRESH = 1.0
"""Seconds after which a new name stands for something that others may miss."""
_RESTLESS = 10_000


class Dirty(msgspec.Struct):
    """What is known of one path that is to be looked at.

    Attributes:
        deep: everything below too.
        directory: it is, or was, a directory.
        source: it was renamed from there.
        absent: it was looked at once already, and nothing stood there.
        writing: all that is known is that somebody writes it, and has not closed it.
        due: when to look.
        latest: when to look at last, however often it changes.
    """

    deep: bool = False
    directory: bool = False
    source: bytes = b""
    absent: bool = False
    writing: bool = False
    due: float = 0.0
    latest: float = float("inf")


class _Look(msgspec.Struct, frozen=True):
    """Since when a name stands, as far as looks tell, when it was looked at last, how many quick looks it had left
    then, how long it has to be quiet while it is held open, and when it was renamed away."""

    first: float
    time: float
    credit: float = QUICK
    pause: float = FIRST_PAUSE
    left: float = float("inf")

    def credit_at(self, now: float) -> float:
        return min(QUICK, self.credit + (now - self.time) / PAUSE)


class DirtyPaths:
    """The dirty paths of one replica, in the order in which they became dirty."""

    def __init__(self) -> None:
        self._paths: dict[bytes, Dirty] = {}
        self._deep: set[bytes] = set()
        """Those of which everything below is to be looked at too."""
        self._looks: OrderedDict[bytes, _Look] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, path: bytes) -> bool:
        return path in self._paths

    @property
    def too_many(self) -> bool:
        return len(self._paths) > MOST

    def clear(self) -> None:
        self._paths.clear()
        self._deep.clear()

    def hint(self, hint: Hint, now: float, told: bool = False) -> None:
        """A watcher's CHANGED or MOVED. `told`: whether it was told that something stands where it was renamed from."""
        if hint.kind is HintKind.MOVED:
            self._moved(hint, now, told)
        else:
            self.mark(hint.path, now, deep=hint.deep, directory=hint.directory, writing=hint.writing)

    def mark(
        self,
        path: bytes,
        now: float,
        *,
        deep: bool = False,
        directory: bool = False,
        absent: bool = False,
        writing: bool = False,
    ) -> None:
        """The path is to be looked at. `absent`: nothing stood there a moment ago; `writing`: it is still held open."""
        dirty = self._paths.get(path)
        new = dirty is None
        if dirty is None:
            dirty = self._paths[path] = Dirty(writing=writing)
        if deep:
            dirty.deep = True
            self._deep.add(path)
        dirty.directory |= directory
        dirty.absent = absent
        if absent:
            dirty.due = now + FLASH
        elif writing:
            if dirty.writing:
                self._wait_for_quiet(path, dirty, now)
        else:
            due = self._soonest(path, now)
            dirty.due = due if new or dirty.writing else min(due, dirty.due)
            dirty.writing = False

    def _wait_for_quiet(self, path: bytes, dirty: Dirty, now: float) -> None:
        look = self._looks.get(path)
        if look is not None and now - look.time < SOON:
            dirty.latest = min(dirty.latest, now + PATIENCE * look.pause)
            dirty.due = min(now + look.pause, dirty.latest)

    def _soonest(self, path: bytes, now: float) -> float:
        """When a path that was closed may be looked at: now, unless it was looked at too often lately."""
        look = self._looks.get(path)
        lacking = 1 - look.credit_at(now) if look is not None else 0.0
        return now + lacking * PAUSE if lacking > 0 else 0.0

    def _moved(self, hint: Hint, now: float, told: bool) -> None:
        """A rename. What was to be looked at at its old path was not told yet, and only a chain of renames is followed;
        unless it is what an order had just put there."""
        before, displaced = self._pop(hint.source), self._pop(hint.path)
        if displaced is not None and displaced.source:
            self.mark(displaced.source, now, deep=displaced.directory, directory=displaced.directory)
        source = hint.source
        if before is not None and (before.source or not told):
            source = before.source
            # Where the two changed places, what stands there now is what came there before, with all that is in it.
            deep, directory = before.deep or hint.directory, before.directory or hint.directory
            self.mark(hint.source, now, deep=deep, directory=directory, absent=True)
        # A directory is no editor's backup, and what has just come is the new content, on its way to its name.
        fresh = self._fresh(hint.source, now)
        waits = source and not hint.directory and not fresh
        due = now + FLASH if waits else self._soonest(hint.path, now)
        # What stood there may have been a directory: then what was told to be in it is to be told gone.
        stood = before if source == hint.path else displaced
        directory = hint.directory or (stood is not None and stood.directory)
        self._paths[hint.path] = Dirty(deep=hint.directory, directory=directory, source=source, due=due)
        if hint.directory:
            self._deep.add(hint.path)

    def _pop(self, path: bytes) -> Dirty | None:
        self._deep.discard(path)
        return self._paths.pop(path, None)

    def _follows(self, path: bytes) -> bool:
        """Whether a directory above it is to be looked at first, with all below: nothing in it is told before it is, as
        it may stand there only now."""
        return bool(self._deep) and not self._deep.isdisjoint(paths.ancestors(path))

    def _fresh(self, source: bytes, now: float) -> bool:
        """Whether what was renamed had come only a moment before. What comes there later has just come too; but a name
        that stands again within an instant never vanished."""
        look = self._looks.get(source)
        if look is None:
            return False
        self._looks[source] = msgspec.structs.replace(look, left=now)
        return now - look.first < FRESH

    def next_due(self) -> float:
        """When the next path is due; infinite: there is none."""
        waiting = (dirty.due for path, dirty in self._paths.items() if not self._follows(path))
        return min(waiting, default=float("inf"))

    def first(self, limit: int) -> list[bytes]:
        """The paths that became dirty first, at most `limit`, and where what is there now was renamed from, whether
        they are due or not."""
        first = list(itertools.islice(self._paths.items(), limit))
        sources = (dirty.source for _, dirty in first if dirty.source)
        return list(dict.fromkeys([*(path for path, _ in first), *sources]))

    def take(self, now: float, limit: int) -> dict[bytes, Dirty]:
        """Paths that are due, in order, at most `limit`; they are remembered as looked at now."""
        due: dict[bytes, Dirty] = {}
        for path, dirty in self._paths.items():
            if dirty.due <= now and not self._follows(path):
                due[path] = dirty
                if len(due) == limit:
                    break
        for path, dirty in due.items():
            self._pop(path)
            if not dirty.absent:
                self._looked(path, dirty, now)
        return due

    def weigh(self, path: bytes, size: int) -> None:
        """A look at the path means to read so many bytes: it counts for more than one."""
        look = self._looks.get(path)
        if look is not None and size >= HEAVY:
            self._looks[path] = msgspec.structs.replace(look, credit=look.credit + 1 - min(QUICK, size / HEAVY))

    def _looked(self, path: bytes, dirty: Dirty, now: float) -> None:
        before = self._looks.pop(path, None)
        if before is None:
            look = _Look(now, now)
        else:
            first = now if now - before.left > FLASH else before.first
            look = _Look(first, now, before.credit_at(now), before.pause)
        restless = dirty.writing and before is not None and now - before.time < SOON + before.pause * PATIENCE
        pause = min(2 * look.pause, LONGEST_PAUSE) if restless else FIRST_PAUSE
        self._looks[path] = msgspec.structs.replace(look, credit=look.credit - 1, pause=pause)
        if len(self._looks) > _RESTLESS:
            self._looks.popitem(last=False)
