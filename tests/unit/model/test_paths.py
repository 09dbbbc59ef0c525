from __future__ import annotations

import re

import pytest

from onitu.model import paths


@pytest.mark.parametrize(
    "bad", [b"", b"/a", b"a/", b"abc/", b"a//b", b".", b"..", b"../a", b"a/..", b"a/./b", b"a\0b", b"abc\0"]
)
def test_no_path_leaves_its_root_or_has_a_name_that_is_none(bad: bytes) -> None:
    with pytest.raises(paths.BadPath, match=re.escape(f"{paths.show(bad)!r} is not a path")):
        paths.checked(bad)


@pytest.mark.parametrize("private", [b".onitu", b".onitu/tmp"])
def test_no_path_enters_onitus_own_directory(private: bytes) -> None:
    with pytest.raises(paths.BadPath, match=rf"'{private.decode()}' belongs to Onitu"):
        paths.checked(private)


@pytest.mark.parametrize("good", [b"a", b"a/b", b"...", b" ", b"-n", b"a\nb", b"\xff", b"d/.onitu", b".onitu2"])
def test_every_other_name_is_allowed(good: bytes) -> None:
    assert paths.checked(good) == good


def test_two_spellings_of_a_name_have_one_key() -> None:
    assert paths.key("e\u0301".encode()) == paths.key("\u00e9".encode()) == "\u00e9".encode()


def test_what_is_not_utf8_is_its_own_key() -> None:
    assert paths.key(b"\xff\xfe") == b"\xff\xfe"


def test_ancestors_come_nearest_first() -> None:
    assert paths.ancestors(b"a/b/c") == [b"a/b", b"a"]


def test_a_path_is_shown_on_one_line() -> None:
    assert paths.show(b"a\nb\xff") == "a\\nb\\xff"
