"""A whole Referee of one folder over a real store, and drivers that live and die around it.

The drivers are as real as they can be without a process: the plug's own outbox numbers, resends and renumbers their
batches, a Hello is greeted by the Referee's own code, a scan asks with `Lookup`. Only their services are dicts.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import redis
import trio
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.errors import StateError
from onitu.model.events import AGAIN, Event, Seen
from onitu.model.outside import Outside
from onitu.model.settings import Service, Settings
from onitu.model.tally import Tally
from onitu.plug.outbox import Outbox
from onitu.plug.told import Told
from onitu.referee.folder import FolderReferee
from onitu.referee.greeting import greet
from onitu.referee.planner import left
from onitu.referee.service import _connected, _disconnected
from onitu.referee.view import View
from onitu.store.keys import Keys
from onitu.store.redis import RedisStore
from onitu.wire.messages import Ack, Batch, Command, Expected, Hello, Index, Lookup, Message, Orders, ReplicaState
from tests.faulty import Faulty
from tests.guest import Guest
from tests.world import World

FOLDER = "f"


@attrs.define
class Driver:
    """The process of one service's driver."""

    epoch: str
    outbox: Outbox
    welcomed: bool = False
    accepted: bool = False
    asked: bool = False
    acknowledged: int = 0
    deeds: list[Event] = attrs.field(factory=list)
    sent: list[Batch] = attrs.field(factory=list)
    index: list[Index] = attrs.field(factory=list)


class Host:
    """One life of a Referee: from the taking of the lease to its end, whatever ends it."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.referee: FolderReferee | None = None
        self.store: Any = None
        self.begun, self.dead = trio.Event(), trio.Event()
        self.error: BaseException | None = None
        self.emptied = False
        self.scope = trio.CancelScope()

    async def live(self) -> None:
        try:
            with self.scope:
                async with RedisStore(self.town.url, migrations=self.town.migrations).open_folder(FOLDER) as held:
                    self.store = Faulty(held)
                    self.store.countdown, self.store.after = self.town.early
                    self.town.early = (0, False)
                    town = self.town
                    referee = FolderReferee(town.settings(), FOLDER, self.store, town.hear, _unheard, town.outside)
                    referee._order = town.numbers
                    await referee.load()
                    self.referee = referee
                    self.begun.set()
                    await referee.run()
        except* StateError as group:
            self.error = group.exceptions[0]
        finally:
            self.begun.set()
            self.dead.set()


def _unheard(*_news: object) -> None:
    """Nobody listens to news here."""


class Town(World):
    """Services, drivers, a Referee; and the checks of what must hold after each step and at rest."""

    def __init__(self, world: World, url: str) -> None:
        self.__dict__.update(world.__dict__)
        self.url = url
        self.client = redis.Redis.from_url(url, protocol=2)
        self.migrations: dict[int, Any] = {}
        self.early = (0, False)
        self.numbers = 0
        self.active = list(self.services)
        self.drivers: dict[str, Driver] = {}
        self.late: list[tuple[str, Batch]] = []
        self.generations = dict.fromkeys(self.services, (1, 0))
        self.epochs = 0
        self.guest = Guest()
        self.outside = Outside(self._clock, random.Random(1).getrandbits)
        for name in self.services:
            self.start_driver(name)
        self.host: Host = self.start()

    def _clock(self) -> int:
        return int(self.guest.clock.current_time() * 1e9)

    def close(self) -> None:
        try:
            self.guest.close()
        finally:
            self.client.close()

    def settings(self) -> Settings:
        services = {
            name: Service(name, "local", replicas={FOLDER: self.rules.replicas[name]})
            for name in self.active
            if name in self.rules.replicas
        }
        return Settings("t", {FOLDER: self.rules.folder}, services, self.rules.rules)

    # --- the Referee --------------------------------------------------------------------------------------------

    def start(self) -> Host:
        """Start a Referee; it may die at once."""
        host = Host(self)
        self.guest.start(host.live)

        self.guest.run(host.begun.wait)
        for driver in self.drivers.values():
            driver.welcomed = driver.accepted = False
        return host

    def usurp(self) -> Host:
        """Start another Referee over the one that lives, whose lease has run out; that one is given back."""
        first = self.host
        limiter = first.store._store._limiter

        async def run_out() -> None:
            # A renewal on its way would put the lease back, and who waits for that waits on a clock that stands still.
            for token in range(int(limiter.total_tokens)):
                await limiter.acquire_on_behalf_of(token)
            self.client.delete(Keys(FOLDER).named("lease"))

        self.guest.run(run_out)
        self.host = self.start()
        for token in range(int(limiter.total_tokens)):
            limiter.release_on_behalf_of(token)
        return first

    @property
    def alive_now(self) -> bool:
        return not self.host.dead.is_set()

    def stop(self) -> None:
        """End the Referee, wherever it is."""
        self.host.scope.cancel()
        self.guest.run(self.host.dead.wait)

    def restart(self) -> None:
        self.stop()
        self.host = self.start()
        if not self.alive_now:
            self.host = self.start()

    def ask(self, job: Callable[[FolderReferee], Awaitable[Any]]) -> Any:
        """Have the Referee's task do something; None where it died of it."""
        host = self.host

        async def asked() -> Any:
            if host.referee is None or host.dead.is_set():
                return None
            found: list[Any] = []
            async with trio.open_nursery() as nursery:

                async def dies() -> None:
                    await host.dead.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(dies)
                try:
                    found.append(await host.referee.ask(functools.partial(job, host.referee)))
                except StateError:
                    host.scope.cancel()  # what its task meets ends a Referee; a question's failure is taken for it here
                    await host.dead.wait()
                nursery.cancel_scope.cancel()
            return found[0] if found else None

        return self.guest.run(asked)

    def quiet(self) -> None:
        """Until the Referee has dealt with everything that was posted."""

        async def nothing(referee: FolderReferee) -> None: ...

        self.ask(nothing)

    def pass_time(self, seconds: float) -> None:
        async def jump() -> None:
            self.guest.clock.jump(seconds)
            await trio.lowlevel.checkpoint()

        self.guest.run(jump)
        self.quiet()

    async def hear(self, service: str, message: Message) -> bool:
        """What the Referee sends to a driver arrives at once, or never."""
        driver = self.drivers.get(service)
        if driver is None:
            return False
        await trio.lowlevel.checkpoint()
        match message:
            case Ack():
                if message.epoch == driver.epoch:
                    if not self.host.emptied:  # else it says again what it committed before
                        record = (await self.host.store._store.meta()).services[service]
                        assert record.epoch == message.epoch, "acknowledged before its commit"
                        assert message.number <= record.number, "acknowledged before its commit"
                    driver.acknowledged = message.number
                    driver.outbox.acknowledged(message.epoch, message.number)
                    if driver.outbox.empty and not self.services[service].events:
                        driver.deeds.clear()
            case Orders():
                assert self.rules.writable(service) or all(o.do.name == "FINGERPRINT" for o in message.orders), "S5"
                for order in message.orders:
                    self.numbers = max(self.numbers, order.number)
                    assert all(self.rules.readable(source.service) for source in order.sources), "S5"
                if driver.accepted:
                    self.services[service].orders += message.orders
            case Index():
                driver.index.append(message)
            case Command(what="rescan"):
                place = self.services[service]
                driver.asked = driver.asked or not message.directories
                place.dirty |= {p: None for p in place.tree if any(paths.within(p, d) for d in message.directories)}
        return True

    # --- drivers ------------------------------------------------------------------------------------------------

    def start_driver(self, service: str) -> None:
        """A new process for a service: a new epoch, nothing known; what its orders did is told again first."""
        place, before = self.services[service], self.drivers.get(service)
        self.epochs += 1
        driver = Driver(f"e{self.epochs}", Outbox(FOLDER, f"e{self.epochs}", Told(), lambda: None))
        if before is not None:
            self.late += [(service, batch) for batch in before.sent]
            driver.outbox.put([replace(event, order=AGAIN) for event in before.deeds])
            driver.deeds = before.deeds
        place.events.clear()
        place.orders.clear()
        generation, pending = self.generations[service]
        self.generations[service] = (generation, max(generation, pending) + self.epochs)
        self.drivers[service] = driver
        if before is not None and self.alive_now:
            self.host.referee and self.guest.run(lambda: _quietly(self.host, service))

    def hello(self, service: str) -> None:
        """The driver introduces itself, is answered, and scans."""
        driver, place = self.drivers[service], self.services[service]
        if not self.alive_now or service not in self.host.referee.links:  # type: ignore[union-attr]
            return
        self.tell(service)
        state = ReplicaState(f"marker {service}", *self.generations[service])
        hello = Hello(service, driver.epoch, 8, "", {FOLDER: state})
        new_run = not driver.welcomed
        expected: Expected | None = self.ask(lambda referee: greet(referee, service, hello, state))
        if expected is None:
            return
        assert expected.accepted
        assert expected.number >= driver.acknowledged, "an acknowledged batch is not known"
        driver.acknowledged = expected.number
        if new_run:
            driver.outbox.forget_orders()
        driver.outbox.rewind(expected.number)
        place.orders.clear()
        driver.welcomed = driver.accepted = True
        if expected.generation == self.generations[service][1]:
            self.generations[service] = (expected.generation, 0)
        self.ask(lambda referee: _connected(referee, service))
        self.scan(service)

    def flush(self) -> None:
        """The store is emptied under the Referee's hands."""
        self.client.flushall()
        self.history.forget()
        self.host.emptied = True
        for driver in self.drivers.values():
            driver.acknowledged = 0

    def scan(self, service: str) -> None:
        """Everything that stands or is known is looked at, and the end of the scan told."""
        place, self.drivers[service].asked = self.services[service], False
        place.dirty |= dict.fromkeys([*place.tree, *self.known(service)])
        self.look_at_all(service)
        self.drivers[service].outbox.put((), scanned=True)

    def known(self, service: str) -> list[bytes]:
        """What the Referee says that the service holds."""
        driver, found, level = self.drivers[service], [], [paths.ROOT]
        while level and self.alive_now:
            driver.index.clear()
            lookup = Lookup(1, FOLDER, tuple(level))
            self.ask(lambda referee, lookup=lookup: referee.lookup(service, lookup))
            level = []
            for index in driver.index:
                rows = [row for directory in index.directories for row in directory]
                found += [row.path for row in rows]
                level += [row.path for row in rows if row.version.kind.name == "DIRECTORY"]
        return found

    def look_at_all(self, service: str) -> None:
        if self.drivers[service].asked:
            self.scan(service)
        while self.services[service].dirty:
            self.look(service)
        self.tell(service)

    def tell(self, service: str) -> None:
        """What was seen goes into the outbox."""
        place = self.services[service]
        self.drivers[service].outbox.put(place.events)
        place.events.clear()

    def perform(self, service: str) -> list[Event]:
        """The driver carries out its oldest order, and writes down what it did."""
        events = super().perform(service)
        if events[-1].seen is Seen.DONE:
            self.drivers[service].deeds += events
        self.tell(service)
        return events

    def deliver(self, service: str) -> bool:
        """The next batch of a driver reaches the Referee; False: there is none."""
        driver = self.drivers[service]
        self.tell(service)
        batch = driver.outbox.take() if driver.welcomed and self.alive_now else None
        if batch is None:
            return False
        driver.sent.append(batch)
        self.hand_over(service, batch)
        return True

    def hand_over(self, service: str, batch: Batch) -> None:
        if self.alive_now and service in self.host.referee.links:  # type: ignore[union-attr]
            self.ask(lambda referee: referee.batch(service, batch))
            self.quiet()

    # --- what must hold -----------------------------------------------------------------------------------------

    def dump(self) -> dict[bytes, bytes]:
        """Everything that the store holds, but for the lease."""
        keys = sorted(self.client.keys(Keys(FOLDER).prefix + b"*"))
        return {key: self.client.dump(key) for key in keys if not key.endswith(b":lease")}

    def load_nodes(self) -> bool:
        """Take the nodes from the store, every one of them decoded; whether there is a Referee to ask."""
        self.quiet()
        if not self.alive_now:
            return False

        async def walk() -> None:
            self.nodes = {node.path: node async for page in self.host.store._store.walk() for node in page}

        self.guest.run(walk)
        return True

    def check_index(self) -> None:
        """The index of what is left is exactly what the planner says."""
        if not self.load_nodes():
            return

        async def todo() -> list[tuple[int, bytes]]:
            found: list[tuple[int, bytes]] = await self.host.store._store.todo((0, b""), 100_000)
            return found

        indexed = {path for _, path in self.guest.run(todo)}
        view: View = self.view()
        rules = self.host.referee.rules  # type: ignore[union-attr]
        expected = {path for path in self.nodes if left(view, rules, path)}
        assert indexed == expected, f"in the index only: {indexed - expected}; missing in it: {expected - indexed}"
        self._check_tallies()

    def _check_tallies(self) -> None:
        """The stored tallies are of what the stored nodes say."""
        records = self.guest.run(self.host.store._store.meta).services
        tallies = {service: Tally() for service in records}
        for node in self.nodes.values():
            for service, held in node.held.items():
                tallies[service].know(node.path, held)
        assert {name: record.tally for name, record in records.items()} == {
            name: bytes(tally) for name, tally in tallies.items()
        }

    def rest(self) -> None:
        """Let all finish, without faults."""
        for number in range(200):
            if not self.alive_now:
                self.restart()
                assert self.alive_now, self.host.error
            self.host.store.countdown = 0
            for service in self.active:
                if not self.drivers[service].welcomed:
                    self.hello(service)
            moved = False
            for service in self.active:
                self.look_at_all(service)
                while self.deliver(service):
                    moved = True
                while self.services[service].orders:
                    self.perform(service)
                    moved = True
            if not moved and number > 3 and self.host.referee.settled.is_set():  # type: ignore[union-attr]
                return
            self.pass_time(3.0)
        raise AssertionError("it does not come to rest")


async def _quietly(host: Host, service: str) -> None:
    """The Referee hears that a driver is gone."""
    referee = host.referee
    if referee is not None and service in referee.links:
        await _disconnected(referee, service)
