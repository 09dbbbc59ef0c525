"""Holding a file still between the look that found it right and the rename that displaces it.

A file's size and mtime are no proof that nobody wrote it in between: programs write in place and give the old time
back (container files, `rsync --times`), and its ctime is changed by the rename itself. So writers are kept out with a
read lease for these microseconds, where one can be had: nobody has the file open for writing, and whoever opens it now
waits. Where somebody has it open already, the content has to be compared after the rename.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import attrs

from . import syscalls, tokens
from .tree import Place


@attrs.frozen
class Held:
    """A file that was looked at, and is perhaps held still.

    Attributes:
        fd: a descriptor of it, while the block lasts; -1: there is none (no leases here, a link, an unreadable file),
            and its stamps have to do.
        sure: it is what the token named, and nobody can write it.
    """

    fd: int = -1
    sure: bool = False

    @property
    def is_written(self) -> bool:
        """Whether somebody can write it, so that only its content will tell."""
        return self.fd >= 0 and not self.sure

    def is_doubtful(self, out: os.stat_result) -> bool:
        """Whether only the content can tell what came out."""
        return self.fd >= 0 and not self.is_still(out)

    def is_still(self, out: os.stat_result) -> bool:
        """Whether what came out of the rename is this file, and nobody has written, or waits to write, by now."""
        if not self.sure:
            return False
        here = os.fstat(self.fd)
        return (out.st_dev, out.st_ino) == (here.st_dev, here.st_ino) and syscalls.holds_writers(self.fd)


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
        yield Held(fd, kept and tokens.matches(token, os.fstat(fd)))
    finally:
        if kept:
            syscalls.release(fd)
        os.close(fd)
