"""Absence is never taken for deletion: roots that go away, replicas that are emptied, disks that are full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import assert_same, onitu, snapshot, sync, wait_for, watching


def fill(root: Path, number: int) -> None:
    for n in range(number):
        (root / f"f{n}").write_text(f"content {n}")


def test_a_root_that_is_renamed_away_deletes_nothing_and_heals(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    fill(a, 10)
    with watching(*roots, state=state) as daemon:
        b.rename(b.with_name("away"))
        wait_for(lambda: daemon.folder()["services"]["B"]["state"] == "unavailable", why="B is unavailable")
        assert daemon.folder()["services"]["B"]["trouble"]
        (a / "new").write_text("new")
        wait_for(lambda: (c / "new").exists(), why="the others go on")
        assert len(snapshot(c)) == 11
        b.with_name("away").rename(b)
        daemon.in_sync()
        assert len(assert_same(a, b, c)) == 11


def test_a_large_directory_that_is_deleted_while_it_runs_leaves_no_directory_behind(
    roots: list[Path], state: Path
) -> None:
    a = roots[0]
    fill(a, 800)
    for directory in range(70):
        place = a / "large" / f"part {directory}"
        place.mkdir(parents=True)
        fill(place, 10)
    with watching(*roots, state=state) as daemon:
        daemon.in_sync()
        shutil.rmtree(a / "large")
        wait_for(
            lambda: not any((root / "large" / "part 0" / "f0").exists() for root in roots), why="files are deleted"
        )
        daemon.in_sync()
        assert len(assert_same(*roots)) == 800


@pytest.mark.parametrize("link", [True, False], ids=["link", "file"])
def test_a_large_directory_in_whose_place_something_else_comes_while_it_runs_goes_everywhere(
    roots: list[Path], state: Path, link: bool
) -> None:
    a = roots[0]
    fill(a, 100)
    for part in range(3):
        (a / "data" / f"part {part}").mkdir(parents=True)
        fill(a / "data" / f"part {part}", 25)
    with watching(*roots, state=state) as daemon:
        daemon.in_sync()
        (a / "data").rename(a.with_name("elsewhere"))
        if link:
            (a / "data").symlink_to("../elsewhere")
        else:
            (a / "data").write_text("moved elsewhere")
        expected = snapshot(a)
        wait_for(lambda: not any((root / "data").is_dir() and not (root / "data").is_symlink() for root in roots))
        daemon.in_sync()
        assert assert_same(*roots) == expected
        assert len(expected) == 101


def test_a_root_that_is_missing_at_the_start_is_an_error(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    fill(a, 10)
    sync(*roots, state=state)
    b.rename(b.with_name("away"))
    b.mkdir()  # an empty mount point
    result = onitu("sync", *roots, "--state", state)
    assert result.code == 1
    assert "B" in result.err
    assert len(snapshot(a)) == len(snapshot(c)) == 10
    assert not list(b.iterdir())
    b.rmdir()
    b.with_name("away").rename(b)
    sync(*roots, state=state)
    assert len(assert_same(a, b, c)) == 10


def test_all_files_of_a_replica_gone_is_held_back_until_approved(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    fill(a, 10)
    sync(*roots, state=state)
    for n in range(10):
        (b / f"f{n}").unlink()
    result = onitu("sync", *roots, "--state", state)
    assert result.code == 1
    assert "held back" in result.err
    assert len(snapshot(a)) == len(snapshot(c)) == 10
    result = onitu("sync", *roots, "--state", state, "--approve")
    assert result.code == 0, result.err
    assert not assert_same(a, b, c)


def test_a_mass_deletion_is_held_back_and_the_rest_goes_on(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    fill(a, 150)
    with watching(*roots, state=state) as daemon:
        for n in range(100):
            (b / f"f{n}").unlink()
        wait_for(lambda: daemon.folder()["quarantined"].get("B"), why="B's deletions are held back")
        assert len(snapshot(a)) >= 100
        (b / "new").write_text("new")
        wait_for(lambda: (a / "new").exists(), why="B's other changes go on")
        (c / "f149").unlink()
        wait_for(lambda: not (a / "f149").exists(), why="another service's deletion goes on")
        daemon.ask("approve", service="B", restore=True)
        wait_for(lambda: not daemon.folder()["quarantined"], why="the files come back")
        daemon.in_sync()
        assert len(assert_same(a, b, c)) >= 100


def test_moves_are_no_deletions(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    fill(a, 120)
    with watching(a, b, state=state) as daemon:
        (b / "d").mkdir()
        for n in range(120):
            (b / f"f{n}").rename(b / "d" / f"f{n}")
        wait_for(lambda: (a / "d").exists() and len(os.listdir(a / "d")) == 120)
        daemon.in_sync()
        assert not daemon.folder()["quarantined"]
        assert len(assert_same(a, b)) == 121


def test_a_replica_that_was_swapped_with_another_is_refused(roots: list[Path], state: Path, tmp_path: Path) -> None:
    a, b, c = roots
    fill(a, 5)
    sync(*roots, state=state)
    b.rename(tmp_path / "t")
    c.rename(b)
    (tmp_path / "t").rename(c)
    (b / "f1").unlink()
    result = onitu("sync", *roots, "--state", state)
    assert result.code == 1
    assert "another replica" in result.err
    assert len(snapshot(a)) == 5


def test_a_single_run_can_accept_a_replica_that_was_refused(roots: list[Path], state: Path) -> None:
    (roots[0] / "file").write_bytes(b"1")
    sync(*roots, state=state)
    shutil.rmtree(roots[1])
    roots[1].mkdir()
    (roots[1] / "new").write_bytes(b"2")
    refused = onitu("sync", *roots, "--state", state)
    assert refused.code == 1
    assert "the replica's marker is gone" in refused.err
    assert "`onitu sync … --approve`" in refused.err
    accepted = onitu("sync", *roots, "--state", state, "--approve")
    assert accepted.code == 0, accepted.err
    for root in roots:
        assert snapshot(root, meta=False).keys() == {"file", "new"}


def test_a_replica_restored_from_a_backup_reverts_nothing(roots: list[Path], state: Path, tmp_path: Path) -> None:
    a, b, _ = roots
    fill(a, 5)
    sync(a, b, state=state)
    shutil.copytree(b, tmp_path / "backup", symlinks=True)
    (a / "f1").write_text("newer")
    (a / "added later").write_text("added")
    sync(a, b, state=state)
    shutil.rmtree(b)
    (tmp_path / "backup").rename(b)
    sync(a, b, state=state)
    tree = assert_same(a, b)
    assert "added later" in tree
    contents = {(a / name).read_text() for name in tree}
    assert {"newer", "content 1"} <= contents


def test_a_state_that_is_lost_costs_nothing(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    fill(a, 5)
    sync(a, b, state=state)
    shutil.rmtree(state)
    (a / "f1").write_text("newer")
    (b / "f2").unlink()
    sync(a, b, state=state)
    tree = assert_same(a, b)
    assert {"newer", "content 1", "content 2"} <= {(a / name).read_text() for name in tree}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "onitu-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_blocks_that_replica_only_and_heals(roots: list[Path], state: Path, small_disk: Path) -> None:
    a, b, _ = roots
    with watching(a, b, small_disk, state=state) as daemon:
        (a / "ballast").write_bytes(os.urandom(1_500_000))
        daemon.in_sync()
        (a / "big").write_bytes(os.urandom(1_200_000))
        wait_for(lambda: (b / "big").exists(), why="the others go on")
        wait_for(lambda: daemon.folder()["blocked"] == 1, why="the path is blocked")
        (problem,) = daemon.ask("problems")["problems"]
        assert problem["path"] == "big"
        assert "space" in problem["reason"]
        (a / "small").write_text("small")
        wait_for(lambda: (small_disk / "small").exists(), why="other paths go on there")
        (a / "ballast").unlink()
        wait_for(lambda: (small_disk / "big").exists(), 90, "it heals by itself")
        daemon.in_sync()
        assert_same(a, b, small_disk)


@pytest.fixture
def disk_image(tmp_path: Path) -> Iterator[Path]:
    """A root that can be unmounted."""
    place = tmp_path / "mount"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    backing = tmp_path / "backing"
    backing.mkdir()
    subprocess.run(["mount", "--bind", str(backing), str(place)], check=True)
    try:
        yield place
    finally:
        # Not `ismount`: a mount within one file system is none for it.
        while f" {place} " in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["umount", "-l", str(place)], check=True)


def test_an_unmounted_root_deletes_nothing(roots: list[Path], state: Path, disk_image: Path) -> None:
    a, b, _ = roots
    fill(a, 10)
    with watching(a, b, disk_image, state=state) as daemon:
        assert_same(a, b, disk_image)
        subprocess.run(["umount", "-l", str(disk_image)], check=True)
        assert not list(disk_image.iterdir())
        wait_for(lambda: daemon.folder()["services"]["mount"]["state"] == "unavailable", why="it is unavailable")
        (a / "new").write_text("new")
        wait_for(lambda: (b / "new").exists())
        assert len(snapshot(b)) == 11
        assert not list(disk_image.iterdir())
        subprocess.run(["mount", "--bind", str(disk_image.with_name("backing")), str(disk_image)], check=True)
        daemon.in_sync()
        assert len(assert_same(a, b, disk_image)) == 11
