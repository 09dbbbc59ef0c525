"""Counting a tree: what a listing of everything would tell (`tree`), as a tally, for a fraction of the work."""

from __future__ import annotations

import os
import stat as modes

from onitu.model import paths
from onitu.model.tally import Tally, thing
from onitu.model.versions import Kind

from . import tokens
from .tree import Check, Tree


def tally(tree: Tree, since: int, check: Check) -> Tally | None:
    """The tally of everything below the root but `.onitu`; None: something cannot be looked at, or is none of the kinds
    that can be synchronised, or was changed after `since`, by its stamps (nanoseconds since 1970)."""
    found = Tally()
    waiting = [paths.ROOT]
    try:
        if os.fstat(tree.fd).st_mtime_ns > since:
            return None
        while waiting:
            check()
            waiting += _count(tree, waiting.pop(), since, found)
    except (OSError, _Odd):
        return None
    return found


class _Odd(Exception):
    """Something for which it is not worth while to count on."""


def _count(tree: Tree, directory: bytes, since: int, found: Tally) -> list[bytes]:
    """Count what is in one directory; returns the directories in it."""
    things: list[bytes] = []
    below: list[tuple[bytes, int]] = []
    above = directory + b"/" if directory else b""
    with tree.directory(directory, os.O_RDONLY) as fd, os.scandir(fd) as listing:
        for item in listing:
            path = above + os.fsencode(item.name)
            st = item.stat(follow_symlinks=False)
            mode = st.st_mode
            if st.st_ctime_ns > since and path != paths.PRIVATE:
                raise _Odd  # of a directory: something in it was made, renamed or deleted
            if modes.S_ISREG(mode):
                things.append(thing(path, Kind.FILE, tokens.token_of(st)))
            elif modes.S_ISDIR(mode):
                if path != paths.PRIVATE:
                    below.append((path, mode & tokens.MODES))
            elif modes.S_ISLNK(mode):
                things.append(thing(path, Kind.LINK, tokens.token_of(st)))
            else:
                raise _Odd
    found.see_all(things, ((path, tokens.DIRECTORY, mode) for path, mode in below))
    return [path for path, _ in below]
