"""What orders displaced. In `.onitu/limbo` everything is a user's value until the opposite is proven (S1).

Before something is displaced, a record is written that tells where it stood and what was expected to stand there. The
displaced thing lands in a *slot* (a file in `limbo/`), and is *settled*: dropped where it is provably what was expected
(or what the order brought, so that its content stands in its place), else brought back as a conflict copy. A slot that
somebody still has open for writing waits until it is closed. A process that dies in between leaves record and slot, and
the next one settles them: so no two system calls have a gap between them through which a value could fall.

A slot is looked at once more some time after it came in, and only then dropped: a program that had found the old file
and was about to open it for writing when it was displaced has opened it by then.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import attrs
import msgspec

from onitu.model import paths
from onitu.model.conflicts import conflict_name
from onitu.model.versions import BLAKE3, Kind, Same, Version, same_content

from . import reading, syscalls, tokens
from .journal import JOURNAL, JOURNAL_NEW, Journal, Record
from .private import Private
from .tree import ABSENT, Place, Tree

AGE = 0.5
"""Seconds between the two looks: an `open` that had begun has ended by then, also that of a program that a busy machine
put to sleep in the middle of it."""

LAST_AGE = 0.1
"""The same at the end of a run, for which somebody waits."""

_POLL_FIRST, _POLL_LAST = 0.05, 1.0

T = TypeVar("T")


class _Waiting(msgspec.Struct):
    record: Record
    due: float
    token: bytes = b""  # of what is in the slot, as it was when it was held still, and what was expected
    delay: float = _POLL_FIRST


class Found(msgspec.Struct, frozen=True):
    """What stands at a path, with its digest."""

    path: bytes
    version: Version
    token: bytes


@attrs.define
class Limbo:
    """The limbo of one replica. Orders displace into it from one thread, another settles what is due."""

    private: Private
    service: str
    fine: bool
    small: int
    journal: Journal = attrs.field(init=False)
    _waiting: dict[str, _Waiting] = attrs.field(factory=dict)
    returned: list[bytes] = attrs.field(factory=list)
    """The paths that settling gave back; whoever has told a watcher of them takes them out."""

    @property
    def tree(self) -> Tree:
        return self.private.tree

    def open(self) -> None:
        """Read the journal of an earlier life and settle what it left."""
        self.journal = Journal.load(self.private.limbo)
        for record in [record for record in self.journal.open.values() if record.mode >= 0]:
            self._give_back(record)
        left = dict(self.journal.open)
        for slot in os.listdir(self.private.limbo):
            if slot in (JOURNAL.decode(), JOURNAL_NEW.decode()):
                continue
            # Without a record (a power cut tore the journal) nothing is known of it, so nothing allows to drop it.
            record = left.get(slot.removesuffix(".old")) or Record(slot, b"recovered")
            if slot.endswith(".old") and self._put_back(slot, record):
                continue
            self._settle(_Waiting(msgspec.structs.replace(record, slot=slot, dirty=True), time.monotonic()))
        for record in left.values():
            if record.slot not in self._waiting:
                self.journal.end(record)

    def _put_back(self, slot: str, record: Record) -> bool:
        """Where there is no exchange, the old thing steps aside first: if nothing took its place, it goes back."""
        try:
            with self.tree.place(record.path) as place:
                self.rename_new(self.slot(msgspec.structs.replace(record, slot=slot)), place)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Settle what can be settled within `LAST_AGE`; what is open for writing stays for the next life."""
        for waiting in list(self._waiting.values()):
            young = min(LAST_AGE, waiting.due - AGE + LAST_AGE - time.monotonic())
            if young > 0:  # a sleep of nothing takes 60 µs too, and there may be thousands
                time.sleep(young)
            self._settle(waiting)
        self.journal.close()

    # Displacing

    def slot(self, record: Record) -> Place:
        """Where the displaced thing is."""
        name = record.slot.encode()
        return Place(self.private.limbo, name, b".onitu/limbo/" + name)

    def later(self, record: Record, still: os.stat_result | None = None) -> None:
        """Settle the slot after `AGE` seconds. `still`: what is in it is what was expected, as this look found, and
        nobody had it open for writing: so whoever writes it from then on gives it another stamp."""
        token = tokens.token_of(still) if still is not None else b""
        self._waiting[record.slot] = _Waiting(record, time.monotonic() + AGE, token)

    @property
    def unsettled(self) -> int:
        """How many slots may hold a value that is missed: not what was held still while it was looked at."""
        return sum(not waiting.token for waiting in list(self._waiting.values())) + len(self.returned)

    def due(self) -> float | None:
        """Seconds until something is to be settled; None: nothing is."""
        waiting = [waiting.due for waiting in list(self._waiting.values())]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    # Settling

    def settle_due(self) -> None:
        """Settle what has waited long enough."""
        now = time.monotonic()
        for waiting in [waiting for waiting in list(self._waiting.values()) if waiting.due <= now]:
            self._settle(waiting)

    def _settle(self, waiting: _Waiting) -> None:
        """Drop what is in the slot, or bring it back; or let it wait, longer each time, while somebody writes it, or
        while it cannot be brought back (a full disk, a directory that may not be written)."""
        record = waiting.record
        with contextlib.suppress(OSError):  # it waits; the value is safe where it is
            st = self.slot(record).lstat()
            if st is None:
                self.forget(record)
                return
            if tokens.kind_of(st) is not Kind.FILE or not self.written(record):
                st = self.slot(record).lstat() or st  # once more: somebody may have been quick before that question
                if self._untouched(waiting, st) or self._superfluous(record, st):
                    self.drop(record)
                else:
                    self.returned.append(self.bring_back(record, st))
                return
        waiting.token = b""  # it is being written: what was expected is not what is in it
        waiting.due = time.monotonic() + waiting.delay
        waiting.delay = min(_POLL_LAST, waiting.delay * 2)
        self._waiting[record.slot] = waiting

    def _untouched(self, waiting: _Waiting, st: os.stat_result) -> bool:
        """Whether it is as it was at the first look, its ctime too, which nobody can set back."""
        return self.fine and not waiting.record.keep and waiting.token == tokens.token_of(st)

    def written(self, record: Record) -> bool:
        """Whether somebody has the displaced file open for writing, as far as can be known."""
        try:
            fd = self.slot(record).open()
        except PermissionError:
            return False
        try:
            return syscalls.open_for_writing(fd) is True
        finally:
            os.close(fd)

    def _superfluous(self, record: Record, st: os.stat_result) -> bool:
        """Whether nobody would miss it: it is what was expected to go, or what the order itself brought."""
        if not record.keep and self.expected(record, st):
            return True
        if tokens.kind_of(st) is Kind.DIRECTORY or not record.version.carries_value:
            return False
        found = self.found(self.slot(record))
        return found is not None and same_content(found.version, record.version) is Same.YES

    def expected(self, record: Record, st: os.stat_result) -> bool:
        """Whether what came out is what was expected.

        Inode, size and mtime decide; small files, and those of which the stamps prove nothing (`dirty`: somebody could
        write them meanwhile, and set the time back), are compared by digest, which then decides, where it is known.
        """
        kind = tokens.kind_of(st)
        if kind is Kind.DIRECTORY:
            return self._empty(record)
        unchanged = record.expected == tokens.Identity.of(st)
        if unchanged and not record.dirty and not (kind is Kind.FILE and st.st_size <= self.small):
            return True
        if record.held is None or (record.held.kind is Kind.FILE and BLAKE3 not in record.held.digests):
            return unchanged
        found = self.found(self.slot(record))
        if found is None:
            return unchanged and not record.dirty  # it cannot be read: then its stamps have to do
        return same_content(found.version, record.held) is Same.YES

    def _empty(self, record: Record) -> bool:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(record.slot, flags, dir_fd=self.private.limbo)
        try:
            return not os.listdir(fd)
        finally:
            os.close(fd)

    def found(self, place: Place) -> Found | None:
        """What stands at a place, with its digest; None for nothing, and where it keeps changing or cannot be read."""
        with contextlib.suppress(OSError):
            st = place.lstat()
            match tokens.kind_of(st) if st is not None else None:
                case None:
                    return None
                case Kind.FILE:
                    read = reading.read_settled(place, fine=self.fine)
                    if read is not None:
                        return Found(place.path, tokens.version_of(read[0], blake3=read[1]), read[2])
                case kind:
                    assert st is not None
                    link = place.readlink() if kind is Kind.LINK else b""
                    return Found(place.path, tokens.version_of(st, link), tokens.token_of(st))
        return None

    def drop(self, record: Record) -> None:
        """Remove what nobody would miss."""
        try:
            os.unlink(record.slot, dir_fd=self.private.limbo)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM, errno.ENOENT):
                raise
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(record.slot, dir_fd=self.private.limbo)
        self.forget(record)

    def forget(self, record: Record) -> None:
        """The slot is empty."""
        self._waiting.pop(record.slot, None)
        self.journal.end(record)

    def bring_back(self, record: Record, st: os.stat_result) -> bytes:
        """Give a displaced value a path again, where nothing stands; returns it.

        That is the path that the order reserved for it; after a deletion the old path, if nothing stands there; else
        a conflict name beside it. Where its directory cannot be made again, the nearest one above takes it.
        """
        names = itertools.chain(
            [record.keep] if record.keep else [],
            [] if record.version.exists else [record.path],
            (conflict_name(record.path, self.service, st.st_mtime_ns, n) for n in itertools.count(1)),
        )
        for name in names:
            for path in _ever_higher(name):
                try:
                    self.make_parents(path)
                    with self.tree.place(path) as place:
                        self.daring([place], lambda to=place: self.rename_new(self.slot(record), to))  # type: ignore[misc]
                except FileExistsError:
                    break
                except OSError as error:
                    if error.errno not in ABSENT or b"/" not in path:
                        raise
                else:
                    self.forget(record)
                    return path
        raise AssertionError("the numbers never end")

    # Moving things about

    def rename_new(self, source: Place, target: Place) -> None:
        """Rename, if nothing stands at the target; where the system has no such call: look, then rename."""
        try:
            syscalls.rename_new(source.fd, source.name, target.fd, target.name)
        except OSError as error:
            if error.errno not in syscalls.ABSENT or source.lstat() is None:
                raise
            if target.lstat() is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(target.name)) from None
            os.rename(source.name, target.name, src_dir_fd=source.fd, dst_dir_fd=target.fd)

    def make_parents(self, path: bytes) -> list[bytes]:
        """Make the directories above a path that are missing, and tell which that were, the highest first. Raises
        `OSError` where something else is in the way."""
        missing: list[bytes] = []
        for ancestor in paths.ancestors(path):
            try:
                with self.tree.directory(ancestor):
                    break
            except FileNotFoundError:
                missing.append(ancestor)
        for ancestor in reversed(missing):
            with self.tree.place(ancestor) as place, contextlib.suppress(FileExistsError):
                self.daring([place], lambda to=place: os.mkdir(to.name, 0o755, dir_fd=to.fd))  # type: ignore[misc]
        return missing[::-1]

    def daring(self, places: Sequence[Place], act: Callable[[], T]) -> T:
        """Do something in these places' directories; where one is ours but may not be written (0555), open it for that
        moment. Its mode is in the journal meanwhile, so that it gets it back whatever happens."""
        try:
            return act()
        except PermissionError as error:
            if error.errno != errno.EACCES:
                raise
        with contextlib.ExitStack() as stack:
            for place in places:
                stack.enter_context(self._loosened(place))
            return act()

    @contextlib.contextmanager
    def _loosened(self, place: Place) -> Iterator[None]:
        st = os.fstat(place.fd)
        mode = st.st_mode & 0o7777
        if st.st_uid != os.geteuid() or mode & 0o300 == 0o300:
            yield
            return
        record = self.journal.begin(Record("", paths.parent(place.path), mode=mode))
        syscalls.chmod(place.fd, mode | 0o300)
        try:
            yield
        finally:
            syscalls.chmod(place.fd, mode)
            self.journal.end(record)

    def _give_back(self, record: Record) -> None:
        """Give a directory the mode back that it had before an order of an earlier life had to write in it."""
        with contextlib.suppress(OSError):  # it went, or was given away: then it is not ours to change
            with self.tree.directory(record.path) as fd:
                if os.fstat(fd).st_mode & 0o7777 == record.mode | 0o300:
                    syscalls.chmod(fd, record.mode)
        self.journal.end(record)


def _ever_higher(path: bytes) -> Iterator[bytes]:
    """The path, then its name in each directory above, up to the root."""
    yield path
    while parent := paths.parent(path):
        path = paths.join(paths.parent(parent), paths.name(path))
        yield path
