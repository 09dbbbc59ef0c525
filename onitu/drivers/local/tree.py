"""What stands where: looking at a tree relative to its root's descriptor, never through a symbolic link.

All functions block; they run in worker threads. `check` is called now and then where work is long: it raises to stop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import msgspec

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import NOTHING, Kind
from onitu.plug.words import Entry, Listing

from . import syscalls, tokens
from .troubles import sentence, trouble_of

Check = Callable[[], None]


ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors that prove that nothing of ours stands at a path. ELOOP: a parent is a link, so the path leads elsewhere."""

_PARENT = syscalls.O_PATH | os.O_DIRECTORY

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EIO})


class Place(msgspec.Struct, frozen=True, gc=False):
    """A name in an open directory: where one thing stands, or could."""

    fd: int
    name: bytes
    path: bytes

    def lstat(self) -> os.stat_result | None:
        """What stands there; None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, flags: int = os.O_RDONLY) -> int:
        """Open it for reading, without following a link and without waiting (for a FIFO's other end, say)."""
        return os.open(self.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)

    def unlink(self) -> None:
        """Take the file or link away, if one stands there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.fd)

    def readlink(self) -> bytes:
        return os.readlink(self.name, dir_fd=self.fd)


class OpenPlace(Place, frozen=True, gc=False):
    """A place whose directory is closed at the end of the `with` statement that this is given to, where it is `ours`.
    (No generator: a place is opened for each file that is read or written.)"""

    ours: bool

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.ours:
            os.close(self.fd)


class Tree(msgspec.Struct):
    """A root directory, held open. `case_sensitive` is found out by whoever probes it."""

    root: str
    fd: int
    case_sensitive: bool = True

    @classmethod
    def open(cls, root: str) -> Tree:
        """Raises `Unavailable` where the root is not there, or is no directory that can be read."""
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(f"the replica's root {root} cannot be opened: {(error.strerror or '').lower()}") from None
        return cls(root, fd)

    def close(self) -> None:
        os.close(self.fd)

    def prove(self) -> None:
        """Raise `Unavailable` unless the root's path still leads to the directory that is open."""
        try:
            there, here = os.stat(self.root), os.fstat(self.fd)
        except OSError as error:
            if error.errno in _GONE or error.errno == errno.EACCES:
                raise Unavailable(f"the replica's root {self.root} is not there") from None
            raise
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise Unavailable(f"the replica's root {self.root} is not the directory that it was")

    @contextlib.contextmanager
    def directory(self, path: bytes, flags: int = syscalls.O_PATH) -> Iterator[int]:
        """A descriptor of a directory below the root; closed at the end."""
        fd = syscalls.open_beneath(self.fd, path, flags | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def place(self, path: bytes) -> OpenPlace:
        """The place of a path, its parent held open, for a `with` statement. Raises `OSError` (see `ABSENT`) where the
        parent is not there."""
        parent, _, name = path.rpartition(b"/")
        if not parent:
            return OpenPlace(self.fd, name, path, False)
        return OpenPlace(syscalls.open_beneath(self.fd, parent, _PARENT), name, path, True)

    def near(self) -> Near:
        """Places for a batch that only reads, for a `with` statement."""
        return Near(self)

    def spelled(self, place: Place) -> bool:
        """Whether a name that was found is spelled so in its directory, not only in another case or Unicode form."""
        if self.case_sensitive:
            return True
        with self.directory(paths.parent(place.path), os.O_RDONLY) as fd:
            return os.fsdecode(place.name) in os.listdir(fd)

    def stat(self, wanted: Sequence[bytes]) -> list[Entry | None]:
        """What stands at each path; None for positively nothing. Neighbours share one opening of their directory."""
        found: list[Entry | None] = [None] * len(wanted)
        by_parent: dict[bytes, list[int]] = {}
        for index, path in enumerate(wanted):
            by_parent.setdefault(paths.parent(path), []).append(index)
        for parent, indices in by_parent.items():
            try:
                with self.directory(parent) as fd:
                    for index in indices:
                        path = wanted[index]
                        found[index] = self._entry(Place(fd, paths.name(path), path))
            except OSError as error:
                if error.errno in ABSENT:
                    continue
                for index in indices:
                    found[index] = troubled(wanted[index], trouble_of(error), sentence("look at", wanted[index], error))
        return found

    def _entry(self, place: Place) -> Entry | None:
        try:
            st = place.lstat()
            if st is None or not self.spelled(place):
                return None
            return entry_of(place.fd, place.name, place.path, st)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            return troubled(place.path, trouble_of(error), sentence("look at", place.path, error))

    def scan(self, directories: Sequence[bytes], check: Check) -> list[Listing]:
        """List directories; `.onitu` at the top is left out."""
        listings = []
        for path in directories:
            check()
            listings.append(self._list(path))
        return listings

    def _list(self, path: bytes) -> Listing:
        entries: list[Entry] = []
        try:
            with self.directory(path, os.O_RDONLY) as fd, os.scandir(fd) as listing:
                for item in listing:
                    name = os.fsencode(item.name)
                    if name == paths.PRIVATE:
                        continue
                    entry = _listed(fd, name, paths.join(path, name), item)
                    if entry is not None:
                        entries.append(entry)
        except OSError as error:
            if error.errno in ABSENT and path != paths.ROOT:
                return Listing(path, (), missing=True)
            return Listing(path, tuple(entries), complete=False, reason=sentence("list", path, error))
        return Listing(path, tuple(entries))


class Near(msgspec.Struct):
    """Places of a tree, one after the other: neighbours share one opening of their directory, as it was at the first.
    For who reads what a token names, wherever its directory is by now; not for who writes."""

    tree: Tree
    _parent: bytes = b""
    _fd: int = -1

    def place(self, path: bytes) -> OpenPlace:
        """As `Tree.place`; it holds until the next."""
        parent, _, name = path.rpartition(b"/")
        if not parent:
            return OpenPlace(self.tree.fd, name, path, False)
        if self._fd < 0 or parent != self._parent:
            self.close()
            self._fd, self._parent = syscalls.open_beneath(self.tree.fd, parent, _PARENT), parent
        return OpenPlace(self._fd, name, path, False)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Near:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _listed(fd: int, name: bytes, path: bytes, item: os.DirEntry[str]) -> Entry | None:
    try:
        return entry_of(fd, name, path, item.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None  # it went between the listing and the look: positively nothing
    except OSError as error:
        return troubled(path, trouble_of(error), sentence("look at", path, error))


def entry_of(fd: int, name: bytes, path: bytes, st: os.stat_result) -> Entry:
    """The entry of what a `stat` saw at a name in an open directory."""
    link = b""
    if modes.S_ISLNK(st.st_mode):
        link = os.readlink(name, dir_fd=fd)
    version = tokens.version_of(st, link)
    if version.kind is Kind.NOTHING:
        return Entry(path, version, tokens.token_of(st), Trouble.UNSUPPORTED, special(path, st))
    return Entry(path, version, tokens.token_of(st))


def troubled(path: bytes, trouble: Trouble, reason: str) -> Entry:
    """An entry for something that cannot even be looked at."""
    return Entry(path, NOTHING, b"", trouble, reason)


def special(path: bytes, st: os.stat_result) -> str:
    """The sentence about what is neither file nor directory nor link."""
    kinds = ((modes.S_ISFIFO, "a FIFO"), (modes.S_ISSOCK, "a socket"))
    what = next((text for test, text in kinds if test(st.st_mode)), "a device")
    return f"{paths.show(path)} is {what}, which cannot be synchronised"
