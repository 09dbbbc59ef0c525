from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from onitu.supervisor.backoff import Backoff, Policy

STEADY = Policy(jitter=0.0)


def delays(policy: Policy, lives: list[float]) -> list[float | None]:
    backoff, now, found = Backoff(policy), 0.0, []
    for lived in lives:
        now += lived
        backoff, delay = backoff.died(now, lived, 0.5)
        found.append(delay)
        now += delay or 0.0
    return found


def test_the_delay_doubles_up_to_the_longest() -> None:
    found = delays(msgspec.structs.replace(STEADY, limit=100), [0.0] * 9)
    assert found == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_healthy_life_begins_from_the_first_delay_again() -> None:
    assert delays(STEADY, [0.0, 0.0, 0.0, 10.0, 0.0]) == [0.1, 0.2, 0.4, 0.1, 0.2]


def test_too_many_restarts_within_the_window_end_them() -> None:
    found = delays(STEADY, [0.0] * 9)
    assert found[-1] is None
    assert None not in found[:-1]


def test_deaths_that_are_far_apart_are_never_too_many() -> None:
    assert None not in delays(STEADY, [10.0] * 100)


def test_a_forgiven_child_begins_anew() -> None:
    backoff = Backoff(STEADY)
    for now in range(20):
        backoff, delay = backoff.died(float(now), 0.0, 0.5)
    assert delay is None
    assert backoff.forgiven().died(21.0, 0.0, 0.5)[1] == 0.1


@given(st.lists(st.floats(0, 100), max_size=60), st.floats(0, 1))
def test_no_delay_leaves_its_bounds(lives: list[float], chance: float) -> None:
    policy, now = Policy(limit=1000), 0.0
    backoff = Backoff(policy)
    for lived in lives:
        now += lived
        backoff, delay = backoff.died(now, lived, chance)
        assert delay is not None
        assert policy.first * (1 - policy.jitter) <= delay <= policy.longest * (1 + policy.jitter)
