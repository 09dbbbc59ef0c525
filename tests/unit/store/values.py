"""Nodes for the store's tests."""

from __future__ import annotations

import struct

from blake3 import blake3
from hypothesis import strategies as st

from onitu.model.nodes import Holding, Node
from onitu.model.versions import Kind, Version

SERVICES = ("laptop", "nas", "backup")


def a_file(path: bytes, seq: int = 1, services: tuple[str, ...] = SERVICES) -> Node:
    """A node as most are: a file with a BLAKE3, held by all services with tokens of the local driver's size."""
    head = Version(
        Kind.FILE,
        size=123_456 + seq,
        digests={"blake3": blake3(path).digest()},
        mtime=1_700_000_000_123_456_789 + seq,
        mode=0o644,
        service=services[0] if services else "",
        seq=seq,
    )
    return Node(path, head, {s: Holding(head, a_token(seq, n)) for n, s in enumerate(services)})


def a_token(seq: int, device: int = 0) -> bytes:
    """A token of the local driver's size."""
    return struct.pack("<4q", 10_000_000 + device + seq, 123_456 + seq, 1_700_000_000_123_456_789, 1_700_000_001)


names = st.binary(min_size=1, max_size=20).filter(lambda b: b"/" not in b and b"\0" not in b)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
services = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=12)
digests = st.dictionaries(st.sampled_from(["blake3", "md5", "sha256"]), st.binary(max_size=32), max_size=2)
versions = st.builds(
    Version,
    kind=st.sampled_from(Kind),
    size=st.integers(0, 2**63 - 1),
    digests=digests,
    mtime=st.one_of(st.just(0), st.integers(-(2**70), 2**70)),
    mode=st.integers(0, 0o7777),
    link=st.binary(max_size=20),
    service=st.one_of(st.just(""), services),
    seq=st.integers(0, 2**53),
)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    """Any node that can be written in the types."""
    head = draw(versions)
    holdings = st.builds(
        Holding,
        version=st.one_of(st.just(head), versions),
        token=st.binary(max_size=40),
        name=st.one_of(st.just(b""), paths),
        hidden=st.booleans(),
        unread=st.booleans(),
        gone=st.booleans(),
    )
    return Node(
        path=draw(paths),
        head=head,
        held=draw(st.dictionaries(services, holdings, max_size=4)),
        origin=draw(st.one_of(st.just(b""), paths)),
        heirs=tuple(draw(st.lists(paths, max_size=3))),
        since=draw(st.sampled_from([0, 1, 1 << 50])),
    )
