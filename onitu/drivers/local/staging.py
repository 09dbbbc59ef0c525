"""Content on its way to a path, in `.onitu/tmp`, until it is whole and its digest was checked.

What is small waits in memory, and is written by the order that puts it there, so that it costs no hop of its own. What
is larger is a file named after its digest, which a later try goes on with. Only where the disk is full nothing stays:
what does not fit gives back what it took, or it would block every other path with it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

import trio
from blake3 import blake3

from onitu.model.events import Trouble
from onitu.model.versions import BLAKE3, Version
from onitu.plug.behind import Behind
from onitu.plug.driver import Refused

from . import holes, reading, syscalls
from .reading import never, open_source, still
from .replica import Replica
from .tree import Check, Tree
from .troubles import refused

_PIECE = 32 * 1024 * 1024
_COPY_ABSENT = syscalls.ABSENT | {errno.EXDEV, errno.EPERM, errno.EBADF, errno.ETXTBSY}
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class StagedFile:
    """See `onitu.plug.driver.Staged`. May be entered once; `perform` uses it after `finish`."""

    def __init__(
        self, replica: Replica, version: Version, path: bytes, small: int, limiter: trio.CapacityLimiter
    ) -> None:
        self.version = version
        self.path = path
        self.offset = 0
        self.finished = False
        self.used = False
        self.memory: bytearray | None = bytearray() if version.size <= small else None
        self.name = ""
        self._replica = replica
        self._limiter = limiter
        self._fd = -1
        self._hasher = blake3()
        self._hashed = 0  # bytes that the hasher has seen, from the start; what a clone brought it has not
        self._fits = False

    async def __aenter__(self) -> StagedFile:
        if self.memory is None:
            value = self.version.digests.get(BLAKE3) or next(iter(self.version.digests.values()), b"unknown")
            self.name = self._replica.take_part(f"{value.hex()}-{self.version.size}")
            try:
                await self._hop(self._open)
            except BaseException:
                self._leave()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    async def write(self, data: bytes | memoryview) -> None:
        if self.offset + len(data) > self.version.size:
            raise corrupt()
        if self.memory is not None:
            self.memory += data
            self.offset = len(self.memory)
            return
        await self._hop(lambda: self._write(data))

    async def clone(self, root: str, path: bytes, token: bytes) -> None:
        await self._hop(lambda: self._clone(root, path, token))

    async def finish(self) -> None:
        if self.memory is not None:
            self.check(bytes(self.memory))
            return
        await self._hop(self._finish)

    def check(self, data: bytes) -> None:
        """Raise `Refused(CORRUPT)` where the content in memory is not the version's."""
        if len(data) != self.version.size or not right(self.version, blake3(data).digest(), lambda: [data]):
            self.memory, self.offset = bytearray(), 0
            raise corrupt()
        self.finished = True

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.name:
            self._replica.give_part(self.name)
            self._replica.leave_part(self.path, "" if self.used else self.name)

    async def _hop(self, act: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(act, limiter=self._limiter)

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            refusal = refused("store the content for", b"a file", error)
            if refusal.trouble is Trouble.NO_SPACE and self._fd >= 0:
                self._drop()
            raise refusal from None

    def _drop(self) -> None:
        """Give back what stands; a later try begins anew."""
        os.ftruncate(self._fd, 0)
        self.offset = self._hashed = 0
        self._hasher = blake3()

    def _reserve(self, wanted: int) -> None:
        """Raise `OSError` where it is clear that so many bytes more do not fit, before they are fetched in vain."""
        if not self._fits:
            disk = os.fstatvfs(self._fd)
            if disk.f_blocks and wanted > disk.f_bavail * disk.f_frsize:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._fits = True

    def _open(self) -> None:
        tmp = self._replica.private.tmp
        with self._troubles():
            if outdated := self._replica.outdated_part(self.path, self.name):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(outdated, dir_fd=tmp)
            try:
                self._fd = os.open(self.name, _FLAGS, 0o600, dir_fd=tmp)
            except FileNotFoundError:
                self._replica.private.prove()
                self._fd = os.open(self.name, _FLAGS, 0o600, dir_fd=tmp)
            except PermissionError:  # it has the final mode already: a put that was refused at the last moment
                os.unlink(self.name, dir_fd=tmp)
                self._fd = os.open(self.name, _FLAGS, 0o600, dir_fd=tmp)
            os.fchmod(self._fd, 0o600)
            size = os.fstat(self._fd).st_size
            if size > self.version.size:
                os.ftruncate(self._fd, 0)
                size = 0
            self.offset = size
            self._hash_to(size, trio.from_thread.check_cancelled)

    def _hash_to(self, end: int, check: Check = never) -> None:
        """Let the hasher catch up with what stands in the file."""
        if self._hashed == 0 and end > reading.LARGE:
            self._hasher = blake3(max_threads=blake3.AUTO)
        if self._hashed < end:
            reading.take_all(self._fd, self._hashed, end, self._take_in, check, beyond=False)

    def _take_in(self, piece: memoryview) -> None:
        self._hasher.update(piece)
        self._hashed += len(piece)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        with self._troubles():
            self._reserve(self.version.size - self.offset)
            while view:
                count = holes.append(self._fd, view, self.offset)
                if self._hashed == self.offset:
                    self._hasher.update(view[:count])
                    self._hashed += count
                self.offset += count
                view = view[count:]

    def _clone(self, root: str, path: bytes, token: bytes) -> None:
        tree = Tree.open(root)
        try:
            source = open_source(tree, path, token)
        finally:
            tree.close()
        try:
            if os.fstat(source).st_size != self.version.size:
                raise reading.changed(path)
            if self.memory is not None:
                self.memory = bytearray(_whole(source, self.version.size))
                self.offset = len(self.memory)
            else:
                self._take(source, path, token)
            still(source, path, token)
        finally:
            os.close(source)

    def _take(self, source: int, path: bytes, token: bytes) -> None:
        with self._troubles():
            size = self.version.size
            if self.offset == 0 and syscalls.clone(source, self._fd):
                self.offset = size
                return
            # Holes take no space, so the source's blocks say better than its size what it will.
            self._reserve(min(size - self.offset, os.fstat(source).st_blocks * 512))
            with contextlib.closing(Behind()) as behind:
                while self.offset < size:
                    start, end = syscalls.next_data(source, self.offset, size)
                    if start > self.offset:
                        # A hole stays one. The file grows over it, so that a later try begins after it.
                        os.ftruncate(self._fd, start)
                        self.offset = start
                    while self.offset < min(end, size):
                        trio.from_thread.check_cancelled()
                        still(source, path, token)
                        count = copy_piece(source, self._fd, self.offset, min(_PIECE, end - self.offset))
                        if count == 0:
                            raise reading.changed(path)
                        self.offset += count
                        # One processor hashes it while another copies the next; a large hole waits for the end.
                        if self._hashed < self.offset < min(size, self._hashed + 3 * _PIECE):
                            behind.give(functools.partial(self._hash_to, self.offset))

    def _finish(self) -> None:
        with self._troubles():
            right_size = os.fstat(self._fd).st_size == self.version.size
            if right_size:
                self._hash_to(self.version.size, trio.from_thread.check_cancelled)
            if not right_size or not right(self.version, self._hasher.digest(), lambda: _pieces(self._fd)):
                self._drop()
                raise corrupt()
            os.close(self._fd)
            self._fd = -1
            self.finished = True


def corrupt() -> Refused:
    return Refused(Trouble.CORRUPT, "what arrived does not have the digest of the version: it is dropped")


def right(version: Version, value: bytes, pieces: Callable[[], Iterable[bytes]]) -> bool:
    """Whether content is the version's: by its BLAKE3, else by whatever digest the version has that can be computed."""
    if BLAKE3 in version.digests:
        return version.digests[BLAKE3] == value
    for name, wanted in version.digests.items():
        if name in hashlib.algorithms_available:
            hasher = hashlib.new(name, usedforsecurity=False)
            for piece in pieces():
                hasher.update(piece)
            return hasher.digest() == wanted
    return True  # nothing to compare with but the size


def copy_piece(source: int, target: int, offset: int, length: int) -> int:
    """Copy a range between two files, in the kernel where it can; returns how much, 0 at the source's end."""
    try:
        return os.copy_file_range(source, target, length, offset, offset)
    except AttributeError:
        pass
    except OSError as error:
        if error.errno not in _COPY_ABSENT:
            raise
    data = os.pread(source, min(length, 1024 * 1024), offset)
    return os.pwrite(target, data, offset) if data else 0


def _whole(fd: int, size: int) -> bytes:
    data = os.pread(fd, size + 1, 0)
    return data if len(data) == size else b"".join(_pieces(fd))


def _pieces(fd: int) -> Iterator[bytes]:
    offset = 0
    while data := os.pread(fd, 1024 * 1024, offset):
        yield data
        offset += len(data)
