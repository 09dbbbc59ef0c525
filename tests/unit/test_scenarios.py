from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_test_that_the_list_of_situations_names_exists() -> None:
    names = set(re.findall(r"`(test_\w+)`", (TESTS / "SCENARIOS.md").read_text()))
    defined = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert names - defined == set()


def test_no_number_is_left_out() -> None:
    numbers = {int(n) for n in re.findall(r"^\| (\d+) \|", (TESTS / "SCENARIOS.md").read_text(), re.MULTILINE)}
    assert numbers == {*range(1, 45), *range(46, 55), *range(61, 71)}
