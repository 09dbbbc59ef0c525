"""What a service is asked to do at one path, case by case."""

from __future__ import annotations

import attrs
import pytest
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.nodes import Holding, Node
from onitu.model.orders import Do, Order, Source
from onitu.model.settings import Filter, Folder, Replica, Rule
from onitu.model.versions import NOTHING, Kind, Version
from onitu.referee.planner import Plan, holders, left, plan, tidy
from onitu.referee.rules import Rules
from onitu.referee.view import View

RULES = Rules(Folder("f", filter=Filter(blacklist=("*.bak",))), {n: Replica("f", "/" + n) for n in ("a", "b", "c")})
EVERYONE = frozenset("abc")
PATH, OLD = b"d/x", b"d/old"


def file(value: str, seq: int = 1, mtime: int = 1, service: str = "a") -> Version:
    return Version(Kind.FILE, len(value), {"blake3": value.encode()}, mtime, 0o644, service=service, seq=seq)


ONE, TWO, OWN = file("one"), file("two!", 2), file("own", 0, service="")
DIR = Version(Kind.DIRECTORY, mode=0o755, service="a", seq=3)
GONE = replace(NOTHING, service="a", seq=4)


def node(path: bytes, head: Version, *heirs: bytes, origin: bytes = b"", **held: Version | Holding) -> Node:
    """A node, and what the services hold there, each with its name and the path's as token."""
    found = {
        service: version if isinstance(version, Holding) else Holding(version, b"%s %s" % (service.encode(), path))
        for service, version in held.items()
    }
    return Node(path, head, found, origin, heirs)


def seen(*nodes: Node) -> View:
    known = {n.path: n for n in nodes}

    class All(View):
        def __getitem__(self, path: bytes) -> Node:
            return known.get(path) or Node(paths.checked(path))

        def children(self, directory: bytes) -> list[Node]:
            return [n for path, n in sorted(known.items()) if paths.parent(path) == directory]

    return All()


def planned(
    service: str, *nodes: Node, rules: Rules = RULES, sources: frozenset[str] = EVERYONE, path: bytes = PATH
) -> Plan:
    """What the service is to do at the path; what cannot be ordered says why, and what is ordered is still to do."""
    found = plan(seen(*nodes), rules, service, path, sources)
    assert found.left is (found.order is not None or bool(found.why))
    assert isinstance(found.why, str)
    assert found.order is None or not found.why
    assert (service in left(seen(*nodes), rules, path)) is found.left
    return found


def ordered(service: str, *nodes: Node, **more: object) -> Order:
    order = planned(service, *nodes, **more).order  # type: ignore[arg-type]
    assert order is not None
    assert order.number == 0
    return order


# --- nothing to do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ONE, DIR, Version(Kind.LINK, link=b"t", seq=1)])
def test_whoever_holds_the_head_has_nothing_to_do(version: Version) -> None:
    assert planned("b", node(PATH, version, a=version, b=version)) == Plan()


def test_what_a_service_forgot_is_left_alone() -> None:
    for head in (ONE, GONE):
        assert planned("b", node(PATH, head, a=ONE, b=Holding(TWO, b"t", hidden=True))) == Plan()


def test_a_deletion_that_is_held_back_is_waited_for() -> None:
    assert planned("b", node(PATH, ONE, a=ONE, b=Holding(ONE, b"t", gone=True))).why


def test_a_service_that_is_only_read_is_never_written() -> None:
    rules = attrs.evolve(RULES, replicas={**RULES.replicas, "b": Replica("f", "/b", mode="r")})
    for known in (node(PATH, ONE, a=ONE), node(PATH, TWO, a=TWO, b=ONE), node(PATH, GONE, a=ONE, b=ONE)):
        assert planned("b", known, rules=rules) == Plan()


def test_what_the_rules_keep_away_is_not_ordered() -> None:
    assert planned("b", node(b"d/x.bak", ONE, a=ONE), path=b"d/x.bak") == Plan()
    banned = attrs.evolve(RULES, rules=(Rule(path="/d/", sync=("c",), ban=("b",)),))
    for known in (node(PATH, TWO, a=TWO, b=ONE), node(PATH, GONE, a=ONE, b=ONE)):
        assert planned("b", known, rules=banned) == Plan()
        assert planned("a", node(PATH, TWO, a=ONE, b=TWO), rules=banned).order is not None, "a holds it, so it stays"
    assert planned("c", node(PATH, ONE, a=ONE), rules=banned).order is not None


def test_what_is_hidden_or_held_back_is_not_held_for_the_rules() -> None:
    known = node(PATH, ONE, a=ONE, b=Holding(ONE, b"t", hidden=True), c=Holding(ONE, b"t", gone=True))
    assert holders(known) == {"a"}


# --- to fill ------------------------------------------------------------------------------------------------------


def test_a_service_without_a_file_gets_it_from_whoever_has_it_the_fastest_first() -> None:
    known = node(PATH, ONE, a=ONE, c=ONE)
    order = ordered("b", known)
    assert order == Order(0, Do.PUT, PATH, ONE, sources=(Source("a", PATH, b"a d/x"), Source("c", PATH, b"c d/x")))
    fast = attrs.evolve(RULES, velocity={"c": 2.0})
    assert [source.service for source in ordered("b", known, rules=fast).sources] == ["c", "a"]
    slow = attrs.evolve(RULES, velocity={"a": 0.5})
    assert [source.service for source in ordered("b", known, rules=slow).sources] == ["c", "a"]


def test_only_a_service_that_has_the_content_and_can_be_read_is_a_source() -> None:
    written = attrs.evolve(RULES, replicas={**RULES.replicas, "a": Replica("f", "/a", mode="w")})
    others = (TWO, Holding(ONE, b"t", hidden=True), Holding(ONE, b"t", gone=True))
    for other in others:
        assert [s.service for s in ordered("b", node(PATH, ONE, a=other, c=ONE)).sources] == ["c"]
    known = node(PATH, ONE, a=ONE, c=ONE)
    assert [s.service for s in ordered("b", known, rules=written).sources] == ["c"]
    assert [s.service for s in ordered("b", known, sources=frozenset("c")).sources] == ["c"]
    assert planned("b", known, sources=frozenset()).why


def test_a_source_is_named_as_it_spells_the_path() -> None:
    order = ordered("b", node(PATH, ONE, a=Holding(ONE, b"t", b"d/X")))
    assert order.sources == (Source("a", b"d/X", b"t"),)


def test_a_directory_and_a_link_need_no_source() -> None:
    for version in (DIR, Version(Kind.LINK, link=b"t", service="a", seq=1)):
        assert ordered("b", node(PATH, version), sources=frozenset()) == Order(0, Do.PUT, PATH, version)


def test_a_name_is_spelled_as_its_maker_does_in_the_directory_as_the_service_spells_it() -> None:
    decomposed, composed = "e\u0301".encode(), "\u00e9".encode()
    directory = node(composed, DIR, a=DIR, b=Holding(DIR, b"t", decomposed))
    path = composed + b"/" + composed
    known = node(path, ONE, a=Holding(ONE, b"t", composed + b"/" + decomposed))
    assert ordered("b", directory, known, path=path).path == decomposed + b"/" + decomposed
    assert ordered("c", directory, known, path=path).path == composed + b"/" + decomposed


def test_a_name_is_spelled_as_its_maker_does_whoever_else_got_it_first() -> None:
    decomposed, composed = "e\u0301".encode(), "\u00e9".encode()
    known = node(composed, ONE, c=ONE, a=Holding(ONE, b"t", decomposed))
    assert ordered("b", known, path=composed).path == decomposed


def test_every_directory_of_a_name_is_spelled_as_its_own_maker_does() -> None:
    decomposed, composed = "e\u0301".encode(), "\u00e9".encode()
    nodes = [
        node(composed, DIR, a=Holding(DIR, b"t", decomposed)),
        node(composed + b"/d", DIR, a=Holding(DIR, b"t", decomposed + b"/d")),
        node(composed + b"/d/x", ONE, a=Holding(ONE, b"t", decomposed + b"/d/x")),
    ]
    assert ordered("b", *nodes, path=composed + b"/d/x").path == decomposed + b"/d/x"


def test_a_name_that_nobody_holds_is_spelled_as_the_referee_does() -> None:
    path = "d/\u00e9".encode()
    assert ordered("b", node(path, DIR), path=path).path == path


def test_what_stands_where_it_came_from_is_renamed_and_not_sent() -> None:
    there = node(OLD, GONE, PATH, a=ONE, b=ONE)
    here = node(PATH, ONE, origin=OLD, c=ONE)
    assert "d/old" in planned("b", here, there).why
    order = ordered("b", here, there, path=OLD)
    assert order == Order(0, Do.MOVE, OLD, ONE, expect=b"b d/old", held=ONE, target=PATH)


def test_what_stands_where_it_came_from_is_a_source() -> None:
    there = node(OLD, GONE, PATH, a=ONE)
    order = ordered("b", node(PATH, ONE, origin=OLD), there)
    assert order.sources == (Source("a", OLD, b"a d/old"),)


def test_a_rename_spells_the_new_name_as_its_maker_does() -> None:
    path = "d/\u00e9".encode()
    nodes = (node(OLD, GONE, path, a=ONE, b=ONE), node(path, ONE, origin=OLD, c=ONE))
    assert ordered("b", *nodes, path=OLD).target == path


def test_a_rename_goes_into_the_directory_as_the_service_spells_it() -> None:
    decomposed, composed = "e\u0301".encode(), "\u00e9".encode()
    path = composed + b"/x"
    directory = node(composed, DIR, a=DIR, b=Holding(DIR, b"t", decomposed))
    nodes = (node(OLD, GONE, path, a=ONE, b=ONE), node(path, ONE, origin=OLD, c=ONE), directory)
    assert ordered("b", *nodes, path=OLD).target == decomposed + b"/x"


def test_a_rename_goes_to_the_first_heir_that_has_the_content_and_does_not_stand_yet() -> None:
    old = node(OLD, GONE, b"d/1", b"d/2", PATH, a=ONE, b=ONE)
    nodes = (node(b"d/1", TWO, origin=OLD, c=TWO), node(b"d/2", ONE, origin=OLD, b=ONE), node(PATH, ONE, origin=OLD))
    assert ordered("b", old, *nodes, path=OLD).target == PATH


def test_names_that_were_moved_in_a_circle_come_to_an_end() -> None:
    there = node(OLD, GONE, PATH, origin=PATH, a=ONE)
    assert [s.path for s in ordered("c", node(PATH, ONE, OLD, origin=OLD), there).sources] == [OLD]
    second = node(b"d/2", GONE, PATH, origin=OLD, b=ONE)
    circle = (node(PATH, ONE, origin=OLD), replace(there, origin=b"d/2"), second)
    assert [s.path for s in ordered("c", *circle).sources] == [OLD, b"d/2"]


@pytest.mark.parametrize(
    "there",
    [
        node(OLD, GONE, PATH, b=TWO, c=ONE),
        node(OLD, GONE, PATH, b=Holding(ONE, b"t", hidden=True), c=ONE),
        node(OLD, GONE, PATH, b=Holding(ONE, b"t", gone=True), c=ONE),
        node(OLD, ONE, PATH, b=ONE, c=ONE),
        node(OLD, GONE, c=ONE, b=ONE),
    ],
    ids=["another content", "hidden", "held back", "it stays there", "no heir"],
)
def test_what_cannot_be_renamed_is_sent(there: Node) -> None:
    assert ordered("b", node(PATH, ONE, origin=OLD), there).do is Do.PUT


def test_a_service_is_its_own_source_under_another_name() -> None:
    order = ordered("b", node(PATH, ONE, origin=OLD), node(OLD, ONE, PATH, b=ONE))
    assert order.sources == (Source("b", OLD, b"b d/old"),)


def test_what_is_not_managed_where_it_came_from_is_sent() -> None:
    there = node(b"d/old.bak", GONE, PATH, b=ONE)
    assert ordered("b", node(PATH, ONE, origin=b"d/old.bak", c=ONE), there).do is Do.PUT


def test_a_move_is_followed_where_no_rule_says_anything() -> None:
    silent = attrs.evolve(RULES, rules=())
    nodes = (node(OLD, GONE, PATH, a=ONE, b=ONE), node(PATH, ONE, origin=OLD, c=ONE))
    assert ordered("b", *nodes, rules=silent, path=OLD).do is Do.MOVE


def test_a_chain_of_moves_is_followed_to_where_the_content_stands() -> None:
    first = node(b"d/first", GONE, PATH, b=ONE)
    second = node(OLD, GONE, PATH, origin=b"d/first", a=ONE)
    here = node(PATH, ONE, origin=OLD)
    assert planned("b", here, second, first).why
    assert ordered("b", here, second, first, path=b"d/first").target == PATH
    assert [s.path for s in ordered("c", here, second, first).sources] == [OLD, b"d/first"]


def test_a_link_of_the_chain_that_has_another_content_by_now_is_passed() -> None:
    first = node(b"d/first", ONE, a=ONE)
    second = node(OLD, TWO, PATH, origin=b"d/first", a=TWO, b=TWO, c=TWO)
    assert [s.path for s in ordered("c", node(PATH, ONE, origin=OLD), second, first).sources] == [b"d/first"]


# --- to update ----------------------------------------------------------------------------------------------------


def test_an_older_version_is_replaced_by_compare_and_swap() -> None:
    order = ordered("b", node(PATH, TWO, a=TWO, b=ONE))
    assert order == Order(0, Do.PUT, PATH, TWO, b"b d/x", ONE, sources=(Source("a", PATH, b"a d/x"),))
    assert planned("b", node(PATH, TWO, a=TWO, b=ONE), sources=frozenset("b")).why


def test_another_time_costs_no_transfer() -> None:
    older = file("one", mtime=9)
    order = ordered("b", node(PATH, ONE, a=ONE, b=older))
    assert order == Order(0, Do.META, PATH, ONE, expect=b"b d/x", held=older)


def test_what_stood_here_before_it_was_deleted_and_made_anew_elsewhere_is_looked_at_once_more() -> None:
    anew = file("one", seq=9)
    order = ordered("b", node(PATH, anew, a=anew, b=ONE))
    assert order == Order(0, Do.META, PATH, anew, expect=b"b d/x", held=ONE)
    touched = replace(node(PATH, anew, a=anew, b=ONE), since=ONE.seq)
    assert planned("b", touched) == Plan()


def test_what_shares_no_digest_with_the_head_is_read_before_anything_else() -> None:
    unread = Version(Kind.FILE, 3, {"md5": b"?"}, 1, 0o644)
    order = ordered("b", node(PATH, ONE, a=ONE, b=unread))
    assert order == Order(0, Do.FINGERPRINT, PATH, unread, expect=b"b d/x")


def test_whoever_was_read_already_waits_for_the_read_of_the_head() -> None:
    unread = Version(Kind.FILE, 3, {"md5": b"?"}, 1, 0o644, service="a", seq=1)
    known = node(PATH, unread, a=unread, b=ONE)
    assert planned("b", known).why
    assert ordered("a", known).do is Do.FINGERPRINT


def test_what_nobody_has_to_be_compared_with_is_not_read() -> None:
    unread = Version(Kind.FILE, 3, {"md5": b"?"}, 1, 0o644, service="a", seq=1)
    known = node(PATH, unread, a=unread, c=unread)
    assert planned("a", known) == Plan()
    for unmanaged in (Holding(ONE, b"t", hidden=True), Holding(ONE, b"t", gone=True)):
        assert planned("a", known.holding({**known.held, "b": unmanaged})) == Plan()


def test_what_has_another_size_than_the_head_is_replaced_unread() -> None:
    unread = Version(Kind.FILE, 9, {"md5": b"?"}, 1, 0o644, service="a", seq=1)
    assert ordered("b", node(PATH, ONE, a=ONE, b=unread)).do is Do.PUT


def test_what_is_gone_cannot_be_read() -> None:
    unread = Version(Kind.FILE, 3, {"md5": b"?"}, 1, 0o644)
    assert planned("b", node(PATH, ONE, a=ONE, b=Holding(unread, b"t", gone=True))).order is None


def test_an_order_names_what_a_service_holds_as_the_service_spells_it() -> None:
    for head in (TWO, file("one", mtime=9), GONE):
        assert ordered("b", node(PATH, head, a=TWO, b=Holding(ONE, b"t", b"d/X"))).path == b"d/X"


def test_what_nobody_decided_about_stays_beside_the_head() -> None:
    order = ordered("b", node(PATH, ONE, a=ONE, b=OWN))
    assert order.keep == b"d/x (conflict b 1970-01-01 00.00.00)"
    assert (order.do, order.expect, order.held) == (Do.PUT, b"b d/x", OWN)


def test_a_directory_that_nobody_decided_about_needs_no_name_beside_the_head() -> None:
    assert ordered("b", node(PATH, ONE, a=ONE, b=replace(DIR, seq=0))).keep == b""


def test_what_lost_its_name_is_kept_under_its_conflict_name() -> None:
    copy = b"d/copy"
    order = ordered("b", node(PATH, TWO, copy, a=TWO, b=ONE), node(copy, ONE, origin=PATH))
    assert (order.do, order.keep) == (Do.PUT, copy)


def test_what_is_kept_is_told_under_the_number_of_the_conflict_copy() -> None:
    """So that a Referee whose state has lost the copy does not take it for something old that is to go (S6)."""
    copy, loser = b"d/copy", ONE.given("a", TWO.seq + 1)
    order = ordered("b", node(PATH, TWO, copy, a=TWO, b=ONE), node(copy, loser, origin=PATH))
    assert order.held == loser


def test_what_lost_its_name_and_stands_under_the_other_is_replaced() -> None:
    copy = b"d/copy"
    nodes = (node(PATH, TWO, copy, a=TWO, b=ONE), node(copy, ONE, origin=PATH, b=ONE))
    assert ordered("b", *nodes).keep == b""


def test_the_last_one_of_what_lost_its_name_waits_until_it_stands_under_the_other() -> None:
    copy = b"d/copy"
    nodes = (node(PATH, TWO, copy, a=TWO, b=ONE), node(copy, ONE, origin=PATH, b=TWO))
    assert planned("b", *nodes).why


def test_what_gives_way_to_a_rename_is_renamed_itself() -> None:
    """old → x → new: x is a link in a chain; what it holds moves on, and what is to stand here comes from old."""
    old = node(OLD, GONE, PATH, a=TWO, b=TWO)
    here = node(PATH, TWO, b"d/new", origin=OLD, c=TWO, b=ONE)
    new = node(b"d/new", ONE, origin=PATH, c=ONE)
    order = ordered("b", old, here, new)
    assert order == Order(0, Do.MOVE, PATH, ONE, expect=b"b d/x", held=ONE, target=b"d/new")
    assert planned("b", old, here, new, path=OLD).why, "what stands where it goes moves on first"
    kept = ordered("b", replace(old, held={"a": old.held["a"]}), here, new)
    assert (kept.do, kept.keep) == (Do.PUT, b"d/new"), "nothing waits to be renamed here: it is kept, and the head sent"


@pytest.mark.parametrize(
    "old",
    [
        node(OLD, GONE, PATH, a=TWO, b=Holding(TWO, b"t", hidden=True)),
        node(OLD, GONE, PATH, a=TWO, b=Holding(TWO, b"t", gone=True)),
        node(OLD, GONE, PATH, a=TWO, b=file("other", 7)),
        node(OLD, TWO, PATH, a=TWO, b=TWO),
    ],
    ids=["hidden", "held back", "another content", "it stays there"],
)
def test_what_is_replaced_by_what_cannot_be_renamed_is_kept(old: Node) -> None:
    here = node(PATH, TWO, b"d/new", origin=OLD, c=TWO, b=ONE)
    order = ordered("b", old, here, node(b"d/new", ONE, origin=PATH, c=ONE))
    assert (order.do, order.keep) == (Do.PUT, b"d/new")


def test_what_gives_way_goes_into_the_directory_as_the_service_spells_it() -> None:
    decomposed, composed = "e\u0301".encode(), "\u00e9".encode()
    directory = node(composed, DIR, a=DIR, b=Holding(DIR, b"t", decomposed))
    new = composed + b"/new"
    nodes = (node(PATH, TWO, new, origin=OLD, c=TWO, b=ONE), node(new, ONE, origin=PATH, c=ONE), directory)
    renamed = ordered("b", node(OLD, GONE, PATH, a=TWO, b=TWO), *nodes)
    assert (renamed.do, renamed.target) == (Do.MOVE, decomposed + b"/new")
    kept = ordered("b", node(OLD, GONE, PATH, a=TWO), *nodes)
    assert (kept.do, kept.keep) == (Do.PUT, decomposed + b"/new")


@pytest.mark.parametrize("mark", ["gone", "hidden"])
def test_what_a_service_does_not_manage_gives_no_way(mark: str) -> None:
    old = node(OLD, GONE, PATH, a=TWO, b=TWO)
    unmanaged = replace(Holding(ONE, b"t"), **{mark: True})
    here = node(PATH, TWO, b"d/new", origin=OLD, c=TWO, b=unmanaged)
    assert ordered("b", old, here, node(b"d/new", ONE, origin=PATH, c=ONE), path=OLD).do is Do.DELETE


def test_what_stands_already_where_it_goes_gives_no_way() -> None:
    """Nothing is ordered for the names in the way, so who waited for them would wait for ever."""
    old = node(OLD, GONE, PATH, a=TWO, b=TWO)
    here = node(PATH, TWO, b"d/new", origin=OLD, c=TWO, b=ONE)
    assert ordered("b", old, here, node(b"d/new", ONE, origin=PATH, b=ONE), path=OLD).do is Do.DELETE
    arrived = node(PATH, TWO, b"d/new", origin=OLD, c=TWO, b=TWO)
    assert ordered("b", old, arrived, node(b"d/new", TWO, origin=PATH, c=TWO), path=OLD).do is Do.DELETE


def test_what_is_sent_and_not_renamed_waits_for_no_name() -> None:
    old = node(OLD, GONE, PATH, a=TWO, b=TWO)
    here = node(PATH, TWO, b"d/new", c=TWO, b=ONE)
    assert ordered("b", old, here, node(b"d/new", ONE, origin=PATH, c=ONE), path=OLD).do is Do.DELETE


# --- to clear -----------------------------------------------------------------------------------------------------


def test_what_was_deleted_goes_by_compare_and_swap() -> None:
    order = ordered("b", node(PATH, GONE, b=ONE))
    assert order == Order(0, Do.DELETE, PATH, GONE, expect=b"b d/x", held=ONE)
    assert planned("b", node(PATH, GONE, a=ONE)) == Plan()


def test_what_nobody_decided_about_is_never_deleted() -> None:
    assert planned("b", node(PATH, GONE, b=OWN)) == Plan()
    assert ordered("b", node(PATH, GONE, b=replace(DIR, seq=0))).do is Do.DELETE


def test_a_move_needs_a_target_that_the_rules_admit() -> None:
    hidden = b"d/x.bak"
    nodes = (node(PATH, GONE, hidden, a=ONE, b=ONE), node(hidden, ONE, origin=PATH, c=ONE))
    assert ordered("b", *nodes).do is Do.DELETE


def test_the_last_one_of_what_was_moved_waits_until_it_stands_under_its_new_name() -> None:
    nodes = (node(PATH, GONE, b"d/new", b=ONE), node(b"d/new", ONE, origin=PATH, b=TWO))
    assert planned("b", *nodes).why
    there = node(b"d/new", ONE, origin=PATH, a=ONE, b=TWO)
    assert ordered("b", nodes[0], there).do is Do.DELETE


# --- what can be forgotten ----------------------------------------------------------------------------------------


def test_where_nothing_is_left_the_origin_is_forgotten_at_both_ends() -> None:
    first, second = node(b"d/first", GONE, PATH, b"d/other"), node(OLD, GONE, PATH, origin=b"d/first", a=TWO)
    found = {n.path: n for n in tidy(seen(node(PATH, ONE, origin=OLD), second, first), RULES, PATH)}
    assert (found[PATH].origin, found[OLD].heirs, found[b"d/first"].heirs) == (b"", (), (b"d/other",))
    assert found[OLD].held == second.held


def test_an_heir_that_still_waits_is_not_forgotten() -> None:
    waits, came = node(b"d/waits", ONE, origin=PATH), node(b"d/came", ONE)
    deleted = node(b"d/deleted", GONE, origin=PATH)
    (found,) = tidy(seen(node(PATH, GONE, b"d/waits", b"d/came", b"d/deleted"), waits, came, deleted), RULES, PATH)
    assert found.heirs == (b"d/waits",)


COPY = b"d/x (conflict).bak"
"""A conflict copy under a name that the rules let nobody have."""


def test_what_a_conflict_displaces_is_not_forgotten_though_the_rules_want_it_nowhere() -> None:
    nodes = (node(PATH, TWO, COPY, a=TWO, b=ONE), node(COPY, ONE, origin=PATH))
    assert left(seen(*nodes), RULES, COPY) == []
    assert tidy(seen(*nodes), RULES, COPY) == []
    assert ordered("b", *nodes).keep == COPY
    assert tidy(seen(node(PATH, TWO, COPY, a=TWO, b=TWO), node(COPY, ONE, origin=PATH, b=ONE)), RULES, COPY)


def test_what_a_conflict_displaced_outlives_the_other_value_though_the_rules_want_it_nowhere() -> None:
    nodes = (node(PATH, GONE, COPY, b=ONE), node(COPY, ONE, origin=PATH))
    order = ordered("b", *nodes)
    assert (order.do, order.target) == (Do.MOVE, COPY)


def test_what_stands_only_where_a_conflict_displaced_it_is_not_forgotten_though_nothing_moves_it_now() -> None:
    copy = b"d/x (conflict).txt"
    nodes = (node(PATH, TWO, copy, a=TWO, b=ONE), node(copy, ONE, origin=PATH))
    read_only = attrs.evolve(RULES, replicas={n: Replica("f", "/" + n, mode="r") for n in ("a", "b")})
    banned = attrs.evolve(RULES, rules=(Rule("/d/", ban=("a", "b", "c")),))
    for rules in (read_only, banned):
        assert planned("b", *nodes, rules=rules).order is None
        assert tidy(seen(*nodes), rules, copy) == []
    assert ordered("b", *nodes).keep == copy


def test_where_there_is_nothing_to_forget_no_node_changes() -> None:
    assert tidy(seen(node(PATH, ONE, a=ONE)), RULES, PATH) == []
    assert tidy(seen(node(PATH, ONE, b"d/waits"), node(b"d/waits", ONE, origin=PATH)), RULES, PATH) == []
