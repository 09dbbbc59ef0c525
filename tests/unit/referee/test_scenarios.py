"""The situations that synchronisers are tested with, at the cheapest level: the machine and the planner on dicts.

Each story is told in many orders of arrival (seeds); what must come out is the same in all of them. Numbers in brackets
are the rows of the table of acceptance scenarios in the design notes.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.conflicts import is_conflict_name
from onitu.model.events import Event, Seen
from onitu.model.orders import Do
from onitu.model.settings import Filter, Folder, Replica, Rule
from onitu.model.versions import Kind
from onitu.referee.rules import Rules
from tests.budget import budgeted
from tests.world import Thing, World

Told = Callable[[int], World]
SEEDS = range(budgeted(12, least=3))

pytestmark = pytest.mark.parametrize("seed", SEEDS)


def begin(seed: int, *files: bytes, services: int = 3, rules: Rules | None = None) -> World:
    """A world that is quiet, with these files on every service."""
    world = World(services, seed, rules)
    for path in files:
        world.write("s0", path)
    world.settle()
    return world


def end(world: World) -> dict[bytes, bytes]:
    """Let it settle, check S1–S6, and tell what everybody holds: path → value (directories: `/`)."""
    world.settle()
    world.check()
    return content(world, "s0")


def content(world: World, service: str) -> dict[bytes, bytes]:
    tree = world.services[service].tree
    return {p: t.version.digests.get("blake3", b"/") for p, t in sorted(tree.items())}


def value(world: World, service: str, path: bytes, digest: str = "blake3") -> bytes:
    return world.services[service].tree[path].version.digests[digest]


def copies(tree: dict[bytes, bytes]) -> list[bytes]:
    return [path for path in tree if is_conflict_name(path)]


def count(world: World) -> dict[Do, int]:
    """Count the orders that are carried out from now on."""
    done: dict[Do, int] = dict.fromkeys(Do, 0)
    perform = world.perform

    def counting(service: str) -> None:
        done[world.services[service].orders[0].do] += 1
        perform(service)

    world.perform = counting  # type: ignore[method-assign]
    return done


# --- one side -----------------------------------------------------------------------------------------------------


def test_a_new_file_stands_on_every_service(seed: int) -> None:  # [1]
    world = begin(seed)
    world.write("s1", b"d/new")
    assert set(end(world)) == {b"d", b"d/new"}


def test_an_edit_with_an_older_mtime_propagates(seed: int) -> None:  # [2]
    world = begin(seed, b"a")
    world.write("s1", b"a")
    thing = world.services["s1"].tree[b"a"]
    world.services["s1"].tree[b"a"] = Thing(replace(thing.version, mtime=-5), thing.token)
    assert end(world) == {b"a": thing.version.digests["blake3"]}


def test_a_deletion_propagates(seed: int) -> None:  # [3]
    world = begin(seed, b"a", b"b")
    world.delete("s2", b"a")
    assert set(end(world)) == {b"b"}


def test_a_deletion_on_both_sides_needs_no_order(seed: int) -> None:  # [4]
    world = begin(seed, b"a", services=2)
    world.delete("s0", b"a")
    world.delete("s1", b"a")
    for service in world.services:
        world.look(service)
        world.decide(service)
    done = count(world)
    assert end(world) == {}
    assert not any(done.values())
    assert not world.nodes


def test_a_touched_file_is_not_transferred(seed: int) -> None:  # [46]
    world = begin(seed, b"a")
    done = count(world)
    world.touch("s1", b"a")
    end(world)
    assert done[Do.PUT] == 0
    assert done[Do.META] == 2


def test_created_and_deleted_at_once_leaves_nothing(seed: int) -> None:  # [24]
    world = begin(seed)
    world.write("s0", b"a")
    world.delete("s0", b"a")
    assert end(world) == {}


def test_deleted_and_created_again_stands(seed: int) -> None:  # [23]
    world = begin(seed, b"a")
    world.delete("s0", b"a")
    for _ in range(seed):
        world.step()
    world.write("s0", b"a")
    last = value(world, "s0", b"a")
    assert last in end(world).values()


def test_an_empty_directory_comes_and_goes(seed: int) -> None:  # [28]
    world = begin(seed)
    world.mkdir("s0", b"d")
    assert end(world) == {b"d": b"/"}
    world.delete("s2", b"d")
    assert end(world) == {}


# --- both sides ---------------------------------------------------------------------------------------------------


def test_two_edits_are_both_kept_under_the_same_names_everywhere(seed: int) -> None:  # [5]
    world = begin(seed, b"a.txt")
    world.write("s0", b"a.txt")
    world.write("s1", b"a.txt")
    tree = end(world)
    assert len(tree) == 2
    assert len(copies(tree)) == 1
    assert copies(tree)[0].endswith(b".txt")


def test_three_edits_are_all_kept(seed: int) -> None:  # [6]
    world = begin(seed, b"a")
    for service in world.services:
        world.write(service, b"a")
    assert len(end(world)) == 3


def test_the_newest_of_two_edits_keeps_the_name(seed: int) -> None:
    world = begin(seed, b"a")
    world.write("s0", b"a")
    world.clock += 10
    world.write("s1", b"a")
    newest = value(world, "s1", b"a")
    assert end(world)[b"a"] == newest


def test_the_preferred_service_keeps_the_name(seed: int) -> None:
    rules = Rules(Folder("f", conflict="prefer:s0"), {n: Replica("f", "/" + n) for n in ("s0", "s1", "s2")})
    world = begin(seed, b"a", rules=rules)
    world.write("s0", b"a")
    preferred = value(world, "s0", b"a")
    world.clock += 10
    world.write("s1", b"a")
    assert end(world)[b"a"] == preferred


def test_equal_edits_are_no_conflict(seed: int) -> None:  # [7]
    world = begin(seed, b"a", services=2)
    world.write("s0", b"a")
    thing = world.services["s0"].tree[b"a"]
    world.history.write("s1", "a", value(world, "s0", b"a").decode(), value(world, "s1", b"a").decode())
    world.services["s1"].tree[b"a"] = Thing(thing.version, world.token())
    world.services["s1"].dirty[b"a"] = None
    for service in world.services:
        world.look(service)
        world.decide(service)
    done = count(world)
    assert len(end(world)) == 1
    assert not any(done.values())


@pytest.mark.parametrize(("editor", "deleter"), [("s0", "s1"), ("s1", "s0")])
def test_an_edit_beats_a_deletion(seed: int, editor: str, deleter: str) -> None:  # [8]
    world = begin(seed, b"a")
    world.write(editor, b"a")
    edited = value(world, editor, b"a")
    world.delete(deleter, b"a")
    assert end(world) == {b"a": edited}


def test_deleted_on_two_and_edited_on_the_third_stands(seed: int) -> None:  # [9]
    world = begin(seed, b"a")
    world.delete("s0", b"a")
    world.write("s1", b"a")
    edited = value(world, "s1", b"a")
    world.delete("s2", b"a")
    assert end(world) == {b"a": edited}


def test_two_full_trees_that_differ_become_their_union(seed: int) -> None:  # [10]
    world = World(2, seed)
    world.write("s0", b"a")
    world.write("s0", b"only/here")
    world.write("s1", b"a")
    world.write("s1", b"only/there")
    tree = end(world)
    assert {b"a", b"only/here", b"only/there"} < set(tree)
    assert len(copies(tree)) == 1


def test_a_lost_state_deletes_nothing_and_reverts_nothing(seed: int) -> None:  # [17]
    world = begin(seed, b"a", b"b", b"d/c")
    world.lose_state()
    world.delete("s1", b"a")
    world.write("s2", b"b")
    for place in world.services.values():
        place.dirty |= dict.fromkeys(place.tree)
    tree = end(world)
    assert {b"a", b"b", b"d/c"} <= set(tree)


def test_an_edit_that_is_known_by_another_digest_only_beats_a_deletion(seed: int) -> None:
    world = begin(seed, b"a")
    world.services["s2"].digest = "md5"
    world.write("s2", b"a")
    world.delete("s0", b"a")
    world.look("s0")
    world.decide("s0")
    assert set(end(world)) == {b"a"}


def test_an_edit_that_waits_to_be_read_beats_a_deletion(seed: int) -> None:
    world = begin(seed, b"a")
    world.services["s2"].digest = "md5"
    world.write("s1", b"a")
    world.look("s1")
    world.decide("s1")
    world.write("s2", b"a")
    world.look("s2")
    world.decide("s2")
    edited = value(world, "s2", b"a", "md5")
    world.delete("s1", b"a")
    world.look("s1")
    world.decide("s1")
    assert edited in end(world).values()


def test_two_edits_with_no_digest_in_common_are_decided_by_the_policy(seed: int) -> None:
    world = World(2, seed)
    world.services["s0"].digest = "md5"
    world.write("s0", b"a")
    world.clock += 10
    world.write("s1", b"a")
    newest = value(world, "s1", b"a")
    assert end(world)[b"a"] == newest


def test_what_was_touched_does_not_stand_again_where_another_digest_replaced_it(seed: int) -> None:
    world = World(3, seed)
    world.services["s0"].digest = "md5"
    world.write("s0", b"a")
    world.settle()
    world.write("s1", b"a")
    edited = value(world, "s1", b"a")
    world.touch("s2", b"a")
    assert end(world) == {b"a": edited}


def test_what_was_touched_does_not_stand_again_where_a_directory_replaced_it(seed: int) -> None:
    world = begin(seed, b"a")
    world.delete("s0", b"a")
    world.write("s0", b"a/x")
    world.touch("s1", b"a")
    assert set(end(world)) == {b"a", b"a/x"}


def test_a_file_beside_a_directory_of_its_name_in_another_unicode_form_is_not_replaced_by_it(seed: int) -> None:
    world = World(2, seed)
    world.write("s0", "e\u0301".encode())
    world.settle()
    kept = value(world, "s0", "e\u0301".encode())
    world.write("s1", "\u00e9/a".encode())
    world.settle()
    for service in world.services:
        assert kept in content(world, service).values()


# --- directories --------------------------------------------------------------------------------------------------


def test_a_new_file_survives_the_deletion_of_its_directory(seed: int) -> None:  # [21]
    world = begin(seed, b"d/a", b"d/b")
    world.delete("s0", b"d")
    world.write("s1", b"d/new")
    tree = end(world)
    assert set(tree) == {b"d", b"d/new"}


def test_a_part_and_the_whole_of_a_directory_deleted(seed: int) -> None:  # [22]
    world = begin(seed, b"d/a", b"d/b")
    world.delete("s0", b"d/a")
    world.delete("s1", b"d")
    assert end(world) == {}


def test_an_edit_below_a_deleted_directory_comes_back_with_it(seed: int) -> None:
    world = begin(seed, b"d/e/a", b"d/b")
    world.delete("s0", b"d")
    world.write("s1", b"d/e/a")
    edited = value(world, "s1", b"d/e/a")
    tree = end(world)
    assert tree[b"d/e/a"] == edited
    assert b"d/b" not in tree


def test_a_file_becomes_a_directory(seed: int) -> None:  # [25]
    world = begin(seed, b"a")
    world.delete("s0", b"a")
    world.write("s0", b"a/x")
    assert set(end(world)) == {b"a", b"a/x"}


def test_a_directory_becomes_a_file(seed: int) -> None:
    world = begin(seed, b"a/x", b"a/y")
    world.write("s1", b"a")
    assert set(end(world)) == {b"a"}


def test_a_file_edited_and_replaced_by_a_directory_is_kept_beside_it(seed: int) -> None:  # [26]
    world = begin(seed, b"a")
    world.delete("s0", b"a")
    world.write("s0", b"a/x")
    world.write("s1", b"a")
    edited = value(world, "s1", b"a")
    tree = end(world)
    assert tree[b"a"] == b"/"
    assert b"a/x" in tree
    assert edited in tree.values()


def test_a_directory_replaced_by_a_file_while_something_new_is_below(seed: int) -> None:  # [27]
    world = begin(seed, b"d/a")
    world.write("s0", b"d")
    file = value(world, "s0", b"d")
    world.write("s1", b"d/new")
    tree = end(world)
    assert tree[b"d"] == b"/"
    assert b"d/new" in tree
    assert file in tree.values()


def test_both_sides_create_different_kinds(seed: int) -> None:
    world = World(2, seed)
    world.write("s0", b"x")
    world.write("s1", b"x/y")
    tree = end(world)
    assert tree[b"x"] == b"/"
    assert len(copies(tree)) == 1


# --- moves --------------------------------------------------------------------------------------------------------


def move(world: World, service: str, path: bytes, target: bytes) -> None:
    """A user renames a file, and the driver tells it as a move."""
    place = world.services[service]
    for directory in reversed(paths.ancestors(target)):
        if directory not in place.tree:
            world.mkdir(service, directory)
            world.look(service)
    thing, over = place.tree.pop(path), place.tree.get(target)
    tokens = [t.version.digests["blake3"].decode() if t and t.version.digests else None for t in (thing, over)]
    world.history.rename(service, path.decode(), target.decode(), *tokens)
    place.tree[target] = Thing(thing.version, world.token())
    place.events.append(Event(Seen.MOVED, target, thing.version, place.tree[target].token, source=path))


def test_a_move_is_a_move_everywhere(seed: int) -> None:  # [29]
    world = begin(seed, b"a")
    done = count(world)
    move(world, "s1", b"a", b"d/b")
    assert set(end(world)) == {b"d", b"d/b"}
    assert (done[Do.MOVE], done[Do.DELETE]) == (2, 0)


def test_a_chain_of_moves_is_followed(seed: int) -> None:  # [30]
    world = begin(seed, b"a", b"b")
    first = value(world, "s0", b"a")
    done = count(world)
    move(world, "s0", b"b", b"c")
    move(world, "s0", b"a", b"b")
    tree = end(world)
    assert set(tree) == {b"b", b"c"}
    assert tree[b"b"] == first
    assert done[Do.DELETE] == 0


def test_two_names_are_swapped(seed: int) -> None:  # [31]
    world = begin(seed, b"a", b"b")
    a, b = value(world, "s0", b"a"), value(world, "s0", b"b")
    move(world, "s0", b"a", b"t")
    move(world, "s0", b"b", b"a")
    move(world, "s0", b"t", b"b")
    assert end(world) == {b"a": b, b"b": a}


def test_a_move_over_a_file_replaces_it(seed: int) -> None:  # [32]
    world = begin(seed, b"a", b"b")
    a = value(world, "s0", b"a")
    move(world, "s0", b"a", b"b")
    assert end(world) == {b"b": a}


def test_both_sides_rename_differently(seed: int) -> None:  # [33]
    world = begin(seed, b"a")
    move(world, "s0", b"a", b"x")
    move(world, "s1", b"a", b"y")
    tree = end(world)
    assert set(tree) <= {b"x", b"y"}
    assert tree


def test_a_move_and_an_edit_elsewhere_lose_nothing(seed: int) -> None:  # [34]
    world = begin(seed, b"a")
    move(world, "s0", b"a", b"b")
    world.write("s1", b"a")
    edited = value(world, "s1", b"a")
    assert edited in end(world).values()


def test_what_was_renamed_survives_a_deletion_elsewhere(seed: int) -> None:  # [35]
    world = begin(seed, b"a")
    kept = value(world, "s0", b"a")
    move(world, "s0", b"a", b"b")
    world.services["s1"].tree.pop(b"a")
    world.services["s1"].dirty[b"a"] = None
    assert end(world) == {b"b": kept}


def test_the_target_of_a_move_was_created_elsewhere(seed: int) -> None:  # [36]
    world = begin(seed, b"a")
    move(world, "s0", b"a", b"b")
    world.write("s1", b"b")
    tree = end(world)
    assert b"b" in tree
    assert len(copies(tree)) == 1


def test_a_directory_renamed_while_a_child_is_edited_elsewhere(seed: int) -> None:  # [37]
    world = begin(seed, b"d/a", b"d/b")
    for name in (b"a", b"b"):
        move(world, "s0", b"d/" + name, b"n/" + name)
    world.delete("s0", b"d")
    world.write("s1", b"d/a")
    edited = value(world, "s1", b"d/a")
    tree = end(world)
    assert edited in tree.values()
    assert b"n/b" in tree
    assert b"d/b" not in tree


def test_a_hierarchy_turned_inside_out(seed: int) -> None:  # [38]
    world = begin(seed, b"a/b/x")
    move(world, "s0", b"a/b/x", b"t/x")
    world.delete("s0", b"a")
    move(world, "s0", b"t/x", b"b/a/x")
    world.delete("s0", b"t")
    assert set(end(world)) == {b"b", b"b/a", b"b/a/x"}


def test_directories_moved_into_each_other_make_no_cycle(seed: int) -> None:  # [39]
    world = begin(seed, b"a/x", b"b/y")
    move(world, "s0", b"a/x", b"b/a/x")
    world.delete("s0", b"a")
    move(world, "s1", b"b/y", b"a/b/y")
    world.delete("s1", b"b")
    end(world)


def test_a_case_only_rename_changes_the_name(seed: int) -> None:  # [41]
    world = begin(seed, b"File")
    move(world, "s0", b"File", b"file")
    assert set(end(world)) == {b"file"}


# --- conflict copies ----------------------------------------------------------------------------------------------


def test_a_conflict_of_a_conflict_has_one_mark(seed: int) -> None:  # [61]
    world = begin(seed, b"a")
    world.write("s0", b"a")
    world.write("s1", b"a")
    (copy,) = copies(end(world))
    world.write("s0", copy)
    world.clock += 3_000_000_000
    world.write("s1", copy)
    tree = end(world)
    assert len(tree) == 3
    assert all(path.count(b"(conflict") <= 1 for path in tree)


def test_a_conflict_copy_can_be_deleted(seed: int) -> None:  # [62]
    world = begin(seed, b"a")
    world.write("s0", b"a")
    world.write("s1", b"a")
    (copy,) = copies(end(world))
    world.delete("s2", copy)
    assert set(end(world)) == {b"a"}


def test_a_conflict_copy_never_overwrites(seed: int) -> None:
    world = begin(seed, b"a", services=2)
    world.write("s0", b"a")
    world.write("s1", b"a")
    (copy,) = copies(end(world))
    first = value(world, "s0", copy)
    for service in ("s0", "s1"):
        thing = world.services[service]
        world.write(service, b"a")
        old = thing.tree[b"a"]
        thing.tree[b"a"] = Thing(replace(old.version, mtime=1), old.token)
    tree = end(world)
    assert first in tree.values()
    assert len(tree) == 3


def test_a_copy_that_loses_its_name_before_it_stands_anywhere_is_kept(seed: int) -> None:
    world = begin(seed, b"a", services=3)
    world.write("s0", b"a")
    loser = value(world, "s0", b"a")
    world.look("s0")
    world.decide("s0")
    for path in (b"a", b""):
        world.clock += 10
        path = path or next(p for p in world.nodes if is_conflict_name(p))
        world.write("s1", path)
        world.look("s1")
        world.decide("s1")
    for service in ("s0", "s2"):  # the new content stands everywhere before anything is displaced
        world.order(service, path)
        while world.services[service].orders:
            world.perform(service)
        while world.services[service].events:
            world.decide(service)
    tree = end(world)
    assert loser in tree.values()
    assert len(tree) == 3


# --- modes and rules ----------------------------------------------------------------------------------------------


def with_modes(**modes: str) -> Rules:
    return Rules(Folder("f"), {name: Replica("f", "/" + name, mode=mode) for name, mode in modes.items()})


def test_a_service_that_is_only_read_is_never_written(seed: int) -> None:
    world = World(2, seed, with_modes(s0="rw", s1="r"))
    world.write("s1", b"theirs")
    world.write("s0", b"ours")
    world.settle()
    assert set(content(world, "s0")) == {b"ours", b"theirs"}
    assert set(content(world, "s1")) == {b"theirs"}


@pytest.mark.parametrize("digest", ["blake3", "md5"])
def test_an_edit_on_a_service_that_is_only_read_comes_to_all_whatever_digest_it_has(seed: int, digest: str) -> None:
    world = World(3, seed, with_modes(s0="rw", s1="rw", s2="r"))
    world.services["s0"].digest = "md5" if digest == "blake3" else "blake3"
    world.services["s2"].digest = digest
    world.write("s0", b"a")
    world.write("s2", b"a")
    theirs = value(world, "s2", b"a", digest)
    world.settle()
    assert theirs in world.values(["s0"])
    assert theirs in world.values(["s1"])


def test_what_a_service_kept_to_itself_is_shared_once_it_may_be_read(seed: int) -> None:
    world = World(2, seed, with_modes(s0="rw", s1="w"))
    for service in ("s0", "s1"):
        world.write(service, b"a")
        world.look(service)
        world.decide(service)
    theirs = value(world, "s1", b"a")
    world.rules = with_modes(s0="rw", s1="r")
    world.services["s1"].dirty[b"a"] = None
    world.settle()
    assert theirs in content(world, "s0").values()


def test_a_service_that_is_only_written_is_no_source_and_loses_nothing(seed: int) -> None:  # [59]
    world = World(2, seed, with_modes(s0="rw", s1="w"))
    world.write("s0", b"a")
    world.settle()
    ours = value(world, "s0", b"a")
    world.write("s1", b"a")
    theirs = value(world, "s1", b"a")
    world.write("s1", b"extra")
    world.settle()
    assert content(world, "s0") == {b"a": ours}
    there = content(world, "s1")
    assert there[b"a"] == ours
    assert theirs in there.values()
    assert b"extra" in there


def test_a_copy_on_a_service_that_is_no_source_is_not_enough_to_make_room(seed: int) -> None:
    world = World(3, seed, with_modes(s0="rw", s1="rw", s2="w"))
    world.write("s0", b"a")
    world.settle()
    world.write("s0", b"a")
    loser = value(world, "s0", b"a")
    world.look("s0")
    world.decide("s0")
    world.clock += 10
    world.write("s1", b"a")
    world.look("s1")
    world.decide("s1")
    (copy,) = (path for path in world.nodes if is_conflict_name(path))
    world.order("s2", copy)
    world.perform("s2")
    world.decide("s2")
    world.services["s0"].tree[copy] = Thing(replace(world.value("s0"), mtime=-5), world.token())
    world.history.write("s0", copy.decode(), "v4")
    world.services["s0"].dirty[copy] = None
    world.settle()
    for service in world.services:
        assert loser in world.values([service])


def test_what_replaced_a_deleted_file_on_a_service_that_is_only_written_stays_there(seed: int) -> None:
    world = World(2, seed, with_modes(s0="rw", s1="w"))
    world.write("s0", b"a")
    world.settle()
    world.write("s1", b"a")
    theirs = value(world, "s1", b"a")
    world.delete("s0", b"a")
    world.look("s0")
    world.decide("s0")
    world.settle()
    assert content(world, "s0") == {}
    assert content(world, "s1") == {b"a": theirs}


def test_a_deletion_on_a_service_that_is_only_written_is_undone(seed: int) -> None:
    world = World(2, seed, with_modes(s0="rw", s1="w"))
    world.write("s0", b"a")
    world.settle()
    world.services["s1"].tree.pop(b"a")
    world.services["s1"].dirty[b"a"] = None
    world.settle()
    assert content(world, "s1") == content(world, "s0")


def test_what_a_filter_hides_is_never_deleted_elsewhere(seed: int) -> None:  # [18]
    world = begin(seed, b"a.bak", services=2)
    replicas = {"s0": Replica("f", "/s0"), "s1": Replica("f", "/s1", filter=Filter(blacklist=("*.bak",)))}
    world.rules = Rules(Folder("f"), replicas)
    world.services["s1"].events.append(Event(Seen.HIDDEN, b"a.bak", reason="a filter"))
    world.settle()
    del world.services["s1"].tree[b"a.bak"]
    world.services["s1"].events.append(Event(Seen.GONE, b"a.bak"))
    world.settle()
    assert set(content(world, "s0")) == {b"a.bak"}


def test_nobody_waits_for_ever_to_be_compared_with_what_is_hidden_where_it_stood(seed: int) -> None:
    world = World(3, seed)
    world.services["s0"].digest = "md5"
    for service in ("s0", "s1"):
        world.write(service, b"a.bak")
        world.look(service)
        world.decide(service)
    theirs = value(world, "s1", b"a.bak")
    replicas = {"s0": Replica("f", "/s0", filter=Filter(blacklist=("*.bak",)))}
    world.rules = Rules(Folder("f"), {**world.rules.replicas, **replicas})
    world.services["s0"].events.append(Event(Seen.HIDDEN, b"a.bak", reason="a filter"))
    world.decide("s0")
    world.settle()
    assert content(world, "s1") == content(world, "s2") == {b"a.bak": theirs}


def test_what_is_not_hidden_any_more_comes_back_where_it_is_absent(seed: int) -> None:  # [19]
    world = begin(seed, b"a.bak", services=2)
    plain = world.rules
    world.rules = attrs.evolve(plain, folder=Folder("f", filter=Filter(blacklist=("*.bak",))))
    world.services["s1"].events.append(Event(Seen.HIDDEN, b"a.bak", reason="a filter"))
    world.settle()
    del world.services["s1"].tree[b"a.bak"]
    world.rules = plain
    world.services["s1"].events.append(Event(Seen.GONE, b"a.bak"))
    assert set(end(world)) == {b"a.bak"}


def test_what_was_hidden_from_everybody_comes_back_wherever_it_is_left(seed: int) -> None:
    world = begin(seed, b"a.bak", b"d/b.bak", services=2)
    plain = world.rules
    world.rules = attrs.evolve(plain, folder=Folder("f", filter=Filter(blacklist=("*.bak", "d/"))))
    for place in world.services.values():
        place.events += [Event(Seen.HIDDEN, path, reason="a filter") for path in (b"a.bak", b"d/b.bak", b"d")]
    world.settle()
    del world.services["s1"].tree[b"a.bak"]
    world.rules = plain
    world.services["s1"].events.append(Event(Seen.GONE, b"a.bak"))
    for place in world.services.values():
        place.dirty = dict.fromkeys(place.tree)
    assert set(end(world)) == {b"a.bak", b"d", b"d/b.bak"}


def test_a_file_that_grows_past_a_limit_stays_and_others_keep_theirs(seed: int) -> None:
    folder = Folder("f", filter=Filter(size_max=100))
    world = begin(seed, b"a", services=2, rules=Rules(folder, {n: Replica("f", "/" + n) for n in ("s0", "s1")}))
    small = value(world, "s1", b"a")
    world.write("s0", b"a")
    thing = world.services["s0"].tree[b"a"]
    world.services["s0"].tree[b"a"] = Thing(replace(thing.version, size=1000), thing.token)
    world.settle()
    assert value(world, "s1", b"a") == small
    assert world.services["s0"].tree[b"a"].version.size == 1000
    world.write("s0", b"a")
    assert set(end(world)) == {b"a"}


def test_what_is_hidden_does_not_hide_the_entry_of_its_name_in_another_unicode_form(seed: int) -> None:
    world = begin(seed, "e\u0301".encode(), services=2)
    small = {"s0": Replica("f", "/s0", filter=Filter(size_max=2))}
    world.rules = Rules(Folder("f"), {**world.rules.replicas, **small})
    world.write("s0", "\u00e9".encode())
    thing = world.services["s0"].tree["\u00e9".encode()]
    big = Thing(replace(thing.version, size=1000), thing.token)
    world.services["s0"].tree["\u00e9".encode()] = big
    world.look("s0")
    world.decide("s0")
    world.write("s1", "e\u0301".encode())
    edited = value(world, "s1", "e\u0301".encode())
    world.settle()
    assert value(world, "s0", "e\u0301".encode()) == edited
    assert world.services["s0"].tree["\u00e9".encode()] == big


@pytest.mark.parametrize("mode", ["rw", "w"])
def test_what_is_hidden_by_its_size_is_not_replaced_and_not_asked_for_again_and_again(seed: int, mode: str) -> None:
    small = Replica("f", "/s1", filter=Filter(size_max=2), mode=mode)
    world = World(2, seed, Rules(Folder("f"), {"s0": Replica("f", "/s0"), "s1": small}))
    world.write("s1", b"a")
    thing = world.services["s1"].tree[b"a"]
    world.services["s1"].tree[b"a"] = Thing(replace(thing.version, size=1000), thing.token)
    world.write("s0", b"a")
    ours = value(world, "s0", b"a")
    world.settle()
    assert content(world, "s1") == {b"a": thing.version.digests["blake3"]}
    assert content(world, "s0") == {b"a": ours}
    world.delete("s1", b"a")
    world.settle()
    assert content(world, "s0") == content(world, "s1") == {b"a": ours}


def test_rules_add_and_take_away_services_in_order(seed: int) -> None:
    rules = Rules(
        Folder("f"),
        {n: Replica("f", "/" + n) for n in ("s0", "s1", "s2")},
        (Rule(path="/", sync=("s1",)), Rule(path="/private/", ban=("s1",))),
    )
    world = World(3, seed, rules)
    world.write("s0", b"open/a")
    world.write("s0", b"private/b")
    world.settle()
    assert b"open/a" in world.services["s1"].tree
    assert b"private/b" not in world.services["s1"].tree
    assert b"open/a" not in world.services["s2"].tree


def test_a_ban_after_a_sync_deletes_nothing(seed: int) -> None:
    services = ("s0", "s1")
    replicas = {n: Replica("f", "/" + n) for n in services}
    world = begin(seed, b"a", services=2)
    world.rules = Rules(Folder("f"), replicas, (Rule(path="/", ban=("s1",)),))
    world.settle()
    assert b"a" in world.services["s1"].tree
    world.delete("s0", b"a")
    world.settle()
    assert b"a" in world.services["s1"].tree


# --- rest ---------------------------------------------------------------------------------------------------------


def test_a_second_look_at_everything_moves_nothing(seed: int) -> None:  # [70]
    world = begin(seed, b"a", b"d/b", b"d/e/c")
    done = count(world)
    for place in world.services.values():
        place.dirty = dict.fromkeys(place.tree)
    end(world)
    assert not any(done.values())


def test_equal_content_in_many_files_stays_in_many_files(seed: int) -> None:  # [69]
    world = World(2, seed)
    world.write("s0", b"a")
    thing = world.services["s0"].tree[b"a"]
    for n in range(20):
        path = b"n%d" % n
        world.services["s0"].tree[path] = Thing(thing.version, world.token())
        world.services["s0"].dirty[path] = None
    assert len(end(world)) == 21


def test_a_directory_tree_stays_a_tree(seed: int) -> None:
    world = begin(seed, b"d/a")
    world.delete("s0", b"d")
    world.write("s1", b"d")
    world.write("s2", b"d/a")
    tree = end(world)
    for path in tree:
        for directory in paths.ancestors(path):
            assert world.services["s0"].tree[directory].version.kind is Kind.DIRECTORY


@pytest.mark.parametrize("author", ["s0", "s1"])
@pytest.mark.parametrize("told", ["renamed", "written"])
def test_what_is_renamed_back_while_another_one_writes_there_is_kept_though_it_stood_beside_it(
    seed: int, told: str, author: str
) -> None:
    """The old name tells that it is gone only after the new one has lost: until then a copy seems to stand there."""
    world = begin(seed + 6, b"f")  # with 6, 8, 9 and 11 its value was lost
    first = value(world, "s1", b"f")
    order = world.order
    # As long as one service is not reached, it is remembered where everything came from and went.
    world.order = lambda service, path: service != "s2" and order(service, path)  # type: ignore[method-assign]
    world.rename("s1", b"f", b"f moved")
    world.settle()
    world.write("s1", b"f")
    world.settle()
    other = "s1" if author == "s0" else "s0"
    back = world.services[author]
    world.delete(author, b"f")
    back.dirty[b"f moved"] = None  # so that it is not told as a rename
    world.rename(author, b"f moved", b"f")
    world.write(other, b"f")
    del back.dirty[b"f moved"]
    for service in (author, other) if told == "renamed" else (other, author):
        world.look(service)
        world.decide(service)
    back.dirty[b"f moved"] = None
    world.order = order  # type: ignore[method-assign]
    assert first in end(world).values()


def rename_half_told(world: World, service: str, path: bytes, target: bytes) -> None:
    """Rename a file, of which the driver tells only that it stands at its new name."""
    place = world.services[service]
    place.dirty[path] = None  # so that it is not told as a rename
    world.rename(service, path, target)
    del place.dirty[path]
    world.look(service)
    world.decide(service)


def rename_told(world: World, service: str, path: bytes, target: bytes) -> None:
    """Rename a file, and have it told as that."""
    place = world.services[service]
    place.dirty[path] = None
    world.rename(service, path, target)
    del place.dirty[path], place.dirty[target]
    thing = place.tree[target]
    place.events.append(Event(Seen.MOVED, target, thing.version, thing.token, source=path))


def test_what_is_renamed_there_and_back_where_it_was_to_be_deleted_is_kept(seed: int) -> None:
    """It had been renamed elsewhere, and nobody has told yet that the old name was free in between."""
    world = begin(seed, b"g")
    first = value(world, "s0", b"g")
    order = world.order
    world.order = lambda service, path: service != "s0" and order(service, path)  # type: ignore[method-assign]
    rename_told(world, "s1", b"g", b"f")
    world.settle()
    rename_half_told(world, "s0", b"g", b"f")
    rename_told(world, "s0", b"f", b"g")
    world.decide("s0")
    world.order = order  # type: ignore[method-assign]
    assert first in end(world).values()


def test_what_is_renamed_back_to_a_name_that_is_not_known_to_be_free_yet_is_kept(seed: int) -> None:
    world = begin(seed, services=2)
    world.order = lambda service, path: False  # type: ignore[method-assign]
    world.write("s0", b"g")
    world.settle()
    del world.order  # type: ignore[method-assign]
    first = value(world, "s0", b"g")
    rename_half_told(world, "s0", b"g", b"f")
    assert world.order("s1", b"f")
    world.perform("s1")
    world.decide("s1")
    rename_told(world, "s1", b"f", b"g")
    world.decide("s1")
    world.services["s0"].dirty[b"g"] = None
    world.look("s0")
    world.decide("s0")
    assert first in end(world).values()


def test_who_writes_where_a_file_was_renamed_away_and_is_back_did_not_see_that_it_is_back(seed: int) -> None:
    world = begin(seed, b"g", services=2)
    first = value(world, "s0", b"g")
    world.order = lambda service, path: False  # type: ignore[method-assign]
    rename_told(world, "s1", b"g", b"f")
    world.decide("s1")
    rename_half_told(world, "s0", b"g", b"f")
    rename_told(world, "s1", b"f", b"g")
    world.decide("s1")
    world.write("s0", b"g")
    world.look("s0")
    world.decide("s0")
    del world.order  # type: ignore[method-assign]
    assert first in end(world).values()


def test_what_is_renamed_there_and_back_by_halves_where_it_was_to_be_renamed_is_kept(seed: int) -> None:
    """That it stood at its old name all the time is all that the driver can tell of it."""
    world = begin(seed, b"g")
    first = value(world, "s0", b"g")
    order = world.order
    world.order = lambda service, path: service == "s2" and order(service, path)  # type: ignore[method-assign]
    rename_told(world, "s2", b"g", b"f")
    world.settle()
    rename_half_told(world, "s1", b"g", b"f")
    back = world.services["s1"]
    back.dirty[b"f"] = None
    world.rename("s1", b"f", b"g")
    del back.dirty[b"g"]
    world.look("s1")
    world.decide("s1")
    back.dirty[b"g"] = None
    world.look("s1")
    world.decide("s1")
    world.order = order  # type: ignore[method-assign]
    assert first in end(world).values()
