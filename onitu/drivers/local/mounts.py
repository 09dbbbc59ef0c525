"""File systems that are mounted within a replica. What is on one that is not mounted any more was not deleted (S1): the
directory below it is empty, and says nothing.

Where they were seen is remembered in the replica (`.onitu/mounts`). Who wants what one of them had to be deleted takes
that file away. Only Linux tells which there are; elsewhere none is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Sequence

from onitu.model import paths
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Order
from onitu.model.versions import NOTHING
from onitu.plug.words import Entry, Listing

from .private import Private

_FILE, _NEW = b"mounts", b"mounts.new"
_TABLE = "/proc/self/mountinfo"
_MOST = 1 << 20
"""Bytes of the file that are read."""


class Mounts:
    """Those of one replica, by their paths in it."""

    def __init__(self, private: Private) -> None:
        self._private = private
        self._known = _read(private)

    def learn(self, write: bool = True) -> None:
        """Look which there are, before everything is looked at; `write`: and remember them. Raises `OSError`."""
        known = _read(self._private)
        self._known = known | {path for path in self._mounted() if self._is_directory(path)}
        if write and self._private.fd >= 0 and self._known != known:
            _write(self._private, self._known)

    def gone(self) -> frozenset[bytes]:
        """Those that are not mounted now."""
        return self._known - self._mounted() if self._known else frozenset()

    def _is_directory(self, path: bytes) -> bool:
        """Something may be mounted at a file, too: with that, no more than the one content goes."""
        try:
            return stat.S_ISDIR(os.stat(path, dir_fd=self._private.tree.fd, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def _mounted(self) -> frozenset[bytes]:
        try:
            with open(_TABLE, "rb") as table:
                points = [_unescaped(line.split(b" ")[4]) for line in table]
        except (OSError, IndexError):
            return self._known  # nobody tells
        root = os.path.realpath(os.fsencode(self._private.tree.root)).rstrip(b"/") + b"/"
        inside = (point[len(root) :] for point in points if point.startswith(root))
        return frozenset(path for path in inside if path and not paths.is_private(path))


def listed(listings: Sequence[Listing], gone: frozenset[bytes]) -> list[Listing]:
    """The listings without what they say of file systems that are gone."""
    return [_without(listing, gone) for listing in listings] if gone else list(listings)


def _without(listing: Listing, gone: frozenset[bytes]) -> Listing:
    if (mount := _of(listing.directory, gone)) is not None:
        return Listing(listing.directory, (), complete=False, reason=_sentence(mount))
    here = [mount for mount in gone if paths.parent(mount) == listing.directory]
    if not here or listing.missing:
        return listing
    others = (entry for entry in listing.entries if entry.path not in gone)
    entries = (*others, *(_troubled(mount, mount) for mount in here))
    return Listing(listing.directory, entries, listing.complete, listing.missing, listing.reason)


def stated(wanted: Sequence[bytes], found: Sequence[Entry | None], gone: frozenset[bytes]) -> list[Entry | None]:
    """What was seen at paths, without what is said of such file systems."""
    if not gone:
        return list(found)
    return [
        entry if (mount := _of(path, gone)) is None else _troubled(path, mount)
        for path, entry in zip(wanted, found, strict=True)
    ]


def refused(order: Order, gone: frozenset[bytes]) -> Event | None:
    """The answer to an order for a path on one that is gone: what it would do is done to what is below it."""
    for path in (order.path, order.target, order.keep) if gone else ():
        if path and (mount := _of(path, gone)) is not None:
            reason = _sentence(mount)
            return Event(Seen.FAILED, order.path, trouble=Trouble.UNAVAILABLE, reason=reason, order=order.number)
    return None


def _of(path: bytes, gone: frozenset[bytes]) -> bytes | None:
    """The mount point at the path, or above it."""
    return next((mount for mount in gone if path == mount or paths.within(path, mount)), None)


def _troubled(path: bytes, mount: bytes) -> Entry:
    return Entry(path, NOTHING, b"", Trouble.UNAVAILABLE, _sentence(mount))


def _sentence(mount: bytes) -> str:
    return (
        f"the file system that was mounted at {paths.show(mount)} is not there: mount it; or, if what it had is to be"
        " deleted everywhere, delete .onitu/mounts in this replica"
    )


def _unescaped(point: bytes) -> bytes:
    r"""A path as the table writes it: a space is `\040`."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), point)


def _read(private: Private) -> frozenset[bytes]:
    try:
        fd = os.open(_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=private.fd)
    except OSError:
        return frozenset()
    with os.fdopen(fd, "rb") as file:
        try:
            known = {os.fsencode(path) for path in json.loads(file.read(_MOST))}
            return frozenset(map(paths.checked, known))
        except (ValueError, TypeError):
            return frozenset()  # somebody's mistake: what is mounted now is written down anew


def _write(private: Private, known: frozenset[bytes]) -> None:
    text = json.dumps(sorted(map(os.fsdecode, known))).encode() + b"\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_NEW, flags, 0o600, dir_fd=private.fd)
    try:
        os.write(fd, text)
        os.fsync(fd)
    finally:
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.rename(_NEW, _FILE, src_dir_fd=private.fd, dst_dir_fd=private.fd)
