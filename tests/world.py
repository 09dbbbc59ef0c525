"""A world of services in memory, for the pure core: users change trees, events and orders travel in any interleaving.

No process, no socket, no store: `machine.observe` and `planner.plan` are called directly, between services that are
dicts (`tests.services`). What has to hold once all is quiet is asked without a look into the nodes, but for one thing:
where a service has two entries of one name in two Unicode forms, the node says which of them is managed.
"""

from __future__ import annotations

import itertools
from collections import Counter

from msgspec.structs import replace

from onitu.model import paths
from onitu.model.events import Event, Seen, Trouble
from onitu.model.nodes import Node
from onitu.model.orders import Do, Order
from onitu.model.versions import NOTHING, Kind
from onitu.referee.machine import ERA_BITS, observe
from onitu.referee.planner import left, plan, tidy
from onitu.referee.rules import Rules
from onitu.referee.view import Need, View
from onitu.testing import Verdict, judge
from tests.services import Replicated, Services, Thing, value_of

PATIENCE = 12
"""Failures of one path, with nothing but failures there, after which it is left alone until something changes: a driver
would go on with longer and longer pauses, and rounds have no pauses. `check_ruled` asks for a reason."""


class World(Services):
    """Some services, a Referee of the pure core, and the book of who replaced what."""

    def __init__(self, services: int, seed: int, rules: Rules | None = None) -> None:
        super().__init__(services, seed, rules)
        self.nodes: dict[bytes, Node] = {}
        self.seq = 5 << ERA_BITS
        self.number = 0
        self.steps = 0
        self.ordered: Counter[tuple[Do, Kind]] = Counter()
        self.failures: Counter[tuple[str, bytes]] = Counter()
        self.blocked: dict[tuple[str, bytes], Trouble] = {}

    # --- accidents ----------------------------------------------------------------------------------------------

    def crash(self, service: str) -> None:
        """The driver dies: what it had not told is lost, and it will look at everything anew.

        A real driver remembers in a journal of its own what it did for orders and could not tell; here that is lost.
        """
        self.history.forget(f"what the driver of {service} had done and not told")
        place = self.services[service]
        place.events.clear()
        place.orders.clear()
        held = [node.held[service].name or path for path, node in self.nodes.items() if service in node.held]
        place.dirty = dict.fromkeys([*place.tree, *held])

    def lose_state(self) -> None:
        """The store is emptied; events and orders of before are still on their way."""
        self.history.forget()
        self.nodes.clear()
        self.blocked.clear()
        self.seq = ((self.seq >> ERA_BITS) + 1) << ERA_BITS
        for place in self.services.values():
            place.dirty |= dict.fromkeys(place.tree)

    # --- the Referee --------------------------------------------------------------------------------------------

    def view(self) -> View:
        return _Everything(self.nodes)

    def decide(self, service: str) -> None:
        event = self.services[service].events.pop(0)
        decision = observe(self.view(), self.rules, service, event, self.seq)
        assert decision.seq >= self.seq
        self.seq = decision.seq + 1
        for node in decision.nodes.values():
            self._store(node)
        touched = {p for n in decision.nodes.values() for p in (n.path, n.origin, *n.heirs) if p}
        for path in touched:
            if not left(self.view(), self.rules, path):
                for node in tidy(self.view(), self.rules, path):
                    self._store(node)
        self._account(service, event, bool(decision.nodes))

    def _account(self, service: str, event: Event, news: bool) -> None:
        """What failed for a reason that is no passing one is not tried again until something is new."""
        at = service, paths.key(event.path)
        if event.seen is not Seen.FAILED:
            if news:
                self.blocked.clear()
            if event.order:
                self.failures.pop(at, None)
            return
        self.failures[at] += 1
        if event.trouble is Trouble.NAME_CLASH or self.failures[at] >= PATIENCE:
            self.blocked[at] = event.trouble

    def _store(self, node: Node) -> None:
        if node.empty:
            self.nodes.pop(node.path, None)
        else:
            self.nodes[node.path] = node

    def order(self, service: str, path: bytes) -> bool:
        """Plan one path for a service, and send what comes out."""
        if (service, path) in self.blocked:
            return False
        place = self.services[service]
        sources = frozenset(self.services)
        todo = plan(self.view(), self.rules, service, path, sources).order
        if todo is None:
            return False
        busy = {p for o in place.orders for p in (o.path, o.target, o.keep) if p}
        waiting = {p for e in place.events if e.order for p in (e.path, e.source) if p}
        if {p for p in (todo.path, todo.target, todo.keep) if p} & (busy | waiting):
            return False
        self._allowed(service, todo)
        self.number += 1
        self.ordered[todo.do, todo.version.kind] += 1
        place.orders.append(replace(todo, number=self.number))
        return True

    def _allowed(self, service: str, order: Order) -> None:
        """S5: no order that a mode or a filter forbids."""
        assert order.do is Do.FINGERPRINT or self.rules.writable(service), f"S5: {service} is written: {order}"
        if order.do is Do.PUT:
            path = paths.key(order.path)
            assert not self.rules.hides(service, path, order.version), f"S5: {service} may not hold it: {order}"
            holds = path in self.nodes and service in self.nodes[path].held
            assert holds or not self.banned(service, path), f"S5: {service} is banned: {order}"

    def banned(self, service: str, path: bytes) -> bool:
        """Whether a rule's `ban` keeps the service from the path (of rules whose bans come last)."""
        rules = self.rules.rules or ()
        return any(service in r.ban and (path + b"/").startswith(r.path.encode().lstrip(b"/")) for r in rules)

    # --- running ------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Do one thing that can be done, chosen by chance; False where everything is quiet."""
        self.steps += 1
        doable = []
        for name, place in self.services.items():
            if place.dirty:
                doable.append((self.look, name))
            if place.events:
                doable.append((self.decide, name))
            if place.orders:
                doable.append((self.perform, name))
        if doable and self.random.random() < 0.8:
            do, name = self.random.choice(doable)
            do(name)
            return True
        wanted = [(s, p) for p in self.nodes for s in self.services]
        self.random.shuffle(wanted)
        for service, path in wanted:
            if self.order(service, path):
                return True
        if doable:
            do, name = self.random.choice(doable)
            do(name)
            return True
        return False

    def settle(self, limit: int = 5000) -> None:
        """Until nothing can be done any more."""
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError("it does not come to rest")

    def rounds(self, limit: int = 200) -> int:
        """Until nothing is left, by rounds: everybody looks, all events are decided, everything that is left is
        planned, all orders are carried out; each in shuffled batches. How many rounds that took."""
        for number in range(limit):
            for do, waiting in ((self.look, "dirty"), (self.decide, "events")):
                while some := [name for name, place in self.services.items() if getattr(place, waiting)]:
                    do(self.random.choice(some))
            wanted = [(s, p) for p in self.nodes for s in self.services]
            self.random.shuffle(wanted)
            before = self.number
            for service, path in wanted:
                self.order(service, path)
            if self.number == before:
                return number
            for place in self.services.values():
                self.random.shuffle(place.orders)
            while some := [name for name, place in self.services.items() if place.orders]:
                self.perform(self.random.choice(some))
            self.steps += 1
        raise AssertionError(f"it does not come to rest in {limit} rounds")

    def look_again(self) -> None:
        """Everybody looks at everything again."""
        for place in self.services.values():
            place.dirty |= dict.fromkeys(place.tree)

    # --- what must hold -----------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """What the oracle says."""
        return judge(self.history, self.trees())

    def check(self) -> None:
        """S1–S6 once all is quiet, where every service holds everything; and the Referee's own nodes say the same."""
        verdict = self.verdict()
        assert verdict.ok, verdict.explain()
        assert not any(left(self.view(), self.rules, path) for path in self.nodes)
        for path, node in self.nodes.items():
            assert node.head.exists, f"a tombstone stays at {path!r}: {node}"
            assert set(node.held) == set(self.services)
        self.history.rest()

    def check_ruled(self) -> None:
        """S1–S3 and S5 once all is quiet, where modes, rules, filters and names keep services apart.

        What may be different, or still be left, is a path at which a service is stuck (`_reason`) and what lies above
        and below it: no promise says that an impossible name stands somewhere, and S1 forbids to make room by
        destroying what nobody else has. A head may be waited for that was replaced where it came from, and that only
        services hold which are no source (S5). Everything beside such a path has to be right.
        """
        present = self.values(self.services)
        assert self.alive <= present, f"lost: {self.alive - present}"
        assert present <= self.written.keys(), f"S3: nobody wrote {present - self.written.keys()}"
        for value, service in self.written.items():
            if not self.rules.readable(service):
                others = [name for name in self.services if name != service]
                assert value not in self.values(others), f"S5: {value!r} of {service} was taken for a source"
        for (service, path), trouble in self.blocked.items():
            assert self._reason(service, path, trouble), f"{service} is stuck at {path!r}: {trouble.name}"
        for a, b in itertools.permutations(self.services, 2):
            if self.rules.readable(a) and self.rules.writable(b):
                self._check_pair(a, b)
        for path in self.nodes:
            waiting = [s for s in left(self.view(), self.rules, path) if not self._stuck(s, path)]
            assert not waiting or self._out_of_reach(path), f"left for ever at {path!r}: {waiting}"

    def _check_pair(self, a: str, b: str) -> None:
        """What is seen on `a` stands on `b`: all of it where `a` is written too, else what nobody replaced."""
        ours, theirs, there = self.managed(a), self.managed(b), self.values([b])
        for path in ours.keys() | (theirs.keys() if self.rules.readable(b) and self.rules.writable(a) else set()):
            mine, yours = ours.get(path), theirs.get(path)
            if self._kept_apart(a, b, path, mine, yours):
                continue
            if self.rules.writable(a):
                apart = self._stuck(a, path) or self._stuck(b, path)
                assert apart or _same(mine, yours), f"S2: {a} and {b} differ at {path!r}: {mine} and {yours}"
            elif mine is not None and value_of(mine.version) in self.alive:
                value = value_of(mine.version)
                names = {p: node.head for p, node in self.nodes.items() if value_of(node.head) == value}
                hidden = any(self.rules.hides(b, name, head) for name, head in names.items()) or self._hidden(value)
                apart = hidden or any(self._stuck(b, name) for name in names)
                assert apart or value in there, f"S1: {mine} of {a} did not come to {b}"

    def _kept_apart(self, a: str, b: str, path: bytes, *things: Thing | None) -> bool:
        """Whether one of the two may not hold what stands there, or shall stand there: it keeps what it had."""
        versions = [thing.version for thing in things if thing is not None] or [NOTHING]
        versions += [self.nodes[path].head] if path in self.nodes else []
        hidden = any(self.rules.hides(service, path, version) for service in (a, b) for version in versions)
        return hidden or self.banned(a, path) or self.banned(b, path)

    def _hidden(self, value: bytes) -> bool:
        """Whether a user gave the value a name that is not managed there, which is like a deletion for all others: the
        rules hide it, or another entry has that name in another Unicode form."""
        for service, place in self.services.items():
            managed = self.managed(service)
            for path, thing in place.tree.items():
                key = paths.key(path)
                apart = managed[key] is not thing or self.rules.hides(service, key, thing.version) is not None
                if apart and value_of(thing.version) == value:
                    return True
        return False

    def _reason(self, service: str, path: bytes, trouble: Trouble) -> bool:
        """Whether an order may fail for ever: for a name that differs from another in case only, where the service
        cannot hold both; or for something above or below that nobody may take away, because the rules hide it or
        because the service is no source."""
        place = self.services[service]
        if trouble is Trouble.NAME_CLASH:
            return place.folds
        things = [(paths.key(p), thing.version) for p, thing in place.tree.items()]
        near = [(p, v) for p, v in things if paths.within(p, path) or paths.within(path, p)]
        hidden = any(self.rules.hides(service, p, version) for p, version in near)
        return trouble in (Trouble.NOT_EMPTY, Trouble.IO) and (hidden or not self.rules.readable(service))

    def _out_of_reach(self, path: bytes) -> bool:
        """Whether a value is to stand there that its user replaced, and that only services have which are no source."""
        head = self.nodes[path].head
        has = [s for s in self.services if value_of(head) in self.values([s])]
        return head.carries_value and value_of(head) not in self.alive and not any(map(self.rules.readable, has))

    def _stuck(self, service: str, path: bytes) -> bool:
        """Whether the service is stuck at the path, above or below it, or where its content is to be renamed from."""
        names = {path, self.nodes[path].origin} if path in self.nodes else {path}
        stuck = [p for s, p in self.blocked if s == service]
        return any(p == name or paths.within(name, p) or paths.within(p, name) for p in stuck for name in names if name)

    def managed(self, service: str) -> dict[bytes, Thing]:
        """A service's tree by key; of two entries of one name, the one that the node names."""
        found: dict[bytes, Thing] = {}
        for path, thing in self.services[service].tree.items():
            key = paths.key(path)
            held = self.nodes[key].held.get(service) if key in self.nodes else None
            if key not in found or (held is not None and (held.name or key) == path):
                found[key] = thing
        return found


class _Everything(View):
    """A view that has everything at hand."""

    def __init__(self, nodes: dict[bytes, Node]) -> None:
        super().__init__()
        self._nodes = nodes

    def __getitem__(self, path: bytes) -> Node:
        return self._nodes.get(path) or Node(path)

    def children(self, directory: bytes) -> list[Node]:
        return [node for path, node in sorted(self._nodes.items()) if paths.parent(path) == directory]


def _same(a: Thing | None, b: Thing | None) -> bool:
    if a is None or b is None:
        return a is b
    return (a.version.kind, value_of(a.version)) == (b.version.kind, value_of(b.version))


__all__ = ["NOTHING", "Need", "Replicated", "Thing", "World"]
