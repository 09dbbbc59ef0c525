"""The book of values: what a history implies for each of them. Pure book-keeping for `promises.judge`.

A deed *counts* where others may hear of it: its replica may be read, and the rules do not hide its path there. A value
of which no deed counts is *private* to the replica on which it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from .history import Deed, Delete, Forget, History, Look, Rename, Rest, Touch, Value, Write
from .trees import ancestors

Shared = Callable[[str, str, Value | None], bool]
"""(replica, path, value) → whether others may hear of what stands there."""


@attrs.define
class Life:
    """What became of one value by its users' deeds.

    Attributes:
        births: where it was written.
        homes: (replica, path) where users last let it stand, as far as no one destroyed it there.
        renames: who gave it another name.
        ends: deeds that knowingly destroyed it, and that count.
        merged: somebody renamed it over a copy of itself, that is, destroyed one of two that are not told apart.
    """

    births: list[Write] = attrs.field(factory=list)
    homes: set[tuple[str, str]] = attrs.field(factory=set)
    renames: list[Rename] = attrs.field(factory=list)
    ends: list[Deed] = attrs.field(factory=list)
    merged: bool = False


class Book:
    """The lives of all values of a history.

    `owns`: for each replica, what stands there by its own users' deeds alone, for those that nobody else may write.
    """

    def __init__(self, history: History, shared: Shared) -> None:
        self.deeds = list(history)
        self.shared = shared
        self.lives: dict[Value, Life] = {}
        self.owns: dict[str, dict[str, Value]] = {}
        self.changes: list[tuple[int, Deed]] = []
        self._era: dict[int, int] = {}
        self._number: dict[int, int] = {}
        self.forgotten: set[int] = set()
        era = 0
        for number, deed in enumerate(self.deeds):
            era += isinstance(deed, Rest)
            self._era[id(deed)], self._number[id(deed)] = era, number
            if isinstance(deed, Forget):
                self.forgotten.add(era)
            self._enter(deed)
            if deed.paths and not isinstance(deed, Touch):
                self.changes.append((era, deed))

    def life(self, value: Value) -> Life:
        return self.lives.get(value) or Life()

    def era(self, deed: Deed) -> int:
        """How many rests came before."""
        return self._era[id(deed)]

    def before(self, a: Deed, b: Deed) -> bool:
        return self._number[id(a)] < self._number[id(b)]

    def written(self, value: Value) -> bool:
        return bool(self.life(value).births)

    def alive(self, value: Value) -> bool:
        """Whether it must stand somewhere: it was written, and nobody who saw it destroyed it."""
        life = self.life(value)
        if life.merged or (len(life.births) == 1 and life.ends):
            return False  # in whatever order two users' deeds were recorded
        return bool(life.homes)

    # Entering deeds

    def _enter(self, deed: Deed) -> None:
        own = self.owns.setdefault(deed.replica, {})
        if deed.destroyed is not None:
            self._end(deed, *deed.destroyed)
        if isinstance(deed, Write):
            own[deed.path] = deed.value
            life = self.lives.setdefault(deed.value, Life())
            life.births.append(deed)
            life.homes.add((deed.replica, deed.path))
        elif isinstance(deed, Delete):
            own.pop(deed.path, None)
        elif isinstance(deed, Rename):
            own.pop(deed.source, None)
            if deed.value is not None:
                own[deed.target] = deed.value
                self._rename(deed, self.lives.setdefault(deed.value, Life()))

    def _rename(self, deed: Rename, life: Life) -> None:
        life.renames.append(deed)
        life.merged = life.merged or deed.replaced == deed.value
        left = {home for home in life.homes if home[1] != deed.source}
        if left == life.homes:  # it stood under a name that the synchroniser gave it
            left = set()
        life.homes = {*left, (deed.replica, deed.target)}

    def _end(self, deed: Deed, path: str, value: Value) -> None:
        life = self.lives.setdefault(value, Life())
        if self.shared(deed.replica, path, value):
            life.ends.append(deed)
            left = {home for home in life.homes if home[1] != path}
            life.homes = left if left != life.homes else set()
        else:
            life.homes -= {home for home in life.homes if home[0] == deed.replica and not self.shared(*home, value)}

    # Who knew of what

    def together(self, a: Deed, b: Deed) -> bool:
        """Whether no rest stands between two deeds, so that one may not have known of the other."""
        return self.era(a) == self.era(b)

    def open_end(self, value: Value, end: Deed) -> bool:
        """Whether somebody gave the value a name or wrote it again without knowing of its end, or after it."""
        path = end.destroyed[0] if end.destroyed else ""
        life = self.life(value)
        naming = [deed for deed in (*life.births, *life.renames) if self.before(deed, end)]
        own = any(deed.replica == end.replica and deed.paths[-1] == path for deed in naming)
        for deed in (*life.births[1:], *life.renames):
            if not self.before(deed, end):
                return True
            # Whoever found it at that name, without having put it there, knew of the one who had.
            knew = deed.replica == end.replica or (deed.paths[-1] == path and not own)
            if self.together(deed, end) and not knew:
                return True
        return False

    def rivals(self, value: Value, end: Deed) -> Iterator[Deed]:
        """What others did at the same place without knowing of the value, so that it may have become a copy."""
        births = self.life(value).births
        places = {deed.path for deed in births} | {end.destroyed[0] if end.destroyed else ""}
        for _, deed in self.changes:
            if deed is end or deed in births or isinstance(deed, Look):
                continue
            near = any(_touch(path, place) for path in deed.paths for place in places)
            if near and any(self.together(deed, known) for known in (end, *births)):
                yield deed


def _touch(a: str, b: str) -> bool:
    """Whether two paths are one, or one is above the other."""
    return a == b or a in ancestors(b) or b in ancestors(a)
