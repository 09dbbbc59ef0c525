"""A world of services in memory, for the pure core: users change trees, events and orders travel in any interleaving.

No process, no socket, no store: `machine.observe` and `planner.plan` are called directly, orders are carried out on
dicts with the same compare-and-swap that a driver does. Each value is unique, and each user's write or delete knows
what it replaced and is recorded in a history, so that at the end the specification's oracle judges S1–S6.
"""

from __future__ import annotations

import random

import attrs

from onitu.model import paths
from onitu.model.events import Event, Seen, Trouble
from onitu.model.nodes import Node
from onitu.model.orders import Do, Order
from onitu.model.settings import Folder, Replica
from onitu.model.versions import NOTHING, Kind, Version
from onitu.referee.machine import ERA_BITS, observe
from onitu.referee.planner import left, plan, tidy
from onitu.referee.rules import Rules
from onitu.referee.view import Need, View
from onitu.testing import History, Item, Verdict, judge
from onitu.testing.spec import Kind as Stands


@attrs.define
class Thing:
    """What stands at a path of a service."""

    version: Version
    token: bytes


@attrs.define
class Replicated:
    """One service: its tree, what its driver has not looked at yet, and the events that the Referee has not got yet."""

    tree: dict[bytes, Thing] = attrs.field(factory=dict)
    dirty: dict[bytes, None] = attrs.field(factory=dict)
    events: list[Event] = attrs.field(factory=list)
    orders: list[Order] = attrs.field(factory=list)

    def children(self, path: bytes) -> list[bytes]:
        return [p for p in self.tree if paths.within(p, path)]


class World:
    """Some services, a Referee, and the book of who replaced what."""

    def __init__(self, services: int, seed: int, rules: Rules | None = None) -> None:
        self.random = random.Random(seed)
        names = [f"s{n}" for n in range(services)]
        self.rules = rules or Rules(Folder("f"), {n: Replica("f", "/" + n) for n in names})
        self.services = {n: Replicated() for n in names}
        self.nodes: dict[bytes, Node] = {}
        self.seq = 5 << ERA_BITS
        self.number = 0
        self.tokens = 0
        self.clock = 1
        self.values = 0
        self.history = History()
        """What the users did, and when the state was lost."""
        self.steps = 0
        self.writes = 0

    # --- users --------------------------------------------------------------------------------------------------

    def token(self) -> bytes:
        self.tokens += 1
        return b"t%d" % self.tokens

    def value(self) -> Version:
        self.values += 1
        self.clock += self.random.randint(0, 2)
        value = b"v%d" % self.values
        return Version(Kind.FILE, len(value), {"blake3": value}, mtime=self.clock, mode=0o644)

    def write(self, service: str, path: bytes) -> None:
        """Create or overwrite a file, with the directories that it needs; a directory in the way is removed first."""
        place = self.services[service]
        for directory in reversed(paths.ancestors(path)):
            thing = place.tree.get(directory)
            if thing is None or thing.version.kind is not Kind.DIRECTORY:
                self.mkdir(service, directory)
        if path in place.tree and place.tree[path].version.kind is Kind.DIRECTORY:
            self.delete(service, path)
        replaced = _value(place.tree.get(path))
        thing = place.tree[path] = Thing(self.value(), self.token())
        self.history.write(service, path.decode(), str(_value(thing)), replaced)
        place.dirty[path] = None

    def mkdir(self, service: str, path: bytes) -> None:
        place = self.services[service]
        replaced = _value(place.tree.get(path))
        if replaced is not None:
            self.history.delete(service, path.decode(), replaced)
        self.history.mkdir(service, path.decode())
        place.tree[path] = Thing(Version(Kind.DIRECTORY, mode=0o755), b"directory")
        place.dirty[path] = None

    def delete(self, service: str, path: bytes) -> None:
        """Delete a file, or a directory with everything in it."""
        place = self.services[service]
        for p in sorted([*place.children(path), path], reverse=True):
            thing = place.tree.pop(p, None)
            value = _value(thing)
            if value is not None:
                self.history.delete(service, p.decode(), value)
            elif thing is not None:
                self.history.rmdir(service, p.decode())
            place.dirty[p] = None

    def rename(self, service: str, path: bytes, target: bytes) -> None:
        """Rename a file, seen by the driver as a move (or, if it looks late, as whatever it finds)."""
        place = self.services[service]
        thing = place.tree.get(path)
        free = target not in place.tree and paths.parent(target) in (paths.ROOT, *place.tree)
        if thing is None or thing.version.kind is not Kind.FILE or not free:
            return
        parent = place.tree.get(paths.parent(target))
        if parent is not None and parent.version.kind is not Kind.DIRECTORY:
            return
        self.history.rename(service, path.decode(), target.decode(), _value(thing))
        settled = path not in place.dirty
        del place.tree[path]
        place.tree[target] = Thing(thing.version, self.token())
        if settled and not place.orders and self.random.random() < 0.8:
            place.events.append(Event(Seen.MOVED, target, thing.version, place.tree[target].token, source=path))
        else:
            place.dirty[target] = None
            place.dirty[path] = None

    def touch(self, service: str, path: bytes) -> None:
        place = self.services[service]
        thing = place.tree.get(path)
        if thing is not None and thing.version.kind is Kind.FILE:
            self.clock += 1
            self.history.touch(service, path.decode())
            place.tree[path] = Thing(attrs.evolve(thing.version, mtime=self.clock), self.token())
            place.dirty[path] = None

    # --- faults -------------------------------------------------------------------------------------------------

    def crash(self, service: str) -> None:
        """The driver dies: what it had not told is lost, and it will look at everything anew.

        A real driver remembers in a journal of its own what it did for orders and could not tell; here that is lost.
        """
        self.history.forget(f"what the driver of {service} had done and not told")
        place = self.services[service]
        place.events.clear()
        place.orders.clear()
        held = [path for path, node in self.nodes.items() if service in node.held]
        place.dirty = dict.fromkeys([*place.tree, *held])

    def lose_state(self) -> None:
        """The store is emptied; events and orders of before are still on their way."""
        self.history.forget()
        self.nodes.clear()
        self.seq = ((self.seq >> ERA_BITS) + 1) << ERA_BITS
        for place in self.services.values():
            place.dirty |= dict.fromkeys(place.tree)

    # --- drivers ------------------------------------------------------------------------------------------------

    def look(self, service: str) -> None:
        """The driver looks at one dirty path and tells what it finds."""
        place = self.services[service]
        path = self.random.choice(list(place.dirty))
        path = self._in_turn(place, path)
        del place.dirty[path]
        place.events.append(self._found(place, path))

    def _in_turn(self, place: Replicated, path: bytes) -> bytes:
        """Every driver tells what is gone from below (and before what took its place), what stands from above."""
        gone = [p for p in place.dirty if paths.within(p, path) and p not in place.tree]
        if gone:
            return max(gone, key=lambda p: p.count(b"/"))
        above = [p for p in paths.ancestors(path) if p in place.dirty and p in place.tree]
        return above[-1] if path in place.tree and above else path

    def _found(self, place: Replicated, path: bytes, order: int = 0) -> Event:
        thing = place.tree.get(path)
        if thing is None:
            return Event(Seen.GONE, path, order=order)
        return Event(Seen.STANDS, path, thing.version, thing.token, order=order)

    def perform(self, service: str) -> None:
        """The driver carries out its oldest order."""
        place = self.services[service]
        order = place.orders.pop(0)
        thing = place.tree.get(order.path)
        if (thing.token if thing else b"") != order.expect and not self._adopts(thing, order):
            place.events.append(self._found(place, order.path, order.number))
            return
        place.events += getattr(self, "_" + order.do.name.lower())(place, order, thing)

    def _adopts(self, thing: Thing | None, order: Order) -> bool:
        directory = order.version.kind is Kind.DIRECTORY
        return directory and thing is not None and thing.version.kind is Kind.DIRECTORY and order.do is Do.PUT

    def _failed(self, order: Order, trouble: Trouble) -> list[Event]:
        return [Event(Seen.FAILED, order.path, order=order.number, trouble=trouble)]

    def _put(self, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        if order.version.kind is Kind.FILE and not self._can_fetch(order):
            return self._failed(order, Trouble.SOURCE_LOST)
        more: list[Event] = []
        directory = thing is not None and thing.version.kind is Kind.DIRECTORY
        if directory and order.version.kind is not Kind.DIRECTORY and place.children(order.path):
            return self._failed(order, Trouble.NOT_EMPTY)
        if not self._parents(place, order.path, more):
            return self._failed(order, Trouble.IO)
        if order.keep and not directory:
            assert thing is not None
            if order.keep in place.tree:
                return [self._found(place, order.path, order.number), self._found(place, order.keep)]
            kept = place.tree[order.keep] = Thing(thing.version, self.token())
            more.append(Event(Seen.DONE, order.keep, kept.version, kept.token))
        token = b"directory" if order.version.kind is Kind.DIRECTORY else self.token()
        place.tree[order.path] = Thing(attrs.evolve(order.version, service="", seq=0), token)
        return [*more, Event(Seen.DONE, order.path, order.version, token, order=order.number)]

    def _parents(self, place: Replicated, path: bytes, more: list[Event]) -> bool:
        for directory in reversed(paths.ancestors(path)):
            thing = place.tree.get(directory)
            if thing is None:
                place.tree[directory] = Thing(Version(Kind.DIRECTORY, mode=0o755), b"directory")
                place.dirty[directory] = None
            elif thing.version.kind is not Kind.DIRECTORY:
                return False
        return True

    def _can_fetch(self, order: Order) -> bool:
        for source in order.sources:
            thing = self.services[source.service].tree.get(source.path)
            if thing is not None and thing.token == source.token:
                return True
        return False

    def _delete(self, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        if place.children(order.path):
            return self._failed(order, Trouble.NOT_EMPTY)
        del place.tree[order.path]
        return [Event(Seen.DONE, order.path, order.version, order=order.number)]

    def _move(self, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        assert thing is not None
        if order.target in place.tree:
            return [self._found(place, order.path, order.number), self._found(place, order.target)]
        more: list[Event] = []
        if not self._parents(place, order.target, more):
            return self._failed(order, Trouble.IO)
        del place.tree[order.path]
        place.tree[order.target] = Thing(attrs.evolve(order.version, service="", seq=0), self.token())
        token = place.tree[order.target].token
        return [Event(Seen.DONE, order.target, order.version, token, source=order.path, order=order.number)]

    def _meta(self, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        assert thing is not None
        version = attrs.evolve(thing.version, mtime=order.version.mtime, mode=order.version.mode)
        token = b"directory" if version.kind is Kind.DIRECTORY else self.token()
        place.tree[order.path] = Thing(version, token)
        return [Event(Seen.DONE, order.path, order.version, token, order=order.number)]

    # --- the Referee --------------------------------------------------------------------------------------------

    def view(self) -> View:
        return _Everything(self.nodes)

    def decide(self, service: str) -> None:
        event = self.services[service].events.pop(0)
        decision = observe(self.view(), self.rules, service, event, self.seq)
        self.seq = decision.seq + 1
        for node in decision.nodes.values():
            self._store(node)
        touched = {p for n in decision.nodes.values() for p in (n.path, n.origin, *n.heirs) if p}
        for path in touched:
            if not left(self.view(), self.rules, path):
                for node in tidy(self.view(), path):
                    self._store(node)

    def _store(self, node: Node) -> None:
        if node.empty:
            self.nodes.pop(node.path, None)
        else:
            self.nodes[node.path] = node

    def order(self, service: str, path: bytes) -> bool:
        """Plan one path for a service, and send what comes out."""
        place = self.services[service]
        sources = frozenset(self.services)
        todo = plan(self.view(), self.rules, service, path, sources).order
        if todo is None:
            return False
        busy = {p for o in place.orders for p in (o.path, o.target, o.keep) if p}
        waiting = {p for e in place.events if e.order for p in (e.path, e.source) if p}
        if {p for p in (todo.path, todo.target, todo.keep) if p} & (busy | waiting):
            return False
        self.number += 1
        place.orders.append(attrs.evolve(todo, number=self.number))
        return True

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

    def trees(self) -> dict[str, dict[str, Item]]:
        return {
            name: {path.decode(): _item(thing) for path, thing in place.tree.items()}
            for name, place in self.services.items()
        }

    def verdict(self, directories: bool = False) -> Verdict:
        """What the oracle says; of empty directories that stand again only if asked: they carry no value."""
        return judge(self.history, self.trees(), directories=directories)

    def check(self) -> None:
        """S1–S6 once all is quiet, and that the Referee's own nodes say the same."""
        verdict = self.verdict()
        assert verdict.ok, verdict.explain()
        assert not any(left(self.view(), self.rules, path) for path in self.nodes)
        for path, node in self.nodes.items():
            assert node.head.exists, f"a tombstone stays at {path!r}: {node}"
            assert set(node.held) == set(self.services)
        self.history.rest()


class _Everything(View):
    """A view that has everything at hand."""

    def __init__(self, nodes: dict[bytes, Node]) -> None:
        super().__init__()
        self._nodes = nodes

    def __getitem__(self, path: bytes) -> Node:
        return self._nodes.get(path) or Node(path)

    def children(self, directory: bytes) -> list[Node]:
        return [node for path, node in sorted(self._nodes.items()) if paths.parent(path) == directory]


def _value(thing: Thing | None) -> str | None:
    """The value of a file; None: none stands there."""
    return thing.version.digests["blake3"].decode() if thing and thing.version.kind is Kind.FILE else None


def _item(thing: Thing) -> Item:
    """What the specification calls it."""
    if thing.version.kind is Kind.DIRECTORY:
        return Item(Stands.DIRECTORY)
    return Item(Stands.FILE, _value(thing), mtime=thing.version.mtime)


__all__ = ["NOTHING", "Need", "World"]
