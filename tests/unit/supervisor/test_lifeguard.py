from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onitu.supervisor import lifeguard

from .processes import descendants, lives

BARE = (sys.executable, "-I", "-S")


@contextmanager
def guarding(lock: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*BARE, lifeguard.__file__, str(lock), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:  # else the number may be somebody else's by now
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def server(process: subprocess.Popen[bytes]) -> int:
    """The pid of what it guards, once that runs."""
    assert process.stderr is not None
    assert process.stderr.readline() == b"I am deaf\n"
    (pid,) = descendants(process.pid)
    return pid


DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("I am deaf", file=sys.stderr, flush=True)
time.sleep(1000)
"""
WORD = "print('a word')"


def test_it_ends_with_the_status_of_its_command(tmp_path: Path) -> None:
    with guarding(tmp_path / "lock", *BARE, "-c", "raise SystemExit(7)") as process:
        assert process.wait(5) == 7


def test_it_tells_a_command_that_was_killed(tmp_path: Path) -> None:
    with guarding(tmp_path / "lock", *BARE, "-c", DEAF) as process:
        os.kill(server(process), signal.SIGKILL)
        assert process.wait(5) == 128 + signal.SIGKILL


def test_it_tells_a_command_that_is_not_there(tmp_path: Path) -> None:
    with guarding(tmp_path / "lock", "/nowhere/at/all") as process:
        assert process.wait(5) == 127
        assert process.stderr is not None
        assert b"/nowhere/at/all cannot be started: No such file" in process.stderr.read()


def test_the_words_of_the_command_are_no_signs_of_life(tmp_path: Path) -> None:
    with guarding(tmp_path / "lock", *BARE, "-c", WORD) as process:
        process.wait(5)
        assert process.stdout is not None
        assert process.stderr is not None
        assert set(process.stdout.read()) <= set(b".")
        assert process.stderr.read() == b"a word\n"


def test_sigterm_is_passed_on(tmp_path: Path) -> None:
    with guarding(tmp_path / "lock", "/bin/sleep", "1000") as process:
        eventually(lambda: descendants(process.pid))
        (pid,) = descendants(process.pid)
        eventually(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()[:12])
        process.terminate()
        assert process.wait(5) == 128 + signal.SIGTERM
        assert not lives(pid)


def test_the_end_of_the_lifeline_ends_a_command_that_is_deaf_to_sigterm(tmp_path: Path) -> None:
    with guarding(tmp_path / "lock", *BARE, "-c", DEAF) as process:
        pid = server(process)
        assert process.stdin is not None
        process.stdin.close()
        eventually(lambda: not lives(pid) and not lives(process.pid), 2.0)
        process.stdin = None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death")
def test_the_command_dies_with_a_killed_lifeguard(tmp_path: Path) -> None:
    with guarding(tmp_path / "lock", *BARE, "-c", DEAF) as process:
        pid = server(process)
        process.kill()
        eventually(lambda: not lives(pid), 2.0)


def test_a_second_command_waits_for_the_first_one_to_let_go(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with guarding(lock, *BARE, "-c", DEAF) as first:
        pid = server(first)
        with guarding(lock, *BARE, "-c", WORD) as second:
            assert second.stderr is not None
            assert second.stderr.readline().startswith(b"waiting for an earlier server")
            assert not descendants(second.pid)
            os.kill(pid, signal.SIGKILL)
            assert second.stderr.readline() == b"a word\n"


def test_a_lifeguard_that_waits_ends_with_its_lifeline(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with guarding(lock, *BARE, "-c", DEAF) as first:
        server(first)
        with guarding(lock, *BARE, "-c", WORD) as second:
            assert second.stderr is not None
            second.stderr.readline()
            assert second.stdin is not None
            second.stdin.close()
            second.stdin = None
            assert second.wait(5) == 128 + signal.SIGTERM


def test_it_needs_little_more_than_an_empty_interpreter(tmp_path: Path) -> None:
    """By counting modules, which are the same on a busy machine: nothing of ours, no trio, no subprocess."""
    place = os.path.dirname(lifeguard.__file__)
    program = f"import sys; sys.path.insert(0, {place!r}); import lifeguard; print(*sys.modules)"
    loaded = subprocess.run([*BARE, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"trio", "subprocess", "typing", "onitu", "asyncio", "re"} & set(loaded)
