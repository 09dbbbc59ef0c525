from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onitu.model.sizes import parse_size, show_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (1024, 1024),
        (15.9, 15),
        (1e20, 10**20),
        ("10", 10),
        ("  10 ", 10),
        ("10B", 10),
        ("10o", 10),
        (".5k", 500),
        ("10 000", 10_000),
        ("15k", 15_000),
        (" 15 K ", 15_000),
        ("15ko", 15_000),
        ("15Kb", 15_000),
        ("15M", 15_000_000),
        ("15 Mb", 15_000_000),
        ("123 456.0 Mo", 123_456_000_000),
        ("7.5 Gb", 7_500_000_000),
        ("42t", 42 * 10**12),
        ("3 Po", 3 * 10**15),
        ("2Mi", 2 << 20),
        ("2 KiB", 2048),
        ("7  GI", 7 << 30),
        ("1 000 Pi", 1000 << 50),
        ("1.5G", 1_500_000_000),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str | float, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "big",
        "2toto",
        "-1",
        -1,
        "1,5G",
        "1.2.3",
        "k",
        "10 i",
        "1e3x",
        "10bb",
        pytest.param("9" * 1_000_001, id="a million digits"),
        True,
        None,
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_size_is_refused_with_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size.*powers of 1000"):
        parse_size(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (1234567, "1.23 MB"),
        (45_600_000_000, "45.6 GB"),
        (999_500, "1.00 MB"),
        (999_999, "1.00 MB"),
        (9_995, "10.0 kB"),
        (9_999, "10.0 kB"),
        (99_950, "100 kB"),
        (99_999, "100 kB"),
        (10**19, "10000 PB"),
    ],
)
def test_a_size_is_shown_with_three_digits(size: int, text: str) -> None:
    assert show_size(size) == text


@given(st.integers(0, 10**18))
def test_a_shown_size_reads_back_within_a_percent(size: int) -> None:
    shown = show_size(size).replace("bytes", "").replace("byte", "")
    assert abs(parse_size(shown) - size) <= size / 100
