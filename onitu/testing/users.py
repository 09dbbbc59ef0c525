"""Black-box users of a local replica: they do as fast as asked what people's programs do, and keep account of it.

A user is one thread with `Hands` (which says what is known of each deed) on one replica, a list of files that it shares
with the users of other replicas, and *habits* by weight. Everything is chosen by a seeded random generator; when things
happen is up to the machine, so a seed gives the same deeds only where nothing else changes the tree.

    with at_work([User.at(root, "A", ["f0", "f1"], seed=1), User.at(other, "B", ["f0", "f1"], seed=2)]) as users:
        ...
    verdict = judge(history(users), {path.name: tree(path) for path in (root, other)})
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import attrs

from .hands import Deed, Hands
from .spec import History, Item, Tree
from .spec.trees import DIRECTORY, Kind
from .values import EMPTY, name_of

Habit = Callable[[Hands, str, random.Random], None]
"""Something that a user does to one path; may raise `OSError` where the tree is not what it believed."""

USUAL = frozenset(
    {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENOSPC}
)
"""Errors that a user lives with: the tree is not what it believed, or the disk is full. Others end it."""


def save(hands: Hands, path: str, chance: random.Random) -> None:
    """Write by exchange; where nothing stands, create."""
    try:
        hands.exchange(path)
    except FileNotFoundError:
        hands.create(path)


def delete(hands: Hands, path: str, chance: random.Random) -> None:
    hands.delete(path)


def recreate(hands: Hands, path: str, chance: random.Random) -> None:
    """Delete and create anew at once: a new file with the old name, which may get the old one's inode number."""
    hands.delete(path)
    hands.create(path)


def rewrite(hands: Hands, path: str, chance: random.Random) -> None:
    """Truncate and write, in one to three calls."""
    hands.rewrite(path, chance.randint(1, 3))


def overwrite(hands: Hands, path: str, chance: random.Random) -> None:
    hands.overwrite(path)


def append(hands: Hands, path: str, chance: random.Random) -> None:
    hands.append(path)


def hold(hands: Hands, path: str, chance: random.Random) -> None:
    """Open the file, write in place some times through the one descriptor, and mostly leave it open until later."""
    hands.hold(path)
    for _ in range(chance.randint(1, 4)):
        chance.choice((rewrite, overwrite, append))(hands, path, chance)
    if chance.random() < 0.3:
        hands.let_go(path)


def move_away(hands: Hands, path: str, chance: random.Random) -> None:
    """Rename the file to a name beside it, or one that was renamed so back."""
    try:
        hands.move(path, f"{path} moved")
    except (FileExistsError, FileNotFoundError):
        hands.move(f"{path} moved", path)


def make_directory(hands: Hands, path: str, chance: random.Random) -> None:
    """A directory beside the file, with a file in it; or that one emptied, renamed or removed."""
    directory = f"{path} dir"
    act = chance.randrange(4)
    if act == 0:
        hands.mkdir(directory)
    elif act == 1:
        save(hands, f"{directory}/in", chance)
    elif act == 2:
        hands.move(directory, f"{path} dir {chance.randrange(3)}")
    else:
        with contextlib.suppress(FileNotFoundError):
            hands.delete(f"{directory}/in")
        hands.rmdir(directory)


def as_vim(hands: Hands, path: str, chance: random.Random) -> None:
    """Vim with `backupcopy=no`: the old file becomes `NAME~`, a new one takes its name, the backup is deleted.

    Vim opens the new file with O_TRUNC; here it is made only where nothing stands, so that nothing is replaced unseen.
    """
    hands.move(path, f"{path}~")
    try:
        hands.create(path)
    finally:
        hands.delete(f"{path}~")


def as_emacs(hands: Hands, path: str, chance: random.Random) -> None:
    """Emacs: the first save renames the old file to `NAME~` and makes a new one; later ones write in place."""
    try:
        hands.move(path, f"{path}~")
    except FileExistsError:
        hands.rewrite(path)
    else:
        hands.create(path)


def as_libreoffice(hands: Hands, path: str, chance: random.Random) -> None:
    """LibreOffice: `.~lock.NAME#` while it is open, the new content in a file beside it, renamed over the old one.

    Only for files of the user's own (see `Hands.replace`).
    """
    directory, _, name = path.rpartition("/")
    lock = f"{directory}/.~lock.{name}#" if directory else f".~lock.{name}#"
    hands.create(lock)
    try:
        hands.replace(path)
    finally:
        hands.delete(lock)


def replace(hands: Hands, path: str, chance: random.Random) -> None:
    """Rename over. Only for files of the user's own."""
    hands.replace(path)


SAVING: Mapping[Habit, float] = {save: 1.0}
"""Writes by exchange only: what any synchroniser can be expected to stand."""

IN_PLACE: Mapping[Habit, float] = {rewrite: 1.0, overwrite: 1.0, append: 1.0, hold: 1.0}

EVERYTHING: Mapping[Habit, float] = {
    save: 8.0,
    delete: 1.0,
    recreate: 1.0,
    rewrite: 1.0,
    overwrite: 1.0,
    append: 1.0,
    hold: 0.5,
    move_away: 0.5,
    make_directory: 0.5,
    as_vim: 0.3,
    as_emacs: 0.3,
}

OWN: Mapping[Habit, float] = {replace: 3.0, as_libreoffice: 1.0}
"""For files that no other user writes."""


@attrs.define(eq=False)
class User:
    """Does one habit after the other, until told to stop or until it has done enough.

    Attributes:
        hands: what it does, and the account of it.
        files: the paths that it works at.
        habits: what it does to them, by weight.
        own: paths that no other user works at, treated as `OWN` says.
        own_share: how often it works at one of those.
        pace: seconds between two habits; 0: as fast as it can.
        limit: values to write before it ends; None: until stopped.
        usual: numbers of errors that it lives with.
        missed: how often such an error kept it from what it wanted, by number.
        error: what ended it otherwise.
    """

    hands: Hands
    random: random.Random
    files: Sequence[str]
    habits: Mapping[Habit, float] = attrs.field(factory=lambda: EVERYTHING)
    own: Sequence[str] = ()
    own_share: float = 0.1
    pace: float = 0.0
    limit: int | None = None
    usual: frozenset[int] = USUAL
    missed: dict[int, int] = attrs.field(factory=dict)
    error: BaseException | None = None
    _enough: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def at(
        cls,
        root: Path,
        name: str,
        files: Sequence[str],
        *,
        seed: int | str,
        scratch: Path | None = None,
        largest: int = 100_000,
        habits: Mapping[Habit, float] = EVERYTHING,
        own: Sequence[str] = (),
        pace: float = 0.0,
        limit: int | None = None,
        usual: frozenset[int] = USUAL,
    ) -> Self:
        """A user of the replica at `root`. Its scratch directory, if none is given: `.NAME-scratch` beside the root."""
        scratch = scratch or root.parent / f".{name}-scratch"
        scratch.mkdir(exist_ok=True)
        chance = random.Random(f"{seed} {name}")  # noqa: S311
        hands = Hands(name, root, scratch, chance, largest)
        return cls(hands, chance, files, habits, own, pace=pace, limit=limit, usual=usual)

    @property
    def deeds(self) -> list[Deed]:
        """What it has done."""
        return self.hands.deeds

    @property
    def written(self) -> int:
        """How many values it has begun to write."""
        return self.hands.values.made

    def act(self, path: str | None = None) -> None:
        """Do one thing, to one of its files (`path`) or to any. Raises `OSError` other than the usual ones."""
        habits = self.habits
        if path is None and self.own and self.random.random() < self.own_share:
            path, habits = self.random.choice(self.own), OWN
        path = path or self.random.choice(self.files)
        habit = self.random.choices(list(habits), list(habits.values()))[0]
        try:
            habit(self.hands, path, self.random)
        except OSError as error:
            if error.errno not in self.usual:
                raise
            self.missed[error.errno or 0] = self.missed.get(error.errno or 0, 0) + 1

    def run(self) -> None:
        """Act until it is enough; then let go of all files."""
        try:
            while self._goes_on():
                self.act()
                if self.pace:
                    self._enough.wait(self.pace)
        except BaseException as error:
            self.error = error
        finally:
            self.hands.close()

    def _goes_on(self) -> bool:
        return not self._enough.is_set() and (self.limit is None or self.written < self.limit)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._enough.clear()
        self._thread = threading.Thread(target=self.run, name=f"user {self.hands.user}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell it that it is enough."""
        self._enough.set()

    def join(self) -> None:
        """Wait until it has ended; raises what ended it, if that was not what it was asked to do."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.error is not None:
            raise self.error

    @property
    def busy(self) -> bool:
        """Whether it is still at work."""
        return self._thread is not None and self._thread.is_alive()


@contextlib.contextmanager
def at_work(users: Sequence[User]) -> Iterator[Sequence[User]]:
    """The users at work; at the block's end they are stopped and waited for. Raises what ended one of them early."""
    for user in users:
        user.start()
    try:
        yield users
    finally:
        for user in users:
            user.stop()
        for user in users:
            user.join()


def contents(root: Path, hidden: frozenset[str] = frozenset({".onitu"})) -> dict[str, bytes]:
    """The files below a root, path → content; directories of a tool's own (at the root, named in `hidden`) left out.

    Raises `FileNotFoundError` where something goes away meanwhile.
    """
    found: dict[str, bytes] = {}
    for directory, directories, files in os.walk(root, onerror=_raise):
        if Path(directory) == root:
            directories[:] = [name for name in directories if name not in hidden]
        for name in files:
            path = Path(directory) / name
            if not path.is_symlink():
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


def tree(root: Path, hidden: frozenset[str] = frozenset({".onitu"})) -> Tree:
    """What stands below a root, in the words of the specification; files by the names of their values."""
    found = {path: Item(Kind.FILE, _word(name_of(content))) for path, content in contents(root, hidden).items()}
    above = {str(parent) for path in found for parent in Path(path).parents if str(parent) != "."}
    return {**dict.fromkeys(above, DIRECTORY), **found}


def history(users: Sequence[User]) -> History:
    """What the users did, in the order of time and in the words of the specification; each user is named after its
    replica.

    A state that a write in place passed through becomes a write of its own, which the next one replaces.
    """
    told = History()
    for user, deed in sorted(((u, d) for u in users for d in u.deeds), key=lambda pair: pair[1].at):
        _tell(told, user.hands.root.name, deed)
    return told


def _tell(told: History, replica: str, deed: Deed) -> None:
    before = _word(deed.replaced[0]) if deed.replaced else None
    match deed.did:
        case "read":
            told.look(replica, deed.path, _word(deed.value or EMPTY), deed.at)
        case "move":
            value = _word(deed.value) if deed.value is not None else None
            told.rename(replica, deed.path, deed.target, value, at=deed.at)
        case "delete":
            told.delete(replica, deed.path, before or "", deed.at)
        case "mkdir":
            told.mkdir(replica, deed.path, deed.at)
        case "rmdir":
            told.rmdir(replica, deed.path, deed.at)
        case _:
            for state in (*deed.passing, *([deed.value] if deed.value is not None else [])):
                told.write(replica, deed.path, _word(state), before, deed.at)
                before = _word(state)


def _word(name: str) -> str:
    return name or "empty"


def _raise(error: OSError) -> None:
    raise error
