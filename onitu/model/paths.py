"""Paths: relative, POSIX, as bytes.

A file system's names are bytes, and not always UTF-8, so a path is `bytes` everywhere in Onitu: in events, orders,
messages and the store. Two services may spell one name differently (NFC on one, NFD on the other); they are matched by
their `key`, the NFC form, and each service's spelling is kept beside it.
"""

from __future__ import annotations

import unicodedata

ROOT = b""
"""The folder itself. It is never an event's or an order's path, only a directory to list."""

PRIVATE = b".onitu"
"""The directory in a replica's root that belongs to Onitu: marker, lock, unfinished transfers. Never synchronised, nor
are those of replicas that lie, or once lay, further down."""

MAX_NAME = 255
"""Bytes in one name, on every common file system."""


_ODD = frozenset((b"", b".", b"/"))


class BadPath(ValueError):
    """A path that no replica may hold: absolute, empty, with `.`, `..`, an empty name, a NUL, or in `.onitu`."""


def checked(path: bytes) -> bytes:
    """The path itself, if an event or an order may name it; else `BadPath`.

    Every path that comes from a socket goes through here, so that none can leave its root.
    """
    if path[:1] not in _ODD and path[-1:] != b"/" and b"\0" not in path and b"//" not in path and b"/." not in path:
        return path  # nearly every path: no name in it is empty, or begins with a dot
    if not path or b"\0" in path:
        raise BadPath(f"{show(path)!r} is not a path within a folder")
    names = path.split(b"/")
    for name in names:
        if name in (b"", b".", b".."):
            raise BadPath(f"{show(path)!r} is not a path within a folder")
    if names[0] == PRIVATE:
        raise BadPath(f"{show(path)!r} belongs to Onitu itself")
    return path


def is_private(path: bytes) -> bool:
    """Whether it is a replica's own directory, at any depth, or lies in one."""
    return PRIVATE in path and PRIVATE in path.split(b"/")


def key(path: bytes) -> bytes:
    """The form under which a path is known to the Referee: NFC where it is UTF-8, unchanged where it is not."""
    if path.isascii():
        return path
    try:
        return unicodedata.normalize("NFC", path.decode()).encode()
    except UnicodeDecodeError:
        return path


def parent(path: bytes) -> bytes:
    """The directory that holds the path; `ROOT` for a name at the top."""
    return path.rpartition(b"/")[0]


def name(path: bytes) -> bytes:
    """The last name of the path."""
    return path.rpartition(b"/")[2]


def join(directory: bytes, entry: bytes) -> bytes:
    """The path of `entry` in `directory`, which may be `ROOT`."""
    return directory + b"/" + entry if directory else entry


def ancestors(path: bytes) -> list[bytes]:
    """Every directory above the path, nearest first, without `ROOT`."""
    found = []
    while (path := parent(path)) != ROOT:
        found.append(path)
    return found


def within(path: bytes, directory: bytes) -> bool:
    """Whether the path lies below the directory (a path does not lie below itself)."""
    return directory == ROOT or path.startswith(directory + b"/")


def show(path: bytes) -> str:
    """The path for people and for JSON: bytes that are not UTF-8, and control characters, are escaped."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
