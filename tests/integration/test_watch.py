"""`onitu sync --watch`: what is done on one replica stands on the others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from onitu.drivers.local import syscalls

from .harness import Daemon, alike, assert_same, wait_for, watching

AT_FDCWD = -100


@attrs.frozen
class Watched:
    """Three replicas that are kept in sync."""

    daemon: Daemon
    roots: tuple[Path, ...]

    def same(self) -> dict[str, tuple[object, ...]]:
        """Wait until all hold the same tree, and nothing is under way."""
        wait_for(lambda: alike(*self.roots), why="equal trees")
        self.daemon.in_sync()
        return assert_same(*self.roots)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    base = tmp_path_factory.mktemp("watched")
    roots = tuple(base / name for name in ("A", "B", "C"))
    for root in roots:
        root.mkdir()
    for n in range(10):  # so that whatever order the tests run in, none of them empties the folder
        (roots[0] / f"bystander {n}").write_text("I only stand here.")
    with watching(*roots, state=base / "state") as daemon:
        yield Watched(daemon, roots)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test's own."""
    return request.node.name.replace("[", "-").replace("]", "")


@pytest.fixture(params=[0, 1, 2], ids=["A", "B", "C"])
def side(request: pytest.FixtureRequest) -> int:
    """Who does it."""
    return int(request.param)


def test_a_file_is_created_edited_moved_and_deleted(watched: Watched, side: int, name: str) -> None:
    here = watched.roots[side] / name
    others = [root / name for root in watched.roots if root != watched.roots[side]]
    here.write_text("one")
    wait_for(lambda: all(o.exists() and o.read_text() == "one" for o in others))
    here.write_text("two, longer")
    wait_for(lambda: all(o.read_text() == "two, longer" for o in others))
    moved = here.with_name(name + " moved")
    here.rename(moved)
    wait_for(lambda: all(o.with_name(moved.name).exists() and not o.exists() for o in others))
    moved.unlink()
    wait_for(lambda: not any(o.with_name(moved.name).exists() for o in others))
    watched.same()


@pytest.mark.parametrize(
    ("before", "after"), [(100, 10), (100, 100), (10, 100), (100, 0), (0, 5), (3_000_000, 2_999_999)]
)
def test_updates_smaller_equal_and_bigger(watched: Watched, name: str, before: int, after: int) -> None:
    a, b, _ = watched.roots
    (a / name).write_bytes(b"b" * before)
    wait_for(lambda: (b / name).exists() and (b / name).stat().st_size == before)
    (b / name).write_bytes(b"a" * after)
    wait_for(lambda: (a / name).read_bytes() == b"a" * after)
    watched.same()


def test_a_directory_is_made_moved_and_deleted(watched: Watched, side: int, name: str) -> None:
    here = watched.roots[side] / name
    other = watched.roots[side - 1] / name
    (here / "deep" / "deeper").mkdir(parents=True)
    for n in range(30):
        (here / "deep" / f"f{n}").write_text(str(n))
    (here / "deep" / "deeper" / "x").write_text("x")
    tree = watched.same()
    assert f"{name}/deep/deeper/x" in tree
    moves = watched.daemon.folder()["moves"]
    puts = watched.daemon.folder()["transferred_bytes"]
    here.rename(here.with_name(name + " moved"))
    wait_for(lambda: (other.with_name(name + " moved") / "deep" / "deeper" / "x").exists() and not other.exists())
    watched.same()
    assert watched.daemon.folder()["moves"] == moves + 2 * 31
    assert watched.daemon.folder()["transferred_bytes"] == puts
    shutil.rmtree(here.with_name(name + " moved"))
    wait_for(lambda: not other.with_name(name + " moved").exists())
    watched.same()


def test_a_thousand_files_at_once(watched: Watched, name: str) -> None:
    a, b, c = watched.roots
    (b / name).mkdir()
    for n in range(1000):
        (b / name / f"f{n}").write_text(f"number {n}")
    wait_for(lambda: all(len(os.listdir(r / name)) == 1000 if (r / name).exists() else False for r in (a, c)))
    assert len([path for path in watched.same() if path.startswith(name + "/")]) == 1000


def test_what_editors_do_when_they_save_is_one_edit(watched: Watched, name: str) -> None:
    a, b, _ = watched.roots
    (a / name).write_text("first")
    wait_for(lambda: (b / name).exists())
    watched.daemon.in_sync()
    temporary = a / f".{name}.swp"
    for number in range(10):
        temporary.write_text(f"saved {number}")
        if number % 2:
            os.replace(temporary, a / name)  # write, rename over
        else:
            (a / name).rename(a / f"{name}~")  # backup, rename
            temporary.rename(a / name)
            (a / f"{name}~").unlink()
    wait_for(lambda: (b / name).exists() and (b / name).read_text() == "saved 9")
    assert not [path for path in watched.same() if "conflict" in path and name in path]


def test_appended_truncated_and_rewritten_in_place(watched: Watched, name: str) -> None:
    a, b, _ = watched.roots
    with (a / name).open("w") as file:
        for n in range(200):
            file.write(f"line {n}\n")
            file.flush()
    wait_for(lambda: (b / name).exists() and (b / name).read_text().endswith("line 199\n"))
    with (b / name).open("r+") as file:
        file.write("LINE")
    wait_for(lambda: (a / name).read_text().startswith("LINE 0"))
    os.truncate(b / name, 4)
    wait_for(lambda: (a / name).read_text() == "LINE")
    watched.same()


def test_a_file_becomes_a_directory_a_link_and_a_file_again(watched: Watched, name: str) -> None:
    a, b, c = watched.roots
    (a / name).write_text("a file")
    wait_for(lambda: (c / name).exists())
    watched.daemon.in_sync()
    (a / name).unlink()
    (a / name).mkdir()
    (a / name / "in").write_text("in")
    wait_for(lambda: (c / name / "in").exists())
    watched.same()
    shutil.rmtree(b / name)
    (b / name).symlink_to("elsewhere")
    wait_for(lambda: (c / name).is_symlink() and (a / name).is_symlink())
    watched.same()
    (c / name).unlink()
    (c / name).write_text("a file again")
    wait_for(lambda: all((r / name).is_file() and not (r / name).is_symlink() for r in watched.roots))
    assert not [path for path in watched.same() if "conflict" in path and name in path]


@pytest.mark.parametrize(
    "given",
    ["\u00e9t\u00e9", "e\u0301te\u0301", "\u65e5\u672c\u8a9e", "\U0001f600", "  spaces  ", "-n", "a\nb", "quote'\"\\"],
)
def test_unicode_and_odd_names_are_copied_moved_and_deleted(watched: Watched, given: str) -> None:
    a, b, _ = watched.roots
    (a / given).write_text(given)
    wait_for(lambda: given in os.listdir(b))
    watched.same()
    (b / given).rename(b / (given + " moved"))
    wait_for(lambda: given + " moved" in os.listdir(a) and given not in os.listdir(a))
    (a / (given + " moved")).unlink()
    wait_for(lambda: given + " moved" not in os.listdir(b))
    watched.same()


def test_names_that_are_not_utf8(watched: Watched) -> None:
    a, b, _ = (os.fsencode(root) for root in watched.roots)
    with open(os.path.join(a, b"\xff\xfe"), "wb") as file:
        file.write(b"x")
    wait_for(lambda: b"\xff\xfe" in os.listdir(b))
    os.unlink(os.path.join(b, b"\xff\xfe"))
    wait_for(lambda: b"\xff\xfe" not in os.listdir(a))
    watched.same()


def test_a_swap_of_two_names(watched: Watched, name: str) -> None:
    a, b, _ = watched.roots
    (a / f"{name}1").write_text("one")
    (a / f"{name}2").write_text("two!")
    watched.same()
    (a / f"{name}1").rename(a / f"{name}t")
    (a / f"{name}2").rename(a / f"{name}1")
    (a / f"{name}t").rename(a / f"{name}2")
    wait_for(lambda: (b / f"{name}1").exists() and (b / f"{name}1").read_text() == "two!")
    tree = watched.same()
    assert (b / f"{name}2").read_text() == "one"
    assert not [path for path in tree if name in path and "conflict" in path]


def test_a_directory_and_a_file_change_places(watched: Watched, name: str) -> None:
    a, b, _ = watched.roots
    (a / name / "d").mkdir(parents=True)
    (a / name / "d" / "inner").write_text("one")
    (a / name / "f").write_text("two")
    watched.same()
    for _ in range(2):  # and back
        syscalls.exchange(AT_FDCWD, os.fsencode(a / name / "d"), AT_FDCWD, os.fsencode(a / name / "f"))
        wait_for(lambda: alike(a / name, b / name), why="both changed places")
        watched.same()


def test_directories_move_into_each_other(watched: Watched, name: str) -> None:
    a, b, _ = watched.roots
    (a / name / "one" / "low").mkdir(parents=True)
    (a / name / "two").mkdir()
    watched.same()
    os.rename(a / name / "one", a / name / "two" / "one")
    os.rename(a / name / "two" / "one" / "low", a / name / "one")
    os.rename(a / name / "two", a / name / "one" / "two")
    wait_for(lambda: (b / name / "one" / "two" / "one").is_dir())
    watched.same()


def test_created_and_deleted_at_once_leaves_nothing(watched: Watched, name: str) -> None:
    a, _, _ = watched.roots
    for n in range(100):
        (a / f"{name}{n}").write_text("x")
        (a / f"{name}{n}").unlink()
    assert not [path for path in watched.same() if path.startswith(name)]


def test_modes_and_times_follow(watched: Watched, name: str) -> None:
    a, b, _ = watched.roots
    (a / name).write_text("x")
    watched.same()
    (b / name).chmod(0o640)
    os.utime(b / name, ns=(5, 1_000_000_007))
    wait_for(lambda: (a / name).stat().st_mtime_ns == 1_000_000_007)
    watched.same()


def test_idle_means_nothing_is_written(watched: Watched) -> None:
    watched.same()
    before = watched.daemon.folder()
    watched.daemon.ask("rescan")
    watched.daemon.in_sync()
    after = watched.daemon.folder()
    counted = ("puts", "deletes", "moves", "metas", "transferred_bytes")
    assert [after[name] for name in counted] == [before[name] for name in counted]


def test_what_is_done_while_it_watches_is_told_line_by_line_and_what_was_before_as_a_sum(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for replica in (a, b):
        replica.mkdir()
    (a / "before").write_text("1")
    with watching(a, b, state=tmp_path / "state") as daemon:
        wait_for(lambda: "watching" in daemon.log.read_text())
        (a / "after").write_text("2")
        wait_for(lambda: "after" in daemon.log.read_text())
        (a / "later").write_text("3")
        wait_for(lambda: "later" in daemon.log.read_text())
    told = daemon.log.read_text()
    assert "1 changed" in told
    assert "before" not in told
    assert told.count("after on a: created") == told.count("later on a: created") == 1
