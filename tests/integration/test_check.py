"""`onitu check`: every replica is read and compared, and nothing is changed by it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .harness import Daemon, Result, assert_same, onitu, snapshot, started, wait_for
from .test_original import two


def check(path: Path, code: int) -> Result:
    result = onitu("check", "-c", path, "--json")
    assert result.code == code, result.out + result.err
    return result


def found(result: Result) -> set[tuple[str, str]]:
    return {(line["path"], line["service"]) for line in result.lines[:-1]}


def fill(root: Path, number: int = 20) -> None:
    (root / "d").mkdir()
    for n in range(number):
        (root / "d" / f"f{n}").write_text(f"content {n}" * 100)
    (root / "d" / "link").symlink_to("nowhere")


def counted(daemon: Daemon) -> list[Any]:
    folder = daemon.folder()
    return [folder[name] for name in ("puts", "deletes", "moves", "metas", "transferred_bytes", "files", "conflicts")]


def test_where_all_is_well_everything_is_compared_and_nothing_disagrees(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path, '{blacklist: ["*.bak"]}')
    fill(a)
    (a / "x.bak").write_text("not managed")
    with started(path, state) as daemon:
        (b / "edited").write_text("just now")
        summary = check(path, 0).summary
        assert summary["disagreements"] == 0
        assert summary["checked"] >= 2 * 22
        assert summary["bytes"] >= 2 * sum(len(f"content {n}" * 100) for n in range(20))
        daemon.in_sync()
        before = counted(daemon), snapshot(a)
        assert check(path, 0).summary["checked"] == 2 * 23
        assert (counted(daemon), snapshot(a)) == before
        people = onitu("check", "-c", path)
        assert "46 paths compared" in people.err
        assert "0 disagreements" in people.err


def test_without_a_daemon_one_is_run_for_as_long_as_it_takes(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    fill(a)
    with started(path, state):
        assert_same(a, b)
    assert check(path, 0).summary["checked"] == 2 * 22


def test_what_is_not_yet_on_a_paused_service_is_told(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    fill(a)
    with started(path, state) as daemon:
        daemon.ask("pause", service="B")
        (a / "d" / "f1").unlink()
        (a / "new").write_text("new")
        (b / "d" / "f2").write_text("edited on the paused one")
        wait_for(lambda: (a / "d" / "f2").read_text() == "edited on the paused one")
        wait_for(lambda: daemon.folder()["left"] == 2)
        result = check(path, 1)
        assert found(result) == {("d/f1", "B"), ("new", "B")}
        assert "waits for its turn: put" in {line.get("what") for line in result.lines}
        daemon.ask("resume", service="B")
        daemon.in_sync()
        assert check(path, 0).summary["disagreements"] == 0


def mount(image: Path, place: Path) -> None:
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)


def unmount(place: Path) -> None:
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file with a file system in it."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("this needs root and mkfs.ext4")
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "root_owner=0:0", str(path)], check=True)
    return path


def test_a_disk_that_rots_is_found(tmp_path: Path, image: Path) -> None:
    path, state, a, b = two(tmp_path, '{blacklist: ["lost+found/"]}')
    fill(a)
    (a / "d" / "precious").write_bytes(b"what a disk does not keep for ever: " + os.urandom(100_000))
    mount(image, b)
    try:
        with started(path, state):
            assert_same_files(a, b)
        unmount(b)
        whole = image.read_bytes()
        at = whole.index(b"what a disk does not keep")
        with image.open("r+b") as file:
            file.seek(at)
            file.write(b"WHAT")  # neither size nor any time tells
        mount(image, b)
        assert (b / "d" / "precious").read_bytes().startswith(b"WHAT a disk")
        with started(path, state) as daemon:
            before = counted(daemon)
            result = check(path, 1)
            assert found(result) == {("d/precious", "B")}
            assert "is the disk failing?" in result.out
            assert "docs: d/precious on B: its content" in onitu("check", "-c", path).out
            assert counted(daemon) == before
            assert (a / "d" / "precious").read_bytes().startswith(b"what a disk")
    finally:
        unmount(b)


def assert_same_files(a: Path, b: Path) -> None:
    assert snapshot(a) == {path: row for path, row in snapshot(b).items() if path != "lost+found"}


def test_a_driver_that_dies_meanwhile_is_told_as_not_checked(tmp_path: Path) -> None:
    path, state, a, _ = two(tmp_path)
    fill(a)
    with started(path, state) as daemon:
        daemon.kill("driver B", signal.SIGSTOP)  # it hangs, and is killed for it
        result = check(path, 1)
        assert found(result) == {("", "B")}
        assert "not checked to its end" in result.out
        assert any(words in result.out for words in ("fell silent", "started anew", "is not there"))
        assert result.summary["checked"] == 22
        daemon.in_sync()
        assert check(path, 0).summary["checked"] == 44


def test_a_replica_that_is_gone_is_told_as_not_checked(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    fill(a)
    with started(path, state) as daemon:
        b.rename(tmp_path / "gone")
        wait_for(lambda: daemon.folder()["services"]["B"]["state"] == "unavailable")
        result = check(path, 1)
        assert found(result) == {("", "B")}
        assert "docs: B: not checked to its end: " in onitu("check", "-c", path).out
        (tmp_path / "gone").rename(b)
