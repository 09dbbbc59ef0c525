"""Who tells far faster than the others can follow waits; and nobody waits for what does not come."""

from __future__ import annotations

from onitu.referee.pace import AHEAD, COUNT, PATIENCE, Pace


def ahead() -> Pace:
    """A folder of which much is left, while another service works it off."""
    pace = Pace()
    pace.count(10.0, AHEAD + 1)
    pace.answered["slow"] = 10.0
    return pace


def test_who_is_ahead_waits_while_the_others_go_on() -> None:
    pace = ahead()
    assert pace.waits("fast", 0, 10.0)
    assert not pace.waits("fast", 0, 10.0 + PATIENCE)
    pace.answered["slow"] = 10.4
    assert pace.waits("fast", 0, 10.0 + PATIENCE)


def test_nobody_waits_where_little_is_left() -> None:
    pace = ahead()
    pace.count(10.0, AHEAD)
    assert not pace.waits("fast", 0, 10.0)


def test_nobody_waits_who_has_orders_under_way() -> None:
    assert not ahead().waits("fast", 1, 10.0)


def test_nobody_waits_for_itself() -> None:
    assert not ahead().waits("slow", 0, 10.0)
    assert not Pace(left=AHEAD + 1).waits("fast", 0, 0.0)


def test_it_is_known_when_a_wait_may_be_over() -> None:
    pace = ahead()
    assert pace.next == float("inf")
    pace.waiting["fast"] = None
    assert pace.next == 10.0 + PATIENCE


def test_what_is_left_is_counted_anew_after_a_while_where_there_may_be_much() -> None:
    pace = ahead()
    assert not pace.is_old(10.0 + COUNT / 2, AHEAD + 1)
    assert pace.is_old(10.0 + COUNT, AHEAD + 1)
    assert not pace.is_old(10.0 + COUNT, AHEAD)
