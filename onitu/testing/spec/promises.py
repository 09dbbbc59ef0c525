"""The cheap oracle: from what users did and what stands at rest it decides S1–S6, and says by whose doing.

It needs no hook in the synchroniser and no model of what it does, only users who know what they replaced. So it can be
asked in every test, and of every synchroniser. It accuses nobody wrongly: where a history does not tell whether two
deeds knew of each other, they count as concurrent.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from .book import Book
from .history import Deed, Forget, History, Look, RemoveDirectory, Rename, Value, Write
from .trees import Item, Kind, Tree, ancestors
from .verdicts import PROMISES, Finding, Verdict

Admits: TypeAlias = Callable[[str, str, Value | None], bool]
"""(replica, path, value) → whether the rules let the replica hold it there; the value None: a directory."""

TEMPORARY = ("*.tmp", ".*.tmp", "*.part", "*.partial", ".~*", "*.swp")
"""Names of temporary files. One that no user gave is a ghost even if its content is whole."""


def judge(
    history: History,
    trees: Mapping[str, Tree],
    *,
    admits: Admits | None = None,
    modes: Mapping[str, str] | None = None,
    settled: bool = True,
    directories: bool = True,
    later: Mapping[str, Tree] | None = None,
    stood: Mapping[str, Tree] | None = None,
) -> Verdict:
    """Hold what stands on the replicas against what users did.

    Args:
        history: every deed of every user, with what they found in place of it. What stood before the run are deeds too.
        trees: what stands on each replica, as `read_tree` tells.
        admits: which replica may hold what; None: all hold everything.
        modes: `r`, `w` or `rw` for each replica; `rw` where it says nothing.
        settled: whether all is quiet. If not, only S3 and S5 are asked.
        directories: whether S4 speaks of empty directories too, which carry no value.
        later: the trees at a later moment of the same quiet; they must be the same (S2).
        stood: what stood on the replicas when the rules became what they are; it may stay where it is hidden now.
    """
    case = _Case(history, trees, admits or (lambda *_: True), modes or {}, stood or {})
    return Verdict(
        lost=tuple(case.lost()) if settled else (),
        diverged=(*case.diverged(), *case.moved(later or trees)) if settled else (),
        ghosts=tuple(case.ghosts()),
        resurrected=(*case.resurrected(), *(case.resurrected_directories() if directories else ())) if settled else (),
        misplaced=(*case.misplaced(), *case.written_to()),
    )


class _Case:
    """One run that is judged."""

    def __init__(
        self,
        history: History,
        trees: Mapping[str, Tree],
        admits: Admits,
        modes: Mapping[str, str],
        stood: Mapping[str, Tree],
    ) -> None:
        self.trees, self.admits, self.stood = trees, admits, stood
        self.modes = {replica: modes.get(replica, "rw") for replica in trees}
        self.history = history
        self.book = Book(history, self.shared)
        self.places: dict[Value, list[tuple[str, str]]] = {}
        for replica, tree in trees.items():
            for path, item in tree.items():
                if item.value is not None:
                    self.places.setdefault(item.value, []).append((replica, path))

    def shared(self, replica: str, path: str, value: Value | None) -> bool:
        """Whether others may hear of what stands there (S5)."""
        return "r" in self.modes.get(replica, "rw") and self.admits(replica, path, value)

    def _writable(self) -> list[str]:
        return [replica for replica, mode in self.modes.items() if "w" in mode]

    def _private(self, value: Value) -> bool:
        """Whether no deed about the value may have been heard of by others."""
        life = self.book.life(value)
        named = [(deed.replica, deed.paths[-1]) for deed in (*life.births, *life.renames)]
        return bool(named) and not any(self.shared(*home, value) for home in named)

    # S1, S6

    def lost(self) -> Iterator[Finding]:
        for value, life in self.book.lives.items():
            if not life.births or not self.book.alive(value):
                continue
            places = self.places.get(value, [])
            wanted = [path for replica, path in places if self.shared(replica, path, value)]
            if not wanted:
                wanted = [path for replica, path in life.homes if self.shared(replica, path, value)]
            missing = [
                replica
                for replica in self._writable()
                if not any(at == replica for at, _ in places) and any(self.admits(replica, p, value) for p in wanted)
            ]
            own = {replica for replica, path in life.homes if not self.shared(replica, path, value)}
            missing += [r for r in own if r in self.trees and not any(at == r for at, _ in places)]
            for replica in dict.fromkeys(missing):
                yield self._loss(replica, value, sorted(life.homes)[0][1], places)

    def _loss(self, replica: str, value: Value, path: str, places: list[tuple[str, str]]) -> Finding:
        promise = "S6" if any(isinstance(deed, Forget) for deed in self.history) else "S1"
        story = [f"{deed.words()} at {deed.at:g}" for deed in self.history.of(value)]
        why = [f"{value} is lost: {'; '.join(story)}; nobody who had seen it replaced or deleted it"]
        if places:
            why.append("it stands on " + ", ".join(f"{r} at {p}" for r, p in places[:4]))
        else:
            why.append("it stands nowhere")
        item = self.trees[replica].get(path)
        if item is None:
            why.append(f"at {path} on {replica} nothing stands: {self._blame(path, value)}")
        elif item.value is None:
            why.append(f"at {path} on {replica} a directory stands")
        else:
            births = self.book.life(item.value).births
            by = f", {births[-1].words()} at {births[-1].at:g} by one who had not seen it" if births else ", by nobody"
            why.append(f"at {path} on {replica} {item.value} stands{by}: the synchroniser let it take the place")
        return Finding(promise, replica, path, value, "; ".join(why))

    def _blame(self, path: str, value: Value) -> str:
        """Who took something else away from a path, so that the synchroniser may have taken this value with it."""
        for deed in reversed(self.book.deeds):
            source = isinstance(deed, Rename) and deed.source == path
            if (source or (deed.destroyed and deed.destroyed[0] == path)) and value not in (deed.destroyed or ()):
                return f"{deed.words()} at {deed.at:g}, and the synchroniser deleted more than that"
        return "no user took anything away there"

    # S2

    def diverged(self) -> Iterator[Finding]:
        """What others may hear of on one replica stands equally on every other that may hold it."""
        for replica, tree in self.trees.items():
            for other in self._writable():
                if other == replica or "w" not in self.modes[replica]:
                    continue
                for path, item in tree.items():
                    if not self.shared(replica, path, item.value) or not self.admits(other, path, item.value):
                        continue
                    there = self.trees[other].get(path)
                    if there is None and item.kind is Kind.DIRECTORY and self._keeps_private(replica, path):
                        continue
                    if there != item and not self._hides(other, path, there):
                        words = there.words() if there else "nothing"
                        why = f"{replica} holds {item.words()}, {other} holds {words}"
                        if there and there.value == item.value:
                            why = f"{replica} holds {item}, {other} holds {there}"
                        yield Finding("S2", other, path, item.value, why)

    def _keeps_private(self, replica: str, path: str) -> bool:
        """Whether a directory stands only because something is in it that nobody else may hear of."""
        below = [(at, item) for at, item in self.trees[replica].items() if at.startswith(path + "/")]
        return any(not self.shared(replica, at, item.value) for at, item in below)

    def _hides(self, replica: str, path: str, item: Item | None) -> bool:
        return item is not None and not self.admits(replica, path, item.value)

    def moved(self, later: Mapping[str, Tree]) -> Iterator[Finding]:
        for replica, tree in self.trees.items():
            after = later.get(replica, {})
            for path in sorted(tree.keys() | after.keys()):
                if tree.get(path) != after.get(path):
                    was, now = tree.get(path), after.get(path)
                    why = f"it moved although all was quiet: {was and was.words()} became {now and now.words()}"
                    yield Finding("S2", replica, path, was.value if was else None, why)

    # S3

    def ghosts(self) -> Iterator[Finding]:
        named = {path for deed in self.history for path in deed.paths}
        given = named | {above for path in named for above in ancestors(path)}
        for replica, tree in self.trees.items():
            needed = {above for path in tree for above in ancestors(path)}
            for path, item in tree.items():
                if item.kind is Kind.DIRECTORY:
                    if path not in given and path not in needed:
                        yield Finding("S3", replica, path, None, "a directory that nobody made")
                elif item.value is None or not self.book.written(item.value):
                    parts = " and ".join(item.parts)
                    why = f"torn: it is made of {parts} and whole none of it" if parts else "nobody wrote this content"
                    yield Finding("S3", replica, path, item.value, f"{item.value}: {why}")
                elif path not in named and any(fnmatch.fnmatch(path.rpartition("/")[2], p) for p in TEMPORARY):
                    yield Finding("S3", replica, path, item.value, f"a temporary file is in sight, with {item.value}")
        yield from self._ghosts_seen()

    def _ghosts_seen(self) -> Iterator[Finding]:
        """What users found on their way is told as well, though it may be gone by now."""
        for deed in self.history:
            seen = deed.destroyed[1] if deed.destroyed else deed.value if isinstance(deed, Look) else None
            if seen is None and isinstance(deed, Rename):
                seen = deed.value
            if seen is not None and not self.book.written(seen):
                path = deed.path if isinstance(deed, Look) else deed.paths[-1]
                yield Finding("S3", deed.replica, path, seen, f"{deed.words()} at {deed.at:g}, and nobody wrote it")

    # S4

    def resurrected(self) -> Iterator[Finding]:
        for value, places in self.places.items():
            if self.book.alive(value):
                continue
            for end in self.book.life(value).ends:
                if self._may_be_undone(value, end):
                    continue
                for replica, path in places:
                    if self._stays(replica, path, value) or self._copied(value, end, path):
                        continue
                    why = f"{value} stands again, or still: {end.words()} at {end.at:g}, knowingly, and nobody "
                    yield Finding("S4", replica, path, value, why + "concurrently gave it a name or wrote it")
                break

    def _may_be_undone(self, value: Value, end: Deed) -> bool:
        """Forgotten (S6), concurrently renamed or written again, or replaced by what the rules hide."""
        hidden = isinstance(end, Write | Rename) and not self.shared(end.replica, end.paths[-1], end.value)
        return hidden or self.book.era(end) in self.book.forgotten or self.book.open_end(value, end)

    def _stays(self, replica: str, path: str, value: Value | None) -> bool:
        """A replica that is never written keeps its own; what is hidden is never touched."""
        return "w" not in self.modes[replica] or not self.admits(replica, path, value)

    def _copied(self, value: Value, end: Deed, path: str) -> bool:
        """It had a rival, and became a conflict copy before its end was heard of."""
        elsewhere = end.destroyed is not None and path != end.destroyed[0]
        return elsewhere and any(True for _ in self.book.rivals(value, end))

    def resurrected_directories(self) -> Iterator[Finding]:
        for number, end in enumerate(self.book.deeds):
            if not isinstance(end, RemoveDirectory) or self.book.era(end) in self.book.forgotten:
                continue
            if not self.shared(end.replica, end.path, None) or self._used(number, end):
                continue
            for replica, tree in self.trees.items():
                item = tree.get(end.path)
                below = any(path.startswith(end.path + "/") for path in tree)
                if item and item.kind is Kind.DIRECTORY and not below and not self._stays(replica, end.path, None):
                    yield Finding("S4", replica, end.path, None, f"{end.words()} at {end.at:g}, and it stands again")

    def _used(self, number: int, end: RemoveDirectory) -> bool:
        """Whether the directory was wanted after its removal, or by others at the same time."""
        for other, deed in enumerate(self.book.deeds):
            near = any(path == end.path or path.startswith(end.path + "/") for path in deed.paths)
            if near and (other > number or (deed.replica != end.replica and self.book.together(deed, end))):
                return True
        return False

    # S5

    def misplaced(self) -> Iterator[Finding]:
        """What stands where the rules do not want it, or came from where nothing may come from."""
        for replica, tree in self.trees.items():
            own = self.book.owns.get(replica, {})
            for path, item in tree.items():
                if item.value is None or own.get(path) == item.value or not self.book.written(item.value):
                    continue
                life = self.book.life(item.value)
                if not self.admits(replica, path, item.value) and self.stood.get(replica, {}).get(path) != item:
                    yield Finding(
                        "S5", replica, path, item.value, f"the rules hide {path} on {replica}, and it is there"
                    )
                elif self._private(item.value) and all(birth.replica != replica for birth in life.births):
                    why = f"{life.births[0].words()}, which nobody else may hear of, stands on {replica}"
                    yield Finding("S5", replica, path, item.value, why)

    def written_to(self) -> Iterator[Finding]:
        """A replica without `w` holds what its own users put there, and nothing else."""
        for replica in self.trees.keys() - set(self._writable()):
            own, tree = self.book.owns.get(replica, {}), self.trees[replica]
            there = {path: item.value for path, item in tree.items() if item.value is not None}
            for path in sorted(own.keys() | there.keys()):
                if own.get(path) != there.get(path):
                    why = f"{replica} may not be written: its users left {own.get(path)}, and {there.get(path)} stands"
                    yield Finding("S5", replica, path, there.get(path), why)
            made = {path for deed in self.book.deeds if deed.replica == replica for path in deed.paths}
            made |= {above for path in made for above in ancestors(path)}
            for path, item in tree.items():
                if item.kind is Kind.DIRECTORY and path not in made:
                    yield Finding("S5", replica, path, None, f"{replica} may not be written: directory {path} was made")


__all__ = ["PROMISES", "Admits", "Finding", "Verdict", "judge"]
