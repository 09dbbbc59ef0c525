"""When dirty paths are looked at."""

from __future__ import annotations

from onitu.plug.dirty import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE, DirtyPaths
from onitu.plug.driver import Hint, HintKind


def moved(source: bytes, path: bytes, directory: bool = False) -> Hint:
    return Hint(HintKind.MOVED, path, source, directory=directory)


def test_the_first_change_is_due_at_once_and_hints_of_one_path_are_one() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0)
    dirty.mark(b"b", 0.0)
    dirty.mark(b"a", 0.0, deep=True)
    due = dirty.take(0.0, 10)
    assert list(due) == [b"a", b"b"]
    assert due[b"a"].deep
    assert len(dirty) == 0


def test_a_path_that_changes_again_has_to_be_quiet_for_longer_each_time() -> None:
    dirty = DirtyPaths()
    now, pauses = 100.0, []
    for _ in range(9):
        dirty.mark(b"log", now)
        due = max(dirty.next_due(), now)
        pauses.append(round(due - now, 3))
        now = due
        assert dirty.take(now, 10)
    assert pauses[:4] == [0.0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert max(pauses) == LONGEST_PAUSE


def test_a_path_that_is_never_quiet_is_looked_at_all_the_same() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"log", 0.0)
    dirty.take(0.0, 10)
    now = 0.0
    while not dirty.take(now, 10):
        dirty.mark(b"log", now)
        now += FIRST_PAUSE / 4
        assert now < 1.0
    assert now <= (PATIENCE + 1) * FIRST_PAUSE


def test_a_path_that_rested_is_due_at_once_again() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0)
    dirty.take(0.0, 10)
    dirty.mark(b"a", 60.0)
    assert dirty.take(60.0, 10)


def test_what_vanished_is_looked_for_a_second_time_a_little_later() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0, absent=True)
    assert not dirty.take(0.0, 10)
    assert dirty.take(dirty.next_due(), 10)[b"a"].absent


def test_a_chain_of_renames_is_one() -> None:
    dirty = DirtyPaths()
    dirty.hint(moved(b"a", b"b"), 0.0)
    dirty.hint(moved(b"b", b"c"), 0.0)
    due = dirty.take(0.0, 10)
    assert due[b"c"].source == b"a"
    assert due[b"b"].source == b""


def test_a_rename_of_what_was_not_looked_at_yet_is_two_changes() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0)
    dirty.hint(moved(b"a", b"b"), 0.0)
    due = dirty.take(0.0, 10)
    assert {path: d.source for path, d in due.items()} == {b"a": b"", b"b": b""}
