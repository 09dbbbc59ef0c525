"""The behaviours that the first Onitu's test suite tried, with its kind of configuration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .harness import Daemon, assert_same, onitu, running, snapshot, started, wait_for


def configuration(base: Path, text: str) -> tuple[Path, Path]:
    """Write a configuration; its path, and the state directory that it names."""
    state = base / "state"
    path = base / "onitu.yaml"
    path.write_text(f"name: test\nstate: {state}\n{text}")
    return path, state


def two(base: Path, folder: str = "{}", first: str = "", second: str = "") -> tuple[Path, Path, Path, Path]:
    """Two services with one folder; options of the folder, and of the replicas. Configuration, state, both roots."""
    a, b = base / "A", base / "B"
    a.mkdir(exist_ok=True)
    b.mkdir(exist_ok=True)
    text = f"""
folders:
  docs: {folder}
services:
  A:
    driver: local_storage
    folders:
      docs: {{path: {a}, {first}}}
  B:
    driver: local_storage
    folders:
      docs: {{path: {b}, {second}}}
"""
    return *configuration(base, text), a, b


def quiet(daemon: Daemon) -> None:
    """Wait until everything that was done has been seen: a mark goes through, in order, behind it."""
    daemon.ask("rescan")
    daemon.in_sync()


def served(daemon: Daemon, service: str) -> int:
    """The bytes that a service gave to others over sockets."""
    return int(daemon.folder()["services"][service]["counters"].get("served_bytes", 0))


def test_the_folders_and_services_of_the_original_run_unchanged(tmp_path: Path) -> None:
    for name in ("home", "work", "photos"):
        (tmp_path / name).mkdir()
    path, state = configuration(
        tmp_path,
        f"""
folders:
  music:
    mimetypes:
      - "audio/mpeg"
      - "audio/ogg"
    file_size:
      max: 15M
  docs:
    blacklist:
      - "*.bak"
      - Private/
    file_size:
      min: 1
      max: 15 Mb
  backup:
    blacklist: ["*.tmp"]

services:
  L1:
    driver: local_storage
    folders:
      docs: {tmp_path}/home
  L2:
    driver: local_storage
    folders:
      docs:
        path: {tmp_path}/work
        mode: rw
        file_size: {{max: 10k}}
      backup: {tmp_path}/photos
""",
    )
    with started(path, state) as daemon:
        (tmp_path / "home" / "a.txt").write_text("a")
        (tmp_path / "home" / "a.bak").write_text("no")
        (tmp_path / "home" / "Private").mkdir()
        (tmp_path / "home" / "Private" / "x").write_text("no")
        (tmp_path / "home" / "big").write_text("b" * 10_001)
        (tmp_path / "home" / "empty").touch()
        wait_for(lambda: (tmp_path / "work" / "a.txt").exists())
        quiet(daemon)
        assert set(snapshot(tmp_path / "work")) == {"a.txt"}


def test_sizes_hold_and_a_file_comes_into_the_limits_by_an_update_from_either_side(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path, "{file_size: {min: 10, max: 2Ki}}")
    with started(path, state) as daemon:
        (a / "small").write_text("x")
        (a / "large").write_text("x" * 2049)
        (a / "right").write_text("x" * 2048)
        wait_for(lambda: (b / "right").exists())
        quiet(daemon)
        assert set(snapshot(b)) == {"right"}
        (a / "small").write_text("x" * 10)
        (a / "large").write_text("x" * 2000)
        wait_for(lambda: (b / "small").exists() and (b / "large").exists())
        (b / "own").write_text("x")
        quiet(daemon)
        assert not (a / "own").exists()
        (b / "own").write_text("x" * 100)
        wait_for(lambda: (a / "own").exists())
        (a / "right").write_text("x" * 5000)  # it grows past the limit: it stays, and is not managed any more
        wait_for(lambda: daemon.folder()["hidden"] > 0)
        quiet(daemon)
        assert (b / "right").stat().st_size == 2048
        assert (a / "right").stat().st_size == 5000


def test_black_and_white_lists_and_mime_types_hold(tmp_path: Path) -> None:
    path, state, a, b = two(
        tmp_path, '{blacklist: ["*.tmp", "/secret/"], mimetypes: ["text/*"]}', 'whitelist: ["*.txt", "*.html"]'
    )
    with started(path, state) as daemon:
        (a / "secret").mkdir()
        (a / "secret" / "x.txt").write_text("no")
        (a / "x.tmp").write_text("no")
        (a / "x.png").write_text("no")
        (a / "x.txt").write_text("yes")
        (a / "x.css").write_text("no, by the white list")
        (b / "y.html").write_text("yes")
        (b / "y.css").write_text("no, by A's white list")
        wait_for(lambda: (b / "x.txt").exists() and (a / "y.html").exists())
        quiet(daemon)
        assert set(snapshot(b)) == {"x.txt", "y.html", "y.css"}
        assert "y.css" not in snapshot(a)


def test_a_move_out_of_a_blacklisted_name_is_a_new_file(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path, '{blacklist: ["*.tmp"]}')
    with started(path, state) as daemon:
        (a / "x.tmp").write_text("x")
        quiet(daemon)
        assert not snapshot(b)
        (a / "x.tmp").rename(a / "x")
        wait_for(lambda: (b / "x").exists() and (b / "x").read_text() == "x")
        (a / "x").rename(a / "x.tmp")  # into it: forgotten here, and nothing is deleted there
        quiet(daemon)


@pytest.mark.parametrize(
    ("first", "second", "to_b", "to_a"), [("r", "w", True, False), ("rw", "r", False, True), ("w", "rw", False, True)]
)
def test_modes_hold(tmp_path: Path, first: str, second: str, to_b: bool, to_a: bool) -> None:
    path, state, a, b = two(tmp_path, "{}", f"mode: {first}", f"mode: {second}")
    with started(path, state, settled=False) as daemon:
        (a / "of a").write_text("a")
        (b / "of b").write_text("b")
        if to_b:
            wait_for(lambda: (b / "of a").exists())
        if to_a:
            wait_for(lambda: (a / "of b").exists())
        daemon.ask("rescan")
        wait_for(lambda: daemon.folder()["settled"])
        assert (b / "of a").exists() == to_b
        assert (a / "of b").exists() == to_a


@pytest.mark.parametrize("number", [1, 7, 300])
def test_one_few_and_many_files_are_changed_at_once_on_either_side(tmp_path: Path, number: int) -> None:
    path, state, a, b = two(tmp_path)
    for n in range(number):
        (a / f"f{n}").write_text(f"first {n}")
    with started(path, state) as daemon:
        assert len(assert_same(a, b)) == number
        for root, other, word in ((a, b, "second, longer"), (b, a, "3rd")):
            for n in range(number):
                (root / f"f{n}").write_text(f"{word} {n}")
            wait_for(lambda: all((other / f"f{n}").read_text() == f"{word} {n}" for n in range(number)))  # noqa: B023
            daemon.in_sync()
            assert len(assert_same(a, b)) == number
        assert daemon.folder()["puts"] == 3 * number


def test_moves_into_subdirectories_from_either_side_are_renames(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    for name in ("of a", "of b"):
        (a / name).write_text(name * 1000)
    (a / "known").mkdir()
    (a / "tree").mkdir()
    (a / "tree" / "x").write_text("in a tree")
    with started(path, state) as daemon:
        moved = daemon.folder()["transferred_bytes"]
        (a / "of a").rename(a / "known" / "of a")
        wait_for(lambda: (b / "known" / "of a").exists() and not (b / "of a").exists())
        (b / "new" / "deep").mkdir(parents=True)
        (b / "of b").rename(b / "new" / "deep" / "of b")
        wait_for(lambda: (a / "new" / "deep" / "of b").exists() and not (a / "of b").exists())
        (b / "tree").rename(b / "new" / "tree")
        wait_for(lambda: (a / "new" / "tree" / "x").exists() and not (a / "tree").exists())
        daemon.in_sync()
        assert len(assert_same(a, b)) == 7
        assert daemon.folder()["transferred_bytes"] == moved
        assert daemon.folder()["moves"] == 3


def test_a_move_into_another_folder(tmp_path: Path) -> None:
    for name in ("A1", "A2", "B1", "B2"):
        (tmp_path / name).mkdir()
    text = "folders: {one: {}, two: {}}\nservices:\n"
    for service in "AB":
        folders = ", ".join(f"{name}: {tmp_path}/{service}{n}" for n, name in ((1, "one"), (2, "two")))
        text += f"  {service}: {{driver: local_storage, folders: {{{folders}}}}}\n"
    path, state = configuration(tmp_path, text)
    with started(path, state):
        (tmp_path / "A1" / "x").write_text("moved between folders")
        wait_for(lambda: (tmp_path / "B1" / "x").exists())
        (tmp_path / "A1" / "x").rename(tmp_path / "A2" / "x")
        wait_for(lambda: (tmp_path / "B2" / "x").exists() and not (tmp_path / "B1" / "x").exists())
        assert (tmp_path / "B2" / "x").read_text() == "moved between folders"


def test_deletions_while_down_from_either_side_and_of_a_directory(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    (a / "d").mkdir()
    for n in range(10):
        (a / f"f{n}").write_text(str(n))
        (a / "d" / f"f{n}").write_text(str(n))
    with started(path, state):
        assert_same(a, b)
    (a / "f1").unlink()
    (b / "f2").unlink()
    shutil.rmtree(b / "d")
    with started(path, state):
        assert set(assert_same(a, b)) == {f"f{n}" for n in range(10)} - {"f1", "f2"}


def test_rules_in_order_add_and_take_away_services(tmp_path: Path) -> None:
    for name in "ABC":
        (tmp_path / name).mkdir()
    path, state = configuration(
        tmp_path,
        f"""
folders: {{docs: {{}}}}
services:
  A: {{driver: local_storage, folders: {{docs: {tmp_path}/A}}}}
  B: {{driver: local_storage, folders: {{docs: {tmp_path}/B}}}}
  C: {{driver: local_storage, folders: {{docs: {tmp_path}/C}}}}
rules:
  - {{match: {{path: /}}, sync: [B]}}
  - {{match: {{path: /photos/, mime: ["image/*"]}}, sync: [C], ban: [B]}}
""",
    )
    (tmp_path / "A" / "photos").mkdir()
    (tmp_path / "A" / "photos" / "x.jpg").write_text("an image")
    (tmp_path / "A" / "photos" / "x.txt").write_text("a text")
    (tmp_path / "A" / "y").write_text("y")
    with started(path, state, settled=False) as daemon:
        wait_for(lambda: (tmp_path / "C" / "photos" / "x.jpg").exists() and (tmp_path / "B" / "y").exists())
        wait_for(lambda: (tmp_path / "B" / "photos" / "x.txt").exists())
        wait_for(lambda: daemon.folder()["settled"])
        assert not (tmp_path / "B" / "photos" / "x.jpg").exists()
        assert not (tmp_path / "C" / "y").exists()


@pytest.mark.parametrize("rules", ["", "rules: [{match: {path: /f}, sync: [A, B]}]"], ids=["a whitelist", "rules"])
def test_the_loser_of_a_conflict_stays_where_it_was_though_its_copy_is_admitted_nowhere(
    rules: str, tmp_path: Path
) -> None:
    path, state, a, b = two(tmp_path, folder="{}" if rules else "{whitelist: [f]}")
    path.write_text(f"{path.read_text()}\n{rules}\n")
    (a / "f").write_text("of a")
    (b / "f").write_text("of b")
    with started(path, state) as daemon:
        wait_for(lambda: daemon.folder()["in_sync"])
        assert (a / "f").read_text() == (b / "f").read_text()
    assert {one.read_text() for place in (a, b) for one in place.iterdir() if one.is_file()} == {"of a", "of b"}


def test_a_rule_change_deletes_nothing(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    (a / "x.bak").write_text("x")
    (a / "y").write_text("y")
    with started(path, state):
        assert len(assert_same(a, b)) == 2
    text = path.read_text()
    path.write_text(text.replace("docs: {}", 'docs: {blacklist: ["*.bak"]}'))
    (b / "x.bak").unlink()
    with started(path, state) as daemon:
        quiet(daemon)
        assert (a / "x.bak").exists()
        assert not (b / "x.bak").exists()
        assert daemon.folder()["hidden"] > 0
    path.write_text(text)
    with started(path, state):
        assert len(assert_same(a, b)) == 2


def test_the_fastest_source_is_chosen_and_another_takes_over(tmp_path: Path) -> None:
    for name in "ABC":
        (tmp_path / name).mkdir()
    path, state = configuration(
        tmp_path,
        f"""
folders: {{docs: {{}}}}
services:
  A: {{driver: local_storage, velocity: 0.2, options: {{kernel_copy: false}}, folders: {{docs: {tmp_path}/A}}}}
  B: {{driver: local_storage, velocity: 0.9, options: {{kernel_copy: false}}, folders: {{docs: {tmp_path}/B}}}}
  C: {{driver: local_storage, options: {{kernel_copy: false}}, folders: {{docs: {tmp_path}/C}}}}
""",
    )
    content = os.urandom(3_000_000)
    with started(path, state) as daemon:
        daemon.ask("pause", service="C")
        (tmp_path / "A" / "x").write_bytes(content)
        wait_for(lambda: (tmp_path / "B" / "x").exists())
        wait_for(lambda: served(daemon, "A") == len(content))
        daemon.ask("resume", service="C")
        wait_for(lambda: (tmp_path / "C" / "x").exists())
        assert (tmp_path / "C" / "x").read_bytes() == content
        daemon.in_sync()
        assert daemon.folder()["sent_bytes"] == 2 * len(content)
        wait_for(lambda: served(daemon, "B") == len(content), why="the fastest of the two gives it to C")
        assert served(daemon, "A") == len(content)
        daemon.ask("pause", service="C")
        (tmp_path / "B" / "y").write_bytes(content[::-1])
        wait_for(lambda: (tmp_path / "A" / "y").exists())
        (tmp_path / "B").rename(tmp_path / "gone")
        wait_for(lambda: daemon.folder()["services"]["B"]["state"] == "unavailable")
        daemon.ask("resume", service="C")
        wait_for(lambda: (tmp_path / "C" / "y").exists(), why="A takes over")
        assert (tmp_path / "C" / "y").read_bytes() == content[::-1]


def test_no_source_left_ends_the_transfer_cleanly(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    with started(path, state) as daemon:
        daemon.ask("pause", service="B")
        (a / "x").write_bytes(os.urandom(1_000_000))
        wait_for(lambda: daemon.folder()["files"] == 1)
        a.rename(tmp_path / "gone")
        wait_for(lambda: daemon.folder()["services"]["A"]["state"] == "unavailable")
        daemon.ask("resume", service="B")
        wait_for(lambda: daemon.folder()["services"]["B"]["state"] in ("idle", "busy"))
        assert not snapshot(b)
        explained = daemon.ask("explain", path="x")
        assert "no service that has it" in explained["services"]["B"]
        (tmp_path / "gone").rename(a)
        wait_for(lambda: (b / "x").exists(), why="it goes on when the source is back")
        assert_same(a, b)


AT_DIR = "{driver: local, folders: {docs: DIR}}"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("folders: {docs: {}}\nservices: {A: {driver: local_strage, folders: {docs: DIR}}}", 4, "local_storage"),
        ("folders: {docs: {colour: red}}\nservices: {A: {driver: local, folders: {docs: DIR}}}", 3, "colour"),
        ("folders: {docs: {file_size: {max: many}}}\nservices: {A: {driver: local, folders: {docs: DIR}}}", 3, "many"),
        ("folders: {docs: {}}\nservices: {A: {driver: local, velocity: fast, folders: {docs: DIR}}}", 4, "fast"),
        ("folders: {docs: {}}\nservices: {A: {driver: local, folders: {doc: DIR}}}", 4, "docs"),
        ("folders: {docs: {}}\nservices: {A: " + AT_DIR + ", B: " + AT_DIR + "}", 4, "B"),
        ("folders: {docs: {}}\nservices: {A: " + AT_DIR + ", B: " + AT_DIR.replace("DIR", "DIR/in") + "}", 4, "DIR"),
        ("folders: {docs: {}}\nservices: {}", 4, "service"),
        ("folders: [docs\nservices: {}", 4, ""),
    ],
)  # fmt: skip
def test_an_error_in_the_configuration_is_one_clear_message(tmp_path: Path, text: str, line: int, words: str) -> None:
    (tmp_path / "place" / "in").mkdir(parents=True)
    path, state = configuration(tmp_path, text.replace("DIR", str(tmp_path / "place")))
    result = onitu("start", "-c", path)
    assert result.code == 2, result.err
    assert f"onitu.yaml:{line}" in result.err
    assert words.replace("DIR", "place") in result.err
    assert "Traceback" not in result.err
    assert not state.exists()


def test_a_missing_configuration_is_told(tmp_path: Path) -> None:
    result = onitu("start", "-c", tmp_path / "none.yaml")
    assert result.code == 2
    assert "none.yaml" in result.err
    assert "Traceback" not in result.err


def test_the_daemons_commands(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    with running("start", "-c", path, state=state) as daemon:
        daemon.in_sync()
        (a / "x").write_text("x")
        assert onitu("status", "-c", path, "--wait").code == 0
        wait_for(lambda: (b / "x").exists())
        assert "A" in onitu("status", "-c", path).out
        assert onitu("explain", "x", "-c", path).code == 0
        assert "x" in onitu("log", "-c", path).out
        assert onitu("conflicts", "-c", path).code == 0
        assert onitu("pause", "-c", path).code == 0
        assert onitu("resume", "-c", path).code == 0
        assert onitu("rescan", "-c", path).code == 0
        assert onitu("check", "-c", path).code == 0
        assert onitu("stop", "-c", path).code == 0
        daemon.process.wait(20)
        assert onitu("status", "-c", path).code != 0
    assert onitu("drivers").code == 0


def test_a_path_is_explained_whatever_bytes_are_in_it_and_wherever_it_is_named(tmp_path: Path) -> None:
    path, state, a, b = two(tmp_path)
    odd = os.fsdecode(b"odd \xff")
    (a / odd).write_text("x")
    with started(path, state) as daemon:
        daemon.in_sync()
        assert (b / odd).read_text() == "x"
        for name in (odd, f"{b}/{odd}"):
            told = onitu("explain", name, "-c", path, "--state", state)
            assert told.code == 0, told.err
            assert "holds the head" in told.out
        for name in ("../x", ".", f"{a}/.onitu/marker"):
            told = onitu("explain", name, "-c", path)
            assert told.code != 0
            assert "is not a path within a folder" in told.err
