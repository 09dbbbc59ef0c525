"""What a plug tells while a user renames whole directories faster than anybody can look: in the end, what stands there.

The watcher tells all, in its order; what a look finds may be of any later moment.
"""

from __future__ import annotations

import random

import pytest
import trio

from onitu.model import paths
from onitu.model.versions import Kind
from onitu.plug.driver import Hint, HintKind

from .kit import Stage, Thing, eventually, stage

NAMES = b"a", b"b", b"c", b"d"
"""Few, so that a name is soon used for something else."""
RESTS = 0.0, 0.0, 0.002, 0.01, 0.05, 0.12
"""Seconds between two actions: some fall into one look, some do not."""


class User:
    """Somebody who works on a replica, and the watcher that tells of it."""

    def __init__(self, at: Stage, seed: int) -> None:
        self.at = at
        self.chance = random.Random(seed)

    def _is_directory(self, path: bytes) -> bool:
        return self.at.driver.things[path].kind is Kind.DIRECTORY

    def _some(self) -> bytes:
        """A path at which something stands; empty: nothing does."""
        return self.chance.choice(sorted(self.at.driver.things) or [b""])

    def _new(self) -> bytes:
        """A path for something, in a directory; empty: that name was taken."""
        within = [b"", *(path for path in sorted(self.at.driver.things) if self._is_directory(path))]
        path = paths.join(self.chance.choice(within), self.chance.choice(NAMES))
        return b"" if path in self.at.driver.things else path

    def make(self) -> list[Hint]:
        if not (path := self._new()):
            return []
        if directory := self.chance.random() < 0.6:
            self.at.driver.things[path] = Thing(Kind.DIRECTORY, mode=0o755)
        else:
            self.at.driver.write(path, self.chance.randbytes(8))
        return [Hint(HintKind.CHANGED, path, deep=directory, directory=directory)]

    def rename(self) -> list[Hint]:
        path, target = self._some(), self._new()
        if not (path and target) or paths.within(target, path):
            return []
        directory = self._is_directory(path)
        self.at.driver.rename(path, target)
        return [Hint(HintKind.MOVED, target, path, directory=directory)]

    def exchange(self) -> list[Hint]:
        one, other = self._some(), self._some()
        if one == other or paths.within(one, other) or paths.within(other, one):
            return []
        directories = self._is_directory(one), self._is_directory(other)
        self.at.driver.exchange(one, other)
        return [
            Hint(HintKind.MOVED, other, one, directory=directories[0]),
            Hint(HintKind.MOVED, one, other, directory=directories[1]),
        ]

    def edit(self) -> list[Hint]:
        path = self._some()
        if not path or self._is_directory(path):
            return []
        self.at.driver.write(path, self.chance.randbytes(8))
        return [Hint(HintKind.CHANGED, path)]

    def remove(self) -> list[Hint]:
        path = self._some()
        if not path or any(paths.within(inner, path) for inner in self.at.driver.things):
            return []
        directory = self._is_directory(path)
        self.at.driver.remove(path)
        return [Hint(HintKind.CHANGED, path, directory=directory)]

    async def act(self) -> None:
        """Do something, and rest."""
        actions = self.make, self.rename, self.rename, self.exchange, self.edit, self.remove
        for hint in self.chance.choice(actions)():
            await self.at.hint(hint)
        await trio.sleep(self.chance.choice(RESTS))


@pytest.mark.parametrize("seed", range(30))
async def test_what_stands_is_told_whatever_was_renamed_and_exchanged_meanwhile(runtime: str, seed: int) -> None:
    async with stage(runtime) as at:
        user = User(at, seed)
        for _ in range(10):
            user.make()
        await at.started()
        for _ in range(25):
            await user.act()

        def alike() -> bool:
            known = {path: row.token for path, row in at.referee.rows.items()}
            stands = (at.driver.entry(path) for path in at.driver.things)
            return at.referee.busy[-1] == 0 and known == {entry.path: entry.token for entry in stands if entry}

        await eventually(alike)
