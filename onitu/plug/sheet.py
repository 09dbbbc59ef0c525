"""What deeds are written on: a file that is only appended to, and now and then written anew as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Protocol

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Sheet(Protocol):
    """See the module. Every method but `read` and `discard` raises `OSError` where it cannot be done."""

    def read(self) -> bytes:
        """All that was written; empty where it cannot be read."""

    def replace(self, data: bytes) -> None:
        """Let it say exactly this, or, should we die meanwhile, what it said before."""

    def append(self, data: bytes) -> None:
        """Add this. Should we die meanwhile, any part of it."""

    def cut(self, size: int) -> None:
        """Keep only its first bytes."""

    def close(self) -> None:
        """Let go of it; it stays for the next life."""

    def discard(self) -> None:
        """Remove it, as far as that is possible."""


class FileSheet:
    """A file. It survives the death of the process; nothing is forced to the disk."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __str__(self) -> str:
        return self._path

    def read(self) -> bytes:
        try:
            with open(self._path, "rb") as file:
                return file.read()
        except OSError:
            return b""

    def replace(self, data: bytes) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        new = os.open(f"{self._path}.new", _FLAGS, 0o600)
        try:
            _write(new, data)
            os.rename(f"{self._path}.new", self._path)
        except OSError:
            os.close(new)
            raise
        self.close()
        self._fd = new

    def append(self, data: bytes) -> None:
        # Into the page cache and no further: cheaper than the hop to a thread that would spare the loop it.
        _write(self._fd, data)

    def cut(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _write(fd: int, data: bytes) -> None:
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
