"""One replica's life in its driver: identified, welcomed, marked, observed, ordered about; and again from the beginning
whenever its root goes away.

The marker has two phases (S6). Before a `Hello` it says which generation is *pending*; the Referee commits that one,
and on its `Welcome` the marker confirms it. So at any instant the generation in the store is one of the two in the
marker, unless either of them was put back to an earlier time. A pending generation that was not confirmed is said
again, never replaced by a higher one: the store may have it already. For the same reason a `Welcome` that comes late,
and speaks of a generation before the pending one, does not touch the marker. Nobody can guess the next generation: a
replica that was put back to yesterday would else come to the number that the store has already. A new
replica is marked once it was accepted, and then says Hello anew, so that the Referee knows its marker before anything
is done with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import attrs
import logbook
import trio
from blake3 import blake3

import onitu
from onitu.model.errors import Anew, Unavailable
from onitu.model.orders import Order
from onitu.model.outside import Outside
from onitu.model.settings import Settings
from onitu.wire.messages import Command, Expected, ReplicaState

from .audit import Auditor
from .bell import Bell
from .deeds import Deeds
from .driver import Capabilities, Driver, Identity
from .familiar import Familiar
from .floor import Floor
from .inbox import Inbox
from .lookups import Lookups
from .observer import Observer
from .outbox import Outbox
from .sheet import FileSheet, Sheet
from .told import Told
from .transfers import Transfers

FIRST_RETRY = 1.0
LAST_RETRY = 30.0
"""Seconds between two looks for a root that is not there: at first, and at most."""
ADVANCE = 10.0
"""Seconds after which, where something was told, the marker gets another generation: by that a replica is known that
was put back to what it was before (S6). What changes in this time after a backup is the window that remains."""
POLL = 60.0
"""Seconds between two scans of a service that cannot be watched, where its options do not say."""

log = logbook.Logger("plug")


class Replica:
    """One folder on this service. `run` it; the session calls the rest, none of which waits.

    Attributes:
        state: what a `Hello` says of it; None: not looked at yet.
        auditor: its audits.
        outbox: its events.
        greet: set where a `Hello` is to be said anew; the session clears it.
    """

    def __init__(
        self, driver: Driver, settings: Settings, service: str, folder: str, epoch: str, wake: Bell,
        lookups: Lookups, transfers: Transfers, outside: Outside, sheet: Callable[[str], Sheet] = FileSheet,
    ) -> None:  # fmt: skip
        replica = settings.services[service].replicas[folder]
        self.folder = folder
        self._service = service
        self.state: ReplicaState | None = None
        self.greet = False
        self._driver = driver
        self._outside = outside
        self._wake = wake
        self._watch = settings.watch
        self._lookups = lookups
        hiding = (settings.folders[folder].filter, replica.filter)
        path = _file(settings, "familiar", service, folder)
        eyes = repr((onitu.__version__, hiding)).encode(errors="backslashreplace")
        self._told = Told(Familiar(sheet(path) if path and driver.compares else None, eyes))
        self.outbox = Outbox(folder, epoch, self._told, wake.ring)
        path = _file(settings, "deeds", service, folder)
        self._deeds = Deeds(sheet(path) if path else None)
        self._floor = Floor(driver, folder, hiding, self.outbox, self._told, lookups, self._deeds)
        self._inbox = Inbox(self._floor, transfers, self._mark)
        self.auditor = Auditor(self._floor, "r" in replica.mode, lambda: self.looking, wake.ring)
        self._observer: Observer | None = None
        self._to_scan = False
        self._poll = float(settings.services[service].options.get("poll", POLL) or POLL)
        self._identity = Identity()
        self._marking = trio.Lock()
        self._expected: Expected | None = None
        self._welcomed = Bell()
        self._committed = Bell()
        self._failing = trio.CancelScope()

    @property
    def looking(self) -> int:
        """How much is still to be looked at before everything that was seen is in batches that were sent; where changes
        are watched for, that includes what orders displaced and what is not settled yet."""
        unsettled = self._driver.unsettled(self.folder) if self._watch else 0
        return (self._observer.looking if self._observer is not None else 0) + self.outbox.unsent + unsettled

    @property
    def waits(self) -> str:
        """What the driver waits for, for people."""
        return self._driver.waits(self.folder)

    # --- what the session says ----------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Before a `Hello`: see to it that the marker has a pending generation."""
        if self.state is None or self.state.trouble or not self._identity.marker or self._driver.look_only:
            return
        try:
            async with self._marking:
                was = self._identity
                pending = was.pending if was.pending > was.generation else self._after(was.generation)
                self._deeds.carry((was.generation, was.pending), (was.generation, pending))
                if pending != was.pending:
                    await self._mark_as(attrs.evolve(was, pending=pending))
        except Unavailable as error:
            self._say(trouble=str(error))
            self._failing.cancel()

    def welcome(self, expected: Expected, new_run: bool) -> None:
        """The Referee's answer to the last `Hello`."""
        if new_run:
            self.auditor.ask(0)
            self._floor.term += 1
            self.outbox.forget_orders()
        self.outbox.rewind(expected.number)
        self._deeds.committed(self.outbox.committed)
        self._told.forget()
        self._inbox.forget()
        self._floor.known = expected.known > 0 or not self.outbox.empty
        self._floor.tally = expected.tally
        self._expected = expected
        self._welcomed.ring()

    def acknowledged(self, epoch: str, number: int) -> None:
        """Batches up to `number` are committed."""
        if self.outbox.acknowledged(epoch, number):
            self._deeds.committed(self.outbox.committed)
            self._told.committed(self.outbox.committed, self._lookups.newest)
            self._told.purge(self._lookups.oldest_open)
        self._committed.ring()

    def orders(self, orders: tuple[Order, ...]) -> None:
        """Orders came. While the replica cannot be used a new `Hello` is on its way, which makes the Referee forget
        them."""
        if self.state is not None and not self.state.trouble:
            self._inbox.take(orders)

    def command(self, command: Command) -> None:
        """`rescan`, `pause`, `resume`."""
        match command.what:
            case "pause":
                self._inbox.pause()
            case "resume":
                self._inbox.resume()
            case "rescan" if self._observer is not None:
                self._observer.rescan(command.directories)

    def keep(self) -> None:
        """Before the end: keep for the next life what it may take on trust."""
        self._told.familiar.keep()

    # --- its life -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_RETRY
        while True:
            await self._identify()
            began = trio.current_time()
            try:
                with trio.CancelScope() as self._failing:
                    await self._live()
            except* Anew as group:
                log.info("{}: {}", self.folder, _sentence(group))
            except* Unavailable as group:
                self._say(trouble=_sentence(group))
                # A root that can be looked at and not be used (a full disk) is not to be tried in a tight loop.
                pause = FIRST_RETRY if trio.current_time() - began > LAST_RETRY else min(2 * pause, LAST_RETRY)
                await trio.sleep(pause)
            finally:
                self._observer = None
                self._expected = None

    async def _identify(self) -> None:
        """Look for the root until it is there, ever more seldom, and say so."""
        pause = FIRST_RETRY
        while True:
            try:
                self._identity = await self._driver.identify(self.folder)
                self._expected = None
                self._say()
                return
            except Unavailable as error:
                self._say(trouble=str(error))
            await trio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)

    async def _live(self) -> None:
        """Follow the Referee's answers: work while it accepts the replica."""
        at_work, self._to_scan = False, False
        async with trio.open_nursery() as nursery:
            while True:
                while self._expected is None:
                    await self._welcomed.wait()
                expected, self._expected = self._expected, None
                if not expected.accepted:
                    log.warning("{}: not accepted: {}", self.folder, expected.reason)
                    nursery.cancel_scope.cancel()
                    break
                new = not self._identity.marker and not self._driver.look_only
                await self._confirm(expected.generation)
                if new:
                    self._say()
                    continue
                if self._observer is not None and expected.scan:
                    self._observer.rescan()
                elif self._observer is None:
                    self._to_scan = self._to_scan or expected.scan
                if not at_work:
                    at_work = True
                    nursery.start_soon(self._work)
        self._observer = None
        await self._until_accepted()

    async def _until_accepted(self) -> None:
        """Wait for a better answer; or until the root is another one, so that a disk that is mounted again is found."""
        pause = FIRST_RETRY
        while self._expected is None or not self._expected.accepted:
            self._expected = None
            with trio.move_on_after(pause):
                await self._welcomed.wait()
                continue
            pause = min(2 * pause, LAST_RETRY)
            if await self._driver.identify(self.folder) != self._identity:
                return

    async def _work(self) -> None:
        await self._floor.retell()  # another answer may come meanwhile
        self._observer = observer = Observer(self._floor, self._wake, self._poll, self._outside)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._inbox.run)
            nursery.start_soon(self.auditor.run)
            nursery.start_soon(self._advance)
            await observer.run(self._watch, self._to_scan)

    # --- the marker ---------------------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Have the generation move on while something happens, as a `Hello` does: first the marker says which is
        pending, then the Referee commits it, then the marker has it. Until cancelled."""
        told = self.outbox.position
        while True:
            await trio.sleep(ADVANCE)
            if self.outbox.position == told:
                continue
            told = self.outbox.position
            await self.prepare()
            if pending := self._identity.pending:
                self.outbox.advance(pending)
                while self.outbox.generation != pending:
                    await self._committed.wait()
                await self._confirm(pending)

    async def _confirm(self, generation: int) -> None:
        """The Referee has committed this generation."""
        if self._driver.look_only:
            return
        async with self._marking:
            if not self._identity.marker:
                await self._mark_as(Identity(self._outside.name(128), generation, self._after(generation)))
            elif generation == self._identity.pending:
                # From here on nothing that is told of the earlier generation is believed of what is put back to it.
                self._deeds.carry((), (generation,))
                await self._mark_as(Identity(self._identity.marker, generation, 0))

    def _after(self, generation: int) -> int:
        """A later generation that nobody else comes to."""
        return generation + 1 + self._outside.bits(40)

    async def _mark_as(self, identity: Identity) -> None:
        await self._driver.mark(self.folder, identity)
        self._identity = identity
        if self.state is not None and not self.state.trouble:
            self.state = _state(identity, self._driver.capabilities(self.folder))

    def _say(self, trouble: str = "") -> None:
        """The state changed: have a `Hello` said, unless the last one said just that."""
        if trouble:
            # Wherever it is told, the name of the service stands before it.
            state = ReplicaState(trouble=trouble.removeprefix(f"{self._service}: "))
            if state == self.state:
                return
            log.info("{}: {}", self.folder, state.trouble)  # the Referee tells people
        else:
            state = _state(self._identity, self._driver.capabilities(self.folder))
        self.state, self.greet = state, True
        self._wake.ring()

    def _mark(self, path: bytes) -> None:
        if self._observer is not None:
            self._observer.mark(path)


def _file(settings: Settings, what: str, service: str, folder: str) -> str:
    """Where something of a replica is written down for its next life; empty: nowhere."""
    if not settings.state or settings.dry_run:
        return ""
    name = blake3(f"{service}\0{folder}".encode(errors="surrogateescape")).hexdigest()[:16]
    return os.path.join(settings.state, what, name)


def _state(identity: Identity, capabilities: Capabilities) -> ReplicaState:
    able = {name: able for name, able in attrs.asdict(capabilities).items() if isinstance(able, bool)}
    return ReplicaState(identity.marker, identity.generation, identity.pending, "", able)


def _sentence(group: BaseExceptionGroup[Unavailable]) -> str:
    """The text of the first error in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
