"""`LocalDriver`: the interface of `onitu.plug.driver` over the synchronous core of this package."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar, cast

import trio

from onitu.model.errors import Unavailable
from onitu.model.events import Event
from onitu.model.orders import Order
from onitu.model.paths import ROOT
from onitu.model.settings import Filter
from onitu.model.tally import Tally
from onitu.model.versions import Version
from onitu.plug.driver import Capabilities, Driver, Entry, Hint, HintKind, Identity, Listing, Staged

from . import counting, durable, mounts, reading, tokens
from .acting import Performer, Stopped
from .options import LocalOptions
from .replica import Replica
from .staging import StagedFile
from .watching import watch

T = TypeVar("T")

_THREADS = 8


class LocalDriver(Driver):
    """Directories on this host. Blocking work runs in worker threads, many files to a hop."""

    Options = LocalOptions
    compares = True
    options: LocalOptions

    def __init__(self, service: str, options: Mapping[str, str | int | float | bool], roots: Mapping[str, str]) -> None:
        super().__init__(service, options, roots)
        self._replicas: dict[str, Replica] = {}
        self._hints: dict[str, trio.MemorySendChannel[Hint]] = {}
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._displaced = trio.Event()
        self._settling = trio.Lock()

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_limbo)
                yield
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:  # an error of the body: whoever opened us need not know of our nursery
                raise group.exceptions[0] from group.exceptions[0].__cause__
            raise
        finally:
            replicas, self._replicas = self._replicas, {}
            with trio.CancelScope(shield=True):
                for replica in replicas.values():
                    await trio.to_thread.run_sync(replica.close)

    async def _keep_limbo(self) -> None:
        """Settle what orders displaced, when it is due; sleep while there is nothing."""
        while True:
            self._displaced = trio.Event()
            due = [wait for replica in self._replicas.values() if (wait := replica.limbo.due()) is not None]
            with trio.move_on_after(min(due, default=float("inf"))):
                await self._displaced.wait()
                continue
            async with self._settling:
                for folder, replica in list(self._replicas.items()):
                    await self._hop(replica.limbo.settle_due)
                    self._tell_returned(folder, replica)
            self.on_settled()

    def _tell_returned(self, folder: str, replica: Replica) -> None:
        """Have looked at what settling gave a path again, before it counts as settled."""
        hints = self._hints.get(folder)
        for path in replica.limbo.returned:
            if hints is not None:
                with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError):  # then the watcher tells it alone
                    hints.send_nowait(Hint(HintKind.CHANGED, path))
        replica.limbo.returned.clear()

    def unsettled(self, folder: str) -> int:
        return self._replicas[folder].limbo.unsettled if folder in self._replicas else 0

    async def _hop(self, act: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(act, limiter=self._limiter)

    def _replica(self, folder: str) -> Replica:
        try:
            return self._replicas[folder]
        except KeyError:
            raise Unavailable(f"the replica {self.roots.get(folder, folder)} was not identified") from None

    def identity_of(self, token: bytes) -> bytes | None:
        """Inode, size and mtime, which a rename leaves as they are; None for a dirty token, whose content may be
        another one by now."""
        return None if tokens.is_dirty(token) else tokens.renamed(token)

    def capabilities(self, folder: str) -> Capabilities:
        return self._replica(folder).abilities.capabilities

    async def identify(self, folder: str) -> Identity:
        if folder in self._replicas:
            async with self._settling:
                await self._hop(self._replicas.pop(folder).close)
        root, create = self.roots[folder], self.options.create
        if self.look_only:
            replica = await self._hop(lambda: Replica.open(root, self.service, self.small, look_only=True))
        else:
            replica = await self._hop(lambda: Replica.meet(root, self.service, self.small, create))
        self._replicas[folder] = replica
        self._displaced.set()  # the limbo of an earlier life may have something that waits
        return replica.private.identity

    async def at_rest(self, folder: str) -> bool:
        return await self._hop(self._replica(folder).private.at_rest)

    async def mark(self, folder: str, identity: Identity) -> None:
        replica = self._replica(folder)
        if not replica.born:
            replica = await self._bear(folder, replica)

        def write() -> None:
            try:
                replica.tree.prove()
                replica.private.write_marker(identity)
            except OSError as error:
                reason = (error.strerror or "").lower()
                raise Unavailable(f"the marker of {replica.tree.root} cannot be written: {reason}") from None

        await self._hop(write)

    async def _bear(self, folder: str, looked_at: Replica) -> Replica:
        """A root that was only looked at becomes a replica."""

        def bear() -> Replica:
            looked_at.tree.prove()
            looked_at.close()
            replica = Replica.open(self.roots[folder], self.service, self.small)
            if replica.private.identity.marker:
                replica.close()
                raise Unavailable(f"the replica {replica.tree.root} was taken by somebody else just now")
            return replica

        async with self._settling:
            del self._replicas[folder]
            self._replicas[folder] = replica = await self._hop(bear)
        return replica

    async def scan(self, folder: str, directories: Sequence[bytes]) -> list[Listing]:
        replica = self._replica(folder)

        def scan() -> list[Listing]:
            replica.private.prove()
            if ROOT in directories:
                self._learn_mounts(replica)
            gone = replica.mounts.gone()
            listings = replica.tree.scan(directories, trio.from_thread.check_cancelled)
            # A mount that went, or came back, during the listing must not look like an empty directory.
            found = mounts.listed(listings, gone | replica.mounts.gone())
            replica.private.prove()
            return found

        return await self._hop(scan)

    async def scan_familiar(
        self, folder: str, directories: Sequence[bytes], tallies: Mapping[bytes, bytes]
    ) -> list[Listing]:
        replica = self._replica(folder)
        check = trio.from_thread.check_cancelled

        def scan() -> list[Listing]:
            replica.private.prove()
            if ROOT in directories:
                self._learn_mounts(replica)
            gone = replica.mounts.gone()
            listings: list[Listing] = []
            for path in directories:
                if path in tallies:
                    check()
                    listings.append(counting.compared(replica.tree, path, tallies[path], check))
                else:
                    listings += replica.tree.scan((path,), check)
            found = mounts.listed(listings, gone | replica.mounts.gone())
            replica.private.prove()
            return found

        return await self._hop(scan)

    async def tally(self, folder: str, hiding: Sequence[Filter], since: int) -> Tally | None:
        replica = self._replica(folder)

        def count() -> Tally | None:
            replica.private.prove()
            if replica.mounts.gone():
                return None
            tally = counting.tally(replica.tree, since, trio.from_thread.check_cancelled, hiding)
            replica.private.prove()
            return None if replica.mounts.gone() else tally

        return await self._hop(count)

    async def stat(self, folder: str, paths: Sequence[bytes]) -> list[Entry | None]:
        replica = self._replica(folder)

        def stat() -> list[Entry | None]:
            gone = replica.mounts.gone()
            found = replica.tree.stat(paths)
            found = mounts.stated(paths, found, gone | replica.mounts.gone())
            replica.private.prove()
            return found

        return await self._hop(stat)

    async def fingerprint(self, folder: str, entries: Sequence[Entry]) -> list[Entry | None]:
        replica = self._replica(folder)
        check, fine = trio.from_thread.check_cancelled, replica.abilities.fine

        def fingerprint() -> list[Entry | None]:
            found = []
            with replica.tree.near() as near:
                for entry in entries:
                    check()
                    found.append(reading.fingerprint(near, entry, check, fine))
            self._settled(replica, lambda: durable.settle_young(replica.tree, found))
            return found

        return await self._hop(fingerprint)

    async def watch(self, folder: str, hints: trio.MemorySendChannel[Hint], ready: trio.Event) -> None:
        self._hints[folder] = hints
        try:
            await watch(self._replica(folder), hints, ready, self.options.poll)
        finally:
            del self._hints[folder]

    async def read(self, folder: str, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        tree = self._replica(folder).tree
        return await self._hop(lambda: reading.read_range(tree, path, token, offset, length))

    def stage(self, folder: str, version: Version, path: bytes = b"") -> Staged:
        return StagedFile(self._replica(folder), version, path, self.small, self._limiter)

    async def perform(
        self,
        folder: str,
        orders: Sequence[Order],
        staged: Mapping[int, Staged],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
    ) -> list[list[Event]]:
        replica = self._replica(folder)
        performer = Performer.of(replica, cast(Mapping[int, StagedFile], staged), local, _unless_stopped)

        def perform() -> list[list[Event]]:
            replica.private.prove()
            gone = replica.mounts.gone()
            refused = {order.number: event for order in orders if (event := mounts.refused(order, gone)) is not None}
            done = iter(performer.perform([order for order in orders if order.number not in refused]))
            outcomes = [[refused[order.number]] if order.number in refused else next(done) for order in orders]
            self._settled(replica, lambda: durable.settle_outcomes(replica.tree, outcomes))
            return outcomes

        try:
            with replica.acting(len(orders)):
                return await self._hop(perform)
        finally:
            self._displaced.set()

    def _learn_mounts(self, replica: Replica) -> None:
        try:
            replica.mounts.learn(write=not self.look_only)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unavailable(f"the replica {replica.tree.root} cannot be used: .onitu/mounts: {reason}") from None

    def _settled(self, replica: Replica, settle: Callable[[], None]) -> None:
        """Have what is about to be told on the disk, where the options want that. Raises `Unavailable`."""
        if self.options.durability != "full" or self.look_only:
            return
        try:
            settle()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unavailable(f"what was written to {replica.tree.root} did not reach its disk: {reason}") from None


def _unless_stopped() -> None:
    """A check for `Performer`: a cancel ends the batch between two orders, so that no answer is lost with it."""
    try:
        trio.from_thread.check_cancelled()
    except trio.Cancelled:  # the task itself meets the cancel at its next checkpoint
        raise Stopped from None
