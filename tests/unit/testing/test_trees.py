from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import onitu.testing.spec
from onitu.testing.spec import DIRECTORY, Item, Kind, file, link, read_tree, recognise, render

sizes = st.integers(0, 3000)


@given(st.from_regex(r"[!-~]{1,40}", fullmatch=True), sizes)
def test_a_rendered_content_is_recognised(token: str, size: int) -> None:
    assert recognise(render(token, size)) == (token, ())
    assert len(render(token, size)) >= size


@given(sizes, sizes)
def test_a_part_of_a_content_is_torn(size: int, cut: int) -> None:
    whole = render("v1", size)
    value, parts = recognise(whole[: cut % len(whole)])
    assert value.startswith("sha256:")
    assert parts in (("v1",), ())


def test_a_mixture_names_what_it_is_made_of() -> None:
    mixed = render("v1", 200)[:128] + render("v2", 200)[128:]
    assert recognise(mixed)[1] == ("v1", "v2")


@pytest.mark.parametrize("token", ["", "a b", "x" * 41, "ä"])
def test_a_token_is_printable_and_short(token: str) -> None:
    with pytest.raises(ValueError, match="no token"):
        render(token)


def test_a_directory_is_read_without_what_tools_keep_in_it(tmp_path: Path) -> None:
    for name in (".onitu", ".stversions", "d"):
        (tmp_path / name).mkdir()
    (tmp_path / ".onitu" / "x").write_bytes(render("v0"))
    (tmp_path / "d" / "a").write_bytes(render("v1", 100))
    (tmp_path / "a.partial").write_bytes(b"")
    (tmp_path / "l").symlink_to("d/a")
    assert read_tree(tmp_path) == {"d": DIRECTORY, "d/a": file("v1"), "l": link("d/a")}
    assert "a.partial" in read_tree(tmp_path, ignore=(".onitu",))


def test_times_and_modes_count_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(render("v1"))
    path.chmod(0o640)
    assert read_tree(tmp_path, meta=True) == {"a": Item(Kind.FILE, "v1", (), 0o640, path.stat().st_mtime_ns)}


def test_the_specification_imports_the_standard_library_and_attrs_only() -> None:
    for source in Path(str(onitu.testing.spec.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1
                names = [str(node.module)] if node.level == 0 else []
            assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "attrs"}
