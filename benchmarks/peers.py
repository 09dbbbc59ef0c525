"""Onitu beside the tools that people compare it with: `python -m benchmarks.peers --help`.

`cp -a`, `rsync -a`, `rclone sync`, `rclone bisync` and Unison, where they are installed, and `onitu sync` take turns on
the same trees and the same edits, so that a slow moment of the machine hits all of them. All start cold: the time of a
run is that of its command, from its start to its end. After each run both trees are compared byte by byte; a run that
left them different ends the benchmark. The result is Markdown on standard output; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from .processes import environment

IN_DIRECTORY = 100
EDITS = 1_000
RENAMED = 500
LARGE = 100 * 1024

Command = Callable[[Path, Path, Path, bool], list[str]]
"""What makes two directories the same, with a directory for what the tool remembers; whether it is their first run."""


@attrs.frozen
class Tool:
    """A contestant.

    Attributes:
        name: as it is called.
        program: what has to be installed.
        command: see `Command`.
        remembers: whether it knows what it did, so that it can carry changes of both sides.
        again: whether it can be asked again with nothing to do, or for changes of one side.
    """

    name: str
    program: str
    command: Command
    remembers: bool = False
    again: bool = True


def _bisync(a: Path, b: Path, state: Path, first: bool) -> list[str]:
    words = ["rclone", "bisync", str(a), str(b), "--workdir", str(state), "--force", "--remove-empty-dirs", "--quiet"]
    return [*words, "--resync"] if first else words


TOOLS = (
    Tool("cp -a", "cp", lambda a, b, state, first: ["cp", "-a", f"{a}/.", str(b)], again=False),
    Tool("rsync -a", "rsync", lambda a, b, state, first: ["rsync", "-a", "--delete", f"{a}/", str(b)]),
    Tool("rclone sync", "rclone", lambda a, b, state, first: ["rclone", "sync", str(a), str(b), "--quiet"]),
    Tool("rclone bisync", "rclone", _bisync, remembers=True),
    Tool(
        "unison",
        "unison",
        lambda a, b, state, first: [
            *("env", f"UNISON={state}", "unison", str(a), str(b)),
            *("-batch", "-auto", "-times", "-silent", "-confirmbigdel=false"),
        ],
        remembers=True,
    ),
    Tool(
        "onitu sync",
        sys.executable,
        lambda a, b, state, first: [
            *(sys.executable, "-m", "onitu", "sync", str(a), str(b), "--state", str(state), "--quiet")
        ],
        remembers=True,
    ),
)


@attrs.define
class Contest:
    """All that was measured.

    Attributes:
        root: where everything is.
        took: by work and tool, the seconds of each round.
    """

    root: Path
    took: dict[tuple[str, str], list[float]] = attrs.field(factory=dict)

    def round(self, tools: list[Tool], files: int) -> None:
        """Everybody once, each with trees of its own."""
        for tool in tools:
            place = self.root / "round"
            try:
                self._small(tool, place / "small", files)
                if tool.again:
                    self._renamed(tool, place / "renamed")
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def _small(self, tool: Tool, place: Path, files: int) -> None:
        a, b, state = _places(place)
        fill(a, files, 4096)
        self._run(f"first sync, {files:,} × 4 KiB", tool, a, b, state, first=True)
        if tool.again:
            self._run(f"nothing to do, {files:,} files", tool, a, b, state)
        if tool.remembers and files >= EDITS:
            edit(a, b, files)
            self._run(f"{EDITS:,} edits on both sides of {files:,} files", tool, a, b, state)

    def _renamed(self, tool: Tool, place: Path) -> None:
        a, b, state = _places(place)
        fill(a / "folder", RENAMED, LARGE)
        fill(a / "other", 10, LARGE)
        self._run("", tool, a, b, state, first=True)
        (a / "folder").rename(a / "renamed")
        self._run(f"a folder of {RENAMED} × 100 KiB renamed", tool, a, b, state)

    def _run(self, work: str, tool: Tool, a: Path, b: Path, state: Path, *, first: bool = False) -> None:
        command = tool.command(a, b, state, first)
        began = time.perf_counter()
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), check=False
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{tool.name} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        if work:
            self.took.setdefault((work, tool.name), []).append(seconds)
            print(f"{tool.name}: {work}: {seconds:.2f} s", file=sys.stderr)
        wrong = list(itertools.islice(differences(a, b), 10))
        if wrong:
            raise SystemExit(f"{tool.name} left the trees different:\n" + "\n".join(wrong))


def differences(a: Path, b: Path) -> Iterator[str]:
    """Names that stand in one of two trees only, and files of which a byte differs. Modes and times do not count: not
    every tool keeps them to the nanosecond. `.onitu` does not count either."""
    here, there = _names(a), _names(b)
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) is not there.get(name):
            yield f"{name} is not the same kind of thing in both"
        elif here[name] and (a / name).read_bytes() != (b / name).read_bytes():
            yield f"{name} differs in content"


def _names(root: Path) -> dict[str, bool]:
    """All that stands in a tree by its path, and whether it is a file."""
    found = {}
    for directory, directories, files in os.walk(root):
        place = Path(directory).relative_to(root)
        if place == Path():
            directories[:] = [name for name in directories if name != ".onitu"]
        found |= {str(place / name): False for name in directories}
        found |= {str(place / name): True for name in files}
    return found


def fill(root: Path, files: int, size: int) -> None:
    """So many files of so many random bytes, the same each time, in directories of `IN_DIRECTORY`."""
    chance = random.Random(files)  # noqa: S311 (the same tree each time)
    for number in range(files):
        directory = root / f"part {number // IN_DIRECTORY:04}"
        if number % IN_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / f"file {number % IN_DIRECTORY:02}.bin").write_bytes(chance.randbytes(size))


def edit(a: Path, b: Path, files: int) -> None:
    """`EDITS` changes, in turns on both sides, of different files: half of them new contents, the others deletions,
    renames and new files."""
    chance = random.Random(2)  # noqa: S311
    chosen = chance.sample(range(files), EDITS - EDITS // 5)
    for turn, number in enumerate(chosen):
        path = (a, b)[turn % 2] / f"part {number // IN_DIRECTORY:04}" / f"file {number % IN_DIRECTORY:02}.bin"
        if turn < EDITS // 2:
            # Of another length each: Unison takes a file for unchanged that was written twice within a second.
            path.write_bytes(chance.randbytes(4097 + turn % 100))
        elif turn < EDITS * 2 // 3:
            path.unlink()
        else:
            path.rename(path.with_name(f"renamed {path.name}"))
    for turn in range(EDITS // 5):
        (a, b)[turn % 2].joinpath(f"part {turn % (files // IN_DIRECTORY):04}", f"new {turn}.bin").write_bytes(
            chance.randbytes(4096)
        )


def table(took: dict[tuple[str, str], list[float]], tools: list[Tool]) -> list[str]:
    """Medians in seconds, and what Onitu took as a multiple of each."""
    names = [tool.name for tool in tools]
    lines = ["| work | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for work in dict.fromkeys(work for work, _ in took):
        medians = {name: statistics.median(took[work, name]) for name in names if (work, name) in took}
        ours = medians.get(names[-1])
        cells = []
        for name in names:
            if name not in medians:
                cells.append("")
            elif name == names[-1] or ours is None:
                cells.append(f"{medians[name]:.2f}")
            else:
                cells.append(f"{medians[name]:.2f} ({ours / medians[name]:.2f})")
        lines.append(f"| {work} | " + " | ".join(cells) + " |")
    return lines


def _places(place: Path) -> tuple[Path, Path, Path]:
    a, b, state = place / "a", place / "b", place / "state"
    for directory in (a, b, state):
        directory.mkdir(parents=True, mode=0o700)
        directory.chmod(0o755 if directory is not state else 0o700)
    os.sync()  # what the one before left to be written is not the next one's time
    return a, b, state


def main() -> None:
    """Run it and print the result."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    words.add_argument("--files", type=int, default=10_000, help="files in the tree (default: %(default)s)")
    words.add_argument("--rounds", type=int, default=3, help="turns of everybody (default: %(default)s)")
    words.add_argument("--only", default="", help="tools by name, with commas between; onitu sync is always there")
    words.add_argument("--directory", default=None, help="where the trees are made (default: the temporary directory)")
    given = words.parse_args()
    wanted = [name.strip() for name in given.only.split(",") if name.strip()]
    tools = [
        tool
        for tool in TOOLS
        if shutil.which(tool.program) and (not wanted or tool is TOOLS[-1] or tool.name in wanted)
    ]
    with tempfile.TemporaryDirectory(prefix="onitu-peers-", dir=given.directory) as directory:
        Contest(Path(directory)).round(tools[-1:], 10)  # leaves Python's bytecode behind, as an installation does
        contest = Contest(Path(directory))
        for _ in range(given.rounds):
            contest.round(tools, given.files)
    print(f"\nSeconds, medians of {given.rounds}; in brackets what `onitu sync` took as a multiple of it:\n")
    print("\n".join(table(contest.took, tools)))


if __name__ == "__main__":
    main()
