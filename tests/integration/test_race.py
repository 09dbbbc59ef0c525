"""The race: users rewrite the same files on all replicas as fast as they can, while Onitu synchronises them.

`ONITU_RACE_WRITES` (20,000 where it is not set) is the number of values that are written in all.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from onitu.testing import users
from onitu.testing.lurkers import Lurker, Sign
from onitu.testing.users import Habit, User, at_work

from .accounts import SEED, held_against, leftovers
from .harness import wait_for, watching

WRITES = int(os.environ.get("ONITU_RACE_WRITES", "20000"))
LONG = 120.0 + WRITES / 50

_PATH = re.compile(rb'"path":"([A-Za-z0-9+/=]*)"')


@attrs.frozen
class Race:
    """Who races.

    Attributes:
        replicas: how many, with a user at each.
        files: how many they share. A path that goes on changing is looked at now and then only, so on few files most
            values are overwritten before anybody saw them, and on many files most are carried to the others.
        habits: what the users do, by weight.
        share: of all values that are written.
        lurking: the users wait for the moment at which something is replaced.
    """

    replicas: int
    files: int
    habits: Mapping[Habit, float]
    share: float
    lurking: bool = False


RACES = {
    "exchange on two": Race(2, 4, users.SAVING, 0.15),
    "everything on two": Race(2, 4, users.EVERYTHING, 0.15),
    "everything on three": Race(3, 4, users.EVERYTHING, 0.2),
    "in place, on many files of three": Race(3, 40, {**users.IN_PLACE, users.save: 1.0}, 0.1),
    "lurking on many files of two": Race(2, 200, {**users.IN_PLACE, users.save: 8.0}, 0.2, lurking=True),
    "lurking with everything on three": Race(3, 100, users.EVERYTHING, 0.2, lurking=True),
}


def replacing(root: Path) -> Sign:
    """What a new file in the limbo says: its record in the journal names the path that is replaced at any moment."""
    journal = root / ".onitu" / "limbo" / "journal"

    def sign(name: str) -> str | None:
        records = _PATH.findall(journal.read_bytes().partition(b"\0")[0])
        return base64.b64decode(records[-1]).decode(errors="replace") if records else None

    return sign


def racer(race: Race, root: Path, seed: str) -> User:
    limit = int(WRITES * race.share) // race.replicas
    names = [f"f{n}" for n in range(race.files)]
    kind = Lurker if race.lurking else User
    user = kind.at(
        root, root.name, names, seed=seed, habits=race.habits, own=[f"{root.name}'s"], limit=limit, largest=20_000
    )
    if isinstance(user, Lurker):
        user.signs = {root / ".onitu" / "limbo": replacing(root)}
    return user


@pytest.mark.parametrize("name", RACES)
def test_no_value_is_lost_in_a_race(name: str, roots: list[Path], state: Path) -> None:
    race = RACES[name]
    roots = roots[: race.replicas]
    racers = [racer(race, root, f"{name} {SEED}") for root in roots]
    with watching(*roots, state=state) as daemon:
        with at_work(racers):
            wait_for(lambda: not any(racer.busy for racer in racers), LONG, "all is written")
        assert all(racer.written >= (racer.limit or 0) for racer in racers)
        daemon.in_sync(LONG)
        # What was written late through a descriptor into a file that was displaced comes back within a second.
        wait_for(lambda: not leftovers(roots), why="nothing is left in Onitu's own directories")
        daemon.in_sync(LONG)
        folder = daemon.folder()
        print({what: folder[what] for what in ("puts", "moves", "deletes", "conflicts")})
        print("met", [racer.met for racer in racers if isinstance(racer, Lurker)], [racer.missed for racer in racers])
        held_against(racers, roots, f"race, {name}")
        scratch = [path for racer in racers for path in racer.hands.scratch.iterdir()]
        assert not scratch
