"""What headers say, whatever stands in them."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onitu.plug.remote.headers import date_of, size_of, wait_of

HEADERS = st.text(st.characters(max_codepoint=255), max_size=40) | st.sampled_from(
    ["inf", "nan", "-1", "1e400", "9" * 30, "Thu, 01 Jan 99999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +2359"]
)


@given(HEADERS)
def test_nothing_in_a_header_is_an_error(text: str) -> None:
    date, size, wait = date_of(text), size_of(text), wait_of(text)
    assert date is None or -1e12 < date < 1e12
    assert size is None or 0 <= size < 1 << 63
    assert wait is None or 0 <= wait < 1e12


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), (" 120 ", 120.0), ("0", 0.0), ("nan", None), ("", None), ("soon", None)]
)
def test_seconds_to_wait(text: str, seconds: float | None) -> None:
    assert wait_of(text) == seconds


def test_a_date_to_wait_for() -> None:
    now = time.time()
    assert 55 < (wait_of(formatdate(now + 60, usegmt=True)) or 0) <= 60
    assert wait_of(formatdate(now - 60, usegmt=True)) == 0


def test_a_date_and_a_size() -> None:
    assert date_of("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    assert size_of("9223372036854775807") == (1 << 63) - 1
    assert size_of("9223372036854775808") is None
