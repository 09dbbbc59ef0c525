"""Sizes at which things break: paths longer than a call takes, a full queue of events, very many troubles."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import assert_same, sync, wait_for, watching

NAME = b"d" * 199


@contextlib.contextmanager
def opened(root: Path, path: bytes) -> Iterator[int]:
    """A directory far below a root, opened step by step: the whole is longer than any call takes."""
    here = os.open(root, os.O_RDONLY)
    try:
        for name in path.split(b"/"):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def make(root: Path, path: bytes) -> None:
    """Make a directory far below a root, and all above it."""
    here = os.open(root, os.O_RDONLY)
    for name in path.split(b"/"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def write(root: Path, directory: bytes, name: bytes, content: bytes) -> None:
    with opened(root, directory) as fd:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=fd)
        os.write(file, content)
        os.close(file)


def standing(root: Path, directory: bytes) -> dict[bytes, bytes] | None:
    """The files of a directory far below, with their contents; None: the directory is not there."""
    try:
        with opened(root, directory) as fd:
            found = {}
            for name in map(os.fsencode, os.listdir(fd)):
                file = os.open(name, os.O_RDONLY, dir_fd=fd)
                found[name] = os.read(file, 1000)
                os.close(file)
            return found
    except FileNotFoundError:
        return None


def long_roots(base: Path) -> tuple[Path, Path]:
    """Two roots whose own paths leave no room for those below: no absolute path of a file fits into a call."""
    roots = []
    for name in ("a", "b"):
        root = base / name
        while len(os.fsencode(root)) < 1200:
            root /= "r" * 199
        root.mkdir(parents=True)
        roots.append(root)
    return roots[0], roots[1]


@pytest.mark.parametrize("length", [3000, 5000])
def test_a_path_longer_than_a_call_takes_is_synchronised(tmp_path: Path, length: int) -> None:
    a, b = long_roots(tmp_path)
    path = b"/".join([NAME] * (length // 200))
    other = b"/".join([b"e" * 199, *[NAME] * (length // 200 - 1)])
    make(a, path)
    make(a, other)
    write(a, path, b"before", b"it runs")
    state = tmp_path / "state"

    def until(directory: bytes, files: dict[bytes, bytes] | None) -> None:
        wait_for(lambda: standing(b, directory) == files, why=f"{files} arrives")

    with watching(a, b, state=state) as daemon:
        until(path, {b"before": b"it runs"})
        write(a, path, b"file", b"created")
        until(path, {b"before": b"it runs", b"file": b"created"})
        write(a, path, b"file", b"edited")
        until(path, {b"before": b"it runs", b"file": b"edited"})
        with opened(a, path) as source, opened(a, other) as target:
            os.rename(b"file", b"moved", src_dir_fd=source, dst_dir_fd=target)
        until(path, {b"before": b"it runs"})
        until(other, {b"moved": b"edited"})
        with opened(a, other) as fd:
            os.unlink(b"moved", dir_fd=fd)
        until(other, {})
        write(b, other, b"back", b"from the other side")
        wait_for(lambda: standing(a, other) == {b"back": b"from the other side"})
        daemon.in_sync()
        assert daemon.folder()["blocked"] == 0
    # The same from a cold start: by scans, and with everything above it.
    os.rename(a / os.fsdecode(NAME), a / "renamed")
    write(a, other, b"back", b"edited while nothing ran")
    assert sync(a, b, state=state).summary["blocked"] == 0
    renamed = b"renamed" + path[len(NAME) :]
    assert standing(b, renamed) == {b"before": b"it runs"}
    assert standing(b, path) is None
    assert standing(b, other) == {b"back": b"edited while nothing ran"}
    with opened(a, b"/".join(other.split(b"/")[:-1])) as above, opened(a, other) as fd:
        os.unlink(b"back", dir_fd=fd)
        os.rmdir(NAME, dir_fd=above)
    sync(a, b, state=state)
    assert standing(b, other) is None
    assert standing(b, renamed) == standing(a, renamed)


def test_more_events_than_the_queue_takes_lose_nothing(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    assert most < 100_000, "this system's queue is larger than the test is made for"
    a, b = tmp_path / "a", tmp_path / "b"
    (a / "busy").mkdir(parents=True)
    b.mkdir()
    (a / "old").write_text("old")
    with watching(a, b, state=tmp_path / "state") as daemon:
        driver = daemon.pids()["driver a"]
        ticks = [os.open(a / name, os.O_RDONLY | os.O_CREAT) for name in ("tick", "tock")]
        daemon.in_sync()
        os.kill(driver, signal.SIGSTOP)
        try:
            # In no time, so that nobody takes the driver for one that is away, and has it scan for that.
            for number in range(most + 1000):
                os.fchmod(ticks[number % 2], 0o600 + number // 2 % 2)
            # Of what comes now the queue tells nothing.
            (a / "new").mkdir()
            for number in range(20):
                (a / "new" / f"{number}").write_text(f"new {number}")
            (a / "busy" / "kept").write_text("kept")
            (a / "old").unlink()
        finally:
            os.kill(driver, signal.SIGCONT)
            for fd in ticks:
                os.close(fd)
        wait_for(lambda: not (b / "old").exists(), why="the deletion arrives")
        daemon.in_sync()
        assert len(assert_same(a, b)) == 25
        assert daemon.pids()["driver a"] == driver, "it was not taken for one that hangs"
        # What was made while nothing was told is watched by now.
        (a / "new" / "later").write_text("later")
        wait_for(lambda: (b / "new" / "later").exists())
