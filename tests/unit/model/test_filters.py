from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onitu.model import filters
from onitu.model.filters import (
    check_pattern,
    has_mime,
    hides,
    hides_path,
    hides_version,
    matches,
    matches_prefix,
    mime_type,
)
from onitu.model.settings import Filter
from onitu.model.versions import NOTHING, Kind, Version

FILE, DIRECTORY, LINK = Kind.FILE, Kind.DIRECTORY, Kind.LINK


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_compiled_yet() -> None:
    """What tests of another module left in the caches would hide what is wrong with the making of it."""
    for cached in (filters._any, filters._one, filters._table, filters._type_of, filters._types):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("pattern", "path", "kind"),
    [
        ("*.bak", b"a.bak", FILE),
        ("*.bak", b"x/y/a.bak", FILE),
        ("*.bak", b"old.bak/a", FILE),
        ("*.bak", b".bak", FILE),
        ("Private/", b"Private", DIRECTORY),
        ("Private/", b"Private/a", FILE),
        ("Private/", b"x/Private/y/z", FILE),
        ("/tmp", b"tmp", FILE),
        ("tmp/", b"tmp/x", LINK),
        ("a/b", b"a/b", FILE),
        ("/a/b", b"a/b", FILE),
        ("a/b", b"a/b/c", FILE),
        ("foo/*", b"foo/a", FILE),
        ("foo/*", b"foo/a/b", FILE),
        ("foo/*/", b"foo/a/b", FILE),
        ("a/**/z", b"a/z", FILE),
        ("a/**/z", b"a/b/c/z", FILE),
        ("**/z", b"z", FILE),
        ("a/**", b"a/b/c", FILE),
        ("?.txt", "é.txt".encode(), FILE),
        ("[a-c]x", b"bx", FILE),
        ("[!a-c]x", b"dx", FILE),
        ("[]]x", b"]x", FILE),
        ("[!]]x", b"ax", FILE),
        ("[^]]x", b"ax", FILE),
        ("[!a]x", b"!x", FILE),
        ("[!ab]x", b"Xx", FILE),
        ("[^a-c]x", b"dx", FILE),
        ("[a][b]", b"ab", FILE),
        ("[abc]x", b"bx", FILE),
        ("[abc]x", b"cx", FILE),
        ("[a-cx]y", b"xy", FILE),
        ("[a-a]x", b"ax", FILE),
        ("[a-]x", b"-x", FILE),
        ("[!z-a]x", b"mx", FILE),
        ("[a", b"[a", FILE),
        (r"\*", b"*", FILE),
        (r"\!x", b"!x", FILE),
        ("a\\", b"a\\", FILE),
        ("a*b*c", b"aXbYc", FILE),
        ("a*b*c*d", b"aXbXcXd", FILE),
        ("a/**/b/**/c/**/d", b"a/x/b/x/c/x/d", FILE),
        ("*a*", b"xay", FILE),
        ("a\nb*", b"a\nb\nc", FILE),
        (".*", b"x/.hidden", FILE),
        ("é", "é".encode(), FILE),
        ("e\u0301", "é".encode(), FILE),
        ("\u00e9", "e\u0301".encode(), FILE),
        ("*.txt", b"\xff\xfe.txt", FILE),
        ("/", b"any/thing", FILE),
        ("/", b"any", DIRECTORY),
        ("**", b"a/b", FILE),
    ],
)
def test_a_pattern_matches_what_it_names(pattern: str, path: bytes, kind: Kind) -> None:
    assert matches(pattern, path, kind)
    assert hides_path(Filter(blacklist=("never", pattern)), path, kind) is not None


@pytest.mark.parametrize(
    ("pattern", "path", "kind"),
    [
        ("*.bak", b"a.bak2", FILE),
        ("Private/", b"Private", FILE),
        ("Private/", b"Private", LINK),
        ("/tmp", b"x/tmp", FILE),
        ("a/b", b"x/a/b", FILE),
        ("foo/*", b"foo", DIRECTORY),
        ("foo/*", b"foo", FILE),
        ("foo/*/", b"foo/a", FILE),
        ("a/**", b"a", DIRECTORY),
        ("a?b", b"a/b", FILE),
        ("a*b", b"a/b", FILE),
        ("a[/]b", b"a/b", FILE),
        ("a[!x]b", b"a/b", FILE),
        ("a[+-9]b", b"a/b", FILE),
        ("A", b"a", FILE),
        ("[!a-c]x", b"bx", FILE),
        ("[^a-c]x", b"bx", FILE),
        ("[!]]x", b"]x", FILE),
        ("[!abc]x", b"cx", FILE),
        ("[a-c]x", b"-x", FILE),
        ("[ab]x", b"Xx", FILE),
        ("[X]x", b"ax", FILE),
        ("[z-a]", b"m", FILE),
        ("a/**/z", b"az", FILE),
        ("*a*b", b"ba", FILE),
        ("a*b*c", b"axc", FILE),
        ("a/**/b/**/c", b"a/x/c", FILE),
        ("a?", b"x", FILE),
        ("a[b]", b"cb", FILE),
        (r"a\b", b"cb", FILE),
        ("", b"a", FILE),
        ("é", "É".encode(), FILE),
        ("a.b", b"axb", FILE),
    ],
)
def test_a_pattern_leaves_alone_what_it_does_not_name(pattern: str, path: bytes, kind: Kind) -> None:
    assert not matches(pattern, path, kind)
    assert hides_path(Filter(blacklist=(pattern,)), path, kind) is None


def test_the_reason_names_the_pattern() -> None:
    reason = hides_path(Filter(blacklist=("*.tmp", "*.bak")), b"a.bak", FILE)
    assert reason == "hidden by the pattern '*.bak' of the blacklist"


def test_a_rule_prefix_matches_its_directory_and_all_in_it() -> None:
    inside = [matches_prefix("/photos/", path) for path in (b"photos", b"photos/a", b"photos-old/a", b"x/photos/a")]
    assert inside == [True, True, False, False]
    assert matches_prefix("/", b"anything")


@pytest.mark.parametrize("path", [b"a/.onitu", b"a/.onitu/limbo/x", b"a/b/.onitu/marker"])
def test_what_belongs_to_a_replica_further_down_is_hidden_without_a_filter(path: bytes) -> None:
    assert "belongs to Onitu" in (hides((), path, Version(Kind.FILE, 1)) or "")


@pytest.mark.parametrize("path", [b"a/.onitu2", b"a/x.onitu", b".onitu-notes/x"])
def test_what_only_looks_like_it_is_not(path: bytes) -> None:
    assert hides((), path, Version(Kind.FILE, 1)) is None


def test_an_empty_filter_hides_nothing() -> None:
    assert hides_path(Filter(), b"a", FILE) is None
    assert hides_version(Filter(), b"a", Version(FILE, size=10**15)) is None


def test_a_whitelist_hides_files_and_links_but_no_directory() -> None:
    filter = Filter(whitelist=("/docs/", "*.txt"))
    assert hides_path(filter, b"docs/deep/a.pdf", FILE) is None
    assert hides_path(filter, b"x/a.txt", LINK) is None
    assert hides_path(filter, b"x", DIRECTORY) is None
    assert hides_path(filter, b"x/a.pdf", FILE) == "matches no pattern of the whitelist"
    assert hides_path(filter, b"x/a.pdf", LINK) is not None


def test_the_blacklist_beats_the_whitelist() -> None:
    assert hides_path(Filter(blacklist=("a*",), whitelist=("*.txt",)), b"a.txt", FILE) is not None


def test_sizes_are_inclusive_and_asked_of_files_only() -> None:
    filter = Filter(size_min=3, size_max=10)
    hidden = [hides_version(filter, b"a", Version(FILE, size=size)) is not None for size in (2, 3, 10, 11)]
    assert hidden == [True, False, False, True]
    for version in (Version(DIRECTORY), Version(LINK, link=b"x"), NOTHING):
        assert hides_version(filter, b"a", version) is None


def test_the_reason_names_size_and_limit() -> None:
    assert hides_version(Filter(size_max=1000), b"a", Version(FILE, size=2000)) == "larger than 1.00 kB (2.00 kB)"
    assert hides_version(Filter(size_min=2), b"a", Version(FILE, size=1)) == "smaller than 2 bytes (1 byte)"


@pytest.mark.parametrize(
    ("path", "type"),
    [
        (b"a.TXT", "text/plain"),
        (b"d/a.flac", "audio/flac"),
        (b"a.tar.gz", "application/gzip"),
        (b"README", "application/octet-stream"),
        (b".png", "application/octet-stream"),
        (b"a.\xff", "application/octet-stream"),
        (b"x.html/y", "application/octet-stream"),
        (b"data:text/html,x.png", "image/png"),
        (b"http://h/x.css", "text/css"),
        (b"a.odt", "application/vnd.oasis.opendocument.text"),
    ],
)
def test_the_type_comes_from_the_name_alone(path: bytes, type: str) -> None:
    assert mime_type(path) == type


@pytest.mark.parametrize("types", [("audio/*",), ("Audio",), ("audio/",), ("*/ogg",), ("text/x", "audio/ogg")])
def test_a_type_may_be_a_pattern(types: tuple[str, ...]) -> None:
    assert has_mime(types, b"a.ogg")
    assert not has_mime(types, b"a.png")
    assert hides_version(Filter(mimetypes=types), b"a.png", Version(FILE)) is not None
    assert hides_version(Filter(mimetypes=types), b"a.ogg", Version(FILE)) is None


def test_a_type_without_a_star_is_a_whole_type() -> None:
    assert not has_mime(("audio/og",), b"a.ogg")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "empty pattern"),
        ("  ", "empty pattern"),
        ("!x", "whitelist"),
        ("../x", "empty names"),
        ("a/./b", "empty names"),
        ("a//b", "empty names"),
        ("a//b//c", "empty names"),
        ("a\0b", "NUL"),
    ],
)
def test_a_pattern_that_could_never_match_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["*.bak", "Private/", "/", "**/x", ".*", "a/b/", "//a//", "[!x]", r"\!x"])
def test_an_ordinary_pattern_is_accepted(pattern: str) -> None:
    check_pattern(pattern)


def test_no_pattern_makes_the_matching_slow() -> None:
    began = time.perf_counter()
    assert not matches("*a" * 30 + "b", b"a" * 250, FILE)
    assert not matches("**/a/" * 8 + "x", b"/".join([b"a"] * 100), FILE)
    assert not matches("**/*a/" * 8 + "**/**/x*x*x", b"/".join([b"xaxa"] * 100), FILE)
    assert time.perf_counter() - began < 60  # else it would be hours


# An independent matcher, as slow and plain as it can be, is the oracle.

names = st.text("ab*?", min_size=1, max_size=4)
plain = st.text("ab", min_size=1, max_size=4)


def name_matches(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(name_matches(pattern[1:], name[i:]) for i in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and name_matches(pattern[1:], name[1:])


def place_matches(pattern: list[str], path: list[str]) -> bool:
    if not pattern or not path:
        return not pattern and not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return True
        return place_matches(pattern[1:], path) or place_matches(pattern, path[1:])
    return name_matches(pattern[0], path[0]) and place_matches(pattern[1:], path[1:])


@given(
    st.lists(st.one_of(names, st.just("**")), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.lists(plain, min_size=1, max_size=4),
    st.sampled_from([FILE, DIRECTORY]),
)
def test_matching_agrees_with_a_plain_matcher(
    parts: list[str], rooted: bool, directory_only: bool, path: list[str], kind: Kind
) -> None:
    pattern = "/" * rooted + "/".join(parts) + "/" * directory_only
    anchored = rooted or len(parts) > 1
    expected = any(
        place_matches(parts if anchored else ["**", *parts] if parts != ["**"] else parts, path[:end])
        for end in range(1, len(path) + 1)
        if end < len(path) or kind is DIRECTORY or not directory_only
    )
    assert matches(pattern, "/".join(path).encode(), kind) == expected


@given(st.text(max_size=8), st.binary(min_size=1, max_size=12))
def test_no_pattern_raises(pattern: str, path: bytes) -> None:
    matches(pattern, path, FILE)
    hides_path(Filter(blacklist=(pattern,), whitelist=(pattern,)), path, DIRECTORY)


def test_patterns_are_compiled_once() -> None:
    filters._any.cache_clear()
    for number in range(100):
        hides_path(Filter(blacklist=("*.bak", "x/")), b"%d" % number, FILE)
    assert filters._any.cache_info().misses == 1
