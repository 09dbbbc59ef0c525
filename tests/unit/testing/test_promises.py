from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onitu.testing.spec import DIRECTORY, History, Item, Kind, file, judge
from tests.unit.testing.little import Little, live

MODES = {
    "all": {"s0": "rw", "s1": "rw", "s2": "rw"},
    "source": {"s0": "r", "s1": "rw", "s2": "rw"},
    "target": {"s0": "w", "s1": "rw", "s2": "rw"},
}

BUGS = [
    ("clobber_dirty", "all", "lost", "the synchroniser let it take the place"),
    ("stale_overwrite", "all", "lost", "is lost"),
    ("drop_copy", "all", "lost", "by one who had not seen it"),
    ("delete_beats_edit", "all", "lost", "nothing stands"),
    ("resurrect", "all", "resurrected", "deleted at"),
    ("torn", "all", "ghosts", "torn: it is made of"),
    ("invent", "all", "ghosts", "nobody wrote this content"),
    ("temporary", "all", "ghosts", "a temporary file is in sight"),
    ("diverge", "all", "diverged", "holds nothing"),
    ("restless", "all", "diverged", "moved although all was quiet"),
    ("write_read_only", "source", "misplaced", "may not be written"),
    ("read_unreadable", "target", "misplaced", "which nobody else may hear of"),
    ("hidden_delivered", "rules", "misplaced", "the rules hide"),
    ("hidden_is_absent", "rules", "lost", "is lost"),
]


def little(modes: str, bug: str = "") -> Little:
    return Little(bug, dict(MODES.get(modes, MODES["all"])), rules=modes == "rules")


@pytest.mark.parametrize("modes", [*MODES, "rules"])
@given(seed=st.integers(0, 2**32), deeds=st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_a_correct_synchroniser_is_accepted(modes: str, seed: int, deeds: int) -> None:
    verdict = live(little(modes), seed, deeds)
    assert verdict.ok, verdict.explain()


@pytest.mark.parametrize(("bug", "modes", "field", "words"), BUGS, ids=[bug for bug, *_ in BUGS])
def test_every_bug_is_found_under_its_name(bug: str, modes: str, field: str, words: str) -> None:
    verdicts = [live(little(modes, bug), seed) for seed in range(120)]
    caught = [verdict for verdict in verdicts if getattr(verdict, field)]
    assert len(caught) >= 3
    assert any(words in finding.why for verdict in caught for finding in getattr(verdict, field))


def test_the_explanation_names_the_value_the_writer_the_place_and_who_took_it() -> None:
    history = History()
    history.write("here", "x", "mine", at=1)
    history.write("there", "x", "yours", at=2)
    verdict = judge(history, {"here": {"x": file("yours")}, "there": {"x": file("yours")}})
    assert len(verdict.lost) == 2
    assert "mine written at x on here over nothing at 1" in verdict.explain()
    assert "yours stands, yours written at x on there over nothing at 2 by one who had not seen it" in verdict.explain()


def test_a_value_that_was_knowingly_replaced_need_not_stand() -> None:
    history = History()
    history.write("here", "x", "old")
    history.write("there", "x", "new", replaced="old")
    assert judge(history, {"here": {"x": file("new")}, "there": {"x": file("new")}}).ok


def test_the_order_in_which_two_users_deeds_were_recorded_does_not_matter() -> None:
    history = History()
    history.write("there", "x", "new", replaced="old")
    history.write("here", "x", "old")
    assert judge(history, {"here": {"x": file("new")}, "there": {"x": file("new")}}).ok


def test_the_same_value_written_at_two_places_must_stand_until_both_are_deleted() -> None:
    history = History()
    history.write("here", "x", "same")
    history.write("there", "y", "same")
    history.delete("here", "x", "same")
    assert judge(history, {"here": {}, "there": {}}).lost
    history.delete("there", "y", "same")
    assert judge(history, {"here": {}, "there": {}}).ok


def test_a_value_that_was_deleted_and_written_again_must_stand() -> None:
    history = History()
    history.write("here", "x", "v")
    history.delete("here", "x", "v")
    history.write("here", "x", "v")
    assert judge(history, {"here": {}}).lost


def test_a_deletion_may_be_undone_where_the_state_was_lost_and_only_there() -> None:
    history = History()
    history.write("here", "x", "v")
    history.rest()
    history.delete("here", "x", "v")
    trees = {"here": {"x": file("v")}, "there": {"x": file("v")}}
    assert judge(history, trees).resurrected
    history.forget()
    assert judge(history, trees).ok


def test_a_loss_after_a_lost_state_breaks_s6() -> None:
    history = History()
    history.write("here", "x", "v")
    history.forget()
    assert [finding.promise for finding in judge(history, {"here": {}}).lost] == ["S6"]


def test_a_rename_elsewhere_excuses_that_a_deleted_value_stands_but_not_before_the_last_rest() -> None:
    history = History()
    history.write("here", "x", "v")
    history.rename("here", "x", "y", "v")
    history.delete("there", "x", "v")
    trees = {"here": {"y": file("v")}, "there": {"y": file("v")}}
    assert judge(history, trees).ok
    settled = History()
    settled.write("here", "x", "v")
    settled.rename("here", "x", "y", "v")
    settled.rest()
    settled.delete("there", "y", "v")
    assert judge(settled, trees).resurrected


def test_an_empty_directory_that_was_removed_does_not_stand_again() -> None:
    history = History()
    history.mkdir("here", "d")
    history.rmdir("here", "d")
    assert judge(history, {"here": {"d": DIRECTORY}}).resurrected
    assert judge(history, {"here": {"d": DIRECTORY}}, directories=False).ok
    history.mkdir("there", "d")
    assert judge(history, {"here": {"d": DIRECTORY}}).ok


def test_a_directory_that_nobody_made_is_a_ghost() -> None:
    assert judge(History(), {"here": {"d": DIRECTORY}}).ghosts


def test_what_users_found_on_their_way_and_nobody_wrote_is_a_ghost() -> None:
    history = History()
    history.write("here", "x", "v", replaced="half")
    assert [finding.value for finding in judge(history, {"here": {"x": file("v")}}).ghosts] == ["half"]


def test_times_and_modes_that_differ_are_a_divergence() -> None:
    history = History()
    history.write("here", "x", "v")
    item = Item(Kind.FILE, "v", mtime=1)
    assert judge(history, {"here": {"x": item}, "there": {"x": item}}).ok
    assert judge(history, {"here": {"x": item}, "there": {"x": attrs.evolve(item, mtime=2)}}).diverged


def test_what_is_not_settled_is_only_asked_for_ghosts_and_modes() -> None:
    history = History()
    history.write("here", "x", "v")
    trees = {"here": {"x": file("v")}, "there": {}}
    assert judge(history, trees, settled=False).ok
    assert judge(history, {**trees, "there": {"x": file("?")}}, settled=False).ghosts


def test_what_stood_when_the_rules_hid_it_may_stay() -> None:
    history = History()
    history.write("here", "x", "v")
    trees = {"here": {"x": file("v")}, "there": {"x": file("v")}}
    hides = {"admits": lambda replica, path, value: replica != "there"}
    assert judge(history, trees, **hides).misplaced  # type: ignore[arg-type]
    assert judge(history, trees, stood=trees, **hides).ok  # type: ignore[arg-type]


def test_the_own_of_a_replica_that_is_no_source_stays_there_and_goes_nowhere() -> None:
    history = History()
    history.write("target", "x", "v")
    modes = {"target": "w"}
    assert judge(history, {"target": {"x": file("v")}, "other": {}}, modes=modes).ok
    assert judge(history, {"target": {}, "other": {}}, modes=modes).lost
    assert judge(history, {"target": {"x": file("v")}, "other": {"x": file("v")}}, modes=modes).misplaced


def test_whoever_deletes_a_value_under_its_new_name_knew_of_the_rename() -> None:
    history = History()
    history.write("here", "x", "v")
    history.rename("here", "x", "y", "v")
    history.delete("there", "y", "v")
    assert judge(history, {"here": {"y": file("v")}}).resurrected
