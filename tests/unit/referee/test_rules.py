"""Rules: which services shall hold a path, and what that means for what is deleted and for directories."""

from __future__ import annotations

import pytest

from onitu.model.nodes import Holding, Node
from onitu.model.orders import Do
from onitu.model.settings import Filter, Folder, Replica, Rule, Service, Settings
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


def test_a_ban_of_a_mime_type_bans_no_other() -> None:
    pictures = Rule("", ("image/*",), ban=("laptop",))
    assert not rules(EVERYWHERE, pictures).admits("laptop", b"a.png", SMALL_FILE, frozenset())
    assert rules(EVERYWHERE, pictures).admits("laptop", b"a.txt", SMALL_FILE, frozenset())


def test_a_ban_of_a_path_bans_what_is_in_it_and_nothing_else() -> None:
    private = Rule("/private/", ban=("laptop",))
    assert not rules(EVERYWHERE, private).admits("laptop", b"private/a", SMALL_FILE, frozenset())
    assert rules(EVERYWHERE, private).admits("laptop", b"public/a", SMALL_FILE, frozenset())
    assert rules(EVERYWHERE, private).admits("nas", b"private/a", SMALL_FILE, frozenset())


def test_a_rule_with_limits_of_size_and_a_path_asks_for_both() -> None:
    large_here = Rule("/here/", (), Filter(size_min=1000), ban=("laptop",))
    assert not rules(EVERYWHERE, large_here).admits("laptop", b"here/a", LARGE_FILE, frozenset())
    assert rules(EVERYWHERE, large_here).admits("laptop", b"there/a", LARGE_FILE, frozenset())
    assert rules(EVERYWHERE, large_here).admits("laptop", b"here/a", SMALL_FILE, frozenset())


def test_whoever_holds_a_path_goes_on_holding_it_where_no_rule_says_anything() -> None:
    assert rules().admits("laptop", b"a", SMALL_FILE, frozenset({"laptop"}))
    assert not rules().admits("laptop", b"a", SMALL_FILE, frozenset({"nas"}))
    everybody = Rules(Folder("docs"), rules().replicas)
    assert everybody.admits("laptop", b"a", SMALL_FILE, frozenset())
    assert not everybody.admits("a stranger", b"a", SMALL_FILE, frozenset({"a stranger"}))


def test_what_the_folder_or_the_replica_hides_is_not_admitted_and_the_reason_is_told() -> None:
    replicas = {"laptop": Replica("docs", "/l", filter=Filter(size_max=100)), "nas": Replica("docs", "/n")}
    found = Rules(Folder("docs", filter=Filter(blacklist=("*.bak",))), replicas)
    assert "*.bak" in (found.hides("nas", b"a.bak", SMALL_FILE) or "")
    assert "larger" in (found.hides("laptop", b"a", LARGE_FILE) or "")
    assert "no replica" in (found.hides("a stranger", b"a", SMALL_FILE) or "")
    assert found.hides("nas", b"a", LARGE_FILE) is None
    assert not found.admits("laptop", b"a", LARGE_FILE, frozenset({"laptop"}))
    assert found.admits("laptop", b"a", SMALL_FILE, frozenset())


def test_a_filter_is_asked_with_the_path_and_the_kind_of_what_stands_there() -> None:
    found = Rules(Folder("docs", filter=Filter(("private/",), mimetypes=("text/*",))), rules().replicas)
    hidden = [found.hides("nas", b"private", version) is not None for version in (DIRECTORY, LINK)]
    assert hidden == [True, False]
    hidden = [found.hides("nas", path, SMALL_FILE) is not None for path in (b"a.png", b"a.txt")]
    assert hidden == [True, False]


def test_a_stranger_is_neither_read_nor_written() -> None:
    found = Rules(Folder("docs"), {"r": Replica("docs", "/r", mode="r"), "w": Replica("docs", "/w", mode="w")})
    assert [found.readable(name) for name in ("r", "w", "a stranger")] == [True, False, False]
    assert [found.writable(name) for name in ("r", "w", "a stranger")] == [False, True, False]


def test_a_replicas_policy_for_conflicts_goes_before_its_folders() -> None:
    replicas = {"laptop": Replica("docs", "/l", conflict="first"), "nas": Replica("docs", "/n")}
    found = Rules(Folder("docs", conflict="prefer:nas"), replicas)
    assert [found.conflict(name) for name in ("laptop", "nas", "a stranger")] == ["first", "prefer:nas", "prefer:nas"]


def test_the_rules_of_a_folder_are_made_of_what_its_services_say() -> None:
    docs, music = Replica("docs", "/d"), Replica("music", "/m")
    services = {
        "laptop": Service("laptop", "local", velocity=2.0, replicas={"docs": docs, "music": music}),
        "nas": Service("nas", "local", replicas={"docs": docs}),
        "phone": Service("phone", "local", replicas={"music": music}),
    }
    given = Settings("home", {"docs": Folder("docs"), "music": Folder("music")}, services, (LARGE,))
    found = Rules.of(given, "docs")
    assert found == Rules(Folder("docs"), {"laptop": docs, "nas": docs}, (LARGE,), {"laptop": 2.0, "nas": 1.0})


def test_rules_are_told_apart_whatever_was_changed_and_only_then() -> None:
    replicas = {"laptop": Replica("docs", "/l"), "nas": Replica("docs", "/n")}
    turned = dict(reversed(replicas.items()))
    same = Rules(Folder("docs"), replicas, (LARGE,))
    others = (
        Rules(Folder("docs", filter=Filter(blacklist=("*.bak",))), replicas, (LARGE,)),
        Rules(Folder("docs"), {**replicas, "nas": Replica("docs", "/n", mode="r")}, (LARGE,)),
        Rules(Folder("docs"), replicas, (EVERYWHERE,)),
        Rules(Folder("docs"), replicas),
    )
    assert same.digest() == Rules(Folder("docs"), turned, (LARGE,)).digest()
    assert len({rules.digest() for rules in (same, *others)}) == 5


def test_a_ban_of_large_files_bans_them() -> None:
    assert not rules(EVERYWHERE, LARGE).admits("laptop", b"a", LARGE_FILE, frozenset())


@pytest.mark.parametrize("version", [SMALL_FILE, DIRECTORY, LINK], ids=["small file", "directory", "link"])
def test_what_a_rule_does_not_ban_is_deleted_with_the_head(version: Version) -> None:
    assert planned(version, NOTHING.given("nas", 2)) is Do.DELETE


def test_what_a_rule_bans_stays_where_its_head_is_deleted() -> None:
    assert planned(LARGE_FILE, NOTHING.given("nas", 2)) is None
