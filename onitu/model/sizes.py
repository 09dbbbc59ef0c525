"""Sizes as people write them: `15M`, `10k`, `2Mi`, `15 Mb`, `1 000`, `1.5 GiB`.

`k M G T P` are powers of 1000, `Ki Mi Gi Ti Pi` powers of 1024, in any case, with or without a `b` or `o`
(octets) after them and blanks anywhere. So `m` is never a thousandth, and `b` never a bit.
"""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {"": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgtp", start=1)
    for suffix, base in (("", 1000), ("i", 1024))
}

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<unit>[^\d.]*)")

ALLOWED = "a number of bytes, or a number with k, M, G, T, P (powers of 1000) or Ki, Mi, Gi, Ti, Pi (of 1024)"
"""What `parse_size` takes, for messages."""


def parse_size(text: str | int | float) -> int:
    """The bytes that `text` means; a fraction of a byte is cut off.

    Raises:
        ValueError: it is not a size, or a negative one. The text says what is allowed.
    """
    squeezed = "".join(str(text).split()).lower()
    if isinstance(text, float) and "e" in squeezed:
        squeezed = format(text, "f")
    found = _SIZE.fullmatch(squeezed)
    if found is None:
        raise ValueError(f"{text!r} is not a size: {ALLOWED}")
    unit = found["unit"]
    if unit not in _UNITS and unit[-1:] in ("b", "o"):
        unit = unit[:-1]
    if unit not in _UNITS:
        raise ValueError(f"{text!r} is not a size, {found['unit']!r} is no unit: {ALLOWED}")
    try:
        return int(Decimal(found["number"]) * _UNITS[unit])
    except ArithmeticError:  # beyond what any number of bytes can be
        raise ValueError(f"{text!r} is not a size: {ALLOWED}") from None


def show_size(size: int) -> str:
    """A size for people, with three significant digits: `0 bytes`, `1 byte`, `999 bytes`, `1.23 MB`."""
    if size < 1000:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    # Three digits of 999.5 and more would read 1000, which the next unit says better.
    power = 1
    while size / 1000**power >= 999.5 and power < len(_SHOWN):
        power += 1
    value = size / 1000**power
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {_SHOWN[power - 1]}"


_SHOWN = ("kB", "MB", "GB", "TB", "PB")
