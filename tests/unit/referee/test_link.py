"""What the Referee remembers of a service: above all, when it has to do something though nothing happens."""

from __future__ import annotations

import math

from onitu.referee.guard import QUIET
from onitu.referee.link import GIVE_UP, Link


def test_a_service_without_trouble_needs_no_clock() -> None:
    assert Link("a").next == math.inf


def test_a_path_that_failed_is_due_when_its_rest_is_over_and_then_needs_no_clock() -> None:
    link = Link("a")
    link.failed(b"x", 100.0, passing=True)
    link.failed(b"y", 100.0, passing=False)
    assert link.next == 100.1
    link.due(100.05)
    assert not link.ready
    link.due(100.1)
    assert list(link.ready) == [b"x"]
    assert link.next == 101.0
    link.due(101.0)
    assert list(link.ready) == [b"x", b"y"]
    assert link.next == math.inf


def test_a_burst_of_deletions_that_is_held_back_is_due_when_it_is_over() -> None:
    link = Link("a")
    for _ in range(3):
        link.guard.deletes(100.0, 4)
    assert link.next == 100.0 + QUIET
    link.guard.end()
    assert link.next == math.inf


def test_a_directory_from_which_something_went_may_still_be_removed_however_soon_it_is_tried_again() -> None:
    link = Link("a", behind=False, scanned=True)
    now = 100.0
    for _ in range(GIVE_UP):
        link.failed(b"d", now, passing=True, full=True)
        now = link.retry[b"d"].when
        link.due(now - 0.001)
    assert not link.hopes
    link.emptier(b"d", now - 0.01)
    assert link.hopes
    assert not link.quiet
    assert link.next == now
