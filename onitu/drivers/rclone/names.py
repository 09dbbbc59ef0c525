"""Names as rclone has them in its interface, and as they are.

rclone writes names in its "standard encoding" (https://rclone.org/overview/#encoding), whatever the remote does with
them: control characters as pictures of them (`␁`), these pictures, and the quotation mark `‛`, behind a `‛`. A `/` or a
NUL in a name, which some services have and a path cannot, stays the picture that it is.
"""

from __future__ import annotations

import re

_QUOTE = "‛"
_CONTROLS = {chr(code): chr(0x2400 + code) for code in range(1, 32)} | {"\x7f": "\u2421"}
_PICTURES = {picture: control for control, picture in _CONTROLS.items()}
_ENCODED = _CONTROLS | {picture: _QUOTE + picture for picture in _PICTURES} | {_QUOTE: _QUOTE + _QUOTE}
_TO_ENCODE = str.maketrans(_ENCODED)
_TO_DECODE = re.compile(f"{_QUOTE}([{_QUOTE}{''.join(_PICTURES)}])|([{''.join(_PICTURES)}])")


def encoded(path: str) -> str:
    """A path as rclone wants it."""
    return path.translate(_TO_ENCODE)


def decoded(path: str) -> str | None:
    """A path that rclone told; None: it has no other way back, or is not what the service has (`�`)."""
    if path.isascii():
        return path
    name = _TO_DECODE.sub(lambda found: found[1] or _PICTURES[found[2]], path)
    return name if encoded(name) == path and "\ufffd" not in path else None
