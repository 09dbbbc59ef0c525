"""Counting a tree: what a listing of everything would tell (`tree`), as a tally, for a fraction of the work."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Sequence

from onitu.model import filters, paths
from onitu.model.settings import Filter
from onitu.model.tally import Tally, thing
from onitu.model.versions import Kind
from onitu.plug.words import Listing

from . import tokens
from .tree import Check, Tree, entry_of

_NEVER = 2**63
"""Later than every stamp."""


def tally(tree: Tree, since: int, check: Check, hiding: Sequence[Filter] = ()) -> Tally | None:
    """The tally of everything below the root but Onitu's own and what one of the filters hides; None: something cannot
    be looked at, or is none of the kinds that can be synchronised, or was changed after `since`, by its stamps
    (nanoseconds since 1970). A directory's stamps tell of what is hidden in it too: where something may be, they are
    not asked."""
    found = Tally()
    since = _NEVER if hiding else since
    waiting = [paths.ROOT]
    try:
        if os.fstat(tree.fd).st_mtime_ns > since:
            return None
        while waiting:
            check()
            waiting += _count(tree, waiting.pop(), since, hiding, found)
    except (OSError, _Odd):
        return None
    return found


class _Odd(Exception):
    """Something for which it is not worth while to count on."""


def _count(tree: Tree, directory: bytes, since: int, hiding: Sequence[Filter], found: Tally) -> list[bytes]:
    """Count what is in one directory; returns the directories in it."""
    things: list[bytes] = []
    below: list[tuple[bytes, int]] = []
    above = directory + b"/" if directory else b""
    with tree.directory(directory, os.O_RDONLY) as fd, os.scandir(fd) as listing:
        for item in listing:
            name = os.fsencode(item.name)
            if name == paths.PRIVATE:
                continue
            path = above + name
            st = item.stat(follow_symlinks=False)
            mode = st.st_mode
            if hiding and filters.hides(hiding, path, tokens.version_of(st, b"")) is not None:
                continue  # whatever it is, it does not count
            if st.st_ctime_ns > since:
                raise _Odd  # of a directory: something in it was made, renamed or deleted
            if modes.S_ISREG(mode):
                things.append(thing(path, Kind.FILE, tokens.token_of(st)))
            elif modes.S_ISDIR(mode):
                below.append((path, mode & tokens.MODES))
            elif modes.S_ISLNK(mode):
                things.append(thing(path, Kind.LINK, tokens.token_of(st)))
            else:
                raise _Odd
    found.see_all(things, ((path, tokens.DIRECTORY, mode) for path, mode in below))
    return [path for path, _ in below]


def compared(tree: Tree, directory: bytes, tally: bytes, check: Check) -> Listing:
    """List a directory; where exactly that stands in it which the bytes of a tally say, only the directories in it."""
    looked: list[tuple[bytes, bytes, os.stat_result]] = []
    things: list[bytes] = []
    below: list[tuple[bytes, bytes, int]] = []
    above = directory + b"/" if directory else b""
    try:
        with tree.directory(directory, os.O_RDONLY) as fd, os.scandir(fd) as listing:
            for item in listing:
                name = os.fsencode(item.name)
                if name == paths.PRIVATE:
                    continue
                path = above + name
                st = item.stat(follow_symlinks=False)
                looked.append((name, path, st))
                if modes.S_ISDIR(st.st_mode):
                    below.append((path, tokens.DIRECTORY, st.st_mode & tokens.MODES))
                else:
                    things.append(thing(path, tokens.kind_of(st), tokens.token_of(st)))
            found = Tally()
            found.see_all(things, below)
            familiar = bytes(found) == tally
            entries = [
                entry_of(fd, name, path, st) for name, path, st in looked if not familiar or modes.S_ISDIR(st.st_mode)
            ]
    except OSError:
        (whole,) = tree.scan((directory,), check)  # which tells what is wrong
        return whole
    return Listing(directory, tuple(entries), familiar=familiar)
