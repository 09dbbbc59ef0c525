"""Values as bytes: how nodes, journal lines, problems and service records stand in the store.

A node is one byte for format and kind of the head, a CRC-32 over its path and its body, and a body of MessagePack
arrays whose trailing defaults are left out:

    byte 0      format << 4 | kind of the head
    bytes 1-4   CRC-32 of path, byte 0 and body, big-endian
    the rest    [head, {service: holding}, origin, heirs, since]

A holding of exactly the head, the common case, is only its token. So a file that three services hold takes about 190
bytes. The checksum is there because a damaged node must never pass for knowledge: a head that became a tombstone by a
flipped bit would delete (S1). Whatever cannot be read is a `Unreadable` that names the folder and the path.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from onitu.model.errors import Unreadable
from onitu.model.nodes import Holding, Node
from onitu.model.paths import show
from onitu.model.versions import BLAKE3, Kind, Version

from .interface import Entry, Problem, ServiceRecord

FORMAT = 1
"""The format of a node, in the upper half of its first byte. Another format is another schema version too."""

REMEDY = "; to begin anew from the replicas, which loses nothing, move the state away"
"""What to do where something stored is damaged; the end of the sentence that says so."""

_HIDDEN, _GONE, _HEAD, _UNREAD = 1, 2, 4, 8
_PREFIX = 5

_KINDS = {int(kind): kind for kind in Kind}
_FIRST = tuple(bytes((FORMAT << 4 | kind,)) for kind in sorted(Kind))

_encode = msgspec.msgpack.Encoder().encode


class _Version(msgspec.Struct, array_like=True, frozen=True):
    """A version but its kind. A number that MessagePack cannot hold (a time beyond the year 2500) is text."""

    size: int = 0
    mtime: int | str = 0
    mode: int = 0
    digests: bytes | dict[str, bytes] = b""
    service: str = ""
    seq: int = 0
    link: bytes = b""


class _Holding(msgspec.Struct, array_like=True, frozen=True):
    flags: int
    token: bytes
    name: bytes = b""
    kind: int = 0
    version: _Version = _Version()


class _Node(msgspec.Struct, array_like=True, frozen=True):
    head: _Version
    held: dict[str, bytes | _Holding] = {}
    origin: bytes = b""
    heirs: tuple[bytes, ...] = ()
    since: int = 0


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    path: bytes
    service: str
    case: str
    outcome: str
    time: float
    detail: dict[str, Any]


_nodes = msgspec.msgpack.Decoder(_Node)
_entries = msgspec.msgpack.Decoder(_Entry)
_records = msgspec.msgpack.Decoder(ServiceRecord)
_reasons = msgspec.msgpack.Decoder(tuple[str, str])
_gaps = msgspec.msgpack.Decoder(tuple[tuple[int, int], ...])


def encode(node: Node) -> bytes:
    """The node as bytes; its path is only in the checksum."""
    head = node.head
    held: dict[str, bytes | list[Any]] = {}
    for service, holding in node.held.items():
        if holding.version is head and not (holding.name or holding.hidden or holding.gone or holding.unread):
            held[service] = holding.token  # nearly always
        else:
            held[service] = _pack_holding(holding, head)
    body: list[Any] = [_pack(head), held]
    if node.origin or node.heirs or node.since:
        body += [node.origin, node.heirs]
    if node.since:
        body.append(node.since)
    packed, first = _encode(body), _FIRST[head.kind]
    return first + _checksum(node.path, first, packed) + packed


def decode(data: bytes, folder: str, path: bytes) -> Node:
    """The node of `path` that `encode` wrote, or `Unreadable`."""
    if len(data) <= _PREFIX:
        raise _damaged(folder, path, "it is cut short")
    first, body = data[:1], data[_PREFIX:]
    if first[0] >> 4 != FORMAT:
        raise _damaged(folder, path, f"its format is {first[0] >> 4}, not {FORMAT}")
    if data[1:_PREFIX] != _checksum(path, first, body):
        raise _damaged(folder, path, "its checksum is wrong")
    try:
        found = _nodes.decode(body)
        head = _version(_kind(first[0] & 15), found.head)
        held = {s: Holding(head, h) if isinstance(h, bytes) else _holding(h, head) for s, h in found.held.items()}
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(folder, path, str(error)) from error
    return Node(path, head, held, found.origin, found.heirs, found.since)


def kind(data: bytes) -> Kind:
    """The kind of an encoded node's head, without decoding the rest."""
    return Kind(data[0] & 15)


def encode_entry(entry: Entry) -> bytes:
    """A journal line as bytes; its `id` is the store's."""
    return _encode([entry.path, entry.service, entry.case, entry.outcome, entry.time, entry.detail])


def decode_entry(data: bytes, folder: str, number: str) -> Entry:
    """The journal line with the id `number`, or `Unreadable`. Tuples in its detail come back as lists."""
    try:
        found = _entries.decode(data)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"line {number} of the journal of folder {folder!r} is damaged: {error}{REMEDY}") from error
    return Entry(found.path, found.service, found.case, found.outcome, found.detail, found.time, number)


def speaks_of(entry: Entry, path: bytes) -> bool:
    """Whether a journal line is about the path: it is its path, or a path in its detail (came from, went to)."""
    return entry.path == path or _mentions(entry.detail, path, show(path))


def encode_record(record: ServiceRecord) -> bytes:
    """A service's record as bytes, by field name, so that later versions can add fields."""
    return _encode(record)


def decode_record(data: bytes, folder: str, service: str) -> ServiceRecord:
    """The record of `service`, or `Unreadable`."""
    try:
        return _records.decode(data)
    except msgspec.MsgspecError as error:
        raise Unreadable(
            f"the record of service {service!r} in folder {folder!r} is damaged: {error}{REMEDY}"
        ) from error


def encode_gaps(gaps: tuple[tuple[int, int], ...]) -> bytes:
    """The gaps between the sequence numbers."""
    return _encode(gaps)


def decode_gaps(data: bytes, folder: str) -> tuple[tuple[int, int], ...]:
    """What `encode_gaps` wrote, or `Unreadable`."""
    try:
        return _gaps.decode(data)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"the gaps in the numbers of folder {folder!r} are damaged: {error}{REMEDY}") from error


def encode_problem(problem: Problem) -> bytes:
    """Kind and reason; service and path are the field's name."""
    return _encode((problem.kind, problem.reason))


def decode_problem(field: bytes, data: bytes, folder: str) -> Problem:
    """The problem under a field that `problem_field` made, or `Unreadable`."""
    service, _, path = field.partition(b"\0")
    try:
        kind, reason = _reasons.decode(data)
        return Problem(path, service.decode(), kind, reason)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(folder, path, str(error)) from error


def problem_field(service: str, path: bytes) -> bytes:
    """The name of a problem's field. Neither a service's name nor a path holds a NUL."""
    return service.encode() + b"\0" + path


def _mentions(value: object, path: bytes, shown: str) -> bool:
    if isinstance(value, dict):
        return any(_mentions(v, path, shown) for v in value.values())
    if isinstance(value, list | tuple):
        return any(_mentions(v, path, shown) for v in value)
    return value in (path, shown)


def _checksum(path: bytes, first: bytes, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(path + first)).to_bytes(4, "big")


def _damaged(folder: str, path: bytes, why: str) -> Unreadable:
    return Unreadable(f"what is stored of {show(path)!r} in folder {folder!r} is damaged: {why}{REMEDY}")


def _pack(version: Version) -> Sequence[Any]:
    digest = version.digests.get(BLAKE3)
    if digest and len(version.digests) == 1 and version.seq and not version.link and 0 <= version.mtime < 2**64:
        return version.size, version.mtime, version.mode, digest, version.service, version.seq  # nearly always
    digests: bytes | dict[str, bytes] = version.digests or b""
    if len(version.digests) == 1:
        # An empty digest stays a dict: as bytes it would mean "none".
        digests = version.digests.get(BLAKE3) or version.digests
    mtime = version.mtime if -(2**63) <= version.mtime < 2**64 else str(version.mtime)
    fields: list[Any] = [version.size, mtime, version.mode, digests, version.service, version.seq, version.link]
    while fields and not fields[-1]:
        fields.pop()
    return fields


def _version(kind: Kind, found: _Version) -> Version:
    digests = found.digests
    if isinstance(digests, bytes):
        digests = {BLAKE3: digests} if digests else {}
    return Version(kind, found.size, digests, int(found.mtime), found.mode, found.link, found.service, found.seq)


def _pack_holding(holding: Holding, head: Version) -> bytes | list[Any]:
    flags = _HIDDEN * holding.hidden | _GONE * holding.gone | _UNREAD * holding.unread
    if holding.version is head or holding.version == head:
        if not flags and not holding.name:
            return holding.token
        return [flags | _HEAD, holding.token, holding.name]
    return [flags, holding.token, holding.name, int(holding.version.kind), _pack(holding.version)]


def _kind(number: int) -> Kind:
    kind = _KINDS.get(number)
    return Kind(number) if kind is None else kind  # which raises


def _holding(found: _Holding, head: Version) -> Holding:
    version = head if found.flags & _HEAD else _version(Kind(found.kind), found.version)
    hidden, gone, unread = (bool(found.flags & flag) for flag in (_HIDDEN, _GONE, _UNREAD))
    return Holding(version, found.token, found.name, hidden, gone, unread)
