"""What is told is on the disk before: what orders did, and what users wrote just now.

The store forgets nothing that was committed. A file system does: what was written or renamed is in memory for half a
minute, and after a power cut it is gone, or a file is there and empty. A Referee that knew of it would take that for a
user's deletion, or edit, and pass it on to all the others (S1). So content and names are forced to the disk before they
are told: those of a few files one by one, those of many with all else that the file system has not written yet, which
is one wait for a whole batch. `durability: normal` does without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from onitu.model import paths
from onitu.model.events import BESIDE, Event, Seen
from onitu.model.versions import Kind
from onitu.plug.driver import Entry

from . import syscalls, tokens
from .tree import Tree

FEW = 8
"""Files and directories that are forced one by one at most. On ext4 each is a wait for the journal, as the whole is."""
WRITTEN = 120_000_000_000
"""Nanoseconds after which a system has written by itself what was changed: Linux begins after 30 s
(`vm.dirty_expire_centisecs`), and looks every 5 s."""


def settle_outcomes(tree: Tree, outcomes: Iterable[Sequence[Event]]) -> None:
    """Come back when all that orders did is on the disk. Blocks.

    Raises:
        OSError: the disk could not take it.
    """
    wanted: dict[bytes, None] = {}
    for event in (event for outcome in outcomes for event in outcome):
        if event.seen is not Seen.DONE and event.order != BESIDE:
            continue
        wanted[paths.parent(event.path)] = None
        if event.source:
            wanted[paths.parent(event.source)] = None
        if event.version.kind in (Kind.FILE, Kind.DIRECTORY):
            wanted[event.path] = None  # the content; of a directory, its mode
    _settle(tree, list(wanted))


def settle_young(tree: Tree, entries: Iterable[Entry | None]) -> None:
    """Come back when those of these files that were changed lately are on the disk, with their names. As above."""
    wanted: dict[bytes, None] = {}
    now = time.time_ns()
    for entry in entries:
        if entry is not None and not entry.trouble and now - tokens.changed(entry.token) < WRITTEN:
            wanted[entry.path] = wanted[paths.parent(entry.path)] = None
    _settle(tree, list(wanted))


def _settle(tree: Tree, wanted: Sequence[bytes]) -> None:
    if len(wanted) > FEW and syscalls.LINUX:
        syscalls.sync_all(tree.fd)
        return
    for path in wanted:
        _settle_one(tree, path)


def _settle_one(tree: Tree, path: bytes) -> None:
    """One file, or one directory. What is not there any more needs nothing; for what may not be opened, everything."""
    try:
        fd = syscalls.open_beneath(tree.fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        syscalls.sync_all(tree.fd)
        return
    except OSError:
        return  # a user took it away, or put something else in its place, which is seen and told
    try:
        syscalls.sync_one(fd)
    except OSError as error:
        if error.errno not in syscalls.ABSENT:  # a pipe that somebody put there cannot be forced
            raise
    finally:
        os.close(fd)
