"""The asynchronous oracle: which states may the synchroniser be in, given what users saw? (Hughes, Pierce, Arts and
Norell, "Mysteries of Dropbox: Property-Based Testing of a Distributed Synchronization Service", ICST 2016.)

One file on N nodes. Users read, write (and learn what they overwrote) and wait for rest; in between the synchroniser
takes steps that nobody sees: a node uploads (*up*) or downloads (*down*). A trace is right if *some* interleaving of
such steps explains it. So all states that are possible are kept: a set, closed under both steps before each
observation, of which only those stay that are consistent with it. Where none stays, nothing explains the observation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import attrs

from .history import Value


@attrs.frozen
class Read:
    """A user on `node` saw `value` (None: nothing)."""

    node: int
    value: Value | None


@attrs.frozen
class Overwrite:
    """A user on `node` wrote `new` (None: deleted) and thereby replaced `old`."""

    node: int
    new: Value | None
    old: Value | None


@attrs.frozen
class Stabilize:
    """All was quiet: every node shows `value`, with these conflict copies (sorted; a value may be in it twice)."""

    value: Value | None
    conflicts: tuple[Value, ...] = ()


T = TypeVar("T")

Observation: TypeAlias = Read | Overwrite | Stabilize


@attrs.frozen
class State:
    """A state that the synchroniser may be in.

    Attributes:
        value: the value that it holds globally (`G`).
        conflicts: the conflict copies made so far, sorted (`K`).
        local: each node's value (`L`).
        fresh: of each node, whether it has the newest global value (`F`).
        clean: of each node, whether it has uploaded what its users wrote (`C`).
    """

    value: Value | None
    conflicts: tuple[Value, ...]
    local: tuple[Value | None, ...]
    fresh: tuple[bool, ...]
    clean: tuple[bool, ...]

    @classmethod
    def first(cls, nodes: int) -> State:
        """Nothing was written yet."""
        return cls(None, (), (None,) * nodes, (True,) * nodes, (True,) * nodes)


@attrs.frozen
class Explanation:
    """Whether a trace can be explained.

    Attributes:
        states: what may be the case at its end; empty: nothing explains it.
        unexplained: the number of the first observation that nothing explains; None: all are explained.
        why: in words.
    """

    states: frozenset[State]
    unexplained: int | None = None
    why: str = ""

    @property
    def ok(self) -> bool:
        return self.unexplained is None


@attrs.frozen
class Policy:
    """What a synchroniser does with changes that did not know of each other.

    Attributes:
        edit_wins: an edit that meets a deletion comes back under its name, as in Onitu; without it, it becomes a
            conflict copy, as with the paper's services.
        either_wins: of two edits either may keep the name (Onitu: the newer one); without it, the first that arrived.
    """

    edit_wins: bool = True
    either_wins: bool = True


def explain(nodes: int, trace: Sequence[Observation], policy: Policy = Policy()) -> Explanation:
    """Whether some order of hidden steps explains what users of `nodes` nodes saw."""
    states = frozenset({State.first(nodes)})
    bounds = _bounds(trace)
    for number, seen in enumerate(trace):
        possible = closure(states, policy, bounds[number])
        states = frozenset(after for state in possible for after in _consistent(state, seen))
        if not states:
            return Explanation(states, number, _why(number, seen, possible))
    return Explanation(states)


Bound: TypeAlias = tuple[Value, ...] | None
"""The conflict copies that the next `Stabilize` shows; None: none follows, so that copies need not be told apart."""


def _bounds(trace: Sequence[Observation]) -> list[Bound]:
    """Copies never go away, so a state that has one which the next `Stabilize` does not show explains nothing."""
    bounds: list[Bound] = []
    bound: Bound = None
    for seen in reversed(trace):
        bound = seen.conflicts if isinstance(seen, Stabilize) else bound
        bounds.append(bound)
    return bounds[::-1]


def closure(states: Iterable[State], policy: Policy, bound: Bound) -> frozenset[State]:
    """All states that hidden steps lead to from these, and these, without those that the bound forbids."""
    found: set[State] = set()
    todo = list(states)
    while todo:
        state = todo.pop()
        if bound is None:
            state = attrs.evolve(state, conflicts=())
        elif Counter(state.conflicts) - Counter(bound):
            continue
        if state not in found:
            found.add(state)
            todo += _steps(state, policy)
    return frozenset(found)


def _steps(state: State, policy: Policy) -> Iterator[State]:
    for node, (fresh, clean) in enumerate(zip(state.fresh, state.clean, strict=True)):
        if not clean:
            yield from _up(state, node, policy)
        elif not fresh:
            yield _down(state, node)


def _down(state: State, node: int) -> State:
    """DOWN: a node that has nothing of its own takes the newest value. Never over a dirty file."""
    local, fresh = _put(state.local, node, state.value), _put(state.fresh, node, True)
    return attrs.evolve(state, local=local, fresh=fresh)


def _up(state: State, node: int, policy: Policy) -> Iterator[State]:
    """UP: a node tells its value. It becomes the newest if the node had seen the one before; else both are kept."""
    value, state = state.local[node], attrs.evolve(state, clean=_put(state.clean, node, True))
    alone = tuple(n == node for n in range(len(state.local)))
    if value == state.value:
        yield state
    elif state.fresh[node] or (policy.edit_wins and value is not None and state.value is None):
        yield attrs.evolve(state, value=value, fresh=alone)
    elif value is None:
        yield state  # a deletion of something older yields
    else:
        yield attrs.evolve(state, conflicts=_with(state.conflicts, value))
        if policy.either_wins and state.value is not None:
            yield attrs.evolve(state, value=value, conflicts=_with(state.conflicts, state.value), fresh=alone)


def _with(conflicts: tuple[Value, ...], value: Value) -> tuple[Value, ...]:
    return tuple(sorted((*conflicts, value)))


def _consistent(state: State, seen: Observation) -> Iterator[State]:
    """The state after an observation, if it may have been made in this one."""
    match seen:
        case Read(node, value):
            if state.local[node] == value:
                yield state
        case Overwrite(node, new, old):
            if state.local[node] == old:
                yield attrs.evolve(state, local=_put(state.local, node, new), clean=_put(state.clean, node, False))
        case Stabilize(value, conflicts):
            quiet = all(state.fresh) and all(state.clean)
            if quiet and state.value == value and state.conflicts == tuple(sorted(conflicts)):
                yield state


def _put(row: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    return (*row[:at], value, *row[at + 1 :])


def _why(number: int, seen: Observation, possible: frozenset[State]) -> str:
    """What could have been observed instead."""
    if isinstance(seen, Stabilize):
        quiet = [s for s in possible if all(s.fresh) and all(s.clean)]
        could = sorted({f"{s.value or 'nothing'} with the copies {list(s.conflicts)}" for s in quiet})
    else:
        could = sorted({s.local[seen.node] or "nothing" for s in possible})
    return f"nothing explains observation {number}, {seen}: possible was {' or '.join(could)}"


# --- what must hold of every trace, whatever the model ---------------------------------------------------------------


def violations(trace: Sequence[Observation]) -> list[str]:
    """The properties P1–P5 that a trace breaks, in words; they need no model and no search.

    P1 no silent loss, P3 stability, P4 provenance, P5 nothing vanishes by itself. P2 (agreement) is in what `Stabilize`
    says: one value for all nodes; `agreed` makes it.
    """
    found: list[str] = []
    written: set[Value] = set()
    replaced: set[Value] = set()
    last: Stabilize | None = None
    for number, seen in enumerate(trace):
        match seen:
            case Overwrite(_, new, old):
                written |= _values(new)
                replaced |= _values(old)
                last = None
            case Stabilize(value, conflicts):
                here = _values(value, *conflicts)
                lost = sorted(written - replaced - here)
                found += [f"P1 at {number}: {v} was written, nobody replaced it, and it is gone" for v in lost]
                if last is not None and last != seen:
                    found.append(f"P3 at {number}: nobody wrote, and {last} became {seen}")
                found += [f"P4 at {number}: nobody wrote {v}" for v in sorted(here - written)]
                if value is None and written and not _deleted(trace[:number]):
                    found.append(f"P5 at {number}: nothing stands, and nobody deleted the file")
                last = seen
            case Read(node, value):
                if value is not None and value not in written:
                    found.append(f"P4 at {number}: node {node} shows {value}, which nobody wrote")
    return found


def _values(*values: Value | None) -> set[Value]:
    return {value for value in values if value is not None}


def _deleted(trace: Sequence[Observation]) -> bool:
    return any(isinstance(seen, Overwrite) and seen.new is None for seen in trace)


def agreed(shown: Sequence[tuple[Value | None, tuple[Value, ...]]]) -> Stabilize | str:
    """The observation that all nodes' (value, conflict copies) make at rest; in words why there is none (P2)."""
    first = (shown[0][0], tuple(sorted(shown[0][1])))
    for node, (value, conflicts) in enumerate(shown):
        if (value, tuple(sorted(conflicts))) != first:
            return f"P2: node 0 shows {first}, node {node} shows {(value, tuple(sorted(conflicts)))}"
    return Stabilize(*first)
