"""Reading a folder's state from the server: pipelines, one thread hop for each batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import redis
import trio

from onitu.model import paths
from onitu.model.errors import Unreadable
from onitu.model.nodes import Node

from . import codec, scripts, urls
from .interface import Entry, Meta, Problem
from .keys import JOURNAL, Keys

T = TypeVar("T")

PAGE = 1000
"""Values asked for at a time."""

DIRECTORIES = 32
"""Directories in one page of `walk`: a hash that the server packs comes whole, with at most 256 nodes."""


class RedisReader:
    """What can be known of a folder without a lease.

    Reads see what is committed. A read that meets damage raises `StateError`; so does a server that cannot be reached.
    """

    def __init__(self, url: str, client: redis.Redis, keys: Keys, fresh: bool) -> None:
        self.url = url
        self.client = client
        self.keys = keys
        self.folder = keys.folder
        self._fresh = fresh
        self._limiter = trio.CapacityLimiter(4)

    async def hop(self, function: Callable[[], T]) -> T:
        """Run it in a thread; what the client raises becomes a `StateError`."""
        with urls.telling(self.url):
            return await trio.to_thread.run_sync(function, limiter=self._limiter)

    async def meta(self) -> Meta:
        """Sequence number, services, counters, rules."""
        pipe = self.client.pipeline(transaction=False)
        pipe.hmget(self.keys.named("meta"), "seq", "rules", "gaps", "forgotten")
        pipe.hgetall(self.keys.named("services"))
        pipe.hgetall(self.keys.named("counts"))
        (seq, rules, gaps, forgotten), services, counts = await self.hop(pipe.execute)
        try:
            return Meta(
                fresh=self._fresh,
                seq=int(seq or 0),
                services={n.decode(): codec.decode_record(r, self.folder, n.decode()) for n, r in services.items()},
                counts={n.decode(): int(count) for n, count in counts.items()},
                rules=(rules or b"").decode(),
                gaps=codec.decode_gaps(gaps, self.folder) if gaps else (),
                forgotten=int(forgotten or 0),
            )
        except ValueError as error:
            raise Unreadable(f"what is stored of folder {self.folder!r} is damaged: {error}{codec.REMEDY}") from error

    async def nodes(self, wanted: Sequence[bytes]) -> dict[bytes, Node]:
        """The nodes of these paths; a path that is not known is left out."""
        by_directory: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for path in dict.fromkeys(wanted):
            by_directory[paths.parent(path)].append(path)
        pipe = self.client.pipeline(transaction=False)
        for directory, there in by_directory.items():
            pipe.hmget(self.keys.directory(directory), [paths.name(path) for path in there])
        found = await self.hop(pipe.execute)
        return {
            path: codec.decode(data, self.folder, path)
            for there, values in zip(by_directory.values(), found, strict=True)
            for path, data in zip(there, values, strict=True)
            if data is not None
        }

    async def children(
        self, directories: Sequence[bytes], at_hand: Mapping[bytes, Node] | None = None
    ) -> list[list[Node]]:
        """All nodes directly in each directory; those `at_hand` as they are there."""
        pipe = self.client.pipeline(transaction=False)
        for directory in directories:
            pipe.hgetall(self.keys.directory(directory))
        found = await self.hop(pipe.execute)
        known = at_hand or {}
        return [self._nodes(directory, e, known) for directory, e in zip(directories, found, strict=True)]

    async def todo(self, after: tuple[int, bytes], limit: int) -> list[tuple[int, bytes]]:
        """(score, path) of what is left to plan, ascending, strictly after the given pair; at most `limit`."""
        score, path = after
        call = partial(self._eval, scripts.TODO, "todo", score, path, limit)
        found = await self.hop(call) if limit > 0 else []
        return [(int(float(s)), p) for p, s in zip(found[::2], found[1::2], strict=True)]

    async def todo_count(self) -> int:
        """How many paths have something left to plan."""
        return await self._number("ZCARD", "todo")

    async def journal(self, path: bytes | None, limit: int, after: str = "") -> list[Entry]:
        """The newest lines first; of one path (and of what it came from or went to), or of all; only those after the
        one with the id `after`, where one is named."""
        found: list[Entry] = []
        newest, oldest, seen = b"+", b"(" + after.encode() if after else b"-", 0
        while len(found) < limit and seen < 2 * JOURNAL:
            rows = await self.hop(partial(self._lines, newest, oldest, PAGE if path is not None else limit))
            for number, fields in rows:
                data = fields[b"e"]
                if path is not None and not _may_mention(data, path):
                    continue
                entry = codec.decode_entry(data, self.folder, number.decode())
                if path is None or codec.speaks_of(entry, path):
                    found.append(entry)
            if not rows:
                break
            seen += len(rows)
            newest = b"(" + rows[-1][0]
        return found[:limit]

    async def problems(self, kind: str | None, limit: int) -> list[Problem]:
        """Problems of one kind or of all, in no order; at most `limit`."""
        found: list[Problem] = []
        async for page in self._problems():
            found += [p for p in page if kind is None or p.kind == kind]
            if len(found) >= limit:
                break
        return found[:limit]

    async def problem_counts(self) -> dict[str, int]:
        """By kind; counted now, from all of them."""
        counts: defaultdict[str, int] = defaultdict(int)
        async for page in self._problems():
            for problem in page:
                counts[problem.kind] += 1
        return dict(counts)

    async def quarantined(self, service: str, limit: int) -> list[bytes]:
        """Paths whose deletion on the service is held back, at most `limit`, sorted."""
        found: set[bytes] = set()
        cursor, key = 0, self.keys.quarantine(service)
        while len(found) < limit:
            cursor, some = await self.hop(partial(self._members, key, cursor, PAGE))
            found.update(some)
            if not cursor:
                break
        return sorted(found)[:limit]

    async def conflicts(self) -> dict[bytes, bytes]:
        """Conflict copies that stand: copy → original path."""
        return await self.hop(partial(self._hash, "conflicts"))

    async def walk(self) -> AsyncIterator[list[Node]]:
        """All nodes, in pages, in no order.

        Nodes changed meanwhile may be seen old or new, and one whose directory grows meanwhile twice.
        """
        cursor = 0
        while True:
            key = self.keys.named("dirs")
            cursor, directories = await self.hop(partial(self._members, key, cursor, DIRECTORIES))
            for start in range(0, len(directories), DIRECTORIES):
                unfinished = dict.fromkeys(directories[start : start + DIRECTORIES], 0)
                while unfinished:
                    page, unfinished = await self.hop(partial(self._scan, unfinished))
                    if page:
                        yield page
            if not cursor:
                return

    def _scan(self, cursors: dict[bytes, int]) -> tuple[list[Node], dict[bytes, int]]:
        """The next nodes of each directory, and the directories that have more, with their cursors."""
        pipe = self.client.pipeline(transaction=False)
        for directory, cursor in cursors.items():
            pipe.hscan(self.keys.directory(directory), cursor, count=PAGE)
        page: list[Node] = []
        unfinished: dict[bytes, int] = {}
        for directory, (cursor, entries) in zip(cursors, pipe.execute(), strict=True):
            page += self._nodes(directory, entries, {})
            if cursor:
                unfinished[directory] = cursor
        return page, unfinished

    def _nodes(self, directory: bytes, entries: dict[bytes, bytes], known: Mapping[bytes, Node]) -> list[Node]:
        found = []
        for name, data in entries.items():
            path = paths.join(directory, name)
            found.append(known.get(path) or codec.decode(data, self.folder, path))
        return found

    async def _problems(self) -> AsyncIterator[list[Problem]]:
        cursor, key = 0, self.keys.named("problems")
        while True:
            cursor, found = await self.hop(partial(self._fields, key, cursor))
            yield [codec.decode_problem(field, data, self.folder) for field, data in found.items()]
            if not cursor:
                return

    async def _number(self, command: str, name: str) -> int:
        return int(await self.hop(partial(urls.ask, self.client, command, self.keys.named(name))))

    def _hash(self, name: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = urls.ask(self.client, "HGETALL", self.keys.named(name))
        return found

    def _fields(self, key: bytes, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        found: tuple[int, dict[bytes, bytes]] = urls.ask(self.client, "HSCAN", key, cursor, "COUNT", PAGE)
        return found

    def _members(self, key: bytes, cursor: int, count: int) -> tuple[int, list[bytes]]:
        found: tuple[int, list[bytes]] = urls.ask(self.client, "SSCAN", key, cursor, "COUNT", count)
        return found

    def _lines(self, newest: bytes, oldest: bytes, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        words = ("XREVRANGE", self.keys.named("journal"), newest, oldest, "COUNT", max(1, min(count, PAGE)))
        found: list[tuple[bytes, dict[bytes, bytes]]] = urls.ask(self.client, *words)
        return found

    def _eval(self, script: str, name: str, *arguments: int | bytes) -> list[bytes]:
        found: list[bytes] = urls.ask(self.client, "EVAL", script, 1, self.keys.named(name), *arguments)
        return found


def _may_mention(data: bytes, path: bytes) -> bool:
    """Whether an encoded journal line can be about the path: paths stand in it byte for byte, or as they are shown."""
    return path in data or paths.show(path).encode() in data
