"""Dirty paths: where a watcher's hints say that something happened, each once, with when to look. Pure but for the time
that is passed in.

The first change of a path is looked at at once. One that changes again soon after it was looked at has to be quiet for
a while first, twice as long each time, so that a log that grows for ever, or a large file that is being copied, is not
read at every write; but never more than a few times that long after the change.
"""

from __future__ import annotations

from collections import OrderedDict

import attrs

from .driver import Hint, HintKind

MOST = 100_000
"""Dirty paths that are remembered; beyond, everything is scanned."""
SOON = 5.0
"""Seconds after a look within which a further change makes a path restless."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds that a restless path has to be quiet: at first, and at most."""
PATIENCE = 5
"""A restless path that is never quiet is looked at after so many times its pause."""
FLASH = 0.1
"""Seconds after which something that vanished is looked for again: many programs replace a file by deleting it."""
_RESTLESS = 10_000


@attrs.define
class Dirty:
    """What is known of one path that is to be looked at.

    Attributes:
        deep: everything below too.
        directory: it is, or was, a directory.
        source: it was renamed from there.
        absent: it was looked at once already, and nothing stood there.
        due: when to look.
        latest: when to look at last, however often it changes.
    """

    deep: bool = False
    directory: bool = False
    source: bytes = b""
    absent: bool = False
    due: float = 0.0
    latest: float = float("inf")


@attrs.frozen
class _Look:
    """When a path was looked at last, and how long it has to be quiet after its next change."""

    time: float
    pause: float


class DirtyPaths:
    """The dirty paths of one replica, in the order in which they became dirty."""

    def __init__(self) -> None:
        self._paths: dict[bytes, Dirty] = {}
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

    def hint(self, hint: Hint, now: float) -> None:
        """A watcher's CHANGED or MOVED."""
        if hint.kind is HintKind.MOVED:
            self._moved(hint, now)
        else:
            self.mark(hint.path, now, deep=hint.deep, directory=hint.directory)

    def mark(
        self, path: bytes, now: float, *, deep: bool = False, directory: bool = False, absent: bool = False
    ) -> None:
        """The path is to be looked at. `absent`: nothing stood there a moment ago."""
        dirty = self._paths.setdefault(path, Dirty())
        dirty.deep |= deep
        dirty.directory |= directory
        dirty.absent = absent
        if absent:
            dirty.due = now + FLASH
            return
        look = self._looks.get(path)
        if look is not None and now - look.time < SOON:
            dirty.latest = min(dirty.latest, now + PATIENCE * look.pause)
            dirty.due = min(now + look.pause, dirty.latest)

    def _moved(self, hint: Hint, now: float) -> None:
        """A rename. What was to be looked at at its old path was not told yet: only a chain of renames is followed."""
        before = self._paths.pop(hint.source, None)
        displaced = self._paths.pop(hint.path, None)
        if displaced is not None and displaced.source:
            self.mark(displaced.source, now, deep=displaced.directory, directory=displaced.directory)
        source = hint.source
        if before is not None:
            source = before.source
            self.mark(hint.source, now, deep=hint.directory, directory=hint.directory)
        self._paths[hint.path] = Dirty(deep=hint.directory, directory=hint.directory, source=source)

    def next_due(self) -> float:
        """When the next path is due; infinite: there is none."""
        return min((dirty.due for dirty in self._paths.values()), default=float("inf"))

    def take(self, now: float, limit: int) -> dict[bytes, Dirty]:
        """Paths that are due, in order, at most `limit`; they are remembered as looked at now."""
        due: dict[bytes, Dirty] = {}
        for path, dirty in self._paths.items():
            if dirty.due <= now:
                due[path] = dirty
                if len(due) == limit:
                    break
        for path, dirty in due.items():
            del self._paths[path]
            if not dirty.absent:
                self._looked(path, now)
        return due

    def _looked(self, path: bytes, now: float) -> None:
        before = self._looks.pop(path, None)
        restless = before is not None and now - before.time < SOON + before.pause * PATIENCE
        pause = min(2 * before.pause, LONGEST_PAUSE) if restless and before is not None else FIRST_PAUSE
        self._looks[path] = _Look(now, pause)
        if len(self._looks) > _RESTLESS:
            self._looks.popitem(last=False)
