"""The planner alone, fuzzed harder: perturb one tree on every service, then plan and carry out until nothing is left.

As Dropbox's CanopyCheck ("Testing sync at Dropbox", 2020): random trees that are independent of each other never meet,
so all services begin with one tree, and each user changes his own a little. Then orders are carried out in shuffled
batches, round after round. It ends (in 200 rounds at most), never raises, converges, keeps every value, and writes and
reads nobody that it may not.
"""

from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import given

from tests.property.histories import NAMES, PLAIN, Deed, Setting, deeds, drawn, histories, settings_of_worlds
from tests.world import World


def perturb(world: World, history: list[Deed]) -> None:
    """Everybody's users change their own trees; nobody looks meanwhile."""
    names = list(world.services)
    for deed in history:
        deed.act(world, names[deed.who % len(names)])


def verify(world: World, plain: bool) -> None:
    """Plan and carry out until nothing is left; then a second look finds nothing more to do."""
    world.rounds()
    world.look_again()  # an entry that was in the way of another has gone by now
    world.rounds()
    if plain:
        world.check()
    world.check_ruled()
    before = world.number
    world.look_again()
    world.rounds()
    assert world.number == before or not plain, "what is quiet does not stay quiet"


def live(setting: Setting, tree: list[Deed], history: list[Deed], plain: bool) -> World:
    world = setting.world()
    perturb(world, [attrs.evolve(deed, who=0) for deed in tree])
    world.rounds()
    perturb(world, history)
    verify(world, plain)
    return world


def from_seed(seed: int) -> tuple[Setting, list[Deed], list[Deed], bool]:
    """A setting, a tree and its perturbation; a seed is always the same one."""
    chance = random.Random(seed)
    setting = drawn(chance)
    names = PLAIN if setting.plain and chance.random() < 0.6 else NAMES
    plain = setting.plain and names is PLAIN
    return setting, deeds(chance, chance.randrange(12), names), deeds(chance, chance.randrange(1, 16), names), plain


@given(setting=settings_of_worlds(plain=True), tree=histories(PLAIN, 10), history=histories(PLAIN))
def test_a_perturbed_tree_becomes_one_tree_again(setting: Setting, tree: list[Deed], history: list[Deed]) -> None:
    live(setting, tree, history, plain=True)


@given(setting=settings_of_worlds(), tree=histories(NAMES, 10), history=histories(NAMES))
def test_a_perturbed_tree_converges_under_any_rules(setting: Setting, tree: list[Deed], history: list[Deed]) -> None:
    live(setting, tree, history, plain=False)


@pytest.mark.parametrize("start", range(0, 800, 200))
def test_seeded_perturbations_converge(start: int) -> None:
    for seed in range(start, start + 200):
        try:
            live(*from_seed(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize(
    "seed", [5, 85, 530, 1797, 955, 1885, 1370, 1580, 2385, 2778, 2791, 10322, 13298, 24978, 38425]
)
def test_a_perturbation_that_failed_once_stays(seed: int) -> None:
    live(*from_seed(seed))
