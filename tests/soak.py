"""All attacks, for as long as asked: `nox -s soak -- --minutes 60`.

Each attack is a command that is run again and again with another `ONITU_SEED`, and with `ONITU_FIGURES` naming a file
to which it may append lines of JSON ({"histories", "values", "faults", "lost", …}). One that fails has found something:
its seed, its command and the end of its output are printed, and the soak ends with 1 once its time is over.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import attrs

PYTEST = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")


@attrs.frozen
class Attack:
    """Something that tries to break a promise.

    Attributes:
        name: as it is printed.
        command: run from the project's root; `{seed}` in it is replaced.
        environment: on top of ours.
        needs: a module or a path without which there is no such attack here.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = attrs.field(factory=dict)
    needs: str = ""

    def is_here(self) -> bool:
        """Whether what it needs is there."""
        if not self.needs or "/" in self.needs:
            return Path(self.needs or ".").exists()
        return importlib.util.find_spec(self.needs) is not None


ATTACKS = (
    Attack("race", (*PYTEST, "tests/integration/test_race.py"), {"ONITU_RACE_WRITES": "100000"}),
    Attack("faults", (*PYTEST, "tests/integration/test_faults.py"), {"ONITU_FAULTS": "24"}),
    Attack("property", (*PYTEST, "tests/property", "--hypothesis-seed={seed}"), needs="tests/property"),
    Attack(
        "simulation",
        (sys.executable, "-m", "onitu.testing", "simulate", "--seeds", "{seed}-{seed}99", "--services", "3"),
        needs="onitu.testing.simulate",
    ),
)


def attack(what: Attack, seed: int, deadline: float) -> tuple[bool, list[dict[str, object]]]:
    """Run it once with a seed; whether it found nothing, and its figures. One that is ended at the deadline has."""
    with tempfile.NamedTemporaryFile(suffix=".figures") as figures:
        command = [part.replace("{seed}", str(seed)) for part in what.command]
        environment = {**what.environment, "ONITU_SEED": str(seed), "ONITU_FIGURES": figures.name}
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            output, _ = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(2)  # as Ctrl-C, so that it ends what it started
            process.communicate()
            return True, _figures(Path(figures.name))
        if process.returncode != 0:
            shown = " ".join([*(f"{name}={value}" for name, value in environment.items()), *command])
            print(f"--- {what.name} found something, seed {seed}:\n{shown}\n{output[-6000:]}", flush=True)
        return process.returncode == 0, _figures(Path(figures.name))


def _figures(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def soak(minutes: float, seed: int, only: list[str]) -> int:
    """Run the attacks in turn; the exit code."""
    here = [what for what in ATTACKS if what.is_here() and (not only or what.name in only)]
    deadline = time.monotonic() + minutes * 60
    totals: Counter[str] = Counter()
    failed: list[str] = []
    for number, what in zip(itertools.count(seed), itertools.cycle(here), strict=False):
        if time.monotonic() >= deadline:
            break
        began = time.monotonic()
        found_nothing, figures = attack(what, number, deadline)
        totals["runs"] += 1
        for line in figures:
            totals.update({name: value for name, value in line.items() if isinstance(value, int) and name != "seed"})
        if not found_nothing:
            failed.append(f"{what.name} {number}")
        print(
            f"{what.name:12} seed {number:<8} {time.monotonic() - began:6.0f} s  {len(figures)} histories", flush=True
        )
    wanted = ("runs", "histories", "faults", "values", "lost", "diverged", "ghosts")
    print(", ".join(f"{name} {totals[name]}" for name in wanted))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed or totals["lost"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description="Run all attacks for a while.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=None, help="the first seed (chosen, and printed)")
    parser.add_argument("--only", action="append", default=[], choices=[what.name for what in ATTACKS])
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    return soak(given.minutes, seed, given.only)


if __name__ == "__main__":
    sys.exit(main())
