from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onitu.model.errors import StateError
from onitu.supervisor.statelock import held, holder, user

HOLD = """
import sys
from onitu.supervisor.statelock import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""

LEAVE_A_CHILD = """
import subprocess, sys
from onitu.supervisor.statelock import held
with held(sys.argv[1]) as lock:
    child = subprocess.Popen(["sleep", "1000"], pass_fds=(lock,), stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def start(program: str, state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_second_run_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with start(HOLD, tmp_path / "state") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(StateError, match=rf"process {first.pid}, uses the state directory .*state") as caught:
            with held(str(tmp_path / "state")):
                pass
        assert time.monotonic() - began < 10.0
        assert "\n" not in str(caught.value)
        first.kill()


def test_the_lock_is_free_after_a_run(tmp_path: Path) -> None:
    for _ in range(2):
        with held(str(tmp_path)):
            assert holder(str(tmp_path)) == os.getpid()
        assert holder(str(tmp_path)) is None


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
        first.wait()
    with held(str(tmp_path)):
        pass


def test_a_run_waits_for_the_children_of_a_dead_one(tmp_path: Path) -> None:
    with start(LEAVE_A_CHILD, tmp_path) as first:
        assert first.stdout is not None
        child = int(first.stdout.readline())
        try:
            first.kill()
            first.wait()
            with pytest.raises(StateError, match=f"it was process {first.pid}"):
                with held(str(tmp_path), patience=0.1):
                    pass
        finally:
            os.kill(child, 9)
    with held(str(tmp_path)):
        pass


def test_a_new_state_directory_is_private(tmp_path: Path) -> None:
    state = tmp_path / "a" / "b"
    with held(str(state)):
        assert state.stat().st_mode & 0o777 == 0o700
        assert (state / "lock").stat().st_mode & 0o777 == 0o600


def test_a_state_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="Others may write"):
        with held(str(tmp_path)):
            pass


def test_a_file_in_place_of_the_state_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateError, match="not a directory"):
        with held(str(tmp_path / "state")):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(StateError, match="belongs to another user"):
        with held(str(tmp_path)):
            pass


def test_who_uses_a_state_is_told_by_its_lock_and_not_by_a_number_that_somebody_else_has_by_now(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with held(str(state)):
        assert user(str(state)) == os.getpid()
    assert user(str(state)) is None
    (state / "lock").write_text(f"{os.getpid()}\n")  # as after a power cut
    assert user(str(state)) is None
    assert user(str(tmp_path / "nowhere")) is None
