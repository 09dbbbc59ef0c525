"""The race: users rewrite the same few files on all replicas as fast as they can, while Onitu synchronises them.

`ONITU_RACE_WRITES` (20,000 where it is not set) is the number of values that are written in all.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onitu.testing import users
from onitu.testing.users import Habit, User, at_work

from .accounts import SEED, held_against
from .harness import wait_for, watching

WRITES = int(os.environ.get("ONITU_RACE_WRITES", "20000"))
LONG = 120.0 + WRITES / 50

RACES: dict[str, tuple[int, int, dict[Habit, float], float]] = {
    # replicas, files, habits, share of the writes
    "exchange on two": (2, 4, dict(users.SAVING), 0.3),
    "everything on two": (2, 4, dict(users.EVERYTHING), 0.2),
    "everything on three": (3, 4, dict(users.EVERYTHING), 0.3),
    "in place, on many files of three": (3, 40, {**users.IN_PLACE, users.save: 1.0}, 0.2),
}


@pytest.mark.parametrize("name", RACES)
def test_no_value_is_lost_in_a_race(name: str, roots: list[Path], state: Path) -> None:
    number, files, habits, share = RACES[name]
    roots = roots[:number]
    limit = int(WRITES * share) // number
    names = [f"f{n}" for n in range(files)]
    racers = [
        User.at(
            root,
            root.name,
            names,
            seed=f"{name} {SEED}",
            habits=habits,
            own=[f"{root.name}'s"],
            limit=limit,
            largest=20_000,
        )
        for root in roots
    ]
    with watching(*roots, state=state) as daemon:
        with at_work(racers):
            wait_for(lambda: not any(racer.busy for racer in racers), LONG, "all is written")
        assert all(racer.written >= limit for racer in racers)
        daemon.in_sync(LONG)
        held_against(racers, roots, f"race, {name}")
        scratch = [path for racer in racers for path in racer.hands.scratch.iterdir()]
        assert not scratch
