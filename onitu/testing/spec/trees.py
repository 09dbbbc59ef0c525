"""What stands on a replica: a mapping from path to item, and how one is read from a directory.

Contents are recognised by what they are: `render` makes a content of any size from a token, of which each line names
the token, its place and the size, so that `recognise` can tell a whole one from a torn or a mixed one.
"""

from __future__ import annotations

import enum
import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs

from .history import Value

LINE = 64
"""Bytes of a line of a rendered content."""

TOOLS_OWN = (
    ".onitu",
    ".stfolder*",
    ".stversions",
    ".stignore",
    ".syncthing.*.tmp",
    "~syncthing~*.tmp",
    ".unison.*.unison.tmp",
    ".unison",
    "*.partial",
)
"""What synchronisers keep beside the users' files: patterns of names, whatever the directory."""


class Kind(enum.Enum):
    """What can stand at a path."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@attrs.frozen
class Item:
    """What stands at a path.

    Attributes:
        kind: file, directory or link.
        value: a file's or link's value; None for a directory.
        parts: the tokens that a file is made of without being whole one of them: it is torn (S3).
        mode: permission bits; None: they do not count.
        mtime: nanoseconds; None: it does not count. Two items are equal where all that counts is.
    """

    kind: Kind
    value: Value | None = None
    parts: tuple[Value, ...] = ()
    mode: int | None = None
    mtime: int | None = None

    def words(self) -> str:
        """What it is, in words."""
        return self.value or "a directory"


DIRECTORY = Item(Kind.DIRECTORY)


def file(value: Value) -> Item:
    """A file with this value."""
    return Item(Kind.FILE, value)


def link(target: str) -> Item:
    """A symbolic link."""
    return Item(Kind.LINK, link_value(target))


def link_value(target: str) -> Value:
    """The value that a link with this target is, in a `History` and in an `Item`."""
    return f"link:{target}"


Tree: TypeAlias = Mapping[str, Item]
"""A replica at rest: relative POSIX path → item. The root itself is not in it."""


def ancestors(path: str) -> Iterator[str]:
    """The directories above a path, the nearest first, without the root."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


# --- contents -------------------------------------------------------------------------------------------------------

_HEAD = re.compile(rb"([!-~]{1,40}) (\d+)/(\d+) ")


def render(token: str, size: int = 0) -> bytes:
    """A content that says of itself which value it is: `size` bytes, or as few as it takes.

    A token is 1 to 40 printable ASCII characters without a space.
    """
    if not re.fullmatch(r"[!-~]{1,40}", token):
        raise ValueError(f"{token!r} is no token")
    while size < len(f"{token} 0/{size} ") + 2:
        size += 1
    lines = (f"{token} {offset}/{size} ".encode() for offset in range(0, size, LINE))
    return b"".join(line.ljust(LINE - 1, b".")[: LINE - 1] + b"\n" for line in lines)[:size]


def recognise(content: bytes) -> tuple[Value, tuple[Value, ...]]:
    """Which value a content is, and of which tokens it is made where it is no whole one of them.

    A content that `render` did not make is its SHA-256: `sha256:HEX`.
    """
    tokens = []
    for offset in range(0, len(content), LINE):
        head = _HEAD.match(content[offset : offset + LINE])
        if head is not None:
            token = head[1].decode()
            if offset == 0 and int(head[3]) == len(content) and content == render(token, len(content)):
                return token, ()
            tokens.append(token)
    return f"sha256:{hashlib.sha256(content).hexdigest()}", tuple(dict.fromkeys(tokens))


# --- directories ----------------------------------------------------------------------------------------------------


def read_tree(root: Path, ignore: Iterable[str] = TOOLS_OWN, meta: bool = False) -> dict[str, Item]:
    """The tree below a local directory, without names that match a pattern of `ignore`.

    Sockets, devices and FIFOs are left out. With `meta`, modes of files and directories and times of files count.
    `OSError`: something could not be read, or went away meanwhile (then the replica was not at rest).
    """
    found: dict[str, Item] = {}
    patterns = tuple(ignore)

    def walk(directory: Path, prefix: str) -> None:
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in patterns):
                continue
            status, path = entry.stat(follow_symlinks=False), prefix + entry.name
            mode = stat.S_IMODE(status.st_mode) if meta else None
            if stat.S_ISLNK(status.st_mode):
                found[path] = link(os.readlink(entry.path))
            elif stat.S_ISDIR(status.st_mode):
                found[path] = Item(Kind.DIRECTORY, mode=mode)
                walk(Path(entry.path), path + "/")
            elif stat.S_ISREG(status.st_mode):
                value, parts = recognise(Path(entry.path).read_bytes())
                found[path] = Item(Kind.FILE, value, parts, mode, status.st_mtime_ns if meta else None)

    walk(root, "")
    return found
