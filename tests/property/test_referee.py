"""One folder's Referee over a real store, fuzzed: any interleaving of users, drivers, faults and operators.

After each step: nothing is acknowledged before its commit, what comes twice is applied once, every stored node decodes,
the index of what is left is what the planner says, and no order breaks a mode. Once all is quiet: S1–S6.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from onitu.model.errors import Fenced, Unreadable
from onitu.model.settings import Filter, Replica, Rule
from onitu.referee import questions
from onitu.store.interface import Change
from onitu.store.keys import Keys
from onitu.store.schema import SCHEMA, written
from tests.property.histories import DEEDS, HIDDEN, PLAIN, Setting, act
from tests.town import FOLDER, Town

services = st.integers(0, 3)
NAMES = PLAIN + HIDDEN[:2]


class FolderMachine(RuleBasedStateMachine):
    """See the module. `url` is the server's."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.town: Town | None = None
        self.changed = False

    @initialize(
        number=st.integers(2, 4), seed=st.integers(0, 2**16), conflict=st.sampled_from(["newest", "first", "prefer:s0"])
    )
    def begin(self, number: int, seed: int, conflict: str) -> None:
        world = Setting(seed, ("rw",) * number, conflict).world()
        self.town = Town(world, self.url)
        self.town.client.flushall()
        self.town.restart()

    def teardown(self) -> None:
        if self.town is not None:
            try:
                self.rest()
            finally:
                self.town.close()

    def name(self, who: int) -> str:
        assert self.town is not None
        return self.town.active[who % len(self.town.active)]

    # --- users and drivers --------------------------------------------------------------------------------------

    @rule(do=st.sampled_from(DEEDS), who=services, path=st.sampled_from(NAMES), to=st.sampled_from(NAMES))
    def deed(self, do: str, who: int, path: bytes, to: bytes) -> None:
        act(self.town, do, self.name(who), path, to)

    @rule(who=services)
    def hello(self, who: int) -> None:
        self.town.hello(self.name(who))

    @rule(who=services, times=st.integers(1, 8))
    def look(self, who: int, times: int) -> None:
        for _ in range(times):
            if self.town.services[self.name(who)].dirty:
                self.town.look(self.name(who))

    @rule(who=services, times=st.integers(1, 4))
    def deliver(self, who: int, times: int) -> None:
        for _ in range(times):
            self.town.deliver(self.name(who))

    @rule(who=services, times=st.integers(1, 8))
    def perform(self, who: int, times: int) -> None:
        for _ in range(times):
            if self.town.services[self.name(who)].orders:
                self.town.perform(self.name(who))

    @rule(who=services)
    def driver_dies(self, who: int) -> None:
        self.town.start_driver(self.name(who))

    @rule(seconds=st.sampled_from([0.2, 2.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.town.pass_time(seconds)

    # --- the wire -----------------------------------------------------------------------------------------------

    @rule(who=services, which=st.integers(0, 5))
    def a_batch_comes_again(self, who: int, which: int) -> None:
        service = self.name(who)
        driver = self.town.drivers[service]
        known = [batch for batch in driver.sent if batch.number <= driver.acknowledged]
        if known and driver.welcomed and self.town.load_nodes():
            before = self.town.dump()
            self.town.hand_over(service, known[which % len(known)])
            if self.town.load_nodes():
                assert self.town.dump() == before, "a batch was applied twice"

    @rule(who=services)
    def a_batch_comes_after_a_gap(self, who: int) -> None:
        service = self.name(who)
        driver = self.town.drivers[service]
        if driver.sent and driver.welcomed and self.town.load_nodes():
            before, last = self.town.dump(), driver.sent[-1]
            number = max(last.number, driver.acknowledged) + 2
            self.town.hand_over(service, type(last)(FOLDER, last.epoch, number, last.events))
            if self.town.load_nodes():
                assert self.town.dump() == before, "a batch after a gap was applied"

    @precondition(lambda self: self.town and self.town.late)
    @rule(which=st.integers(0, 20))
    def a_dead_drivers_batch_comes_late(self, which: int) -> None:
        service, batch = self.town.late[which % len(self.town.late)]
        stale = self.town.drivers[service].welcomed
        if service in self.town.active and stale and self.town.load_nodes():
            before = self.town.dump()
            self.town.hand_over(service, batch)
            if self.town.load_nodes():
                assert self.town.dump() == before, "a dead driver's batch was applied"

    # --- the Referee and its store ------------------------------------------------------------------------------

    @rule(number=st.integers(1, 12), after=st.booleans())
    def a_store_call_will_fail(self, number: int, after: bool) -> None:
        if self.town.alive_now:
            self.town.host.store.countdown, self.town.host.store.after = number, after

    @rule(number=st.integers(0, 5), after=st.booleans())
    def restart(self, number: int, after: bool) -> None:
        self.town.early = (number, after)
        self.town.restart()

    @rule()
    def usurped(self) -> None:
        """Another Referee takes the lease over; the first one writes no more."""
        town = self.town
        if not town.alive_now:
            return
        first = town.usurp()
        before = town.dump()

        async def write() -> None:
            with pytest.raises(Fenced):
                await first.store._store.commit(Change(seq=1 << 60, counts={"files": 1}))

        town.guest.run(write)
        assert town.dump() == before, "a fenced Referee wrote"
        first.scope.cancel()
        town.guest.run(first.dead.wait)

    @rule()
    def flushall(self) -> None:
        self.town.flush()
        self.town.quiet()

    @rule(stored=st.sampled_from([SCHEMA + 1, SCHEMA - 1]))
    def another_schema(self, stored: int) -> None:
        """A state of another version is refused and left as it is; an older one with a way to ours is migrated."""
        town = self.town
        town.stop()
        if not town.client.exists(Keys(FOLDER).named("meta")):
            town.host = town.start()
            return
        town.client.execute_command(*written(Keys(FOLDER), stored))
        before = self._but_fence(town.dump())
        town.host = town.start()
        assert isinstance(town.host.error, Unreadable), town.host.error
        assert self._but_fence(town.dump()) == before
        if stored < SCHEMA:
            town.migrations = {stored: lambda client, keys: iter([[]])}
        else:
            town.client.execute_command(*written(Keys(FOLDER), SCHEMA))
        town.host = town.start()
        town.migrations = {}
        assert town.alive_now, town.host.error

    def _but_fence(self, dump: dict[bytes, bytes]) -> dict[bytes, bytes]:
        return {key: value for key, value in dump.items() if not key.endswith(b":fence")}

    # --- operators ----------------------------------------------------------------------------------------------

    @rule(who=services, what=st.sampled_from(["pause", "resume", "rescan"]))
    def operate(self, who: int, what: str) -> None:
        self._question(what, service=self.name(who))

    @rule(who=services, restore=st.booleans())
    def approve(self, who: int, restore: bool) -> None:
        if restore:
            self.town.history.forget("deletions that an operator takes back")
        self._question("approve", service=self.name(who), restore=restore)

    def _question(self, what: str, **arguments: Any) -> None:
        town = self.town
        if not town.alive_now:
            return
        referee = SimpleNamespace(folders={FOLDER: town.host.referee}, send=town.hear, settings=town.settings())
        asked = getattr(questions, what)
        done: list[bool] = []

        async def ask() -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def dies() -> None:
                        await town.host.dead.wait()
                        scope.cancel()

                    nursery.start_soon(dies)
                    await asked(referee, arguments)
                    done.append(True)
                    nursery.cancel_scope.cancel()

        try:
            town.guest.run(ask)
        except BaseExceptionGroup:
            town.stop()

    @rule(
        modes=st.lists(st.sampled_from(["rw", "rw", "r", "w"]), min_size=4, max_size=4),
        hidden=st.sets(services, max_size=2),
        banned=st.integers(-2, 3),
        gone=st.integers(-4, 3),
    )
    def rules_change(self, modes: list[str], hidden: set[int], banned: int, gone: int) -> None:
        """Another configuration: everything is started anew with it."""
        town = self.town
        self.changed = True
        town.stop()
        names = list(town.services)
        replicas = {
            name: Replica(
                FOLDER, "/" + name, mode=modes[n], filter=Filter(blacklist=("*.bak",)) if n in hidden else Filter()
            )
            for n, name in enumerate(names)
            if n != gone or len(names) == 2
        }
        rules = None
        if 0 <= banned < len(names):
            rules = (Rule(path="/", sync=tuple(names)), Rule(path="/d/", ban=(names[banned],)))
        town.rules = type(town.rules)(attrs.evolve(town.rules.folder), replicas, rules)
        town.active = list(replicas)
        for name in names:
            town.start_driver(name)
        town.host = town.start()

    # --- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def the_index_is_what_the_planner_says(self) -> None:
        if self.town is not None:
            self.town.check_index()

    @rule()
    def rest(self) -> None:
        town = self.town
        if not town.alive_now:
            town.restart()
        for service in town.active:
            self._question("resume", service=service)
        town.rest()
        for service in town.active:
            self._question("approve", service=service)
        town.rest()
        town.check_index()
        if self.changed:
            assert town.alive <= town.values(town.services), f"lost: {town.alive - town.values(town.services)}"
        else:
            town.check()


@pytest.fixture(autouse=True)
def server(valkey: str) -> None:
    FolderMachine.url = valkey


def test_a_referee_keeps_its_promises_whatever_happens_around_it() -> None:
    run_state_machine_as_test(
        FolderMachine, settings=settings(max_examples=settings.default.max_examples, stateful_step_count=25)
    )


def test_batches_that_come_again_or_after_a_gap_or_from_the_dead_change_nothing() -> None:
    machine = FolderMachine()
    machine.begin(number=2, seed=0, conflict="newest")
    for who in (0, 1):
        machine.hello(who)
        machine.deliver(who, 4)
    for path in (b"a", b"b"):
        machine.deed("write", 0, path, path)
        machine.look(0, 1)
        machine.deliver(0, 1)
    for which in range(3):
        machine.a_batch_comes_again(0, which)
    machine.a_batch_comes_after_a_gap(0)
    machine.driver_dies(0)
    machine.hello(0)
    machine.a_dead_drivers_batch_comes_late(0)
    machine.usurped()
    machine.teardown()
