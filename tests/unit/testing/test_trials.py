"""A trial and its verdict, with tools that live in the test's own process."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from onitu.testing import trials
from onitu.testing.adapters import Adapter, Broken
from onitu.testing.editing import FILES, Account, look_at, rename
from onitu.testing.hands import Hands
from onitu.testing.spec import Rename, Write
from onitu.testing.trials import KILLS, Mode, Outcome, Trial
from onitu.testing.users import User


class Fake(Adapter):
    """A tool that does nothing, and is content."""

    name = "fake"
    ignored = (".fake",)
    temporary = ("*.unfinished",)
    calls: ClassVar[list[str]] = []

    def version(self) -> str:
        return "1"

    def work(self) -> bool:
        return True

    def sync(self, deadline: float) -> bool:
        self.calls.append("sync")
        return self.work()

    def settled(self, deadline: float) -> bool:
        return self.work()

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def kill(self) -> None:
        self.calls.append("kill")


class Mirror(Fake):
    """A tool that makes the second replica what the first one is."""

    def work(self) -> bool:
        one, *others = self.roots
        for other in others:
            shutil.rmtree(other)
            shutil.copytree(one, other)
        return True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "PATIENCE", 0.0)
    monkeypatch.setattr(Fake, "calls", [])


@pytest.fixture
def of(tmp_path: Path) -> Callable[..., Outcome]:
    """Carry out a trial."""

    def carried_out(tool: type[Adapter], mode: Mode = Mode.ONCE, deadline: float = 20.0, replicas: int = 2) -> Outcome:
        return trials.run(Trial(tool, mode, 1, replicas, seconds=0.1, deadline=deadline), tmp_path)

    return carried_out


def test_what_the_first_replica_never_got_is_lost_where_the_second_one_is_overwritten(
    of: Callable[..., Outcome],
) -> None:
    outcome = of(Mirror)
    assert outcome.gone
    assert all(value.startswith("B.") for value in outcome.gone)
    assert not outcome.verdict.diverged
    assert not outcome.unsettled
    assert not outcome.clean


def test_a_tool_that_is_content_with_different_replicas_diverges_and_is_not_unsettled(
    of: Callable[..., Outcome],
) -> None:
    outcome = of(Fake)
    assert {"f1", "f2"} <= {found.path for found in outcome.verdict.diverged}
    assert not outcome.gone, "what stands on one replica is not lost, but diverged"
    assert not outcome.unsettled
    assert not outcome.clean


def test_a_tool_that_is_never_content_is_unsettled(of: Callable[..., Outcome]) -> None:
    class Restless(Mirror):
        def work(self) -> bool:
            super().work()
            return False

    outcome = of(Restless, deadline=0.2)
    assert outcome.unsettled
    assert not outcome.clean
    assert outcome.verdict.ok, "no user had touched the second replica yet"


def test_a_tool_that_moves_things_while_all_is_quiet_is_unsettled(of: Callable[..., Outcome]) -> None:
    class Mover(Mirror):
        def work(self) -> bool:
            (self.roots[0] / f"d{time.monotonic_ns()}").mkdir()
            return super().work()

    assert of(Mover, deadline=0.2).unsettled


def test_a_tool_that_needs_a_person_is_unsettled_and_says_why(of: Callable[..., Outcome]) -> None:
    class Helpless(Mirror):
        def work(self) -> bool:
            raise Broken("please do something")

    outcome = of(Helpless)
    assert (outcome.unsettled, outcome.trouble, outcome.clean) == (True, "please do something", False)


def test_what_nobody_wrote_is_a_ghost(of: Callable[..., Outcome]) -> None:
    class Inventor(Mirror):
        def work(self) -> bool:
            (self.roots[0] / "invented").write_text("by nobody")
            return super().work()

    assert [found.path for found in of(Inventor).verdict.ghosts] == ["invented", "invented"]


def test_its_own_names_do_not_count_and_its_unfinished_files_are_litter(of: Callable[..., Outcome]) -> None:
    class Untidy(Mirror):
        def work(self) -> bool:
            (self.roots[0] / ".fake").mkdir(exist_ok=True)
            (self.roots[0] / ".fake" / "x.unfinished").write_text("its own affair")
            done = super().work()
            (self.roots[1] / "f.unfinished").write_text("by nobody")
            return done

    outcome = of(Untidy)
    assert outcome.litter == ("B/f.unfinished",)
    assert not outcome.verdict.ghosts
    assert not outcome.verdict.diverged


def test_it_is_killed_and_started_again(of: Callable[..., Outcome]) -> None:
    of(Mirror, Mode.KILL)
    assert Fake.calls == ["sync", "sync", "start", *["kill", "start"] * KILLS, "kill"]


@pytest.mark.parametrize("mode", [Mode.WATCH, Mode.RACE])
def test_users_write_on_every_replica_while_it_runs(of: Callable[..., Outcome], tmp_path: Path, mode: Mode) -> None:
    outcome = of(Fake, mode, replicas=3)
    assert outcome.written > len(FILES)
    written = (tmp_path / "history.jsonl").read_text()
    assert all(f'"value": "{name}.' in written for name in "ABC")


def test_a_renamed_directory_is_told_with_all_that_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "A"
    root.mkdir()
    user = User.at(root, "A", FILES, seed=1)
    user.hands.mkdir("d")
    user.hands.create("d/f0")
    account = Account([user])

    class Chosen(random.Random):
        """Takes `g/f0` for the target, and the directory."""

        def choice(self, _seq: object) -> str:  # type: ignore[override]
            return "g/f0"

        def random(self) -> float:
            return 0.0

    rename(user.hands, "d/f0", Chosen())
    told = account.catch_up()
    (value,) = [deed.value for deed in told if isinstance(deed, Write)]
    moves = [(deed.source, deed.target, deed.value) for deed in told if isinstance(deed, Rename)]
    assert moves == [("d", "g", None), ("d/f0", "g/f0", value)]
    assert look_at(root, ())["g/f0"].value == value
    assert len(account.catch_up()) == len(told), "nothing is told twice"


def test_a_renamed_file_is_told_with_its_value(tmp_path: Path) -> None:
    root = tmp_path / "A"
    root.mkdir()
    user = User.at(root, "A", FILES, seed=1)
    user.hands.create("f0")
    assert isinstance(user.hands, Hands)

    class Chosen(random.Random):
        """Takes `f1` for the target, and the file."""

        def choice(self, _seq: object) -> str:  # type: ignore[override]
            return "f1"

        def random(self) -> float:
            return 1.0

    rename(user.hands, "f0", Chosen())
    told = Account([user]).catch_up()
    assert [(deed.source, deed.target, deed.value) for deed in told if isinstance(deed, Rename)] == [
        ("f0", "f1", "A.000001")
    ]
