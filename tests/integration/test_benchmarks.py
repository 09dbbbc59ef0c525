"""The benchmarks run, on small trees. What they take is for `nox -s bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks import many, scale
from benchmarks.results import ONITU


def test_rows_are_measured_of_onitu_and_the_trees_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["first", "edits", "renamed-live", "change", "idle", "three"]
    sizes = ["--files", "100", "--changes", "1", "--idle", "0.1", "--rounds", "1", "--rows", ",".join(rows)]
    main.main([*sizes, "--tools", "cp -a", "--directory", str(tmp_path)])
    said = capsys.readouterr()
    assert [row for row in rows if f"{ONITU}: {row}: " not in said.err] == []
    assert "cp -a: three: " in said.err
    assert "copied" not in said.out, "a renamed folder is moved"


@pytest.mark.parametrize(("subject", "size"), [("many", 200), ("burst", 200), ("troubles", 20)])
def test_what_grows_is_measured(tmp_path: Path, subject: str, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    scale.main([subject, "--files", str(size), "--directory", str(tmp_path)])
    assert len(capsys.readouterr().out.splitlines()) > 2


def test_what_copies_take_and_each_process_of_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many.main(["--files", "50", "--changes", "0", "--rounds", "1", "--directory", str(tmp_path)])
    said = capsys.readouterr().out
    for row in ("cp -a", "onitu sync", "onitu sync, nothing to do", "referee", "store"):
        assert f"| {row} | " in said
