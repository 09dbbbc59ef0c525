"""One folder's referee: takes events in one serial order, decides, commits, acknowledges, and only then orders.

One task runs it (`run`) and owns everything in it; others reach it through its bounded inbox. Whatever is in memory is
derived from the store and can be lost at any instruction.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import logbook
import msgspec
import trio
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.nodes import Node
from onitu.model.orders import Order
from onitu.model.outside import REAL, Outside
from onitu.model.settings import Settings
from onitu.model.tally import Tally
from onitu.store.interface import Change, FolderStore, Meta, ServiceRecord
from onitu.wire.messages import Ack, Batch, Command, Index, Known, Lookup, Message, Orders

from . import machine
from .link import START, Link
from .pace import Pace
from .planner import can_be_had, in_the_way, left, plan
from .round import Round
from .rules import Rules
from .view import Need, View

log = logbook.Logger("referee")

T = TypeVar("T")

PAGE = 512
"""Paths that are read from the index of what is left at a time, and orders in one message."""

ROUND = 512
"""Events from which on a round takes no more of them: all that comes of them is in memory until they are committed."""

GAPS = 1_000
"""Gaps between sequence numbers that are remembered: one for each start."""

AT_HAND = 4_000
"""Nodes that are kept at hand at most, beside those of one round or page: they take about 1 kB each. With five times as
many nothing was faster."""

INDEX_BYTES = 1 << 20
"""Bytes in one message of an index, about: 400,000 files in one directory are more than a socket takes in one."""
_ROW_BYTES = 120
"""About what a row of it takes beside its path, token and link target."""

GRAIN = 0.02
"""Seconds that what is due may wait for other things that are due at about the same time."""

Send = Callable[[str, Message], Awaitable[bool]]
"""Send a message to a service's driver; False where it is not there."""

Tell = Callable[[str, str, dict[str, Any]], None]
"""Publish news: topic, folder, data. Never waits."""


class FolderReferee:
    """See the module. `open` it with `load`, then `run` it; `post` events and questions to it from other tasks."""

    def __init__(
        self, settings: Settings, folder: str, store: FolderStore, send: Send, tell: Tell, outside: Outside = REAL
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.store = store
        self.outside = outside
        self.rules = Rules.of(settings, folder)
        self.links = {service: Link(service) for service in self.rules.replicas}
        self.view = View()
        self.records: dict[str, ServiceRecord] = {}
        self.counts: dict[str, int] = {}
        self.tallies: dict[str, Tally] = {service: Tally() for service in self.rules.replicas}
        self.totals: dict[str, int] = {}
        self.seq = 0
        self.doubts = machine.NO_DOUBTS
        self.troubled: dict[tuple[str, bytes], str] = {}
        self.settled = trio.Event()
        self.pace = Pace()
        self._send = send
        self._tell = tell
        self._order = 0
        self._post, self._inbox = trio.open_memory_channel[Callable[[], Awaitable[None]]](256)
        self._batches: list[tuple[str, Batch]] = []
        self._alarm = float("inf")
        self._earlier = trio.Event()
        self._swept = settings.dry_run

    # --- life ---------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up where the store says that the last Referee stopped."""
        meta = await self.store.meta()
        await self._number(meta)
        self.records = dict(meta.services)
        self.counts = dict(meta.counts)
        await self._take_problems()
        await self._take_tallies()
        if meta.rules != self.rules.digest():
            await self._work_out_anew()
        for service, link in self.links.items():
            link.paused = self.record(service).paused
            link.newest = self.score
            link.restart()
            held_back = await self.store.quarantined(service, 1_000_000)
            if held_back:
                files, awaits = self.counts.get("files", 0), self.record(service).awaits
                link.guard.resume(trio.current_time(), len(held_back), files, awaits)
            else:
                await self._await_yes(link, False)

    async def _take_problems(self) -> None:
        """Those of services that are there; nobody would ever tell that the others' are over."""
        problems = {(p.service, p.path): p.kind for p in await self.store.problems(None, 1_000_000)}
        self.troubled = {key: kind for key, kind in problems.items() if key[0] in self.links}
        if over := problems.keys() - self.troubled.keys():
            await self.store.commit(Change(problems=dict.fromkeys(over)))

    async def _number(self, meta: Meta) -> None:
        """Go on with numbers that no earlier run has given, not even one whose last commits are lost: what was ordered
        from such a commit is known by its number then (S6)."""
        if not meta.seq:
            self.seq = self.outside.bits(22) << machine.ERA_BITS
            return
        self.seq = meta.seq + machine.LEAP + self.outside.bits(24)
        gaps = (*meta.gaps, (meta.seq, self.seq))[-GAPS:]
        self.doubts = machine.Doubts(gaps, meta.forgotten)
        await self.store.commit(Change(seq=self.seq, gaps=gaps))

    async def _take_tallies(self) -> None:
        """The tallies as they are stored; where one is not (the state is of an earlier Onitu), they are counted."""
        stored = {name: Tally.read(record.tally) for name, record in self.records.items()}
        if None not in stored.values():
            self.tallies |= {name: tally for name, tally in stored.items() if tally is not None}
            return
        self.tallies |= {name: Tally() for name in stored}
        async for page in self.store.walk():
            for node in page:
                for service, held in node.held.items():
                    self.tallies.setdefault(service, Tally()).know(node.path, held)

    async def _work_out_anew(self) -> None:
        """Other services, filters or rules than at the last run: what is left of every path may be another."""
        lost = 0
        async for page in self.store.walk():
            work = Round(self)
            self.view.load((node.path for node in page), {node.path: node for node in page})
            work.touched |= dict.fromkeys(node.path for node in page)
            for node in page:
                lost += await self._give_up(work, node, first=not lost)
            await self.commit(work, anew=True)
            self.view.forget()
        if lost:
            log.warning(
                "{}: {} files have their newest version only where Onitu does not look any more, as a service was taken"
                " out of the configuration; what the others have counts again",
                self.folder,
                lost,
            )
        await self.store.commit(Change(rules=self.rules.digest()))

    async def _give_up(self, work: Round, node: Node, first: bool) -> bool:
        """Withdraw a head that only services have which are not configured any more: all would wait for it for ever
        (S2). Should one of them come back, what it has there is met like something new."""
        gone = node.held.keys() - self.rules.replicas.keys()
        if not gone or await self.at_hand(lambda: can_be_had(self.view, self.rules, node.path)):
            return False
        if first:
            await self._doubt()
        for service in sorted(gone):
            await self._forget_at(work, service, node)
        return True

    async def run(self) -> None:
        """Work until cancelled. Everything that others post is done here, one after the other."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            while True:
                job = await self._inbox.receive()
                while True:
                    await job()
                    try:
                        job = self._inbox.receive_nowait()
                    except trio.WouldBlock:
                        break
                    if sum(len(b.events) for _, b in self._batches) >= ROUND:
                        await self._round()
                await self._round()

    async def post(self, job: Callable[[], Awaitable[None]]) -> None:
        """Have the folder's task do something; waits while its inbox is full."""
        await self._post.send(job)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Have the folder's task answer something."""
        answer: list[T] = []
        failure: list[Exception] = []
        done = trio.Event()

        async def job() -> None:
            await self._round()
            try:
                answer.append(await question())
            except Exception as error:  # it belongs to whoever asked
                failure.append(error)
            done.set()

        await self.post(job)
        await done.wait()
        if failure:
            raise failure[0]
        return answer[0]

    async def _tick(self) -> None:
        """Have done what is due though nothing happens; asleep while nothing will be."""
        while True:
            self._earlier, self._alarm = trio.Event(), self._next()
            with trio.move_on_after(max(0.0, self._alarm - trio.current_time()) + GRAIN):
                await self._earlier.wait()
                continue
            await self.ask(self._timers)

    def _next(self) -> float:
        return min([self.pace.next, *(link.next for link in self.links.values())])

    async def _timers(self) -> None:
        now = trio.current_time()
        for link in self.links.values():
            link.due(now)
            if link.guard.over(now):
                await self._judge(link)

    async def _round(self) -> None:
        """Decide what has come in, commit it, acknowledge it, and send what follows from it."""
        if self._batches:
            batches, self._batches = self._batches, []
            await self._decide(batches)
        if self.pace.waiting:
            await self._acknowledge()
        for link in self.links.values():
            # Until it hears that a clash was committed, a driver takes for known what clashed.
            if link.freed and link.scanned and link.service not in self.pace.waiting:
                link.freed = link.scanned = False
                await self.rescan(link.service)
        await self.feed()
        await self._look_settled()
        if self._next() < self._alarm:
            self._earlier.set()
        self._make_room()

    # --- what drivers say ---------------------------------------------------------------------------------------

    async def batch(self, service: str, batch: Batch) -> None:
        """A driver's batch; it is decided with the others that are there."""
        self._batches.append((service, batch))

    async def busy(self, service: str, looking: int, note: str) -> None:
        """A driver says how much it still has to look at."""
        await self._round()
        self.links[service].looking, self.links[service].note = looking, note

    async def lookup(self, service: str, question: Lookup) -> None:
        """A driver asks what its service is known to hold."""
        await self._round()
        # What a service spells in one Unicode form of a directory, it may spell in another elsewhere.
        directories = [paths.key(directory) for directory in question.directories]
        pages = await self.store.children(directories, self.view.nodes) if directories else []
        for nodes in pages:
            self.view.take_in(nodes)  # the other services ask for the same in a moment
        answers = [self._known(service, nodes) for nodes in pages]
        if question.paths:
            answers.append(await self._known_at(service, question.paths))
        for rows, more in _portions(answers):
            if not await self._send(service, Index(question.request, rows, more)):
                return

    def _known(self, service: str, nodes: list[Node]) -> Iterable[Known]:
        for node in nodes:
            held = node.held.get(service)
            if held is not None:
                yield Known(held.name or node.path, held.token, held.version, held.hidden, held.gone, held.unread)

    async def _known_at(self, service: str, wanted: Sequence[bytes]) -> Iterable[Known]:
        """What a service is known to hold at these paths, spelled so."""
        keys, asked = dict.fromkeys(map(paths.key, wanted)), frozenset(wanted)
        await self.fetch(keys)
        return [row for row in self._known(service, [self.view[key] for key in keys]) if row.path in asked]

    @property
    def score(self) -> int:
        """Under which score what is left is written down now; it grows with every commit."""
        return self.seq & (1 << machine.ERA_BITS) - 1

    def record(self, service: str) -> ServiceRecord:
        return self.records.get(service) or ServiceRecord(tally=bytes(Tally()))

    # --- deciding -----------------------------------------------------------------------------------------------

    async def at_hand(self, question: Callable[[], T]) -> T:
        """Ask the pure core; load what it needs and ask again, until it has an answer."""
        while True:
            try:
                return question()
            except Need as need:
                await self._load(need.nodes)
                for directory in need.children:
                    (found,) = await self.store.children((directory,))
                    self.view.load_children(directory, found)

    async def fetch(self, wanted: Iterable[bytes]) -> None:
        """Have these nodes at hand, for who holds none of the others: a hop into the store costs about as much for one
        as for hundreds, and a whole folder may be read page by page in one round."""
        self._make_room()
        await self._load(wanted)

    def _make_room(self) -> None:
        """Drop what is at hand where it has become too much."""
        if len(self.view) > AT_HAND:
            self.view.forget()

    async def _load(self, wanted: Iterable[bytes]) -> None:
        missing = self.view.missing(dict.fromkeys(wanted))
        if missing:
            self.view.load(missing, await self.store.nodes(missing))

    async def _decide(self, batches: list[tuple[str, Batch]]) -> None:
        work = Round(self)
        await self._load(_mentioned(batches))
        gone = Counter(s for s, b in batches for e in b.events if e.seen is Seen.GONE and self._destroys(s, e))
        for service, number in gone.items():
            self.links[service].guard.announce(trio.current_time(), number, self.counts.get("files", 0))
        acks: dict[str, None] = {}
        seen: list[Link] = []
        for service, batch in batches:
            link, record = self.links[service], self.record(service)
            if batch.epoch != record.epoch or batch.number > record.number + 1:
                continue  # of a dead driver, or after a gap: it comes again in its turn
            acks[service] = None
            if batch.number <= record.number:
                continue  # seen and committed; only the acknowledgement was lost
            await work.events(link, batch.events)
            if batch.scanned:
                await work.end_scan(link)
                if not link.scanned:
                    seen.append(link)
                link.scanned = True
            self.records[service] = msgspec.structs.replace(
                self.record(service),
                number=batch.number,
                generation=max(record.generation, batch.generation),
                known=max(0, self.record(service).known + work.known.pop(service, 0)),
            )
            work.change.services[service] = self.records[service]
        await self.commit(work)
        self.pace.waiting |= dict.fromkeys(acks)
        await self._acknowledge()
        for link in seen:
            if link.guard.holding:
                await self._judge(link, over=False)

    async def _acknowledge(self) -> None:
        """Tell the drivers what of theirs is committed, all but those that are to wait."""
        now = trio.current_time()
        if self.pace.is_old(now, self.counts.get("files", 0)):
            self.pace.count(now, await self.store.todo_count())
        for service in list(self.pace.waiting):
            if not self.pace.waits(service, len(self.links[service].in_flight), now):
                del self.pace.waiting[service]
                record = self.record(service)
                await self._send(service, Ack(self.folder, record.epoch, record.number))

    def _destroys(self, service: str, event: Event) -> bool:
        """Whether a deletion, as things stand now, takes a value from the others: not one that was ordered."""
        try:
            path = paths.key(paths.checked(event.path))
        except paths.BadPath:
            return False
        node = self.view[path]
        held = node.held.get(service)
        return node.head.carries_value and held is not None and not (held.excluded or held.gone)

    async def commit(self, work: Round, anew: bool = False) -> None:
        """Make a round durable, and hand what it touched to the planning of every service.

        `anew`: what is no longer left may stand in the index; else nothing is written where that is all there is.
        """
        self.seq += 1
        await work.settle()
        work.change.seq = self.seq
        for service in work.tallied:
            self.records[service] = msgspec.structs.replace(self.record(service), tally=bytes(self.tallies[service]))
            work.change.services[service] = self.records[service]
        if anew or work.change != Change(todo=work.change.todo, seq=self.seq) or any(work.change.todo.values()):
            await self.store.commit(work.change)
        for link in self.links.values():
            link.newest = self.score
        for path, services in work.left.items():
            for service in services:
                self.links[service].committed(path)
        if work.decisions:
            self._tell("decision", self.folder, {"decisions": work.decisions})
            self._tell("decided", self.folder, {"decisions": len(work.decisions)})
        for topic, data in work.news:
            self._tell(topic, self.folder, data)
        self._make_room()
        for service, directory in work.looks:
            await self.rescan(service, (directory,))
        await self._end_quarantines(work)

    # --- ordering -----------------------------------------------------------------------------------------------

    def sources(self) -> frozenset[str]:
        """The services that can be read from now."""
        return frozenset(link.service for link in self.links.values() if link.usable)

    async def feed(self) -> None:
        """Send every service what it can take now."""
        if self.settings.dry_run:
            return
        for link in self.links.values():
            if link.open and (link.ready or link.closing or link.behind):
                await self._feed(link)

    async def _feed(self, link: Link) -> None:
        orders: list[Order] = []
        now, sources = trio.current_time(), self.sources()
        filling: frozenset[bytes] | None = None
        hurried: set[bytes] = set()
        while link.open:
            if not (link.ready or await self._read_on(link) or link.closing):
                break
            path = link.take()
            if path not in self.view:
                await self.fetch([path, *link.upcoming(PAGE)])
            if path in link.busy or link.rests(path, now):
                continue
            todo = await self.at_hand(functools.partial(plan, self.view, self.rules, link.service, path, sources))
            if todo.order is None:
                link.despair(path)
                continue
            ends = (todo.order.target, todo.order.keep)
            if any(ends) and any(paths.key(other) in link.busy for other in ends if other):
                link.waits(path, now)  # another order is under way at its other end
                continue
            above = await self._in_the_way(link, todo.order)
            if above and not link.makes_directory(above):
                # What stands where its directory is to be gives way first.
                if above in link.busy or link.hopes_for(above):
                    link.waits(path, now)
                    continue
                if above not in hurried:
                    hurried.add(above)
                    link.hurry(above, path)
                    continue
            if todo.order.ends_a_directory:
                if link.puts_off(path):
                    continue
                filling = link.filling() if filling is None else filling
                if path in filling:
                    link.waits(path, now, full=True)
                    continue
            self._order += 1
            order = todo.order.numbered(self._order)
            link.send(order)
            orders.append(order)
        for start in range(0, len(orders), PAGE):
            if not await self._send(link.service, Orders(self.folder, tuple(orders[start : start + PAGE]))):
                link.connected = False
                return

    async def _in_the_way(self, link: Link, order: Order) -> bytes:
        """`in_the_way` of what an order brings, now or once what is under way is done."""
        if not order.version.exists:
            return b""
        arrives = paths.key(order.target or order.path)
        if coming := link.coming_above(arrives):
            return coming
        try:
            return in_the_way(self.view, link.service, arrives)
        except Need:  # hardly ever: the directories of what was decided are at hand
            return await self.at_hand(functools.partial(in_the_way, self.view, link.service, arrives))

    async def _read_on(self, link: Link) -> bool:
        """Read the next page of what is left from the store; whether there is anything to plan now."""
        while link.behind:
            page = await self.store.todo(link.cursor, PAGE)
            found = [path for score, path in page if score <= link.until]
            if len(found) < PAGE:
                link.behind = False
            else:
                link.cursor = page[-1]
            for path in found:
                link.add(path)
            if not link.behind:
                link.read_all()
            if link.ready:
                return True
        return bool(link.ready)

    # --- quiet --------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Once a run, when all is quiet: take out of the index of what is left what nothing is left of. A log of the
        store that was damaged can have such a line, and nobody would ever work it off."""
        self._swept, cursor = True, START
        while page := await self.store.todo(cursor, PAGE):
            cursor = page[-1]
            await self.fetch(path for _, path in page)
            idle = [p for _, p in page if not await self.at_hand(functools.partial(left, self.view, self.rules, p))]
            if idle:
                await self.store.commit(Change(todo=dict.fromkeys(idle)))

    async def _look_settled(self) -> None:
        if self.settings.dry_run:
            quiet = all(link.looked or link.trouble for link in self.links.values())
        else:
            quiet = all(link.quiet or link.trouble or link.paused for link in self.links.values())
        if quiet and not self._batches:
            if not self._swept:
                await self._sweep()
            self.settled.set()
        elif self.settled.is_set():
            self.settled = trio.Event()

    # --- guard --------------------------------------------------------------------------------------------------

    async def _judge(self, link: Link, over: bool = True) -> None:
        """A burst of deletions is over, or all of it was seen that was made while nobody looked: believe it, or ask."""
        if link.guard.quarantined:
            link.guard.end()  # what was deleted since waits for the same answer
            return
        if link.guard.suspicious(self.counts.get("files", 0)):
            await self._await_yes(link, True)
            log.warning(
                "{} would delete {} of {} files of {}: held back until you say `onitu approve {}`",
                link.service,
                link.guard.count,
                link.guard.files,
                self.folder,
                link.service,
            )
            self._tell("trouble", self.folder, {"service": link.service, "quarantined": link.guard.count})
            link.guard.end()
            return
        if over:
            link.guard.end()
        else:
            link.guard.go_on()
        await self.approve(link.service)

    async def _await_yes(self, link: Link, awaits: bool) -> None:
        """Whether what is held back of a service waits for a yes, remembered beyond this Referee."""
        link.guard.quarantined = awaits
        record = self.record(link.service)
        if record.awaits != awaits:
            self.records[link.service] = msgspec.structs.replace(record, awaits=awaits)
            await self.store.commit(Change(services={link.service: self.records[link.service]}))

    async def _end_quarantines(self, work: Round) -> None:
        """Where nothing is held back any more, as its user made it anew or it was forgotten, nothing is left to say yes
        to."""
        for service in {service for (service, _), held in work.change.quarantine.items() if not held}:
            link = self.links.get(service)
            if link is not None and link.guard.quarantined and not await self.store.quarantined(service, 1):
                await self._await_yes(link, False)

    async def approve(self, service: str, restore: bool = False) -> int:
        """Believe the deletions of a service that were held back, or take them back. How many paths that were."""
        link = self.links[service]
        link.guard.quarantined = False
        held_back = await self.store.quarantined(service, sys.maxsize)
        # What is in a directory before the directory, however many pages are between the two: one in which something
        # lives is not believed to be deleted.
        held_back.sort(reverse=True)
        directories: list[bytes] = []
        for start in range(0, len(held_back), PAGE):
            work = Round(self)
            for path in held_back[start : start + PAGE]:
                directories += await work.release(link, path, restore)
            await self.commit(work)
        # Only now: a crash before may ask once more, but believes nothing that was to be taken back.
        await self._await_yes(link, False)
        # A file that stands in the place of a directory waited for the same answer, and nobody tells of it again.
        within = frozenset(directories)
        tops = tuple(path for path in directories if paths.parent(path) not in within)
        for start in range(0, len(tops), PAGE):
            await self.rescan(service, tops[start : start + PAGE])
        return len(held_back)

    async def forget(self, service: str) -> None:
        """Forget all that is known of a service's replica; it will be met like a new one (S6).

        A head that nobody else is known to hold is withdrawn with it, as one that a rule hides is: should it stand
        there no more, nobody would ever tell, and all would wait for it for ever (S2).
        """
        self.view.forget()
        await self._doubt()
        async for page in self.store.walk():
            work = Round(self)
            self.view.load((node.path for node in page), {node.path: node for node in page})
            for node in page:
                if service in node.held:
                    await self._forget_at(work, service, node)
            if work.touched:
                await self.commit(work)
        self.view.forget()
        self.records[service] = msgspec.structs.replace(self.record(service), known=0, marker="", generation=0)

    async def _doubt(self) -> None:
        """What was decided up to now may be withdrawn from here on."""
        self.doubts = msgspec.structs.replace(self.doubts, forgotten=self.seq)
        await self.store.commit(Change(forgotten=self.seq))

    async def _forget_at(self, work: Round, service: str, node: Node) -> None:
        """Forget what a service holds at a node, with the head where nobody else has that."""
        await work.hide(service, node.held[service].name or node.path)
        now = await self.at_hand(lambda: self.view[node.path])
        work.take(replace(now, held={s: h for s, h in now.held.items() if s != service}))
        work.change.quarantine[service, node.path] = False

    async def rescan(self, service: str, directories: tuple[bytes, ...] = ()) -> None:
        """Have a driver look again."""
        await self._send(service, Command("rescan", self.folder, directories))


def _portions(pages: Sequence[Iterable[Known]]) -> Iterator[tuple[tuple[tuple[Known, ...], ...], bool]]:
    """The rows of each directory, of all of them so many at a time as one message takes; whether there are more."""
    portion: list[list[Known]] = [[] for _ in pages]
    size = 0
    for place, page in enumerate(pages):
        for row in page:
            if size >= INDEX_BYTES:
                yield tuple(map(tuple, portion)), True
                portion, size = [[] for _ in pages], 0
            portion[place].append(row)
            size += _ROW_BYTES + len(row.path) + len(row.token) + len(row.version.link)
    yield tuple(map(tuple, portion)), False


def _mentioned(batches: list[tuple[str, Batch]]) -> Iterable[bytes]:
    """The nodes that deciding these batches will most likely ask for."""
    for _, batch in batches:
        for event in batch.events:
            path = paths.key(event.path)
            yield path
            if directory := paths.parent(path):
                yield directory
            if event.source:
                yield paths.key(event.source)
