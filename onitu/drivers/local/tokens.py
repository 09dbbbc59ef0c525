"""What `stat` says, as the words of the model: kinds, versions, and tokens.

A token is (inode, size, mtime, ctime), packed. A directory's token is one constant: any directory will do. A ctime of 0
makes a token *dirty*: what it names was touched so recently that the clock could not tell one more change apart. It
never equals the token of a later `stat`, and whoever is to replace what it names has to compare the content.
"""

from __future__ import annotations

import os
import stat
import struct

import msgspec

from onitu.model.versions import Kind, Version

DIRECTORY = b"directory"
"""The token of every directory."""

MODES = 0o777
"""The bits that are synchronised. Set-uid and set-gid would hand rights from one host to another, and a directory's
set-gid and sticky bits belong to the host where they were set: they are neither told, nor taken away by an order."""

TICK = 20_000_000
"""Nanoseconds within which two changes may get one time stamp: two jiffies at 100 Hz."""

_TOKEN = struct.Struct("<QQqq")
_LEAST, _MOST = -(2**63), 2**63 - 1


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What survives a rename of a file: its inode, size and mtime. (The rename itself changes its ctime.)"""

    inode: int
    size: int
    mtime: int

    @classmethod
    def of(cls, st: os.stat_result) -> Identity:
        return cls(st.st_ino, st.st_size, _clamped(st.st_mtime_ns))

    @classmethod
    def named(cls, token: bytes) -> Identity | None:
        """What a token names; None for a directory's, and for one that is not ours."""
        if len(token) != _TOKEN.size:
            return None
        inode, size, mtime, _ = _TOKEN.unpack(token)
        return cls(inode, size, mtime)


def same_thing(a: os.stat_result, b: os.stat_result) -> bool:
    """Whether two looks saw one file with one content, as far as stamps tell that survive a rename."""
    return (a.st_ino, a.st_size, a.st_mtime_ns) == (b.st_ino, b.st_size, b.st_mtime_ns)


def renamed(token: bytes) -> bytes | None:
    """What of a file's token stays the same when it is renamed (the ctime does not); None for a directory's."""
    return token[: _TOKEN.size - 8] if len(token) == _TOKEN.size else None


def _clamped(nanoseconds: int) -> int:
    if _LEAST <= nanoseconds <= _MOST:
        return nanoseconds
    return _LEAST if nanoseconds < 0 else _MOST


def kind_of(st: os.stat_result) -> Kind:
    """The kind of what stands there; NOTHING for what cannot be synchronised."""
    if stat.S_ISREG(st.st_mode):
        return Kind.FILE
    if stat.S_ISDIR(st.st_mode):
        return Kind.DIRECTORY
    return Kind.LINK if stat.S_ISLNK(st.st_mode) else Kind.NOTHING


def token_of(st: os.stat_result) -> bytes:
    """The token of what a `stat` saw."""
    if stat.S_ISDIR(st.st_mode):
        return DIRECTORY
    try:
        return _TOKEN.pack(st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    except struct.error:  # a time of more than 64 bits; nearly never, so it is not looked for before
        return _TOKEN.pack(st.st_ino, st.st_size, _clamped(st.st_mtime_ns), _clamped(st.st_ctime_ns))


def dirty_token_of(st: os.stat_result) -> bytes:
    """A token that no later `stat` will equal."""
    return _TOKEN.pack(st.st_ino, st.st_size, _clamped(st.st_mtime_ns), 0)


def is_dirty(token: bytes) -> bool:
    """Whether the token says that its content has to be compared before it is replaced."""
    return len(token) == _TOKEN.size and _TOKEN.unpack(token)[3] == 0


def changed(token: bytes) -> int:
    """When the file was last changed, content, name or mode, in nanoseconds since 1970; of a dirty token: far ahead."""
    if len(token) != _TOKEN.size:
        return 0
    mtime, ctime = struct.unpack_from("<qq", token, 16)
    return int(max(mtime, ctime or _MOST))


def matches(token: bytes, st: os.stat_result) -> bool:
    """Whether the token names what the `stat` saw (a dirty token: as far as it can tell)."""
    if token == token_of(st):
        return True
    return is_dirty(token) and Identity.named(token) == Identity.of(st) and not stat.S_ISDIR(st.st_mode)


def racy(st: os.stat_result, now: int) -> bool:
    """Whether another change could get the same time stamps as the last one, `now` nanoseconds since 1970."""
    return abs(now - st.st_ctime_ns) < TICK or abs(now - st.st_mtime_ns) < TICK


def version_of(st: os.stat_result, link: bytes = b"", blake3: bytes = b"") -> Version:
    """The version that a `stat` (and, for a file, a digest; for a link, its target) tells."""
    if stat.S_ISREG(st.st_mode):
        digests = {"blake3": blake3} if blake3 else {}
        return Version(Kind.FILE, st.st_size, digests, _clamped(st.st_mtime_ns), st.st_mode & MODES)
    match kind_of(st):
        case Kind.DIRECTORY:
            return Version(Kind.DIRECTORY, mode=st.st_mode & MODES)
        case Kind.LINK:
            return Version(Kind.LINK, mtime=_clamped(st.st_mtime_ns), link=link)
        case _:
            return Version(Kind.NOTHING)
