"""The content that a PUT brings, made ready in `.onitu/tmp` with its final mode and time."""

from __future__ import annotations

import os
import stat as modes
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.orders import Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Refused

from . import reading, tokens
from .meta import give_meta
from .replica import Replica
from .staging import StagedFile, right
from .tree import Near, Place, Tree

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Contents(msgspec.Struct):
    """Where the content of a batch's PUTs comes from. The roots of other replicas are opened once a batch."""

    replica: Replica
    staged: Mapping[int, StagedFile]
    local: Mapping[int, Sequence[tuple[str, bytes, bytes]]]
    _roots: dict[str, Near] = msgspec.field(default_factory=dict)
    _taken: int = -1

    def __enter__(self) -> Contents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for near in self._roots.values():
            near.close()
            near.tree.close()
        self._roots.clear()

    def prepared(self, order: Order, stands: os.stat_result | None) -> Prepared:
        """The order's file or link in `.onitu/tmp`, and its stat, for a `with` statement. What is not taken is dropped
        at the end, except staged content in a file of its own, which a later try can use.

        `stands`: what it is to replace, which lends it its mode where the version knows none.
        """
        tmp = self.replica.private.tmp
        staged = self.staged.get(order.number)
        if staged is not None and staged.memory is None:
            if not staged.finished or staged.used:
                raise Refused(Trouble.CORRUPT, "the content was not checked before it was to be put")
            place = Place(tmp, staged.name.encode(), order.path)
            if place.lstat() is None:
                raise Refused(Trouble.SOURCE_LOST, "the content that was staged went away")
            self._finish(place, order.version, stands)
            return Prepared(self, order.number, place, _stat(place), ours=False)
        place = Place(tmp, self.replica.scratch(), order.path)
        try:
            if order.version.kind is Kind.LINK:
                os.symlink(order.version.link, place.name, dir_fd=tmp)
                self._finish(place, order.version, stands)
                mine = _stat(place)
            else:
                mine = self._written(place, self._bytes(order, staged), order.version, stands)
        except BaseException:
            place.unlink()
            raise
        return Prepared(self, order.number, place, mine, ours=True)

    def taken(self, order: Order) -> None:
        """The content stands at its path."""
        self._taken = order.number
        if (staged := self.staged.get(order.number)) is not None:
            staged.used = True

    def is_taken(self, number: int) -> bool:
        """Whether the content of the order with this number stands at its path."""
        return self._taken == number

    def _finish(self, place: Place, version: Version, stands: os.stat_result | None) -> None:
        give_meta(place, replace(version, mode=self._mode(version, stands)))

    def _mode(self, version: Version, stands: os.stat_result | None) -> int:
        if version.kind is not Kind.FILE or version.mode:
            return version.mode
        replaces_file = stands is not None and modes.S_ISREG(stands.st_mode)
        return stands.st_mode & 0o777 if stands is not None and replaces_file else 0o666 & ~self.replica.umask

    def _written(self, place: Place, data: bytes, version: Version, stands: os.stat_result | None) -> os.stat_result:
        """A new file with the content, the mode and the time of the version, made with as few calls as it takes."""
        mode = self._mode(version, stands) & tokens.MODES
        fd = os.open(place.name, _FLAGS, mode & 0o777, dir_fd=place.fd)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.utime(fd, ns=(time.time_ns(), version.mtime))
            st = os.fstat(fd)
            if st.st_mode & tokens.MODES != mode:  # the umask, or an inherited ACL
                os.fchmod(fd, mode)
                st = os.fstat(fd)
            return st
        finally:
            os.close(fd)

    def _bytes(self, order: Order, staged: StagedFile | None) -> bytes:
        """The whole content of a small file, checked."""
        if staged is not None and staged.memory is not None:
            data = bytes(staged.memory)
            staged.check(data)
            return data
        lost = Refused(Trouble.SOURCE_LOST, "no source was given")
        for root, path, token in self.local.get(order.number, ()):
            try:
                return self._read(order.version, root, path, token)
            except Refused as refusal:
                lost = refusal
            except Unavailable as error:
                lost = Refused(Trouble.SOURCE_LOST, str(error))
        if order.version.size == 0 and right(order.version, blake3(b"").digest(), lambda: [b""]):
            return b""
        raise Refused(Trouble.SOURCE_LOST, lost.reason)

    def _read(self, version: Version, root: str, path: bytes, token: bytes) -> bytes:
        near = self._roots.get(root)
        if near is None:
            near = self._roots[root] = Tree.open(root).near()
        if BLAKE3 in version.digests:
            data = reading.read_start(near, path, version.size + 1)  # its digest tells whether it is what was meant
        else:
            data = reading.read_range(near, path, token, 0, version.size + 1)
        if len(data) != version.size or not right(version, blake3(data).digest(), lambda: [data]):
            raise reading.changed(path)
        return data


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """See `Contents.prepared`. (No generator: there is one for each file that is written.)"""

    contents: Contents
    number: int
    place: Place
    stat: os.stat_result
    ours: bool

    def __enter__(self) -> tuple[Place, os.stat_result]:
        return self.place, self.stat

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.ours and not self.contents.is_taken(self.number):
            self.place.unlink()


def _stat(place: Place) -> os.stat_result:
    st = place.lstat()
    if st is None:
        raise FileNotFoundError(2, "the prepared content went away")
    return st
