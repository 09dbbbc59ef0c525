from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onitu.testing.spec.mysteries import Observation, Overwrite, Policy, Read, Stabilize, agreed, explain, violations

FIRST = Policy(either_wins=False)
PAPER = Policy(edit_wins=False, either_wins=False)


@attrs.define
class Service:
    """A correct service of one file, and ways to break it. `trace` is what its users see."""

    nodes: int
    bug: str = ""
    head: str | None = None
    version: int = 0
    copies: list[str] = attrs.field(factory=list)
    trace: list[Observation] = attrs.field(factory=list)

    local: list[str | None] = attrs.field(init=False)
    base: list[int] = attrs.field(init=False)
    dirty: list[bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.local = [None] * self.nodes
        self.base = [0] * self.nodes
        self.dirty = [False] * self.nodes

    def write(self, node: int, new: str | None) -> None:
        self.trace.append(Overwrite(node, new, self.local[node]))
        self.local[node], self.dirty[node] = new, True

    def read(self, node: int) -> None:
        self.trace.append(Read(node, self.local[node]))

    def step(self, node: int) -> None:
        if self.dirty[node] and not (self.bug == "clobber" and self.base[node] < self.version):
            self.dirty[node] = False
            self.up(node, self.local[node])
        elif self.base[node] < self.version:
            self.local[node], self.base[node], self.dirty[node] = self.head, self.version, False

    def up(self, node: int, value: str | None) -> None:
        if value == self.head:
            return
        comes_back = value is not None and self.head is None and self.bug != "delete_wins"
        if self.base[node] == self.version or self.bug == "stale" or comes_back:
            self.take(node, value)
        elif value is not None and self.head is not None and self.bug != "no_copy":
            self.copies.append(value)

    def take(self, node: int, value: str | None) -> None:
        self.version += 1
        self.head, self.base[node] = value, self.version

    def rest(self) -> None:
        for _ in range(3):
            for node in range(self.nodes):
                self.step(node)
        if self.bug == "resurrect" and self.head is None and len(self.trace) > 3:
            written = [seen.old for seen in self.trace if isinstance(seen, Overwrite) and seen.old]
            self.head = written[0] if written else None
            self.local = [self.head] * self.nodes
        seen = agreed([(value, tuple(self.copies)) for value in self.local])
        assert isinstance(seen, Stabilize)
        self.trace.append(seen)


def live(service: Service, seed: int, steps: int = 13) -> Service:
    chance = random.Random(seed)
    for number in range(steps):
        node, drawn = chance.randrange(service.nodes), chance.random()
        if drawn < 0.5:
            service.write(node, f"v{number}")
        elif drawn < 0.7:
            service.write(node, None)
        elif drawn < 0.9:
            service.read(node)
        else:
            service.rest()
        for _ in range(chance.choice((0, 0, 1, 4))):
            service.step(chance.randrange(service.nodes))
    service.rest()
    return service


@given(nodes=st.integers(2, 4), seed=st.integers(0, 2**32), steps=st.integers(0, 13))
@settings(max_examples=150, deadline=None)
def test_a_correct_service_is_explained(nodes: int, seed: int, steps: int) -> None:
    trace = live(Service(nodes), seed, steps).trace
    explanation = explain(nodes, trace, FIRST)
    assert explanation.ok, explanation.why
    assert explain(nodes, trace).ok
    assert violations(trace) == []


@pytest.mark.parametrize("bug", ["clobber", "stale", "delete_wins", "no_copy", "resurrect"])
def test_every_bug_has_a_trace_that_nothing_explains(bug: str) -> None:
    explanations = [explain(3, live(Service(3, bug), seed).trace) for seed in range(80)]
    rejected = [explanation for explanation in explanations if not explanation.ok]
    assert len(rejected) >= 3
    assert all("nothing explains observation" in explanation.why for explanation in rejected)


def test_no_trace_that_loses_a_value_is_explained() -> None:
    for bug in ("clobber", "stale", "delete_wins", "no_copy"):
        for seed in range(40):
            trace = live(Service(3, bug), seed).trace
            if any(found.startswith("P1") for found in violations(trace)):
                assert not explain(3, trace).ok


def test_the_first_observation_that_nothing_explains_is_told_with_what_was_possible() -> None:
    trace = [Overwrite(0, "a", None), Read(1, "b"), Read(0, "a")]
    explanation = explain(2, trace)
    assert explanation.unexplained == 1
    assert "possible was a or nothing" in explanation.why


def test_two_edits_leave_one_and_a_copy_and_the_policy_tells_which() -> None:
    edits: list[Observation] = [Overwrite(0, "a", None), Read(1, "a"), Overwrite(0, "b", "a"), Overwrite(1, "c", "a")]
    for value, copy in (("b", "c"), ("c", "b")):
        assert explain(2, [*edits, Stabilize(value, (copy,))]).ok
    assert not explain(2, [*edits, Stabilize("c", ())]).ok
    assert not explain(2, [*edits, Stabilize("b", ("c", "c"))]).ok


def test_an_edit_against_a_deletion_follows_the_policy() -> None:
    deletes: list[Observation] = [
        Overwrite(0, "a", None),
        Stabilize("a"),
        Overwrite(0, None, "a"),
        Overwrite(1, "b", "a"),
    ]
    assert explain(2, [*deletes, Stabilize("b")]).ok
    assert not explain(2, [*deletes, Stabilize(None)]).ok
    assert explain(2, [*deletes, Stabilize(None, ("b",))], PAPER).ok
    assert not explain(2, [*deletes, Stabilize(None, ("b",))]).ok


def test_fifteen_observations_on_four_nodes_are_explained_with_few_states() -> None:
    trace: list[Observation] = [Overwrite(n % 4, f"v{n}", None if n < 4 else f"v{n - 4}") for n in range(14)]
    trace.append(Stabilize("v13", ("v10", "v11", "v12")))
    assert len(explain(4, trace).states) == 1
    assert all(len(explain(4, trace[:n]).states) < 50_000 for n in (10, 14))


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        ([Overwrite(0, "a", None), Stabilize(None)], ["P1", "P5"]),
        ([Overwrite(0, "a", None), Stabilize("a"), Stabilize("a", ("a",))], ["P3"]),
        ([Read(0, "x")], ["P4"]),
        ([Stabilize("x")], ["P4"]),
    ],
)
def test_the_properties_need_no_model(trace: list[Observation], words: list[str]) -> None:
    assert [found[:2] for found in violations(trace)] == words


def test_nodes_that_differ_at_rest_are_told() -> None:
    assert str(agreed([("a", ()), ("b", ())])).startswith("P2")
