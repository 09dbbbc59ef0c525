from __future__ import annotations

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
