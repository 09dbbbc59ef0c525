"""All attacks, for as long as asked: `nox -s soak -- --minutes 60`.

Each attack is a command that is run again and again with another `ONITU_SEED`, and with `ONITU_FIGURES` naming a file
to which it may append lines of JSON ({"histories", "values", "faults", "lost", …}). One that fails has found something,
and so has one that does not end within its own time: its seed, its command and the end of its output are printed, and
the soak ends with 1. Once the time asked for is over no attack is begun, and the last one is let come to its end.
Ctrl-C ends the attack under way, and the figures so far are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import random
import signal
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
        command: run from the project's root; `{seed}` in it is replaced, and `{seeds}` by a range of a hundred.
        environment: on top of ours.
        needs: a module or a path without which there is no such attack here.
        longest: seconds after which it hangs.
        histories: of an attack that writes no figures, how many it tries.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = attrs.field(factory=dict)
    needs: str = ""
    longest: float = 1200.0
    histories: int = 0

    def is_here(self) -> bool:
        """Whether what it needs is there."""
        if not self.needs or "/" in self.needs:
            return Path(self.needs or ".").exists()
        return importlib.util.find_spec(self.needs) is not None


ATTACKS = (
    Attack(
        "simulation",
        (sys.executable, "-m", "onitu.testing", "simulate", "--seeds", "{seeds}", "--services", "3"),
        needs="onitu.testing.simulate",
        histories=100,
    ),
    Attack("race", (*PYTEST, "tests/integration/test_race.py")),
    Attack("faults", (*PYTEST, "tests/integration/test_faults.py", "tests/integration/test_disks.py")),
    Attack("mixed", (*PYTEST, "tests/integration/test_mixed_storm.py"), {"ONITU_STORM_VALUES": "2000"}),
    Attack(
        "property", (*PYTEST, "tests/property", "--hypothesis-seed={seed}"), {"ONITU_SOAK": "2"}, needs="tests/property"
    ),
)


def attack(what: Attack, seed: int) -> tuple[bool, list[dict[str, object]]]:
    """Run it once with a seed; whether it found nothing, and its figures."""
    with tempfile.NamedTemporaryFile(suffix=".figures") as figures:
        seeds = f"{seed * 100}-{seed * 100 + 99}"
        command = [part.replace("{seeds}", seeds).replace("{seed}", str(seed)) for part in what.command]
        environment = {**what.environment, "ONITU_SEED": str(seed), "ONITU_FIGURES": figures.name}
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        hangs = False
        try:
            output, _ = process.communicate(timeout=what.longest)
        except subprocess.TimeoutExpired:
            hangs = True
            output = _interrupted(process)
        except KeyboardInterrupt:
            _interrupted(process)
            raise
        found_nothing = process.returncode == 0 and not hangs
        if not found_nothing:
            shown = " ".join([*(f"{name}={value}" for name, value in environment.items()), *command])
            found = f"hung for {what.longest:g} s" if hangs else "found something"
            print(f"--- {what.name} {found}, seed {seed}:\n{shown}\n{output[-6000:]}", flush=True)
        return found_nothing, _figures(Path(figures.name)) or [{"histories": what.histories}]


def _interrupted(process: subprocess.Popen[str]) -> str:
    """End it as by Ctrl-C, so that it ends what it started and says where it was; its output."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=60.0)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def _figures(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def soak(minutes: float, seed: int, only: list[str]) -> int:
    """Run the attacks in turn; the exit code."""
    here = [what for what in ATTACKS if what.is_here() and (not only or what.name in only)]
    deadline = time.monotonic() + minutes * 60
    totals: Counter[str] = Counter()
    failed: list[str] = []
    interrupted = False
    for number, what in zip(itertools.count(seed), itertools.cycle(here), strict=False):
        if time.monotonic() >= deadline:
            break
        began = time.monotonic()
        try:
            found_nothing, figures = attack(what, number)
        except KeyboardInterrupt:
            interrupted = True
            print(f"{what.name:12} seed {number:<8} interrupted", flush=True)
            break
        totals["runs"] += 1
        for line in figures:
            totals.update({name: value for name, value in line.items() if isinstance(value, int) and name != "seed"})
        if not found_nothing:
            failed.append(f"{what.name} {number}")
        histories = sum(int(str(line["histories"])) for line in figures)
        print(f"{what.name:12} seed {number:<8} {time.monotonic() - began:6.0f} s  {histories} histories", flush=True)
    wanted = ("runs", "histories", "faults", "values", "lost", "diverged", "ghosts")
    print(", ".join(f"{name} {totals[name]}" for name in wanted))
    if failed:
        print(f"failed: {', '.join(failed)}")
    if failed or totals["lost"]:
        return 1
    return 130 if interrupted else 0


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
