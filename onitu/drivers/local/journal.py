"""The journal of the limbo: what an order is about to displace is written down before it does.

One file, of which some space is allocated beforehand, so that a deletion works on a full disk too. Records are lines of
JSON; the journal ends at the first NUL byte. While no record is open, it is begun anew at its start.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
import time

import msgspec

from onitu.model.versions import NOTHING, Version

from .tokens import Identity

JOURNAL, JOURNAL_NEW = b"journal", b"journal.new"
_ALLOCATED = 64 * 1024
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Record(msgspec.Struct, frozen=True):
    """What has to be known of a slot.

    Attributes:
        slot: the file's name in `limbo/`.
        path: where it stood.
        expected: what should have stood there.
        held: its version, with its digest, where the Referee told it.
        version: what the order put there, or a tombstone.
        keep: the path that the order gave to the displaced; empty: none.
        dirty: the stamps prove nothing; only the digest does.
        mode: for a record without a slot: the mode to give back to the directory `path`; else -1.
    """

    slot: str
    path: bytes
    expected: Identity | None = None
    held: Version | None = None
    version: Version = NOTHING
    keep: bytes = b""
    dirty: bool = False
    mode: int = -1


class Journal(msgspec.Struct):
    """The open journal of one replica; may be used from several threads."""

    directory: int
    fd: int
    open: dict[str, Record]
    _end: int = 0
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _numbers: itertools.count[int] = msgspec.field(default_factory=itertools.count)

    @classmethod
    def load(cls, directory: int) -> Journal:
        """Open the journal; its records of an earlier life are in `open`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(JOURNAL_NEW, dir_fd=directory)
        fd = os.open(JOURNAL, _FLAGS, 0o600, dir_fd=directory)
        with os.fdopen(os.dup(fd), "rb") as file:
            told = file.read().partition(b"\0")[0]
        records = {}
        for line in told.split(b"\n"):
            with contextlib.suppress(msgspec.DecodeError):  # a torn last line: what it announces was not begun
                record = msgspec.json.decode(line, type=Record)
                records[record.slot] = record
        journal = cls(directory, fd, records)
        try:
            journal.rewrite()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # There is no space for another one, and what is in this one's goes on: a deletion may free some.
            journal._end = told.rfind(b"\n") + 1
            with contextlib.suppress(OSError):
                os.pwrite(fd, b"\0", journal._end)
        return journal

    def close(self) -> None:
        os.close(self.fd)

    def begin(self, record: Record) -> Record:
        """Write a record down, with a new name for its slot; only then may the thing be displaced into it."""
        with self._lock:
            record = msgspec.structs.replace(record, slot=f"{time.time_ns():x}-{next(self._numbers)}")
            line = msgspec.json.encode(record) + b"\n\0"
            if os.pwrite(self.fd, line, self._end) != len(line):
                os.pwrite(self.fd, b"\0", self._end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._end += len(line) - 1
            self.open[record.slot] = record
            return record

    def end(self, record: Record) -> None:
        """The slot is empty: forget its record."""
        with self._lock:
            self.open.pop(record.slot, None)
            if not self.open:
                os.pwrite(self.fd, b"\0", 0)
                self._end = 0
                return
            full = self._end > _ALLOCATED
        if full and len(self.open) < 64:
            with contextlib.suppress(OSError):  # no space for a second one: then the first one goes on growing
                self.rewrite()

    def rewrite(self) -> None:
        """Write only the open records, into a new file that then takes the old one's place."""
        with self._lock:
            lines = b"".join(msgspec.json.encode(record) + b"\n" for record in self.open.values())
            fd = os.open(JOURNAL_NEW, _FLAGS | os.O_TRUNC, 0o600, dir_fd=self.directory)
            try:
                _fill(fd, lines + b"\0" * max(1, _ALLOCATED - len(lines)))
                os.rename(JOURNAL_NEW, JOURNAL, src_dir_fd=self.directory, dst_dir_fd=self.directory)
            except OSError:
                os.close(fd)
                os.unlink(JOURNAL_NEW, dir_fd=self.directory)
                raise
            os.close(self.fd)
            self.fd, self._end = fd, len(lines)


def is_empty(directory: int) -> bool:
    """Whether no record of an earlier life is open. Nothing is made or written."""
    try:
        fd = os.open(JOURNAL, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return True
    try:
        return os.pread(fd, 1, 0) in (b"", b"\0")
    finally:
        os.close(fd)


def _fill(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
