from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onitu.model import paths
from onitu.model.conflicts import conflict_name, is_conflict_name

NEW_YEAR = 1_767_225_600 * 10**9


def test_the_name_tells_service_and_time_and_keeps_the_extension() -> None:
    assert conflict_name(b"d/notes.txt", "nas", NEW_YEAR) == b"d/notes (conflict nas 2026-01-01 00.00.00).txt"


def test_a_copy_of_a_copy_has_one_mark() -> None:
    once = conflict_name(b"notes.txt", "nas", NEW_YEAR)
    assert conflict_name(once, "laptop", NEW_YEAR) == b"notes (conflict laptop 2026-01-01 00.00.00).txt"


def test_a_hidden_file_keeps_its_dot() -> None:
    assert conflict_name(b".bashrc", "a", 0) == b".bashrc (conflict a 1970-01-01 00.00.00)"


def test_further_attempts_are_numbered() -> None:
    assert conflict_name(b"x", "a", 0, 2) == b"x (conflict a 1970-01-01 00.00.00 2)"


def test_a_long_extension_is_no_extension() -> None:
    mark = b" (conflict a 1970-01-01 00.00.00)"
    assert conflict_name(b"x." + b"e" * 31, "a", 0) == b"x" + mark + b"." + b"e" * 31
    assert conflict_name(b"x." + b"e" * 32, "a", 0) == b"x." + b"e" * 32 + mark


def test_a_service_is_named_without_what_would_end_the_mark_or_the_name_and_not_at_length() -> None:
    assert conflict_name(b"x", "a(b)/c\0", 0) == b"x (conflict a-b--c- 1970-01-01 00.00.00)"
    assert conflict_name(b"x", "s" * 41, 0) == b"x (conflict %s 1970-01-01 00.00.00)" % (b"s" * 40)


@pytest.mark.parametrize(
    ("seconds", "time"),
    [
        (-1, b"1969-12-31 23.59.59"),
        (-62_135_596_800, b"0001-01-01 00.00.00"),
        (-62_135_596_801, b"0001-01-01 00.00.00"),
        (-(2**62), b"0001-01-01 00.00.00"),
        (-30_610_224_001, b"0999-12-31 23.59.59"),
        (253_402_300_799, b"9999-12-31 23.59.59"),
        (253_402_300_800, b"0001-01-01 00.00.00"),
    ],
)
def test_a_time_has_four_digits_for_its_year_and_one_that_no_calendar_has_is_the_first(
    seconds: int, time: bytes
) -> None:
    assert conflict_name(b"x", "a", seconds * 10**9) == b"x (conflict a %s)" % time
    assert conflict_name(b"x", "a", seconds * 10**9 + 999_999_999) == b"x (conflict a %s)" % time


def test_a_name_is_cut_to_what_a_file_system_takes_and_between_characters() -> None:
    mark = b" (conflict a 1970-01-01 00.00.00)"
    room = paths.MAX_NAME - len(mark) - len(b".txt")
    assert room % 2 == 0
    assert conflict_name(b"x" * (room + 1) + b".txt", "a", 0) == b"x" * room + mark + b".txt"
    assert conflict_name(b"x" * room + b".txt", "a", 0) == b"x" * room + mark + b".txt"
    letter = "\u00e9".encode()
    assert conflict_name(letter * room + b".txt", "a", 0) == letter * (room // 2) + mark + b".txt"
    assert conflict_name(b"x" + letter * room + b".txt", "a", 0) == b"x" + letter * (room // 2 - 1) + mark + b".txt"
    assert conflict_name(b"\x80" * 255, "a", 0) == mark, "what is no UTF-8 has no place to be cut"


def test_a_name_is_a_conflict_copys_by_its_last_part_alone() -> None:
    assert not is_conflict_name(b"notes.txt")
    assert is_conflict_name(b"d/notes (conflict nas 2026-01-01 00.00.00 2).txt")
    assert not is_conflict_name(b"d (conflict nas 2026-01-01 00.00.00)/notes.txt")


@given(
    name=st.binary(min_size=1, max_size=255).filter(
        lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b"..")
    ),
    service=st.text(max_size=60),
    mtime=st.integers(-(2**70), 2**70),
    attempt=st.integers(1, 999),
)
def test_every_name_is_one_that_a_file_system_takes(name: bytes, service: str, mtime: int, attempt: int) -> None:
    path = conflict_name(b"d/" + name, service.encode("utf-8", "replace").decode(), mtime, attempt)
    assert len(paths.name(path)) <= paths.MAX_NAME
    assert paths.checked(path) == path
    assert is_conflict_name(path)
