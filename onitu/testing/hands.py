"""What a black-box user of a directory can do, so that it is known exactly what each deed replaced.

A test of a synchroniser has to know of every value whether a user who could see it replaced it. A user who looks and
then writes does not know: something else may have arrived in between. So these users act first and look afterwards:

- **write** (`exchange`): a new file changes places with what stands there, in one step (`renameat2`); then what came
  out is read: that, and nothing else, is what was replaced.
- **create**: a rename that refuses to replace. **delete**: a rename out of the root; what came out was deleted.
- **move**: a rename that refuses to replace; a value changes its path and stays.

The files on their way in and out are in a scratch directory beside the root, on the same file system, where no
synchroniser looks. A program that writes **in place** (`rewrite`, `overwrite`, `append`) reads the descriptor that it
is about to write to. What may be claimed of such writes is less:

1. What it read from the descriptor is what it replaced: a user is one thread, so only who else writes into this very
   file could come between. A synchroniser that never writes in place cannot. One that does may be blamed for what it
   wrote within these microseconds, which is nobody's loss: give it users without these habits.
2. The new value counts as written, and has to survive, once the last write call returned; not before. Whether the file
   still stands at its path by then makes no difference: the user saved, and was told that it went well.
3. What the file held between two calls (empty, a beginning, a new beginning with an old end) stood on the disk, and
   nobody can tell it from a value: it is noted as `passing`, may be found anywhere, and does not have to survive.
4. A write call that failed (a full disk) leaves what is there then as a passing state, and what it read as replaced.
5. A descriptor may be held over many writes. It is closed before its user deletes or replaces what stands at its path,
   as a program that wrote into a file that its own user has thrown away would lose the value itself.

A **rename over** an existing file (`replace`) tells nobody what it replaced. It is for files of the user's own: ones
that no other user writes, so that what is there is what this user knows. The same holds for how LibreOffice saves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from onitu.drivers.local import syscalls

from .values import Values, name_of

_CUT = 64 * 1024
_HERE = getattr(os, "AT_FDCWD", -100)

Plan = tuple[bytes, list[tuple[int | None, bytes]]]
"""The content that a write in place leads to, and its steps: cut to this length and write these bytes at the end, or,
without a length, write them over the start."""


@attrs.frozen
class Deed:
    """What a user did.

    Attributes:
        user: who.
        number: the how many-th of this user's deeds.
        did: the name of the method of `Hands`.
        path: relative to the root.
        value: the name of what the user wrote there, read, or (a file) moved; None: nothing stands there now by the
            user's will.
        replaced: the names of values that the user knowingly replaced or deleted by this.
        passing: names of what stood there for a moment, and needs not survive, but may be found.
        target: where to, for a move.
        at: seconds on the monotonic clock, when it was done.
    """

    user: str
    number: int
    did: str
    path: str
    value: str | None = None
    replaced: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    target: str = ""
    at: float = 0.0


@attrs.define
class Hands:
    """What one user can do in one replica, each deed noted in `deeds` once it is done. To be used by one thread.

    Every method raises `OSError` as the system does; nothing has happened then, but for writes in place (rule 4).

    Args:
        user: the name that its values bear.
        root: the replica's directory.
        scratch: a directory outside of the root, on its file system.
        random: chooses the values.
        largest: see `Values`.
    """

    user: str
    root: Path
    scratch: Path
    random: random.Random
    largest: int = 100_000
    deeds: list[Deed] = attrs.field(factory=list)
    values: Values = attrs.field(init=False)
    _held: dict[str, int] = attrs.field(factory=dict)
    _scraps: int = 0

    def __attrs_post_init__(self) -> None:
        self.values = Values(self.user, self.random, self.largest)
        if os.stat(self.root).st_dev != os.stat(self.scratch).st_dev:
            raise ValueError(f"{self.scratch} is not on the file system of {self.root}")

    def close(self) -> None:
        """Let go of all held files."""
        for path in list(self._held):
            self.let_go(path)

    # Deeds that know exactly what they replaced

    def exchange(self, path: str) -> None:
        """Write a new value over what stands there. Raises `FileNotFoundError` where nothing does."""
        self.let_go(path)
        scrap, value = self._scrap()
        with self._gone(scrap):
            self._swap(scrap, path)
            while scrap.is_dir():  # that is no file to save to: give it back
                self._swap(scrap, path)
                if scrap.is_file() and self._known(scrap) == (value,):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            self._note("exchange", path, value, replaced=self._known(scrap))

    def _swap(self, scrap: Path, path: str) -> None:
        syscalls.exchange(_HERE, os.fsencode(scrap), _HERE, os.fsencode(self.root / path))

    def create(self, path: str) -> None:
        """Write a new value where nothing stands. Raises `FileExistsError`."""
        scrap, value = self._scrap()
        with self._gone(scrap):
            syscalls.rename_new(_HERE, os.fsencode(scrap), _HERE, os.fsencode(self.root / path))
            self._note("create", path, value)

    def delete(self, path: str) -> None:
        """Delete the file that stands there."""
        self.let_go(path)
        scrap = self._name()
        os.rename(self.root / path, scrap)
        if scrap.is_dir():
            syscalls.rename_new(_HERE, os.fsencode(scrap), _HERE, os.fsencode(self.root / path))
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        with self._gone(scrap):
            self._note("delete", path, replaced=self._known(scrap))

    def move(self, path: str, target: str) -> None:
        """Give a file or a directory another path, where nothing stands. Files below a directory are let go."""
        for held in [held for held in self._held if held.startswith(f"{path}/")]:
            self.let_go(held)
        syscalls.rename_new(_HERE, os.fsencode(self.root / path), _HERE, os.fsencode(self.root / target))
        if path in self._held:
            self._held[target] = self._held.pop(path)
        value = None
        with contextlib.suppress(OSError):  # a directory; or it was taken away at once, and nothing hangs on it
            value = name_of((self.root / target).read_bytes())
        self._note("move", path, value, target=target)

    def mkdir(self, path: str) -> None:
        (self.root / path).mkdir()
        self._note("mkdir", path)

    def rmdir(self, path: str) -> None:
        """Delete an empty directory; raises `OSError` (ENOTEMPTY) for another one, so that nothing goes with it."""
        (self.root / path).rmdir()
        self._note("rmdir", path)

    def read(self, path: str) -> str:
        """Look what stands there; its name."""
        value = name_of((self.root / path).read_bytes())
        self._note("read", path, value)
        return value

    # Writes in place, through a descriptor that may be held

    def hold(self, path: str) -> None:
        """Open the file for writes in place and keep it open, until `let_go`. May be renamed away meanwhile."""
        if path not in self._held:
            self._held[path] = os.open(self.root / path, os.O_RDWR | os.O_NOFOLLOW)

    def let_go(self, path: str) -> None:
        """Close the file, if it is held."""
        if path in self._held:
            os.close(self._held.pop(path))

    def rewrite(self, path: str, pieces: int = 1) -> None:
        """Truncate the file, and write a new value into it in so many calls."""
        value = self.values.frame()
        self._in_place("rewrite", path, lambda old: (value, [(0, b""), *_parts(value, pieces)]))

    def overwrite(self, path: str) -> None:
        """Write a new value over the old one, then cut off what is left of that."""
        value = self.values.frame()
        self._in_place("overwrite", path, lambda old: (value, [(None, value), (len(value), b"")]))

    def append(self, path: str) -> None:
        """Add a frame to the file's end. (A file that has got long is begun anew.)"""
        frame = self.values.frame()

        def plan(old: bytes) -> Plan:
            if len(old) > _CUT:
                return frame, [(0, b""), (0, frame)]
            return old + frame, [(len(old), frame)]

        self._in_place("append", path, plan)

    def _in_place(self, did: str, path: str, plan: Callable[[bytes], Plan]) -> None:
        with self._opened(path) as fd:
            old = now = _content(fd)
            value, steps = plan(old)
            states: list[bytes] = []
            try:
                for cut, data in steps:
                    if cut is not None and cut < len(now):
                        os.ftruncate(fd, cut)
                        states.append(now := now[:cut])
                    if data:
                        at = 0 if cut is None else len(now)
                        done = os.pwrite(fd, data, at)
                        states.append(now := now[:at] + data[:done] + now[at + done :])
                        if done < len(data):
                            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            finally:
                if states:
                    written = name_of(value) if now == value else None
                    passing = dict.fromkeys(name_of(state) for state in states if state != value)
                    self._note(did, path, written, replaced=(name_of(old),), passing=tuple(passing))

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        fd = self._held.get(path)
        if fd is not None:
            yield fd
            return
        fd = os.open(self.root / path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            yield fd
        finally:
            os.close(fd)

    # For files that no other user writes

    def replace(self, path: str) -> None:
        """Rename a new file over what stands there, if anything does."""
        self.let_go(path)
        scrap, value = self._scrap()
        with self._gone(scrap):
            old: tuple[str, ...] = ()
            with contextlib.suppress(FileNotFoundError):
                old = (name_of((self.root / path).read_bytes()),)
            os.rename(scrap, self.root / path)
            self._note("replace", path, value, replaced=old)

    # Scraps and notes

    def _name(self) -> Path:
        self._scraps += 1
        return self.scratch / f"{self.user}-{self._scraps}"

    def _scrap(self) -> tuple[Path, str]:
        scrap, content = self._name(), self.values.frame()
        try:
            scrap.write_bytes(content)
        except OSError:
            scrap.unlink(missing_ok=True)
            raise
        return scrap, name_of(content)

    @contextlib.contextmanager
    def _gone(self, scrap: Path) -> Iterator[None]:
        try:
            yield
        finally:
            scrap.unlink(missing_ok=True)

    def _known(self, scrap: Path) -> tuple[str, ...]:
        return (name_of(scrap.read_bytes()),)

    def _note(
        self,
        did: str,
        path: str,
        value: str | None = None,
        *,
        replaced: tuple[str, ...] = (),
        passing: tuple[str, ...] = (),
        target: str = "",
    ) -> None:
        number = len(self.deeds) + 1
        self.deeds.append(Deed(self.user, number, did, path, value, replaced, passing, target, time.monotonic()))


def _content(fd: int) -> bytes:
    parts, at = [], 0
    while data := os.pread(fd, 1 << 20, at):
        parts.append(data)
        at += len(data)
    return b"".join(parts)


def _parts(value: bytes, pieces: int) -> list[tuple[int | None, bytes]]:
    """A value cut into pieces, each to be written at the end of what is there."""
    size = -(-len(value) // max(1, pieces))
    return [(len(value), value[at : at + size]) for at in range(0, len(value), size)]
