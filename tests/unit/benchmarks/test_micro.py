"""The micro-benchmarks run; what they take is for `nox -s micro`."""

from __future__ import annotations

import pytest

from benchmarks.micro.subjects import SUBJECTS


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_can_be_measured_again_and_again(name: str) -> None:
    with SUBJECTS[name]() as act:
        act()
        act()
