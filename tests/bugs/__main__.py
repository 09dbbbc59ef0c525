"""Put each deliberate bug into a copy of the code, one by one, and run the tests that should see it.

    python -m tests.bugs [--jobs N] [PART OF A NAME…]

The copy is in a temporary directory; the working tree is only read. First all tests that are named must pass there
without any bug, or to fail with one would mean nothing. A bug is caught where a test *fails*: an error while tests are
collected, or a run without end, is no proof that anybody looked. Exit codes: 0: all were caught; 1: some were not, or
do not apply to the code any more; each is told by its name.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from .catalogue import TOP, Bug, Stale, catalogue

MOST = 300.0
"""Seconds that the tests of one bug may take, on a machine that is busy with other things too."""

COPIED = ("onitu", "tests", "docs", "pyproject.toml", "README.md")


@attrs.frozen
class Outcome:
    """What became of one bug: the test that caught it, or why none did."""

    bug: Bug
    seconds: float
    test: str = ""
    failure: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bugs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="bugs that are tried at a time")
    parser.add_argument("names", nargs="*", help="only bugs whose name has one of these in it")
    given = parser.parse_args()
    bugs = [bug for bug in catalogue() if not given.names or any(name in bug.name for name in given.names)]
    if not bugs:
        parser.error("there is no bug of that name")
    started = time.monotonic()
    if (failure := without_any(bugs)) is not None:
        print(f"without any bug the tests fail, so nothing can be said of any:\n{failure}")
        return 1
    with ThreadPoolExecutor(given.jobs) as pool:
        outcomes = list(pool.map(told, bugs))
    missed = [outcome for outcome in outcomes if not outcome.test]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} bugs caught in {time.monotonic() - started:.0f} s")
    for outcome in missed:
        print(f"NOT CAUGHT: {outcome.bug.name}: {outcome.failure}")
    return 1 if missed else 0


def without_any(bugs: list[Bug]) -> str | None:
    """What fails without any bug; None: nothing."""
    with copied() as tree:
        status, output = run(tree, tuple(dict.fromkeys(test for bug in bugs for test in bug.tests)))
    return output if status != 0 else None


def told(bug: Bug) -> Outcome:
    """Try one bug, and print what became of it."""
    outcome = tried(bug)
    what = f"caught by {outcome.test}" if outcome.test else f"NOT CAUGHT: {outcome.failure}"
    print(f"{outcome.seconds:5.1f} s  {bug.name} ({', '.join(bug.promises)}): {what}", flush=True)
    return outcome


def tried(bug: Bug) -> Outcome:
    """Put the bug into a fresh copy and run its tests until the first one fails."""
    started = time.monotonic()
    with copied() as tree:
        try:
            bug.put_into(Path(tree))
        except Stale as error:
            return Outcome(bug, 0.0, failure=str(error))
        status, output = run(tree, bug.tests)
    seconds = time.monotonic() - started
    failed = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
    if status == 1 and failed is not None:
        return Outcome(bug, seconds, test=failed[1])
    failure = "its tests pass" if status == 0 else f"pytest ended with {status}:\n{output[-2000:]}"
    return Outcome(bug, seconds, failure=failure)


def copied() -> tempfile.TemporaryDirectory[str]:
    """A temporary directory with a copy of what the tests need."""
    tree = tempfile.TemporaryDirectory(prefix="onitu-bug-")
    for name in COPIED:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, Path(tree.name, name), ignore=shutil.ignore_patterns("__pycache__", "_build"))
        else:
            shutil.copy2(TOP / name, tree.name)
    return tree


def run(tree: str, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run tests on the copy, until the first one fails; pytest's exit code (-1: it had no end), and what it said."""
    # The copy comes first wherever Python looks for `onitu`, also in the processes that a test starts. Without
    # bytecode: it is told from a changed source by size and second, which a bug in a fresh copy may both keep.
    environment = {**os.environ, "PYTHONPATH": tree, "PYTHONDONTWRITEBYTECODE": "1", "ONITU_BUDGET": "0.1"}
    proof = f"import onitu, sys; sys.exit(not onitu.__file__.startswith({os.path.join(tree, '')!r}))"
    subprocess.run([sys.executable, "-c", proof], cwd=tree, env=environment, check=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-rfE", "-p", "no:cacheprovider", *tests]
    with subprocess.Popen(
        command, cwd=tree, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as pytest:
        try:
            output, _ = pytest.communicate(timeout=MOST)
        except subprocess.TimeoutExpired:
            pytest.kill()
            return -1, f"no end after {MOST:.0f} s"
    return pytest.returncode, output


if __name__ == "__main__":
    sys.exit(main())
