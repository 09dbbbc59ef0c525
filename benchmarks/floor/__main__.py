"""Print where the time of some works goes, as Markdown: seconds of processor time, medians.

    python -m benchmarks.floor [--works start,nothing,edits,first,large,moved] [--files 10000] [--directory /dev/shm]

"Bare" is what Python takes for the system calls alone. It needs a checkout and `pip install '.[bench]'`: an editable
installation takes time of its own to find its modules.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import trio

from benchmarks import peers, processes
from benchmarks.processes import Measured
from onitu.drivers.local.limbo import LAST_AGE

from . import changes, first, large, moved, nothing, start
from .desk import SIZE, met

START = "start and end: a run on two empty directories"
LOADED = "the interpreter, and the code that can look: loaded"
RUNS = "a run that goes on: nothing to start"
WORKS = ("start", "nothing", "edits", "first", "large", "moved")
MOVED = 500
"""Files in the directory that is renamed."""


@attrs.define
class Seen:
    """What was measured of one work: seconds of each stage, in each round, and of whole runs.

    Attributes:
        before: what comes before the stages.
        stages: by their names.
        bare: the same, of bare system calls.
        runs: whole runs; none where a run that goes on is meant.
        empty: what comes before the stages, alone.
        waits: seconds for which a run waits at its end, however fast it is.
    """

    before: str = START
    stages: dict[str, list[float]] = attrs.field(factory=dict)
    bare: dict[str, list[float]] = attrs.field(factory=dict)
    runs: list[Measured] = attrs.field(factory=list)
    empty: list[Measured] = attrs.field(factory=list)
    waits: float = 0.0

    def note(
        self, empty: Measured, run: Measured | None, stages: Mapping[str, float], bare: Mapping[str, float]
    ) -> None:
        self.empty.append(empty)
        self.runs += [run] if run is not None else []
        for kept, told in ((self.stages, stages), (self.bare, bare)):
            for stage, seconds in told.items():
                kept.setdefault(stage, []).append(seconds)

    def table(self, what: str, order: Sequence[str]) -> list[str]:
        """Its lines."""
        stages = {stage: statistics.median(self.stages[stage]) for stage in order}
        bare = {stage: statistics.median(seconds) for stage, seconds in self.bare.items()}
        empty = statistics.median(run.processor for run in self.empty)
        lines = [f"| {what} | bare, s | Onitu, s |", "| --- | ---: | ---: |"]
        if order != start.STAGES:
            stages = {self.before: empty, **stages}
        for stage, seconds in stages.items():
            alone = f"{bare[stage]:.2f}" if stage in bare else ""
            lines.append(f"| {stage} | {alone} | {seconds:.2f} |")
        lines.append(f"| together | {f'{sum(bare.values()):.2f}' if bare else ''} | {sum(stages.values()):.2f} |")
        if self.runs:
            processor = statistics.median(run.processor for run in self.runs)
            lines.append(f"| a run as it is, processor time | | {processor:.2f} |")
            seconds = statistics.median(run.seconds for run in self.runs)
            lines.append(f"| a run as it is, from its start to its end | | {seconds:.2f} |")
        if order != start.STAGES:
            processors = len(os.sched_getaffinity(0))
            began = statistics.median(run.seconds for run in self.empty)
            least = began + (sum(stages.values()) - empty) / processors
            if self.waits:
                lines.append(f"| a second look at what was displaced last, after | | {self.waits:.2f} |")
            lines.append(f"| the least with {processors} processors that never wait | | {least + self.waits:.2f} |")
        return lines


def onitu(root: Path, source: Path, target: Path) -> Measured:
    """A run of `onitu sync`, whose state is kept in `root`."""
    target.mkdir(exist_ok=True)
    words = [sys.executable, "-P", "-m", "onitu", "sync", source, target, "--state", root / "state", "--quiet"]
    return processes.run([str(word) for word in words])


def once(root: Path, works: Sequence[str], files: int, mebibytes: int, seen: dict[str, Seen]) -> None:
    """One round of everything."""
    (root / "one").mkdir()
    empty = onitu(root / "empty", root / "one", root / "other")
    loaded = processes.run([sys.executable, "-P", "-c", start.A_GLANCE])
    if "start" in works:
        seen["start"].note(empty, empty, start.taken(root / "server", empty.processor), {})
    if {"nothing", "first", "edits"} & set(works):
        _small(root, files, empty, loaded, seen)
    if "moved" in works:
        _moved(root, seen["moved"])
    if "large" in works:
        source = root / "large"
        source.mkdir()
        large.make(source / "file", mebibytes)
        run = onitu(root / "large-state", source, root / "large-copy")
        shutil.rmtree(root / "large-copy")
        seen["large"].note(empty, run, large.copied(source / "file", root / "copied"), {})


def _small(root: Path, files: int, empty: Measured, loaded: Measured, seen: dict[str, Seen]) -> None:
    """The tree of small files: copied, looked at again, edited on both sides."""
    source = root / "source"
    peers.fill(source, files, SIZE)
    for name in ("bare", "staged"):
        (root / name).mkdir()
    bare = first.bare(source, root / "bare")
    copying = onitu(root / "runs", source, root / "copy")
    again = onitu(root / "runs", source, root / "copy")
    shutil.copytree(source, root / "other source", ignore=shutil.ignore_patterns(".onitu"))
    peers.edit(source, root / "copy", files)
    edited = onitu(root / "runs", source, root / "copy")
    roots = {first.HAS: root / "other source", first.LACKS: root / "staged"}

    async def staged() -> None:
        async with met(root / "stages", roots) as (at, drivers):
            took = await first.copied(at, drivers, roots[first.HAS])
            seen["first"].note(empty, copying, took, bare)
            took = await nothing.counted(drivers)
            seen["nothing"].note(loaded, again, took, nothing.bare(list(roots.values())))
            peers.edit(roots[first.HAS], roots[first.LACKS], files)
            seen["edits"].note(empty, edited, await changes.carried(at, drivers, roots), {})

    trio.run(staged)


def _moved(root: Path, seen: Seen) -> None:
    """A directory that is renamed while it runs."""
    source = root / "moving"
    (source / "folder").mkdir(parents=True)
    for number in range(MOVED):
        (source / "folder" / f"file {number}").write_bytes(os.urandom(25 * SIZE))
    (root / "moved").mkdir()
    roots = {first.HAS: source, first.LACKS: root / "moved"}

    async def staged() -> None:
        async with met(root / "moves", roots) as (at, drivers):
            await first.copied(at, drivers, source)
            seen.note(Measured(), None, await moved.carried(at, drivers, roots, "folder"), {})

    trio.run(staged)
    if wrong := next(peers.differences(*roots.values()), None):
        raise SystemExit(f"the stages left the trees different: {wrong}")


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("--works", default=",".join(WORKS), help="which (default: %(default)s)")
    asked.add_argument("--files", type=int, default=10_000, help="of 4 KiB (default: %(default)s)")
    asked.add_argument("--large", type=int, default=1024, help="MiB of the large file (default: %(default)s)")
    asked.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    asked.add_argument("--directory", type=Path, help="where the trees are made (default: for temporary files)")
    given = asked.parse_args()
    works = given.works.split(",")
    if unknown := set(works) - set(WORKS):
        asked.error(f"no such works: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    before = {"nothing": LOADED, "moved": RUNS}
    seen = {work: Seen(before.get(work, START)) for work in WORKS}
    seen["edits"].waits = LAST_AGE
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory(prefix="onitu-", dir=given.directory) as directory:
            once(Path(directory), works, given.files, given.large, seen)
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
    tables = {
        "start": ("start and end", start.STAGES),
        "nothing": (f"nothing to do, {given.files:,} files", nothing.STAGES),
        "edits": (
            f"{min(peers.EDITS, given.files // 10):,} edits on both sides of {given.files:,} files",
            changes.STAGES,
        ),
        "first": (f"first copy of {given.files:,} files of 4 KiB", first.STAGES),
        "large": (f"first copy of a file of {given.large:,} MiB", large.STAGES),
        "moved": (f"a directory of {MOVED} files of 100 KiB renamed while it runs", moved.STAGES),
    }
    print("\n\n".join("\n".join(seen[work].table(*tables[work])) for work in works))


if __name__ == "__main__":
    main()
