from __future__ import annotations

import pytest
from msgspec.structs import replace

from onitu.model.versions import NOTHING, Kind, Same, Version, same_content


def file(size: int = 1, **digests: bytes) -> Version:
    return Version(Kind.FILE, size, digests)


def test_files_are_compared_by_a_digest_that_both_have() -> None:
    assert same_content(file(blake3=b"1", md5=b"2"), file(blake3=b"1")) is Same.YES
    assert same_content(file(blake3=b"1"), file(blake3=b"2")) is Same.NO


def test_another_size_is_another_content_without_a_digest() -> None:
    assert same_content(file(1), file(2)) is Same.NO


def test_without_a_digest_in_common_nobody_guesses() -> None:
    assert same_content(file(blake3=b"1"), file(md5=b"1")) is Same.UNKNOWN
    assert same_content(file(), file()) is Same.UNKNOWN


def test_two_kinds_are_never_the_same() -> None:
    assert same_content(file(), Version(Kind.DIRECTORY)) is Same.NO
    assert same_content(NOTHING, Version(Kind.DIRECTORY)) is Same.NO


def test_links_are_compared_by_their_target() -> None:
    assert same_content(Version(Kind.LINK, link=b"a"), Version(Kind.LINK, link=b"a")) is Same.YES
    assert same_content(Version(Kind.LINK, link=b"a"), Version(Kind.LINK, link=b"b")) is Same.NO


def test_a_directorys_time_is_no_metadata() -> None:
    assert not Version(Kind.DIRECTORY, mtime=1, mode=0o755).meta_differs(Version(Kind.DIRECTORY, mtime=2, mode=0o755))


@pytest.mark.parametrize("given", [("nas", 7), ("nas", 8), ("laptop", 7), ("laptop", 8)])
def test_a_version_that_is_given_has_this_maker_and_number_whichever_it_had(given: tuple[str, int]) -> None:
    version = Version(Kind.FILE, 1, {"blake3": b"1"}, 2, 0o644, b"", "nas", 7)
    assert version.given(*given) == replace(version, service=given[0], seq=given[1])
