"""`Content`: what a `put` brings, read from memory, from the spool, or straight from another replica on this host.

A large one is hashed by a thread of its own (`onitu.plug.behind`), while what was read is sent.

Its promise: the last byte is not handed out before the whole was found to have the version's digest. So an upload that
is committed by its last piece is never one of wrong content, also where the source is a user's file that may be written
while it is read.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import trio
from blake3 import blake3

from onitu.model.events import Trouble
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.behind import Behind
from onitu.plug.driver import Refused

PIECE = 1 << 20
"""Bytes that are read at a time."""


class Hasher(Protocol):
    """What `hashlib` and `blake3` have in common."""

    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


def hasher_for(version: Version) -> tuple[Hasher, bytes] | None:
    """A hasher and the digest that is wanted: BLAKE3, else one that can be computed; None: there is none."""
    if BLAKE3 in version.digests:
        return blake3(), version.digests[BLAKE3]
    for name, wanted in version.digests.items():
        if name in hashlib.algorithms_available:
            return hashlib.new(name, usedforsecurity=False), wanted
    return None


class Content:
    """See the module. Several tasks, or threads, may read it at a time: what is not read from start to end in order is
    read once more by `verify`, which costs a pass over a file of this host.

    Attributes:
        version: what it is: `size`, `mtime`, `mode`, `digests`.
        path: the file on this host that holds it, for libraries that want one; empty: it is in memory. What is read
            from it past this class is not checked: `verified` has to be called after that, and before the commit.
        pace: awaited, with their number, before bytes are handed out that are to go to the service; None: no limit.
    """

    def __init__(
        self, version: Version, data: bytes | None = None, fd: int = -1, path: str = "", checked: bool = False
    ) -> None:
        """Of bytes, whose digest is right; or of an open file, which the caller closes, to be checked as it is read, or
        which is `checked` and nobody else's."""
        self.version = version
        self.path = path
        self.pace: Callable[[int], Awaitable[None]] | None = None
        self._data = data
        self._fd = fd
        self._trusted = checked or data is not None
        self._stamp = b"" if self._trusted else _stamp(fd)
        self._lock = threading.Lock()
        self._behind = Behind()
        self._restart()

    @classmethod
    def of(cls, data: bytes, mtime: int = 0, mode: int = 0) -> Content:
        """Of bytes alone: a small file of Onitu's own, say."""
        return cls(Version(Kind.FILE, len(data), {BLAKE3: blake3(data).digest()}, mtime, mode), data)

    @property
    def size(self) -> int:
        return self.version.size

    @property
    def blake3(self) -> bytes | None:
        """Its BLAKE3, where that costs no read."""
        return self.version.digests.get(BLAKE3) if self._data is None else blake3(self._data).digest()

    @property
    def own(self) -> bool:
        """Whether `path` is a file of Onitu's own, on its way and checked, which may be given another time."""
        return self._trusted and bool(self.path)

    @property
    def stamp(self) -> bytes:
        """What tells it from the same content before somebody wrote to the file and made it what it was again: what was
        sent in between may be of neither, and must not be gone on with. Empty: nobody else can write to it."""
        return self._stamp

    def close(self) -> None:
        """Nobody reads it any more. Blocks for the hash of the piece that was read last, if at all."""
        self._behind.close()

    # --- for tasks ----------------------------------------------------------------------------------------------

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """Bytes from `offset` on; fewer only at the end. Raises `Refused(SOURCE_LOST)` where it is not the version."""
        if self.pace is not None:
            await self.pace(self.size - offset if length < 0 else min(length, self.size - offset))
        if self._data is not None:
            await trio.lowlevel.checkpoint()
            return self.pread(offset, length)
        return await trio.to_thread.run_sync(self.pread, offset, length)

    async def pieces(self, offset: int = 0, length: int = PIECE) -> AsyncIterator[bytes]:
        """All from `offset` on, `length` bytes at a time."""
        while offset < self.size:
            data = await self.read(offset, length)
            yield data
            offset += len(data)

    async def verified(self) -> None:
        """Raise `Refused(SOURCE_LOST)` where it is not the version. Free after it was read from start to end."""
        await trio.to_thread.run_sync(self.verify)

    # --- for threads --------------------------------------------------------------------------------------------

    def pread(self, offset: int = 0, length: int = -1) -> bytes:
        """`read`, blocking."""
        length = self.size - offset if length < 0 else min(length, self.size - offset)
        if self._data is not None:
            return self._data[offset : offset + length]
        data = self._from_file(offset, length)
        if not self._trusted:
            with self._lock:
                if self.size > PIECE:
                    self._behind.give(functools.partial(self._hash, offset, data))
                else:
                    self._hash(offset, data)
                if offset + length == self.size:
                    self._verify()
        return data

    def verify(self) -> None:
        """`verified`, blocking."""
        if not self._trusted:
            with self._lock:
                self._verify()

    def _verify(self) -> None:
        self._behind.wait()
        if self._hashed < self.size:
            self._restart()
            while self._hashed < self.size:
                self._hash(self._hashed, self._from_file(self._hashed, min(PIECE, self.size - self._hashed)))
        right = self._hasher is None or self._hasher[0].digest() == self._hasher[1]
        if not right or _stamp(self._fd) != self._stamp:
            raise Refused(Trouble.SOURCE_LOST, "the file changed while it was read")

    def file(self) -> io.BufferedReader:
        """It as a file, blocking, for libraries that want one; to be read in a thread of Trio's."""
        return io.BufferedReader(_File(self), PIECE)

    def _from_file(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and (data := os.pread(self._fd, length, offset)):
            parts.append(data)
            offset, length = offset + len(data), length - len(data)
        if length > 0:
            raise Refused(Trouble.SOURCE_LOST, "the file became shorter while it was read")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _hash(self, offset: int, data: bytes) -> None:
        if offset == 0:  # from the start again: another try
            self._restart()
        if offset == self._hashed:
            self._hashed += len(data)
            if self._hasher is not None:
                self._hasher[0].update(data)

    def _restart(self) -> None:
        self._hasher, self._hashed = hasher_for(self.version), 0


def _stamp(fd: int) -> bytes:
    """What changes when somebody writes to an open file."""
    st = os.fstat(fd)
    return b"%d:%d:%d" % (st.st_size, st.st_mtime_ns, st.st_ctime_ns)


class _File(io.RawIOBase):
    """A content as a raw file."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub has a private type there
        data = self._content.pread(self._offset, len(buffer)) if self._offset < self._content.size else b""
        if self._content.pace is not None:
            trio.from_thread.run(self._content.pace, len(data))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._content.size}[whence]
        self._offset = start + offset
        return self._offset

    def tell(self) -> int:
        return self._offset
