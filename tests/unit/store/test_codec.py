"""Nodes and journal lines come back as they were, small; damage is never taken for knowledge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from onitu.model.errors import Unreadable
from onitu.model.nodes import Holding, Node
from onitu.model.versions import Kind, Version
from onitu.store import codec
from onitu.store.interface import Entry, Problem, ServiceRecord

from .values import a_file, nodes


@given(nodes())
def test_every_node_comes_back_as_it_was(node: Node) -> None:
    data = codec.encode(node)
    assert codec.decode(data, "docs", node.path) == node
    assert codec.kind(data) is node.head.kind


def test_a_file_on_three_services_takes_less_than_230_bytes() -> None:
    assert len(codec.encode(a_file(b"photos/2024/IMG_0001.JPG", 900_000))) <= 230


def test_a_holding_of_the_head_stores_only_its_token() -> None:
    node = a_file(b"a")
    other = replace(node.head, mtime=5)
    apart = replace(node, held={**node.held, "nas": Holding(other, node.held["nas"].token)})
    none = replace(node, held={s: replace(h, token=b"") for s, h in node.held.items()})
    assert len(codec.encode(node)) - len(codec.encode(none)) == 3 * 32
    assert len(codec.encode(apart)) > len(codec.encode(node)) + 32


@given(st.data())
def test_no_damage_to_a_node_goes_unnoticed(data: st.DataObject) -> None:
    good = bytearray(codec.encode(a_file(b"docs/report.odt")))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Unreadable, match=r"docs/report\.odt.*'home'"):
        codec.decode(bytes(good), "home", b"docs/report.odt")


@given(st.integers(0, 200))
def test_a_node_that_is_cut_short_is_damaged(length: int) -> None:
    data = codec.encode(a_file(b"a"))
    with pytest.raises(Unreadable, match="damaged"):
        codec.decode(data[: min(length, len(data) - 1)], "home", b"a")


def test_a_node_under_another_path_is_damaged() -> None:
    with pytest.raises(Unreadable, match="checksum"):
        codec.decode(codec.encode(a_file(b"a")), "home", b"b")


def test_damage_is_named_with_the_path_as_people_see_it() -> None:
    with pytest.raises(Unreadable, match=r"'caf\\\\xe9\\\\n' in folder 'home' is damaged: it is cut short"):
        codec.decode(b"", "home", b"caf\xe9\n")


def test_a_time_beyond_the_range_of_the_wire_format_is_kept() -> None:
    node = Node(b"a", Version(Kind.FILE, mtime=99_999_999_999 * 10**9))
    assert codec.decode(codec.encode(node), "home", b"a") == node


def test_a_journal_line_comes_back_with_its_detail() -> None:
    entry = Entry(b"a\xff", "nas", "concurrent", "kept both", {"copy": b"b", "n": 3, "base": None}, 12.5)
    assert codec.decode_entry(codec.encode_entry(entry), "home", "1-0") == replace(entry, id="1-0")


def test_a_journal_line_speaks_of_its_path_and_of_the_paths_in_its_detail() -> None:
    entry = Entry(b"to", "nas", "moved", "", {"source": b"from", "copies": [b"caf\xe9"], "of": {"shown": "x"}})
    assert all(codec.speaks_of(entry, path) for path in (b"to", b"from", b"caf\xe9", b"x"))
    assert not codec.speaks_of(entry, b"fro")


@pytest.mark.parametrize(
    "decode",
    [
        lambda: codec.decode_entry(b"\x91\x01", "home", "1-0"),
        lambda: codec.decode_record(b"\xc1", "home", "nas"),
        lambda: codec.decode_problem(b"nas\0a", b"\xc0", "home"),
    ],
)
def test_other_damaged_values_are_state_errors(decode) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Unreadable, match=r"'home'.*damaged"):
        decode()


def test_records_and_problems_come_back() -> None:
    record = ServiceRecord("marker", 3, "epoch", 17, 1000, True)
    assert codec.decode_record(codec.encode_record(record), "home", "nas") == record
    problem = Problem(b"a\nb", "nas", "blocked", "no space")
    field = codec.problem_field("nas", b"a\nb")
    assert codec.decode_problem(field, codec.encode_problem(problem), "home") == problem
