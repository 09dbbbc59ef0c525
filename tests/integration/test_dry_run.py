"""`onitu sync --dry-run` says what would be done, and leaves no trace, neither in the replicas nor in the state."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from .harness import Result, assert_same, onitu, snapshot, sync, watching


def everything(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every path below the root, Onitu's own too, with what would show that somebody wrote there."""
    found = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            info = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path.relative_to(root))] = (
                info.st_ino,
                info.st_mode,
                info.st_mtime_ns,
                info.st_ctime_ns,
                content,
            )
    return found


def dry(*roots: Path, state: Path, code: int = 0) -> Result:
    result = onitu("sync", *roots, "--state", state, "--json", "--dry-run")
    assert result.code == code, result.err
    return result


def planned(result: Result) -> set[tuple[str, str, str]]:
    return {(line["do"], line["path"], line["service"]) for line in result.lines if line["type"] == "planned"}


def test_new_replicas_are_not_touched_and_no_state_is_made(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    (a / "d").mkdir()
    (a / "d" / "x").write_text("x")
    (b / "y").write_text("y")
    before = [everything(root) for root in roots]
    result = dry(*roots, state=state)
    assert planned(result) == {
        *(("put", path, service) for path in ("d", "d/x") for service in "BC"),
        *(("put", "y", service) for service in "AC"),
    }
    assert [everything(root) for root in roots] == before
    assert not state.exists()
    assert sync(*roots, state=state).summary["puts"] == len(planned(result))
    assert set(assert_same(*roots)) == {"d", "d/x", "y"}


def test_a_new_replica_beside_known_ones_is_not_touched(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    (a / "x").write_text("x")
    sync(a, b, state=state)
    before = everything(c)
    assert planned(dry(*roots, state=state)) == {("put", "x", "C")}
    assert everything(c) == before == {}


def test_known_replicas_and_their_state_stay_as_they_are_and_the_real_run_does_what_was_said(
    roots: list[Path], state: Path
) -> None:
    a, b, _ = roots
    for n in range(10):
        (a / f"f{n}").write_text(f"content {n}")
    sync(a, b, state=state)
    (a / "f1").write_text("edited on A")
    (b / "f2").unlink()
    (b / "f3").rename(b / "moved")
    (a / "f4").write_text("edited on A too")
    (b / "f4").write_text("edited on both")
    before, stored = [everything(root) for root in (a, b)], everything(state / "store")
    first, second = planned(dry(a, b, state=state)), planned(dry(a, b, state=state))
    assert first == second
    assert {("put", "f1", "B"), ("delete", "f2", "A"), ("move", "f3", "A")} <= first
    assert [everything(root) for root in (a, b)] == before
    assert everything(state / "store") == stored
    real = sync(a, b, state=state).summary
    assert (real["deletes"], real["moves"], real["conflicts"]) == (1, len([p for p in first if p[0] == "move"]), 1)
    tree = assert_same(a, b)
    assert "moved" in tree
    assert "f2" not in tree


def test_what_needs_an_approval_is_told(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    for n in range(10):
        (a / f"f{n}").write_text(f"content {n}")
    sync(a, b, state=state)
    for n in range(10):
        (b / f"f{n}").unlink()
    result = dry(a, b, state=state, code=1)
    assert "10 deletions held back" in result.err
    assert planned(result) == set()
    shutil.rmtree(b)
    b.mkdir()
    result = dry(a, b, state=state, code=1)
    assert "marker is gone" in result.err
    assert planned(result) == set()
    assert list(b.iterdir()) == []
    assert len(snapshot(a)) == 10


def test_a_state_and_replicas_in_use_are_refused(roots: list[Path], state: Path, tmp_path: Path) -> None:
    a, b, c = roots
    with watching(a, b, state=state) as daemon:
        assert str(daemon.process.pid) in dry(a, b, state=state, code=2).err
        result = dry(a, c, state=tmp_path / "another", code=1)
        assert f"in use by process {daemon.pids()['driver A']}" in result.err
