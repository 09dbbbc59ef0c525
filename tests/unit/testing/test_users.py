"""The users' account: what they say that they wrote and replaced is what stands, and what is gone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from onitu.testing import judge, users
from onitu.testing.hands import Hands
from onitu.testing.lurkers import Lurker
from onitu.testing.users import User, at_work, contents, history, tree
from onitu.testing.values import EMPTY, Values, is_whole, name_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def hands(root: Path, tmp_path: Path) -> Hands:
    (tmp_path / "scratch").mkdir()
    return Hands("A", root, tmp_path / "scratch", random.Random(1))


def wait_for(what: Callable[[], object], why: str) -> None:
    end = time.monotonic() + 30.0
    while not what():
        assert time.monotonic() < end, f"not in time: {why}"
        time.sleep(0.002)  # between two looks at a condition


def standing(root: Path) -> list[str]:
    return sorted(name_of(content) for content in contents(root).values())


def test_a_value_tells_who_wrote_it_and_whether_it_is_whole() -> None:
    values = Values("A", random.Random(1))
    one, two = values.frame(), values.frame()
    assert name_of(one) == "A.000001"
    assert name_of(one + two) == "A.000001+A.000002"
    assert name_of(b"") == EMPTY
    for torn in (one[:-1], one[1:], one + two[:20], one[:10] + b"\0" + one[11:], b"x"):
        assert not is_whole(name_of(torn))
    assert name_of(one[:-1]) != name_of(one[:-2])


def test_many_values_have_one_length_and_others_do_not() -> None:
    values = Values("A", random.Random(1))
    lengths = [len(values.frame()) for _ in range(200)]
    assert len(set(lengths)) > 20
    assert max(lengths.count(length) for length in set(lengths)) > 50


def test_an_exchange_knows_what_arrived_between_look_and_write(hands: Hands, root: Path) -> None:
    hands.create("f")
    other = Values("B", random.Random(2)).frame()
    (root / "f").write_bytes(other)
    hands.exchange("f")
    assert hands.deeds[-1].replaced == ("B.000001",)
    assert standing(root) == ["A.000002"]


def test_a_deletion_knows_what_it_deleted(hands: Hands, root: Path) -> None:
    hands.create("f")
    hands.delete("f")
    assert (hands.deeds[-1].value, hands.deeds[-1].replaced) == (None, ("A.000001",))
    assert standing(root) == []


def test_creating_replaces_nothing(hands: Hands, root: Path) -> None:
    hands.create("f")
    with pytest.raises(FileExistsError):
        hands.create("f")
    assert standing(root) == ["A.000001"]
    assert len(hands.deeds) == 1


def test_a_directory_is_given_back_and_not_written_over(hands: Hands, root: Path) -> None:
    hands.mkdir("f")
    (root / "f" / "in").write_bytes(b"")
    with pytest.raises(IsADirectoryError):
        hands.exchange("f")
    assert standing(root) == [EMPTY]
    assert [deed.did for deed in hands.deeds] == ["mkdir"]


def test_a_write_in_place_tells_the_states_in_between(hands: Hands, root: Path) -> None:
    hands.create("f")
    hands.rewrite("f", pieces=2)
    deed = hands.deeds[-1]
    assert (deed.value, deed.replaced) == ("A.000002", ("A.000001",))
    assert deed.passing[0] == EMPTY
    assert [is_whole(state) for state in deed.passing] == [True, False]
    assert standing(root) == ["A.000002"]


def test_an_append_makes_a_value_of_both(hands: Hands, root: Path) -> None:
    hands.create("f")
    hands.append("f")
    assert (hands.deeds[-1].value, hands.deeds[-1].passing) == ("A.000001+A.000002", ())
    assert standing(root) == ["A.000001+A.000002"]


def test_a_held_file_is_written_wherever_it_is_now(hands: Hands, root: Path) -> None:
    hands.create("f")
    hands.hold("f")
    (root / "f").rename(root / "elsewhere")
    hands.overwrite("f")
    assert (hands.deeds[-1].value, hands.deeds[-1].replaced) == ("A.000002", ("A.000001",))
    assert name_of((root / "elsewhere").read_bytes()) == "A.000002"
    hands.close()


def test_a_scratch_directory_on_another_file_system_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="file system"):
        Hands("A", root, Path("/proc"), random.Random(1))


@pytest.mark.parametrize("habits", [users.SAVING, users.IN_PLACE, users.EVERYTHING], ids=["save", "in place", "all"])
def test_a_user_alone_accounts_for_every_value(root: Path, habits: dict[users.Habit, float]) -> None:
    files = ["f0", "f1", "f2"]
    for file in files:
        (root / file).touch()
    user = User.at(root, "A", files, seed=1, habits=habits, own=["own"], limit=1000)
    with at_work([user]):
        user.join()
    written = [deed.value for deed in user.deeds if deed.value and deed.did != "move"]
    replaced = [value for deed in user.deeds for value in deed.replaced if value]
    assert len(set(written)) == len(written) >= 700
    assert sorted(set(written) - set(replaced)) == [value for value in standing(root) if value]
    assert set(replaced) <= set(written)


def test_one_seed_gives_the_same_deeds_where_nobody_else_is_at_work(tmp_path: Path) -> None:
    accounts = []
    for name in ("one", "two"):
        root = tmp_path / name / "root"
        root.mkdir(parents=True)
        user = User.at(root, "A", ["f0", "f1"], seed=7, limit=300)
        user.run()
        accounts.append([(deed.did, deed.path, deed.value, deed.replaced) for deed in user.deeds])
    assert accounts[0] == accounts[1]


def test_what_ends_a_user_early_is_told(root: Path) -> None:
    user = User.at(root, "A", ["f"], seed=1, usual=frozenset(), habits={users.delete: 1.0})
    with pytest.raises(FileNotFoundError), at_work([user]):
        user.join()


def test_the_account_is_a_history_that_the_specification_judges(root: Path) -> None:
    user = User.at(root, "A", ["f0", "f1"], seed=1, limit=300)
    user.run()
    told = history([user])
    assert judge(told, {"root": tree(root)}, directories=False).lost == ()
    (root / "own").write_bytes(b"[A.999999 invented")
    gone = next(iter(sorted(contents(root).keys() - {"own"})))
    (root / gone).unlink()
    verdict = judge(told, {"root": tree(root)}, directories=False)
    assert len(verdict.lost) == len(verdict.ghosts) == 1


def test_a_lurker_acts_on_what_arrives_at_once_and_on_what_a_sign_tells(root: Path, tmp_path: Path) -> None:
    signs = tmp_path / "signs"
    signs.mkdir()
    names = ["arrives", "told", "another"]
    lurker = Lurker.at(root, "B", names, seed=1, habits=users.SAVING)
    lurker.signs, lurker.patience = {signs: lambda name: name.removeprefix("about ")}, 60.0
    other = Hands("A", root, lurker.hands.scratch, random.Random(1))
    with at_work([lurker]):
        wait_for(lambda: lurker.lurks, why="it lurks")
        other.create("arrives")
        wait_for(lambda: lurker.met == 1, why="it met what arrived")
        (signs / "about told").touch()
        wait_for(lambda: lurker.met == 2, why="it met what the sign told")
        lurker.stop()
        other.create("another")
    assert [(deed.did, deed.path, deed.replaced) for deed in lurker.deeds[:2]] == [
        ("exchange", "arrives", ("A.000001",)),
        ("create", "told", ()),
    ]
