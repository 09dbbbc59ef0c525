"""Trials: the same users against any synchroniser, and a verdict on what is left of what they wrote.

A trial is one tool, one mode, one seed. The seed decides what each user does, and nothing else: the tool's processes
and the machine keep their own time, so a seed is a ticket in a lottery and not a replay.

- **once**: users edit all replicas while nothing runs; then the tool runs until all is at rest; and so on.
- **watch**: users edit while the tool runs.
- **race**: users overwrite the same few files on all replicas, as fast as they can, while the tool runs.
- **kill**: as watch, and all processes of the tool are killed at random moments and started again.

Every mode begins with a few files on the first replica that the tool copies to the others. In the end the tool comes to
rest: it says of itself that it is content, twice, and no replica changed in between. It gets `Trial.deadline` seconds
for that. As long as the replicas differ then, it gets `PATIENCE` seconds more to find out by itself.
"""

from __future__ import annotations

import enum
import fnmatch
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from .adapters import Adapter, Broken
from .editing import BUSILY, FILES, LARGEST, PACE, QUIETLY, RACED, RACING, Account, look_at
from .spec import Item, Tree, Value, Verdict, Write, judge
from .spec.trees import ancestors
from .users import Habit, User, at_work

DEEDS = 8
"""Things that each user does in a round."""

KILLS = 4
"""Times that the tool is killed, in the mode kill."""

NAMES = "ABCDEFGH"
"""Of the replicas."""

PATIENCE = 10.0
"""Seconds that a tool that is content gets while the replicas differ, and none of them changes."""


class Mode(enum.Enum):
    """What users and the tool do at the same time."""

    ONCE = "once"
    WATCH = "watch"
    RACE = "race"
    KILL = "kill"


@attrs.frozen
class Trial:
    """One trial.

    Attributes:
        tool: its adapter.
        mode: what is done.
        seed: what users do.
        replicas: on how many.
        rounds: how many times users edit and the tool then runs, in the mode once.
        seconds: how long users write, in the modes where the tool runs meanwhile.
        deadline: seconds that the tool gets to come to rest.
    """

    tool: type[Adapter]
    mode: Mode
    seed: int
    replicas: int = 2
    rounds: int = 6
    seconds: float = 10.0
    deadline: float = 60.0


@attrs.frozen
class Outcome:
    """What came of it.

    Attributes:
        trial: of what.
        written: how many values users wrote.
        verdict: what is wrong. Where it did not come to rest: what was so at the deadline.
        gone: the lost values that stand nowhere. (What stands on some replicas only is lost to the others, and counted
            as a path that diverged.)
        unsettled: whether it did not come to rest in time.
        litter: unfinished files of the tool that stand in the trees, as `REPLICA/PATH`.
        helped: how often the tool needed a hand, as its adapter tells.
        trouble: why the tool could not go on, if so.
    """

    trial: Trial
    written: int
    verdict: Verdict
    gone: tuple[Value, ...] = ()
    unsettled: bool = False
    litter: tuple[str, ...] = ()
    helped: int = 0
    trouble: str = ""

    @property
    def clean(self) -> bool:
        """Whether every promise was kept. Litter is untidy, and breaks none: the tools agree on not copying it."""
        return self.verdict.ok and not self.unsettled


def run(trial: Trial, base: Path) -> Outcome:
    """Carry out a trial below the existing, empty directory `base`, on a file system that can exchange two files.

    Everything is still there afterwards: the replicas, the tool's home with its log, and what users did, in
    `history.jsonl`. None of the tool's processes is.

    Raises:
        Missing: the tool is not installed.
    """
    return _Run.of(trial, base).through()


@attrs.define
class _Run:
    """A trial under way.

    Attributes:
        adapter: the tool, on `roots`.
        roots: the directories by name.
        users: one for each replica, of its name.
        account: what they did.
        unsettled: whether the tool failed to come to rest.
    """

    trial: Trial
    base: Path
    adapter: Adapter
    roots: Mapping[str, Path]
    users: Sequence[User]
    account: Account
    unsettled: bool = False

    @classmethod
    def of(cls, trial: Trial, base: Path) -> _Run:
        """Make the directories and the tool."""
        home = base / "home"
        roots = {name: base / name for name in NAMES[: trial.replicas]}
        for place in (home, *roots.values()):
            place.mkdir()
        users = [User.at(root, name, FILES, seed=trial.seed, largest=LARGEST) for name, root in roots.items()]
        return cls(trial, base, trial.tool(home), roots, users, Account(users))

    def through(self) -> Outcome:
        """All of it."""
        trouble = ""
        mode = {Mode.ONCE: self.once, Mode.WATCH: self.watch, Mode.RACE: self.race, Mode.KILL: self.kill}
        try:
            self.adapter.prepare(list(self.roots.values()))
            self.furnish()
            if self.comes_to_rest(self.adapter.sync):
                mode[self.trial.mode]()
        except Broken as error:
            trouble, self.unsettled = str(error), True
        finally:
            self.adapter.kill()
            (self.base / "history.jsonl").write_text(self.account.catch_up().to_json())
        return self.outcome(trouble)

    def outcome(self, trouble: str) -> Outcome:
        """What the trees say now."""
        history = self.account.catch_up()
        written = sum(1 for deed in history if isinstance(deed, Write))
        trees = self.trees()
        verdict = judge(history, trees)
        standing = {item.value for tree in trees.values() for item in tree.values()}
        gone = dict.fromkeys(found.value for found in verdict.lost if found.value and found.value not in standing)
        litter, helped = tuple(self.litter()), self.adapter.helped
        return Outcome(self.trial, written, verdict, tuple(gone), self.unsettled, litter, helped, trouble)

    # --- users

    def furnish(self) -> None:
        """Let the first user make all files."""
        hands = self.users[0].hands
        for path in FILES:
            for directory in ancestors(path):
                if not (hands.root / directory).exists():
                    hands.mkdir(directory)
            hands.create(path)

    def set_out(self, habits: Mapping[Habit, float], files: Sequence[str] = FILES, pace: float = 0.0) -> Sequence[User]:
        """The users with these habits. Where nothing was wrong so far, they know of all that was done."""
        if judge(self.account.catch_up(), self.trees()).ok:
            self.account.history.rest()
        for user in self.users:
            user.habits, user.files, user.pace = habits, files, pace
        return self.users

    # --- modes

    def once(self) -> None:
        """Quiet edits, then a run, and so on."""
        for _ in range(self.trial.rounds):
            for user in self.set_out(QUIETLY):
                for _ in range(DEEDS):
                    user.act()
            if not self.comes_to_rest(self.adapter.sync):
                return

    def begins(self) -> bool:
        """Start the tool and let it look at what stands there, so that users write while it works; whether it did."""
        self.adapter.start()
        return self.comes_to_rest(self.adapter.settled)

    def watch(self) -> None:
        """Edits while it runs."""
        users = self.set_out(BUSILY, pace=PACE)
        if not self.begins():
            return
        with at_work(users):
            time.sleep(self.trial.seconds)
        self.comes_to_rest(self.adapter.settled)

    def race(self) -> None:
        """Overwriting the same files while it runs."""
        users = self.set_out(RACING, RACED)
        if not self.begins():
            return
        with at_work(users):
            time.sleep(self.trial.seconds)
        self.comes_to_rest(self.adapter.settled)

    def kill(self) -> None:
        """Edits while it runs and dies, and runs and dies."""
        chance = random.Random(self.trial.seed)  # noqa: S311
        users = self.set_out(BUSILY, pace=PACE)
        if not self.begins():
            return
        with at_work(users):
            for _ in range(KILLS):
                time.sleep(chance.uniform(0, 2 * self.trial.seconds / KILLS))
                self.adapter.kill()
                self.adapter.start()
        self.comes_to_rest(self.adapter.settled)

    # --- rest

    def comes_to_rest(self, step: Callable[[float], bool]) -> bool:
        """Give the tool its time; whether it came to rest."""
        end = time.monotonic() + self.trial.deadline
        last: Mapping[str, Tree] | None = None
        since = time.monotonic()
        while (now := time.monotonic()) < end:
            content = step(end - now)
            trees = self.trees()
            if not content or trees != last:
                since = time.monotonic()
            elif self.equal(trees) or time.monotonic() - since > PATIENCE:
                return True
            last = trees if content else None
        self.unsettled = True
        return False

    @staticmethod
    def equal(trees: Mapping[str, Tree]) -> bool:
        """Whether all replicas are the same."""
        first, *others = trees.values()
        return all(tree == first for tree in others)

    def trees(self) -> dict[str, dict[str, Item]]:
        """What stands on the replicas, without what is the tool's own."""
        ignored = (*self.adapter.ignored, *self.adapter.temporary)
        return {name: look_at(root, ignored) for name, root in self.roots.items()}

    def litter(self) -> Iterator[str]:
        """Its unfinished files."""
        for name, root in self.roots.items():
            for directory, directories, files in os.walk(root):
                directories[:] = [each for each in directories if not _matches(each, self.adapter.ignored)]
                for file in files:
                    if _matches(file, self.adapter.temporary):
                        yield f"{name}/{(Path(directory) / file).relative_to(root)}"


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
