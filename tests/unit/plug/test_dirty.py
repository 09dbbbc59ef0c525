"""When dirty paths are looked at."""

from __future__ import annotations

import itertools

import pytest

from onitu.plug.dirty import FIRST_PAUSE, FLASH, LONGEST_PAUSE, PATIENCE, PAUSE, QUICK, DirtyPaths
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


def test_saves_of_one_file_are_looked_at_at_once_a_few_times_in_a_row() -> None:
    dirty = DirtyPaths()
    for number in range(int(QUICK)):
        now = 100 + 0.2 * number
        dirty.mark(b"a", now)
        assert dirty.take(now, 10)


def test_a_path_that_goes_on_changing_is_looked_at_each_half_second() -> None:
    dirty = DirtyPaths()
    now, looks = 100.0, []
    while now < 160:
        dirty.mark(b"log", now)
        if dirty.take(now, 10):
            looks.append(now)
        now += 0.01
    assert len(looks) == pytest.approx(60 / PAUSE + QUICK, abs=3)
    assert all(PAUSE - 0.02 < b - a < PAUSE + 0.02 for a, b in itertools.pairwise(looks[20:]))


def test_a_large_file_that_goes_on_changing_is_looked_at_less_often() -> None:
    dirty = DirtyPaths()
    now, looks = 100.0, 0
    while now < 160:
        dirty.mark(b"data base", now)
        if dirty.take(now, 10):
            dirty.weigh(b"data base", 1 << 30)
            looks += 1
        now += 0.01
    assert looks == pytest.approx(60 / (PAUSE * QUICK), abs=2)


def test_a_file_that_is_held_open_has_to_be_quiet_for_longer_each_time() -> None:
    dirty = DirtyPaths()
    now, pauses = 100.0, []
    for _ in range(9):
        dirty.mark(b"log", now, writing=True)
        due = max(dirty.next_due(), now)
        pauses.append(round(due - now, 3))
        now = due
        assert dirty.take(now, 10)
    assert pauses[:4] == [0.0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert max(pauses) == LONGEST_PAUSE


def test_a_file_that_is_held_open_and_never_quiet_is_looked_at_all_the_same() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"log", 0.0, writing=True)
    dirty.take(0.0, 10)
    now = 0.0
    while not dirty.take(now, 10):
        dirty.mark(b"log", now, writing=True)
        now += FIRST_PAUSE / 4
        assert now < 1.0
    assert now <= (PATIENCE + 1) * FIRST_PAUSE


def test_a_file_that_was_held_open_is_looked_at_as_soon_as_it_is_closed() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0, writing=True)
    assert dirty.take(0.0, 10)
    dirty.mark(b"a", 0.01, writing=True)
    assert not dirty.take(0.01, 10)
    dirty.mark(b"a", 0.02)
    assert dirty.take(0.02, 10)


def test_a_path_that_rested_is_due_at_once_again() -> None:
    dirty = DirtyPaths()
    for number in range(20):
        dirty.mark(b"a", number / 100)
        dirty.take(number / 100, 10)
    dirty.mark(b"a", 60.0)
    assert dirty.take(60.0, 10)


def test_what_vanished_is_looked_for_a_second_time_a_little_later() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0, absent=True)
    assert not dirty.take(0.0, 10)
    assert dirty.take(dirty.next_due(), 10)[b"a"].absent


def test_what_vanished_and_stands_again_is_looked_at_at_once() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0, absent=True)
    dirty.mark(b"a", 0.01)
    assert not dirty.take(0.01, 10)[b"a"].absent


def test_a_chain_of_renames_is_one() -> None:
    dirty = DirtyPaths()
    dirty.hint(moved(b"a", b"b"), 0.0)
    dirty.hint(moved(b"b", b"c"), 0.0)
    due = dirty.take(FLASH, 10)
    assert due[b"c"].source == b"a"
    assert due[b"b"].source == b""


def test_where_a_file_and_a_directory_changed_places_all_below_either_name_is_looked_at() -> None:
    dirty = DirtyPaths()
    dirty.hint(moved(b"d", b"f", directory=True), 0.0)
    dirty.hint(moved(b"f", b"d"), 0.0)
    due = dirty.take(FLASH, 10)
    assert due[b"f"].deep
    assert due[b"f"].directory
    assert due[b"d"].directory
    dirty.hint(moved(b"f", b"d", directory=True), 1.0)  # and back
    dirty.hint(moved(b"d", b"f"), 1.0)
    due = dirty.take(1.0 + FLASH, 10)
    assert due[b"d"].deep
    assert due[b"f"].directory, "what was told to be in it while it was one is to be told gone"


def test_what_is_in_a_directory_that_is_to_be_looked_into_follows_it() -> None:
    dirty = DirtyPaths()
    dirty.hint(moved(b"a", b"b"), 0.0)
    dirty.hint(moved(b"b", b"d"), 0.0)
    dirty.mark(b"d", 0.0, deep=True, absent=True)
    dirty.mark(b"d/e/f", 0.0)
    assert list(dirty.take(0.0, 10)) == []
    assert dirty.next_due() == FLASH
    assert list(dirty.take(FLASH, 10)) == [b"b", b"d"]
    assert list(dirty.take(FLASH, 10)) == [b"d/e/f"]


def test_a_renamed_file_is_told_a_little_later_and_what_takes_its_name_at_once() -> None:
    dirty = DirtyPaths()
    dirty.hint(moved(b"a", b"a~"), 0.0)
    dirty.mark(b"a", 0.01)
    assert set(dirty.take(0.01, 10)) == {b"a"}
    assert dirty.take(FLASH, 10)[b"a~"].source == b"a"


def test_what_was_written_beside_a_file_and_renamed_over_it_is_looked_at_at_once_every_time() -> None:
    dirty = DirtyPaths()
    for now in (0.0, 5.0, 10.0):
        dirty.mark(b".a.new", now)
        assert dirty.take(now, 10)
        dirty.hint(moved(b".a.new", b"a"), now + 0.01)
        assert dirty.take(now + 0.01, 10)[b"a"].source == b".a.new"


def test_a_file_beside_that_is_renamed_before_anybody_looks_now_and_then_stays_a_new_one() -> None:
    dirty = DirtyPaths()
    for n in range(20):
        now = n * 0.6
        dirty.mark(b".a.new", now)
        if n % 3:
            assert dirty.take(now, 10)
        dirty.hint(moved(b".a.new", b"a"), now + 0.01)
        assert b"a" in dirty.take(now + 0.01, 10), n
        dirty.take(now + 0.3, 10)


def test_a_file_that_is_saved_again_and_again_never_loses_its_name_at_once() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0)
    dirty.take(0.0, 10)
    for now in (5.0, 5.3, 5.6):
        dirty.hint(moved(b"a", b"a~"), now)
        dirty.mark(b"a", now + 0.01)
        assert set(dirty.take(now + 0.01, 10)) == {b"a"}
        dirty.take(now + FLASH, 10)


def test_a_renamed_directory_is_told_at_once() -> None:
    dirty = DirtyPaths()
    dirty.hint(moved(b"a", b"b", directory=True), 0.0)
    assert dirty.take(0.0, 10)[b"b"].source == b"a"


def test_a_rename_of_what_was_not_looked_at_yet_is_two_changes() -> None:
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0)
    dirty.hint(moved(b"a", b"b"), 0.0)
    assert {path: d.source for path, d in dirty.take(0.0, 10).items()} == {b"b": b""}
    assert {path: d.source for path, d in dirty.take(FLASH, 10).items()} == {b"a": b""}


def test_a_rename_of_what_was_told_while_it_was_still_to_be_looked_at_is_one() -> None:
    """As of what an order has put there a moment before: its echo is all that there was to look at."""
    dirty = DirtyPaths()
    dirty.mark(b"a", 0.0)
    dirty.hint(moved(b"a", b"b"), 0.0, told=True)
    dirty.hint(moved(b"b", b"c"), 0.0, told=True)
    due = dirty.take(FLASH, 10)
    assert due[b"c"].source == b"a"
    assert due[b"b"].source == b""
    assert len(dirty) == 0
