"""The floor of one replica: observations are confirmed and orders carried out here, one after the other.

The Referee takes a service's stream of events for the order in which things happened there. So whoever has seen
something takes the floor, looks once more, and puts the event into the outbox before leaving it; orders are performed
on the same floor. An observation that was overtaken by an order can therefore never be told after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec
import trio
from msgspec.structs import replace

from onitu.model import filters, paths
from onitu.model.errors import ProtocolError
from onitu.model.events import AGAIN, BESIDE, Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.settings import Filter
from onitu.model.versions import NOTHING, Kind, Same, Version, same_content
from onitu.wire.messages import Known

from .deeds import Deeds
from .driver import Capabilities, Driver, Entry, Staged
from .lookups import Lookups
from .outbox import Outbox
from .told import Told

DIRECTORIES = 64
"""Directories in one scan call and in one lookup."""
PATHS = 1024
"""Paths in one lookup."""

_NO_FILTER = Filter()


class Move(msgspec.Struct, frozen=True):
    """A thing that was renamed: the row of its old path, what stands at the new one, and the token by which that is to
    be known from now on."""

    row: Known
    entry: Entry
    token: bytes


class Floor:
    """One replica: its driver, what was told of it, its outbox, and the lock.

    Attributes:
        known: whether the Referee may know anything of this replica; False spares the first scan every lookup.
        tally: the Referee's own of what it knows of this replica, as it was at its last Welcome.
        term: counts the Referee's runs; numbers of orders of an earlier term mean nothing any more.
        vanished: what was told again and stands there no more: the next full scan has to look for it, for it meets only
            what is in a directory that stands or that is known, and of these the Referee may know nothing.
    """

    def __init__(
        self, driver: Driver, folder: str, hiding: Sequence[Filter], outbox: Outbox, told: Told, lookups: Lookups,
        deeds: Deeds | None = None,
    ) -> None:  # fmt: skip
        """`hiding`: the filters of the folder and of the replica."""
        self.driver = driver
        self.folder = folder
        self.outbox = outbox
        self.told = told
        self.known = True
        self.tally = b""
        self.term = 0
        self.vanished: dict[bytes, Known] = {}
        self.deeds = deeds or Deeds()
        self._lookups = lookups
        self._filters = [one for one in hiding if one != _NO_FILTER]
        self._lock = trio.Lock()

    # --- looking ------------------------------------------------------------------------------------------------

    def hides(self, path: bytes, version: Version = NOTHING) -> str | None:
        """Why the path, with this version, is not managed here; None: it is."""
        return filters.hides(self._filters, path, version)

    async def stat(self, wanted: Sequence[bytes]) -> list[Entry | None]:
        """What stands at each path, off the floor: where to look, not yet what to tell."""
        return await self.driver.stat(self.folder, wanted) if wanted else []

    async def rows(
        self, directories: Sequence[bytes], known: bool = True, strays: dict[bytes, Known] | None = None
    ) -> list[dict[bytes, Known]]:
        """For each directory, what the Referee knows in it or will know once it has heard everything, by path.

        Args:
            known: False where it knew nothing at all, so that it need not be asked.
            strays: takes what it knows in a directory of the same name in another Unicode form.
        """
        if not known:
            return [self.told.overlay(directory, ()) for directory in directories]
        found: list[dict[bytes, Known]] = []
        for start in range(0, len(directories), DIRECTORIES):
            portion = directories[start : start + DIRECTORIES]
            for directory, rows in zip(portion, await self._lookups.ask(self.folder, portion), strict=True):
                here: list[Known] = []
                for row in rows:
                    if _is_spelled_so(row, directory):
                        here.append(row)
                    elif strays is not None:
                        strays[row.path] = row
                found.append(self.told.overlay(directory, here))
        self.told.purge(self._lookups.oldest_open)
        return found

    async def rows_at(self, wanted: Sequence[bytes]) -> dict[bytes, Known]:
        """What the Referee knows at these paths, or will know once it has heard everything. However much there is
        beside them, nobody has to tell it."""
        found: dict[bytes, Known] = {}
        for start in range(0, len(wanted), PATHS):
            portion = wanted[start : start + PATHS]
            (rows,) = await self._lookups.ask(self.folder, (), portion)
            if strange := {row.path for row in rows}.difference(portion):
                raise ProtocolError(f"an Index has {paths.show(min(strange))!r}, which nobody asked for")
            found |= self.told.overlay_at(portion, rows)
        self.told.purge(self._lookups.oldest_open)
        return found

    async def rows_below(self, directories: Sequence[bytes]) -> list[Known]:
        """Every known row below these directories, in whatever Unicode form; those of a directory after the directory
        itself."""
        found: dict[bytes, Known] = {}
        level = list(directories)
        while level:
            rows: dict[bytes, Known] = {}
            for known in await self.rows(level, strays=rows):
                rows |= known
            level = [path for path, row in rows.items() if row.version.kind is Kind.DIRECTORY and path not in found]
            found |= rows
        return list(found.values())

    # --- telling ------------------------------------------------------------------------------------------------

    async def tell(self, events: Sequence[Event], scanned: bool = False) -> None:
        """Put events into the outbox that no look can confirm: what is hidden, the end of a scan."""
        if events or scanned:
            await self.outbox.room()
            async with self._lock:
                self.outbox.put(events, scanned)

    async def tell_standing(
        self,
        entries: Sequence[Entry],
        since: int,
        seen: Sequence[bytes] | None = None,
        known: Mapping[bytes, Version] = MappingProxyType({}),
    ) -> list[bytes]:
        """Tell what still stands as it was seen. Returns the other paths: they have to be looked at again.

        `since`: the outbox's position when the look began: what an order made of it since then was told already.
        `seen`: the tokens by which the things are known again, where a driver gave others to what it read just now
        (it does so where its clock could not tell one more change apart).
        `known`: what the Referee knows to stand at some of the paths.
        """
        if not entries:
            return []
        tokens = [entry.token for entry in entries] if seen is None else seen
        able = self.driver.capabilities(self.folder)
        await self.outbox.room()
        async with self._lock:
            now = await self.stat([entry.path for entry in entries])
            events, doubtful = [], []
            for entry, token, found in zip(entries, tokens, now, strict=True):
                if found is None or found.trouble or found.kind is not entry.kind or found.token != token:
                    doubtful.append(entry.path)
                elif not self.told.says(found, since):
                    version = found.version.with_digests({**found.version.digests, **entry.version.digests})
                    version = able.as_known(version, known.get(entry.path, NOTHING))
                    events.append(Event(Seen.STANDS, entry.path, version, entry.token))
            self.outbox.put(events)
        return doubtful

    async def tell_gone(self, gone: Sequence[bytes]) -> list[bytes]:
        """Tell where nothing stands, positively. Returns the paths where something does."""
        if not gone:
            return []
        await self.outbox.room()
        async with self._lock:
            now = await self.stat(gone)
            self.outbox.put([Event(Seen.GONE, path) for path, seen in zip(gone, now, strict=True) if seen is None])
        return [path for path, seen in zip(gone, now, strict=True) if seen is not None]

    async def tell_moved(self, moves: Sequence[Move]) -> list[Move]:
        """Tell moves: nothing stands at the old path, and at the new one what stood there. Returns the others."""
        if not moves:
            return []
        able = self.driver.capabilities(self.folder)
        await self.outbox.room()
        async with self._lock:
            now = await self.stat([*(m.row.path for m in moves), *(m.entry.path for m in moves)])
            events, doubtful = [], []
            for move, old, new in zip(moves, now[: len(moves)], now[len(moves) :], strict=True):
                if old is not None or new is None or new.trouble or new.token != move.entry.token:
                    doubtful.append(move)
                    continue
                version = able.as_known(replace(new.version, digests=move.row.version.digests), move.row.version)
                events.append(Event(Seen.MOVED, new.path, version, move.token, source=move.row.path))
            self.outbox.put(events)
        return doubtful

    def same_thing(self, row: Known, entry: Entry) -> bool:
        """Whether the entry seems to be the file of the row under another name, with the same content.

        Never an empty file (they are all alike), and never what was not read yet: a move carries its digests on.
        """
        version = row.version
        if version.kind is not Kind.FILE or entry.kind is not Kind.FILE or not version.size or not version.digests:
            return False
        identity = self.driver.identity_of(row.token)
        return identity is not None and identity == self.driver.identity_of(entry.token)

    # --- acting -------------------------------------------------------------------------------------------------

    async def perform(
        self,
        orders: Sequence[Order],
        staged: Mapping[int, Staged],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
        postpone: frozenset[int],
        done: Callable[[Order], None],
    ) -> list[Order]:
        """Carry out orders and put what came of them into the outbox; `done` is called for each that was, before.

        Returns those of the orders in `postpone` whose local sources had the content no more: they are not answered
        yet, another source may have it.

        Raises:
            Unavailable: the replica's root is gone; nothing was told.
        """
        async with self._lock:
            term = self.term
            self.deeds.begin(orders)
            outcomes = await self.driver.perform(self.folder, orders, staged, local)
            able = self.driver.capabilities(self.folder)
            events: list[Event] = []
            again: list[Order] = []
            for order, outcome in zip(orders, outcomes, strict=True):
                if order.number in postpone and _source_lost(outcome):
                    again.append(order)
                else:
                    events += [_as_known(event, order, able) for event in _answering(order, outcome)]
                    if events[-1].seen is Seen.DONE:
                        done(order)
            if self.term != term:
                events = [replace(event, order=0) for event in events]
            self.outbox.put(events)
            self.deeds.end(events, self.outbox.position)
        return again

    async def retell(self) -> None:
        """Tell what orders of an earlier life did, which may not have been told. Raises `Unavailable`."""
        if not self.deeds.left():
            return
        async with self._lock:
            events: list[Event] = []
            for deed in self.deeds.left():
                events += [event if event.order == BESIDE else replace(event, order=AGAIN) for event in deed.events]
                events += await self._carried_out(deed.orders)
            self.known = self.known or bool(events)  # the Referee will: what was done to them since is to be looked for
            put = [event for event in events if event.version.exists]
            now = await self.stat([event.path for event in put])
            rows = [Known(event.path, event.token, event.version) for event in put]
            self.vanished = {row.path: row for row, entry in zip(rows, now, strict=True) if entry is None}
            self.outbox.put(events)
            self.deeds.retold(events, self.outbox.position)

    async def _carried_out(self, orders: Sequence[Order]) -> list[Event]:
        """Of orders that were begun, those whose effect stands. The scan that follows tells the tokens."""
        before = await self.stat([order.path for order in orders])
        after = await self.stat([order.target or order.path for order in orders])
        files = [entry for entry in after if entry is not None and entry.kind is Kind.FILE and not entry.trouble]
        read = await self.driver.fingerprint(self.folder, files) if files else []
        stands = {entry.path: entry.version for entry in (*after, *read) if entry is not None and not entry.trouble}
        done: list[Event] = []
        for order, old in zip(orders, before, strict=True):
            path = order.target or order.path
            gone, now = old is None, stands.get(path, NOTHING)
            same = now.exists and same_content(now, order.version) is Same.YES
            if order.do is Do.DELETE and gone:
                done.append(Event(Seen.DONE, path, order.version, order=AGAIN))
            elif (order.do is Do.PUT and same) or (order.do is Do.MOVE and gone and same):
                source = order.path if order.do is Do.MOVE else b""
                done.append(Event(Seen.DONE, path, order.version, source=source, order=AGAIN))
        return done


def _is_spelled_so(row: Known, directory: bytes) -> bool:
    """Whether a row lies in the directory that was asked for; False: in one of the same name in another Unicode form. A
    row's path is used on the service, so anything else is an error."""
    try:
        above = paths.parent(paths.checked(row.path))
    except paths.BadPath as error:
        raise ProtocolError(f"in an Index: {error}") from None
    if above == directory:
        return True
    if paths.key(above) == paths.key(directory):
        return False
    raise ProtocolError(f"an Index has {paths.show(row.path)!r} in {paths.show(directory)!r}")


def _source_lost(outcome: Sequence[Event]) -> bool:
    return len(outcome) == 1 and outcome[0].seen is Seen.FAILED and outcome[0].trouble is Trouble.SOURCE_LOST


def _answering(order: Order, outcome: Sequence[Event]) -> list[Event]:
    """The outcome with exactly one answer in it, whatever the driver did: credit must come back.

    The answer comes last, so that where a displaced value went is told before what took its place. What came out beside
    the order is an observation, whatever the driver calls it (S1); but that what was expected is kept where it was to
    be is the order's own doing: a copy that was deleted meanwhile must not stand again (S4).
    """
    answers = [event for event in outcome if event.order == order.number]
    beside = [_observed(event, order) for event in outcome if event.order != order.number]
    if len(answers) != 1:
        beside += [replace(_observed(event, order), order=0) for event in answers]
        answers = [refusal(order, Trouble.IO, "the driver did not tell what became of it")]
    return beside + answers


def _as_known(event: Event, order: Order, able: Capabilities) -> Event:
    """The answer; where it says what was found, with what the service does not tell of that as it was known."""
    if event.seen is not Seen.STANDS or event.path != order.path or order.held is None:
        return event
    return replace(event, version=able.as_known(event.version, order.held))


def _observed(event: Event, order: Order) -> Event:
    if event.seen is not Seen.DONE or (order.keep and event.path == order.keep and event.version == order.held):
        return event
    return replace(event, seen=Seen.STANDS if event.version.exists else Seen.GONE)


def refusal(order: Order, trouble: Trouble, reason: str) -> Event:
    """The answer to an order that was not carried out."""
    return Event(Seen.FAILED, order.path, order=order.number, trouble=trouble, reason=reason)
