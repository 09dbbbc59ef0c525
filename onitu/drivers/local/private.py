"""`.onitu` in a replica's root: the lock, the marker, and what this file system can do.

.onitu/lock      held with flock while a process uses the replica; holds its pid
.onitu/marker    JSON {marker, generation, pending}: which replica this is
.onitu/tmp/      content on its way in: ours alone, may always be dropped
.onitu/limbo/    what orders displaced: a user's value until it is proven not to be (`limbo`)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator

import attrs
import msgspec

from onitu.model.errors import Anew, Unavailable
from onitu.model.paths import PRIVATE
from onitu.plug.words import Capabilities, Identity

from . import syscalls, tokens
from .journal import JOURNAL, is_empty
from .tree import Tree

_MARKER, _MARKER_NEW, _SPARE, _LOCK = b"marker", b"marker.new", b"spare", b"lock"
_TMP, _LIMBO = b"tmp", b"limbo"
_KEEP_PARTS = 7 * 24 * 3600.0
_FULL = errno.ENOSPC, errno.EDQUOT
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Private(msgspec.Struct):
    """The open `.onitu` of one replica. Whoever has it has the replica's lock."""

    tree: Tree
    fd: int
    tmp: int
    limbo: int
    lock: int
    seen: tuple[int, int] | None = None
    """Inode and mtime of the marker, as last read or written; None: there was none."""
    identity: Identity = msgspec.field(default_factory=Identity)
    _marking: threading.Lock = msgspec.field(default_factory=threading.Lock)

    @classmethod
    def open(cls, tree: Tree) -> Private:
        """Make `.onitu` where it is missing, and take the lock. Raises `Unavailable`, naming the pid that has it."""
        opened: list[int] = []
        try:
            opened.append(_made(tree.fd, PRIVATE))
            opened.append(_made(opened[0], _TMP))
            opened.append(_made(opened[0], _LIMBO))
            opened.append(_locked(opened[0], tree.root))
            private = cls(tree, opened[0], opened[1], opened[2], opened[3])
            private.identity, private.seen = private.read_marker()
        except BaseException as error:
            for fd in opened:
                os.close(fd)
            if isinstance(error, OSError):
                raise Unavailable(
                    f"the replica {tree.root} cannot be used: .onitu in it: {(error.strerror or '').lower()}"
                ) from None
            raise
        return private

    @classmethod
    def looking(cls, tree: Tree) -> Private:
        """As `open`, for who only looks: nothing is made or written. Where there is no `.onitu`, so be it; where there
        is one, its lock is tried, as what is said of a replica that others change meanwhile would mean little.

        Raises `Unavailable`, naming the pid that has the lock.
        """
        private = cls(tree, -1, -1, -1, -1)
        try:
            private.fd = os.open(PRIVATE, _DIRECTORY, dir_fd=tree.fd)
            with contextlib.suppress(FileNotFoundError):
                private.lock = _locked(private.fd, tree.root, look_only=True)
            private.identity, private.seen = private.read_marker()
        except FileNotFoundError:
            return private
        except BaseException as error:
            private.close()
            if isinstance(error, OSError):
                raise Unavailable(
                    f"the replica {tree.root} cannot be used: .onitu in it: {(error.strerror or '').lower()}"
                ) from None
            raise
        return private

    def close(self) -> None:
        for fd in (self.tmp, self.limbo, self.lock, self.fd):
            if fd >= 0:
                os.close(fd)

    def at_rest(self) -> bool:
        """Whether nothing is in the limbo, so that there is nothing to settle."""
        try:
            limbo = os.open(_LIMBO, _DIRECTORY, dir_fd=self.fd)
        except OSError:
            return False
        try:
            return set(os.listdir(limbo)) <= {JOURNAL.decode()} and is_empty(limbo)
        except OSError:
            return False
        finally:
            os.close(limbo)

    def read_marker(self) -> tuple[Identity, tuple[int, int] | None]:
        """The marker as it is on the disk, and its stamp. Raises `Unavailable` where it cannot be understood."""
        try:
            fd = os.open(_MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return Identity(), None
        with os.fdopen(fd, "rb") as file:
            st = os.fstat(fd)
            try:
                fields = json.loads(file.read(65536))
                identity = Identity(str(fields["marker"]), int(fields["generation"]), int(fields["pending"]))
            except (ValueError, KeyError, TypeError):
                raise Unavailable(
                    f"the marker {self.tree.root}/.onitu/marker is damaged; if this replica is the one that it was,"
                    " delete the marker: the next run then compares everything"
                ) from None
        return identity, (st.st_ino, st.st_mtime_ns)

    def write_marker(self, identity: Identity) -> None:
        """Atomically and durably; on a full disk in the space that was put by for it."""
        text = json.dumps({"marker": identity.marker, "generation": identity.generation, "pending": identity.pending})
        data = text.encode() + b"\n"
        with contextlib.suppress(FileNotFoundError):
            os.rename(_SPARE, _MARKER_NEW, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_MARKER_NEW, flags, 0o600, dir_fd=self.fd)
        try:
            if os.pwrite(fd, data, 0) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.ftruncate(fd, len(data))
            os.fsync(fd)
            st = os.fstat(fd)
        finally:
            os.close(fd)
        with self._marking:
            os.rename(_MARKER_NEW, _MARKER, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            self.seen, self.identity = (st.st_ino, st.st_mtime_ns), identity
        with _without_space():
            _write_new(self.fd, _SPARE)
        os.fsync(self.fd)

    def prove(self) -> None:
        """Raise `Unavailable` unless the root is the one that was opened, and its marker the one that was read; `Anew`
        where the limbo went. `.onitu/tmp`, in which nothing of anybody's is, is made again where it did."""
        self.tree.prove()
        if self._stamp() != self.seen:
            with self._marking:  # another thread may be giving it another marker just now
                self._prove_marker()
        if self.limbo >= 0 and self._went(self.limbo, _LIMBO):
            raise Anew(f"the replica {self.tree.root} lost .onitu/limbo")
        if self.tmp >= 0 and self._went(self.tmp, _TMP):
            with self._marking:
                fd = _made(self.fd, _TMP)
                os.dup2(fd, self.tmp, inheritable=False)
                os.close(fd)

    def _went(self, fd: int, name: bytes) -> bool:
        """Whether the directory that is open there was removed. (Not every file system counts links.)"""
        st = os.fstat(fd)
        if st.st_nlink:
            return False
        try:
            return not os.path.samestat(st, os.stat(name, dir_fd=self.fd, follow_symlinks=False))
        except OSError:
            return True

    def _stamp(self) -> tuple[int, int] | None:
        try:
            st = os.stat(os.path.join(PRIVATE, _MARKER), dir_fd=self.tree.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return st.st_ino, st.st_mtime_ns

    def _prove_marker(self) -> None:
        now = self._stamp()
        if now == self.seen:
            return
        if now is not None and self.seen is not None:
            identity, stamp = self.read_marker()
            if identity == self.identity:  # a copy of it, as a backup makes one
                self.seen = stamp
                return
        raise Unavailable(f"the replica {self.tree.root} lost its marker, or has got another one")

    def sweep(self) -> None:
        """Clear `.onitu/tmp` of leftovers. Partial content is kept for a week, so that a transfer can go on."""
        with _without_space(), os.scandir(self.tmp) as listing:
            for item in listing:
                st = item.stat(follow_symlinks=False)
                if item.name.endswith(".part") and time.time() - st.st_ctime < _KEEP_PARTS:
                    continue
                if item.is_dir(follow_symlinks=False):
                    with contextlib.suppress(OSError):  # nothing of ours is in a directory there; let it be
                        os.rmdir(item.name, dir_fd=self.tmp)
                else:
                    os.unlink(item.name, dir_fd=self.tmp)


def _made(parent: int, name: bytes) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _locked(private: int, root: str, look_only: bool = False) -> int:
    flags = os.O_RDONLY if look_only else os.O_RDWR | os.O_CREAT
    fd = os.open(_LOCK, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=private)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = re.match(rb"\d+", os.pread(fd, 32, 0))
        os.close(fd)
        who = f"process {holder[0].decode()}" if holder else "another process"
        raise Unavailable(f"the replica {root} is in use by {who}") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF):
            os.close(fd)
            raise
        # A file system without locks: one user at a time is then for the user to see to.
    if not look_only:
        with _without_space():  # then it is not told who has the lock
            os.ftruncate(fd, os.pwrite(fd, str(os.getpid()).encode(), 0))
    return fd


@contextlib.contextmanager
def _without_space() -> Iterator[None]:
    """Go on where there is no space: what frees some has to be possible."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise


class Abilities(msgspec.Struct, frozen=True):
    """What the file system of a replica can do.

    Attributes:
        rename_new: a rename that refuses to replace.
        exchange: a rename that swaps.
        leases: it can be known whether somebody has a file open for writing.
        fine: every change gets a time stamp of its own.
        capabilities: the same in the words of the driver interface.
    """

    rename_new: bool
    exchange: bool
    leases: bool
    fine: bool
    capabilities: Capabilities


USUAL = Abilities(rename_new=True, exchange=True, leases=True, fine=False, capabilities=Capabilities())
"""What is assumed where nothing may be tried out."""


def probe(private: Private) -> Abilities:
    """Try it out, in `.onitu/tmp`. A full disk is taken for a usual one: deletions have to be possible, to free it."""
    with _without_space():
        return _probed(private)
    sensitive = not os.path.lexists(f"{private.tree.root}/.onitu/MARKER")
    return msgspec.structs.replace(USUAL, capabilities=attrs.evolve(USUAL.capabilities, case_sensitive=sensitive))


def _probed(private: Private) -> Abilities:
    fd = private.tmp
    _write_new(fd, b"probe-a")
    _write_new(fd, b"probe-b")
    try:
        rename_new = _works(lambda: syscalls.rename_new(fd, b"probe-a", fd, b"probe-c"))
        if rename_new:
            os.rename(b"probe-c", b"probe-a", src_dir_fd=fd, dst_dir_fd=fd)
        exchange = _works(lambda: syscalls.exchange(fd, b"probe-a", fd, b"probe-b"))
        sensitive = not os.path.lexists(f"{private.tree.root}/.onitu/tmp/PROBE-A")
        leases = _leases(fd)
        fine = fine_stamps(fd)
        capabilities = Capabilities(
            compare_and_swap=rename_new and exchange,
            create_only=rename_new,
            links=_works(lambda: os.symlink(b"nowhere", b"probe-l", dir_fd=fd)),
            modes=_keeps_modes(fd),
            mtimes=_stamp_step(fd),
            racy=0 if fine else tokens.TICK,
            watches=True,
            case_sensitive=sensitive,
        )
        return Abilities(rename_new, exchange, leases, fine, capabilities)
    finally:
        for name in (b"probe-a", b"probe-b", b"probe-c", b"probe-l"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)


def _write_new(directory: int, name: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(fd, name)
    finally:
        os.close(fd)


def _works(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError as error:
        if error.errno in syscalls.ABSENT or error.errno in (errno.EPERM, errno.EACCES):
            return False
        raise
    return True


def _leases(directory: int) -> bool:
    fd = os.open(b"probe-a", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return syscalls.open_for_writing(fd) is False
    finally:
        os.close(fd)


def _keeps_modes(directory: int) -> bool:
    fd = os.open(b"probe-a", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not _works(lambda: os.fchmod(fd, 0o640)):
            return False
        first = os.fstat(fd).st_mode & 0o777
        os.fchmod(fd, 0o600)
        return (first, os.fstat(fd).st_mode & 0o777) == (0o640, 0o600)
    finally:
        os.close(fd)


def _stamp_step(directory: int) -> int:
    """To how many nanoseconds an mtime is kept."""
    wanted = 1_600_000_001_123_456_789
    os.utime(b"probe-a", ns=(wanted, wanted), dir_fd=directory)
    got = os.stat(b"probe-a", dir_fd=directory).st_mtime_ns
    steps = (1, 100, 1_000, 1_000_000, 1_000_000_000)
    return next((step for step in steps if got == wanted // step * step), 2_000_000_000)


def fine_stamps(directory: int) -> bool:
    """Whether each change after a look gets a new time stamp (Linux 6.13 and later, on the file systems that have it).

    Sixteen changes within a millisecond cannot all differ where the clock ticks every one to ten milliseconds.
    """
    fd = os.open(b"probe-a", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
    try:
        for _ in range(8):  # a run that was interrupted for too long proves nothing
            started = time.monotonic_ns()
            stamps = set()
            for _ in range(16):
                os.pwrite(fd, b"x", 0)
                st = os.fstat(fd)
                stamps.add((st.st_mtime_ns, st.st_ctime_ns))
            if time.monotonic_ns() - started < 1_000_000:
                return len(stamps) == 16
        return False
    finally:
        os.close(fd)
