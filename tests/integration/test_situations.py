"""Situations that synchronisers are tested with, as far as only real processes on a real disk can show them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from .harness import assert_same, onitu, running, snapshot, sync, wait_for, watching


def test_new_times_on_all_files_transfer_nothing(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    for n in range(100):
        (a / f"f{n}").write_text(f"content {n}")
    sync(a, b, state=state)
    for n in range(100):
        os.utime(b / f"f{n}", ns=(1, n * 10**15))
    result = sync(a, b, state=state)
    assert result.summary["transferred_bytes"] == 0
    assert result.summary["metas"] == 100
    assert_same(a, b)


def test_other_content_of_the_same_size_and_time_is_found(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    (a / "x").write_text("one")
    sync(a, b, state=state)
    before = (a / "x").stat()
    with (a / "x").open("r+") as file:
        file.write("two")
    os.utime(a / "x", ns=(before.st_atime_ns, before.st_mtime_ns))
    sync(a, b, state=state)
    assert (b / "x").read_text() == "two"


def test_two_spellings_of_one_name_are_one_file(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    composed, decomposed = "\u00e9t\u00e9", unicodedata.normalize("NFD", "\u00e9t\u00e9")
    (a / composed).write_text("the same")
    (b / decomposed).write_text("the same")
    result = sync(a, b, state=state)
    assert result.summary["transferred_bytes"] == 0
    assert os.listdir(a / "") == [n for n in os.listdir(a) if n in (".onitu", composed)]
    (a / composed).write_text("edited")
    sync(a, b, state=state)
    assert (b / decomposed).read_text() == "edited"
    assert not (b / composed).exists()


def test_two_spellings_of_one_name_on_one_service_lose_nothing(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    composed, decomposed = "\u00e9", unicodedata.normalize("NFD", "\u00e9")
    (a / composed).write_text("composed")
    (a / decomposed).write_text("decomposed, another")
    (a / "other").write_text("other")
    result = onitu("sync", a, b, "--state", state, "--json")
    assert result.code == 1
    assert (a / composed).read_text() == "composed"
    assert (a / decomposed).read_text() == "decomposed, another"
    assert (b / "other").read_text() == "other"
    assert any("Unicode" in problem["reason"] for problem in result.summary["problems"])


def test_what_goes_from_a_directory_while_nothing_runs_goes_everywhere_however_each_service_spells_it(
    roots: list[Path], state: Path
) -> None:
    a, b, _ = roots
    composed, decomposed = "\u00e9t\u00e9", unicodedata.normalize("NFD", "\u00e9t\u00e9")
    there = {a: a / composed / decomposed, b: b / decomposed / decomposed}
    for place in there.values():
        place.mkdir(parents=True)
    for name in ("one", "two", "three"):
        (there[a] / name).write_text(name)
    sync(a, b, state=state)
    (there[a] / "one").unlink()
    (there[b] / "two").unlink()
    assert sync(a, b, state=state).summary["deletes"] == 2
    assert [os.listdir(place) for place in there.values()] == [["three"], ["three"]]
    shutil.rmtree(b / decomposed)
    sync(a, b, state=state)
    assert not (a / composed).exists()


def test_two_spellings_of_one_directory_on_one_service_lose_nothing(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    one, other = a / "\u00e9", a / unicodedata.normalize("NFD", "\u00e9")
    for place, name in ((one, "composed"), (other, "decomposed")):
        place.mkdir()
        (place / name).write_text(name)
        (place / "in both").write_text(f"of {name}")
    (a / "other").write_text("other")
    for _ in range(2):
        assert onitu("sync", a, b, "--state", state, "--json").code == 1
    (there,) = (path for path in b.iterdir() if path.name in (one.name, other.name))
    assert {"composed", "decomposed"} < set(os.listdir(there))
    (one / "composed").unlink()
    assert onitu("sync", a, b, "--state", state, "--json").code == 1
    assert "composed" not in os.listdir(there)
    shutil.rmtree(one)
    sync(a, b, state=state)
    assert sorted(os.listdir(other)) == sorted(os.listdir(there)) == ["decomposed", "in both"]
    assert (there / "in both").read_text() == "of decomposed"


@pytest.mark.parametrize("stays", ["composed", "decomposed"])
def test_two_spellings_of_one_name_are_no_problem_any_more_once_there_is_one(
    roots: list[Path], state: Path, stays: str
) -> None:
    a, b, _ = roots
    names = {"composed": "\u00e9", "decomposed": unicodedata.normalize("NFD", "\u00e9")}
    (a / "other").write_text("other")
    for content, name in names.items():
        (a / name).write_text(content)
    assert onitu("sync", a, b, "--state", state, "--json").code == 1
    (a / next(name for content, name in names.items() if content != stays)).unlink()
    sync(a, b, state=state)
    assert [path.read_text() for path in b.iterdir() if path.name in names.values()] == [stays]


def test_a_directory_deleted_elsewhere_keeps_what_is_hidden_in_it(tmp_path: Path) -> None:
    a, b = tmp_path / "A", tmp_path / "B"
    for root in (a, b):
        root.mkdir()
    state, config = tmp_path / "state", tmp_path / "onitu.yaml"
    config.write_text(
        f"name: t\nstate: {state}\nfolders: {{docs: {{blacklist: ['*.o']}}}}\nservices:\n"
        f"  A: {{driver: local, folders: {{docs: {a}}}}}\n  B: {{driver: local, folders: {{docs: {b}}}}}\n"
    )
    (a / "d").mkdir()
    (a / "d" / "x.c").write_text("x")
    with running("start", "-c", config, state=state) as daemon:
        daemon.in_sync()
        (b / "d" / "x.o").write_text("made from x.c")
        (a / "keep").write_text("keep")
        shutil.rmtree(a / "d")
        wait_for(lambda: (b / "keep").exists() and not (b / "d" / "x.c").exists())
        wait_for(lambda: daemon.folder()["blocked"] == 1)
        assert (b / "d" / "x.o").read_text() == "made from x.c"
        assert "empty" in daemon.ask("explain", path="d")["services"]["B"]
        (b / "d" / "x.o").unlink()
        wait_for(lambda: not (b / "d").exists(), why="it heals when the directory is empty")


GROW = """
import sys, time
with open(sys.argv[1], "ab", buffering=0) as file:
    for n in range(2000):
        file.write(b"%06d " % n + b"x" * 500 + b"\\n")
        time.sleep(0.001)
"""


def test_a_file_that_grows_while_it_is_read_arrives_whole(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    with watching(a, b, state=state) as daemon:
        writer = subprocess.Popen([sys.executable, "-c", GROW, str(a / "log")])
        seen: set[int] = set()
        while writer.poll() is None:
            if (b / "log").exists():
                content = (b / "log").read_bytes()
                seen.add(len(content))
                lines = content.splitlines()
                assert lines == (a / "log").read_bytes().splitlines()[: len(lines)] or not content.endswith(b"\n")
        wait_for(lambda: (b / "log").exists() and (b / "log").stat().st_size == (a / "log").stat().st_size)
        daemon.in_sync()
        assert not [path for path in assert_same(a, b) if "conflict" in path]


def test_a_file_deleted_while_it_is_sent_leaves_nothing(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    with watching(a, b, state=state) as daemon:
        for n in range(5):
            (a / f"big{n}").write_bytes(os.urandom(20 << 20))
            (a / f"big{n}").unlink()
        (a / "end").write_text("end")
        wait_for(lambda: (b / "end").exists())
        daemon.ask("rescan")
        daemon.in_sync()
        assert set(assert_same(a, b)) == {"end"}


def test_a_service_taken_away_and_added_again_later(roots: list[Path], state: Path, tmp_path: Path) -> None:
    a, b, c = roots
    config = tmp_path / "onitu.yaml"

    def configure(*services: Path) -> None:
        lines = [f"  {root.name}: {{driver: local, folders: {{docs: {root}}}}}" for root in services]
        config.write_text("\n".join([f"name: t\nstate: {state}\nfolders: {{docs: {{}}}}\nservices:", *lines, ""]))

    for n in range(5):
        (a / f"f{n}").write_text(f"content {n}")
    configure(a, b, c)
    with running("start", "-c", config, state=state) as daemon:
        daemon.in_sync()
    configure(a, b)
    (a / "f1").unlink()
    (a / "f2").write_text("edited meanwhile")
    (c / "f3").write_text("edited on C meanwhile")
    with running("start", "-c", config, state=state) as daemon:
        daemon.in_sync()
        assert_same(a, b)
    configure(a, b, c)
    with running("start", "-c", config, state=state) as daemon:
        daemon.in_sync()
        tree = assert_same(a, b, c)
        assert "f1" not in tree
        assert (c / "f2").read_text() == "edited meanwhile"
        assert (a / "f3").read_text() == "edited on C meanwhile"


def test_two_runs_never_share_a_replica(roots: list[Path], state: Path, tmp_path: Path) -> None:
    a, b, c = roots
    (a / "x").write_text("x")
    with watching(a, b, state=state) as daemon:
        result = onitu("sync", b, c, "--state", tmp_path / "another")
        assert result.code != 0
        assert str(daemon.pids()["driver B"]) in result.err
        assert not snapshot(c)


def test_a_link_is_never_followed_out_of_its_root(roots: list[Path], state: Path, tmp_path: Path) -> None:
    a, b, _ = roots
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (a / "d").mkdir()
    (a / "d" / "x").write_text("x")
    sync(a, b, state=state)
    shutil.rmtree(b / "d")
    (b / "d").symlink_to(outside)
    (a / "d" / "x").write_text("changed")
    sync(a, b, state=state)
    assert set(os.listdir(outside)) == {"secret"}
    assert_same(a, b)
    assert any((a / path).is_file() and (a / path).read_text() == "changed" for path in snapshot(a))


def test_names_that_are_too_long_for_a_conflict_mark_are_cut(roots: list[Path], state: Path) -> None:
    a, b, _ = roots
    name = "n" * 251 + ".txt"
    (a / name).write_text("of a")
    (b / name).write_text("another of b")
    sync(a, b, state=state)
    tree = assert_same(a, b)
    assert {(a / path).read_text() for path in tree} == {"of a", "another of b"}
