"""A tally is of what was counted, in whatever order, and of nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onitu.model.nodes import Holding
from onitu.model.tally import SIZE, Sealed, Tally
from onitu.model.versions import Kind, Version

THINGS = st.tuples(
    st.sampled_from([b"a", b"b", b"a/b", b"\xff"]),
    st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.LINK]),
    st.sampled_from([b"1", b"2", b""]),
    st.sampled_from([0o644, 0o755]),
)


def tally_of(things: list[tuple[bytes, Kind, bytes, int]]) -> Tally:
    tally = Tally()
    for path, kind, token, mode in things:
        tally.see(path, kind, token, mode)
    return tally


@given(st.lists(THINGS), st.randoms())
def test_the_order_does_not_matter(things: list[tuple[bytes, Kind, bytes, int]], random) -> None:
    shuffled = list(things)
    random.shuffle(shuffled)
    assert tally_of(things) == tally_of(shuffled)


@given(st.lists(THINGS), st.lists(THINGS))
def test_only_the_same_things_have_the_same_tally(
    one: list[tuple[bytes, Kind, bytes, int]], other: list[tuple[bytes, Kind, bytes, int]]
) -> None:
    def told(things: list[tuple[bytes, Kind, bytes, int]]) -> list[tuple[bytes, Kind, bytes, int]]:
        return sorted((path, kind, token, mode if kind is Kind.DIRECTORY else 0) for path, kind, token, mode in things)

    assert (tally_of(one) == tally_of(other)) == (told(one) == told(other))


@given(st.lists(THINGS, min_size=1))
def test_what_is_taken_away_again_was_never_there(things: list[tuple[bytes, Kind, bytes, int]]) -> None:
    tally = tally_of(things)
    for path, kind, token, mode in things[1:]:
        tally.see(path, kind, token, mode, -1)
    assert tally == tally_of(things[:1])


def test_what_is_known_is_what_is_seen_under_the_name_of_the_service() -> None:
    held = Holding(Version(Kind.DIRECTORY, mode=0o700), b"token", name=b"Dir")
    known = Tally()
    known.know(b"dir", held)
    assert known == tally_of([(b"Dir", Kind.DIRECTORY, b"token", 0o700)])
    known.know(b"dir", held, -1)
    assert known == Tally()


@pytest.mark.parametrize("state", [{"gone": True}, {"hidden": True, "unread": True}])
def test_what_is_held_back_or_cannot_be_read_is_nothing_that_can_be_seen(state: dict[str, bool]) -> None:
    known = Tally()
    known.know(b"a", Holding(Version(Kind.FILE, 1), b"token", **state))
    assert known not in (Tally(), tally_of([(b"a", Kind.FILE, b"token", 0)]))


def test_what_a_rule_hides_is_not_counted() -> None:
    known = Tally()
    known.know(b"a", Holding(Version(Kind.FILE, 1), b"token", hidden=True))
    assert known == Tally()


def test_the_bits_of_a_directory_are_counted_beside() -> None:
    one, other = (tally_of([(b"d", Kind.DIRECTORY, b"", mode)]) for mode in (0o700, 0o755))
    assert one.things == other.things
    assert one.bits != other.bits


@pytest.mark.parametrize(
    ("seen", "modes", "agree"),
    [
        ([0o700, 0o700], True, True),
        ([0o700, 0o755], True, False),
        ([0o700, 0o755], False, True),  # the service keeps none
        ([0, 0], True, True),  # or tells none
        ([0, 0o700], True, False),  # some of them could be others
    ],
)
def test_bits_that_are_told_have_to_be_those_that_are_known(seen: list[int], modes: bool, agree: bool) -> None:
    known = tally_of([(b"a", Kind.DIRECTORY, b"", 0o700), (b"b", Kind.DIRECTORY, b"", 0o700)])
    found = tally_of([(path, Kind.DIRECTORY, b"", mode) for path, mode in zip((b"a", b"b"), seen, strict=True)])
    assert found.agrees(known, modes) is agree


def test_a_tally_is_read_from_its_bytes_and_from_no_others() -> None:
    tally = tally_of([(b"a", Kind.FILE, b"1", 0), (b"d", Kind.DIRECTORY, b"", 0o755)])
    assert len(bytes(tally)) == 2 * SIZE
    assert Tally.read(bytes(tally)) == tally
    assert Tally.read(b"") is None
    assert Tally.read(bytes(tally)[:-1]) is None


def test_a_seal_is_of_one_replica_at_one_time() -> None:
    sealed = Sealed("m", 7, b"", 0)
    assert sealed.is_of("m", 7, 0)
    assert sealed.is_of("m", 6, 7)  # the run ended before the marker confirmed what the store has
    assert not sealed.is_of("m", 6, 0)
    assert not sealed.is_of("other", 7, 0)
    assert not Sealed("", 0, b"", 0).is_of("", 0, 0)
