"""What the Referee keeps in memory of one service of one folder: its connection, its orders, what it has to do next.

All of it can be lost: it is derived from the nodes and from the driver's next `Hello`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque

import msgspec

from onitu.model import paths
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind

from .guard import QUIET, Guard

READY = 10_000
"""Paths that wait in memory at most; beyond, the index of what is left in the store is read from its beginning."""

GIVE_UP = 3
"""After so many failures, what should pass by itself is told as a problem (and tried on)."""

SOON = 0.1
"""Seconds that the first rest of what should pass by itself takes."""

START = (0, b"")
"""Before everything that is left to plan."""


class Retry(msgspec.Struct, frozen=True):
    """A path that failed: when to try again (0: it is being tried), how often it failed, whether that may be over
    in a moment by itself (a source that changes, a directory whose entries are on their way out), and whether it is a
    directory that something is in."""

    when: float
    times: int
    passing: bool
    full: bool = False


class Link(msgspec.Struct):
    """One service.

    Attributes:
        service: its name.
        epoch: of its driver; empty before the first Hello.
        connected: whether orders can be sent.
        trouble: why the replica cannot be used; empty: it can.
        refused: whether `trouble` is the Referee's own word, which an approval can take back.
        paused: whether somebody asked for a pause.
        scanned: whether a full scan came to its end since the driver's Hello.
        looking: how much the driver still has to look at.
        credit: orders that it takes at once.
        in_flight: orders that were sent and not answered, by number.
        busy: the paths of those, both ends of a move.
        ready: paths to plan next.
        later: those that were committed before the reading of the index began.
        closing: directories that are to go, once nothing else is ready: the deepest first, with the depth negated.
        behind: whether the store's index has to be read on from `cursor`, as far as `until`.
        until: the score of the last commit before the reading began. What is committed later comes to `ready`.
        newest: the score of the last commit.
        guard: against mass deletion.
        retry: by path, what failed.
        soonest: no rest of `retry` is over before.
        told: the paths of which it told, since its last full scan, what cannot be managed: a name that clashes, a pipe,
            what may not be read.
        freed: whether what such an entry clashed with is gone, so that the entry is to be told once more.
        counters: what the driver says of its transfers.
    """

    service: str
    epoch: str = ""
    connected: bool = False
    trouble: str = ""
    refused: bool = False
    paused: bool = False
    scanned: bool = False
    looking: int = 0
    note: str = ""
    credit: int = 0
    in_flight: dict[int, Order] = msgspec.field(default_factory=dict)
    busy: dict[bytes, int] = msgspec.field(default_factory=dict)
    ready: deque[bytes] = msgspec.field(default_factory=deque)
    later: deque[bytes] = msgspec.field(default_factory=deque)
    closing: list[tuple[int, bytes]] = msgspec.field(default_factory=list)
    waiting: set[bytes] = msgspec.field(default_factory=set)
    behind: bool = True
    cursor: tuple[int, bytes] = START
    until: int = 0
    newest: int = 0
    guard: Guard = msgspec.field(default_factory=Guard)
    retry: dict[bytes, Retry] = msgspec.field(default_factory=dict)
    soonest: float = float("inf")
    told: set[bytes] = msgspec.field(default_factory=set)
    freed: bool = False
    counters: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether orders can be sent to it, and content read from it."""
        return self.connected and not self.trouble

    @property
    def open(self) -> bool:
        """Whether it takes one more order now.

        Not before its first scan is over: until then nobody knows what it has already, and two full replicas would
        begin to send each other what both hold.
        """
        return self.usable and self.scanned and not self.paused and len(self.in_flight) < self.credit

    @property
    def quiet(self) -> bool:
        """Whether nothing is going on that could still change anything: no look, no order, nothing to plan."""
        idle = not (self.in_flight or self.ready or self.closing or self.behind or self.hopes)
        return idle and self.looked

    @property
    def looked(self) -> bool:
        """Whether everything on the service was seen and told."""
        return self.scanned and not self.freed and not self.looking and not self.guard.holding

    def connect(self, epoch: str, credit: int) -> None:
        """A driver said Hello: whatever was under way with it is derived anew."""
        self.epoch, self.credit = epoch, credit
        self.scanned, self.looking, self.freed = False, 0, False
        self.told.clear()
        self.in_flight.clear()
        self.busy.clear()
        self.restart()

    def restart(self) -> None:
        """Plan everything that is left from the beginning."""
        self.ready.clear()
        self.later.clear()
        self.closing.clear()
        self.waiting.clear()
        self.behind, self.cursor, self.until = True, START, self.newest

    def committed(self, path: bytes) -> None:
        """The newest commit left something to do at the path. Where the reading of the index has not begun, what is in
        that comes first, as the directory that a file is in may be."""
        if not (self.behind and self.cursor == START):
            self.add(path)
        elif len(self.later) >= READY:
            self.restart()
        elif path not in self.waiting:
            self.later.append(path)
            self.waiting.add(path)

    def read_all(self) -> None:
        """The index was read to its end: now comes what was committed meanwhile."""
        self.ready.extend(self.later)
        self.later.clear()

    def add(self, path: bytes) -> None:
        """The path wants planning."""
        if path in self.waiting:
            return
        if len(self.ready) >= READY:
            self.restart()
        else:
            self.ready.append(path)
            self.waiting.add(path)

    def take(self) -> bytes:
        """The next path that is ready; where none is, the next directory that is to go."""
        if not self.ready:
            return heapq.heappop(self.closing)[1]
        path = self.ready.popleft()
        self.waiting.discard(path)
        return path

    def hurry(self, *first: bytes) -> None:
        """These paths come next, in this sequence."""
        self.ready.extendleft(reversed(first))
        self.waiting.update(first)

    def upcoming(self, limit: int) -> list[bytes]:
        """What `take` gives next; at most so many."""
        if self.ready:
            return list(itertools.islice(self.ready, limit))
        return [path for _, path in heapq.nsmallest(limit, self.closing)]

    def puts_off(self, directory: bytes) -> bool:
        """Whether a directory that is to go waits until all else was ordered, and the deeper ones: what is in it goes
        first, in whatever sequence the two come here."""
        it = -directory.count(b"/"), directory
        more = self.ready or self.behind or (self.closing and self.closing[0] < it)
        if not more or len(self.closing) >= READY:
            return False
        heapq.heappush(self.closing, it)
        return True

    def send(self, order: Order) -> None:
        """The order is under way."""
        self.in_flight[order.number] = order
        for path in _touched(order):
            self.busy[path] = order.number

    def answered(self, number: int) -> Order | None:
        """The order of this number was answered; None: it is not one of this run."""
        order = self.in_flight.pop(number, None)
        if order is not None:
            for path in _touched(order):
                self.busy.pop(path, None)
        return order

    def makes_directory(self, path: bytes) -> bool:
        """Whether an order under way makes a directory there. What is ordered in it comes after that."""
        order = self.in_flight.get(self.busy.get(path, 0))
        return order is not None and order.do is Do.PUT and order.version.kind is Kind.DIRECTORY

    def coming_above(self, path: bytes) -> bytes:
        """Above the path, where an order under way brings something that is no directory; empty: nowhere."""
        for above in paths.ancestors(path):
            order = self.in_flight.get(self.busy.get(above, 0))
            if order is not None and order.version.exists and order.version.kind is not Kind.DIRECTORY:
                return above
        return b""

    def filling(self) -> frozenset[bytes]:
        """The directories into which orders under way bring something. None is removed meanwhile: where directories are
        what stands in them it would come back with that, and be taken for a user's."""
        return frozenset(
            above
            for order in self.in_flight.values()
            if order.do is Do.PUT or order.target
            for path in (order.target or order.path, order.keep)
            for above in paths.ancestors(paths.key(path))
        )

    def failed(self, path: bytes, now: float, passing: bool, full: bool = False) -> int:
        """Something did not work at the path: it rests for a time that grows. How often it failed by now.

        What passes by itself is tried again after 0.1 s to 5 s, all else after 1 s to 60 s.
        """
        first, most = (SOON, 5.0) if passing else (1.0, 60.0)
        times = self.retry[path].times + 1 if path in self.retry else 1
        if len(self.retry) >= READY:
            self.retry.clear()
        when = now + min(most, first * 2 ** min(times - 1, 16))
        self.retry[path] = Retry(when, times, passing, full)
        self.soonest = min(self.soonest, when)
        return times

    def waits(self, path: bytes, now: float, full: bool = False) -> None:
        """Something else comes first: the path rests for up to half a second, which is never too often. `full`: it is a
        directory that is to go, and something is being brought into it."""
        times = self.failed(path, now, passing=True, full=full)
        self.retry[path] = msgspec.structs.replace(self.retry[path], times=min(times, GIVE_UP - 1))

    @property
    def next(self) -> float:
        """When something is to be done though nothing happens: a rest is over, or a burst that is held back. Infinite:
        nothing."""
        return min(self.soonest, self.guard.last + QUIET if self.guard.holding else float("inf"))

    def due(self, now: float) -> None:
        """Plan the paths whose rest is over."""
        if now < self.soonest:
            return
        self.soonest = min((retry.when for retry in self.retry.values() if retry.when > now), default=float("inf"))
        for path, retry in list(self.retry.items()):
            if 0 < retry.when <= now:
                self.retry[path] = msgspec.structs.replace(retry, when=0.0)
                self.add(path)

    def despair(self, path: bytes) -> None:
        """Nothing can be ordered at the path now, so nothing is being tried there: it waits for something else."""
        retry = self.retry.get(path)
        if retry is not None and not retry.when:
            self.retry[path] = msgspec.structs.replace(retry, passing=False)

    def emptier(self, path: bytes, now: float) -> None:
        """Something went from a directory. If it could not be removed as it was not empty, it is tried again soon, and
        from then on as after its first failure: else a tree, whose directories rest in turn, would go one level every
        few seconds."""
        retry = self.retry.get(path)
        if retry is None or not retry.full:
            return
        if not retry.when:  # it is being tried
            self.retry[path] = msgspec.structs.replace(retry, times=0)
            return
        when = min(retry.when, now + SOON)
        self.retry[path] = msgspec.structs.replace(retry, when=when, times=1)
        self.soonest = min(self.soonest, when)

    def rests(self, path: bytes, now: float) -> bool:
        """Whether the path is to be left alone for now, after a failure."""
        return path in self.retry and self.retry[path].when > now

    def is_full(self, path: bytes) -> bool:
        """Whether an order failed there because something is in the directory."""
        return path in self.retry and self.retry[path].full

    @property
    def hopes(self) -> bool:
        """Whether something that failed may still be over in a moment by itself."""
        return any(map(self.hopes_for, self.retry))

    def hopes_for(self, path: bytes) -> bool:
        """Whether what failed at the path may still be over in a moment by itself."""
        retry = self.retry.get(path)
        return retry is not None and retry.passing and retry.times < GIVE_UP


def _touched(order: Order) -> tuple[bytes, ...]:
    if not order.target and not order.keep:
        return (paths.key(order.path),)
    return tuple(paths.key(path) for path in (order.path, order.target, order.keep) if path)
