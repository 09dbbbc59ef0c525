"""The clauses: what one run of a synchroniser may and must do, path by path.

For two replicas: S. Balasubramaniam and B. C. Pierce, "What is a File Synchronizer?" (MobiCom 1998). For any number,
with a memory: T. Jim's specification of Unison (`tjimspec.tex`, "Multiple replicas"). Users are at rest during the run.

Extended by what both lack:

- **Hidden paths.** What the rules hide on a replica is *forgetful*, never absent: there, it says nothing about the
  others, and must be left as it is.
- **The Referee's writes.** A conflict copy, or the return of an edited file that was deleted elsewhere, is the write of
  one more user, the Referee, made before the run: `Extra`. It is legal only where there is a conflict (or at a new
  name), brings only values that stand somewhere, and destroys none. With it, the clauses hold as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from .trees import Item, Kind, Tree, ancestors

ROOT = ""
_ROOT = Item(Kind.DIRECTORY)

Hidden = Callable[[str, str], bool]
"""(replica, path) → whether the rules hide the path there."""


@attrs.frozen
class Violation:
    """A clause that does not hold at a path, and why, in words."""

    clause: str
    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.clause} at {self.path or '/'}: {self.why}"


@attrs.frozen
class Extra:
    """The Referee let `item` stand at `path` of a replica (None: took away what stood there), as a user would."""

    replica: str
    path: str
    item: Item | None


@attrs.frozen
class Memory:
    """What the synchroniser remembers: what all replicas agreed on. It agrees with nothing at, and below, a path that
    is in `forgotten`."""

    tree: Tree
    forgotten: frozenset[str] = frozenset()

    def knows(self, path: str) -> bool:
        return not self.forgotten & {path, *ancestors(path), ROOT}


def at(tree: Tree, path: str) -> Item | None:
    """What stands at a path; the root is a directory."""
    return _ROOT if path == ROOT else tree.get(path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _inside(path: str, top: str) -> bool:
    return top in (ROOT, path) or path.startswith(top + "/")


def _paths(trees: Iterable[Tree]) -> list[str]:
    return [ROOT, *sorted({path for tree in trees for path in tree})]


def _words(item: Item | None) -> str:
    return item.words() if item else "nothing"


# --- two replicas ---------------------------------------------------------------------------------------------------


def two(
    old: Tree, a: Tree, b: Tree, after_a: Tree, after_b: Tree, *, dirty: Sequence[set[str]] = ()
) -> list[Violation]:
    """The clauses B1–B4 that a run from (`a`, `b`) to (`after_a`, `after_b`) breaks, where both were `old` before.

    A path is *dirty* where it, or anything below, differs from `old`; `dirty` may say more than that (update detection
    may over-report, never under-report: that is B0). For every path whose parent is a directory on both:
    B1 equal stays equal; B2 not dirty in A ⇒ B's is taken, whole; B3 the reverse; B4 a conflict is not touched.
    """
    found: list[Violation] = []
    paths = _paths((old, a, b, after_a, after_b))
    true = [_dirty(old, tree, paths) for tree in (a, b)]
    given = [set(d) for d in dirty] or true
    for name, said, is_so in zip("AB", given, true, strict=True):
        found += [Violation("B0", p, f"{name} is dirty there, and it was not detected") for p in sorted(is_so - said)]
    for path in paths:
        if path != ROOT and not all(_is_directory(at(tree, _parent(path))) for tree in (a, b)):
            continue
        below = [p for p in paths if _inside(p, path)]
        here, there = at(a, path), at(b, path)
        if here == there and (at(after_a, path) != here or at(after_b, path) != here):
            now = f"{_words(at(after_a, path))} and {_words(at(after_b, path))}"
            found.append(Violation("B1", path, f"both held {_words(here)}, and now {now}"))
        if path not in given[0]:
            found += _whole(
                "B2", path, below, b, (after_a, after_b), "A had not changed, so B's change was due on both"
            )
        if path not in given[1]:
            found += _whole(
                "B3", path, below, a, (after_a, after_b), "B had not changed, so A's change was due on both"
            )
        if path in given[0] and path in given[1] and here != there:
            why = "a conflict, and it was touched"
            found += _whole("B4", path, below, a, (after_a,), why) + _whole("B4", path, below, b, (after_b,), why)
    return list(dict.fromkeys(found))


def _is_directory(item: Item | None) -> bool:
    return item is not None and item.kind is Kind.DIRECTORY


def _dirty(old: Tree, now: Tree, paths: Iterable[str]) -> set[str]:
    changed = {path for path in paths if at(old, path) != at(now, path)}
    return changed | {above for path in changed for above in (*ancestors(path), ROOT)}


def _whole(
    clause: str, path: str, below: Iterable[str], source: Tree, targets: Sequence[Tree], why: str
) -> list[Violation]:
    """Every path below stands on the targets as on the source."""
    wrong = [p for p in below for tree in targets if at(tree, p) != at(source, p)]
    if not wrong:
        return []
    return [Violation(clause, path, f"{why}: {', '.join(dict.fromkeys(p or '/' for p in wrong))}")]


# --- any number of replicas -----------------------------------------------------------------------------------------


def many(
    memory: Memory,
    before: Mapping[str, Tree],
    after_memory: Memory,
    after: Mapping[str, Tree],
    *,
    hidden: Hidden = lambda replica, path: False,
    failed: frozenset[str] = frozenset(),
    extras: Sequence[Extra] = (),
) -> list[Violation]:
    """The clauses J1–J4 that a run breaks, with J0 (hidden paths) and J5 (the Referee's own writes).

    J1 memory changes only to what all agree on; J2 a replica changes only to what it is to converge to; J3 where all
    are to converge to one, they do; J4 what all agree on is remembered. J3 and J4 do not hold at `failed` paths.
    """
    run = _Run(memory, before, after_memory, after, hidden)
    found = list(run.extras(extras))
    run.before = run.with_extras(extras)
    for path in run.paths:
        found += [*run.memory_changed(path), *run.replicas_changed(path), *run.untouched(path)]
        if path not in failed:
            found += [*run.converged(path), *run.remembered(path)]
    return found


@attrs.define
class _Run:
    memory: Memory
    before: Mapping[str, Tree]
    after_memory: Memory
    after: Mapping[str, Tree]
    hidden: Hidden
    paths: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.paths = _paths((self.memory.tree, *self.before.values(), self.after_memory.tree, *self.after.values()))

    # A ~p B, A ~⟨p⟩ B, M ≈p A, M ≈⟨p⟩ A

    def _around(self, path: str) -> list[str]:
        """Every prefix and every extension of a path."""
        return [p for p in self.paths if _inside(p, path) or _inside(path, p)]

    def _agree(self, a: tuple[str, Tree], b: tuple[str, Tree], path: str) -> bool:
        seen = [p for p in self._around(path) if not self.hidden(a[0], p) and not self.hidden(b[0], p)]
        return all(at(a[1], p) == at(b[1], p) for p in seen)

    def _unchanged(self, replica: str, path: str) -> bool:
        """M ≈⟨p⟩ A: the replica is as the memory knows it, at every prefix and extension."""
        seen = [p for p in self._around(path) if not self.hidden(replica, p)]
        return all(self.memory.knows(p) and at(self.memory.tree, p) == at(self.before[replica], p) for p in seen)

    def _takes_part(self, path: str) -> list[str]:
        return [replica for replica in self.before if not self.hidden(replica, path)]

    def target(self, path: str) -> str | None:
        """A replica that all are to converge to at a path: M ⇒(A,p) R. None: there is none."""
        taking_part = self._takes_part(path)
        for replica in taking_part:
            tree = self.before[replica]
            if self.memory.knows(path) and at(self.memory.tree, path) == at(tree, path):
                continue
            others = [other for other in taking_part if other != replica]
            if all(self._unchanged(o, path) or self._agree((o, self.before[o]), (replica, tree), path) for o in others):
                return replica
        return None

    def conflict(self, path: str) -> bool:
        """Whether the replicas differ around a path, and none is what all are to converge to."""
        values = {at(self.before[replica], path) for replica in self._takes_part(path)}
        return len(values) > 1 and self.target(path) is None

    # The clauses

    def memory_changed(self, path: str) -> Iterator[Violation]:
        now = at(self.after_memory.tree, path)
        if not self.after_memory.knows(path) or (self.memory.knows(path) and at(self.memory.tree, path) == now):
            return
        differing = [r for r in self._takes_part(path) if at(self.after[r], path) != now]
        if differing:
            yield Violation("J1", path, f"the memory now says {_words(now)}, and {', '.join(differing)} does not")

    def replicas_changed(self, path: str) -> Iterator[Violation]:
        for replica in self._takes_part(path):
            was, now = at(self.before[replica], path), at(self.after[replica], path)
            if was == now:
                continue
            target = self.target(path)
            if target is None:
                yield Violation("J2", path, f"{replica} changed from {_words(was)} to {_words(now)} in a conflict")
            elif at(self.before[target], path) != now:
                due = _words(at(self.before[target], path))
                yield Violation("J2", path, f"{replica} was to hold {due} of {target}, and holds {_words(now)}")

    def converged(self, path: str) -> Iterator[Violation]:
        target = self.target(path)
        shown = {replica: at(self.after[replica], path) for replica in self._takes_part(path)}
        if target is not None and len(set(shown.values())) > 1:
            words = ", ".join(f"{replica} {_words(item)}" for replica, item in shown.items())
            yield Violation("J3", path, f"all were to converge to {target}, and hold: {words}")

    def remembered(self, path: str) -> Iterator[Violation]:
        shown = {at(self.after[replica], path) for replica in self._takes_part(path)}
        if len(shown) != 1:
            return
        (item,) = shown
        if not self.after_memory.knows(path) or at(self.after_memory.tree, path) != item:
            yield Violation("J4", path, f"all hold {_words(item)}, and the memory does not say so")

    def untouched(self, path: str) -> Iterator[Violation]:
        for replica, tree in self.before.items():
            if self.hidden(replica, path) and at(tree, path) != at(self.after[replica], path):
                yield Violation("J0", path, f"it is hidden on {replica}, and it was touched")

    # The Referee's writes

    def with_extras(self, extras: Sequence[Extra]) -> Mapping[str, Tree]:
        trees = {replica: dict(tree) for replica, tree in self.before.items()}
        for extra in extras:
            if extra.item is None:
                trees[extra.replica].pop(extra.path, None)
            else:
                trees[extra.replica][extra.path] = extra.item
        return trees

    def extras(self, extras: Sequence[Extra]) -> Iterator[Violation]:
        values = {item.value for tree in self.before.values() for item in tree.values()}
        written = self.with_extras(extras)
        for extra in extras:
            new = all(at(tree, extra.path) is None for tree in (self.memory.tree, *self.before.values()))
            if not new and not any(self.conflict(p) for p in (extra.path, *ancestors(extra.path))):
                yield Violation("J5", extra.path, "the Referee wrote where there is no conflict")
            if extra.item is not None and extra.item.value not in values and extra.item.kind is not Kind.DIRECTORY:
                yield Violation("J5", extra.path, f"the Referee wrote {extra.item.value}, which nobody had")
            old = at(self.before[extra.replica], extra.path)
            kept = {item.value for item in written[extra.replica].values()}
            if old is not None and old.value is not None and old.value not in kept:
                yield Violation("J5", extra.path, f"the Referee destroyed {old.value} of {extra.replica}")
