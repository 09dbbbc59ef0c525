from __future__ import annotations

from collections.abc import Mapping

import pytest

from onitu.testing.spec import DIRECTORY, Item, file
from onitu.testing.spec.clauses import Extra, Memory, many, two
from tests.world import World


def tree(text: str) -> dict[str, Item]:
    """`x/ x/y=1`: a directory and a file in it."""
    parts = [part.partition("=") for part in text.split()]
    return {name.rstrip("/"): file(value) if equals else DIRECTORY for name, equals, value in parts}


# old, A, B → what A and B must be after; None: a conflict, both stay
TABLE = [
    ("nothing at all", "", "", "", ""),
    ("nothing changed", "a=1", "a=1", "a=1", "a=1"),
    ("made on one", "", "a=1", "", "a=1"),
    ("made on the other", "", "", "a=1", "a=1"),
    ("made equally on both", "", "a=1", "a=1", "a=1"),
    ("made differently on both", "", "a=1", "a=2", None),
    ("edited on one", "a=1", "a=2", "a=1", "a=2"),
    ("edited on the other", "a=1", "a=1", "a=2", "a=2"),
    ("edited differently", "a=1", "a=2", "a=3", None),
    ("deleted on one", "a=1", "", "a=1", ""),
    ("deleted on both", "a=1", "", "", ""),
    ("deleted and edited", "a=1", "", "a=2", None),
    ("a directory deleted whole", "d/ d/a=1", "", "d/ d/a=1", ""),
    ("a directory deleted, a part of it deleted", "d/ d/a=1 d/b=2", "", "d/ d/a=1", None),
    ("a directory deleted, something new in it", "d/ d/a=1", "", "d/ d/a=1 d/b=2", None),
    ("a file became a directory", "a=1", "a/ a/b=2", "a=1", "a/ a/b=2"),
    ("a directory became a file", "d/ d/a=1", "d=2", "d/ d/a=1", "d=2"),
    ("edited below, replaced above", "x/ x/y=1", "x/ x/y=2", "x=3", None),
    ("different files in one new directory", "", "d/ d/a=1", "d/ d/b=2", "d/ d/a=1 d/b=2"),
    ("different files in one old directory", "d/", "d/ d/a=1", "d/ d/b=2", "d/ d/a=1 d/b=2"),
]


@pytest.mark.parametrize(("old", "a", "b", "after"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_the_clauses_demand_is_accepted_and_nothing_else(old: str, a: str, b: str, after: str | None) -> None:
    due = (tree(a), tree(b)) if after is None else (tree(after), tree(after))
    assert two(tree(old), tree(a), tree(b), *due) == []
    others = [(tree(a), tree(b)), (tree(a), tree(a)), (tree(b), tree(b)), (tree(old), tree(old)), ({}, {})]
    for wrong in (pair for pair in others if pair != due):
        assert two(tree(old), tree(a), tree(b), *wrong)


def test_agreement_at_a_directory_is_no_agreement_below_it() -> None:
    old, a, b = tree("x/ x/y=1"), tree("x/ x/y=2"), tree("x=3")
    assert {v.clause for v in two(old, a, b, b, b)} == {"B4"}


def test_an_update_that_was_not_detected_is_told() -> None:
    found = two(tree("a=1"), tree("a=2"), tree("a=1"), tree("a=2"), tree("a=2"), dirty=(set(), {""}))
    assert ("B0", "a") in {(v.clause, v.path) for v in found}


def test_more_may_be_called_dirty_than_is() -> None:
    both = {"", "a"}
    assert two(tree("a=1"), tree("a=1"), tree("a=1"), tree("a=1"), tree("a=1"), dirty=(both, both)) == []


def run(old: str, before: str, after: str, remembered: str, *extras: Extra, **more: object) -> set[str]:
    def all_of(text: str) -> dict[str, dict[str, Item]]:
        return {f"s{n}": tree(one) for n, one in enumerate(text.split("|"))}

    memory = Memory(tree(remembered), more.pop("forgotten_after", frozenset()))  # type: ignore[arg-type]
    found = many(Memory(tree(old), more.pop("forgotten", frozenset())), all_of(before), memory, all_of(after), extras=extras, **more)  # type: ignore[arg-type]  # fmt: skip # noqa: E501
    return {violation.clause for violation in found}


N_TABLE = [
    ("one edit goes everywhere", "a=1", "a=2|a=1|a=1", "a=2|a=2|a=2", "a=2", set()),
    ("one edit stays away", "a=1", "a=2|a=1|a=1", "a=2|a=1|a=2", "a=1", {"J3"}),
    ("two equal edits", "a=1", "a=2|a=2|a=1", "a=2|a=2|a=2", "a=2", set()),
    ("two different edits touch nothing", "a=1", "a=2|a=3|a=1", "a=2|a=3|a=1", "a=1", set()),
    ("an edit is overwritten", "a=1", "a=2|a=3|a=1", "a=3|a=3|a=3", "a=3", {"J2"}),
    ("a deletion", "a=1", "|a=1|a=1", "||", "", set()),
    ("a deletion that is undone", "a=1", "|a=1|a=1", "a=1|a=1|a=1", "a=1", {"J2"}),
    ("memory runs ahead", "a=1", "a=2|a=1", "a=2|a=1", "a=2", {"J1", "J3"}),
    ("memory lags behind", "a=1", "a=2|a=1", "a=2|a=2", "a=1", {"J4"}),
    ("something is invented", "a=1", "a=2|a=1", "a=4|a=4", "a=4", {"J2"}),
]


@pytest.mark.parametrize(
    ("old", "before", "after", "remembered", "broken"), [row[1:] for row in N_TABLE], ids=[row[0] for row in N_TABLE]
)
def test_any_number_of_replicas(old: str, before: str, after: str, remembered: str, broken: set[str]) -> None:
    assert run(old, before, after, remembered) == broken


def test_a_failure_that_was_told_excuses() -> None:
    assert run("a=1", "a=2|a=1", "a=2|a=1", "a=1", failed=frozenset({"a"})) == set()


def test_a_conflict_copy_is_a_write_of_the_referee() -> None:
    extras = (Extra("s1", "a", file("2")), Extra("s1", "c", file("3")))
    assert run("a=1", "a=2|a=3", "a=2 c=3|a=2 c=3", "a=2 c=3", *extras) == set()


def test_the_referee_may_not_drop_a_value() -> None:
    assert run("a=1", "a=2|a=3", "a=2|a=2", "a=2", Extra("s1", "a", file("2"))) == {"J5"}


def test_the_referee_may_not_write_where_nothing_is_in_conflict() -> None:
    assert "J5" in run("a=1", "a=2|a=1", "a=1|a=1", "a=1", Extra("s0", "a", file("1")), Extra("s0", "c", file("2")))


def test_an_edit_that_meets_a_deletion_is_brought_back_by_the_referee() -> None:
    assert run("a=1", "a=2|", "a=2|a=2", "a=2", Extra("s1", "a", file("2"))) == set()


def test_what_is_hidden_is_forgotten_and_not_absent() -> None:
    hidden = {"hidden": lambda replica, path: replica == "s1" and path == "a"}
    assert run("a=1", "a=1|", "a=1|", "a=1", **hidden) == set()
    assert run("a=1", "a=1|", "|", "", **hidden) == {"J2"}
    assert run("a=1", "a=1|a=9", "a=1|a=1", "a=1", **hidden) == {"J0"}


def test_a_memory_that_forgot_deletes_nothing() -> None:
    forgot: Mapping[str, object] = {"forgotten": frozenset({"a"}), "forgotten_after": frozenset({"a"})}
    assert run("", "a=1|", "a=1|", "", **forgot) == set()
    assert run("", "a=1|", "|", "", **forgot) == {"J2", "J4"}


@pytest.mark.parametrize("seed", range(60))
def test_the_state_machine_keeps_the_clauses_in_a_run_without_conflict(seed: int) -> None:
    world = World(3, seed)
    for path in (b"a", b"b", b"d/a", b"d/b"):
        world.write("s0", path)
    world.settle()
    old = world.trees()["s0"]
    world.write("s0", b"a")
    world.delete("s1", b"d" if seed % 2 else b"d/a")
    world.write("s2", b"e/c")
    before = world.trees()
    world.settle()
    after = world.trees()
    assert many(Memory(old), before, Memory(after["s0"]), after) == []
