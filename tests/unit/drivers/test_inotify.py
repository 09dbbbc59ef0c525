"""The watcher: everything that happens is hinted."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import inotify_simple
import pytest
import trio
import trio.testing

from onitu.drivers.local import inotify, syscalls
from onitu.drivers.local.inotify import Inotify
from onitu.model import paths
from onitu.plug.driver import Hint, HintKind

from .conftest import Local

AT_FDCWD = -100

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="inotify is Linux's")


class Watch:
    """The hints of a watched replica so far."""

    def __init__(self, receive: trio.MemoryReceiveChannel[Hint]) -> None:
        self.receive = receive
        self.hints: list[Hint] = []

    async def until(self, *wanted: bytes) -> list[Hint]:
        """Receive until all these paths were hinted, or lie in something that was hinted deeply."""
        missing = [path for path in wanted if not self.told(path)]
        with trio.fail_after(10):
            while missing:
                hint = await self.receive.receive()
                self.hints.append(hint)
                if hint.kind is HintKind.CHANGED:
                    missing = [path for path in missing if not _tells(hint, path)]
        return self.hints

    def told(self, path: bytes) -> bool:
        return any(hint.kind is HintKind.CHANGED and _tells(hint, path) for hint in self.hints)

    async def one(self, kind: HintKind) -> Hint:
        with trio.fail_after(10):
            while True:
                hint = await self.receive.receive()
                self.hints.append(hint)
                if hint.kind is kind:
                    return hint

    async def quiet(self, marker: Path) -> list[Hint]:
        """All hints up to one for a new file that is made now."""
        os.symlink("x", marker)
        with trio.fail_after(10):
            while True:
                hint = await self.receive.receive()
                if hint.path == os.fsencode(marker.name):
                    return self.hints
                self.hints.append(hint)


def exchange(one: Path, other: Path) -> None:
    syscalls.exchange(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))


def _tells(hint: Hint, path: bytes) -> bool:
    return hint.path == path or (hint.deep and paths.within(path, hint.path))


@pytest.fixture
async def watch(local: Local) -> AsyncIterator[Watch]:
    (local.root / "old").mkdir()
    (local.root / "old" / "deep").mkdir()
    send, receive = trio.open_memory_channel[Hint](100_000)
    async with trio.open_nursery() as nursery:
        ready = trio.Event()
        nursery.start_soon(local.driver.watch, "f", send, ready)
        with trio.fail_after(10):
            await ready.wait()
        yield Watch(receive)
        nursery.cancel_scope.cancel()


async def test_a_created_file_is_hinted_when_it_is_closed(local: Local, watch: Watch) -> None:
    (local.root / "a").write_bytes(b"1")
    assert [hint for hint in await watch.until(b"a") if hint.path == b"a"] == [Hint(HintKind.CHANGED, b"a")]


async def test_an_edit_a_new_mode_and_a_deletion_are_hinted(local: Local, watch: Watch) -> None:
    path = local.root / "old" / "deep" / "f"
    path.write_bytes(b"1")
    await watch.until(b"old/deep/f")
    for act in (lambda: path.write_bytes(b"2"), lambda: path.chmod(0o600), lambda: os.utime(path, (1, 1)), path.unlink):
        watch.hints.clear()
        act()
        await watch.until(b"old/deep/f")


async def test_a_file_that_is_held_open_is_hinted_while_it_grows(local: Local, watch: Watch) -> None:
    with (local.root / "log").open("ab", buffering=0) as file:
        file.write(b"line\n")
        await watch.until(b"log")
        watch.hints.clear()
        for _ in range(100):
            file.write(b"line\n")
        await watch.until(b"log")
        assert len(watch.hints) <= 2


async def test_a_renamed_file_is_hinted_as_moved(local: Local, watch: Watch) -> None:
    (local.root / "old" / "f").write_bytes(b"1")
    await watch.until(b"old/f")
    os.rename(local.root / "old" / "f", local.root / "g")
    assert await watch.one(HintKind.MOVED) == Hint(HintKind.MOVED, b"g", b"old/f")


async def test_a_renamed_directory_keeps_its_watches_under_its_new_path(local: Local, watch: Watch) -> None:
    os.rename(local.root / "old", local.root / "new")
    assert await watch.one(HintKind.MOVED) == Hint(HintKind.MOVED, b"new", b"old", directory=True)
    (local.root / "new" / "deep" / "f").write_bytes(b"1")
    await watch.until(b"new/deep/f")
    assert not watch.told(b"old/deep/f")


async def test_a_name_that_is_used_again_at_once_is_still_watched_right(local: Local, watch: Watch) -> None:
    for n in range(50):
        (local.root / "x").mkdir()
        os.rename(local.root / "x", local.root / f"y{n}")
    (local.root / "x").mkdir()
    await watch.quiet(local.root / "end")
    watch.hints.clear()
    for n in range(50):
        (local.root / f"y{n}" / "f").write_bytes(b"1")
    (local.root / "x" / "f").write_bytes(b"1")
    await watch.until(*[b"y%d/f" % n for n in range(50)], b"x/f")


async def test_a_directory_is_watched_whose_parent_was_renamed_before_anybody_could_look(
    local: Local, watch: Watch
) -> None:
    (local.root / "old" / "made").mkdir()
    os.rename(local.root / "old", local.root / "new")
    await watch.quiet(local.root / "end")
    watch.hints.clear()
    (local.root / "new" / "made" / "f").write_bytes(b"1")
    await watch.until(b"new/made/f")


async def test_directories_are_watched_that_were_made_in_two_whose_names_were_exchanged_at_once(
    local: Local, watch: Watch
) -> None:
    (local.root / "other").mkdir()
    await watch.quiet(local.root / "begin")
    (local.root / "old" / "made").mkdir()
    (local.root / "other" / "made").mkdir()
    os.rename(local.root / "old", local.root / "between")
    os.rename(local.root / "other", local.root / "old")
    os.rename(local.root / "between", local.root / "other")
    await watch.quiet(local.root / "end")
    watch.hints.clear()
    for name in ("old/made/f", "other/made/g", "other/deep/h"):
        (local.root / name).write_bytes(b"1")
    await watch.until(b"old/made/f", b"other/made/g", b"other/deep/h")


async def test_a_directory_that_comes_in_exchange_for_a_file_is_watched(
    local: Local, watch: Watch, tmp_path: Path
) -> None:
    (local.root / "file").write_bytes(b"1")
    (tmp_path / "comes" / "below").mkdir(parents=True)
    exchange(tmp_path / "comes", local.root / "file")
    await watch.until(b"file/below/anything")
    await watch.quiet(local.root / "end")
    watch.hints.clear()
    (local.root / "file" / "below" / "f").write_bytes(b"1")
    await watch.until(b"file/below/f")


async def test_directories_are_watched_that_were_exchanged_for_each_other(local: Local, watch: Watch) -> None:
    (local.root / "other" / "low").mkdir(parents=True)
    await watch.quiet(local.root / "begin")
    exchange(local.root / "other", local.root / "old")
    await watch.quiet(local.root / "end")
    watch.hints.clear()
    for name in ("old/low/f", "other/deep/g"):
        (local.root / name).write_bytes(b"1")
    await watch.until(b"old/low/f", b"other/deep/g")


async def test_what_moves_into_a_directory_that_came_from_within_it_leaves_its_old_name(
    local: Local, watch: Watch
) -> None:
    """By the time that the renames are read the watches are where the directories stand since."""
    (local.root / "other" / "low").mkdir(parents=True)
    await watch.quiet(local.root / "begin")
    os.rename(local.root / "other", local.root / "old" / "other")
    os.rename(local.root / "old" / "other" / "low", local.root / "other")
    os.rename(local.root / "old", local.root / "other" / "old")
    hints = await watch.quiet(local.root / "end")
    assert b"old" in [hint.source if hint.kind is HintKind.MOVED else hint.path for hint in hints]


@pytest.mark.parametrize("seed", range(40))
async def test_every_directory_is_watched_whatever_was_made_renamed_and_removed_at_once(
    local: Local, watch: Watch, seed: int
) -> None:
    chance = random.Random(seed)

    def directories() -> list[Path]:
        found = [Path(where) for where, _, _ in os.walk(local.root)]
        return [where for where in found if paths.PRIVATE.decode() not in where.parts]

    for turn in range(120):
        place, other = chance.choice(directories()), chance.choice(directories())
        match chance.randrange(8):
            case 0 | 1 | 2:
                (place / f"n{turn}" / "below").mkdir(parents=True)
            case 3 | 4 | 5 if place != local.root and place not in (other, *other.parents):
                with contextlib.suppress(OSError):  # the name is taken, by a directory in which something is
                    os.rename(place, other / chance.choice(("n1", "n2", f"n{turn}")))
            case 6 if place != local.root and chance.random() < 0.3:
                shutil.rmtree(place)
            case 7 if local.root not in (place, other):
                with contextlib.suppress(OSError):  # one is in the other
                    exchange(place, other)
        if chance.random() < 0.1:
            await trio.sleep(0.001)  # the watcher is in the middle of something when it goes on
    for number in range(3):  # what it has not seen yet is told at the latest with what comes then
        await watch.quiet(local.root / f"end {number}")
    watch.hints.clear()
    for place in directories():
        (place / "f").write_bytes(b"1")
    await watch.until(*[os.fsencode((place / "f").relative_to(local.root)) for place in directories()])
    assert not any(hint.deep for hint in watch.hints)


async def test_what_leaves_the_tree_is_hinted_and_not_watched_any_more(
    local: Local, watch: Watch, tmp_path: Path
) -> None:
    os.rename(local.root / "old", tmp_path / "elsewhere")
    await watch.until(b"old")
    (tmp_path / "elsewhere" / "deep" / "f").write_bytes(b"1")
    await watch.quiet(local.root / "end")
    assert not any(hint.path.endswith(b"/f") for hint in watch.hints)


async def test_a_directory_that_comes_from_elsewhere_is_hinted_deeply_and_watched(
    local: Local, watch: Watch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / "b").mkdir(parents=True)
    os.rename(tmp_path / "elsewhere", local.root / "a")
    await watch.until(b"a/b/anything")
    (local.root / "a" / "b" / "f").write_bytes(b"1")
    await watch.until(b"a/b/f")


async def test_no_file_in_new_nested_directories_is_missed(local: Local, watch: Watch) -> None:
    wanted = []
    for n in range(2000):
        directory = local.root / "t" / str(n % 40) / str(n % 7) / str(n)
        directory.mkdir(parents=True)
        (directory / "f").write_bytes(b"1")
        wanted.append(os.fsencode((directory / "f").relative_to(local.root)))
        if n % 100 == 0:
            await trio.lowlevel.checkpoint()
    hints = await watch.until(*wanted)
    assert all(hint.kind is HintKind.CHANGED for hint in hints)
    await watch.quiet(local.root / "end")
    watch.hints.clear()
    for path in wanted:
        (local.root / os.fsdecode(path)).unlink()
    await watch.until(*wanted)


async def test_a_directory_that_may_not_be_read_at_first_is_watched_once_it_may(
    local: Local, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, closed = inotify_simple.INotify.add_watch, [True]

    def add_watch(self: inotify_simple.INotify, path: str, mask: int) -> int:
        if closed and os.readlink(path).endswith("/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return int(add(self, path, mask))

    monkeypatch.setattr(inotify_simple.INotify, "add_watch", add_watch)
    (local.root / "closed" / "below").mkdir(parents=True)
    await watch.quiet(local.root / "end")
    watch.hints.clear()
    closed.clear()
    (local.root / "closed").chmod(0o700)
    await watch.until(b"closed/below/anything")
    watch.hints.clear()
    (local.root / "closed" / "below" / "f").write_bytes(b"1")
    await watch.until(b"closed/below/f")


async def test_too_many_events_give_an_overflow_and_nothing_is_unwatched_afterwards(local: Local, watch: Watch) -> None:
    for n in range(9000):  # more than 16,384 events, while the watcher has no chance to read
        (local.root / f"f{n}").write_bytes(b"1")
    (local.root / "unseen" / "below").mkdir(parents=True)
    await watch.one(HintKind.OVERFLOW)
    (local.root / "unseen" / "below" / "f").write_bytes(b"1")
    await watch.until(b"unseen/below/f")


async def test_onitus_own_directory_is_not_hinted(local: Local, watch: Watch) -> None:
    (local.root / ".onitu" / "tmp" / "x.part").write_bytes(b"1")
    await watch.quiet(local.root / "end")
    assert watch.hints == []


async def test_a_root_that_is_moved_away_is_lost(local: Local, watch: Watch) -> None:
    os.rename(local.root, local.root.with_name("moved"))
    await watch.one(HintKind.LOST)


async def test_a_root_that_is_removed_is_lost(local: Local, watch: Watch) -> None:
    shutil.rmtree(local.root)
    await watch.one(HintKind.LOST)


async def test_a_limit_of_watches_is_answered_with_regular_scans(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    (local.root / "unwatched").mkdir()
    local.driver.options = attrs.evolve(local.driver.options, poll=0.01)
    real = Inotify._add

    def limited(self: Inotify, path: bytes) -> int | None:
        if path == paths.ROOT:
            return real(self, path)
        self._full = True
        return None

    monkeypatch.setattr(Inotify, "_add", limited)
    send, receive = trio.open_memory_channel[Hint](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(local.driver.watch, "f", send, trio.Event())
        with trio.fail_after(10):
            assert (await receive.receive()).kind is HintKind.OVERFLOW
            assert (await receive.receive()).kind is HintKind.OVERFLOW
        nursery.cancel_scope.cancel()


async def test_what_happens_while_many_orders_are_carried_out_is_hinted_when_they_are_done(
    local: Local, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "_ACTING", 60.0)
    with local.driver._replica("f").acting(100):
        (local.root / "a").write_bytes(b"1")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert watch.receive.statistics().current_buffer_used == 0
    await watch.until(b"a")


async def test_what_happens_while_many_orders_are_carried_out_for_long_is_hinted_meanwhile(
    local: Local, watch: Watch
) -> None:
    with local.driver._replica("f").acting(100):
        (local.root / "a").write_bytes(b"1")
        await watch.until(b"a")


async def test_what_happens_while_few_orders_are_carried_out_is_hinted_at_once(
    local: Local, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename right after an order is seen apart from what the order did, and so as one."""
    monkeypatch.setattr(inotify, "_ACTING", 60.0)
    with local.driver._replica("f").acting(1):
        (local.root / "a").write_bytes(b"1")
        await watch.until(b"a")
