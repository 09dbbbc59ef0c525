"""The outbox: the events of one folder on their way to the Referee, in order, until they are committed there.

Promises: events leave in the order in which they were put; none is dropped; each batch is resent until it is
acknowledged, under one number, so that the Referee applies it once. `put` never waits, so that it can be called under
the floor lock; observers call `room` before they take that lock. What is beyond the bound then is at most what they
had in hand, and the outcomes of orders, which the credit bounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import trio
from msgspec.structs import replace

from onitu.model.events import Event
from onitu.wire.messages import Batch

from .told import Told

WINDOW = 16
"""Batches that may be unacknowledged."""
MOST_EVENTS = 500
"""Events in one batch."""
MOST_BYTES = 1 << 20
"""Bytes in one batch, about."""
ROOM = 4_000
"""Events that may wait for a batch before observers have to wait."""

_EVENT_BYTES = 160
"""About what an event takes beside its path, source, token and link target."""


class _Sent(msgspec.Struct):
    """A batch without acknowledgement, and the position of its last event."""

    batch: Batch
    position: int


class _Mark(msgspec.Struct, frozen=True):
    """Between events: the end of a full scan, or (not 0) the generation that the marker is about to have."""

    generation: int = 0


class Outbox:
    """One folder's events.

    Attributes:
        position: how many events were ever put.
        committed: how many of them are known to be committed.
        generation: the last generation of the replica's marker that was put here and is committed.
    """

    def __init__(self, folder: str, epoch: str, told: Told, wake: Callable[[], None]) -> None:
        """`wake` is called whenever there may be something to send."""
        self.folder = folder
        self.epoch = epoch
        self.position = 0
        self.committed = 0
        self.generation = 0
        self._told = told
        self._wake = wake
        self._waiting: deque[Event | _Mark] = deque()
        self._sent: deque[_Sent] = deque()
        self._cursor = 0
        self._number = 0
        self._taken = 0
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def unsent(self) -> int:
        """What was not handed to a socket since the last Welcome: waiting events, and batches to be resent."""
        return len(self._waiting) + len(self._sent) - self._cursor

    @property
    def empty(self) -> bool:
        """Whether everything is committed."""
        return not self._waiting and not self._sent

    async def room(self) -> None:
        """Wait until there is room for more observations. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while len(self._waiting) >= ROOM:
            await self._lot.park()

    def put(self, events: Sequence[Event], scanned: bool = False) -> None:
        """Add events; with `scanned`, the end of a full scan after them."""
        for event in events:
            self.position += 1
            self._waiting.append(event)
            self._told.note(event, self.position)
        if scanned:
            self._waiting.append(_Mark())
        if events or scanned:
            self._wake()

    def advance(self, generation: int) -> None:
        """Have this generation committed, after all that was put before."""
        self._waiting.append(_Mark(generation))
        self._wake()

    def take(self) -> Batch | None:
        """The next batch to send; None: there is none, or the window is full."""
        if self._cursor == len(self._sent):
            if not self._waiting or len(self._sent) >= WINDOW:
                return None
            self._sent.append(self._form())
            if len(self._waiting) < ROOM:
                self._lot.unpark_all()
        batch = self._sent[self._cursor].batch
        self._cursor += 1
        return batch

    def acknowledged(self, epoch: str, number: int) -> bool:
        """Batches up to `number` are committed; whether any was news."""
        if epoch != self.epoch:
            return False
        before = self.committed
        count = len(self._sent)
        while self._sent and self._sent[0].batch.number <= number:
            sent = self._sent.popleft()
            self.committed, self.generation = sent.position, sent.batch.generation or self.generation
            self._cursor = max(0, self._cursor - 1)
        if len(self._sent) < count:
            self._wake()
        return self.committed > before

    def rewind(self, number: int) -> None:
        """A new Welcome: what the Referee has committed of this epoch ends with batch `number`; the rest is sent again.

        Where its state went back behind what was once acknowledged, the numbers go on from where it stands.
        """
        self.acknowledged(self.epoch, number)
        for place, sent in enumerate(self._sent, start=number + 1):
            if sent.batch.number != place:
                sent.batch = msgspec.structs.replace(sent.batch, number=place)
        self._number = number + len(self._sent)
        self._cursor = 0
        self._wake()

    def forget_orders(self) -> None:
        """The orders' numbers mean nothing to a new run of the Referee; their events stay what they are."""
        for sent in self._sent:
            events = tuple(_unordered(event) for event in sent.batch.events)
            sent.batch = msgspec.structs.replace(sent.batch, events=events)
        self._waiting = deque(e if isinstance(e, _Mark) else _unordered(e) for e in self._waiting)

    def _form(self) -> _Sent:
        events: list[Event] = []
        size, scanned, generation = 0, False, 0
        while self._waiting and len(events) < MOST_EVENTS and size < MOST_BYTES:
            item = self._waiting.popleft()
            if isinstance(item, _Mark):
                scanned, generation = not item.generation, item.generation
                break
            events.append(item)
            size += _EVENT_BYTES + len(item.path) + len(item.source) + len(item.token) + len(item.version.link)
        self._taken += len(events)
        self._number += 1
        return _Sent(Batch(self.folder, self.epoch, self._number, tuple(events), scanned, generation), self._taken)


def _unordered(event: Event) -> Event:
    return replace(event, order=0) if event.order > 0 else event
