"""What one commit will hold: changes pile up here while events are decided one after the other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import logbook
import msgspec
import trio
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.events import Event, Seen, Trouble
from onitu.model.nodes import Holding, Node
from onitu.model.orders import Do, Order
from onitu.model.tally import Tally, thing
from onitu.model.versions import Kind
from onitu.store.interface import Change, Entry, Problem

from . import machine
from .link import GIVE_UP, Link
from .machine import Case, Decision, observe
from .plain import brought, created, decide
from .planner import in_the_way, left, tidy
from .view import Need

if TYPE_CHECKING:
    from .folder import FolderReferee

log = logbook.Logger("referee")

_TOTALS = {Do.PUT: "puts", Do.DELETE: "deletes", Do.MOVE: "moves", Do.META: "metas"}

_CLASH, _BLOCKED = "clash", "blocked"
_UNREAD = frozenset(
    {Trouble.DENIED, Trouble.IO, Trouble.UNAVAILABLE, Trouble.NAME_CLASH, Trouble.NAME_IMPOSSIBLE},
)
"""Why something that is to be managed is not: its driver cannot look at it, or no path can mean it."""

_SEEN = ("", *(seen.name.lower() for seen in sorted(Seen)))
_STANDS, _DONE = Seen.STANDS, Seen.DONE
_CREATED = Case.CREATED.value
_KINDS = tuple(kind.name.lower() for kind in sorted(Kind))

_PASSING = frozenset({Trouble.SOURCE_LOST, Trouble.NOT_EMPTY, Trouble.STOPPED, Trouble.UNAVAILABLE})
"""What may be over in a moment, by an event or an order that is on its way."""


class _Sums(msgspec.Struct):
    """What many plain events of a service come to.

    Attributes:
        came: what it holds now and did not before, as it is tallied.
        went: what it held before and does not now.
        files: so many are more in the folder.
        size: so many bytes.
    """

    came: list[bytes] = msgspec.field(default_factory=list)
    went: list[bytes] = msgspec.field(default_factory=list)
    files: int = 0
    size: int = 0


class Round:
    """See the module.

    Attributes:
        change: what the commit writes.
        touched: the paths at which something may be left to do now. For whom, where that is known already; else None.
        left: for whom something is left to do at them; known at the end.
        known: by service, how many paths more it holds.
        tallied: the services whose tally has changed.
        news: what else is to be told once it is committed.
        decisions: what was decided, as it is told.
        looks: directories that somebody has to look at again.
        unmanaged: the paths of which a service told something that is left as it is there.
    """

    def __init__(self, referee: FolderReferee) -> None:
        self.referee = referee
        self.change = Change()
        self.touched: dict[bytes, Sequence[str] | None] = {}
        self.left: dict[bytes, Sequence[str]] = {}
        self.known: dict[str, int] = {}
        self.tallied: dict[str, None] = {}
        self.news: list[tuple[str, dict[str, Any]]] = []
        self.decisions: list[dict[str, Any]] = []
        self.looks: dict[tuple[str, bytes], None] = {}
        self.unmanaged: set[bytes] = set()

    async def events(self, link: Link, events: Sequence[Event]) -> None:
        """Decide events of a service, one after the other."""
        start = self.plain(link, events, 0)
        while start < len(events):
            await self.event(link, events[start])
            start = self.plain(link, events, start + 1)

    def plain(self, link: Link, events: Sequence[Event], start: int) -> int:
        """Decide the events from a place on as long as they are plain; the place of the first that is not.

        What comes of them is what comes of them in `event`, in fewer steps: `tests/unit/referee/test_round.py` does
        both.
        """
        referee, service, rules = self.referee, link.service, self.referee.rules
        nodes, put, sums = referee.view.nodes, referee.view.put, _Sums()
        others = rules.takers and [taker for taker in rules.takers if taker != service]
        for place in range(start, len(events)):
            event = events[place]
            try:
                path = paths.key(paths.checked(event.path))
                if event.source:
                    paths.checked(event.source)
            except paths.BadPath:
                break
            order = link.in_flight.get(event.order) if event.order else None
            if event.order and (order is None or not _is_just(order, event)):
                break
            if order is not None:
                node = brought(nodes, service, event, path) if event.seen is _DONE else None
            else:
                new = event.seen is _STANDS
                node = created(nodes, rules, service, event, path, event.version, referee.seq + 1) if new else None
            if node is None:
                decision = decide(nodes, rules, service, event, path, referee.seq)
                if decision is None:
                    break
                self._take_plainly(link, event, order, decision, others, sums)
                continue
            # Nearly all events are one of these two, and a dictionary more would be felt.
            if order is not None:
                self._ordered(link, event, order)
                link.retry.pop(path, None)
                self.touched[path] = None if others is None else _left(node, others)
                if node.origin:
                    self.touched[node.origin] = None
            else:
                referee.seq += 1
                sums.files += 1
                sums.size += node.head.size
                self._journal(path, service, _CREATED, "", event)
                self.touched[path] = others
            self._solved(link, path)
            put(node)
            self.change.nodes[path] = node
            sums.came.append(thing(event.path, node.head.kind, event.token))
        else:
            place = len(events)
        if sums.files or sums.size:
            self._found(sums.files, sums.size)
        if sums.came or sums.went:
            tally = referee.tallies.setdefault(service, Tally())
            tally.see_all(sums.came, ())
            tally.miss_all(sums.went)
            self.tallied[service] = None
            self.known[service] = self.known.get(service, 0) + len(sums.came) - len(sums.went)
        return place

    def _ordered(self, link: Link, event: Event, order: Order) -> None:
        """An order was carried out."""
        link.answered(event.order)
        self.referee.pace.answered[link.service] = trio.current_time()
        self._total(order)

    def _take_plainly(
        self,
        link: Link,
        event: Event,
        order: Order | None,
        decision: Decision,
        others: Sequence[str] | None,
        sums: _Sums,
    ) -> None:
        """What `take` and `_account` do, where only what this service holds has changed, and that is no directory.

        `others`: who else takes whatever there is; None: a rule or a filter has to be asked.
        """
        self.referee.seq = decision.seq
        if order is not None:
            self._ordered(link, event, order)
        else:
            self._write_down(link, event, decision)
        service, view = link.service, self.referee.view
        for path, node in decision.nodes.items():
            old = view.nodes[path]
            was, now = old.held.get(service), node.held.get(service)
            if was is not None:
                sums.went.append(thing(was.name or path, was.version.kind, was.token))
            if now is not None:
                sums.came.append(thing(now.name or path, now.version.kind, now.token))
            if old.head is not node.head:
                sums.files += node.head.carries_value - old.head.carries_value
                sums.size += node.head.size - old.head.size
                if not node.head.exists:
                    self.change.conflicts.setdefault(path, None)
            if order is not None:
                link.retry.pop(path, None)
            if order is not None or now is not None:
                self._solved(link, path)
            view.put(node)
            self.change.nodes[path] = node
            if order is None and node.head.exists:
                self.touched[path] = others  # it is new to all of them
            else:
                self.touched[path] = None if others is None else _left(node, others)
            for other in (*node.heirs, node.origin):
                if other and other not in decision.nodes:
                    self.touched[other] = None

    async def event(self, link: Link, event: Event) -> None:
        """Decide one event of a service. One that names a path that no replica may hold is dropped, and told."""
        referee = self.referee
        order = link.answered(event.order) if event.order else None
        if order is not None:
            referee.pace.answered[link.service] = trio.current_time()
            # What was to be planned at its other ends meanwhile had to wait for it, and is planned now (S2).
            self.touched |= {paths.key(end): None for end in (order.target, order.keep) if end}
        try:
            paths.checked(event.path)
            if event.source:
                paths.checked(event.source)
        except paths.BadPath as error:
            log.error("an event of {} is dropped: {}", link.service, error)
            return
        path = paths.key(event.path)
        hold_back = event.seen is Seen.GONE and await self._guarded(link, event, path)
        decision = await referee.at_hand(
            functools.partial(
                observe, referee.view, referee.rules, link.service, event, referee.seq, hold_back, referee.doubts
            )
        )
        referee.seq = decision.seq
        for node in decision.nodes.values():
            self.take(node)
        if decision.copies:
            self.change.conflicts.update(decision.copies)
        self._account(link, event, order, decision)
        self._write_down(link, event, decision)
        self.touched[path] = None

    async def hide(self, service: str, path: bytes) -> None:
        """A path, as the service spells it, is not known of it any more, whatever stands there."""
        referee, event = self.referee, Event(Seen.HIDDEN, path)
        decision = await referee.at_hand(
            lambda: observe(referee.view, referee.rules, service, event, referee.seq, False)
        )
        referee.seq = decision.seq
        for node in decision.nodes.values():
            self.take(node)

    async def _guarded(self, link: Link, event: Event, path: bytes) -> bool:
        """Whether this deletion is to be held back."""
        node = await self.referee.at_hand(lambda: self.referee.view[path])
        held = node.held.get(link.service)
        if held is None or held.excluded or not node.head.exists:
            return False
        if held.gone or node.head.kind is Kind.DIRECTORY:  # told again, or of no weight itself
            return link.guard.holding or link.guard.quarantined
        return link.guard.deletes(trio.current_time(), self.referee.counts.get("files", 0))

    def take(self, node: Node) -> None:
        """A node has changed."""
        referee = self.referee
        old = referee.view[node.path] if node.path in referee.view else Node(node.path)
        self._count(old, node)
        for service, now in node.held.items():
            was = old.held.get(service)
            if was is now:
                continue
            self._tally(service, node.path, was, now)
            if was is None:
                self.known[service] = self.known.get(service, 0) + 1
            if now.gone != (was is not None and was.gone):
                self.change.quarantine[service, node.path] = now.gone
        for service, was in old.held.items():
            if service not in node.held:
                self._tally(service, node.path, was, None)
                self.known[service] = self.known.get(service, 0) - 1
                if was.gone:
                    self.change.quarantine[service, node.path] = False
        referee.view.put(node)
        self.change.nodes[node.path] = node
        self.touched[node.path] = None
        for heir in node.heirs:
            self.touched[heir] = None
        if node.origin:
            self.touched[node.origin] = None

    def _tally(self, service: str, path: bytes, was: Holding | None, now: Holding | None) -> None:
        tally = self.referee.tallies.setdefault(service, Tally())
        if was is not None:
            tally.know(path, was, -1)
        if now is not None:
            tally.know(path, now)
        self.tallied[service] = None

    def _count(self, old: Node, new: Node) -> None:
        if old.head is new.head:
            return
        for node, sign in ((old, -1), (new, 1)):
            if node.head.carries_value:
                self._found(sign, sign * node.head.size)
        if old.head.exists and not new.head.exists:
            self.change.conflicts.setdefault(new.path, None)

    def _found(self, files: int, size: int) -> None:
        """So many files, and bytes, are more in the folder."""
        for name, amount in (("files", files), ("bytes", size)):
            self.referee.counts[name] = self.referee.counts.get(name, 0) + amount
            self.change.counts[name] = self.change.counts.get(name, 0) + amount

    # --- bookkeeping --------------------------------------------------------------------------------------------

    def _account(self, link: Link, event: Event, order: Order | None, decision: Decision) -> None:
        """What became of an order: the totals, the retries, the problems."""
        path = paths.key(event.path)
        if event.seen is Seen.FAILED:
            self._failed(link, event, order, path, trio.current_time())
        elif event.seen is Seen.DONE:
            link.retry.pop(path, None)
            self._solved(link, path)
            if order is not None:
                if order.path != event.path:
                    link.retry.pop(paths.key(order.path), None)
                    self._solved(link, paths.key(order.path))
                self._total(order)
        elif decision.case in (Case.HIDDEN, Case.FOREIGN, Case.CLASH):
            line = decision.lines[0]
            kind = _CLASH if decision.case is Case.CLASH else "unread" if event.trouble in _UNREAD else "hidden"
            self._problem(link, path, kind, line.outcome)
            self.unmanaged.add(path)
            link.told.add(path)
        elif event.seen is Seen.STANDS and decision.case is Case.UNCHANGED and link.is_full(path):
            pass  # that it stands there was known
        elif event.seen is not Seen.GONE or event.order == 0:
            self._solved(link, path)
        if order is not None and event.seen in (Seen.STANDS, Seen.GONE) and decision.case in machine.QUIET:
            # Refused, and nothing new was learned: not again at once.
            link.failed(paths.key(order.path), trio.current_time(), passing=True)

    def _failed(self, link: Link, event: Event, order: Order | None, path: bytes, now: float) -> None:
        arrives = path
        if order is not None:
            path, arrives = paths.key(order.path), paths.key(order.target or order.path)
        soon = event.trouble in _PASSING or self._waits_for_its_directory(link, arrives)
        full = event.trouble is Trouble.NOT_EMPTY and order is not None
        times = link.failed(path, now, soon, full)
        if full and order is not None and _sometimes(times):
            # Nothing that is known is in it any more: somebody has to look what is.
            self.looks[link.service, order.path] = None
        if times < GIVE_UP and soon:
            return
        if event.trouble is Trouble.SOURCE_LOST and order is not None:
            # What is known of the sources seems to be wrong, so somebody has to look there.
            self.looks |= {(source.service, paths.parent(source.path)): None for source in order.sources}
        self._problem(link, path, _BLOCKED, event.reason)

    def _waits_for_its_directory(self, link: Link, path: bytes) -> bool:
        """Whether an order for the directory above, where something else stands now, is still on its way."""
        try:
            return bool(in_the_way(self.referee.view, link.service, path))
        except Need:
            return False  # nobody has asked for what is above it

    def _problem(self, link: Link, path: bytes, kind: str, reason: str) -> None:
        key = (link.service, path)
        if key not in self.referee.troubled:
            log.notice("{}: {} on {}: {}", self.referee.folder, paths.show(path), link.service, reason)
            self.news.append(
                (
                    "trouble",
                    {"service": link.service, "path": paths.show(path), "kind": kind, "reason": reason},
                )
            )
        self.referee.troubled[key] = kind
        self.change.problems[key] = Problem(path, link.service, kind, reason)

    def _solved(self, link: Link, path: bytes) -> None:
        troubled = self.referee.troubled
        if troubled and troubled.get((link.service, path), _CLASH) != _CLASH:  # that ends with one of the two entries
            self._forget_problem(link.service, path)

    def _forget_problem(self, service: str, path: bytes) -> None:
        del self.referee.troubled[service, path]
        self.change.problems[service, path] = None

    async def end_scan(self, link: Link) -> None:
        """A service has told everything that stands there. Clashes that it did not tell are over; so is what could not
        be managed, but for what is known to be held there: of that only changes are told."""
        referee, service = self.referee, link.service
        untold = {path: kind for (s, path), kind in referee.troubled.items() if s == service and path not in link.told}
        link.told.clear()
        for path, kind in untold.items():
            if kind == _CLASH:
                self._forget_problem(service, path)
            elif kind != _BLOCKED:
                node = await referee.at_hand(lambda path=path: referee.view[path])  # type: ignore[misc]
                if service not in node.held:
                    self._forget_problem(service, path)

    def _end_clashes(self, path: bytes) -> None:
        """Where a service holds nothing at a path any more, the other entry of that name can be told."""
        referee = self.referee
        node = referee.view.nodes.get(path)
        for link in referee.links.values():
            clashes = referee.troubled.get((link.service, path)) == _CLASH
            if clashes and node is not None and link.service not in node.held:
                self._forget_problem(link.service, path)
                link.freed = True

    def _total(self, order: Order) -> None:
        totals = self.referee.totals
        name = _TOTALS.get(order.do)
        if name is not None:
            totals[name] = totals.get(name, 0) + 1
        if order.do is Do.PUT and order.version.kind is Kind.FILE:
            totals["files"] = totals.get("files", 0) + 1
            totals["bytes"] = totals.get("bytes", 0) + order.version.size

    def _write_down(self, link: Link, event: Event, decision: Decision) -> None:
        """The journal's lines: what was decided, on what evidence."""
        for line in decision.lines:
            if line.case in machine.QUIET:
                continue
            if line.case is Case.ADOPTED:
                self.referee.totals["adopted"] = self.referee.totals.get("adopted", 0) + 1
            self._journal(line.path, line.service, line.case.value, line.outcome, event)

    def _journal(self, path: bytes, service: str, case: str, outcome: str, event: Event) -> None:
        detail: dict[str, Any] = {"seen": _SEEN[event.seen], "order": event.order}
        version = event.version
        if version.kind:
            detail["kind"], detail["size"] = _KINDS[version.kind], version.size
            detail["mtime"], detail["mode"] = version.mtime, version.mode
            for name, digest in version.digests.items():
                detail[name] = digest.hex()
        if event.source:
            detail["source"] = paths.show(event.source)
        self.change.journal.append(Entry(path, service, case, outcome, detail, self.referee.outside.clock() / 1e9))
        self.decisions.append({"path": paths.show(path), "service": service, "case": case})

    # --- the end of a round -------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Work out what is left at everything that was touched, and tidy what nothing is left of."""
        referee, now = self.referee, trio.current_time()
        for path, known in list(self.touched.items()):
            if referee.troubled:
                self._end_clashes(path)
            services = known
            if services is None:
                services = await referee.at_hand(functools.partial(left, referee.view, referee.rules, path))
            for link in referee.links.values():
                if link.service not in services:
                    self._nothing_left(link, path, now)
            if services:
                self.left[path] = services
                self.change.todo[path] = referee.score
                continue
            self.change.todo[path] = None
            if referee.view[path].origin or referee.view[path].heirs:
                for node in await referee.at_hand(functools.partial(tidy, referee.view, referee.rules, path)):
                    self._replace(node)

    def _nothing_left(self, link: Link, path: bytes, now: float) -> None:
        """A service has nothing left to do at a path."""
        if link.retry:
            if path not in self.unmanaged:
                link.emptier(paths.parent(path), now)
            link.retry.pop(path, None)
        if self.referee.troubled and self.referee.troubled.get((link.service, path)) == _BLOCKED:
            self._solved(link, path)

    def _replace(self, node: Node) -> None:
        """Put a node without counting it as touched."""
        self.referee.view.put(node)
        self.change.nodes[node.path] = node

    async def release(self, link: Link, path: bytes, restore: bool) -> Sequence[bytes]:
        """A deletion that was held back is believed (or taken back, and the file restored). Returns the path, as the
        service spells it, where it is a directory's."""
        referee = self.referee
        self.change.quarantine[link.service, path] = False
        node = await referee.at_hand(lambda: referee.view[path])
        held = node.held.get(link.service)
        if held is None or not held.gone:
            return ()
        name = held.name or path
        directory = (name,) if held.version.kind is Kind.DIRECTORY else ()
        if restore:
            self.take(replace(node, held={s: h for s, h in node.held.items() if s != link.service}))
            return directory
        event = Event(Seen.GONE, name)
        decision = await referee.at_hand(lambda: observe(referee.view, referee.rules, link.service, event, referee.seq))
        referee.seq = decision.seq
        for changed in decision.nodes.values():
            self.take(changed)
        self._write_down(link, event, decision)
        return directory


def _is_just(order: Order, event: Event) -> bool:
    """Whether the event tells that just this was done, and nothing beside it."""
    if not event.source:
        return order.path == event.path and not (order.target or order.keep)
    return order.path == event.source and order.target == event.path and not order.keep


def _left(node: Node, others: Sequence[str]) -> Sequence[str] | None:
    """For whom of the others something is left to do at a node that was decided in a few steps; None: that takes more.

    They take whatever there is, and all that anybody holds was decided about (`onitu.referee.plain`).
    """
    held, head = node.held, node.head
    if not head.exists:
        return [other for other in others if other in held]
    for there in held.values():
        if there.version is not head:
            return None
    return [other for other in others if other not in held]


def _sometimes(times: int) -> bool:
    """After `GIVE_UP` times, and then ever more seldom."""
    turns, rest = divmod(times, GIVE_UP)
    return turns > 0 and not rest and turns & (turns - 1) == 0
