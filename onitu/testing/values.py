"""Values that tell who wrote them, and whether they are whole.

A value is made of *frames*, each with its writer's name, a number, a filler and a checksum; a file that was appended to
has several. Its name is those of its frames joined with `+`, so that a name says all about a content: contents with one
name are equal, and what is torn, mixed or invented has a name that begins with `?`.
"""

from __future__ import annotations

import hashlib
import random
import re
import zlib

import attrs

EMPTY = ""
"""The name of a file without content."""

_HEAD = re.compile(rb"\[([\w-]+\.\d{6,}) (\d+) ")
_TAIL = 11  # b" %08x]\n"
_POOL = random.Random(0).randbytes(1 << 20).hex().encode()  # noqa: S311 - a filler, no secret


@attrs.define
class Values:
    """Makes the values of one user, each of them once.

    Args:
        user: its name, of letters, digits, `_` and `-`.
        random: chooses lengths and fillers.
        largest: bytes of the longest filler.
    """

    user: str
    random: random.Random
    largest: int = 100_000
    made: int = 0

    def frame(self) -> bytes:
        """A new value of one frame. Half of them have one length, as a size should tell nobody what changed."""
        self.made += 1
        length = self.random.choices(
            (40, self.random.randrange(400), self.random.randrange(self.largest)), (0.5, 0.45, 0.05)
        )[0]
        at = self.random.randrange(len(_POOL) - length)
        body = f"[{self.user}.{self.made:06d} {length} ".encode() + _POOL[at : at + length]
        return body + b" %08x]\n" % zlib.crc32(body)


def name_of(content: bytes) -> str:
    """The name of a content: its frames' names joined with `+`; `EMPTY`; or `?` and a digest where it is not whole."""
    names, at = [], 0
    while at < len(content):
        head = _HEAD.match(content, at)
        end = head.end() + int(head[2]) if head else 0
        if head is None or content[end : end + _TAIL] != b" %08x]\n" % zlib.crc32(content[at:end]):
            return f"?{hashlib.blake2b(content, digest_size=8).hexdigest()}"
        names.append(head[1].decode())
        at = end + _TAIL
    return "+".join(names)


def is_whole(name: str) -> bool:
    """Whether a name is that of a content that was written as a whole (the empty one is)."""
    return not name.startswith("?")
