from __future__ import annotations

import pytest

from onitu.model.outside import REAL, Outside


@pytest.mark.parametrize(("bits", "name"), [(64, "000000000000002a"), (128, "0" * 30 + "2a"), (8, "2a")])
def test_a_name_has_a_digit_for_every_four_bits(bits: int, name: str) -> None:
    asked: list[int] = []

    def draw(bits: int) -> int:
        asked.append(bits)
        return 42

    assert Outside(bits=draw).name(bits) == name
    assert asked == [bits]


def test_a_name_has_64_bits_where_nothing_else_is_said() -> None:
    assert len(REAL.name()) == 16
    assert REAL.name() != REAL.name()
