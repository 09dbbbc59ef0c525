"""What was told lately, laid over the rows of an Index."""

from __future__ import annotations

from typing import Any

import pytest

from onitu.model.events import Event, Seen, Trouble
from onitu.model.versions import NOTHING, Kind, Version
from onitu.plug.driver import Capabilities, Entry
from onitu.plug.told import Told, agrees
from onitu.wire.messages import Known

FILE = Version(Kind.FILE, 1)
SECOND = 1_000_000_000


NOW = 1_600_000_000_123_456_789
KNOWN = Version(Kind.FILE, 1, {"blake3": b"1"}, NOW, 0o640)


@pytest.mark.parametrize(
    ("able", "seen", "told"),
    [
        ({}, (NOW + 1, 0o600), (NOW + 1, 0o600)),
        ({"mtimes": SECOND}, (NOW // SECOND * SECOND, 0o640), (NOW, 0o640)),
        ({"mtimes": SECOND}, ((NOW // SECOND + 1) * SECOND, 0o600), ((NOW // SECOND + 1) * SECOND, 0o600)),
        ({"mtimes": 0}, (NOW + 99 * SECOND, 0o640), (NOW, 0o640)),
        ({"modes": False}, (NOW, 0o666), (NOW, 0o640)),
        ({}, (NOW, 0), (NOW, 0o640)),
    ],
)
def test_what_a_service_cannot_tell_is_told_as_it_is_known(
    able: dict[str, Any], seen: tuple[int, int], told: tuple[int, int]
) -> None:
    version = Capabilities(**able).as_known(Version(Kind.FILE, 1, {"blake3": b"1"}, *seen), KNOWN)
    assert (version.mtime, version.mode) == told
    edited = Version(Kind.FILE, 1, {"blake3": b"2"}, *seen)
    assert Capabilities(**able).as_known(edited, KNOWN) == edited


def row(path: bytes, token: bytes) -> Known:
    return Known(path, token, FILE)


def test_what_was_told_after_the_answer_wins() -> None:
    told = Told()
    told.note(Event(Seen.GONE, b"d/a"), 1)
    told.note(Event(Seen.STANDS, b"d/b", FILE, b"new"), 2)
    known = told.overlay(b"d", [row(b"d/a", b"t"), row(b"d/b", b"old"), row(b"d/c", b"t")])
    assert {path: known[path].token for path in known} == {b"d/b": b"new", b"d/c": b"t"}


def test_what_was_told_after_the_answer_wins_at_single_paths_too() -> None:
    told = Told()
    told.note(Event(Seen.GONE, b"d/a"), 1)
    told.note(Event(Seen.STANDS, b"d/b", FILE, b"new"), 2)
    told.note(Event(Seen.STANDS, b"d/beside", FILE, b"t"), 3)
    told.note(Event(Seen.HIDDEN, b"e"), 4)
    wanted = [b"d/a", b"d/b", b"d/c", b"e", b"none"]
    rows = [row(b"d/a", b"t"), row(b"d/c", b"t"), row(b"e", b"t")]
    known = told.overlay_at(wanted, rows)
    assert {path: known[path].token for path in known} == {b"d/b": b"new", b"d/c": b"t", b"e": b"t"}
    assert known[b"e"].excluded


def test_a_committed_event_counts_until_every_older_question_is_answered() -> None:
    told = Told()
    told.note(Event(Seen.GONE, b"a"), 1)
    told.committed(1, newest_lookup=7)
    told.purge(oldest_open=7)
    assert told.overlay(b"", [row(b"a", b"t")]) == {}
    told.purge(oldest_open=8)
    assert b"a" in told.overlay(b"", [row(b"a", b"t")])


def test_a_later_event_of_the_path_outlives_the_purge_of_an_earlier_one() -> None:
    told = Told()
    told.note(Event(Seen.STANDS, b"a", FILE, b"1"), 1)
    told.note(Event(Seen.GONE, b"a"), 2)
    told.committed(1, newest_lookup=0)
    told.purge(None)
    assert told.overlay(b"", [row(b"a", b"1")]) == {}


def test_a_move_empties_its_source() -> None:
    told = Told()
    told.note(Event(Seen.MOVED, b"b", FILE, b"t", source=b"a"), 1)
    known = told.overlay(b"", [row(b"a", b"t")])
    assert list(known) == [b"b"]
    assert told.says_gone(b"a")


def test_hidden_marks_a_known_row_and_makes_none() -> None:
    told = Told()
    told.note(Event(Seen.HIDDEN, b"a"), 1)
    told.note(Event(Seen.HIDDEN, b"b"), 2)
    known = told.overlay(b"", [row(b"a", b"t")])
    assert known[b"a"].excluded
    assert b"b" not in known


def test_a_failed_order_changes_nothing() -> None:
    told = Told()
    told.note(Event(Seen.FAILED, b"a", order=1), 1)
    assert told.overlay(b"", [row(b"a", b"t")])[b"a"].token == b"t"


def test_a_directory_whose_mode_the_service_does_not_tell_is_the_known_one() -> None:
    known = Known(b"d", b"directory", Version(Kind.DIRECTORY, mode=0o755))
    for mode, same in ((0o755, True), (0, True), (0o700, False)):
        assert agrees(known, Entry(b"d", Version(Kind.DIRECTORY, mode=mode), b"directory")) is same


def test_what_cannot_be_read_where_something_was_told_to_be_gone_is_news() -> None:
    told = Told()
    told.note(Event(Seen.GONE, b"a"), 1)
    assert told.says_gone(b"a")
    assert not told.says(Entry(b"a", NOTHING, b"", Trouble.DENIED, "permission denied"))
