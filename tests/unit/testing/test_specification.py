from __future__ import annotations

import re
from pathlib import Path

from onitu.drivers.local import limbo, tokens
from onitu.testing import spec
from onitu.testing.spec import PROMISES, Verdict, clauses, mysteries

PAGE = (Path(__file__).parents[3] / "docs" / "explanation" / "specification.md").read_text()
SOURCES = "".join(path.read_text() for path in Path(str(spec.__file__)).parent.glob("*.py"))


def test_the_page_and_the_code_have_the_same_promises_word_for_word() -> None:
    found = re.findall(r"^- \*\*(S\d)\*\* (.*?)(?=\n- |\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    assert {number: " ".join(text.split()) for number, text in found} == PROMISES


def test_every_field_of_a_verdict_has_a_formula() -> None:
    formulas = dict(re.findall(r"^(S\d)  (\w+)", PAGE, re.MULTILINE))
    assert set(formulas) == set(PROMISES)
    assert set(formulas.values()) == {field for field in Verdict.__slots__ if not field.startswith("_")}


def test_the_page_and_the_code_have_the_same_clauses() -> None:
    numbers = set(re.findall(r'"([BJ]\d)"', Path(str(clauses.__file__)).read_text()))
    assert numbers == set(re.findall(r"\b([BJ]\d)\b", PAGE))


def test_the_page_and_the_code_have_the_same_properties() -> None:
    text = Path(str(mysteries.__file__)).read_text()
    assert set(re.findall(r"\b(P\d)\b", text)) == set(re.findall(r"\b(P\d)\b", PAGE)) == {f"P{n}" for n in range(1, 6)}


def test_the_page_tells_the_windows_that_the_driver_has() -> None:
    assert f"{limbo.AGE:g} s (`AGE`)" in PAGE
    assert f"{limbo.LAST_AGE:g} s (`LAST_AGE`)" in PAGE
    assert f"{tokens.TICK / 1e9:g} s (`TICK`)" in PAGE


def test_every_name_that_the_page_uses_is_in_the_code() -> None:
    words = set(re.findall(r"`([A-Za-z_]+)`", PAGE))
    kernel = {"renameat2", "RENAME_EXCHANGE", "F_SETLEASE", "mmap", "close", "O_NONBLOCK", "EWOULDBLOCK"}
    driver = {"AGE", "LAST_AGE", "TICK", "local"}
    single = {word for word in words if len(word) < 3}
    assert {
        word for word in words - kernel - driver - {"code"} - single if not re.search(rf"\b{word}\b", SOURCES)
    } == set()
