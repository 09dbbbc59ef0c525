from __future__ import annotations

import pytest

from onitu.model.outside import REAL, Outside


@pytest.mark.parametrize(("bits", "name"), [(64, "000000000000002a"), (128, "0" * 30 + "2a"), (8, "2a")])
def test_a_name_has_a_digit_for_every_four_bits(bits: int, name: str) -> None:
    assert Outside(bits=lambda asked: 42 if asked == bits else 0).name(bits) == name


def test_a_name_has_64_bits_where_nothing_else_is_said() -> None:
    assert Outside(bits=lambda asked: asked).name() == f"{64:016x}"
    assert REAL.name() != REAL.name()
