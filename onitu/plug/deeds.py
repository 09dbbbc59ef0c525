"""Deeds: what orders did to one replica, written down until the Referee has committed it.

An outcome is told after its order was carried out. A process that dies in between leaves a service that holds something
which the Referee knows nothing of, and what a user does there next would be judged by an older base: an edit would look
concurrent (a needless conflict copy), a deletion like that of an older version (what was deleted would come back, S4).
So before orders begin it is written down which, and after them what came of it. The next process tells it again, before
its first scan; a Referee that knows it already takes no notice (`onitu.model.events.AGAIN`).

The file stands in the state directory. It survives the death of the process; nothing is forced to the disk, for a
machine that loses its power loses a conflict copy's worth at most. It is bound to the replica's generations: where the
replica or the state was put back to another time, it says nothing (S6). Where it cannot be written there is none.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import logbook
import msgspec

from onitu.model.events import BESIDE, Event, Seen
from onitu.model.orders import Order

from .sheet import Sheet

LARGE = 4 << 20
"""Bytes beyond which the file is written anew, where it holds mostly what is committed by now."""

_FRAME = struct.Struct(">II")

log = logbook.Logger("plug")


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """The generations of the replica under which all that follows happened."""

    generations: tuple[int, ...] = ()


class Deed(msgspec.Struct, frozen=True, array_like=True):
    """Orders that were begun, or, without any, what came of those that were begun last."""

    orders: tuple[Order, ...] = ()
    events: tuple[Event, ...] = ()


class Deeds:
    """One replica's. Nothing here waits or raises: it is called on the floor, where deeds and events are in order."""

    def __init__(self, sheet: Sheet | None = None) -> None:
        """`sheet`: what they are written on; None: nothing is kept."""
        self._sheet = sheet
        self._open = False
        self._header = b""
        self._left: list[Deed] | None = None
        self._begun = b""
        self._told: deque[tuple[int, bytes]] = deque()
        self._size = 0

    def carry(self, before: Iterable[int], now: Iterable[int]) -> None:
        """Go on under the generations `now`, before the marker gets them. The first time, take over what an earlier
        life left; it counts if it was under one of the generations `before`, which the marker has had so far."""
        if self._sheet is None:
            return
        if self._left is None:
            self._left = _load(self._sheet.read(), frozenset(before) - {0})
        self._header = _frame(_Header(tuple(now)))
        self._rewrite()

    def left(self) -> list[Deed]:
        """What an earlier life left, until `retold`: orders that may have been carried out, and outcomes."""
        return self._left or []

    def retold(self, events: Sequence[Event], position: int) -> None:
        """What was left is in the outbox now, which has come to `position`."""
        self._left = []
        if events:
            self._told.append((position, _frame(Deed(events=tuple(events)))))
        self._rewrite()

    def begin(self, orders: Sequence[Order]) -> None:
        """These orders are about to be carried out."""
        if self._open:
            self._begun = _frame(Deed(orders=tuple(orders)))
            self._append(self._begun)

    def end(self, events: Sequence[Event], position: int) -> None:
        """They were, and this came of it; the outbox has come to `position` with it."""
        if not self._open:
            return
        self._begun = b""
        done = tuple(event for event in events if event.seen is Seen.DONE or event.order == BESIDE)
        if done or self._told:
            frame = _frame(Deed(events=done))
            self._told.append((position, frame))
            self._append(frame)
        else:
            self.committed(position)

    def committed(self, position: int) -> None:
        """The Referee has everything up to `position` of the outbox."""
        while self._told and self._told[0][0] <= position:
            self._told.popleft()
        if not self._open or self._size == len(self._header):
            return
        if not (self._told or self._begun or self._left):
            with self._troubles() as sheet:
                sheet.cut(len(self._header))
                self._size = len(self._header)
        elif self._size > LARGE and self._size > 4 * sum(len(frame) for _, frame in self._told):
            self._rewrite()

    def close(self) -> None:
        """Let go of the sheet; it stays for the next life."""
        if self._sheet is not None:
            self._sheet.close()
        self._open = False

    def _append(self, frame: bytes) -> None:
        with self._troubles() as sheet:
            sheet.append(frame)
            self._size += len(frame)

    def _rewrite(self) -> None:
        if self._sheet is None:
            return
        frames = [self._header, *(_frame(deed) for deed in self._left or []), *(frame for _, frame in self._told)]
        data = b"".join([*frames, self._begun])
        with self._troubles() as sheet:
            sheet.replace(data)
            self._open, self._size = True, len(data)

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[Sheet]:
        assert self._sheet is not None
        try:
            yield self._sheet
        except OSError as error:
            log.warning("{} cannot be written ({}): it is done without", self._sheet, error.strerror)
            self._sheet.discard()  # half of it would say something wrong
            self._sheet, self._open = None, False


def _frame(record: _Header | Deed) -> bytes:
    data = msgspec.msgpack.encode(record)
    return _FRAME.pack(len(data), zlib.crc32(data)) + data


def bound_to(data: bytes) -> frozenset[int]:
    """The generations under which what is on a sheet happened; none where it cannot be told."""
    frames = _frames(data)
    try:
        return frozenset(msgspec.msgpack.decode(frames[0], type=_Header).generations) if frames else frozenset()
    except msgspec.MsgspecError:  # of another version of ours
        return frozenset()


def _load(data: bytes, generations: frozenset[int]) -> list[Deed]:
    """What an earlier life left, as far as it is whole; nothing where it was under other generations."""
    if generations.isdisjoint(bound_to(data)):
        return []
    try:
        deeds = [msgspec.msgpack.decode(frame, type=Deed) for frame in _frames(data)[1:]]
    except msgspec.MsgspecError:
        return []
    last = len(deeds) - 1
    return [deed for number, deed in enumerate(deeds) if deed.events or (deed.orders and number == last)]


def _frames(data: bytes) -> list[bytes]:
    """What is on a sheet, as far as it is whole."""
    frames: list[bytes] = []
    start = 0
    while start + _FRAME.size <= len(data):
        length, check = _FRAME.unpack_from(data, start)
        frame = data[start + _FRAME.size : start + _FRAME.size + length]
        if len(frame) < length or zlib.crc32(frame) != check:
            break  # it died while it wrote this one
        frames.append(frame)
        start += _FRAME.size + length
    return frames
