"""Trees of small files: made from a seed, and compared byte by byte."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

IN_DIRECTORY = 100
"""Files in one directory, and directories in the one above."""

SMALLEST, LARGEST = 100, 4096
"""Bytes in a file."""


def make(root: Path, files: int, seed: int = 1) -> int:
    """Make a tree of so many files below `root`, which does not exist yet. Returns its bytes."""
    chance = random.Random(seed)  # noqa: S311 (the same tree each time)
    total = 0
    for start in range(0, files, IN_DIRECTORY):
        number = start // IN_DIRECTORY
        directory = root / f"part {number // IN_DIRECTORY:02}" / f"group {number % IN_DIRECTORY:02}"
        directory.mkdir(parents=True)
        for file in range(min(IN_DIRECTORY, files - start)):
            content = chance.randbytes(chance.randint(SMALLEST, LARGEST))
            (directory / f"file {file:02}.bin").write_bytes(content)
            total += len(content)
    return total


def differences(one: Path, other: Path) -> Iterator[str]:
    """What is not the same in two trees: names, kinds, contents, modes and times of files. `.onitu` does not count."""
    here, there = _listed(one), _listed(other)
    for path in sorted(here.keys() | there.keys()):
        if path not in here or path not in there:
            yield f"{path} is only in {one if path in here else other}"
        elif here[path] != there[path]:
            yield f"{path} differs in kind, size, mode or time"
        elif (one / path).is_file() and (one / path).read_bytes() != (other / path).read_bytes():
            yield f"{path} differs in content"


def _listed(root: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for directory, names, files in os.walk(root):
        here = os.path.relpath(directory, root)
        if here == ".":
            names[:] = [name for name in names if name != ".onitu"]
        for name in [*names, *files]:
            path = os.path.normpath(os.path.join(here, name))
            st = os.lstat(os.path.join(directory, name))
            found[path] = (st.st_mode, st.st_size, st.st_mtime_ns) if name in files else (st.st_mode,)
    return found
