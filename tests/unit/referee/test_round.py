"""What is decided in a few steps leads where every step does: the same nodes, index, counts, journal and orders."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import trio.testing

from onitu.model.events import BESIDE, Event, Seen, Trouble
from onitu.model.nodes import Node
from onitu.model.orders import Do, Order
from onitu.model.outside import Outside
from onitu.model.settings import Filter, Folder, Replica, Rule, Service, Settings
from onitu.model.versions import NOTHING, Kind, Version
from onitu.referee.link import Link
from onitu.referee.round import Round
from onitu.store.memory import MemoryStore
from tests.budget import budgeted
from tests.unit.referee.desk import NAMES, Desk, desk

SEEDS = range(budgeted(60, least=20))

PATHS = (b"a", b"d", b"d/a", b"d/.b", b"d/e/a", "ä".encode(), "a\u0308".encode(), b"x.bak", b"\xff", b"../out", b"d//a")


def given(rng: random.Random) -> Settings:
    """Some with filters, some with a service that is not written, or no source, or with rules."""
    folder = Folder("f", Filter(blacklist=("*.bak",)) if rng.random() < 0.3 else Filter())
    modes = {name: rng.choice(("rw", "rw", "rw", "rw", "r", "w")) for name in NAMES}
    services = {n: Service(n, "local", replicas={"f": Replica("f", f"/{n}", mode=modes[n])}) for n in NAMES}
    rules = (Rule(sync=("b", "c")),) if rng.random() < 0.2 else None
    return Settings("t", {"f": folder}, services, rules)


def version(rng: random.Random) -> Version:
    value = rng.choice((b"1", b"22"))
    match rng.randrange(6):
        case 0:
            return Version(Kind.DIRECTORY, mode=rng.choice((0o755, 0o700)))
        case 1:
            return Version(Kind.LINK, link=value)
        case 2:
            return Version(Kind.FILE, len(value), {"md5": value} if rng.random() < 0.5 else {}, mtime=1)
    return Version(Kind.FILE, len(value), {"blake3": value}, mtime=rng.choice((1, 2)), mode=0o644)


def seen(rng: random.Random, known: list[Node], service: str) -> Event:
    """What a user did, or a driver found."""
    path, token = rng.choice(PATHS), b"%d" % rng.getrandbits(20)
    held = [(node, node.held[service]) for node in known if service in node.held and node.head.carries_value]
    if held and rng.random() < 0.2:  # just a rename of what is known
        node, there = rng.choice(held)
        path = rng.choice((b"m", b"d/m", b"x.bak", node.path + b"m"))
        return Event(Seen.MOVED, path, there.version.given("", 0), token, source=there.name or node.path)
    match rng.randrange(10):
        case 0:
            return Event(Seen.GONE, path)
        case 1:
            return Event(Seen.MOVED, path, version(rng), token, source=rng.choice(PATHS))
        case 2:
            return Event(Seen.STANDS, path, Version(Kind.DIRECTORY, mode=0o755), token, order=BESIDE)
    return Event(Seen.STANDS, path, version(rng), token)


def answer(rng: random.Random, order: Order) -> Event:
    """What comes of an order."""
    token = b"%d" % rng.getrandbits(20)
    match rng.randrange(8):
        case 0:
            return Event(Seen.FAILED, order.path, order=order.number, trouble=Trouble.IO, reason="it is broken")
        case 1:
            return Event(Seen.STANDS, order.path, version(rng), token, order=order.number)
    if order.do is Do.FINGERPRINT:
        return Event(Seen.STANDS, order.path, order.version.with_digests({"blake3": b"1"}), token, order=order.number)
    made = order.version if order.do is not Do.DELETE else NOTHING
    source = order.path if order.do is Do.MOVE else b""
    return Event(Seen.DONE, order.target or order.path, made, token, source, order.number)


async def lived(seed: int) -> tuple[Any, ...]:
    """All that came of a history: what is stored, what was ordered, what was told."""
    rng = random.Random(seed)
    ticks, store = itertools.count(1), MemoryStore()
    outside = Outside(clock=lambda: next(ticks), bits=lambda bits: 5, pid=lambda: 1)
    waiting: dict[str, list[Order]] = {name: [] for name in NAMES}
    ordered: list[tuple[str, Order]] = []
    async with desk(store, given(rng), outside=outside) as d:
        for _ in range(25):
            _gather(d, waiting, ordered)
            service, known = rng.choice(NAMES), sorted(d.folder.view.nodes.values(), key=lambda node: node.path)
            answered = [answer(rng, waiting[service].pop(0)) for _ in range(rng.randint(0, len(waiting[service])))]
            events = [*answered, *(seen(rng, known, service) for _ in range(rng.randint(0, 4)))]
            rng.shuffle(events)
            await d.say(service, *events)
        _gather(d, waiting, ordered)
        links = [(link.in_flight, link.busy, link.retry.keys(), link.waiting) for link in d.folder.links.values()]
        told = [news for news in d.news if news[0] != "progress"]
        return store._folders["f"], ordered, told, links, d.folder.tallies, d.folder.totals, d.folder.counts


def _gather(d: Desk, waiting: dict[str, list[Order]], ordered: list[tuple[str, Order]]) -> None:
    for name in NAMES:
        found = d.orders(name)
        waiting[name] += found
        ordered += [(name, order) for order in found]


async def test_the_short_way_leads_where_the_long_one_does(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    whole = Round.plain
    taken: Counter[tuple[Seen, bool]] = Counter()

    def counted(work: Round, link: Link, events: Sequence[Event], start: int) -> int:
        end = whole(work, link, events, start)
        taken.update((event.seen, bool(event.source)) for event in events[start:end])
        return end

    for seed in SEEDS:
        monkeypatch.setattr(Round, "plain", counted)
        short = await lived(seed)
        monkeypatch.setattr(Round, "plain", lambda work, link, events, start: start)
        assert await lived(seed) == short, f"seed {seed}"
    kinds = (Seen.STANDS, False), (Seen.MOVED, True), (Seen.DONE, False), (Seen.DONE, True)
    assert min(taken[kind] for kind in kinds) > len(SEEDS) // 10, taken
