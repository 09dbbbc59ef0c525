"""`RemoteDriver`: the whole of `onitu.plug.driver.Driver` for a service that only has to be a `Remote`.

A driver says how its `Remote` is made; what is here identifies, marks, scans, polls, reads, stages and performs.
"""

from __future__ import annotations

import abc
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, TypeVar

import attrs
import msgspec
import trio
from blake3 import blake3
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.errors import Anew, Unavailable
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind, Version
from onitu.plug.bell import Throttle
from onitu.plug.driver import Capabilities, Driver, Entry, Hint, HintKind, Identity, Listing, Refused, Staged
from onitu.plug.options import Options, RemoteOptions

from .acting import Acting, Brought
from .calls import Calls, each
from .content import Content
from .interface import Changed, Missing, Remote, Thing
from .limbo import Limbo
from .memory import Memory, about
from .performing import Performing
from .replica import MANY, PROVEN, Replica, entry_of
from .spool import Batch, Spool, Spooled

T = TypeVar("T")

EAGER = 0.1
"""A poll takes at most this part of the time: the pause after it is at least nine times as long as it took."""
SLOWER = 1.5
"""The pause grows by this after each poll that found nothing new."""


class _Root(msgspec.Struct, eq=False):
    """What there is of one folder's root. `tried`: when in this life the service was tried, in seconds since 1970; 0:
    it was not, what an earlier one found out is believed."""

    replica: Replica
    limbo: Limbo
    memory: Memory
    tried: float
    trying: trio.Lock = msgspec.field(default_factory=trio.Lock)


class RemoteDriver(Driver):
    """See the module. A driver is a subclass with `Options`, `options`, `remote`, and mostly `connected`."""

    Options: ClassVar[type[Options]] = RemoteOptions
    options: RemoteOptions
    paces_files: ClassVar[bool] = True
    """Whether the base keeps to the bandwidth, by the pace at which files are read on this side. Not where what does
    the work can do it better."""
    takes_local = True
    paces = True

    def __init__(self, service: str, options: Mapping[str, str | int | float | bool], roots: Mapping[str, str]) -> None:
        super().__init__(service, options, roots)
        self._roots: dict[str, _Root] = {}
        self._calls: dict[str, Calls] = {}
        self._tried: set[str] = set()
        """Folders of which this life knows more than an earlier one."""
        self._doubtful: dict[str, dict[bytes, float]] = {}
        """By folder, what `Limbo` doubts."""
        self._limiter: trio.CapacityLimiter | None = None
        self._spool: Spool | None = None
        rate = float(self.options.bandwidth if self.paces_files else 0)
        self._up, self._down = Throttle(rate), Throttle(rate)

    # --- what a driver says -------------------------------------------------------------------------------------

    @abc.abstractmethod
    def remote(self, folder: str) -> Remote:
        """The root of a folder (`self.roots[folder]`, as configured), not connected yet: `Remote.probe` does that.
        Called again for each `identify`. Raises `Unavailable` where the root is none that the service can have."""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """What lives as long as the driver does: a client, a nursery, a pool. Nothing is asked of the service yet: it
        may not be there now."""
        yield

    # --- the driver's interface ---------------------------------------------------------------------------------

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with self.connected():
            try:
                yield
            finally:
                for root in self._roots.values():
                    if root.tried and (found := root.replica.remote.memory()) and not self.look_only:
                        root.memory.keep(found, root.tried)
                self._roots.clear()

    def capabilities(self, folder: str) -> Capabilities:
        return self._root(folder).replica.capabilities

    async def identify(self, folder: str) -> Identity:
        self._roots.pop(folder, None)
        remote = self.remote(folder)
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(self.options.connections or remote.concurrency)
        self._calls[folder] = Calls(remote, self.service, self._limiter, self.counters, self._up, self._down)
        self._calls[folder].on_wait = self.on_settled
        replica = Replica(self._calls[folder], f"{self.service}:{self.roots[folder]}")
        memory = Memory(self._memories(folder), about(self.service, self.roots[folder], self.options))
        found = b"" if folder in self._tried else memory.recall()
        recalled = bool(found) and remote.recall(found)
        if not (recalled or self.look_only):
            memory.forget()
        tried = time.time()
        probed = await self._probe(replica)
        replica.capabilities = attrs.evolve(probed, watches=False)
        replica.identity = await replica.read_marker()
        if replica.identity.marker:
            await replica.learn_case()
        limbo = Limbo(replica, self.service, self._spooling(), self._doubtful.setdefault(folder, {}))
        root = _Root(replica, limbo, memory, 0 if recalled or remote.denied else tried)
        if replica.identity.marker and not self.look_only:
            await trio.to_thread.run_sync(self._spooling().sweep)
            await root.limbo.recover()
        self._roots[folder] = root
        return replica.identity

    def waits(self, folder: str) -> str:
        return self._calls[folder].waits if folder in self._calls else ""

    async def at_rest(self, folder: str) -> bool:
        return await self._root(folder).limbo.is_empty()

    async def _probe(self, replica: Replica) -> Capabilities:
        try:
            # Whoever calls this does it again, and says meanwhile what is wrong; but a server may still be at clearing
            # away what was tried last (rclone's breaks a list off then).
            return await replica.calls.call("use", paths.ROOT, replica.remote.probe, tries=2, patient=False)
        except Refused as error:
            raise Unavailable(error.reason) from error
        except (Missing, Changed) as error:
            raise Unavailable(f"{replica.shown} is not there") from error

    async def _ascertain(self, folder: str) -> None:
        """Before anything is changed: see that the service still can what an earlier life found out. Raises
        `Unavailable`, and `Anew` where it cannot, or can more."""
        root = self._root(folder)
        async with root.trying:
            if root.tried:
                return
            root.memory.forget()
            believed, tried = root.replica.remote.memory(), time.time()
            await self._probe(root.replica)
            self._tried.add(folder)
            if root.replica.remote.memory() != believed:
                self._roots.pop(folder, None)  # what it is believed to be may not be acted upon once more
                raise Anew(f"{root.replica.shown} can do other things than when it was used last")
            root.tried = 0 if root.replica.remote.denied else tried

    async def mark(self, folder: str, identity: Identity) -> None:
        replica = self._root(folder).replica
        await replica.prove()
        new = not replica.identity.marker
        await replica.write_marker(identity)
        if new:
            await replica.learn_case()

    async def scan(self, folder: str, directories: Sequence[bytes]) -> list[Listing]:
        replica = self._root(folder).replica
        whole = paths.ROOT in directories
        if whole:
            await self._root(folder).limbo.settle_doubtful()
            replica.calls.count("scans", 1)
            replica.begin_scan()
            await replica.list_tree()
        listings: dict[bytes, Listing] = {}

        async def look(directory: bytes) -> None:
            listings[directory] = await replica.list(directory)

        await each(look, directories)
        if whole or not replica.listed_at_once:
            await replica.prove()  # a root that went during the listing must not look like an empty one
        found = [listings[directory] for directory in directories]
        replica.note(found)
        return found

    async def stat(self, folder: str, wanted: Sequence[bytes]) -> list[Entry | None]:
        replica = self._root(folder).replica
        found: dict[bytes, Entry | None] = {}

        async def one(path: bytes) -> None:
            try:
                thing = await replica.stat(path)
                found[path] = None if thing is None else entry_of(path, thing)
            except Refused as error:
                found[path] = Entry(path, Version(Kind.NOTHING), b"", error.trouble, error.reason)

        async def in_one(directory: bytes) -> None:
            inside = siblings[directory]
            if len(inside) < MANY or replica.remote.rich_stat:
                await each(one, inside)
                return
            listing = await replica.list_now(directory)
            if not listing.complete:
                await each(one, inside)
                return
            there = {entry.path: entry for entry in listing.entries}
            found.update((path, there.get(path)) for path in inside)
            if replica.remote.cut_unseen:
                await each(one, [path for path in inside if path not in there])

        siblings: dict[bytes, list[bytes]] = {}
        for path in dict.fromkeys(wanted):
            siblings.setdefault(paths.parent(path), []).append(path)
        await each(in_one, list(siblings))
        if None in found.values():
            await replica.prove()
        return [found[path] for path in wanted]

    async def fingerprint(self, folder: str, entries: Sequence[Entry]) -> list[Entry | None]:
        replica = self._root(folder).replica
        found: dict[bytes, Entry | None] = {}

        async def one(entry: Entry) -> None:
            try:
                found[entry.path] = await self._read_whole(replica, entry)
            except Refused as error:
                found[entry.path] = replace(entry, trouble=error.trouble, reason=error.reason)

        await each(one, entries)
        return [found[entry.path] for entry in entries]

    async def _read_whole(self, replica: Replica, entry: Entry) -> Entry | None:
        if entry.trouble is not Trouble.NONE:
            return entry
        if entry.kind is not Kind.FILE:
            return entry
        version = entry.version
        thing = Thing(
            Kind.FILE, entry.token[1:], version.size, version.mtime, version.mode, digests=dict(version.digests)
        )
        return await replica.settled(entry.path, thing)

    async def watch(self, folder: str, hints: trio.MemorySendChannel[Hint], ready: trio.Event) -> None:
        """Polls, ever more seldom while nothing is found: from `poll` to `poll_most` seconds, and never for more than a
        tenth of the time."""
        ready.set()
        replica, least = self._root(folder).replica, self.options.poll
        pause, seen = least, replica.sights
        replica.looked = trio.current_time()
        while True:
            await replica.rested(least)  # by then a scan that was under way is over
            pause = min(pause * SLOWER, max(self.options.poll_most, least)) if replica.sights == seen else least
            seen = replica.sights
            await replica.rested(max(pause, replica.took / EAGER))
            looked = replica.looked
            await hints.send(Hint(HintKind.POLL))
            while replica.looked == looked:
                await replica.scanned.wait()

    async def read(self, folder: str, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        replica = self._root(folder).replica
        remote = replica.remote
        lost = Refused(Trouble.SOURCE_LOST, f"{self.service}: {paths.show(path)} changed since it was last seen")
        try:
            if not token[1:]:
                raise lost
            data = await replica.calls.call("read", path, lambda: remote.read(path, token[1:], offset, length))
        except (Missing, Changed):
            raise lost from None
        return await replica.calls.came(data)

    def stage(self, folder: str, version: Version, path: bytes = b"") -> Staged:
        root = self._root(folder)

        async def bring(content: Content) -> object:
            replica, able = root.replica, root.replica.capabilities
            replica.calls.paced(content)
            if content.size <= self.small or not path:
                return None
            try:
                if able.compare_and_swap or not able.moves:
                    remote = replica.remote
                    return await replica.calls.call(
                        "write", path, lambda: remote.prepare(path, content), quiet=float("inf")
                    )
                order = Order(0, Do.PUT, path, version)
                return await Acting(replica, root.limbo, self.service, order, content).bring()
            except (Missing, Changed):
                reason = f"{self.service}: what was sent of {paths.show(path)} does not stand there as it was sent"
                raise Refused(Trouble.IO, reason) from None

        def unused(prepared: object) -> None:
            if isinstance(prepared, Brought):
                root.limbo.give_tmp(prepared.taken)

        return Spooled(self._spooling(), version, self.small, bring, unused)

    async def perform(
        self,
        folder: str,
        orders: Sequence[Order],
        staged: Mapping[int, Staged],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
    ) -> list[list[Event]]:
        """Orders that do not touch each other's paths are carried out at the same time."""
        root = self._root(folder)
        await self._ascertain(folder)
        await root.replica.prove(PROVEN)
        if (denied := root.replica.remote.denied) is None:
            return await self._carry_out(root, orders, staged, local)
        # What frees space may be all that helps.
        free = [order for order in orders if denied.trouble is Trouble.NO_SPACE and order.do is Do.DELETE]
        done = iter(await self._carry_out(root, free, staged, local))
        return [next(done) if order in free else [_refused(order, denied)] for order in orders]

    async def _carry_out(
        self,
        root: _Root,
        orders: Sequence[Order],
        staged: Mapping[int, Staged],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
    ) -> list[list[Event]]:
        batch = Batch(
            {
                order.number: (order.version, [(where, path) for where, path, _ in local.get(order.number, ())])
                for order in orders
                if order.do is Do.PUT and order.version.kind is Kind.FILE and order.number not in staged
            }
        )
        actings = [Acting(root.replica, root.limbo, self.service, order, batch=batch) for order in orders]
        spooled = [(acting, staged.get(acting.order.number)) for acting in actings]
        for acting, ready in spooled:
            if isinstance(ready, Spooled):
                acting.content, acting.prepared = ready.content, ready.prepared
        assert self._limiter is not None
        try:
            events = await Performing(actings, batch, self.small, self._limiter).run()
            if any(event.seen is Seen.DONE for found in events for event in found):
                await root.replica.prove_after()
            return events
        finally:
            for acting, ready in spooled:
                if isinstance(ready, Spooled):
                    ready.used = ready.used or acting.used

    # --- its own ------------------------------------------------------------------------------------------------

    def count(self, name: str, amount: int) -> None:
        """For a client: add to a counter. `received_bytes` is all that came in, with answers and listings; `requests`
        where the remote says that it counts them (`Remote.counts_requests`)."""
        self.counters.add(name, amount)

    def _root(self, folder: str) -> _Root:
        try:
            return self._roots[folder]
        except KeyError:
            raise Anew(f"the replica {self.roots.get(folder, folder)} was not identified") from None

    def _spooling(self) -> Spool:
        if self._spool is None:
            self._spool = Spool(os.path.join(self.workspace or self._cache(), "spool"))
        return self._spool

    def _memories(self, folder: str) -> str:
        name = blake3(folder.encode(errors="surrogateescape")).hexdigest()[:16]
        return os.path.join(self.workspace or self._cache(), f"able-{name}")

    def _cache(self) -> str:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        name = blake3(f"{self.service}\0{sorted(self.roots.items())}".encode(errors="surrogateescape")).hexdigest()[:16]
        return os.path.join(base, "onitu", name)


def _refused(order: Order, denied: Refused) -> Event:
    reason = f"{paths.show(order.path)} cannot be changed: {denied.reason}"
    return Event(Seen.FAILED, order.path, trouble=denied.trouble, reason=reason, order=order.number)
