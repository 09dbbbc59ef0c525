"""What one event means, case by case: the node that comes out, and the line that the journal gets.

The scenarios show what many decisions come to in the end; here each one stands alone.
"""

from __future__ import annotations

import attrs
import pytest
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.events import AGAIN, BESIDE, Event, Seen, Trouble
from onitu.model.nodes import Holding, Node
from onitu.model.settings import Filter, Folder, Replica, Rule
from onitu.model.versions import NOTHING, Kind, Version
from onitu.referee import plain
from onitu.referee.machine import ERA_BITS, NO_DOUBTS, Case, Decision, Doubts, Line, observe
from onitu.referee.rules import Rules
from onitu.referee.view import View

ERA = 5 << ERA_BITS
SEQ = ERA + 100
RULES = Rules(Folder("f", filter=Filter(blacklist=("*.bak",))), {n: Replica("f", "/" + n) for n in ("a", "b", "c")})
PATH = b"d/x.txt"
COPY = b"d/x (conflict %s 1970-01-01 00.00.00).txt"


def file(value: str, mtime: int = 1, seq: int = 0, service: str = "", mode: int = 0o644) -> Version:
    seq = ERA + seq if seq else 0
    return Version(Kind.FILE, len(value), {"blake3": value.encode()}, mtime, mode, service=service, seq=seq)


def directory(seq: int = 0, mode: int = 0o755) -> Version:
    return Version(Kind.DIRECTORY, mode=mode, service="a" if seq else "", seq=ERA + seq if seq else 0)


def node(path: bytes, head: Version, **held: Version) -> Node:
    """A node, and what the services hold there, each with its name as token."""
    return Node(path, head, {service: Holding(version, service.encode()) for service, version in held.items()})


ONE, TWO, NEW = file("one", seq=1, service="a"), file("two!", seq=2, service="b"), file("three", 9)
DIR = directory(3)
PARENT = node(b"d", DIR, a=DIR, b=DIR, c=DIR)


def decide(
    service: str,
    event: Event,
    *nodes: Node,
    rules: Rules = RULES,
    hold_back: bool = False,
    parent: Node = PARENT,
    seq: int = SEQ,
    doubts: Doubts = NO_DOUBTS,
) -> Decision:
    """Decide one event where only these nodes are known; the view checks that only paths are asked for."""
    known = {n.path: n for n in (parent, *nodes)}

    class All(View):
        def __getitem__(self, path: bytes) -> Node:
            return known.get(path) or Node(paths.checked(path))

        def children(self, directory: bytes) -> list[Node]:
            return [n for path, n in sorted(known.items()) if paths.parent(path) == directory]

    decision = observe(All(), rules, service, event, seq, hold_back, doubts)
    path = paths.key(event.path)
    at_hand = {at: All()[at] for at in (path, paths.parent(path), paths.key(event.source)) if at}
    short = plain.decide(at_hand, rules, service, event, path, seq)
    assert short is None or short == decision
    assert all(path == n.path for path, n in decision.nodes.items())
    heads = [n.head.seq for n in decision.nodes.values()]
    assert max([seq, *heads]) == decision.seq, "a number is given once, and the highest is told"
    assert all(isinstance(line.case, Case) and isinstance(line.outcome, str) for line in decision.lines)
    return decision


def stands(version: Version = NEW, path: bytes = PATH, token: bytes = b"new", order: int = 0) -> Event:
    return Event(Seen.STANDS, path, version, token, order=order)


def gone(path: bytes = PATH) -> Event:
    return Event(Seen.GONE, path)


def said(decision: Decision) -> list[tuple[bytes, Case]]:
    return [(line.path, line.case) for line in decision.lines]


def held(decision: Decision, service: str, path: bytes = PATH) -> tuple[Version, bytes] | None:
    found = decision.nodes[path].held.get(service)
    return None if found is None else (found.version, found.token)


# --- a file stands ------------------------------------------------------------------------------------------------


def test_something_new_is_created_by_who_saw_it() -> None:
    decision = decide("b", stands())
    head = decision.nodes[PATH].head
    assert decision.lines == (Line(PATH, Case.CREATED, "", "b"),)
    assert head == NEW.given("b", SEQ + 1)
    assert held(decision, "b") == (head, b"new")


def test_the_heads_content_is_adopted_and_stays_its_makers() -> None:
    decision = decide("b", stands(file("one", 7)), node(PATH, ONE, a=ONE))
    assert said(decision) == [(PATH, Case.ADOPTED)]
    assert decision.lines[0].outcome
    assert decision.nodes[PATH].head == ONE
    assert held(decision, "b") == (file("one", 7, 1, "a"), b"new")
    assert held(decision, "a") == (ONE, b"a")


def test_a_digest_of_ones_own_stands_beside_the_heads() -> None:
    seen = Version(Kind.FILE, 3, {"blake3": b"one", "md5": b"1"}, 1, 0o644)
    decision = decide("b", stands(seen), node(PATH, ONE, a=ONE))
    assert decision.nodes[PATH].held["b"].version.digests == {"blake3": b"one", "md5": b"1"}


def test_what_is_known_of_the_heads_content_is_known_of_every_copy() -> None:
    head = replace(ONE, digests={"blake3": b"one", "sha256": b"2"})
    decision = decide("b", stands(file("one")), node(PATH, head, a=head))
    assert decision.nodes[PATH].held["b"].version.digests == head.digests


def test_an_edit_of_the_head_is_the_new_head() -> None:
    decision = decide("b", stands(), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.FAST_FORWARD)]
    assert decision.nodes[PATH].head == NEW.given("b", SEQ + 1)
    assert held(decision, "a") == (ONE, b"a")


def test_what_is_touched_gives_all_its_time() -> None:
    decision = decide("b", stands(file("one", 7, mode=0o600)), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.META)]
    assert decision.lines[0].outcome
    head = decision.nodes[PATH].head
    assert (head.mtime, head.mode, head.service, head.seq) == (7, 0o600, "b", SEQ + 1)
    assert held(decision, "b") == (head, b"new")


def test_what_is_touched_keeps_where_its_content_came_from() -> None:
    there = replace(node(b"d/old", NOTHING, a=ONE), heirs=(PATH,))
    moved = replace(node(PATH, ONE, b=ONE), origin=b"d/old")
    decision = decide("b", stands(file("one", 7)), moved, there)
    assert decision.nodes[PATH].origin == b"d/old"
    assert decision.nodes.get(b"d/old", there).heirs == (PATH,)


def test_what_is_seen_again_with_its_token_is_nothing_new() -> None:
    known = node(PATH, ONE, a=ONE, b=ONE)
    decision = decide("b", stands(file("one"), token=b"b"), known)
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert not decision.nodes, "nothing is written where nothing is new"
    assert decision.seq == SEQ


def test_a_new_token_of_the_same_thing_is_taken() -> None:
    decision = decide("b", stands(file("one")), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert held(decision, "b") == (ONE, b"new")


def test_what_was_read_of_a_token_is_still_known_where_it_is_seen_again_unread() -> None:
    known = node(PATH, ONE, a=ONE, b=ONE)
    decision = decide("b", stands(Version(Kind.FILE, 3, {}, 1, 0o644), token=b"b"), known)
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert not decision.nodes


def test_a_token_that_says_nothing_of_the_mode_hides_no_new_one() -> None:
    decision = decide("b", stands(file("one", mode=0o600), token=b"b"), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.META)]


@pytest.mark.parametrize("mark", ["gone", "hidden"])
def test_what_stands_again_is_neither_gone_nor_hidden(mark: str) -> None:
    known = node(PATH, ONE, a=ONE, b=ONE)
    known = known.holding({**known.held, "b": replace(known.held["b"], **{mark: True})})
    decision = decide("b", stands(file("one"), token=b"b"), known)
    found = decision.nodes[PATH].held["b"]
    assert (found.gone, found.hidden) == (False, False)


def test_what_waits_for_the_head_and_is_touched_is_no_edit() -> None:
    decision = decide("b", stands(file("one", 7)), node(PATH, TWO, a=TWO, b=ONE))
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert decision.lines[0].outcome
    assert decision.nodes[PATH].head == TWO
    assert held(decision, "b") == (file("one", 7, 1, "a"), b"new")


def test_who_puts_a_file_where_it_was_deleted_elsewhere_edits() -> None:
    decision = decide("b", stands(), node(PATH, NOTHING, b=ONE))
    assert said(decision) == [(PATH, Case.EDIT_WINS)]
    assert decision.nodes[PATH].head == NEW.given("b", SEQ + 1)


@pytest.mark.parametrize("seq", [ERA + 1, 1], ids=["a number", "the first of all numbers"])
def test_what_was_deleted_elsewhere_and_is_only_touched_is_no_edit(seq: int) -> None:
    decision = decide("b", stands(file("one", 7)), node(PATH, NOTHING, b=replace(ONE, seq=seq)))
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert not decision.nodes[PATH].head.exists
    assert held(decision, "b") == (replace(file("one", 7, 1, "a"), seq=seq), b"new")


def test_without_a_digest_in_common_nothing_is_concluded() -> None:
    unread = Version(Kind.FILE, 3, {"md5": b"?"}, 7, 0o644)
    decision = decide("b", stands(unread), node(PATH, ONE, a=ONE))
    assert said(decision) == [(PATH, Case.UNREAD)]
    assert decision.nodes[PATH].head == ONE
    assert held(decision, "b") == (unread, b"new")


def test_what_was_read_when_the_head_came_tells_whether_it_is_the_head_still() -> None:
    head = Version(Kind.FILE, 3, {"md5": b"?"}, 1, 0o644, service="a", seq=ERA + 1)
    both = replace(head, digests={"md5": b"?", "blake3": b"one"})
    again = decide("b", stands(file("one")), node(PATH, head, a=head, b=both))
    assert said(again) == [(PATH, Case.UNCHANGED)]
    assert again.nodes[PATH].head == both, "and others can be compared with it now"
    edited = decide("b", stands(file("two")), node(PATH, head, a=head, b=both))
    assert said(edited) == [(PATH, Case.FAST_FORWARD)]


def test_a_second_name_in_another_unicode_form_is_a_clash() -> None:
    decomposed, composed = "d/e\u0301".encode(), "d/\u00e9".encode()
    known = Node(composed, ONE, {"b": Holding(ONE, b"b", decomposed)})
    decision = decide("b", stands(path=composed), known)
    assert said(decision) == [(composed, Case.CLASH)]
    assert decision.lines[0].outcome
    assert decision.nodes.get(composed, known) == known
    assert said(decide("b", gone(composed), known)) == [(composed, Case.ALREADY_DELETED)]


@pytest.mark.parametrize("mark", ["gone", "hidden"])
def test_what_is_gone_or_hidden_is_in_the_way_of_no_other_spelling(mark: str) -> None:
    decomposed, composed = "d/e\u0301".encode(), "d/\u00e9".encode()
    known = Node(composed, ONE, {"b": replace(Holding(ONE, b"b", decomposed), **{mark: True})})
    decision = decide("b", stands(file("one"), composed), known)
    assert said(decision) == [(composed, Case.UNCHANGED)]
    assert decision.nodes[composed].held["b"] == Holding(ONE, b"new")


def test_a_services_spelling_is_kept() -> None:
    decomposed, composed = "d/e\u0301".encode(), "d/\u00e9".encode()
    assert decide("b", stands(path=decomposed)).nodes[composed].held["b"].name == decomposed
    assert decide("b", stands(path=composed)).nodes[composed].held["b"].name == b""


# --- concurrent ---------------------------------------------------------------------------------------------------


def test_the_newer_of_two_edits_keeps_the_name_and_the_other_gets_a_copy() -> None:
    decision = decide("c", stands(), node(PATH, TWO, b=TWO, c=ONE))
    copy = COPY % b"b"
    assert said(decision) == [(PATH, Case.CONFLICT)]
    assert "c" in decision.lines[0].outcome
    assert decision.nodes[PATH].head.digests == NEW.digests
    assert decision.nodes[PATH].heirs == (copy,)
    assert (decision.nodes[copy].head.digests, decision.nodes[copy].origin) == (TWO.digests, PATH)
    assert decision.nodes[copy].head.seq > SEQ
    assert decision.copies == {copy: PATH}


def test_the_older_of_two_edits_gets_a_copy() -> None:
    decision = decide("c", stands(file("three", 0)), node(PATH, TWO, b=TWO, c=ONE))
    copy = COPY % b"c"
    assert said(decision) == [(PATH, Case.CONFLICT)]
    assert "c" in decision.lines[0].outcome
    assert decision.nodes[PATH].head == TWO
    assert decision.nodes[copy].head.digests == NEW.digests
    version, token = held(decision, "c") or (NOTHING, b"")
    assert (version.service, token) == ("c", b"new")
    assert version.seq > SEQ


def test_of_two_edits_of_one_time_the_first_keeps_the_name() -> None:
    assert decide("c", stands(file("three", 1)), node(PATH, TWO, b=TWO, c=ONE)).nodes[PATH].head == TWO


@pytest.mark.parametrize(
    ("policy", "wins"),
    [("newest", True), ("first", False), ("prefer:c", True), ("prefer:b", False), ("prefer:a", True)],
)
def test_the_policy_chooses_who_keeps_the_name(policy: str, wins: bool) -> None:
    rules = attrs.evolve(RULES, folder=Folder("f", conflict=policy))
    decision = decide("c", stands(), node(PATH, TWO, b=TWO, c=ONE), rules=rules)
    assert (decision.nodes[PATH].head.service == "c") is wins


def test_a_preferred_service_keeps_the_name_with_an_older_time_too() -> None:
    rules = attrs.evolve(RULES, folder=Folder("f", conflict="prefer:c"))
    decision = decide("c", stands(file("three", -9)), node(PATH, TWO, b=TWO, c=ONE), rules=rules)
    assert decision.nodes[PATH].head.service == "c"


def test_the_policy_is_that_of_the_replica_on_which_the_change_was_made() -> None:
    rules = attrs.evolve(RULES, replicas={**RULES.replicas, "c": Replica("f", "/c", conflict="first")})
    assert decide("c", stands(), node(PATH, TWO, b=TWO, c=ONE), rules=rules).nodes[PATH].head == TWO
    assert decide("b", stands(), node(PATH, TWO, c=TWO, b=ONE), rules=rules).nodes[PATH].head.service == "b"


def test_a_copy_takes_a_name_where_nothing_stands_and_nothing_is_held() -> None:
    first, second = COPY % b"b", b"d/x (conflict b 1970-01-01 00.00.00 2).txt"
    third = b"d/x (conflict b 1970-01-01 00.00.00 3).txt"
    taken = (node(first, ONE, a=ONE), node(second, NOTHING, a=ONE))
    decision = decide("c", stands(), node(PATH, TWO, b=TWO, c=ONE), *taken)
    assert decision.copies == {third: PATH}
    assert first not in decision.nodes
    assert second not in decision.nodes


def test_a_copy_takes_the_first_name_that_is_free() -> None:
    taken = node(COPY % b"b", ONE, a=ONE)
    decision = decide("c", stands(), node(PATH, TWO, b=TWO, c=ONE), taken)
    assert decision.copies == {b"d/x (conflict b 1970-01-01 00.00.00 2).txt": PATH}


def test_a_copy_comes_from_where_its_name_was_contested_whatever_came_and_went_under_its_own() -> None:
    copy = COPY % b"b"
    before = replace(node(copy, NOTHING), origin=b"d/elsewhere")
    decision = decide("c", stands(), node(PATH, TWO, b=TWO, c=ONE), before)
    assert decision.nodes[copy].origin == PATH


def test_only_the_content_that_came_from_an_origin_is_its_heir() -> None:
    there = replace(node(b"d/old", NOTHING, a=TWO), heirs=(PATH,))
    here = replace(node(PATH, TWO, b=TWO, c=ONE), origin=b"d/old")
    lost = decide("c", stands(file("three", 0)), here, there)
    assert lost.nodes.keys() == {PATH, COPY % b"c"}
    displaced = decide("c", stands(), here, there)
    assert displaced.nodes[b"d/old"].heirs == (COPY % b"b",)


def test_a_copy_that_stands_is_not_made_twice() -> None:
    copy = COPY % b"b"
    decision = decide("c", stands(), node(PATH, TWO, b=TWO, c=ONE), node(copy, TWO, a=TWO))
    assert decision.copies == {copy: PATH}
    assert decision.nodes[copy].head == TWO
    assert decision.nodes[copy].origin == PATH
    assert decision.nodes[PATH].heirs == (copy,)


def test_a_content_that_lost_its_name_before_gets_no_second_copy() -> None:
    elsewhere = replace(node(b"d/kept", TWO), origin=PATH)
    decision = decide("c", stands(), replace(node(PATH, TWO, b=TWO, c=ONE), heirs=(b"d/kept",)), elsewhere)
    assert decision.copies == {}
    assert decision.nodes[PATH].heirs == (b"d/kept",)


# --- directories --------------------------------------------------------------------------------------------------


def test_a_directory_is_created_and_adopted() -> None:
    made = decide("a", stands(directory(), b"n", b"directory"))
    assert said(made) == [(b"n", Case.CREATED)]
    assert made.nodes[b"n"].head == Version(Kind.DIRECTORY, mode=0o755, service="a", seq=SEQ + 1)
    adopted = decide("b", stands(directory(mode=0o700), b"n", b"directory"), node(b"n", DIR, a=DIR))
    assert said(adopted) == [(b"n", Case.ADOPTED)]
    assert adopted.nodes[b"n"].head == DIR
    assert held(adopted, "b", b"n") == (directory(3, 0o700), b"directory")


def test_a_directory_from_where_no_modes_are_kept_gets_that_of_the_first_who_made_it() -> None:
    made = replace(DIR, mode=0)
    for event in (
        Event(Seen.DONE, b"n", replace(made, mode=0o750), b"b", order=7),
        stands(directory(mode=0o750), b"n", b"b", order=BESIDE),
    ):
        decision = decide("b", event, node(b"n", made, a=made, c=made))
        assert decision.case in (Case.WRITTEN, Case.ADOPTED)
        after = decision.nodes[b"n"]
        assert after.head == replace(DIR, mode=0o750)  # under the same number: it is nobody's change
        assert {name: held.version for name, held in after.held.items()} == dict.fromkeys("abc", after.head)


def test_the_mode_that_a_service_gives_a_directory_which_is_no_source_is_nobody_elses() -> None:
    made = replace(DIR, mode=0)
    replicas = {"a": Replica("f", "/a"), "b": Replica("f", "/b", mode="w"), "c": Replica("f", "/c")}
    event = Event(Seen.DONE, b"n", replace(made, mode=0o777), b"b", order=7)
    after = decide("b", event, node(b"n", made, a=made, c=made), rules=Rules(Folder("f"), replicas)).nodes[b"n"]
    assert after.head == made
    assert {name: held.version for name, held in after.held.items()} == dict.fromkeys("abc", made)


def test_a_directorys_new_mode_becomes_everyones() -> None:
    decision = decide("b", stands(directory(mode=0o700), b"n"), node(b"n", DIR, a=DIR, b=DIR))
    assert said(decision) == [(b"n", Case.META)]
    assert decision.lines[0].outcome
    assert (decision.nodes[b"n"].head.mode, decision.nodes[b"n"].head.service) == (0o700, "b")
    assert held(decision, "b", b"n") == (decision.nodes[b"n"].head, b"new")


def test_where_no_modes_are_kept_none_is_taken_away() -> None:
    decision = decide("b", stands(directory(mode=0), b"n"), node(b"n", DIR, a=DIR, b=DIR))
    assert said(decision) == [(b"n", Case.UNCHANGED)]
    assert decision.nodes[b"n"].head == DIR


def test_where_no_modes_are_kept_a_file_that_is_read_again_gives_nobody_another_one() -> None:
    decision = decide("b", stands(file("one", mode=0)), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert held(decision, "b") == (ONE, b"new")
    touched = decide("b", stands(file("one", 7, mode=0)), node(PATH, ONE, a=ONE, b=ONE))
    assert said(touched) == [(PATH, Case.META)]
    assert (touched.nodes[PATH].head.mtime, touched.nodes[PATH].head.mode) == (7, 0o644)


def test_where_no_modes_are_kept_an_edit_and_a_rename_leave_the_mode_as_it_is() -> None:
    script = replace(ONE, mode=0o755)
    edited = decide("b", stands(file("new", 7, mode=0)), node(PATH, script, a=script, b=script))
    assert said(edited) == [(PATH, Case.FAST_FORWARD)]
    assert (edited.nodes[PATH].head.digests, edited.nodes[PATH].head.mode) == ({"blake3": b"new"}, 0o755)
    renamed = Event(Seen.MOVED, b"d/new", file("one", mode=0), b"new", source=PATH)
    moved = decide("b", renamed, node(PATH, script, a=script, b=script), node(b"d", DIR, a=DIR, b=DIR))
    assert moved.nodes[b"d/new"].head.mode == 0o755


def test_a_directory_that_was_deleted_elsewhere_is_seen_again() -> None:
    decision = decide("b", stands(directory(), b"n"), node(b"n", NOTHING, b=DIR))
    assert said(decision) == [(b"n", Case.UNCHANGED)]
    assert not decision.nodes[b"n"].head.exists
    assert decision.nodes[b"n"].held["b"].version.seq == DIR.seq


def test_a_directory_beside_an_order_is_nobodys() -> None:
    decision = decide("b", stands(directory(), b"n", order=BESIDE))
    assert said(decision) == [(b"n", Case.UNCHANGED)]
    assert not decision.nodes[b"n"].head.exists
    assert "b" in decision.nodes[b"n"].held
    replaced = decide("b", stands(directory(), b"n", order=BESIDE), node(b"n", NOTHING, b=ONE))
    assert held(replaced, "b", b"n") == (directory(), b"new"), "it has no number, whatever stood there before"


def test_a_directory_that_was_replaced_elsewhere_is_seen_again() -> None:
    """As by who looks what is in it, where it could not go: the file does not become a copy for that."""
    decision = decide("b", stands(directory(), PATH), node(PATH, ONE, a=ONE, b=DIR))
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert decision.nodes[PATH].head == ONE
    assert held(decision, "b")[0].seq == DIR.seq


@pytest.mark.parametrize(
    ("order", "inside"), [(BESIDE, ()), (0, (node(PATH + b"/x", NOTHING, b=ONE),))], ids=["made", "by what is in it"]
)
def test_a_directory_in_the_way_of_a_file_that_nobody_made_there_is_nobodys(order: int, inside: tuple[Node]) -> None:
    decision = decide("b", stands(directory(), PATH, order=order), node(PATH, ONE, a=ONE), *inside)
    assert said(decision) == [(PATH, Case.UNCHANGED)]
    assert decision.nodes[PATH].head == ONE
    assert held(decision, "b") == (directory(), b"new")


def test_a_directory_replaces_the_file_that_its_maker_saw() -> None:
    decision = decide("b", stands(directory(), PATH), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.FAST_FORWARD)]
    assert decision.lines[0].outcome
    assert decision.nodes[PATH].head.kind is Kind.DIRECTORY
    assert held(decision, "b") == (decision.nodes[PATH].head, b"new")
    assert decision.copies == {}


def test_a_directory_keeps_the_name_of_a_file_that_its_maker_never_saw() -> None:
    decision = decide("b", stands(directory(), PATH), node(PATH, TWO, a=TWO, b=ONE))
    copy = COPY % b"b"
    assert said(decision) == [(PATH, Case.DIRECTORY_WINS)]
    assert decision.lines[0].outcome
    assert decision.nodes[PATH].head.kind is Kind.DIRECTORY
    assert decision.nodes[copy].head.digests == TWO.digests
    assert decision.nodes[PATH].heirs == (copy,)
    assert held(decision, "b") == (decision.nodes[PATH].head, b"new")


def test_a_file_replaces_an_empty_directory_that_its_maker_saw() -> None:
    decision = decide("b", stands(path=b"n"), node(b"n", DIR, a=DIR, b=DIR), node(b"n/x", NOTHING, a=ONE))
    assert said(decision) == [(b"n", Case.FAST_FORWARD)]
    assert decision.lines[0].outcome
    assert decision.nodes[b"n"].head == NEW.given("b", SEQ + 1)


@pytest.mark.parametrize("knew", [True, False])
def test_a_directory_keeps_its_name_where_something_lives_in_it_or_nobody_saw_it(knew: bool) -> None:
    there = node(b"n", DIR, a=DIR, b=DIR) if knew else node(b"n", DIR, a=DIR)
    inside = [node(b"n/x", ONE, a=ONE)] if knew else []
    decision = decide("b", stands(path=b"n"), there, *inside)
    assert said(decision) == [(b"n", Case.DIRECTORY_WINS)]
    assert decision.lines[0].outcome
    assert decision.nodes[b"n"].head == DIR
    (copy,) = decision.copies
    assert decision.nodes[copy].head.digests == NEW.digests
    assert held(decision, "b", b"n") == (NEW.given("b", SEQ + 1), b"new")


def test_what_was_replaced_by_a_directory_and_is_only_touched_is_no_edit() -> None:
    decision = decide("b", stands(file("one", 7), b"n"), node(b"n", DIR, a=DIR, b=ONE))
    assert said(decision) == [(b"n", Case.UNCHANGED)]
    assert decision.nodes[b"n"].head == DIR
    assert held(decision, "b", b"n") == (file("one", 7, 1, "a"), b"new")


def test_what_lives_brings_its_deleted_directories_back() -> None:
    deleted = Node(b"d", NOTHING, {"b": Holding(directory(3, 0o700), b"directory")})
    decision = decide("b", stands(path=b"d/e/x"), parent=deleted)
    assert said(decision) == [(b"d/e/x", Case.CREATED), (b"d/e", Case.REVIVED), (b"d", Case.REVIVED)]
    assert all(line.outcome for line in decision.lines[1:])
    assert decision.nodes[b"d"].head.mode == 0o700
    assert decision.nodes[b"d/e"].head.mode == 0o755
    assert decision.nodes[b"d"].head.kind is Kind.DIRECTORY


@pytest.mark.parametrize("knew", [True, False])
def test_a_file_where_a_directory_is_needed_is_kept_where_it_was_not_seen(knew: bool) -> None:
    above = node(b"d", ONE, a=ONE, b=ONE) if knew else node(b"d", ONE, a=ONE)
    decision = decide("b", stands(path=b"d/x"), parent=above)
    assert decision.nodes[b"d"].head.kind is Kind.DIRECTORY
    assert [decision.nodes[copy].head.digests for copy in decision.copies] == ([] if knew else [ONE.digests])


# --- nothing stands -----------------------------------------------------------------------------------------------


def test_a_deletion_of_the_head_is_a_tombstone() -> None:
    decision = decide("b", gone(), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.DELETED)]
    head = decision.nodes[PATH].head
    assert (head.kind, head.service, head.seq) == (Kind.NOTHING, "b", SEQ + 1)
    assert held(decision, "b") is None
    assert held(decision, "a") == (ONE, b"a")


def test_a_deletion_of_an_older_version_brings_the_head_back() -> None:
    decision = decide("b", gone(), node(PATH, TWO, a=TWO, b=ONE))
    assert said(decision) == [(PATH, Case.EDIT_WINS)]
    assert "b" in decision.lines[0].outcome
    assert decision.nodes[PATH].head == TWO
    assert held(decision, "b") is None


def test_a_deletion_of_what_is_deleted_is_nothing_new() -> None:
    decision = decide("b", gone(), node(PATH, NOTHING, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.ALREADY_DELETED)]
    assert held(decision, "b") is None
    assert said(decide("b", gone(), node(PATH, ONE, a=ONE))) == [(PATH, Case.ALREADY_DELETED)]


def test_a_directory_that_its_deleter_saw_empty_is_deleted_and_another_comes_back() -> None:
    there = node(b"n", DIR, a=DIR, b=DIR)
    assert said(decide("b", gone(b"n"), there, node(b"n/x", NOTHING, a=ONE))) == [(b"n", Case.DELETED)]
    decision = decide("b", gone(b"n"), there, node(b"n/x", ONE, a=ONE))
    assert said(decision) == [(b"n", Case.EDIT_WINS)]
    assert decision.lines[0].outcome
    assert decision.nodes[b"n"].head == DIR
    assert held(decision, "b", b"n") is None


def test_a_deletion_that_is_held_back_changes_nothing_else() -> None:
    known = node(PATH, ONE, a=ONE, b=ONE)
    decision = decide("b", gone(), known, hold_back=True)
    assert said(decision) == [(PATH, Case.HELD_BACK)]
    assert decision.nodes[PATH].head == ONE
    assert decision.nodes[PATH].held["b"] == replace(known.held["b"], gone=True)
    assert decision.nodes[PATH].held["a"] == known.held["a"]
    again = decide("b", gone(), decision.nodes[PATH], hold_back=True)
    assert said(again) == [(PATH, Case.HELD_BACK)]


def test_the_deletion_of_a_directory_that_is_not_empty_is_held_back_too() -> None:
    there = node(b"n", DIR, a=DIR, b=DIR)
    decision = decide("b", gone(b"n"), there, node(b"n/x", ONE, a=ONE), hold_back=True)
    assert said(decision) == [(b"n", Case.HELD_BACK)]


def test_a_file_in_the_place_of_a_directory_waits_where_the_deletion_of_what_was_in_it_is_held_back() -> None:
    there = node(b"n", DIR, a=DIR, b=DIR)
    one = decide("b", gone(b"n/x"), there, node(b"n/x", ONE, a=ONE, b=ONE), hold_back=True).nodes[b"n/x"]
    decision = decide("b", stands(TWO, path=b"n"), there, one)
    assert said(decision) == [(b"n", Case.HELD_BACK)]
    assert decision.nodes[b"n"].head == DIR
    assert decision.nodes[b"n"].held["b"].gone
    other = node(b"n/y", ONE, a=ONE)  # this one its maker never saw
    assert said(decide("b", stands(TWO, path=b"n"), there, one, other)) == [(b"n", Case.DIRECTORY_WINS)]


def test_a_deletion_of_what_was_deleted_and_made_anew_elsewhere_meanwhile_is_of_the_earlier_one() -> None:
    known = node(PATH, ONE, a=ONE, b=ONE, c=ONE)
    deleted = decide("a", gone(), known)
    anew = decide("a", stands(ONE), deleted.nodes[PATH], seq=deleted.seq)
    decision = decide("b", gone(), anew.nodes[PATH], seq=anew.seq)
    assert said(decision) == [(PATH, Case.EDIT_WINS)]
    assert decision.nodes[PATH].head == anew.nodes[PATH].head
    assert said(decide("a", gone(), anew.nodes[PATH], seq=anew.seq)) == [(PATH, Case.DELETED)]


def test_a_deletion_of_what_was_touched_elsewhere_meanwhile_is_one() -> None:
    known = node(PATH, ONE, a=ONE, b=ONE, c=ONE)
    touched = decide("a", stands(file("one", 77)), known)
    again = decide("a", stands(file("one", 78), token=b"c"), touched.nodes[PATH], seq=touched.seq)
    assert again.nodes[PATH].head.seq > touched.nodes[PATH].head.seq > ONE.seq
    assert said(decide("b", gone(), again.nodes[PATH], seq=again.seq)) == [(PATH, Case.DELETED)]


def test_a_deletion_of_what_was_withdrawn_to_is_one() -> None:
    known = node(PATH, TWO, a=ONE, b=TWO, c=ONE)
    withdrawn = decide("b", Event(Seen.HIDDEN, PATH, reason="a rule"), known)
    assert said(withdrawn)[-1] == (PATH, Case.WITHDRAWN)
    assert said(decide("a", gone(), withdrawn.nodes[PATH], seq=withdrawn.seq)) == [(PATH, Case.DELETED)]


def test_what_is_hidden_is_forgotten_and_never_deleted() -> None:
    known = node(PATH, ONE, a=ONE, b=ONE)
    hidden = known.holding({**known.held, "b": replace(known.held["b"], hidden=True)})
    decision = decide("b", gone(), hidden)
    assert said(decision) == [(PATH, Case.HIDDEN)]
    assert decision.lines[0].outcome
    assert decision.nodes[PATH].head == ONE
    assert held(decision, "b") is None


def test_what_a_filter_hides_is_told_with_its_reason() -> None:
    path = b"d/x.bak"
    known = node(path, ONE, a=ONE, b=ONE)
    known = known.holding({**known.held, "b": replace(known.held["b"], gone=True)})
    decision = decide("b", stands(path=path), known)
    assert said(decision) == [(path, Case.HIDDEN)]
    assert "*.bak" in decision.lines[0].outcome
    found = decision.nodes[path].held["b"]
    assert (found.version, found.hidden, found.gone) == (ONE, True, False)
    told = decide("b", Event(Seen.HIDDEN, path, reason="denied"), known)
    assert [(line.case, line.outcome) for line in told.lines] == [(Case.HIDDEN, "denied")]
    assert decide("c", Event(Seen.HIDDEN, path), known).nodes.get(path, known) == known


def unread(version: Version, head: Version, **held: Version) -> Node:
    """A node of whose head b's older version cannot be read."""
    known = node(PATH, version, a=version, b=version)
    hidden = decide("b", Event(Seen.HIDDEN, PATH, trouble=Trouble.IO, reason="an error"), known).nodes[PATH]
    assert hidden.held["b"].hidden
    return replace(node(PATH, head, **held), held={**node(PATH, head, **held).held, "b": hidden.held["b"]})


def test_what_could_not_be_read_and_was_deleted_elsewhere_meanwhile_is_no_edit() -> None:
    deleted = unread(ONE, replace(NOTHING, service="a", seq=9))
    assert said(decide("b", stands(ONE), deleted)) == [(PATH, Case.UNCHANGED)]
    assert decide("b", stands(ONE), deleted).nodes[PATH].head == deleted.head
    assert said(decide("b", stands(TWO), deleted)) == [(PATH, Case.EDIT_WINS)]


def test_what_could_not_be_read_and_was_withdrawn_meanwhile_is_met_like_something_new() -> None:
    withdrawn = unread(ONE, replace(NOTHING, seq=9))
    assert said(decide("b", stands(ONE), withdrawn)) == [(PATH, Case.CREATED)]


@pytest.mark.parametrize("trouble", [Trouble.NONE, Trouble.UNSUPPORTED])
@pytest.mark.parametrize("made", [DIR, file("three", 9)], ids=["directory", "file"])
def test_nothing_that_was_made_after_a_withdrawal_replaces_what_was_withdrawn(trouble: Trouble, made: Version) -> None:
    hidden = Event(Seen.HIDDEN, PATH, trouble=trouble, reason="a pipe, or a rule")
    withdrawn = decide("a", hidden, node(PATH, ONE, a=ONE))
    assert said(withdrawn)[-1] == (PATH, Case.WITHDRAWN)
    known = decide("b", stands(made.given("", 0)), withdrawn.nodes[PATH]).nodes[PATH]
    decision = decide("a", stands(ONE), known)
    assert said(decision)[0] == (PATH, Case.DIRECTORY_WINS if made == DIR else Case.CONFLICT)
    assert [copy.head.digests for path, copy in decision.nodes.items() if path != PATH] == [ONE.digests]


def test_a_head_that_only_could_not_be_read_is_waited_for() -> None:
    """What it replaced does not stand again, and is no rival when it can be read again (S4; seed 103053)."""
    edited = node(PATH, TWO, a=TWO, b=ONE)
    hidden = decide("a", Event(Seen.HIDDEN, PATH, trouble=Trouble.DENIED, reason="denied"), edited)
    assert said(hidden) == [(PATH, Case.HIDDEN)]
    assert hidden.nodes[PATH].head == TWO
    assert said(decide("a", stands(TWO), hidden.nodes[PATH])) == [(PATH, Case.UNCHANGED)]
    assert said(decide("a", stands(NEW), hidden.nodes[PATH])) == [(PATH, Case.FAST_FORWARD)]
    assert said(decide("a", Event(Seen.GONE, PATH), hidden.nodes[PATH])) == [(PATH, Case.DELETED)]
    assert said(decide("b", Event(Seen.GONE, PATH), hidden.nodes[PATH])) == [(PATH, Case.EDIT_WINS)]
    assert said(decide("b", stands(NEW), hidden.nodes[PATH])) == [(PATH, Case.CONFLICT)]
    by_rule = decide("a", Event(Seen.HIDDEN, PATH, reason="a filter"), hidden.nodes[PATH])
    assert said(by_rule) == [(PATH, Case.HIDDEN), (PATH, Case.WITHDRAWN)]


@pytest.mark.parametrize("later", [file("three", 9, 5, "b"), replace(NOTHING, seq=ERA + 6, service="b")])
def test_a_conflict_copy_of_what_only_could_not_be_read_is_waited_for(later: Version) -> None:
    loser = file("one", seq=1, service="a")
    conflict = decide("b", stands(), node(PATH, loser, a=loser))
    (copy,) = conflict.nodes[PATH].heirs
    contested = replace(conflict.nodes[PATH], head=later)
    denied = Event(Seen.HIDDEN, PATH, trouble=Trouble.DENIED)
    hidden = decide("a", denied, contested, conflict.nodes[copy], seq=conflict.seq)
    assert said(hidden) == [(PATH, Case.HIDDEN)]
    again = decide("a", stands(loser.given("", 0)), hidden.nodes[PATH], conflict.nodes[copy], seq=hidden.seq)
    assert said(again) == [(PATH, Case.UNCHANGED)]
    waits = again.nodes.get(copy, conflict.nodes[copy])
    assert (waits.head.digests, waits.origin) == (loser.digests, PATH)


@pytest.mark.parametrize("trouble", [Trouble.NONE, Trouble.UNSUPPORTED])
@pytest.mark.parametrize("later", [file("three", 9, 5, "b"), replace(NOTHING, seq=ERA + 6, service="b")])
def test_what_is_hidden_before_anybody_got_its_conflict_copy_gets_another_one(trouble: Trouble, later: Version) -> None:
    """Once the copy is withdrawn, nothing says any more that what took the name is no successor (S1: what was written
    in a directory that Onitu may not enter from the next moment on)."""
    loser = file("one", seq=1, service="a")
    conflict = decide("b", stands(), node(PATH, loser, a=loser))
    assert said(conflict) == [(PATH, Case.CONFLICT)]
    (copy,) = conflict.nodes[PATH].heirs
    contested = replace(conflict.nodes[PATH], head=later)
    hidden = decide("a", Event(Seen.HIDDEN, PATH, trouble=trouble), contested, conflict.nodes[copy], seq=conflict.seq)
    assert said(hidden) == [(PATH, Case.HIDDEN), (copy, Case.WITHDRAWN)]
    again = decide("a", stands(loser.given("", 0)), *hidden.nodes.values(), seq=hidden.seq)
    assert said(again)[0][1] in ({Case.CONFLICT} if later.exists else {Case.CREATED, Case.EDIT_WINS})
    kept = [n for n in again.nodes.values() if n.head.digests == loser.digests]
    assert kept, "it stands, or is to stand, somewhere"


def test_what_could_not_be_read_and_is_gone_then_was_deleted() -> None:
    assert said(decide("b", Event(Seen.GONE, PATH), unread(ONE, ONE, a=ONE))) == [(PATH, Case.DELETED)]
    assert said(decide("b", Event(Seen.GONE, PATH), unread(ONE, TWO, a=TWO))) == [(PATH, Case.EDIT_WINS)]


def test_a_deletion_of_what_could_not_be_read_can_be_held_back_too() -> None:
    decision = decide("b", Event(Seen.GONE, PATH), unread(ONE, ONE, a=ONE), hold_back=True)
    assert said(decision) == [(PATH, Case.HELD_BACK)]
    held_back = decision.nodes[PATH]
    assert held_back.held["b"].gone
    assert not held_back.held["b"].hidden
    assert said(decide("b", Event(Seen.GONE, PATH), held_back)) == [(PATH, Case.DELETED)]


def test_what_cannot_be_read_and_is_hidden_by_a_rule_then_is_forgotten() -> None:
    deleted = unread(ONE, replace(NOTHING, service="a", seq=9))
    hidden = decide("b", Event(Seen.HIDDEN, PATH, reason="a rule"), deleted).nodes[PATH]
    assert said(decide("b", stands(ONE), hidden)) == [(PATH, Case.CREATED)]
    again = decide("b", Event(Seen.HIDDEN, PATH, trouble=Trouble.IO), hidden)
    assert again.nodes.get(PATH, hidden) == hidden
    here = decide("b", Event(Seen.HIDDEN, PATH, reason="a rule"), unread(ONE, ONE, a=ONE)).nodes[PATH]
    assert said(decide("b", Event(Seen.GONE, PATH), here)) == [(PATH, Case.HIDDEN)]


# --- no source ----------------------------------------------------------------------------------------------------

ONLY_WRITTEN = attrs.evolve(RULES, replicas={**RULES.replicas, "b": Replica("f", "/b", mode="w")})


def test_a_service_that_is_no_source_changes_no_head() -> None:
    decision = decide("b", stands(), node(PATH, ONE, a=ONE, b=ONE), rules=ONLY_WRITTEN)
    assert said(decision) == [(PATH, Case.FOREIGN)]
    assert decision.lines[0].outcome
    assert decision.nodes[PATH].head == ONE
    assert held(decision, "b") == (NEW, b"new")


def test_a_service_that_is_no_source_holds_the_head_where_it_has_its_content() -> None:
    decision = decide("b", stands(file("one", 7)), node(PATH, ONE, a=ONE), rules=ONLY_WRITTEN)
    assert said(decision) == [(PATH, Case.ADOPTED)]
    assert held(decision, "b") == (file("one", 7, 1, "a"), b"new")


def test_a_service_that_is_no_source_may_have_something_of_its_own() -> None:
    decision = decide("b", stands(), rules=ONLY_WRITTEN)
    assert said(decision) == [(PATH, Case.FOREIGN)]
    assert decision.lines[0].outcome
    assert not decision.nodes.get(PATH, Node(PATH)).head.exists


def test_a_service_that_is_no_source_gets_back_what_it_deleted() -> None:
    decision = decide("b", gone(), node(PATH, ONE, a=ONE, b=ONE), rules=ONLY_WRITTEN)
    assert said(decision) == [(PATH, Case.RESTORED)]
    assert decision.lines[0].outcome
    assert decision.nodes[PATH].head == ONE
    assert held(decision, "b") is None


# --- moves --------------------------------------------------------------------------------------------------------

OLD = b"d/old"


def moved(version: Version | None = None, source: bytes = OLD, path: bytes = PATH) -> Event:
    return Event(Seen.MOVED, path, file("one") if version is None else version, b"new", source=source)


def test_a_move_says_where_it_came_from_and_leaves_an_heir() -> None:
    decision = decide("b", moved(), node(OLD, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.MOVED)], "and not that something was made, and something deleted"
    assert "d/old" in decision.lines[0].outcome
    assert {line.service for line in decision.lines} == {"b"}
    assert (decision.nodes[PATH].head.service, decision.nodes[PATH].origin) == ("b", OLD)
    assert not decision.nodes[OLD].head.exists
    assert decision.nodes[OLD].heirs == (PATH,)
    assert held(decision, "a", OLD) == (ONE, b"a")


def test_a_move_carries_on_the_digests_that_are_known() -> None:
    unread = Version(Kind.FILE, 3, {"blake3": b"one", "md5": b"1"}, 1, 0o644)
    known = replace(ONE, digests={"blake3": b"one", "sha256": b"2"})
    decision = decide("b", moved(unread), node(OLD, known, a=known, b=known))
    assert decision.nodes[PATH].head.digests == {"blake3": b"one", "sha256": b"2", "md5": b"1"}


def test_a_move_of_another_content_is_a_new_file_and_a_deletion() -> None:
    decision = decide("b", moved(NEW), node(OLD, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.CREATED), (OLD, Case.DELETED)]
    assert decision.nodes[PATH].origin == b""
    assert decision.nodes[OLD].heirs == ()


def test_what_is_known_of_a_content_says_nothing_of_another_that_came_from_its_name() -> None:
    known = replace(ONE, digests={"blake3": b"one", "sha256": b"2"})
    decision = decide("b", moved(NEW), node(OLD, known, a=known, b=known))
    assert decision.nodes[PATH].head.digests == NEW.digests


def test_a_directory_stays_where_a_file_is_said_to_have_come_from_its_name_into_it() -> None:
    decision = decide("b", moved(NEW, source=b"n", path=b"n/x"), node(b"n", DIR, a=DIR, b=DIR))
    assert (b"n", Case.EDIT_WINS) in said(decision)
    assert decision.nodes[b"n"].head == DIR


def test_a_move_of_what_was_edited_elsewhere_leaves_the_edit() -> None:
    decision = decide("b", moved(), node(OLD, TWO, a=TWO, b=ONE))
    assert said(decision) == [(PATH, Case.CREATED), (OLD, Case.EDIT_WINS)]
    assert decision.nodes[OLD].head == TWO
    assert decision.nodes[PATH].origin == b""


def test_a_move_is_no_deletion_that_a_guard_counts() -> None:
    decision = decide("b", moved(), node(OLD, ONE, a=ONE, b=ONE), hold_back=True)
    assert said(decision) == [(PATH, Case.MOVED)]
    assert not decision.nodes[OLD].head.exists


def test_the_latest_place_of_a_chain_of_moves_is_the_heir_of_every_earlier_one() -> None:
    first = replace(node(b"d/first", NOTHING, a=ONE), heirs=(OLD,))
    second = replace(node(OLD, ONE, b=ONE), origin=b"d/first")
    decision = decide("b", moved(), first, second)
    assert decision.nodes[PATH].origin == OLD
    assert decision.nodes[OLD].heirs == (PATH,)
    assert decision.nodes[OLD].origin == b"d/first"
    assert decision.nodes[b"d/first"].heirs == (PATH,)


def test_names_that_were_moved_in_a_circle_come_to_an_end() -> None:
    first, second = replace(node(OLD, ONE, b=ONE), origin=b"d/2"), replace(node(b"d/2", TWO), origin=OLD)
    decision = decide("b", moved(), first, second)
    assert decision.nodes[b"d/2"].heirs == decision.nodes[OLD].heirs == (PATH,)


def test_a_rename_to_another_unicode_form_is_only_another_spelling() -> None:
    decomposed, composed = "d/e\u0301".encode(), "d/\u00e9".encode()
    known = node(composed, ONE, a=ONE, b=ONE)
    decision = decide("b", moved(source=composed, path=decomposed), known)
    assert said(decision) == [(composed, Case.UNCHANGED)]
    assert decision.nodes[composed].head == ONE
    assert decision.nodes[composed].held["b"].name == decomposed
    assert decision.nodes[composed].held["a"] == known.held["a"]


def test_a_new_content_inherits_nothing() -> None:
    origin = replace(node(OLD, NOTHING, a=ONE), heirs=(PATH, b"d/other"))
    heir = replace(node(PATH, ONE, b=ONE), origin=OLD)
    decision = decide("b", stands(), heir, origin, replace(node(b"d/other", ONE, b=ONE), origin=OLD))
    assert decision.nodes[PATH].origin == b""
    assert decision.nodes[OLD].heirs == (b"d/other",)


def test_a_new_content_inherits_nothing_from_any_link_of_a_chain_of_moves() -> None:
    first = replace(node(b"d/first", NOTHING, a=ONE), heirs=(PATH, b"d/other"))
    second = replace(node(OLD, NOTHING), origin=b"d/first", heirs=(PATH,))
    heir = replace(node(PATH, ONE, b=ONE), origin=OLD)
    decision = decide("b", stands(), heir, second, first)
    assert (decision.nodes[OLD].heirs, decision.nodes[b"d/first"].heirs) == ((), (b"d/other",))


def test_a_new_content_inherits_nothing_from_names_that_were_moved_in_a_circle() -> None:
    circle = [replace(node(a, TWO), origin=b, heirs=(PATH,)) for a, b in ((OLD, b"d/2"), (b"d/2", OLD))]
    decision = decide("b", stands(), replace(node(PATH, ONE, b=ONE), origin=OLD), *circle)
    assert decision.nodes[OLD].heirs == decision.nodes[b"d/2"].heirs == ()


# --- what became of orders ----------------------------------------------------------------------------------------


def done(version: Version, path: bytes = PATH, source: bytes = b"", order: int = 7) -> Event:
    return Event(Seen.DONE, path, version, b"new", source=source, order=order)


def test_what_was_ordered_is_held() -> None:
    decision = decide("b", done(ONE), node(PATH, ONE, a=ONE))
    assert said(decision) == [(PATH, Case.WRITTEN)]
    assert held(decision, "b") == (ONE, b"new")
    late = decide("b", done(ONE), node(PATH, TWO, a=TWO))
    assert said(late) == [(PATH, Case.WRITTEN)]
    assert (late.nodes[PATH].head, held(late, "b")) == (TWO, (ONE, b"new"))


def test_what_was_ordered_with_another_time_is_held_with_that_time() -> None:
    older, newer = file("one", 7, 1, "a"), replace(ONE, seq=ERA + 2)
    assert held(decide("b", done(older), node(PATH, newer, a=newer)), "b") == (older, b"new")


def test_what_was_ordered_and_is_the_head_under_a_newer_number_is_the_head() -> None:
    newer = replace(ONE, service="c", seq=ERA + 2)
    assert held(decide("b", done(ONE), node(PATH, newer, a=newer)), "b") == (newer, b"new")


def test_what_was_ordered_away_is_held_no_more() -> None:
    decision = decide("b", done(NOTHING), node(PATH, NOTHING, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.WRITTEN)]
    assert held(decision, "b") is None


def test_a_move_that_was_ordered_empties_its_source() -> None:
    decision = decide("b", done(ONE, source=OLD), node(PATH, ONE, a=ONE), node(OLD, NOTHING, b=ONE))
    assert held(decision, "b", OLD) is None
    assert held(decision, "b") == (ONE, b"new")


@pytest.mark.parametrize("seq", [0, (4 << ERA_BITS) + 1, SEQ + 1])
def test_an_order_that_this_referee_cannot_have_given_is_an_observation(seq: int) -> None:
    decision = decide("b", done(replace(NEW, service="x", seq=seq)), node(PATH, ONE, a=ONE, b=ONE))
    assert said(decision) == [(PATH, Case.FAST_FORWARD)]
    assert decision.nodes[PATH].head == NEW.given("b", SEQ + 1)


def test_what_a_filter_hides_is_a_version_of_nobody_whatever_another_memory_ordered() -> None:
    path = b"d/x.bak"
    foreign = replace(NEW, service="x", seq=(4 << ERA_BITS) + 1)
    decision = decide("b", done(foreign, path), node(path, ONE, a=ONE))
    assert said(decision) == [(path, Case.HIDDEN)]
    assert held(decision, "b", path) == (NEW, b"new")


def test_the_newest_order_of_this_referee_is_its_own() -> None:
    newest = replace(NEW, service="a", seq=SEQ)
    assert said(decide("b", done(newest), node(PATH, newest, a=newest))) == [(PATH, Case.WRITTEN)]


def test_what_has_no_number_was_ordered_by_nobody_though_the_era_of_this_state_is_0() -> None:
    known = node(PATH, replace(ONE, seq=1), a=ONE)
    unnumbered = decide("b", done(NEW), node(PATH, NOTHING), seq=100)
    assert said(unnumbered) == [(PATH, Case.CREATED)]
    first = decide("b", done(replace(NEW, seq=1)), known, seq=100)
    assert said(first) == [(PATH, Case.WRITTEN)]


def test_what_is_told_again_is_taken_only_where_nothing_newer_was_told() -> None:
    known = node(PATH, TWO, a=TWO, b=TWO)
    for old in (ONE, TWO):
        again = decide("b", done(old, order=AGAIN), known)
        assert said(again) == [(PATH, Case.WRITTEN)]
        assert again.nodes.get(PATH, known) == known
    older = node(PATH, TWO, a=TWO, b=ONE)
    assert held(decide("b", done(TWO, order=AGAIN), older), "b") == (TWO, b"new")
    another = replace(TWO, seq=(4 << ERA_BITS) + 2)
    assert held(decide("b", done(TWO, order=AGAIN), node(PATH, TWO, b=another)), "b") == (TWO, b"new")


@pytest.mark.parametrize("order", [0, 7, AGAIN])
def test_what_was_ordered_from_a_commit_that_is_lost_is_a_value_like_any_other(order: int) -> None:
    """Its number lies in a gap: this state never gave it. Believed, it would be old, and replaced or deleted (S6)."""
    lost, doubts = file("lost", seq=50), Doubts(((ERA + 40, ERA + 60),))
    for known in ((), (node(PATH, TWO, a=TWO, b=ONE),)):
        decision = decide("b", done(lost, order=order), *known, doubts=doubts)
        assert "lost" in {n.head.digests["blake3"].decode() for n in decision.nodes.values() if n.head.carries_value}
    given = decide("b", done(lost, order=order), doubts=Doubts(((ERA + 50, ERA + 60),)))
    assert said(given) == [(PATH, Case.WRITTEN if order else Case.CREATED)], "what was kept is a user's in any case"


@pytest.mark.parametrize(
    ("number", "was"),
    [(0, False), (1, True), (10, True), (11, False), (20, False), (21, True), (30, True), (31, False), (40, False),
     (41, True), (99, True), (100, True), (101, False)],
)  # fmt: skip
def test_a_number_was_given_unless_it_lies_in_a_gap_or_ahead(number: int, was: bool) -> None:
    doubts = Doubts(((ERA + 10, ERA + 20), (ERA + 30, ERA + 40)))
    assert doubts.given(ERA + number if number else 0, SEQ) is was
    assert not doubts.given(number, SEQ), "of another era"


def test_what_was_ordered_before_a_replica_was_forgotten_may_be_withdrawn_since() -> None:
    """A conflict copy that only that replica was to keep, say: told late, it is a value like any other (S6)."""
    kept, doubts = file("kept", seq=50), Doubts(forgotten=ERA + 50)
    for order in (0, 7, AGAIN):
        assert said(decide("b", done(kept, order=order), doubts=doubts)) == [(PATH, Case.CREATED)]
        later = decide("b", done(kept, order=order), doubts=Doubts(forgotten=ERA + 49))
        assert said(later) == [(PATH, Case.WRITTEN if order else Case.CREATED)]
    newer = node(PATH, file("newer", seq=60), a=file("newer", seq=60))
    assert said(decide("b", done(kept, order=7), newer, doubts=doubts)) == [(PATH, Case.WRITTEN)], "it is under way"
    for order in (0, AGAIN):
        assert decide("b", done(kept, order=order), newer, doubts=doubts).case is Case.CONFLICT


def test_a_directory_that_could_not_go_comes_back_with_what_lives_in_it() -> None:
    failed = Event(Seen.FAILED, b"n", order=7, trouble=Trouble.NOT_EMPTY, reason="not empty")
    kept = directory(3, 0o700)
    there, inside = node(b"n", NOTHING, b=kept), node(b"n/x", ONE, a=ONE)
    decision = decide("b", failed, there, inside)
    assert said(decision) == [(b"n", Case.FAILED), (b"n", Case.REVIVED)]
    assert decision.lines[0].outcome == "not empty"
    assert (decision.nodes[b"n"].head.kind, decision.nodes[b"n"].head.mode) == (Kind.DIRECTORY, 0o700)
    for quiet in (
        decide("b", failed, there),
        decide("b", failed, node(b"n", DIR, b=DIR), inside),
        decide("b", failed, node(b"n", NOTHING, b=ONE), inside),
        decide("c", failed, there, inside),
        decide("b", replace(failed, trouble=Trouble.IO), there, inside),
    ):
        assert said(quiet) == [(b"n", Case.FAILED)]
        assert not quiet.nodes


@pytest.mark.parametrize(
    ("inside", "case"),
    [
        (node(b"n/x", NOTHING, b=ONE), Case.UNCHANGED),
        (node(b"n/x", ONE, a=ONE, b=ONE), Case.CREATED),
        (node(b"n/x", NOTHING, a=ONE), Case.CREATED),
        (node(b"other", NOTHING, b=ONE), Case.CREATED),
    ],
)
def test_a_directory_that_was_deleted_and_stands_by_what_is_still_in_it_is_no_new_one(inside: Node, case: Case) -> None:
    """A bucket's does, also where nobody has heard of it before."""
    decision = decide("b", Event(Seen.STANDS, b"n", directory(0, 0), b"t"), node(b"n", NOTHING, a=DIR), inside)
    assert decision.case is case
    assert decision.nodes[b"n"].head.exists is (case is Case.CREATED)
    assert "b" in decision.nodes[b"n"].held


def test_a_file_whose_directory_could_not_go_for_it_becomes_a_copy_beside_it() -> None:
    failed = Event(Seen.FAILED, b"n", order=7, trouble=Trouble.NOT_EMPTY, reason="not empty")
    decision = decide("b", failed, node(b"n", ONE, a=ONE, b=DIR), node(b"n/x", TWO, a=TWO))
    assert decision.nodes[b"n"].head.kind is Kind.DIRECTORY
    assert [decision.nodes[copy].head.digests for copy in decision.copies] == [ONE.digests]


# --- heads that nobody holds --------------------------------------------------------------------------------------


def test_a_head_that_nobody_holds_any_more_is_withdrawn_to_the_newest_that_somebody_holds() -> None:
    three = file("three", seq=3, service="c")
    newest = replace(three, digests={"blake3": b"other"})
    known = node(PATH, newest, a=ONE, b=TWO, c=newest)
    decision = decide("c", Event(Seen.HIDDEN, PATH, reason="a filter"), known)
    assert said(decision) == [(PATH, Case.HIDDEN), (PATH, Case.WITHDRAWN)]
    assert decision.lines[1].outcome
    assert decision.nodes[PATH].head == replace(TWO, seq=SEQ + 1)
    assert decision.nodes[PATH].origin == b""


def test_a_head_that_nobody_ever_saw_is_withdrawn_to_nothing() -> None:
    decision = decide("a", Event(Seen.HIDDEN, PATH, reason="a filter"), node(PATH, ONE, a=ONE))
    assert said(decision)[-1] == (PATH, Case.WITHDRAWN)
    assert not decision.nodes[PATH].head.exists


def test_a_head_that_only_a_removed_service_holds_is_withdrawn_to_what_the_others_hold() -> None:
    """What is known of one that was taken out of the configuration is kept for its return; nobody can have it."""
    known = node(PATH, TWO, a=ONE, b=TWO, gone=TWO)
    decision = decide("b", Event(Seen.HIDDEN, PATH, reason="a filter"), known)
    assert said(decision) == [(PATH, Case.HIDDEN), (PATH, Case.WITHDRAWN)]
    assert decision.nodes[PATH].head == replace(ONE, seq=SEQ + 1)
    assert decision.nodes[PATH].held["gone"].version == TWO


def test_a_head_that_stands_where_it_was_moved_from_is_held() -> None:
    origin = replace(node(OLD, NOTHING, a=ONE), heirs=(PATH,))
    known = replace(node(PATH, ONE, b=ONE), origin=OLD)
    decision = decide("b", Event(Seen.HIDDEN, PATH, reason="a filter"), known, origin)
    assert said(decision) == [(PATH, Case.HIDDEN)]
    assert decision.nodes[PATH].head == ONE


def test_an_heir_whose_content_was_destroyed_at_its_origin_is_withdrawn() -> None:
    origin = replace(node(OLD, NOTHING, a=ONE), heirs=(PATH,))
    heir = replace(Node(PATH, ONE), origin=OLD)
    decision = decide("a", gone(OLD), origin, heir)
    assert (PATH, Case.WITHDRAWN) in said(decision)
    assert not decision.nodes[PATH].head.exists
    assert decision.nodes[PATH].origin == b""


def test_a_head_that_an_unread_file_may_be_is_not_withdrawn_before_it_is_read() -> None:
    unread = Version(Kind.FILE, 3, {"md5": b"?"}, 1, 0o644)
    decision = decide("a", Event(Seen.HIDDEN, PATH, reason="a filter"), node(PATH, ONE, a=ONE, c=unread))
    assert said(decision) == [(PATH, Case.HIDDEN)]
    assert decision.nodes[PATH].head == ONE


def test_a_head_that_no_reading_of_another_file_can_be_compared_with_is_withdrawn() -> None:
    head = replace(ONE, digests={"sha256": b"1"})
    unread = Version(Kind.FILE, 3, {"md5": b"?"}, 1, 0o644)
    decision = decide("a", Event(Seen.HIDDEN, PATH, reason="a filter"), node(PATH, head, a=head, c=unread))
    assert said(decision) == [(PATH, Case.HIDDEN), (PATH, Case.WITHDRAWN), (PATH, Case.EDIT_WINS)]
    assert decision.lines[2].service == "c"
    assert decision.nodes[PATH].head.digests == unread.digests


@pytest.mark.parametrize("hold_back", [False, True])
def test_what_a_rule_takes_away_from_a_service_is_deleted_nowhere_by_its_absence_there(hold_back: bool) -> None:
    everywhere = Rule("/", sync=("a", "b", "c"))
    banned = attrs.evolve(RULES, rules=(everywhere, Rule("/d/", ban=("b",))))
    known, gone = node(PATH, ONE, a=ONE, b=ONE, c=ONE), Event(Seen.GONE, PATH)
    decision = decide("b", gone, known, rules=banned, hold_back=hold_back)
    assert said(decision) == [(PATH, Case.HIDDEN)]
    assert decision.nodes[PATH] == node(PATH, ONE, a=ONE, c=ONE)
    assert said(decide("a", gone, known, rules=banned)) == [(PATH, Case.DELETED)]
    # Who holds what no rule speaks of manages it.
    assert said(decide("b", gone, known, rules=attrs.evolve(RULES, rules=()))) == [(PATH, Case.DELETED)]


def test_what_is_kept_beside_is_known_to_stand_where_it_was_withdrawn_meanwhile_and_not_where_it_was_deleted() -> None:
    """It could not be read for a moment, so that nobody held it any more as far as anybody knew."""
    kept = Event(Seen.DONE, PATH, ONE, b"t")
    for withdrawn in (node(PATH, NOTHING), node(PATH, replace(NOTHING, seq=SEQ - 1))):
        decision = decide("b", kept, withdrawn)
        assert said(decision) == [(PATH, Case.CREATED)]
        assert decision.nodes[PATH].head.digests == ONE.digests
    deleted = decide("b", kept, node(PATH, replace(NOTHING, service="a", seq=SEQ - 1)))
    assert said(deleted) == [(PATH, Case.WRITTEN)]
    assert not deleted.nodes[PATH].head.exists
    put = decide("b", replace(kept, order=7), node(PATH, NOTHING))
    assert said(put) == [(PATH, Case.WRITTEN)]
