"""What users do in a trial, and how it is told to the oracle.

They write by exchange, create, delete, and make and remove directories: each of these says exactly what it replaced,
and every synchroniser should stand it. Renames are left to quiet times: only then does a look before it say what is
renamed.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from .hands import Deed, Hands
from .spec import DIRECTORY, History, Item, Kind, link
from .users import Habit, User, delete, recreate, save
from .values import name_of

FILES = ("f0", "f1", "f2", "d/f0", "d/f1", "d/e/f0", "g/f0", "g/f1")
"""The files that users play with."""

RACED = FILES[:2]
"""The files that they race for."""

PACE = 0.01
"""Seconds between two deeds of one user, where they do not race."""

LARGEST = 20_000
"""Bytes of a value, at most."""


def make_directory(hands: Hands, path: str, chance: random.Random) -> None:
    """Make the directory that the file is in."""
    hands.mkdir(os.path.dirname(path) or "h")


def remove_directory(hands: Hands, path: str, chance: random.Random) -> None:
    """Remove the directory that the file is in, if it is empty."""
    hands.rmdir(os.path.dirname(path) or "h")


def rename(hands: Hands, path: str, chance: random.Random) -> None:
    """Give a file another name, or the directory that it is in; to be done while nobody else writes."""
    source, target = path, chance.choice(FILES)
    if chance.random() < 0.3:
        source, target = os.path.dirname(path) or "h", os.path.dirname(target) or "h"
    if not (hands.root / source).is_dir():
        hands.read(source)
    for below in sorted(look_at(hands.root / source, ())) if (hands.root / source).is_dir() else ():
        if not (hands.root / source / below).is_dir():
            hands.read(f"{source}/{below}")
    hands.move(source, target)


BUSILY: Mapping[Habit, float] = {save: 8.0, delete: 2.0, recreate: 1.0, make_directory: 1.0, remove_directory: 1.0}
"""What they do while the tool runs."""

QUIETLY: Mapping[Habit, float] = {**BUSILY, delete: 3.0, rename: 3.0}
"""What they do while it does not."""

RACING: Mapping[Habit, float] = {save: 1.0}
"""What they do in a race."""


@attrs.define
class Account:
    """What all users did, as the oracle wants it.

    Attributes:
        history: what was told so far.
    """

    users: Sequence[User]
    history: History = attrs.field(factory=History)
    _told: dict[str, int] = attrs.field(factory=dict)

    def catch_up(self) -> History:
        """Tell what users did since the last time; nobody may be at work."""
        new: list[Deed] = []
        for user in self.users:
            deeds = user.deeds
            new += deeds[self._told.get(user.hands.user, 0) :]
            self._told[user.hands.user] = len(deeds)
        seen: dict[tuple[str, str], str] = {}
        for deed in sorted(new, key=lambda deed: deed.at):
            self._tell(deed, seen)
        return self.history

    def _tell(self, deed: Deed, seen: dict[tuple[str, str], str]) -> None:
        """Write one deed down. `seen`: what its user read last at a path, for a rename."""
        user, path, replaced = deed.user, deed.path, deed.replaced[0] if deed.replaced else None
        if deed.did in ("exchange", "create"):
            self.history.write(user, path, str(deed.value), replaced, deed.at)
        elif deed.did == "delete":
            self.history.delete(user, path, str(replaced), deed.at)
        elif deed.did == "mkdir":
            self.history.mkdir(user, path, deed.at)
        elif deed.did == "rmdir":
            self.history.rmdir(user, path, deed.at)
        elif deed.did == "read":
            seen[user, path] = str(deed.value)
        elif deed.did == "move":
            self.history.rename(user, path, deed.target, seen.get((user, path)), None, deed.at)
            for below in [below for owner, below in seen if owner == user and below.startswith(f"{path}/")]:
                target = deed.target + below[len(path) :]
                self.history.rename(user, below, target, seen[user, below], None, deed.at)
            seen.clear()
        else:
            raise ValueError(f"no trial has users who {deed.did}")


def look_at(root: Path, ignored: Sequence[str]) -> dict[str, Item]:
    """The tree below a root, without names that match a pattern, each file with the name of its value.

    What goes away while it is looked at is not there.
    """
    found: dict[str, Item] = {}

    def walk(directory: Path, prefix: str) -> None:
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in ignored):
                    continue
                path = prefix + entry.name
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_symlink():
                        found[path] = link(os.readlink(entry.path))
                    elif entry.is_dir():
                        found[path] = DIRECTORY
                        walk(Path(entry.path), path + "/")
                    elif entry.is_file():
                        found[path] = Item(Kind.FILE, name_of(Path(entry.path).read_bytes()))

    walk(root, "")
    return found
