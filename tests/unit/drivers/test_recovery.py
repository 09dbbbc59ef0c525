"""A process that is killed between two system calls of an order loses no value, leaves nothing in sight (S1, S3)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from onitu.drivers.local import syscalls, tokens
from onitu.drivers.local.acting import Performer
from onitu.drivers.local.journal import Record
from onitu.drivers.local.replica import Replica
from onitu.model.events import Seen
from onitu.model.orders import Do, Order
from onitu.model.versions import NOTHING

from .conftest import MTIME, directory_version, file_version, write

_STEPS = (
    "open",
    "write",
    "pwrite",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "utime",
    "fchmod",
    "ftruncate",
    "close",
    "stat",
)

OLD, NEW, USER, LATE = b"old value", b"new value!", b"user's value", b"a late word"


@attrs.frozen
class Case:
    """An order, and what a user does just before its decisive rename."""

    order: Callable[[bytes], Order]
    meanwhile: Callable[[Path], None] | None = None
    survives: frozenset[bytes] = frozenset()
    """Values that must stand somewhere whenever the process died, if the user did nothing."""


def rename_over(root: Path) -> None:
    (root.parent / "saved").write_bytes(USER)
    os.rename(root.parent / "saved", root / "f")


def write_in_place(root: Path) -> None:
    with (root / "f").open("r+b") as file:
        file.write(USER)


def replace(token: bytes, **more: bytes) -> Order:
    return Order(1, Do.PUT, b"f", file_version(NEW), expect=token, held=file_version(OLD), **more)


def delete(token: bytes) -> Order:
    return Order(1, Do.DELETE, b"f", NOTHING, expect=token, held=file_version(OLD))


def directory(token: bytes) -> Order:
    return Order(1, Do.PUT, b"f", directory_version(), expect=token, held=file_version(OLD))


def move(token: bytes) -> Order:
    return Order(1, Do.MOVE, b"f", file_version(OLD, MTIME + 1), expect=token, target=b"a/g")


CASES = {
    "create": Case(lambda token: Order(1, Do.PUT, b"a/b", file_version(NEW)), survives=frozenset({OLD})),
    "replace": Case(replace),
    "replace, a user saves by rename": Case(replace, rename_over),
    "replace, a user saves in place": Case(replace, write_in_place),
    "replace and keep": Case(lambda token: replace(token, keep=b"k"), survives=frozenset({OLD})),
    "replace and keep, a user saves by rename": Case(lambda token: replace(token, keep=b"k"), rename_over),
    "directory over file": Case(directory),
    "directory over file, a user saves by rename": Case(directory, rename_over),
    "delete": Case(delete),
    "delete, a user saves by rename": Case(delete, rename_over),
    "delete, a user saves in place": Case(delete, write_in_place),
    "move": Case(move, survives=frozenset({OLD})),
    "move, a user saves by rename": Case(move, rename_over),
}


class Killer:
    """Lets the process die at the n-th step, and a user act just before the decisive rename."""

    def __init__(self, at: int, meanwhile: Callable[[], None] | None) -> None:
        self.left = at
        self.meanwhile = meanwhile
        self.real = {name: getattr(os, name) for name in _STEPS}
        self.renames = {name: getattr(syscalls, name) for name in ("rename_new", "exchange")}

    def arm(self) -> None:
        for name, real in self.real.items():
            setattr(os, name, self.step(real))
        for name, real in self.renames.items():
            setattr(syscalls, name, self.step(real, decisive=True))

    def disarm(self) -> None:
        for name, real in self.real.items():
            setattr(os, name, real)
        for name, real in self.renames.items():
            setattr(syscalls, name, real)

    def step(self, real: Callable, decisive: bool = False) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            if decisive and self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                self.disarm()
                meanwhile()
                self.arm()
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return real(*args, **kwargs)

        return call


def act(case: Case, root: Path) -> None:
    """Act in a process of the user's own, which is waited for unless the driver keeps it waiting itself (a lease)."""
    assert case.meanwhile is not None
    (root.parent / f"{root.name}-acts").touch()
    pid = os.fork()
    if pid == 0:
        try:
            os.closerange(3, 256)  # the driver's descriptors, and a lease with them, die with the driver
            case.meanwhile(root)
            (root.parent / f"{root.name}-acted").touch()
        finally:
            os._exit(0)
    end = time.monotonic() + 0.1
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < end:
        if _runs(pid):
            end = time.monotonic() + 0.1  # it has not begun to wait: where it has no processor, it shall not be late
        time.sleep(0.001)  # between two looks at it


def _runs(pid: int) -> bool:
    """Whether a process runs, or waits for a processor and nothing else."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"


def wait_for_user(root: Path) -> bool:
    """Wait until the user has done what it had begun; whether there was anything."""
    end = time.monotonic() + 60
    while (root.parent / f"{root.name}-acts").exists():
        if (root.parent / f"{root.name}-acted").exists():
            return True
        assert time.monotonic() < end, "the user waits for ever"
        time.sleep(0.001)  # between two looks at a condition
    return False


def child(root: Path, case: Case, order: Order, sources: dict, at: int) -> bool:
    """Carry out the order in a process that dies at step `at`; whether it lived to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            replica = Replica.open(str(root), "disk", 1024)
            killer = Killer(at, (lambda: act(case, root)) if case.meanwhile else None)
            killer.arm()
            Performer.of(replica, {}, sources).perform([order])
            replica.limbo.close()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def values(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".onitu" not in path.relative_to(root).parts
    }


@pytest.mark.parametrize("name", CASES)
def test_no_value_is_lost_whenever_the_process_dies(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    (tmp_path / "source").mkdir()
    source = write(tmp_path / "source/new", NEW)
    at, lived = 0, False
    while not lived:
        root = tmp_path / f"root{at}"
        root.mkdir()
        token = write(root / "f", OLD)
        os.utime(root / "f", ns=(MTIME, MTIME))
        token = tokens.token_of((root / "f").stat())
        order = case.order(token)
        lived = child(root, case, order, {1: [(str(tmp_path / "source"), b"new", source)]}, at)
        acted = wait_for_user(root)
        Replica.open(str(root), "disk", 1024).close()  # recovers
        found = set(values(root).values())
        assert acted or case.meanwhile is None or not lived
        assert found <= {OLD, NEW, USER}, at
        assert found >= ({USER} if acted else case.survives), at
        if order.version.carries_value:
            assert found & {OLD, NEW, USER}, at
        assert set(os.listdir(root / ".onitu/limbo")) == {"journal"}, at
        assert os.listdir(root / ".onitu/tmp") == [], at
        at += 1
    assert at > 5


def test_a_displaced_file_that_was_open_when_the_process_died_waits_for_its_writer(tmp_path: Path) -> None:
    write(tmp_path / "f", OLD)
    token = tokens.token_of((tmp_path / "f").stat())
    first = Replica.open(str(tmp_path), "disk", 1024)
    if not first.abilities.leases:
        pytest.skip("this file system does not tell whether a file is open for writing")
    with (tmp_path / "f").open("r+b", buffering=0) as writer:
        order = Order(1, Do.DELETE, b"f", NOTHING, expect=token, held=file_version(OLD))
        (events,) = Performer.of(first, {}, {}).perform([order])
        assert [event.seen for event in events] == [Seen.DONE]
        first.close()
        second = Replica.open(str(tmp_path), "disk", 1024)
        assert values(tmp_path) == {}
        writer.write(LATE)
    second.close()
    assert values(tmp_path) == {"f": LATE}


def test_what_stepped_aside_where_there_is_no_exchange_goes_back(tmp_path: Path) -> None:
    replica = Replica.open(str(tmp_path), "disk", 1024)
    record = replica.limbo.journal.begin(Record("", b"f", held=file_version(OLD), version=file_version(NEW)))
    replica.close()
    write(tmp_path / ".onitu/limbo" / record.slot, NEW)
    write(tmp_path / ".onitu/limbo" / (record.slot + ".old"), OLD)
    Replica.open(str(tmp_path), "disk", 1024).close()
    assert values(tmp_path) == {"f": OLD}


def test_what_stands_in_the_limbo_without_a_record_comes_back(tmp_path: Path) -> None:
    Replica.open(str(tmp_path), "disk", 1024).close()
    (tmp_path / ".onitu/limbo/1234-5").write_bytes(USER)
    Replica.open(str(tmp_path), "disk", 1024).close()
    assert values(tmp_path) == {"recovered": USER}


def test_a_torn_journal_line_is_no_obstacle(tmp_path: Path) -> None:
    Replica.open(str(tmp_path), "disk", 1024).close()
    (tmp_path / ".onitu/limbo/journal").write_bytes(b'{"slot": "12')
    (tmp_path / ".onitu/limbo/12").write_bytes(USER)
    Replica.open(str(tmp_path), "disk", 1024).close()
    assert list(values(tmp_path).values()) == [USER]


@pytest.mark.parametrize("becomes", ["nothing", "a link", "a file"])
def test_a_value_comes_back_where_its_directory_went(becomes: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if becomes == "a link":
        os.symlink(tmp_path, root / "d")
    elif becomes == "a file":
        write(root / "d", OLD)
    replica = Replica.open(str(root), "disk", 1024)
    record = replica.limbo.journal.begin(Record("", b"d/f", version=file_version(NEW)))
    slot = root / ".onitu/limbo" / record.slot
    slot.write_bytes(USER)
    path = replica.limbo.bring_back(record, slot.stat())
    replica.close()
    assert values(root)[os.fsdecode(path)] == USER
    assert path.startswith(b"d/f (conflict disk 2" if becomes == "nothing" else b"f (conflict disk 2")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
