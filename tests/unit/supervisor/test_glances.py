"""Glances: what those who look say, and what is made of those who say something else, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from onitu.supervisor import glances
from onitu.supervisor.forks import Fork
from onitu.supervisor.glances import Glances
from onitu.supervisor.seal import Seal

SEAL = Seal("1", "", (), {}, {"folders": {"docs": {"files": 10}}})


@contextmanager
def looking(*says: bytes | None) -> Iterator[list[Fork]]:
    """Forks that have said this; None: one that is dead."""
    with ExitStack() as stack:
        found = []
        for words in says:
            stdout, theirs = os.pipe()
            stack.callback(os.close, stdout)
            if words is None:
                os.close(theirs)
            else:
                os.write(theirs, words)
                stack.callback(os.close, theirs)
            found.append(Fork(0, -1, stdout, -1))
        yield found


def glances_of(forks: list[Fork], seal: Seal) -> Glances:
    found = Glances(seal, len(forks))
    for fork in forks:
        found.watch(fork)
    return found


@pytest.mark.parametrize(
    ("says", "unchanged"),
    [
        ([b"=", b"="], True),
        ([b"=", b"=", b"="], True),
        ([b"=", b"!"], False),
        ([b"!", b""], False),  # one word is enough; the other goes on looking
        ([b"=", None], False),
        ([b"=", b"x"], False),
    ],
)
def test_nothing_has_changed_where_all_say_so(says: list[bytes | None], unchanged: bool) -> None:
    with looking(*says) as forks:
        assert glances_of(forks, SEAL).unchanged(wait=True) is unchanged


def test_who_goes_on_meanwhile_hears_of_it_as_soon_as_all_have_told() -> None:
    with looking(b"=", b"=") as (one, other):
        found = Glances(SEAL, 2)
        found.watch(one)
        assert found.unchanged(wait=False) is None
        assert found.unchanged(wait=False) is None
        found.watch(other)
        assert found.unchanged(wait=False) is True


def test_a_glance_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glances, "PATIENCE", 0.01)
    with looking(b"=", b"") as forks:
        assert not glances_of(forks, SEAL).unchanged(wait=True)


def test_many_files_are_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    class Poll:
        def register(self, *_: Any) -> None: ...

        def poll(self, milliseconds: float) -> list[Any]:
            waited.append(milliseconds / 1000)
            return []

    monkeypatch.setattr(glances.select, "poll", Poll)
    with looking(b"") as forks:
        glances_of(forks, Seal("1", "", (), {}, {"folders": {"docs": {"files": 1_000_000}}})).unchanged(wait=True)
    assert waited[0] == pytest.approx(glances.PATIENCE + 1_000_000 * glances.EACH, abs=1)
