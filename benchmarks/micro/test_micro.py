"""Each subject, timed. No figure makes one fail."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .subjects import SUBJECTS


@pytest.mark.parametrize("name", SUBJECTS)
def test_micro(name: str, benchmark: BenchmarkFixture) -> None:
    with SUBJECTS[name]() as act:
        act()
        benchmark(act)
