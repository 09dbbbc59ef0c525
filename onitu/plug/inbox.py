"""The inbox: the orders of one folder, carried out in their sequence, each answered exactly once.

What needs no transfer is performed in batches. Contents are brought meanwhile, several at a time, and performed when
they are there. Orders that touch one path keep their sequence, whatever they need. A new Welcome ends everything that
was not performed: the Referee has forgotten it and plans again; what was brought of a content stays, for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import logbook
import msgspec
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.orders import Do, Order, Source
from onitu.model.versions import BLAKE3, Kind, Version

from .bell import Bell, finishing
from .driver import Refused, Staged
from .floor import Floor, refusal
from .transfers import Local, SourceFailed, Transfers

BATCH = 256
"""Orders that are performed together."""
LAST_BATCH = 5.0
"""Seconds that the batch under way has when the driver is stopped."""
CREDIT = 512
"""Orders that the Referee may have unanswered here."""

log = logbook.Logger("plug")


class _Moving(msgspec.Struct, eq=False):
    """An order whose content is being brought, or is there and not yet performed."""

    order: Order
    scope: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    staged: Staged | None = None
    performing: bool = False
    used: trio.Event = msgspec.field(default_factory=trio.Event)


class Inbox:
    """One replica's orders. `run` it while the replica can be used."""

    def __init__(self, floor: Floor, transfers: Transfers, mark: Callable[[bytes], None]) -> None:
        """`mark` is called with paths that are to be looked at, where it is not known what became of an order."""
        self._floor = floor
        self._transfers = transfers
        self._mark = mark
        self._bell = Bell()
        self._queue: deque[Order] = deque()
        self._moving: dict[int, _Moving] = {}
        self._remote: set[int] = set()
        self._paused = False

    def __len__(self) -> int:
        return len(self._queue) + len(self._moving)

    def take(self, orders: Sequence[Order]) -> None:
        """Orders came. A path that no replica may hold, or a pause, is answered at once."""
        for order in orders:
            try:
                _check(order)
            except paths.BadPath as error:
                log.error("{}: an order was refused: {}", self._floor.folder, error)
                self._refuse(order, Trouble.NAME_IMPOSSIBLE, str(error))
                continue
            if self._paused:
                self._refuse(order, Trouble.STOPPED, "the service is paused")
            else:
                self._queue.append(order)
        self._bell.ring()

    def forget(self) -> None:
        """The Referee has forgotten all orders: end what was not performed, and answer nothing of it."""
        self._queue.clear()
        self._remote.clear()
        for moving in self._moving.values():
            if not moving.performing:
                moving.scope.cancel()
        self._moving.clear()

    def pause(self) -> None:
        """Begin nothing more until `resume`; what was not performed yet is answered so."""
        self._paused = True
        waiting = [*(m.order for m in self._moving.values() if not m.performing), *self._queue]
        self.forget()
        for order in waiting:
            self._refuse(order, Trouble.STOPPED, "the service is paused")

    def resume(self) -> None:
        self._paused = False

    async def run(self) -> None:
        """Carry out orders until cancelled. Raises `Unavailable` where the root went away."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    batch = self._gather(nursery)
                    if batch:
                        await self._perform(batch)
                    else:
                        await self._bell.wait()
        finally:
            self.forget()

    # --- in sequence --------------------------------------------------------------------------------------------

    def _gather(self, nursery: trio.Nursery) -> list[Order]:
        """What can be performed now; transfers that can begin do."""
        batch = [moving.order for moving in self._moving.values() if moving.staged is not None][:BATCH]
        chosen = {order.number for order in batch}
        busy = {path for m in self._moving.values() if m.order.number not in chosen for path in _touched(m.order)}
        rest: deque[Order] = deque()
        while self._queue:
            order = self._queue.popleft()
            touched = _touched(order)
            if len(batch) >= BATCH or not busy.isdisjoint(touched):
                rest.append(order)
                busy.update(touched)
            elif self._needs_transfer(order):
                self._moving[order.number] = moving = _Moving(order)
                nursery.start_soon(self._bring, moving)
                busy.update(touched)
            else:
                batch.append(order)
        self._queue = rest
        return batch

    def _needs_transfer(self, order: Order) -> bool:
        if order.do is not Do.PUT or order.version.kind is not Kind.FILE:
            return False
        small = order.version.size <= self._floor.driver.small and order.number not in self._remote
        return not (small and self._local(order))

    def _local(self, order: Order) -> list[Local]:
        return self._transfers.local(self._floor.folder, order.sources)

    async def _perform(self, batch: list[Order]) -> None:
        brought = [self._moving[order.number] for order in batch if order.number in self._moving]
        staged: dict[int, Staged] = {}
        for moving in brought:
            moving.performing = True
            if moving.staged is not None:
                staged[moving.order.number] = moving.staged
        local = {o.number: self._local(o) for o in batch if o.do is Do.PUT and o.number not in staged}
        remote = frozenset(o.number for o in batch if o.number in local and len(o.sources) > len(local[o.number]))

        def done(order: Order) -> None:
            if local.get(order.number):
                self._transfers.copied(order)

        async def work() -> list[Order]:
            return await self._floor.perform(batch, staged, local, remote, done)

        try:
            again = await finishing(LAST_BATCH, work)
            self._remote.difference_update(order.number for order in batch)
            self._remote.update(order.number for order in again)
            self._queue.extendleft(reversed(again))
        except Unavailable as error:
            self._give_up(batch, Trouble.UNAVAILABLE, str(error))
            raise
        except Exception:
            # The driver broke its promise to raise nothing: whatever it did shows when we look.
            log.exception("{}: {} orders failed", self._floor.folder, len(batch))
            self._give_up(batch, Trouble.IO, "an internal error of the driver; its log has it")
        finally:
            for moving in brought:
                self._moving.pop(moving.order.number, None)
                moving.used.set()

    def _give_up(self, batch: list[Order], trouble: Trouble, reason: str) -> None:
        for order in batch:
            self._refuse(order, trouble, reason)
            for path in _touched(order):
                self._mark(path)

    def _refuse(self, order: Order, trouble: Trouble, reason: str) -> None:
        self._remote.discard(order.number)
        self._floor.outbox.put([refusal(order, trouble, reason)])

    # --- contents -----------------------------------------------------------------------------------------------

    async def _bring(self, moving: _Moving) -> None:
        """Bring an order's content and wait until it was used; or answer why not."""
        order = moving.order
        with moving.scope:
            failure = await self._from_sources(moving)
            if failure is not None and self._moving.pop(order.number, None) is not None:
                self._refuse(order, failure.trouble, failure.reason)
        self._bell.ring()

    async def _from_sources(self, moving: _Moving) -> SourceFailed | Refused | None:
        """One source after the other; None: the content was brought and used."""
        order = moving.order
        # An empty file needs no source.
        sources = order.sources if order.version.size else (Source("", b"", b""),)
        failure: SourceFailed | Refused = SourceFailed(Trouble.SOURCE_LOST, "no service has this version any more")
        corrupt = 0
        for source in sources:
            try:
                await self._from_source(moving, source)
            except SourceFailed as error:
                failure = error
            except Refused as error:
                failure = error
                if error.trouble is not Trouble.CORRUPT:
                    break
                if source.service and BLAKE3 not in order.version.digests:  # nobody of ours has ever read it
                    failure = Refused(error.trouble, _not_as_told(order.version, source))
            else:
                return None
            log.info("{}: {}: {}", self._floor.folder, paths.show(order.path), failure.reason)
            corrupt += failure.trouble is Trouble.CORRUPT
            if corrupt == 2:
                break
        return failure

    async def _from_source(self, moving: _Moving, source: Source) -> None:
        order, driver, folder = moving.order, self._floor.driver, self._floor.folder
        limit = self._transfers.limit(order.version, driver.small)
        await limit.acquire_on_behalf_of(moving)
        holds = True
        try:
            async with driver.stage(folder, order.version, order.path) as staged:
                await self._transfers.fill(folder, order, staged, source)
                await staged.finish()
                limit.release_on_behalf_of(moving)
                holds = False
                moving.staged = staged
                self._bell.ring()
                try:
                    await moving.used.wait()
                finally:
                    # What is being used must not be put away, whatever was cancelled.
                    with trio.CancelScope(shield=moving.performing):
                        await moving.used.wait()
        finally:
            if holds:
                limit.release_on_behalf_of(moving)


def _not_as_told(version: Version, source: Source) -> str:
    digests = " and ".join(sorted(version.digests))
    return (
        f"what {source.service} sent does not have the {digests} that it tells: it is dropped; where that is no"
        " digest of the content, its driver has an option to say so"
    )


def _check(order: Order) -> None:
    """Raise `BadPath` where the order names a path that no replica may hold."""
    for path in _touched_as_spelled(order):
        paths.checked(path)


def _touched_as_spelled(order: Order) -> list[bytes]:
    return [order.path, *(path for path in (order.target, order.keep) if path)]


def _touched(order: Order) -> list[bytes]:
    """The paths that an order changes, as the Referee names them."""
    return [paths.key(path) for path in _touched_as_spelled(order)]
