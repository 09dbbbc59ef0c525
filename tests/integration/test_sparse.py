"""Sparse files and hard links between real processes: what takes little stays little, on the disk and in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from onitu.plug.transfers import LARGE_AT_ONCE, OUTSTANDING
from onitu.wire.messages import MAX_CHUNK

from .harness import Daemon, snapshot, started, wait_for
from .test_original import configuration

MEBI = 1 << 20
SLACK = 24 * MEBI
"""What a process may have more at one time than at another, of which nothing grows with what it synchronises."""

ON_THEIR_WAY = LARGE_AT_ONCE * OUTSTANDING * MAX_CHUNK
"""Bytes that may be asked for and not have arrived. How many ever are, is a matter of who is slow."""

AT_ONCE = 16
"""More files than are ever on their way at once, each with its own buffers: three times as many need no more."""


def disks(base: Path, kernel_copy: bool) -> tuple[Path, Path, Path, Path]:
    """Two services; the configuration, the state, and the roots."""
    text = "folders: {docs: {}}\nservices:\n"
    for name in ("a", "b"):
        (base / name).mkdir(parents=True)
        options = f"{{kernel_copy: {str(kernel_copy).lower()}}}"
        text += f"  {name}: {{driver: local_storage, options: {options}, folders: {{docs: {base}/{name}}}}}\n"
    return *configuration(base, text), base / "a", base / "b"


def islands(path: Path, size: int) -> None:
    """A sparse file: a little at its start, in its middle, at its end."""
    with path.open("wb") as file:
        file.truncate(size)
        for place in (0, size // 2 + 777, size - 1000):
            file.seek(place)
            file.write(os.urandom(1000))


def same_islands(a: Path, b: Path) -> bool:
    """Whether they have the same size, and the same where `islands` wrote."""
    size = a.stat().st_size
    if b.stat().st_size != size:
        return False
    with a.open("rb") as one, b.open("rb") as other:
        for place in (0, size // 2, size - 4096):
            one.seek(place)
            other.seek(place)
            if one.read(4096) != other.read(4096):
                return False
    return True


def taken(path: Path) -> int:
    """Bytes that a file takes on its disk."""
    return path.stat().st_blocks * 512


def most(daemon: Daemon) -> dict[str, int]:
    """By process, the bytes that it had resident at most so far."""
    found = {}
    for name, pid in daemon.pids().items():
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        found[name] = int(status["VmHWM"].split()[0]) * 1024
    return found


def needs(base: Path, kernel_copy: bool, fill: Callable[[Path], None]) -> dict[str, int]:
    """What the processes of a run need at most that brings what `fill` makes from one replica to the other."""
    path, state, a, b = disks(base, kernel_copy)
    fill(a)
    with started(path, state) as daemon:
        wait_for(lambda: sorted(os.listdir(a)) == sorted(os.listdir(b)))
        daemon.in_sync()
        return most(daemon)


@pytest.mark.parametrize("kernel_copy", [True, False], ids=["in the kernel", "over sockets"])
def test_a_large_sparse_file_stays_sparse_and_needs_no_more_memory(tmp_path: Path, kernel_copy: bool) -> None:
    small = needs(tmp_path / "small", kernel_copy, lambda root: islands(root / "f", 50 * MEBI))
    large = needs(tmp_path / "large", kernel_copy, lambda root: islands(root / "f", 600 * MEBI))
    assert {name: large[name] - bytes for name, bytes in small.items() if large[name] > bytes + SLACK} == {}
    assert same_islands(tmp_path / "large/a/f", tmp_path / "large/b/f")
    assert taken(tmp_path / "large/b/f") < 4 * MEBI


def test_hard_links_need_no_more_memory_than_the_most_that_travel_at_once(tmp_path: Path) -> None:
    content = os.urandom(24 * MEBI)

    def linked(root: Path, count: int) -> None:
        (root / "f0").write_bytes(content)
        for number in range(1, count):
            os.link(root / "f0", root / f"f{number}")

    few = needs(tmp_path / "few", False, lambda root: linked(root, AT_ONCE))
    many = needs(tmp_path / "many", False, lambda root: linked(root, 3 * AT_ONCE))
    slack = SLACK + ON_THEIR_WAY
    assert slack < 2 * AT_ONCE * len(content) / 8, "what the other links would need would hardly show"
    assert {name: many[name] - bytes for name, bytes in few.items() if many[name] > bytes + slack} == {}
    assert len(snapshot(tmp_path / "many/b")) == 3 * AT_ONCE
    assert all((tmp_path / f"many/b/f{number}").read_bytes() == content for number in range(3 * AT_ONCE))
