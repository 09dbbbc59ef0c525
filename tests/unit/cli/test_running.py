"""Commands that talk to a daemon, or are one: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onitu.cli import asking
from onitu.cli.main import cli

CONFIGURATION = """\
name: test
folders: {docs: }
services:
  a: {driver: local_storage, folders: {docs: a}}
  b: {driver: local_storage, folders: {docs: b}}
state: state
"""


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "onitu.yaml").write_text(CONFIGURATION)
    process = subprocess.Popen([sys.executable, "-m", "onitu", "start"], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (tmp_path / "state" / "control").exists() or process.poll() is not None)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_stop_ends_the_daemon_in_order(daemon: subprocess.Popen[str], tmp_path: Path) -> None:
    assert asking.pid_of(str(tmp_path / "state")) == daemon.pid
    result = run("stop")
    assert (result.exit_code, result.stderr) == (0, "stopped\n")
    assert daemon.wait(10) == 0
    assert asking.pid_of(str(tmp_path / "state")) is None


def test_status_finds_the_daemon_by_its_state_alone(daemon: subprocess.Popen[str], tmp_path: Path) -> None:
    result = run("status", "--state", str(tmp_path / "state"), "--json")
    assert json.loads(result.stdout)["run"]["pid"] == daemon.pid


def test_a_second_run_on_the_same_state_is_refused_with_the_first_ones_pid(daemon: subprocess.Popen[str]) -> None:
    result = run("start")
    assert result.exit_code == 2, result.stderr
    assert str(daemon.pid) in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupt_ends_the_daemon_with_130(daemon: subprocess.Popen[str]) -> None:
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(20) == 130


def test_sync_ends_with_130_when_it_is_interrupted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    state = tmp_path / "state"
    command = [sys.executable, "-m", "onitu", "sync", "--watch", "a", "b", "--state", str(state)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (state / "control").exists() or process.poll() is not None)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
