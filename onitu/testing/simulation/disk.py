"""A small file system in memory: a tree of files, directories and links, with inodes and time stamps of some grain.

It is what users and Onitu share on one simulated service. Its calls are atomic and raise `OSError` as the system calls
of the same names do. Everything that happens is told to watchers, whoever did it.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator

import attrs

from onitu.model import paths
from onitu.model.versions import Kind
from onitu.plug.driver import Hint, HintKind


@attrs.define(eq=False)
class Thing:
    """What stands somewhere. `entries`: what stands in a directory, by name."""

    kind: Kind
    inode: int
    mtime: int
    ctime: int
    mode: int
    data: bytes = b""
    link: bytes = b""
    entries: dict[bytes, Thing] = attrs.field(factory=dict)


class Disk:
    """See the module.

    Attributes:
        watchers: called with a hint of each change.
        space: bytes that the files may have together.
        denied: directories in which nothing may be changed.
    """

    def __init__(self, clock: Callable[[], int], grain: int) -> None:
        """`clock`: nanoseconds since 1970. `grain`: of the stamps that changes get, in nanoseconds; 0: each its own. A
        time that is given to a file is kept as it is."""
        self.grain = grain
        self.watchers: list[Callable[[Hint], None]] = []
        self.space: float = float("inf")
        self.denied: set[bytes] = set()
        self._clock = clock
        self._last = 0
        self._inodes = itertools.count(1)
        self.root = Thing(Kind.DIRECTORY, next(self._inodes), 0, 0, 0o755)

    # --- looking ------------------------------------------------------------------------------------------------

    def find(self, path: bytes) -> Thing | None:
        """What stands at a path; None: nothing."""
        place = self.root
        for name in path.split(b"/") if path else ():
            found = place.entries.get(name)
            if found is None:
                return None
            place = found
        return place

    def walk(self, path: bytes = paths.ROOT) -> Iterator[tuple[bytes, Thing]]:
        """Everything below a path, each directory before what is in it, by name."""
        place = self.find(path)
        for name, thing in sorted(place.entries.items()) if place is not None else ():
            inner = paths.join(path, name)
            yield inner, thing
            if thing.kind is Kind.DIRECTORY:
                yield from self.walk(inner)

    def used(self) -> int:
        """Bytes in all files."""
        return sum(len(thing.data) for _, thing in self.walk())

    # --- changing -----------------------------------------------------------------------------------------------

    def make(self, kind: Kind, data: bytes = b"", link: bytes = b"", mode: int = 0o644) -> Thing:
        """A new thing that stands nowhere yet."""
        now = self.stamp()
        return Thing(kind, next(self._inodes), now, now, mode, data, link)

    def place(self, path: bytes, thing: Thing) -> None:
        """Let a thing stand where nothing does. EEXIST, ENOENT, ENOTDIR, EACCES, ENOSPC."""
        directory = self._directory(path)
        if paths.name(path) in directory.entries:
            raise _error(errno.EEXIST)
        if self.used() + len(thing.data) > self.space:
            raise _error(errno.ENOSPC)
        directory.entries[paths.name(path)] = thing
        thing.ctime = self.stamp()
        self._tell(path, thing)

    def exchange(self, path: bytes, thing: Thing) -> Thing:
        """Let a thing stand in the place of another, which is returned. ENOENT and as `place`."""
        directory = self._directory(path)
        out = directory.entries.get(paths.name(path))
        if out is None:
            raise _error(errno.ENOENT)
        if self.used() + len(thing.data) > self.space:
            raise _error(errno.ENOSPC)
        directory.entries[paths.name(path)] = thing
        thing.ctime = self.stamp()
        self._tell(path, thing)
        return out

    def take(self, path: bytes) -> Thing:
        """Take a thing out of the tree. ENOENT; ENOTEMPTY for a directory with something in it."""
        directory = self._directory(path)
        thing = directory.entries.get(paths.name(path))
        if thing is None:
            raise _error(errno.ENOENT)
        if thing.entries:
            raise _error(errno.ENOTEMPTY)
        del directory.entries[paths.name(path)]
        self._tell(path, thing)
        return thing

    def remove_directory(self, path: bytes) -> None:
        """Take an empty directory out of the tree. ENOTDIR, and as `take`."""
        thing = self.find(path)
        if thing is not None and thing.kind is not Kind.DIRECTORY:
            raise _error(errno.ENOTDIR)
        self.take(path)

    def rename(self, source: bytes, target: bytes) -> None:
        """Rename to where nothing stands. ENOENT, EEXIST, EINVAL (into itself), EACCES."""
        there = self._directory(source)
        thing = there.entries.get(paths.name(source))
        if thing is None:
            raise _error(errno.ENOENT)
        if paths.within(target, source):
            raise _error(errno.EINVAL)
        directory = self._directory(target)
        if paths.name(target) in directory.entries:
            raise _error(errno.EEXIST)
        del there.entries[paths.name(source)]
        directory.entries[paths.name(target)] = thing
        thing.ctime = self.stamp()
        self._hint(Hint(HintKind.MOVED, target, source, directory=thing.kind is Kind.DIRECTORY))

    def write(self, path: bytes, data: bytes) -> bytes:
        """Write a file anew, in place; returns what it said before. ENOENT, EISDIR, EACCES, ENOSPC."""
        thing = self.find(path)
        if thing is None:
            raise _error(errno.ENOENT)
        if thing.kind is not Kind.FILE:
            raise _error(errno.EISDIR)
        if self.used() + len(data) - len(thing.data) > self.space:
            raise _error(errno.ENOSPC)
        before, thing.data = thing.data, data
        thing.mtime = thing.ctime = self.stamp()
        self._tell(path, thing)
        return before

    def give(self, path: bytes, thing: Thing, mode: int, mtime: int) -> None:
        """Give a thing that stands at the path (or stands nowhere: an empty path) its mode and time."""
        if thing.kind is not Kind.LINK:
            thing.mode = mode
        if thing.kind is not Kind.DIRECTORY:
            thing.mtime = mtime
        thing.ctime = self.stamp()
        if path:
            self._tell(path, thing)

    def touched(self, path: bytes) -> None:
        """What stands there, if anything, got other rights."""
        thing = self.find(path)
        if thing is not None:
            thing.ctime = self.stamp()
            self._hint(Hint(HintKind.CHANGED, path, directory=thing.kind is Kind.DIRECTORY))

    def stamp(self) -> int:
        """The stamp of a change that happens now."""
        now = self._clock()
        if self.grain:
            return now - now % self.grain
        self._last = max(now, self._last + 1)
        return self._last

    def _directory(self, path: bytes) -> Thing:
        parent = paths.parent(path)
        thing = self.find(parent)
        if thing is None:
            raise _error(errno.ENOENT)
        if thing.kind is not Kind.DIRECTORY:
            raise _error(errno.ENOTDIR)
        if parent in self.denied:
            raise _error(errno.EACCES)
        return thing

    def _tell(self, path: bytes, thing: Thing) -> None:
        directory = thing.kind is Kind.DIRECTORY
        self._hint(Hint(HintKind.CHANGED, path, deep=directory, directory=directory))

    def _hint(self, hint: Hint) -> None:
        for watcher in list(self.watchers):
            watcher(hint)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
