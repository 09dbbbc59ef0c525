"""`python -m onitu.testing trial`: the same users against any synchroniser.

The trials of the peers are no tests of this project: what they do is their own affair.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

import onitu

from .harness import DEADLINE, wait_for

REPOSITORY = Path(onitu.__file__).parents[1]
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "trials.md"


@attrs.frozen
class Result:
    """What a command did: its exit code, the objects that it printed, and what it said."""

    code: int
    lines: list[dict[str, Any]]
    said: str


def run(*arguments: str, cwd: Path, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    """`python -m onitu.testing trial` from a directory."""
    return subprocess.run(
        [sys.executable, "-m", "onitu.testing", "trial", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path, "TMPDIR": str(cwd)},
        check=False,
    )


def trial(*arguments: str, cwd: Path, path: str = os.environ["PATH"]) -> Result:
    """The same with `--json`."""
    done = run("--json", *arguments, cwd=cwd, path=path)
    return Result(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    """A directory with the synchroniser and the adapter of the how-to, as it prints them."""
    synchroniser, adapter = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "newest.py").write_text(synchroniser)
    (tmp_path / "trial_newest.py").write_text(adapter)
    return tmp_path


def test_the_synchroniser_of_the_how_to_is_caught_losing_values_with_its_own_adapter(newest: Path) -> None:
    result = trial(
        *("--tool", "trial_newest:Newest", "--mode", "once", "--seeds", "1-2", "--deadline", "10", "--keep", "kept"),
        cwd=newest,
    )
    assert result.code == 1, result.said
    one, two, summary = result.lines
    assert [one["type"], two["type"], summary["type"]] == ["trial", "trial", "summary"]
    assert one["lost"] > 0
    assert two["lost"] > 0
    assert summary["lost"] == one["lost"] + two["lost"]
    assert summary["where"]["lost"] == [1, 2]
    assert summary["written"] > summary["lost"]
    kept = newest / "kept" / "newest-once-1"
    assert {"A", "B", "home", "history.jsonl", "verdict.txt"} <= set(os.listdir(kept))
    assert f"{one['findings'][0]['value']} is lost" in (kept / "verdict.txt").read_text()


def test_the_table_tells_what_was_lost_and_with_which_seed(newest: Path) -> None:
    done = run("--tool", "trial_newest:Newest", "--mode", "once", "--seeds", "2", "--deadline", "10", cwd=newest)
    assert done.returncode == 1, done.stderr
    assert re.search(r"newest +│ once +│ 2 +│ 1 +│ \d+ +│ [1-9]\d* \(seeds 2\)", done.stdout), done.stdout
    assert "newest: 1.0; it has none" in done.stdout
    assert re.search(r"^  S1 [AB]:\S+: (\S+) is lost: \1 written at", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.parametrize(("mode", "replicas"), [("once", "2"), ("watch", "3")])
def test_onitu_keeps_every_promise(tmp_path: Path, mode: str, replicas: str) -> None:
    result = trial(
        *("--tool", "onitu", "--mode", mode, "--seeds", "1", "--replicas", replicas),
        *("--rounds", "2", "--seconds", "3", "--deadline", "120"),
        cwd=tmp_path,
    )
    assert result.code == 0, result.said
    found, summary = result.lines
    assert found["clean"]
    assert found["written"] > 20
    assert summary["tool"] == "onitu"
    assert not any(summary[name] for name in ("lost", "diverged", "ghosts", "resurrected", "unsettled", "litter"))


SLEEPER = """
import os, sys, time
from pathlib import Path
from onitu.testing.adapters import Repeated

class Sleeper(Repeated):
    name = "sleeper"

    def version(self):
        return "1"

    def command(self):
        return [sys.executable, Path(__file__), Path("pid").resolve()]

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(f"{os.getpid()} ")
    time.sleep(600)
"""
"""A tool, and its adapter, that never ends by itself."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_trial_that_is_ended_early_leaves_no_process_of_the_tool(tmp_path: Path, number: int) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    command = [sys.executable, "-m", "onitu.testing", "trial", "--tool", "sleeper:Sleeper", "--keep", "kept"]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    pid = tmp_path / "pid"
    try:
        wait_for(lambda: pid.exists() and pid.read_text().endswith(" "), why="the tool runs")
        process.send_signal(number)
        process.wait(DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_tool_that_is_not_installed_is_named_with_what_would_install_it(tmp_path: Path) -> None:
    result = trial("--tool", "unison", cwd=tmp_path, path=str(tmp_path))
    assert (result.code, result.lines) == (2, [])
    assert "unison is not installed: apt-get install unison" in result.said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--tool", "dropbox"],
            "dropbox: no such tool; known are onitu, unison, unison-thorough, rclone, syncthing, and MODULE:CLASS",
        ),
        (["--tool", "nowhere:Tool"], "No module named 'nowhere'"),
        (["--tool", "pathlib:Path"], "pathlib:Path is no subclass"),
        (["--seeds", "7-3"], "7-3 is no range of seeds"),
    ],
)
def test_a_wrong_argument_is_answered_by_what_is_allowed(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = trial(*arguments, cwd=tmp_path)
    assert (result.code, result.lines) == (2, [])
    assert sentence in re.sub(r"\s+", " ", result.said)
