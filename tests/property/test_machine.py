"""The state machine and the planner alone: thousands of worlds, no I/O, every interleaving of events and orders.

`World.check` lets the specification's oracle judge S1–S6 once all is quiet.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.orders import Do
from onitu.model.versions import Kind
from onitu.referee import machine, plain
from onitu.referee.machine import Case, Decision
from onitu.referee.rules import Rules
from onitu.referee.view import View
from tests.budget import budgeted
from tests.world import World

SEEDS = budgeted(4000)

PATHS = [b"a", b"b", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"f"]
"""Few names, so that they clash: as files and as directories, at several depths."""


def act(world: World, do: str, service: str, path: bytes, target: bytes) -> None:
    """One thing that a user does."""
    tree = world.services[service].tree
    if do == "mkdir":
        above = [tree.get(directory) for directory in paths.ancestors(path)]
        if path not in tree and all(thing and thing.version.kind is Kind.DIRECTORY for thing in above):
            world.mkdir(service, path)
    elif do == "rename":
        world.rename(service, path, target)
    elif do == "lose_state":
        world.lose_state()
    elif do == "crash":
        world.crash(service)
    else:
        getattr(world, do)(service, path)


actions = st.tuples(
    st.sampled_from(["write", "write", "write", "delete", "rename", "mkdir", "touch", "crash", "lose_state"]),
    st.integers(0, 3),
    st.sampled_from(PATHS),
    st.sampled_from(PATHS),
    st.integers(0, 30),
)


@given(services=st.integers(2, 4), seed=st.integers(0, 2**32), history=st.lists(actions, max_size=25))
@settings(max_examples=budgeted(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_converges_and_keeps_every_value(
    services: int, seed: int, history: list[tuple[str, int, bytes, bytes, int]]
) -> None:
    world = World(services, seed)
    names = list(world.services)
    for do, who, path, target, steps in history:
        act(world, do, names[who % services], path, target)
        for _ in range(steps):
            world.step()
    world.settle()
    world.check()


DEEDS = ((0.45, "write"), (0.6, "delete"), (0.75, "rename"), (0.82, "mkdir"), (0.9, "touch"))
ACCIDENTS = ((0.96, "crash"), (0.98, "lose_state"))


def live_through(seed: int, accidents: bool = True) -> World:
    """A history of twelve deeds and accidents, with more or less time between them. A seed is always the same one."""
    world, chance = World(2 + seed % 3, seed), random.Random(seed * 7 + 1)
    for _ in range(12):
        service, path, drawn = chance.choice(list(world.services)), chance.choice(PATHS), chance.random()
        do = next((do for limit, do in (*DEEDS, *(ACCIDENTS if accidents else ())) if drawn < limit), None)
        if do is not None:
            act(world, do, service, path, chance.choice(PATHS) if do == "rename" else path)
        for _ in range(chance.choice([0, 0, 1, 3, 10, 40])):
            world.step()
        if chance.random() < 0.1:
            world.settle()
            world.check()
    world.settle()
    return world


@pytest.mark.parametrize("start", range(0, SEEDS, 500))
def test_seeded_histories_converge_and_keep_every_value(start: int) -> None:
    for seed in range(start, min(start + 500, SEEDS)):
        try:
            live_through(seed).check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None


@pytest.mark.parametrize(("seed", "accidents"), [(52950, False), (204759, True), (217962, True), (306102, True)])
def test_a_seed_that_failed_once_stays(seed: int, accidents: bool) -> None:
    live_through(seed, accidents).check()


def test_the_shortcuts_lead_where_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """`onitu.referee.plain` decides the plainest events by itself; in all of these histories as the machine would."""
    taken: Counter[tuple[Case, bool]] = Counter()

    def both(view: View, rules: Rules, service: str, event: Event, seq: int) -> Decision:
        decision = machine.observe(view, rules, service, event, seq)
        path = paths.key(event.path)
        nodes = {at: view[at] for at in (path, paths.parent(path), paths.key(event.source))}
        short = plain.decide(nodes, rules, service, event, path, seq)
        if short is not None:
            assert short == decision
            taken.update([(short.case, bool(event.source))])
        return decision

    monkeypatch.setattr("tests.world.observe", both)
    for seed in range(SEEDS // 10):
        live_through(seed).check()
    cases = (
        (Case.CREATED, False),
        (Case.FAST_FORWARD, False),
        (Case.MOVED, True),
        (Case.WRITTEN, False),
        (Case.WRITTEN, True),
    )
    assert min(taken[case] for case in cases) > 0, taken


def test_two_full_replicas_meet_without_an_order() -> None:
    world = World(2, 1)
    for path in (b"a", b"d/b"):
        world.write("s0", path)
    source = world.services["s0"]
    target = world.services["s1"]
    for path, thing in source.tree.items():
        target.tree[path] = thing
        target.dirty[path] = None
    for service, place in world.services.items():
        while place.dirty:
            world.look(service)
        while place.events:
            world.decide(service)
    world.settle()
    world.check()
    assert world.number == 0


def test_what_is_quiet_stays_quiet() -> None:
    world = World(3, 2)
    world.write("s1", b"d/a")
    world.settle()
    before = world.number
    for place in world.services.values():
        place.dirty = dict.fromkeys(place.tree)
    world.settle()
    assert world.number == before


def test_a_move_costs_no_transfer() -> None:
    world = World(3, 3)
    world.write("s0", b"a")
    world.settle()
    place = world.services["s0"]
    world.random.seed(0)
    thing = place.tree.pop(b"a")
    place.tree[b"b"] = thing
    place.events.append(Event(Seen.MOVED, b"b", thing.version, thing.token, source=b"a"))
    world.ordered.clear()
    world.settle()
    world.check()
    assert world.ordered == {(Do.MOVE, Kind.FILE): 2}


@pytest.mark.parametrize("seed", [2645, 4727])
def test_an_empty_directory_that_was_removed_does_not_stand_again(seed: int) -> None:
    live_through(seed, accidents=False).check()
