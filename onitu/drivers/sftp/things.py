"""What a server tells, as the base for remote services has it."""

from __future__ import annotations

import re
import stat

from onitu.model.events import Trouble
from onitu.model.versions import Kind
from onitu.plug import Refused
from onitu.plug.remote import Busy, Missing, Thing, unsized

from . import wire

SECOND = 1_000_000_000
"""Nanoseconds: the step of the protocol's times."""


def thing_of(told: wire.Stat, link: bytes = b"") -> Thing:
    """What stands there. The protocol knows neither nanoseconds nor inodes: a file's token is size, time and mode."""
    mtime, mode = max(told.mtime, 0) * SECOND, stat.S_IMODE(max(told.mode, 0))
    kind = stat.S_IFMT(max(told.mode, 0))
    if kind == stat.S_IFREG and told.size < 0:
        return unsized()
    if kind == stat.S_IFREG:
        return Thing(Kind.FILE, b"%d-%d-%o" % (told.size, told.mtime, mode), max(told.size, 0), mtime, mode)
    if kind == stat.S_IFDIR:
        return Thing(Kind.DIRECTORY, mode=mode)
    if kind == stat.S_IFLNK:
        return Thing(Kind.LINK, b"%d-%b" % (told.mtime, link), mtime=mtime, link=link)
    return Thing(Kind.NOTHING, trouble=Trouble.UNSUPPORTED, reason="it is neither a file, a directory nor a link")


def name_of(reader: wire.Reader) -> bytes:
    """The one name of an answer. Raises `wire.Cut` where there is none."""
    reader.number()
    return reader.string()


def meaning(status: wire.Status) -> Exception:
    """What the failure of a request means to the base."""
    match status.code:
        case wire.NO_SUCH_FILE:
            return Missing()
        case wire.PERMISSION_DENIED:
            return Refused(Trouble.DENIED, "permission denied")
        case wire.BAD_MESSAGE:
            return Refused(Trouble.NAME_IMPOSSIBLE, "the server takes no such name (it may be too long)")
        case wire.OP_UNSUPPORTED:
            return Refused(Trouble.UNSUPPORTED, "the server cannot do that")
        case wire.NO_CONNECTION | wire.CONNECTION_LOST:
            return Busy(status.words or "the server lost its connection")
    # The protocol has one code for all else; what stands beside it is often the system's own words.
    if re.search(r"permission denied|not permitted", status.words, re.IGNORECASE):
        return Refused(Trouble.DENIED, "permission denied")
    if re.search(r"no space|quota", status.words, re.IGNORECASE):
        return Refused(Trouble.NO_SPACE, f"no space is left: {status.words}")
    return Refused(Trouble.IO, f"the server says only {status.words or status.code!r}")
