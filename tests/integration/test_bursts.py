"""Whole directories that are made, renamed, exchanged and removed faster than anybody can look, while Onitu runs.

There is one user, on one replica: what must stand everywhere in the end is what stands there, and nothing else. A
watcher that misses a directory, or a file that is taken for a conflict, shows as a difference that stays.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import alike, assert_same, snapshot, wait_for, watching

BYSTANDERS = 1_200
"""Files that nobody touches, so that whatever the user removes is less than half of the folder."""
MOST = 800
"""Files in the user's directory, beyond which it is emptied."""
ACTIONS = 70
RESTS = (0.0, 0.0, 0.0, 0.02, 0.1, 0.5)
"""Seconds between two actions, which is what the test is about: some fall into one look of Onitu's, some do not."""


class User:
    """Somebody who works on directories.

    Attributes:
        top: the directory in which all happens.
    """

    def __init__(self, top: Path, seed: int) -> None:
        self.top = top
        self._chance = random.Random(seed)
        self._count = 0
        self._actions: list[Callable[[Path], None]] = [
            self.make,
            self.make,
            self.rename,
            self.rename,
            self.move_into_another,
            self.exchange,
            self.shift,
            self.remove,
            self.make_again,
            self.flatten,
            self.edit,
            self.replace_by_a_file,
            self.replace_a_file,
        ]

    def act(self) -> None:
        """Do something to one of the directories, and rest."""
        if len(self._files(self.top)) > MOST:
            shutil.rmtree(self.top)
            self.top.mkdir()
        directories = self._directories()
        if directories:
            self._chance.choice(self._actions)(self._chance.choice(directories))
        else:
            self.make(self.top)
        time.sleep(self._chance.choice(RESTS))

    def make(self, place: Path) -> None:
        """A tree of some directories with some files."""
        within = [self._new(place)]
        within[0].mkdir()
        for _ in range(self._chance.choice((1, 5, 80))):
            if self._chance.random() < 0.2:
                within.append(self._new(self._chance.choice(within)))
                within[-1].mkdir()
            self._write(self._new(self._chance.choice(within)))

    def rename(self, directory: Path) -> None:
        os.rename(directory, self._new(directory.parent))

    def move_into_another(self, directory: Path) -> None:
        other = self._chance.choice([self.top, *self._directories()])
        if directory not in (other, *other.parents):
            os.rename(directory, self._new(other))

    def exchange(self, directory: Path) -> None:
        """Two directories get each other's names."""
        other, between = self._chance.choice(self._directories()), self._new(self.top)
        if directory not in (other, *other.parents) and other not in directory.parents:
            os.rename(directory, between)
            os.rename(other, directory)
            os.rename(between, other)

    def shift(self, directory: Path) -> None:
        """Each of the directories beside it gets the next one's name."""
        names = sorted(place for place in directory.parent.iterdir() if place.is_dir())
        for place, name in zip(reversed(names), [self._new(directory.parent), *reversed(names)], strict=False):
            os.rename(place, name)

    def remove(self, directory: Path) -> None:
        shutil.rmtree(directory)

    def make_again(self, directory: Path) -> None:
        """It is removed, and comes back at once with most of what was in it."""
        contents = {place.relative_to(directory): place.read_bytes() for place in self._files(directory)}
        shutil.rmtree(directory)
        directory.mkdir()
        for name, content in contents.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            if self._chance.random() < 0.8:
                (directory / name).write_bytes(content)

    def flatten(self, directory: Path) -> None:
        """The files below it move up into it."""
        for place in self._files(directory):
            os.rename(place, self._new(directory))

    def edit(self, directory: Path) -> None:
        """Some files are written anew, in place or by a rename; some go; some are renamed."""
        for place in self._files(directory):
            match self._chance.randrange(5):
                case 0:
                    self._write(place)
                case 1:
                    self._write(beside := self._new(directory))
                    os.replace(beside, place)
                case 2:
                    place.unlink()
                case 3:
                    os.rename(place, self._new(directory))

    def replace_by_a_file(self, directory: Path) -> None:
        shutil.rmtree(directory)
        self._write(directory)

    def replace_a_file(self, directory: Path) -> None:
        for place in self._files(directory)[:1]:
            place.unlink()
            place.mkdir()
            self._write(self._new(place))

    def _directories(self) -> list[Path]:
        return sorted(Path(where) for where, _, _ in os.walk(self.top) if where != str(self.top))

    def _files(self, directory: Path) -> list[Path]:
        return sorted(Path(where) / name for where, _, names in os.walk(directory) for name in names)

    def _new(self, directory: Path) -> Path:
        self._count += 1
        return directory / f"n{self._count}"

    def _write(self, place: Path) -> None:
        self._count += 1
        place.write_bytes(b"%d " % self._count + bytes(self._chance.choice((0, 100, 5_000))))


@pytest.mark.parametrize("seed", range(4))
def test_what_one_user_does_to_whole_directories_in_bursts_stands_everywhere(
    roots: list[Path], state: Path, seed: int
) -> None:
    (roots[0] / "work").mkdir()
    for number in range(BYSTANDERS):
        (roots[0] / f"bystander {number}").write_text(f"{number}")
    user = User(roots[0] / "work", seed)
    with watching(*roots, state=state) as daemon:
        daemon.in_sync()
        for _ in range(ACTIONS):
            user.act()
        expected = snapshot(roots[0])
        wait_for(lambda: alike(*roots), why="equal trees")
        daemon.in_sync()
        assert assert_same(*roots) == expected
