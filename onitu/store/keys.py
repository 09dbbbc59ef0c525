"""Keys: the names under which a folder stands in the server, and a `Change` as the commands that write it.

All keys of a folder carry its name as hash tag, `onitu:{FOLDER}:…`, so that a cluster keeps them on one node and a
script may touch them all:

    …:fence      string   fencing token of the last Referee that took the folder; never expires
    …:lease      string   who that is; expires when its holder no longer renews it
    …:meta       hash     schema, seq, gaps (between the seqs), forgotten (the seq of that), rules (their digest),
                          commit (id of the last commit)
    …:d:DIR      hash     the nodes directly in DIR, by name: small hashes, which the server packs tightly
    …:dirs       set      every DIR that has such a hash (SCAN would pass every key of a shared server, on each node
                          of a cluster)
    …:todo       zset     paths with something left to plan, by seq
    …:services   hash     records by service
    …:counts     hash     counters
    …:journal    stream   decisions, the newest 100,000
    …:problems   hash     by SERVICE NUL PATH
    …:q:SERVICE  set      paths whose deletion is held back
    …:conflicts  hash     conflict copy → original
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator

import attrs

from . import codec
from .interface import Change

JOURNAL = 100_000
"""Lines of the journal that are kept at least (the server trims whole blocks)."""

CHUNK = 1000
"""Values in one command: Lua's stack takes 8,000 arguments of a call at most."""

PRUNE = b"onitu.prune"
"""Not a command of the server: the commit script takes a directory out of the set when its hash is gone."""

APPEND = b"onitu.append"
"""Neither: the commit script appends each of the lines to a stream that is to have about so many."""

Command = list[bytes]


@attrs.frozen
class Keys:
    """The keys of one folder."""

    folder: str
    prefix: bytes = attrs.field(init=False)

    @prefix.default
    def _prefix(self) -> bytes:
        # A brace in the name would end the hash tag early, and two folders could share a key.
        tag = self.folder.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        return b"onitu:{" + tag.encode() + b"}:"

    def named(self, name: str) -> bytes:
        """The key of one of the names above."""
        return self.prefix + name.encode()

    def directory(self, directory: bytes) -> bytes:
        """The key of a directory's nodes."""
        return self.prefix + b"d:" + directory

    def quarantine(self, service: str) -> bytes:
        """The key of the paths that are held back on a service."""
        return self.prefix + b"q:" + service.encode()


def commands(keys: Keys, change: Change) -> list[Command]:
    """What the commit script is to run for a change, in no order that matters but the journal's.

    Raises:
        ValueError: a node stands under another path than its own.
        TypeError: a journal line's detail holds what MessagePack does not know.
    """
    found: list[Command] = []
    found += _nodes(keys, change)
    found += _index(keys, change)
    found += _hash(keys.named("services"), {n.encode(): codec.encode_record(r) for n, r in change.services.items()})
    found += _hash(keys.named("conflicts"), change.conflicts)
    found += _hash(
        keys.named("problems"),
        {
            codec.problem_field(service, path): None if problem is None else codec.encode_problem(problem)
            for (service, path), problem in change.problems.items()
        },
    )
    for name, by in change.counts.items():
        found.append([b"HINCRBY", keys.named("counts"), name.encode(), b"%d" % by])
    if change.journal:
        lines = map(codec.encode_entry, change.journal)
        found.append([APPEND, keys.named("journal"), b"%d" % JOURNAL, *lines])
    if change.seq is not None:
        found.append([b"HSET", keys.named("meta"), b"seq", b"%d" % change.seq])
    if change.gaps is not None:
        found.append([b"HSET", keys.named("meta"), b"gaps", codec.encode_gaps(change.gaps)])
    if change.forgotten is not None:
        found.append([b"HSET", keys.named("meta"), b"forgotten", b"%d" % change.forgotten])
    if change.rules is not None:
        found.append([b"HSET", keys.named("meta"), b"rules", change.rules.encode()])
    return found


def _nodes(keys: Keys, change: Change) -> Iterator[Command]:
    by_directory: defaultdict[bytes, dict[bytes, bytes | None]] = defaultdict(dict)
    for path, node in change.nodes.items():
        if node.path != path:
            raise ValueError(f"the node of {node.path!r} stands under {path!r}")
        directory, _, name = path.rpartition(b"/")
        by_directory[directory][name] = None if node.empty else codec.encode(node)
    for directory, entries in by_directory.items():
        key = keys.directory(directory)
        yield from _hash(key, entries)
        if all(value is None for value in entries.values()):
            yield [PRUNE, key, keys.named("dirs"), directory]
    filled = [d for d, entries in by_directory.items() if any(v is not None for v in entries.values())]
    yield from _chunked([b"SADD", keys.named("dirs")], filled)


def _index(keys: Keys, change: Change) -> Iterator[Command]:
    todo = keys.named("todo")
    scored = [(b"%d" % score, path) for path, score in change.todo.items() if score is not None]
    yield from _chunked([b"ZADD", todo], itertools.chain.from_iterable(scored))
    yield from _chunked([b"ZREM", todo], [path for path, score in change.todo.items() if score is None])
    held: defaultdict[tuple[str, bool], list[bytes]] = defaultdict(list)
    for (service, path), back in change.quarantine.items():
        held[service, back].append(path)
    for (service, back), found in held.items():
        yield from _chunked([b"SADD" if back else b"SREM", keys.quarantine(service)], found)


def _hash(key: bytes, entries: dict[bytes, bytes] | dict[bytes, bytes | None]) -> Iterator[Command]:
    pairs = [(field, value) for field, value in entries.items() if value is not None]
    yield from _chunked([b"HSET", key], itertools.chain.from_iterable(pairs))
    yield from _chunked([b"HDEL", key], [field for field, value in entries.items() if value is None])


def _chunked(start: Command, values: Iterable[bytes]) -> Iterator[Command]:
    """The command with so many of the values at a time as one call takes; `CHUNK` is even, so pairs stay whole."""
    rest = iter(values)
    while some := list(itertools.islice(rest, CHUNK)):
        yield start + some
