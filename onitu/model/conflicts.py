"""The names of conflict copies: deterministic, so that one loser has one name on whatever road it is found."""

from __future__ import annotations

import datetime
import os.path
import re

from . import paths

_MARK = re.compile(rb" \(conflict [^()/]* \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d(?: \d+)?\)")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def conflict_name(path: bytes, service: str, mtime: int, attempt: int = 1) -> bytes:
    """`NAME (conflict SERVICE YYYY-MM-DD HH.MM.SS).EXT` beside `path`.

    The time is the losing version's own (`mtime`, nanoseconds), in UTC, so that no clock takes part. A copy of a copy
    keeps one mark only. The name is cut, between characters, to what a file system allows. `attempt` above 1 is
    added where a name is taken by something else.
    """
    stem, extension = os.path.splitext(_MARK.sub(b"", paths.name(path)))
    if len(extension) > 32:
        stem, extension = stem + extension, b""
    try:
        when = (_EPOCH + datetime.timedelta(microseconds=mtime // 1000)).strftime("%Y-%m-%d %H.%M.%S")
    except OverflowError:
        when = "0001-01-01 00.00.00"
    number = f" {attempt}" if attempt > 1 else ""
    label = re.sub(r"[()/\0]", "-", service)[:40]
    mark = f" (conflict {label} {when.rjust(19, '0')}{number})".encode()
    stem = _cut(stem, paths.MAX_NAME - len(mark) - len(extension))
    return paths.join(paths.parent(path), stem + mark + extension)


def is_conflict_name(path: bytes) -> bool:
    """Whether the path looks like a conflict copy's."""
    return _MARK.search(paths.name(path)) is not None


def _cut(name: bytes, limit: int) -> bytes:
    """The name's first `limit` bytes, without half a UTF-8 character at their end."""
    if len(name) <= limit:
        return name
    while limit > 0 and name[limit] & 0xC0 == 0x80:
        limit -= 1
    return name[:limit]
