"""What the headers of an answer say, as far as it can be believed. Pure; nothing here raises."""

from __future__ import annotations

import contextlib
import time
from email.utils import parsedate_to_datetime

_LARGEST = 1 << 63
"""Bytes, and one more than the messages carry."""


def date_of(text: str) -> float | None:
    """A date as HTTP writes it, in seconds since 1970; None: it is none."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return parsedate_to_datetime(text).timestamp()
    return None


def size_of(text: str) -> int | None:
    """A number of bytes; None: it is none."""
    size = int(text) if text.isdecimal() and len(text) < 20 else _LARGEST
    return size if size < _LARGEST else None


def wait_of(text: str) -> float | None:
    """Seconds, of a `Retry-After` that tells them or a date; None: it tells neither."""
    text = text.strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    date = date_of(text)
    return None if date is None else max(0.0, date - time.time())
