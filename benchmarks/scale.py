"""How time and memory grow with what is synchronised: `python -m benchmarks.scale --help`.

    python -m benchmarks.scale many                 # 10,000, 100,000 and 1,000,000 files of 100 bytes
    python -m benchmarks.scale many --files 10000,100000
    python -m benchmarks.scale wide                 # 100,000 files in directories of 5,000
    python -m benchmarks.scale flat                 # 200,000 files in one directory
    python -m benchmarks.scale burst                # 100,000 files made while it runs, in no time
    python -m benchmarks.scale sparse               # a file of 50 GiB that takes nothing
    python -m benchmarks.scale troubles             # 100,000 names that no replica may hold

Each prints a table: seconds, processor time of all processes, and the memory of each process at most. At the end
both trees are compared byte by byte; a difference ends the benchmark. The trees are made in `--directory`, which wants
some 9 GB for a million files.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from . import processes, trees
from .processes import MEBI, Measured

IN_DIRECTORY = 100
SIZE = 100
SPARSE = 50 << 30
ISLAND = 1 << 20


@attrs.define
class Pair:
    """Two replicas, and runs of `onitu sync` on them."""

    root: Path

    @property
    def a(self) -> Path:
        return self.root / "a"

    @property
    def b(self) -> Path:
        return self.root / "b"

    def make(self) -> None:
        for place in (self.a, self.b):
            place.mkdir(parents=True)

    def run(self, what: str, fits: tuple[int, ...] = (0,)) -> Measured:
        """One run to its end, measured and told. `fits`: the exit codes that it may have."""
        os.sync()
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "onitu",
            "sync",
            self.a,
            self.b,
            "--state",
            self.root / "state",
            "--quiet",
        ]
        measured = processes.run(command, fits)
        print(row(what, measured), flush=True)
        return measured

    def check(self) -> None:
        """Compare the two, byte by byte."""
        wrong = list(itertools.islice(trees.differences(self.a, self.b), 10))
        if wrong:
            raise SystemExit("the replicas are not the same:\n" + "\n".join(wrong))


HEAD = (
    "| what | seconds | processor, s | all, MB | store, MB | Referee, MB | largest driver, MB |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def row(what: str, measured: Measured) -> str:
    """A line of the table."""

    def most(*roles: str) -> float:
        return max((use.resident for role, use in measured.uses.items() if role.startswith(roles)), default=0) / MEBI

    memory = (measured.proportional / MEBI, most("store"), most("referee"), most("driver"))
    return (
        f"| {what} | {measured.seconds:.1f} | {measured.processor:.1f} | "
        + " | ".join(f"{each:.0f}" for each in memory)
        + " |"
    )


def fill(root: Path, files: int, in_directory: int = IN_DIRECTORY) -> None:
    """So many files of `SIZE` bytes, each another."""
    for start in range(0, files, in_directory):
        number = start // in_directory
        place = root / f"part {number // 100:03}" / f"group {number % 100:02}"
        place.mkdir(parents=True)
        directory = os.open(place, os.O_RDONLY)
        for file in range(start, min(start + in_directory, files)):
            fd = os.open(f"file {file}", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
            os.write(fd, (b"%d " % file).ljust(SIZE, b"."))
            os.close(fd)
        os.close(directory)


def many(root: Path, files: int, in_directory: int = IN_DIRECTORY) -> None:
    """So many small files: the first run, one with nothing to do, and one after a single change."""
    pair = Pair(root)
    pair.make()
    fill(pair.a, files, in_directory)
    pair.run(f"{files:,} files, first")
    pair.run(f"{files:,} files, nothing to do")
    changed = next(path for path in pair.a.rglob("file *"))
    changed.write_bytes(b"changed")
    pair.run(f"{files:,} files, one change")
    pair.check()


def sparse(root: Path, size: int) -> None:
    """A file that is nearly all hole, and a small one of the same kind to compare with."""
    for bytes in (ISLAND * 50, size):
        pair = Pair(root / str(bytes))
        pair.make()
        with (pair.a / "sparse").open("wb") as file:
            file.truncate(bytes)
            for place in (0, bytes // 2, bytes - 4096):
                file.seek(place)
                file.write(os.urandom(4096))
        pair.run(f"a sparse file of {bytes / 2**30:.2f} GiB, first")
        pair.run(f"a sparse file of {bytes / 2**30:.2f} GiB, nothing to do")
        one, other = (pair.a / "sparse").stat(), (pair.b / "sparse").stat()
        if one.st_size != other.st_size or other.st_blocks > one.st_blocks + 2048:
            raise SystemExit(f"it did not stay sparse: {other.st_blocks * 512} bytes")


def troubles(root: Path, files: int) -> None:
    """So many names that cannot be synchronised (FIFOs), beside one file that can."""
    pair = Pair(root)
    pair.make()
    for number in range(files):
        if number % 1000 == 0:
            place = pair.a / f"part {number // 1000}"
            place.mkdir()
        os.mkfifo(place / f"fifo {number}")
    (pair.a / "file").write_bytes(b"arrives")
    pair.run(f"{files:,} FIFOs, first", fits=(0, 1))
    pair.run(f"{files:,} FIFOs, again", fits=(0, 1))
    if (pair.b / "file").read_bytes() != b"arrives":
        raise SystemExit("the file did not arrive")


def burst(root: Path, files: int) -> None:
    """So many files made while it runs, faster than they are taken, in directories that are there and in new ones."""
    from tests.integration.harness import watching

    pair = Pair(root)
    pair.make()
    (pair.a / "there").mkdir()
    with watching(pair.a, pair.b, state=root / "state") as daemon:
        began = time.perf_counter()
        with processes.watching(daemon.process.pid) as measured:
            fill(pair.a / "there", files // 2, 1000)
            fill(pair.a / "new", files - files // 2)
            made = time.perf_counter() - began
            daemon.in_sync(3600)
        print(row(f"{files:,} files made in {made:.1f} s while it runs", measured), flush=True)
    pair.check()


SUBJECTS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "many": ("10000,100000,1000000", many),
    "wide": ("100000", lambda root, files: many(root, files, 5_000)),
    "flat": ("200000", lambda root, files: many(root, files, files)),
    "burst": ("100000", burst),
    "sparse": (str(SPARSE), sparse),
    "troubles": ("100000", troubles),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run what was asked for, and print the result."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    asked.add_argument("subjects", nargs="*", default=list(SUBJECTS), help="which (default: all)")
    asked.add_argument("--files", default="", help="how many, with commas between (sparse: bytes)")
    asked.add_argument("--directory", default=None, help="where the trees are made (default: the temporary directory)")
    given = asked.parse_args(words)
    print(HEAD)
    for subject in given.subjects:
        usual, act = SUBJECTS[subject]
        for files in (given.files or usual).split(","):
            with tempfile.TemporaryDirectory(prefix="onitu-scale-", dir=given.directory) as directory:
                act(Path(directory), int(files))


if __name__ == "__main__":
    main()
