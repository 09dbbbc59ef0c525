"""Modes and modification times, given without following a link and without hiding a change of the content."""

from __future__ import annotations

import enum
import errno
import os
import stat as modes

from onitu.model.versions import Kind, Version

from . import syscalls, tokens
from .tree import Place


class Given(enum.Enum):
    """How giving them went."""

    SURELY = "surely"
    """They are given, and the content was not changed meanwhile."""
    PERHAPS = "perhaps"
    """They are given, but somebody may have written meanwhile: compare the content."""
    NOT = "not"
    """What stands there is not what was expected any more; nothing was changed."""


def has_meta(version: Version, st: os.stat_result) -> bool:
    """Whether what stands there has the version's mode (0: unknown, any will do) and mtime already."""
    kind = tokens.kind_of(st)
    same_mode = kind is Kind.LINK or not version.mode or version.mode & tokens.MODES == st.st_mode & tokens.MODES
    return same_mode and (kind is Kind.DIRECTORY or version.mtime == st.st_mtime_ns)


def give_meta(place: Place, version: Version, expected: os.stat_result | None = None) -> Given:
    """Give what stands at a place the version's mode and, but for a directory, its mtime.

    `expected`: for a file that others can write. Setting the mtime would hide what they wrote at that moment, so
    writers are kept out with a lease, where it can be had.
    """
    st = place.lstat()
    if st is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if tokens.kind_of(st) is not Kind.FILE or expected is None:
        _give(place, version, st)
        return Given.SURELY
    try:
        fd = place.open()
    except PermissionError:
        _give(place, version, st)
        return Given.PERHAPS
    held = syscalls.hold_writers(fd)
    try:
        if tokens.token_of(os.fstat(fd)) != tokens.token_of(expected):
            return Given.NOT
        _give(place, version, st)
        return Given.SURELY if held else Given.PERHAPS
    finally:
        if held:
            syscalls.release(fd)
        os.close(fd)


def _give(place: Place, version: Version, st: os.stat_result) -> None:
    kind = tokens.kind_of(st)
    if kind in (Kind.FILE, Kind.DIRECTORY) and version.mode:
        kept = st.st_mode & 0o7000 if kind is Kind.DIRECTORY else 0
        mode = version.mode & tokens.MODES | kept
        if mode != modes.S_IMODE(st.st_mode):
            _chmod(place, mode)
    if kind is not Kind.DIRECTORY and version.mtime != st.st_mtime_ns:
        os.utime(place.name, ns=(st.st_atime_ns, version.mtime), dir_fd=place.fd, follow_symlinks=False)


def _chmod(place: Place, mode: int) -> None:
    if not syscalls.LINUX:
        os.chmod(place.name, mode, dir_fd=place.fd, follow_symlinks=False)
        return
    fd = os.open(place.name, syscalls.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd)
    try:
        if modes.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        syscalls.chmod(fd, mode)
    finally:
        os.close(fd)
