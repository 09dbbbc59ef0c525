"""Any process may be killed at any moment: nothing is lost, nobody has to do anything about it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from onitu.model.errors import PeerGone

from .harness import Daemon, assert_same, difference, snapshot, sync, wait_for, watching


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter where it goes between the two calls
        return False


def family(pid: int) -> set[int]:
    """The pids of all descendants of a process."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, grew = {pid}, True
    while grew:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found - {pid}


def test_no_process_outlives_a_killed_supervisor_and_the_next_run_converges(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    for n in range(200):
        (a / f"f{n}").write_text(str(n))
    with watching(*roots, state=state, settled=False) as daemon:
        wait_for(lambda: (b / "f10").exists())
        children = family(daemon.process.pid)
        assert len(children) >= 5
        daemon.crash()
        began = time.monotonic()
        wait_for(lambda: not any(alive(pid) for pid in children), 10, "all processes gone")
        assert time.monotonic() - began < 2.0
    (c / "while down").write_text("x")
    sync(*roots, state=state)
    assert len(assert_same(a, b, c)) == 201


class Editor(threading.Thread):
    """A user who edits some files, each with a value of its own, until told to stop."""

    def __init__(self, root: Path, files: range, seed: int) -> None:
        super().__init__()
        self.root, self.files = root, files
        self.chance = random.Random(seed)
        self.last: dict[str, str] = {}
        self.latest = ""
        self.enough = threading.Event()

    def has_reached(self, root: Path) -> Callable[[], bool]:
        """Whether what was edited last by now stands at another replica, or something newer."""
        name = self.latest
        value = self.last[name]
        return lambda: (now := (root / name).read_text()) == value or _number(now) > _number(value)

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            name = f"f{self.chance.choice(self.files)}"
            value = f"{self.root.name} {number} " + "x" * self.chance.randrange(200)
            temporary = self.root / ".onitu" / f"edit-{self.name}"
            temporary.write_text(value)
            os.replace(temporary, self.root / name)
            self.last[name] = value
            self.latest = name
            self.enough.wait(0.002)  # a user's pace


def _number(value: str) -> int:
    owner, number = value.split()[:2]
    return -1 if owner == "base" else int(number)


FILES = 2_000


def pid_of(daemon: Daemon, victim: str) -> int:
    """Of one of its processes; `server` is the store's own, below its lifeguard."""
    pid = daemon.pids().get("store" if victim == "server" else victim, 0)
    return min(family(pid), default=0) if pid and victim == "server" else pid


@pytest.mark.parametrize("victim", ["referee", "driver A", "driver B", "driver C", "store", "server"])
def test_a_process_killed_while_files_are_edited_loses_nothing(roots: list[Path], state: Path, victim: str) -> None:
    a, b, c = roots
    for n in range(FILES):
        (a / f"f{n}").write_text(f"base {n}")
    with watching(*roots, state=state) as daemon:
        assert_same(a, b, c)
        # Each user has half of the files, so that every last value has to stand in the end.
        users = [Editor(a, range(FILES // 2), 1), Editor(b, range(FILES // 2, FILES), 2)]
        for user in users:
            user.start()
        try:
            wait_for(lambda: all(user.latest for user in users))
            for _ in range(4):
                arrived = [user.has_reached(c) for user in users]
                wait_for(lambda arrived=arrived: all(has() for has in arrived), why="edits of both users arrive")
                before = pid_of(daemon, victim)
                os.kill(before, signal.SIGKILL)
                wait_for(lambda before=before: pid_of(daemon, victim) not in (0, before), why=f"{victim} is back")
        finally:
            for user in users:
                user.enough.set()
                user.join()
        daemon.in_sync()
        tree = assert_same(a, b, c)
        assert len(tree) == FILES
        for user in users:
            assert user.last
            for name, value in user.last.items():
                assert (c / name).read_text() == value


def test_a_question_while_the_store_is_away_may_be_asked_again_and_the_run_goes_on(
    roots: list[Path], state: Path
) -> None:
    (roots[0] / "x").write_text("x")
    with watching(*roots, state=state) as daemon:
        for _ in range(4):
            before = pid_of(daemon, "server")
            os.kill(before, signal.SIGKILL)
            while pid_of(daemon, "server") in (0, before) or not daemon.is_in_sync():
                with contextlib.suppress(PeerGone):  # and no other error
                    daemon.ask("log", limit=10)
                with contextlib.suppress(PeerGone):
                    daemon.ask("status")
                assert daemon.process.poll() is None


def test_a_stopped_driver_is_replaced(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    with watching(*roots, state=state) as daemon:
        before = daemon.kill("driver B", signal.SIGSTOP)
        (a / "x").write_text("x")
        wait_for(lambda: (b / "x").exists(), 60, "B has the file")
        assert daemon.pids()["driver B"] != before
        assert not alive(before)


def test_a_large_file_is_resumed_after_its_targets_driver_was_killed(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    size = 1 << 30
    with (a / "large").open("wb") as file:
        block = random.Random(1).randbytes(1 << 20)
        for n in range(size >> 20):
            file.write(n.to_bytes(8, "big") + block[8:])
    staged = b / ".onitu" / "tmp"

    def partly() -> bool:
        return (
            any(200 << 20 < p.stat().st_size < 900 << 20 for p in staged.glob("*.part")) if staged.exists() else False
        )

    with watching(a, b, state=state, settled=False) as daemon:
        wait_for(partly, why="a part of the file stands")
        daemon.kill("driver B")
        daemon.in_sync(120)
        assert not difference(snapshot(a), snapshot(b))
        folder = daemon.folder()
        assert folder["resumed_bytes"] >= 200 << 20
        assert folder["copied_bytes"] + folder["sent_bytes"] <= size - (200 << 20)


def test_the_clean_end_of_a_run_leaves_no_process(roots: list[Path], state: Path) -> None:
    with watching(*roots, state=state) as daemon:
        children = family(daemon.process.pid)
        assert daemon.stop() in (0, 130)
        assert not any(alive(pid) for pid in children)
