"""Many files: one tree to two empty replicas, then once more with nothing to do, process by process.

    python -m benchmarks.many [--files 100000] [--rounds 1] [--changes 20]

`cp -a`, `rsync -a` (where it is installed) and `onitu sync` take turns on the same tree, so that a slow moment of the
machine hits all of them. Every copy is compared with the original byte by byte; one that differs ends the benchmark.
The result is Markdown on standard output; the ratios are what counts. A run on a small tree comes first and does not
count: it leaves Python's bytecode behind, as an installation does.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from . import processes, trees
from .processes import MEBI, Measured, Use

COPIES = ("B", "C")


@attrs.define
class Contest:
    """One tree and those who copy it.

    Attributes:
        root: where everything is.
        took: by contestant, what each round measured.
    """

    root: Path
    took: dict[str, list[Measured]] = attrs.field(factory=dict)

    @property
    def original(self) -> Path:
        return self.root / "A"

    def round(self, number: int) -> None:
        """Everybody once."""
        self._copying(f"cp-{number}", "cp -a", lambda target: ["cp", "-a", f"{self.original}/.", str(target)])
        if shutil.which("rsync"):
            self._copying(
                f"rsync-{number}", "rsync -a", lambda target: ["rsync", "-a", f"{self.original}/", str(target)]
            )
        self._syncing(number)

    def _copying(self, place: str, name: str, command: Callable[[Path], list[str]]) -> None:
        """A tool that makes one copy at a time; twice with nothing to do for one that can tell."""
        targets = self._targets(place)
        once = [processes.run(command(target)) for target in targets]
        self._note(name, once)
        self._check(targets)
        if name.startswith("rsync"):
            self._note(f"{name}, nothing to do", [processes.run(command(target)) for target in targets])
        shutil.rmtree(self.root / place)

    def _syncing(self, number: int) -> None:
        targets = self._targets(f"onitu-{number}")
        state = self.root / f"state-{number}"
        command: list[str | Path] = [sys.executable, "-m", "onitu", "sync", self.original, *targets, "--state", state]
        self._note("onitu sync", [processes.run(command)])
        self._check(targets)
        self._note("onitu sync, nothing to do", [processes.run(command)])
        self._check(targets)
        shutil.rmtree(self.root / f"onitu-{number}")
        shutil.rmtree(state)
        shutil.rmtree(self.original / ".onitu")

    def _targets(self, place: str) -> list[Path]:
        targets = [self.root / place / copy for copy in COPIES]
        for target in targets:
            target.mkdir(parents=True)
        os.sync()  # what the one before left to be written is not the next one's time
        return targets

    def _note(self, name: str, parts: list[Measured]) -> None:
        whole = Measured(
            sum(part.seconds for part in parts),
            max(part.proportional for part in parts),
            sum(part.processor for part in parts),
            {role: use for part in parts for role, use in part.uses.items()},
        )
        self.took.setdefault(name, []).append(whole)
        print(f"{name}: {whole.seconds:.2f} s", file=sys.stderr)

    def _check(self, targets: list[Path]) -> None:
        for target in targets:
            wrong = list(itertools.islice(trees.differences(self.original, target), 10))
            if wrong:
                raise SystemExit("a copy is not the original:\n" + "\n".join(wrong))


def table(contest: Contest) -> list[str]:
    """The contestants, the median of their rounds, beside `cp -a` and `rsync -a`."""
    rivals = [name for name in ("cp -a", "rsync -a") if name in contest.took]
    lines = [
        "| | seconds | " + "".join(f"÷ {rival} | " for rival in rivals) + "all processes, MB | largest, MB |",
        "|---|---:|" + "---:|" * (len(rivals) + 2),
    ]
    for name, rounds in contest.took.items():
        seconds = statistics.median(one.seconds for one in rounds)
        beside = [statistics.median(one.seconds for one in contest.took[rival]) for rival in rivals]
        ratios = "".join(f"{seconds / rival:.2f} | " for rival in beside)
        memory = max(one.proportional for one in rounds), max(one.largest for one in rounds)
        lines.append(f"| {name} | {seconds:.2f} | {ratios}{memory[0] / MEBI:.0f} | {memory[1] / MEBI:.0f} |")
    return lines


def shares(uses: dict[str, Use]) -> list[str]:
    """The processes of one run."""
    lines = ["| process | resident at most, MB | processor, s |", "|---|---:|---:|"]
    for role, use in sorted(uses.items()):
        lines.append(f"| {role} | {use.resident / MEBI:.0f} | {use.processor:.1f} |")
    return lines


def latency(changes: int) -> list[str]:
    """How long one small change takes in a run that watches and has nothing else to do."""
    from tests.integration.harness import watching

    from .latency import PAUSE, WARM, Watched
    from .latency import changes as kinds

    lines = ["| one change | median, ms | 90 %, ms |", "|---|---:|---:|"]
    with tempfile.TemporaryDirectory() as directory:
        a, b = Path(directory) / "a", Path(directory) / "b"
        a.mkdir()
        b.mkdir()
        with watching(a, b, state=Path(directory) / "state"):
            there = Watched(b)
            for name, change in kinds(a, b).items():
                took: list[float] = []
                for number in range(WARM + changes):
                    time.sleep(PAUSE)
                    began = time.perf_counter()
                    there.until(change(number))
                    took.append(1000 * (time.perf_counter() - began))
                took = sorted(took[WARM:])
                ninety = took[min(len(took) - 1, int(len(took) * 0.9))]
                lines.append(f"| {name} | {statistics.median(took):.0f} | {ninety:.0f} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it and print the result."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__.splitlines()[0])
    words.add_argument("--files", type=int, default=100_000, help="files in the tree (default: %(default)s)")
    words.add_argument("--rounds", type=int, default=1, help="turns of everybody (default: %(default)s)")
    words.add_argument("--changes", type=int, default=20, help="of each kind, for the latency; 0: none")
    words.add_argument("--directory", default=None, help="where the trees are made (default: the temporary directory)")
    given = words.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="onitu-bench-", dir=given.directory) as directory:
        warm = Contest(Path(directory) / "warm")
        trees.make(warm.original, 10)
        warm.round(0)
        contest = Contest(Path(directory))
        size = trees.make(contest.original, given.files)
        for number in range(given.rounds):
            contest.round(number)
        print(f"\n{given.files:,} files, {size / 1e6:.0f} MB, to {len(COPIES)} empty replicas:\n")
        print("\n".join(table(contest)))
        print("\nThe first run of `onitu sync`, process by process:\n")
        print("\n".join(shares(contest.took["onitu sync"][-1].uses)))
    if given.changes:
        print("\nOne small change at a time, while `onitu sync --watch` is quiet:\n")
        print("\n".join(latency(given.changes)))


if __name__ == "__main__":
    main()
