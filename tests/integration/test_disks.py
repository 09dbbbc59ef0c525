"""Disks and directories that fail in a storm of edits: full, read-only, forbidden, unreadable. All of it needs root.

Each test proves that its fault was there, by meeting it itself or by what Onitu tells of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onitu.testing.users import at_work
from tests.servers.disks import WITHOUT_RIGHTS, memory_disk, remount

from .accounts import SEED, held_against
from .harness import Daemon, onitu, snapshot, sync, wait_for, watching
from .test_crash import alive
from .test_faults import FAULTS, FILES, LONG, go_on, storm

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting, and taking rights away, needs root")

TIMES = max(2, FAULTS // 4)


def fill(ballast: Path) -> None:
    """Leave no space on the disk."""
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    with pytest.raises(OSError, match="No space"):
        ballast.with_name("more").write_bytes(bytes(1 << 16))
    ballast.with_name("more").unlink(missing_ok=True)


def test_a_disk_that_is_full_in_a_storm_loses_nothing(roots: list[Path], state: Path, tmp_path: Path) -> None:
    chance = random.Random(f"full {SEED}")
    with memory_disk(tmp_path / "small", "2m") as disk:
        full, ballast = disk / "C", disk / "ballast"
        full.mkdir()
        here = [roots[0], roots[1], full]
        with watching(*here, state=state) as daemon:
            with at_work(storm(here, "full")) as crowd:
                for _ in range(TIMES):
                    go_on(list(crowd[:2]), chance.randrange(10, 80))
                    fill(ballast)
                    go_on(list(crowd[:2]), chance.randrange(10, 80))
                    ballast.unlink()
            assert remount(disk, "size=200m")  # what all have written may be more than it holds
            daemon.in_sync(LONG)
            held_against(crowd, here, "disk full", TIMES)


def test_a_state_directory_without_space_loses_nothing(roots: list[Path], state: Path) -> None:
    chance = random.Random(f"full state {SEED}")
    with memory_disk(state, "4m") as disk:
        crowd = storm(roots, "full state")
        with watching(*roots, state=state) as daemon:
            with at_work(crowd):
                for _ in range(TIMES):
                    go_on(crowd, chance.randrange(10, 80))
                    fill(disk / "ballast")
                    go_on(crowd, chance.randrange(10, 80))
                    (disk / "ballast").unlink()
            assert remount(disk, "size=200m")
            daemon.in_sync(LONG)
            held_against(crowd, roots, "state full", TIMES)


def test_a_state_directory_that_is_full_at_the_start_is_named(roots: list[Path], state: Path) -> None:
    (roots[0] / "file").write_bytes(b"1")
    with memory_disk(state, "64k") as disk:
        fill(disk / "ballast")
        result = onitu("sync", *roots, "--state", state)
        assert result.code == 2, result.err
        assert f"The state directory {state} cannot be written: No space left on device." in result.err
        (disk / "ballast").unlink()
        assert remount(disk, "size=200m")
        sync(*roots, state=state)


def test_a_store_that_ends_for_want_of_space_says_so_and_goes_on_once_there_is_some(
    roots: list[Path], state: Path
) -> None:
    with memory_disk(state, "1m") as disk, watching(*roots, state=state) as daemon:
        for number in range(3000):
            (roots[0] / f"a name as long as names may well be {number:060}").write_bytes(b"%d" % number)
        wait_for(lambda: f"there is no space left in {state}/store" in daemon.log.read_text(), LONG)
        assert remount(disk, "size=200m")
        daemon.in_sync(LONG)
    assert len(list(roots[2].iterdir())) == 3000 + 1  # and `.onitu`


def test_a_replica_that_is_read_only_for_a_while_loses_nothing(roots: list[Path], state: Path) -> None:
    chance = random.Random(f"read only {SEED}")
    with memory_disk(roots[2], "200m") as disk:
        root = disk / "D"
        root.mkdir()
        here = [roots[0], roots[1], root]
        with watching(*here, state=state) as daemon:
            crowd = storm(here[:2], "read only")
            with at_work(crowd):
                for _ in range(TIMES):
                    go_on(crowd, chance.randrange(10, 80))
                    wait_for(lambda: made_read_only(daemon, disk), why="it is read-only")
                    with pytest.raises(OSError, match="Read-only"):
                        (root / "new").touch()
                    wait_for(lambda: says(daemon, "D", "trouble"), why="the fault is seen")
                    go_on(crowd, chance.randrange(10, 80))
                    assert remount(disk, "rw")
            daemon.in_sync(LONG)
            held_against(crowd, here, "read-only", TIMES)


def made_read_only(daemon: Daemon, disk: Path) -> bool:
    """Remount the disk without writing. That is refused while its driver has a journal there: so just after its end."""
    pid = daemon.pids().get("driver D")
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid))
    return remount(disk, "ro")


def says(daemon: Daemon, service: str, what: str) -> object:
    with contextlib.suppress(Exception):  # it is starting, or one of its processes is
        return daemon.folder()["services"][service][what]
    return None


def test_a_directory_that_may_not_be_entered_loses_nothing(roots: list[Path], state: Path) -> None:
    chance = random.Random(f"forbidden {SEED}")
    for root in roots:
        (root / "d").mkdir()
    files = [f"d/{name}" for name in FILES[:10]] + FILES[:5]
    forbidden = roots[2] / "d"
    with watching(*roots, state=state, prefix=WITHOUT_RIGHTS) as daemon:
        crowd = storm(roots, "forbidden", files=files)
        with at_work(crowd):
            for turn in range(TIMES):
                go_on(crowd, chance.randrange(10, 80))
                os.chown(forbidden, 65534, 65534)
                forbidden.chmod((0o700, 0o555, 0o711)[turn % 3])  # (none of them lets others write)
                refused = subprocess.run(
                    [*WITHOUT_RIGHTS, "touch", str(forbidden / "new")], capture_output=True, check=False
                )
                assert refused.returncode != 0
                wait_for(lambda: is_blocked(daemon), why="the fault is seen")
                go_on(crowd, chance.randrange(10, 80))
                os.chown(forbidden, 0, 0)
                forbidden.chmod(0o755)
        daemon.in_sync(LONG)
        held_against(crowd, roots, "forbidden", TIMES)


def is_blocked(daemon: Daemon) -> bool:
    folder = daemon.folder()
    return folder["blocked"] + folder["hidden"] > 0


@contextlib.contextmanager
def unreadable(file: Path) -> Iterator[None]:
    """Reading the file is an EIO: the memory of this process lies over it, which has nothing at its beginning."""
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", str(file)], check=True)
    try:
        with pytest.raises(OSError) as caught:
            file.read_bytes()
        assert caught.value.errno == errno.EIO
        yield
    finally:
        subprocess.run(["umount", str(file)], check=True)


def test_a_file_that_cannot_be_read_for_a_while_loses_nothing(roots: list[Path], state: Path) -> None:
    chance = random.Random(f"unreadable {SEED}")
    crowd = storm(roots, "unreadable")
    crowd[2].hands.create("precious")
    with watching(*roots, state=state) as daemon:
        with at_work(crowd):
            for _ in range(TIMES):
                go_on(crowd, chance.randrange(10, 80))
                with unreadable(roots[2] / "precious"):
                    daemon.ask("rescan")
                    wait_for(lambda: is_blocked(daemon), why="the fault is seen")
                    go_on(crowd, chance.randrange(10, 80))
                daemon.ask("rescan")
        daemon.in_sync(LONG)
        held_against(crowd, roots, "unreadable", TIMES)


def test_deletions_free_a_disk_that_is_full_when_onitu_starts(roots: list[Path], state: Path, tmp_path: Path) -> None:
    with memory_disk(tmp_path / "small", "2m") as disk:
        a, full = roots[0], disk / "B"
        full.mkdir()
        for number in range(20):
            (a / f"{number}").write_bytes(os.urandom(40_000))
        sync(a, full, state=state)
        (a / "9").unlink()
        sync(a, full, state=state)  # as each replica has had a deletion
        fill(disk / "ballast")
        for number in range(5):
            (a / f"{number}").unlink()
        run = onitu("sync", a, full, "--state", state)
        (disk / "ballast").unlink()
        assert snapshot(full) == snapshot(a), run.err


@pytest.fixture
def bound(roots: list[Path], tmp_path: Path) -> Iterator[Path]:
    """A directory that is mounted in the first replica."""
    (tmp_path / "bound").mkdir()
    (roots[0] / "my disk").mkdir()
    bind(tmp_path / "bound", roots[0] / "my disk")
    yield roots[0] / "my disk"
    subprocess.run(["umount", "-lq", str(roots[0] / "my disk")], check=False)


def bind(what: Path, place: Path) -> None:
    subprocess.run(["mount", "--bind", str(what), str(place)], check=True)


def test_what_is_on_a_disk_within_a_replica_that_is_not_mounted_now_is_not_deleted(
    roots: list[Path], state: Path, bound: Path
) -> None:
    a, b, _ = roots
    (a / "file").write_text("beside it")
    (bound / "d").mkdir()
    for name in ("one", "two", "d/three"):
        (bound / name).write_text(name)
    sync(a, b, state=state)
    subprocess.run(["umount", str(bound)], check=True)
    run = onitu("sync", a, b, "--state", state)  # its glance has nothing else to see
    assert (run.code, "the file system that was mounted at my disk is not there" in run.err) == (1, True), run.err
    (b / "my disk" / "one").write_text("edited")
    everything = snapshot(b)
    for _ in range(2):
        assert onitu("sync", a, b, "--state", state).code == 1
        assert snapshot(b) == everything
        assert os.listdir(bound) == []
    (b / "file").write_text("edited, too")
    assert onitu("sync", a, b, "--state", state).code == 1
    assert (a / "file").read_text() == "edited, too"
    (a / ".onitu" / "mounts").unlink()  # as the sentence says: it is to be deleted everywhere
    onitu("sync", a, b, "--state", state, "--approve")
    assert not (b / "my disk" / "two").exists()
    assert (b / "my disk" / "one").read_text() == (bound / "one").read_text() == "edited"


def test_a_disk_within_a_replica_that_is_mounted_again_goes_on_as_it_was(
    roots: list[Path], state: Path, tmp_path: Path, bound: Path
) -> None:
    a, b, _ = roots
    (bound / "one").write_text("one")
    (bound / "two").write_text("two")
    sync(a, b, state=state)
    with watching(a, b, state=state) as daemon:
        everything = snapshot(b)
        subprocess.run(["umount", str(bound)], check=True)
        daemon.ask("rescan")  # of a directory that was bound there nothing tells
        wait_for(lambda: daemon.folder()["blocked"])
        assert snapshot(b) == everything
        bind(tmp_path / "bound", bound)
        (bound / "three").write_text("three")
        daemon.in_sync()
        wait_for(lambda: (b / "my disk" / "three").exists())
        assert snapshot(b).items() >= {item for item in everything.items() if item[0] != "my disk"}
