"""The tables and the plot of the benchmark, from figures that are made up; and what it takes for the same tree."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks.peers import Cold, Tool, compare, copied, edit, fill, inodes
from benchmarks.results import ONITU, ROWS, Failed, Figure, Results

SIZES = {"files": 100, "many": 1000, "large": 1, "edits": 10, "idle": 1.0}


def results(*rows: str) -> Results:
    return Results(rows or tuple(ROWS), SIZES, lambda line: None)


def test_the_table_has_medians_and_what_onitu_took_as_a_multiple() -> None:
    made = results()
    for seconds in (1.0, 9.0, 2.0):
        made.add("first", "unison", Figure(seconds, 1.0, 1 << 20))
    made.add("first", ONITU, Figure(5.0, 0.5, 3 << 20))
    made.add("renamed", "rsync", Figure(4.0, 1.0, 0, "500 copied"))
    made.failed("renamed", ONITU, "the trees are different")
    report = "\n".join(made.report())
    assert "| work | unison | rsync | onitu |" in report, "Onitu comes last"
    assert "| first sync, 100 × 4 KiB | 2.00 (2.50) |  | 5.00 |" in report
    assert "| a folder of 500 × 100 KiB renamed |  | 4.00 500 copied | failed |" in report
    assert "| first sync, 100 × 4 KiB | 1.00 (0.50) |  | 0.50 |" in report
    assert "- onitu, renamed: the trees are different" in report


def test_only_what_is_wanted_counts() -> None:
    made = results("large")
    made.add("first", ONITU, Figure(1.0, 1.0, 0))
    assert made.took == {}
    assert made.wants("first", "large")
    assert not made.wants("first")


def test_the_plot_is_an_image() -> None:
    made = results()
    made.add("first", "cp <&>", Figure(0.01, 0.0, 0))
    made.add("first", ONITU, Figure(123.0, 0.0, 0))
    made.add("idle", ONITU, Figure(30.0, 0.0, 0))
    svg = ElementTree.fromstring(made.plot())
    bars = [bar for bar in svg.iter("{http://www.w3.org/2000/svg}rect") if bar.get("height") == "11"]
    assert len(bars) == 2, "idle seconds are no work"
    assert float(bars[0].get("width", "")) < float(bars[1].get("width", ""))


def test_the_result_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, plot = tmp_path / "page.md", tmp_path / "page.svg"
    monkeypatch.setattr(main, "PAGE", page)
    monkeypatch.setattr(main, "PLOT", plot)
    page.write_text(f"before\n{main.BEGIN}old\n{main.END}after\n")
    main.write(["new"], "<svg/>")
    main.write(["newer"], "<svg/>")
    assert page.read_text().count(main.BEGIN) == 1
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert "newer" in page.read_text()
    assert "old" not in page.read_text()
    page.write_text("no markers")
    with pytest.raises(SystemExit):
        main.write(["new"], "")


def test_the_documentation_has_its_markers() -> None:
    text = main.PAGE.read_text()
    assert main.BEGIN in text.partition(main.END)[0]


@pytest.mark.parametrize("spoil", ["content", "name", "size", "kind"])
def test_trees_that_differ_are_a_failure(tmp_path: Path, spoil: str) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    fill(a, 100, 50)
    fill(b, 100, 50)
    (b / ".onitu").mkdir()
    compare("first", a, b)
    file = b / "part 0000" / "file 07.bin"
    match spoil:
        case "content":
            file.write_bytes(bytes(50))
        case "name":
            file.rename(file.with_name("other"))
        case "size":
            file.write_bytes(bytes(51))
        case "kind":
            file.unlink()
            file.mkdir()
    with pytest.raises(Failed):
        compare("first", a, b)


def test_a_tool_that_leaves_the_trees_different_has_failed(tmp_path: Path) -> None:
    made = results("first", "nothing")
    Cold(tmp_path, Tool("lazy", "true", lambda a, b, state, first: ["true"]), made, files=100).do()
    Cold(tmp_path, Tool("broken", "false", lambda a, b, state, first: ["false"]), made, files=100).do()
    assert {tool for _, tool in made.failures} == {"lazy", "broken"}
    assert made.took == {}


def test_edits_are_of_both_sides_and_of_every_kind(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for root in (a, b):
        fill(root, 1000, 10)
    before = inodes(a)
    assert copied(before, a) == ""
    assert copied(set(), a) == "1000 copied"
    edit(a, b, 1000)
    for root in (a, b):
        names = [path.name for path in root.rglob("*.bin")]
        assert sum(name.startswith("new") for name in names) == 10
        assert sum(name.startswith("renamed") for name in names) >= 6
        assert len(names) < 1000 + 10
