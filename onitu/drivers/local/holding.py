"""Holding a file still between the look that found it right and the rename that displaces it.

A file's size and mtime are no proof that nobody wrote it in between: programs write in place and give the old time
back (container files, `rsync --times`), and its ctime is changed by the rename itself. So writers are kept out with a
read lease for these microseconds, where one can be had: nobody has the file open for writing, and whoever opens it now
waits. Where somebody has it open already, the content has to be compared after the rename.

A program that opens the file meanwhile stands still, so the block has the rename in it and the look at what came out,
and nothing else: no content is read in it. Were this process stopped just then, the program would be let in by this
process's end, or by the kernel after `/proc/sys/fs/lease-break-time` (45 s).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from . import syscalls, tokens
from .tree import Place


class Held(msgspec.Struct):
    """A file that was looked at, and is perhaps held still.

    Attributes:
        opened: it could be opened. Where not (no leases here, a link, an unreadable file), its stamps have to do.
        still: what came out of the rename is this file, and nobody had written, or waited to write, by then.
    """

    opened: bool = False
    still: bool = False
    _fd: int = -1
    _sure: bool = False

    @property
    def is_doubtful(self) -> bool:
        """Whether only the content can tell what came out."""
        return self.opened and not self.still

    def look(self, out: os.stat_result) -> None:
        """See what came out of the rename, while the file is held."""
        if self._sure:
            here = os.fstat(self._fd)
            self.still = (out.st_dev, out.st_ino) == (here.st_dev, here.st_ino) and syscalls.holds_writers(self._fd)


@contextlib.contextmanager
def held(place: Place, token: bytes, leases: bool) -> Iterator[Held]:
    """Hold what stands at a place for the block, as far as it can be. Never raises `OSError` of its own."""
    if not leases or tokens.is_dirty(token) or tokens.Identity.named(token) is None:
        yield Held()
        return
    try:
        fd = place.open()
    except OSError:
        yield Held()
        return
    kept = syscalls.hold_writers(fd)
    try:
        yield Held(opened=True, _fd=fd, _sure=kept and tokens.matches(token, os.fstat(fd)))
    finally:
        if kept:
            syscalls.release(fd)
        os.close(fd)
