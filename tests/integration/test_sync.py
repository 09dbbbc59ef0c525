"""`onitu sync`, once: replicas become the same, and the second run has nothing to do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .harness import assert_same, onitu, snapshot, sync


@pytest.fixture(scope="module")
def real_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standard library and site-packages of the running Python, with links, odd modes and odd names beside."""
    tree = tmp_path_factory.mktemp("real") / "A"
    skip = shutil.ignore_patterns("__pycache__", "test", "tests", "idle_test", "site-packages")
    shutil.copytree(sysconfig.get_path("stdlib"), tree / "lib", symlinks=True, ignore=skip)
    packages = tree / "packages"
    packages.mkdir()
    for name in ("click", "trio", "attrs", "attr", "redis", "rich", "zmq"):
        source = Path(sysconfig.get_path("purelib")) / name
        if source.is_dir():
            shutil.copytree(source, packages / name, symlinks=True)
    odd = tree / "odd"
    odd.mkdir()
    (odd / "empty").touch()
    (odd / "empty directory").mkdir(mode=0o700)
    (odd / "dangling").symlink_to("nowhere")
    (odd / "absolute").symlink_to("/etc/passwd")
    (odd / "up").symlink_to("..")
    (odd / "itself").symlink_to("itself")
    for mode in (0o600, 0o444, 0o755, 0o640):
        (odd / f"mode {mode:o}").write_text(str(mode))
        (odd / f"mode {mode:o}").chmod(mode)
    for number, name in enumerate(
        [b"\xff not UTF-8", "d\u00e9compos\u00e9e".encode(), "de\u0301".encode(), b"new\nline", b"-dash", b"a" * 255]
    ):
        path = os.path.join(os.fsencode(odd), name)
        with open(path, "wb") as file:
            file.write(b"%d" % number)
    for mtime in (-2_000_000_000_123_456_789, 0, 4_291_747_199_000_000_001):
        path = odd / f"mtime {mtime}"
        path.write_text(str(mtime))
        os.utime(path, ns=(mtime, mtime))
    return tree


def test_a_real_tree_stands_on_three_replicas_and_a_second_run_transfers_nothing(
    real_tree: Path, roots: list[Path], state: Path
) -> None:
    a, b, c = real_tree, roots[1], roots[2]
    first = sync(a, b, c, state=state)
    tree = assert_same(a, b, c)
    assert len(tree) > 1000
    assert first.summary["in_sync"]
    second = sync(a, b, c, state=state)
    assert second.summary["transferred_bytes"] == 0
    assert second.summary["puts"] == second.summary["deletes"] == second.summary["metas"] == 0
    assert_same(a, b, c)
    again = onitu("sync", a, b, c, "--state", state)
    assert again.code == 0
    assert "nothing to do" in again.err


def test_two_full_replicas_meet_without_one_byte_copied(real_tree: Path, tmp_path: Path, state: Path) -> None:
    shutil.copytree(real_tree, tmp_path / "B", symlinks=True, ignore=shutil.ignore_patterns(".onitu"))
    result = sync(real_tree, tmp_path / "B", state=state)
    assert result.summary["transferred_bytes"] == 0
    assert result.summary["puts"] == 0
    assert_same(real_tree, tmp_path / "B")


def test_replicas_that_differ_only_in_times_meet_without_one_byte_copied(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    for root, mtime in ((a, 10**18), (b, 11 * 10**17)):
        for name in ("x", "y"):
            (root / name).write_text(name)
            os.utime(root / name, ns=(mtime, mtime))
    result = sync(a, b, state=state)
    assert result.summary["transferred_bytes"] == 0
    assert_same(a, b)


def test_two_full_replicas_that_differ_become_their_union(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    (a / "both").write_text("of a")
    (b / "both").write_text("another of b")
    (a / "only a").write_text("a")
    (b / "only b").write_text("b")
    sync(a, b, state=state)
    tree = assert_same(a, b)
    assert len(tree) == 4
    assert {(a / name).read_text() for name in tree} == {"of a", "another of b", "a", "b"}


def test_both_empty_is_in_sync(roots: list[Path], state: Path) -> None:
    assert sync(*roots, state=state).summary["files"] == 0


def test_edits_of_one_file_on_two_replicas_are_both_kept(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    (a / "notes.txt").write_text("base")
    sync(a, b, c, state=state)
    (a / "notes.txt").write_text("edited on A")
    (b / "notes.txt").write_text("edited on B, later")
    result = sync(a, b, c, state=state)
    tree = assert_same(a, b, c)
    copy = next(name for name in tree if "conflict" in name)
    assert copy.startswith("notes (conflict ")
    assert copy.endswith(").txt")
    assert {(c / name).read_text() for name in tree} == {"edited on A", "edited on B, later"}
    assert result.summary["conflicts"] == 1


def test_an_edit_beats_a_deletion(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    (a / "x").write_text("base")
    sync(a, b, c, state=state)
    (a / "x").unlink()
    (b / "x").write_text("edited")
    sync(a, b, c, state=state)
    assert_same(a, b, c)
    assert (a / "x").read_text() == "edited"


def test_a_file_against_a_directory_loses_nothing(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    (a / "x").write_text("a file")
    (b / "x").mkdir()
    (b / "x" / "y").write_text("in a directory")
    sync(a, b, state=state)
    tree = assert_same(a, b)
    assert (a / "x" / "y").read_text() == "in a directory"
    assert any("conflict" in name and (a / name).read_text() == "a file" for name in tree)


def test_deletions_edits_and_moves_while_down_are_carried_out(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    for n in range(20):
        (a / f"f{n}").write_text(f"content {n}" * 100)
    (a / "d" / "e").mkdir(parents=True)
    (a / "d" / "e" / "deep").write_text("deep down")
    sync(a, b, c, state=state)
    (a / "f1").unlink()
    (b / "f2").write_text("changed")
    (b / "f3").rename(b / "renamed")
    (c / "d").rename(c / "moved")
    result = sync(a, b, c, state=state)
    tree = assert_same(a, b, c)
    assert "f1" not in tree
    assert (a / "f2").read_text() == "changed"
    assert (c / "renamed").read_text() == "content 3" * 100
    assert "f3" not in tree
    assert (a / "moved" / "e" / "deep").read_text() == "deep down"
    assert "d" not in tree
    assert result.summary["transferred_bytes"] == 2 * len("changed")
    assert result.summary["moves"] == 4


def test_metadata_alone_is_not_a_transfer(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    (a / "x").write_text("x" * 1000)
    (a / "d").mkdir()
    sync(a, b, state=state)
    (b / "x").chmod(0o600)
    (a / "d").chmod(0o711)
    result = sync(a, b, state=state)
    assert result.summary["transferred_bytes"] == 0
    assert stat.S_IMODE((a / "x").stat().st_mode) == 0o600
    assert_same(a, b)


def test_replicas_in_a_directory_that_is_synchronised_later_stay_replicas(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    for root in (a, b):
        (root / "u").mkdir()
    (a / "u" / "f").write_text("one")
    sync(a / "u", b / "u", state=state)
    markers = [(root / "u/.onitu/marker").read_bytes() for root in (a, b)]
    (a / "top").write_text("two")
    for _ in range(2):  # the second one is a glance
        result = sync(a, b, state=state.with_name("whole"))
        assert result.summary["in_sync"]
        assert [(root / "u/.onitu/marker").read_bytes() for root in (a, b)] == markers
    assert not [path for path in (a / "u", b / "u") if list(path.glob("*.conflict*"))]
    (b / "u" / "f").write_text("three")
    assert sync(a / "u", b / "u", state=state).summary["in_sync"]
    assert (a / "u" / "f").read_text() == "three"
    sync(a, b, state=state.with_name("whole"))
    shutil.rmtree(a / "u")
    assert onitu("sync", a, b, "--state", state.with_name("whole")).code == 1  # what is hidden keeps its directory
    assert os.listdir(b / "u") == [".onitu"]


def test_a_third_replica_added_later_gets_everything(roots: list[Path], state: Path) -> None:
    a, b, c = roots
    (a / "x").write_text("x")
    sync(a, b, state=state)
    (c / "own").write_text("own")
    sync(a, b, c, state=state)
    assert set(assert_same(a, b, c)) == {"x", "own"}


def test_special_files_are_left_alone_and_told(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    os.mkfifo(a / "pipe")
    (a / "x").write_text("x")
    result = onitu("sync", a, b, "--state", state, "--json")
    assert result.code == 0, result.err
    assert snapshot(b).keys() == {"x"}
    assert stat.S_ISFIFO((a / "pipe").lstat().st_mode)


def test_what_cannot_be_synchronised_keeps_its_directory(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    (a / "d").mkdir()
    (a / "d" / "x").write_text("x")
    sync(a, b, state=state)
    os.mkfifo(b / "d" / "pipe")
    shutil.rmtree(a / "d")
    (a / "other").write_text("y")
    result = onitu("sync", a, b, "--state", state, "--json")
    assert (b / "d" / "pipe").exists()
    assert not (b / "d" / "x").exists()
    assert (b / "other").read_text() == "y"
    assert result.code == 1
    assert "d" in {problem["path"] for problem in result.summary["problems"]}


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    (a / "x").write_text("x")
    sync(a, b, state=state)
    (a / "y").write_text("y")
    (b / "x").unlink()
    before = snapshot(a), snapshot(b)
    dry = onitu("sync", a, b, "--state", state, "--json", "--dry-run")
    assert dry.code == 0, dry.err
    planned = {(line["path"], line["do"]) for line in dry.lines if line["type"] == "planned"}
    assert planned == {("y", "put"), ("x", "delete")}
    assert (snapshot(a), snapshot(b)) == before
    real = sync(a, b, state=state)
    assert set(assert_same(a, b)) == {"y"}
    assert real.summary["puts"] == 1


def test_a_second_run_on_the_same_state_is_refused_with_the_first_ones_pid(roots: list[Path], state: Path) -> None:
    from .harness import watching

    with watching(*roots, state=state) as daemon:
        result = onitu("sync", *roots, "--state", state)
        assert result.code == 2 or result.code == 3
        assert str(daemon.process.pid) in result.err
        assert "Traceback" not in result.err


def test_an_edit_that_keeps_size_and_time_arrives_although_the_file_was_renamed_too(
    roots: list[Path], state: Path
) -> None:
    a, b, _ = roots
    (a / "container").write_bytes(b"1" * 300_000)
    (a / "photo").write_bytes(b"2" * 300_000)
    sync(a, b, state=state)
    st = (a / "container").stat()
    with (a / "container").open("r+b") as file:
        file.write(b"edited")
    os.utime(a / "container", ns=(st.st_atime_ns, st.st_mtime_ns))
    (a / "container").rename(a / "renamed")
    (a / "photo").rename(a / "moved")
    result = sync(a, b, state=state)
    assert_same(a, b)
    assert (b / "renamed").read_bytes().startswith(b"edited")
    assert result.summary["moves"] == 1
    assert result.summary["puts"] == 1


def test_who_starts_it_without_standard_streams_is_served_too(roots: list[Path], state: Path) -> None:
    (roots[0] / "f").write_bytes(b"value")
    command = [sys.executable, "-m", "onitu", "sync", *map(str, roots), "--state", str(state)]
    closed = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], timeout=120, check=False)
    assert closed.returncode == 0
    assert (roots[1] / "f").read_bytes() == b"value"
