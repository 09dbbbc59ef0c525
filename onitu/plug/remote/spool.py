"""The spool: content on its way to a service, in a private directory on this host, until it is whole and was checked.

What is small waits in memory. What is larger is a file named after its digest, with which a later try goes on; what
lies in another replica on this host is not copied at all, but read from there while it is sent.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import TracebackType

import trio

from onitu.model import paths
from onitu.model.events import Trouble
from onitu.model.versions import BLAKE3, Version
from onitu.plug.driver import Refused

from .content import PIECE, Content, Hasher, hasher_for

KEEP = 7 * 24 * 3600.0
"""Seconds after which what nobody went on with is dropped."""

TOGETHER = 16
TOGETHER_BYTES = 2 << 20
"""Small files, and their bytes, that are read in one hop to a thread."""

_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Spool:
    """The directory, made at the first need. Its names are digests: two contents that are the same share nothing but
    the name, of which the second to come gets another one."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._taken: set[str] = set()

    def take(self, version: Version) -> str:
        """A file for this version, that is nobody else's until `give`. Raises `OSError`."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        value = version.digests.get(BLAKE3) or next(iter(version.digests.values()), b"unknown")
        stem = f"{value.hex()}-{version.size}"
        names = itertools.chain([f"{stem}.part"], (f"{stem}.{n}.part" for n in itertools.count(2)))
        name = next(name for name in names if name not in self._taken)
        self._taken.add(name)
        return os.path.join(self.directory, name)

    def give(self, path: str, drop: bool) -> None:
        """It is not used any more; `drop`: nor is its content."""
        self._taken.discard(os.path.basename(path))
        if drop:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def sweep(self) -> None:
        """Drop what was left long ago."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as listing:
            for item in listing:
                if item.name.endswith(".part") and time.time() - item.stat(follow_symlinks=False).st_mtime > KEEP:
                    os.unlink(item.path)


class Spooled:
    """Content on its way: `onitu.plug.driver.Staged`. `finish` also brings it to the service, where that has a place
    for what is not visible yet (`bring`); what came of that is `prepared`."""

    def __init__(
        self,
        spool: Spool,
        version: Version,
        small: int,
        bring: Callable[[Content], Awaitable[object]],
        unused: Callable[[object], None],
    ) -> None:
        """`unused` is called at the end with what `bring` made."""
        self.version = version
        self.offset = 0
        self.content: Content | None = None
        self.prepared: object = None
        self.used = False
        self._spool = spool
        self._bring = bring
        self._unused = unused
        self._memory: bytearray | None = bytearray() if version.size <= small else None
        self._path = ""
        self._fd = -1
        self._source = -1
        self._hash: tuple[Hasher, bytes] | None = None

    async def __aenter__(self) -> Spooled:
        if self._memory is None:
            await self._hop(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.content is not None:
            self.content.close()
        for fd in (self._fd, self._source):
            if fd >= 0:
                os.close(fd)
        self._fd = self._source = -1
        if self.prepared is not None:
            self._unused(self.prepared)
        if self._path:
            self._spool.give(self._path, drop=self.used or not self.offset)

    async def write(self, data: bytes | memoryview) -> None:
        if self.offset + len(data) > self.version.size:
            raise _corrupt()
        if self._memory is not None:
            await trio.lowlevel.checkpoint()
            self._memory += data
            self.offset = len(self._memory)
            return
        await self._hop(lambda: self._write(bytes(data)))

    async def clone(self, root: str, path: bytes, token: bytes) -> None:
        """Read it from there. Nothing is copied: what is sent is checked as it goes, whatever `token` says."""
        await self._hop(lambda: self._clone(root, path))

    async def finish(self) -> None:
        if self.content is None:
            await self._hop(self._check)
        assert self.content is not None
        self.prepared = await self._bring(self.content)

    async def _hop(self, act: Callable[[], None]) -> None:
        with _troubles():
            await trio.to_thread.run_sync(act)

    def _open(self) -> None:
        self._path = self._spool.take(self.version)
        self._fd = os.open(self._path, _FILE, 0o600)
        if os.fstat(self._fd).st_size > self.version.size:
            os.ftruncate(self._fd, 0)
        self._hash = hasher_for(self.version)
        while data := os.pread(self._fd, PIECE, self.offset):
            self._update(data)
            self.offset += len(data)

    def _update(self, data: bytes) -> None:
        if self._hash is not None:
            self._hash[0].update(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, self.offset)
            self._update(bytes(view[:count]))
            self.offset += count
            view = view[count:]

    def _clone(self, root: str, path: bytes) -> None:
        if hasher_for(self.version) is None:
            raise Refused(Trouble.UNSUPPORTED, "its digest cannot be computed, so it is not read from here")
        source = open_beneath(root, path)
        if os.fstat(source).st_size != self.version.size:
            os.close(source)
            raise Refused(Trouble.SOURCE_LOST, f"{paths.show(path)} changed since it was last seen")
        where = os.path.join(os.fsencode(root), path)
        self._source, self.content = source, Content(self.version, fd=source, path=os.fsdecode(where))
        if self._memory is not None:
            self.content = Content(self.version, self.content.pread())
        self.offset = self.version.size

    def _check(self) -> None:
        if self._memory is not None:
            data = bytes(self._memory)
            self._hash = hasher_for(self.version)
            self._update(data)
            self.content = Content(self.version, data)
        else:
            self.content = Content(self.version, fd=self._fd, path=self._path, checked=True)
        if self.offset != self.version.size or (self._hash is not None and self._hash[0].digest() != self._hash[1]):
            self._drop()
            raise _corrupt()

    def _drop(self) -> None:
        self.content, self.offset = None, 0
        self._hash = hasher_for(self.version)
        if self._memory is not None:
            self._memory = bytearray()
        else:
            os.ftruncate(self._fd, 0)


def open_beneath(root: str, path: bytes) -> int:
    """Open a file below a directory of this host for reading, through no symbolic link. Raises `OSError`."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *above, name = path.split(b"/")
        for directory in above:
            inner = os.open(directory, _FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


class Batch:
    """The contents of small versions that lie in files of this host: when one of them is needed, some of those that
    come after it are read in the same hop to a thread, which costs more than to read one."""

    def __init__(self, wanted: Mapping[int, tuple[Version, Sequence[tuple[str, bytes]]]] | None = None) -> None:
        """`wanted`: by number, in the sequence in which they are likely to be needed, with the files that have it."""
        self._wanted = dict(wanted or {})
        self._waiting = dict.fromkeys(self._wanted)
        self._read: dict[int, bytes | Refused] = {}
        self._lock = trio.Lock()

    def alone(self, number: int) -> Callable[[], bytes]:
        """What reads one for whoever is in a thread already; raises `Refused`. It is not read with others then."""
        self._waiting.pop(number, None)
        return functools.partial(read_local, *self._wanted[number])

    async def take(self, number: int) -> bytes:
        """The content of one. Raises `Refused`."""
        async with self._lock:
            if number not in self._read:
                chosen = self._choose(number)
                self._read.update(await trio.to_thread.run_sync(self._read_all, chosen))
            data = self._read.pop(number)
        if isinstance(data, Refused):
            raise data
        return data

    def _choose(self, number: int) -> list[int]:
        chosen, size = [number], self._wanted[number][0].size
        self._waiting.pop(number, None)
        for other in self._waiting:
            size += self._wanted[other][0].size
            if len(chosen) == TOGETHER or size > TOGETHER_BYTES:
                break
            chosen.append(other)
        for other in chosen[1:]:
            del self._waiting[other]
        return chosen

    def _read_all(self, numbers: Sequence[int]) -> dict[int, bytes | Refused]:
        return {number: self._read_one(number) for number in numbers}

    def _read_one(self, number: int) -> bytes | Refused:
        try:
            return read_local(*self._wanted[number])
        except Refused as refusal:
            return refusal


def read_local(version: Version, sources: Sequence[tuple[str, bytes]]) -> bytes:
    """The content of a small version from the first of these files, (root, path), that has it. Raises `Refused`."""
    for root, path in sources:
        with contextlib.suppress(OSError, Refused):
            fd = open_beneath(root, path)
            try:
                return Content(version, fd=fd).pread()
            finally:
                os.close(fd)
    if version.size == 0:
        return b""
    raise Refused(Trouble.SOURCE_LOST, "no source has this version any more")


def _corrupt() -> Refused:
    return Refused(Trouble.CORRUPT, "what arrived does not have the digest of the version: it is dropped")


@contextlib.contextmanager
def _troubles() -> Iterator[None]:
    """Errors of this host's file system, as the driver interface has them."""
    try:
        yield
    except OSError as error:
        lost = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        denied = error.errno in (errno.EACCES, errno.EPERM)
        trouble = Trouble.NO_SPACE if full else Trouble.DENIED if denied else Trouble.IO
        reason = f"the content cannot be kept on this host on its way: {(error.strerror or '').lower()}"
        raise Refused(Trouble.SOURCE_LOST if lost else trouble, reason) from error
