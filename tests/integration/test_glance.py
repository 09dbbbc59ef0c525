"""A second run with nothing to do is a glance, which starts no store; whatever has changed, it is a whole run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Result, assert_same, onitu, sync, wait_for


def store_log(state: Path) -> int:
    """How much the store has logged: it does so at each of its starts."""
    return (state / "store" / "store.log").stat().st_size


def is_glance(state: Path, run: Callable[[], Result]) -> bool:
    """Do it; whether no store was started for it."""
    before = store_log(state)
    assert run().code == 0
    return store_log(state) == before


@pytest.fixture
def pair(roots: list[Path], state: Path) -> tuple[Path, Path]:
    """Two replicas that a run has made the same."""
    a, b, _ = roots
    (a / "d" / "below").mkdir(parents=True)
    (a / "empty").mkdir()
    for name in ("x", "d/y", "d/below/z"):
        (a / name).write_text(name)
    (a / "link").symlink_to("x")
    sync(a, b, state=state)
    return a, b


def test_a_second_run_is_a_glance_and_says_the_same(pair: tuple[Path, Path], state: Path) -> None:
    first = sync(*pair, state=state).summary
    before = store_log(state)
    second = sync(*pair, state=state).summary
    assert store_log(state) == before
    assert second["in_sync"]
    assert {key: value for key, value in second.items() if key not in ("seconds", "folders")} == {
        key: value for key, value in first.items() if key not in ("seconds", "folders")
    }
    assert second["files"] == 4  # a link is one
    assert second["puts"] == second["transferred_bytes"] == 0
    said = onitu("sync", *pair, "--state", state)
    assert "nothing to do: 0 bytes transferred; 2 replicas, 4 files" in said.err


def edit(a: Path, b: Path) -> None:
    (b / "d" / "y").write_text("edited")


def edit_unseen(a: Path, b: Path) -> None:
    """Another content of the same size, with the time put back."""
    before = (a / "x").stat()
    (a / "x").write_text("X")
    os.utime(a / "x", ns=(before.st_atime_ns, before.st_mtime_ns))


def make(a: Path, b: Path) -> None:
    (a / "d" / "new").touch()


def make_directory(a: Path, b: Path) -> None:
    (b / "another").mkdir()


def remove(a: Path, b: Path) -> None:
    (b / "d" / "below" / "z").unlink()


def remove_directory(a: Path, b: Path) -> None:
    (a / "empty").rmdir()


def rename(a: Path, b: Path) -> None:
    (a / "d").rename(a / "e")


def swap(a: Path, b: Path) -> None:
    (a / "x").rename(a / "t")
    (a / "d" / "y").rename(a / "x")
    (a / "t").rename(a / "d" / "y")


def change_mode(a: Path, b: Path) -> None:
    (a / "x").chmod(0o600)


def change_mode_of_directory(a: Path, b: Path) -> None:
    (b / "d").chmod(0o700)


def touch(a: Path, b: Path) -> None:
    os.utime(a / "x", (1_000_000_000, 1_000_000_000))


def link_anew(a: Path, b: Path) -> None:
    (a / "link").unlink()
    (a / "link").symlink_to("d/y")


@pytest.mark.parametrize(
    "change",
    [
        *(edit, edit_unseen, touch, change_mode, change_mode_of_directory),
        *(make, make_directory, link_anew),
        *(remove, remove_directory, rename, swap),
    ],
)
def test_every_change_makes_it_a_whole_run_again(
    pair: tuple[Path, Path], state: Path, change: Callable[[Path, Path], None]
) -> None:
    change(*pair)
    assert not is_glance(state, lambda: sync(*pair, state=state))
    assert_same(*pair)
    assert is_glance(state, lambda: sync(*pair, state=state))


def test_a_marker_of_another_time_is_seen(pair: tuple[Path, Path], state: Path) -> None:
    marker = pair[1] / ".onitu" / "marker"
    earlier = json.loads(marker.read_text())
    (pair[0] / "x").write_text("later")
    sync(*pair, state=state)
    marker.write_text(json.dumps(earlier | {"pending": 0}))
    assert not is_glance(state, lambda: sync(*pair, state=state))
    assert_same(*pair)


def test_a_replica_that_went_away_is_told(pair: tuple[Path, Path], state: Path) -> None:
    (pair[1] / ".onitu").rename(pair[1].parent / "aside")
    refused = onitu("sync", *pair, "--state", state)
    assert refused.code != 0
    assert "marker" in refused.err


def test_what_was_displaced_and_not_settled_is_settled_by_a_whole_run(pair: tuple[Path, Path], state: Path) -> None:
    (pair[1] / ".onitu" / "limbo" / "17-0").write_text("somebody's value")
    assert not is_glance(state, lambda: sync(*pair, state=state))
    assert any(path.read_text() == "somebody's value" for path in pair[0].glob("recovered*"))


def test_there_is_no_glance_while_something_is_not_in_sync(pair: tuple[Path, Path], state: Path) -> None:
    """What cannot be synchronised is told at every run."""
    os.mkfifo(pair[0] / "pipe")
    sync(*pair, state=state)
    assert not is_glance(state, lambda: sync(*pair, state=state))


def test_a_run_that_was_killed_leaves_no_seal(pair: tuple[Path, Path], state: Path) -> None:
    command = [sys.executable, "-m", "onitu", "sync", *map(str, pair), "--state", str(state), "--watch"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        try:
            wait_for(lambda: not (state / "seal").exists(), deadline=20)
            (pair[0] / "x").write_text("while it runs")
            wait_for(lambda: (pair[1] / "x").read_text() == "while it runs")
        finally:
            run.kill()
    assert not (state / "seal").exists()
    assert not is_glance(state, lambda: sync(*pair, state=state))


def test_a_glance_is_interrupted_like_a_run(pair: tuple[Path, Path], state: Path) -> None:
    """And neither the seal nor a process is left out of place."""
    for number in range(3000):
        (pair[0] / f"{number}").touch()
    sync(*pair, state=state)
    command = [sys.executable, "-m", "onitu", "sync", *map(str, pair), "--state", str(state)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as run:
        try:
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
            found = wait_for(lambda: children.read_text().split() or run.poll() is not None)
            run.send_signal(signal.SIGINT)
            assert run.wait(30) in (0, 130)
        finally:
            run.kill()
    if found is not True:
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))
    assert is_glance(state, lambda: sync(*pair, state=state))


def test_a_dry_run_leaves_the_seal(pair: tuple[Path, Path], state: Path) -> None:
    assert onitu("sync", *pair, "--state", state, "--dry-run").code == 0
    assert is_glance(state, lambda: sync(*pair, state=state))


def test_another_conflict_rule_makes_it_a_whole_run_again(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    state = tmp_path / "other"
    sync(*pair, state=state)
    assert is_glance(state, lambda: sync(*pair, state=state))
    assert not is_glance(state, lambda: onitu("sync", *pair, "--state", state, "--prefer", pair[0]))
