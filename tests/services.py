"""Services in memory: trees that users change, drivers that look at them, and orders that are carried out on them.

No process, no socket: a tree is a dict, and an order is the same compare-and-swap on it that a driver does on a disk.
Each value is unique, and each user's write or delete knows what it replaced, so that at the end every value that nobody
replaced knowingly can be asked for; it is all recorded in a history for the specification's oracle. What decides (the
pure core, or a whole Referee) belongs to whoever uses it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import attrs
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.events import BESIDE, Event, Seen, Trouble
from onitu.model.orders import Order
from onitu.model.settings import Folder, Replica
from onitu.model.versions import NOTHING, Kind, Same, Version, same_content
from onitu.referee.rules import Rules
from onitu.testing import History, Item
from onitu.testing.spec import Kind as Stands


@attrs.define
class Thing:
    """What stands at a path of a service."""

    version: Version
    token: bytes


@attrs.define
class Replicated:
    """One service: its tree, what its driver has not looked at yet, and the events that the Referee has not got yet.

    `digest`: the digest that the service itself has of what its users write. `folds`: it takes two names that differ
    in case only for one.
    """

    tree: dict[bytes, Thing] = attrs.field(factory=dict)
    dirty: dict[bytes, None] = attrs.field(factory=dict)
    events: list[Event] = attrs.field(factory=list)
    orders: list[Order] = attrs.field(factory=list)
    digest: str = "blake3"
    folds: bool = False

    def children(self, path: bytes) -> list[bytes]:
        return [p for p in self.tree if paths.within(p, path)]

    def named(self, path: bytes) -> bytes:
        """The path as the service spells what stands there already."""
        if not self.folds or path in self.tree:
            return path
        directory = paths.parent(path)
        path = paths.join(self.named(directory) if directory else b"", paths.name(path))
        return next((p for p in self.tree if folded(p) == folded(path)), path)

    def clashes(self, path: bytes) -> bool:
        """Whether the service cannot hold this path because of one that differs in case only."""
        return self.folds and self.named(path) != path


def folded(path: bytes) -> bytes:
    return path.decode().casefold().encode()


def value_of(version: Version) -> bytes:
    """The value that a user wrote; nothing where it is none."""
    if version.kind is Kind.LINK:
        return version.link
    return next(iter(version.digests.values()), b"")


class Services:
    """Some services, and the book of who replaced what."""

    def __init__(self, services: int, seed: int, rules: Rules | None = None) -> None:
        self.random = random.Random(seed)
        names = [f"s{n}" for n in range(services)]
        self.rules = rules or Rules(Folder("f"), {n: Replica("f", "/" + n) for n in names})
        self.services = {n: Replicated() for n in names}
        self.tokens = 0
        self.clock = 1
        self.written: dict[bytes, str] = {}
        """Every value that a user wrote, and where."""
        self.alive: set[bytes] = set()
        """Values that a user wrote and nobody who saw them has replaced or deleted."""
        self.history = History()
        """What the users did, and when the state was lost."""

    # --- users --------------------------------------------------------------------------------------------------

    def token(self) -> bytes:
        self.tokens += 1
        return b"t%d" % self.tokens

    def value(self, service: str, link: bool = False) -> Version:
        self.clock += self.random.randint(0, 2)
        value = b"v%d" % (len(self.written) + 1)
        self.written[value] = service
        self.alive.add(value)
        if link:
            return Version(Kind.LINK, link=value, mtime=self.clock)
        digests = {self.services[service].digest: value}
        return Version(Kind.FILE, len(value), digests, mtime=self.clock, mode=0o644)

    def replaced(self, thing: Thing | None) -> str | None:
        """A user knowingly destroys what stands there; its value."""
        if thing is None or not thing.version.carries_value:
            return None
        self.alive.discard(value_of(thing.version))
        return value_of(thing.version).decode()

    def write(self, service: str, path: bytes, link: bool = False) -> None:
        """Create or overwrite a file, with the directories that it needs; a directory in the way is removed first."""
        place = self.services[service]
        path = place.named(path)
        for directory in reversed(paths.ancestors(path)):
            thing = place.tree.get(directory)
            if thing is None or thing.version.kind is not Kind.DIRECTORY:
                self.mkdir(service, directory)
        if path in place.tree and place.tree[path].version.kind is Kind.DIRECTORY:
            self.delete(service, path)
        replaced = self.replaced(place.tree.get(path))
        version = self.value(service, link)
        self.history.write(service, path.decode(), value_of(version).decode(), replaced)
        place.tree[path] = Thing(version, self.token())
        place.dirty[path] = None

    def mkdir(self, service: str, path: bytes) -> None:
        place = self.services[service]
        path = place.named(path)
        replaced = self.replaced(place.tree.get(path))
        if replaced is not None:
            self.history.delete(service, path.decode(), replaced)
        self.history.mkdir(service, path.decode())
        place.tree[path] = Thing(Version(Kind.DIRECTORY, mode=0o755), b"directory")
        place.dirty[path] = None

    def delete(self, service: str, path: bytes) -> None:
        """Delete a file, or a directory with everything in it."""
        place = self.services[service]
        path = place.named(path)
        for p in sorted([*place.children(path), path], reverse=True):
            thing = place.tree.pop(p, None)
            replaced = self.replaced(thing)
            if replaced is not None:
                self.history.delete(service, p.decode(), replaced)
            elif thing is not None:
                self.history.rmdir(service, p.decode())
            place.dirty[p] = None

    def rename(self, service: str, path: bytes, target: bytes) -> None:
        """Rename a file, seen by the driver as a move (or, if it looks late, as whatever it finds)."""
        place = self.services[service]
        path, target = place.named(path), place.named(target)
        thing = place.tree.get(path)
        free = target not in place.tree and paths.parent(target) in (paths.ROOT, *place.tree)
        if thing is None or thing.version.kind is not Kind.FILE or not free:
            return
        parent = place.tree.get(paths.parent(target))
        if parent is not None and parent.version.kind is not Kind.DIRECTORY:
            return
        self.history.rename(service, path.decode(), target.decode(), value_of(thing.version).decode())
        settled = path not in place.dirty
        del place.tree[path]
        place.tree[target] = Thing(thing.version, self.token())
        if settled and not place.orders and self.random.random() < 0.8 and self._managed(service, path, target):
            place.events.append(Event(Seen.MOVED, target, thing.version, place.tree[target].token, source=path))
        else:
            place.dirty[target] = None
            place.dirty[path] = None

    def rename_directory(self, service: str, path: bytes, target: bytes) -> None:
        """Rename a directory with all that it holds; the driver finds out by looking."""
        place = self.services[service]
        path, target = place.named(path), place.named(target)
        thing = place.tree.get(path)
        above = place.tree.get(paths.parent(target))
        fits = not paths.parent(target) or (above is not None and above.version.kind is Kind.DIRECTORY)
        inside = target == path or paths.within(target, path)
        if thing is None or thing.version.kind is not Kind.DIRECTORY or target in place.tree or inside or not fits:
            return
        for p in [path, *place.children(path)]:
            new = target + p.removeprefix(path)
            carried = value_of(place.tree[p].version).decode() if place.tree[p].version.carries_value else None
            self.history.rename(service, p.decode(), new.decode(), carried)
            place.tree[new] = place.tree.pop(p)
            place.dirty[new] = place.dirty[p] = None

    def touch(self, service: str, path: bytes) -> None:
        place = self.services[service]
        path = place.named(path)
        thing = place.tree.get(path)
        if thing is not None and thing.version.kind is Kind.FILE:
            self.clock += 1
            self.history.touch(service, path.decode())
            place.tree[path] = Thing(replace(thing.version, mtime=self.clock), self.token())
            place.dirty[path] = None

    def _managed(self, service: str, *names: bytes) -> bool:
        """Whether a driver tells of these paths at all."""
        return not any(self.rules.hides(service, paths.key(path), NOTHING) for path in names)

    # --- drivers ------------------------------------------------------------------------------------------------

    def look(self, service: str) -> None:
        """The driver looks at one dirty path and tells what it finds."""
        place = self.services[service]
        path = self.random.choice(list(place.dirty))
        path = self._in_turn(place, path)
        del place.dirty[path]
        place.events.append(self.found(service, path))

    def _in_turn(self, place: Replicated, path: bytes) -> bytes:
        """Every driver tells what is gone from below (and before what took its place), what stands from above."""
        gone = [p for p in place.dirty if paths.within(p, path) and p not in place.tree]
        if gone:
            return max(gone, key=lambda p: p.count(b"/"))
        above = [p for p in paths.ancestors(path) if p in place.dirty and p in place.tree]
        return above[-1] if path in place.tree and above else path

    def found(self, service: str, path: bytes, order: int = 0) -> Event:
        """What the driver finds at a path; what its filters hide is only said to be hidden."""
        thing = self.services[service].tree.get(path)
        version = thing.version if thing is not None else NOTHING
        if not order and (reason := self.rules.hides(service, paths.key(path), version)) is not None:
            return Event(Seen.HIDDEN, path, reason=reason)
        if thing is None:
            return Event(Seen.GONE, path, order=order)
        return Event(Seen.STANDS, path, version, thing.token, order=order)

    def perform(self, service: str) -> list[Event]:
        """The driver carries out its oldest order."""
        place = self.services[service]
        events = self.outcome(service, place.orders.pop(0))
        place.events += events
        return events

    def outcome(self, service: str, order: Order) -> list[Event]:
        """Carry out an order; what is to be told of it, the answer last."""
        place = self.services[service]
        thing = place.tree.get(order.path)
        if thing is None and place.clashes(order.path):
            return self._failed(order, Trouble.NAME_CLASH)
        if (thing.token if thing else b"") != order.expect and not self._adopts(thing, order):
            return [self.found(service, order.path, order.number)]
        events: list[Event] = getattr(self, "_" + order.do.name.lower())(service, place, order, thing)
        return events

    def _adopts(self, thing: Thing | None, order: Order) -> bool:
        directory = order.version.kind is Kind.DIRECTORY
        return directory and thing is not None and thing.version.kind is Kind.DIRECTORY and order.do.name == "PUT"

    def _failed(self, order: Order, trouble: Trouble) -> list[Event]:
        return [Event(Seen.FAILED, order.path, order=order.number, trouble=trouble, reason=trouble.name.lower())]

    def _put(self, service: str, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        if order.version.kind is Kind.FILE and not self._can_fetch(order):
            return self._failed(order, Trouble.SOURCE_LOST)
        more: list[Event] = []
        directory = thing is not None and thing.version.kind is Kind.DIRECTORY
        if directory and order.version.kind is not Kind.DIRECTORY and place.children(order.path):
            return self._failed(order, Trouble.NOT_EMPTY)
        if (trouble := self._parents(place, order.path, more)) is not None:
            return [*more, *self._failed(order, trouble)]
        if order.keep and not directory:
            assert thing is not None
            if order.keep in place.tree:
                return [*more, self.found(service, order.keep), self.found(service, order.path, order.number)]
            if place.clashes(order.keep):
                return [*more, *self._failed(order, Trouble.NAME_CLASH)]
            kept = place.tree[order.keep] = Thing(thing.version, self.token())
            more.append(Event(Seen.DONE, order.keep, order.held or kept.version, kept.token))
        return [*more, self._stands_now(place, order, order.path)]

    def _stands_now(self, place: Replicated, order: Order, path: bytes, source: bytes = b"") -> Event:
        token = b"directory" if order.version.kind is Kind.DIRECTORY else self.token()
        place.tree[path] = Thing(order.version.given("", 0), token)
        return Event(Seen.DONE, path, order.version, token, source=source, order=order.number)

    def _parents(self, place: Replicated, path: bytes, more: list[Event]) -> Trouble | None:
        for directory in reversed(paths.ancestors(path)):
            thing = place.tree.get(directory)
            if thing is None:
                if place.clashes(directory):
                    return Trouble.NAME_CLASH
                place.tree[directory] = Thing(Version(Kind.DIRECTORY, mode=0o755), b"directory")
                more.append(Event(Seen.STANDS, directory, place.tree[directory].version, b"directory", order=BESIDE))
            elif thing.version.kind is not Kind.DIRECTORY:
                return Trouble.IO
        return None

    def _can_fetch(self, order: Order) -> bool:
        for source in order.sources:
            assert self.rules.readable(source.service), f"S5: {source.service} is no source"
            thing = self.services[source.service].tree.get(source.path)
            if thing is not None and thing.token == source.token:
                assert same_content(thing.version, order.version) is Same.YES, f"S3: another content comes: {order}"
                return True
        return False

    def _delete(self, service: str, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        if place.children(order.path):
            return self._failed(order, Trouble.NOT_EMPTY)
        del place.tree[order.path]
        return [Event(Seen.DONE, order.path, order.version, order=order.number)]

    def _move(self, service: str, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        assert thing is not None
        if order.target in place.tree:
            return [self.found(service, order.target), self.found(service, order.path, order.number)]
        if place.clashes(order.target) and folded(order.target) != folded(order.path):
            return self._failed(order, Trouble.NAME_CLASH)
        more: list[Event] = []
        if (trouble := self._parents(place, order.target, more)) is not None:
            return [*more, *self._failed(order, trouble)]
        del place.tree[order.path]
        return [*more, self._stands_now(place, order, order.target, order.path)]

    def _meta(self, service: str, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        assert thing is not None
        version = replace(thing.version, mtime=order.version.mtime, mode=order.version.mode)
        token = b"directory" if version.kind is Kind.DIRECTORY else self.token()
        place.tree[order.path] = Thing(version, token)
        return [Event(Seen.DONE, order.path, order.version, token, order=order.number)]

    def _fingerprint(self, service: str, place: Replicated, order: Order, thing: Thing | None) -> list[Event]:
        assert thing is not None
        digests = {**thing.version.digests, "blake3": value_of(thing.version)}
        place.tree[order.path] = Thing(replace(thing.version, digests=digests), thing.token)
        return [self.found(service, order.path, order.number)]

    # --- what came of it ----------------------------------------------------------------------------------------

    def trees(self) -> dict[str, dict[str, Item]]:
        """What stands on each service, as the specification calls it."""
        return {
            name: {path.decode(): _item(thing.version) for path, thing in place.tree.items()}
            for name, place in self.services.items()
        }

    def values(self, names: Iterable[str]) -> set[bytes]:
        """The values that stand on some of these services."""
        things = (thing for name in names for thing in self.services[name].tree.values())
        return {value_of(thing.version) for thing in things if thing.version.carries_value}


def _item(version: Version) -> Item:
    if version.kind is Kind.DIRECTORY:
        return Item(Stands.DIRECTORY)
    kind = Stands.LINK if version.kind is Kind.LINK else Stands.FILE
    return Item(kind, value_of(version).decode(), mtime=version.mtime)
