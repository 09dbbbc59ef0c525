"""The system calls that the `os` module lacks: renames that refuse or exchange, opening beneath a root, leases, clones.

Every function raises `OSError` as `os` does. Where a call does not exist (macOS, old kernels, some file systems), the
error is one of `ABSENT`, and the caller falls back to something weaker and says so in its capabilities.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import signal
import sys

LINUX = sys.platform.startswith("linux")

ABSENT = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY})
"""Errors that mean "this kernel or file system cannot", not "this time it failed"."""

O_PATH: int = getattr(os, "O_PATH", os.O_RDONLY)
"""A descriptor that names a place and opens nothing, so that an unreadable directory can be a parent too."""

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_SYS_OPENAT2 = 437  # one number on every architecture
_RESOLVE = 0x08 | 0x04 | 0x02  # BENEATH, NO_SYMLINKS, NO_MAGICLINKS
_FICLONE = 0x40049409
_PIECE = 4000  # a path longer than PATH_MAX (4096) is walked in pieces

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW_SIZE = ctypes.sizeof(_OpenHow)


@functools.lru_cache(maxsize=64)
def _how(flags: int) -> _OpenHow:
    """The kernel only reads it, so calls share it."""
    return _OpenHow(flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE)


class _State:
    """Whether this kernel has `openat2`, learnt at its first use."""

    openat2 = LINUX


def _renameat2(source: int, old: bytes, target: int, new: bytes, flags: int) -> None:
    if not LINUX:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _libc.renameat2(source, old, target, new, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(old), None, os.fsdecode(new))


def rename_new(source: int, old: bytes, target: int, new: bytes) -> None:
    """Rename, only if nothing stands at the new name (`FileExistsError`). Names are relative to descriptors."""
    _renameat2(source, old, target, new, _RENAME_NOREPLACE)


def exchange(source: int, old: bytes, target: int, new: bytes) -> None:
    """Let two names change places, in one step; both must stand."""
    _renameat2(source, old, target, new, _RENAME_EXCHANGE)


def sync_all(fd: int) -> None:
    """Wait until all that was written to the file system of `fd` is on its disk, whoever wrote it. Where the system has
    no `syncfs` (macOS) all disks are told to, and nobody waits."""
    if not LINUX:
        os.sync()
    elif _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_one(fd: int) -> None:
    """Wait until a file, or the names in a directory, are on the disk; on macOS also out of the disk's own memory."""
    whole = getattr(fcntl, "F_FULLFSYNC", None)
    if whole is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, whole)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Open `path` below the directory `root`; no component, the last one included, may be a symbolic link.

    Raises `OSError` with ELOOP or ENOTDIR where one is.
    """
    if not path:
        return os.open(b".", flags | os.O_CLOEXEC, dir_fd=root)
    if len(path) > _PIECE:
        return _open_in_pieces(root, path, flags)
    if _State.openat2:
        try:
            return _openat2(root, path, flags)
        except OSError as error:
            # EPERM: a seccomp filter that does not know the call. A real EPERM shows again in the slow way.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            _State.openat2 = error.errno == errno.EPERM
    return _open_by_steps(root, path, flags)


def _openat2(root: int, path: bytes, flags: int) -> int:
    how = _how(flags)
    while True:
        fd: int = _libc.syscall(_SYS_OPENAT2, root, path, ctypes.byref(how), _HOW_SIZE)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        # EAGAIN: a rename somewhere in the system made the kernel unsure that we stayed beneath (openat2(2)).
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number), os.fsdecode(path))


def _open_by_steps(root: int, path: bytes, flags: int) -> int:
    *parents, last = path.split(b"/")
    here = root
    try:
        for name in parents:
            there = os.open(name, O_PATH | _DIRECTORY, dir_fd=here)
            if here != root:
                os.close(here)
            here = there
        return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        if here != root:
            os.close(here)


def _open_in_pieces(root: int, path: bytes, flags: int) -> int:
    cut = path.rfind(b"/", 0, _PIECE)
    if cut < 0:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fsdecode(path))
    middle = open_beneath(root, path[:cut], O_PATH | os.O_DIRECTORY)
    try:
        return open_beneath(middle, path[cut + 1 :], flags)
    finally:
        os.close(middle)


def by_descriptor(fd: int) -> str:
    """A name for what a descriptor (also an `O_PATH` one) names, for calls that want a path. Linux only."""
    return f"/proc/self/fd/{fd}"


def chmod(fd: int, mode: int) -> None:
    """Change the mode of what a descriptor names, also of an `O_PATH` one."""
    if LINUX:
        os.chmod(by_descriptor(fd), mode)
    else:
        os.fchmod(fd, mode)


def open_for_writing(fd: int) -> bool | None:
    """Whether anybody has the file (given by a read-only descriptor) open for writing, or mapped so; None: unknown.

    A read lease can only be had on a file that nobody writes. It is given back at once. Should somebody open the file
    in between, the kernel signals it with SIGURG, which is ignored by default (SIGIO would end the process).
    """
    if not LINUX:
        return None
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    release(fd)
    return False


def hold_writers(fd: int) -> bool:
    """Take a read lease: until `release`, whoever opens the file for writing waits. False: it cannot be had."""
    if not LINUX:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    return True


def holds_writers(fd: int) -> bool:
    """Whether the lease that `hold_writers` took is still whole: nobody has tried to open the file for writing."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    except OSError:
        return False


def release(fd: int) -> None:
    """Give a lease back."""
    try:  # noqa: SIM105 - `suppress` costs as much as the call, and this is done for each file that is read
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        pass  # a lease that was broken by force is gone already


def clone(source: int, target: int) -> bool:
    """Share all blocks of one file with another (a reflink); False where the file system cannot."""
    if not LINUX:
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in ABSENT or error.errno in (errno.EXDEV, errno.EPERM, errno.EBADF, errno.ETXTBSY):
            return False
        raise
    return True


def file_system(fd: int) -> int:
    """The magic number of the file system that an open file lies on (statfs(2)); 0: unknown."""
    if not LINUX:
        return 0
    about = (ctypes.c_ulong * 32)()  # `struct statfs`, which begins with it
    return about[0] if _libc.fstatfs(fd, ctypes.byref(about)) == 0 else 0


def next_data(fd: int, offset: int, size: int) -> tuple[int, int]:
    """The first range that holds data at or after `offset`, as (start, end); (size, size): only a hole follows."""
    if not hasattr(os, "SEEK_DATA"):
        return offset, size
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return offset, size
