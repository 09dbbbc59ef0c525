"""The list of deliberate bugs keeps up with the code. That each of them is caught is shown by `nox -s bugs`."""

from __future__ import annotations

import re

import pytest

from tests.bugs.catalogue import TOP, Bug, catalogue

BUGS = pytest.mark.parametrize("bug", catalogue(), ids=lambda bug: bug.name)


@BUGS
def test_a_bug_still_applies(bug: Bug) -> None:
    text = (TOP / bug.file).read_text()
    assert text.count(bug.old) == 1
    compile(text.replace(bug.old, bug.new), bug.file, "exec")


@BUGS
def test_the_tests_that_should_see_a_bug_exist(bug: Bug) -> None:
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"def {name or 'test_'}", (TOP / file).read_text()), test


@BUGS
def test_a_bug_breaks_a_promise_and_says_how(bug: Bug) -> None:
    assert set(bug.promises) <= {"S1", "S2", "S3", "S4", "S5", "S6"}
    assert bug.promises
    assert bug.breaks.endswith(".")


def test_there_are_twenty_and_no_two_of_one_name() -> None:
    names = [bug.name for bug in catalogue()]
    assert len(set(names)) == len(names) >= 20
