"""Reading content: digests and ranges, of exactly what a token names.

A file that changes while it is read is not told: its stamps are compared before and after.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from collections.abc import Callable

from blake3 import blake3
from msgspec.structs import replace

from onitu.model.events import Trouble
from onitu.model.versions import Kind
from onitu.plug.behind import Behind
from onitu.plug.driver import Entry, Refused

from . import holes, syscalls, tokens
from .tree import ABSENT, Check, Near, Place, Tree
from .troubles import refused, sentence, trouble_of

_BUFFER = 1024 * 1024
_WHOLE = 0x7FFFF000  # more than that no call reads (read(2))
LARGE = 64 * 1024 * 1024
"""Bytes from which on BLAKE3 uses all processors, in larger pieces, of which the next is read meanwhile."""
LARGE_BUFFER = 2 * 1024 * 1024


def never() -> None:
    """A check that never stops."""


def digest(fd: int, size: int, check: Check = never) -> tuple[bytes, int]:
    """The BLAKE3 of what a descriptor reads from its start, and the number of bytes read. `size` is a hint."""
    if size < _BUFFER:
        data = os.pread(fd, size + 1, 0)
        if len(data) == size:  # the usual case: the whole in one call (a regular file is read short only at its end)
            return blake3(data).digest(), size
    hasher = blake3(max_threads=blake3.AUTO if size > LARGE else 1)
    total = 0

    def take(piece: memoryview) -> None:
        nonlocal total
        hasher.update(piece)
        total += len(piece)

    take_all(fd, 0, size, take, check)
    return hasher.digest(), total


def take_all(
    fd: int, offset: int, size: int, take: Callable[[memoryview], None], check: Check = never, beyond: bool = True
) -> None:
    """Hand what a file holds from `offset` on (see `holes.content`) to `take`, piece by piece; what is much is read
    while the piece before is taken, in another thread."""
    if size - offset <= LARGE:
        for piece in holes.content(fd, offset, size, _BUFFER, beyond):
            check()
            take(piece)
        return
    with contextlib.closing(Behind()) as behind:
        for piece in holes.content(fd, offset, size, LARGE_BUFFER, beyond):
            check()
            behind.give(functools.partial(take, piece))
        behind.wait()


def read_settled(
    place: Place, check: Check = never, fine: bool = False, expected: bytes = b""
) -> tuple[os.stat_result, bytes, bytes] | None:
    """The file that stands at a place now: its stat, BLAKE3 and token; None where it changed while it was read, and
    where it is not what the token `expected` names, if there is one.

    `fine`: this file system gives every change a stamp of its own (see `private.fine_stamps`); else the token of a
    file that was changed just now comes out dirty. Whatever the file system, so does that of a file that somebody has
    open for writing: a write call stamps the file when it begins, a mapping at its first store only, and what they do
    after our look shows in no stamp. Raises `OSError`; ELOOP for a link.
    """
    fd = place.open()
    try:
        before = os.fstat(fd)
        if tokens.kind_of(before) is not Kind.FILE:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if expected and not tokens.matches(expected, before):
            return None
        written = syscalls.open_for_writing(fd) is True
        # From here on a change shows in the stamps, unless it comes so soon that it gets the same ones, or was begun.
        now = time.time_ns()
        value, total = digest(fd, before.st_size, check)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    token = tokens.token_of(after)
    if total != before.st_size or tokens.token_of(before) != token:
        return None
    dirty = written or (not fine and tokens.racy(after, now))
    return after, value, tokens.dirty_token_of(after) if dirty else token


def fingerprint(tree: Tree | Near, entry: Entry, check: Check, fine: bool) -> Entry | None:
    """The entry with its digest; None where it is not what its token says; with `trouble` where it cannot be read."""
    if entry.trouble is not Trouble.NONE:
        return entry
    try:
        with tree.place(entry.path) as place:
            if entry.kind is not Kind.FILE:
                return entry if _stands(place, entry.token) else None
            try:
                read = read_settled(place, check, fine, entry.token)
            except OSError:
                if not _stands(place, entry.token):
                    return None
                raise
    except OSError as error:
        if error.errno in ABSENT:
            return None
        return replace(entry, trouble=trouble_of(error), reason=sentence("read", entry.path, error))
    if read is None or not tokens.matches(entry.token, read[0]):
        return None
    st, value, token = read
    return Entry(entry.path, tokens.version_of(st, blake3=value), token)


def _stands(place: Place, token: bytes) -> bool:
    st = place.lstat()
    return st is not None and tokens.matches(token, st)


def open_source(tree: Tree | Near, path: bytes, token: bytes) -> int:
    """Open the file that `token` names at `path`. Raises `Refused` (SOURCE_LOST, DENIED, IO)."""
    try:
        with tree.place(path) as place:
            fd = place.open()
    except OSError as error:
        if error.errno in ABSENT:
            raise Refused(Trouble.SOURCE_LOST, sentence("read", path, error)) from None
        raise refused("read", path, error) from None
    st = os.fstat(fd)
    if tokens.kind_of(st) is not Kind.FILE or not tokens.matches(token, st):
        os.close(fd)
        raise changed(path)
    return fd


def still(fd: int, path: bytes, token: bytes) -> None:
    """Raise `Refused` where the open file is not any more what `token` names."""
    if not tokens.matches(token, os.fstat(fd)):
        raise changed(path)


def changed(path: bytes) -> Refused:
    return Refused(Trouble.SOURCE_LOST, sentence("read", path, OSError(0, "it changed since it was last seen")))


def read_start(tree: Tree | Near, path: bytes, length: int) -> bytes:
    """The first bytes of whatever file stands at `path`, for who knows their digest. Raises `Refused`."""
    try:
        with tree.place(path) as place:
            fd = place.open()
        try:
            return os.pread(fd, length, 0)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in ABSENT or error.errno in (errno.EISDIR, errno.ESPIPE):
            raise Refused(Trouble.SOURCE_LOST, sentence("read", path, error)) from None
        raise refused("read", path, error) from None


def read_range(tree: Tree | Near, path: bytes, token: bytes, offset: int, length: int) -> bytes:
    """Bytes of what `token` names; shorter only at its end."""
    fd = open_source(tree, path, token)
    try:
        parts = []
        while length > 0:
            data = os.pread(fd, length, offset)
            parts.append(data)
            if len(data) < min(length, _WHOLE):
                break  # a regular file is read short only at its end
            offset, length = offset + len(data), length - len(data)
        still(fd, path, token)
    except OSError as error:
        raise refused("read", path, error) from None
    finally:
        os.close(fd)
    return parts[0] if len(parts) == 1 else b"".join(parts)
