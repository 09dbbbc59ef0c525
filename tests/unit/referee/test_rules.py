"""Rules: which services shall hold a path, and what that means for what is deleted and for directories."""

from __future__ import annotations

import pytest

from onitu.model.nodes import Holding, Node
from onitu.model.orders import Do
from onitu.model.settings import Filter, Folder, Replica, Rule
from onitu.model.versions import NOTHING, Kind, Version
from onitu.referee.planner import plan
from onitu.referee.rules import Rules
from onitu.referee.view import View

LARGE = Rule("", (), Filter(size_min=1000), ban=("laptop",))
EVERYWHERE = Rule("/", sync=("laptop", "nas"))
SMALL_FILE = Version(Kind.FILE, 10, {"blake3": b"s" * 32}, 1, 0o644, service="nas", seq=1)
LARGE_FILE = Version(Kind.FILE, 5000, {"blake3": b"l" * 32}, 1, 0o644, service="nas", seq=1)
DIRECTORY = Version(Kind.DIRECTORY, mode=0o755, service="nas", seq=1)
LINK = Version(Kind.LINK, link=b"elsewhere", service="nas", seq=1)


def rules(*given: Rule) -> Rules:
    return Rules(Folder("docs"), {name: Replica("docs", name) for name in ("laptop", "nas")}, given)


def planned(version: Version, head: Version) -> Do | None:
    """What the laptop, which holds `version`, is ordered once `head` is the head."""
    node = Node(b"a", head, {"laptop": Holding(version, b"token")})
    view = View([node])
    view.load_children(b"a", ())
    order = plan(view, rules(EVERYWHERE, LARGE), "laptop", b"a", frozenset({"laptop", "nas"})).order
    return order.do if order is not None else None


@pytest.mark.parametrize("version", [SMALL_FILE, DIRECTORY, LINK], ids=["small file", "directory", "link"])
def test_a_ban_of_large_files_bans_nothing_else(version: Version) -> None:
    assert rules(EVERYWHERE, LARGE).admits("laptop", b"a", version, frozenset())


@pytest.mark.parametrize("version", [DIRECTORY, LINK], ids=["directory", "link"])
def test_a_ban_of_a_mime_type_bans_only_files(version: Version) -> None:
    """A name without an extension has the type `application/octet-stream`, and most directories have such a name."""
    unknown = Rule("", ("application/*",), ban=("laptop",))
    assert not rules(EVERYWHERE, unknown).admits("laptop", b"a", SMALL_FILE, frozenset())
    assert rules(EVERYWHERE, unknown).admits("laptop", b"a", version, frozenset())


def test_a_ban_of_large_files_bans_them() -> None:
    assert not rules(EVERYWHERE, LARGE).admits("laptop", b"a", LARGE_FILE, frozenset())


@pytest.mark.parametrize("version", [SMALL_FILE, DIRECTORY, LINK], ids=["small file", "directory", "link"])
def test_what_a_rule_does_not_ban_is_deleted_with_the_head(version: Version) -> None:
    assert planned(version, NOTHING.given("nas", 2)) is Do.DELETE


def test_what_a_rule_bans_stays_where_its_head_is_deleted() -> None:
    assert planned(LARGE_FILE, NOTHING.given("nas", 2)) is None
