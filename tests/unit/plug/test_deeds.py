"""What orders did is told again by the next process, where the Referee may not have heard of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import msgspec
import pytest
import trio
from msgspec.structs import replace

from onitu.model.events import AGAIN, Event, Seen
from onitu.model.orders import Do, Order
from onitu.model.versions import NOTHING, Kind
from onitu.plug import deeds
from onitu.plug.deeds import Deed, Deeds
from onitu.plug.driver import Hint, Identity
from onitu.plug.sheet import FileSheet

from .kit import FOLDER, MemoryDriver, Stage, eventually, file_of, mkdir, put, stage

DONE = Event(Seen.DONE, b"f", file_of(b"new"), b"t", order=3)
ORDER = put(3, b"f", b"new", "p1")


def life(path: Path, before: tuple[int, ...], now: tuple[int, ...]) -> Deeds:
    """A process that begins."""
    found = Deeds(FileSheet(str(path)))
    found.carry(before, now)
    return found


def test_what_was_begun_and_not_ended_is_left(tmp_path: Path) -> None:
    first = life(tmp_path / "d", (1,), (1, 2))
    first.begin([ORDER])
    assert life(tmp_path / "d", (1, 2), (2, 3)).left() == [Deed(orders=(ORDER,))]


def test_what_came_of_it_is_left_until_it_is_committed(tmp_path: Path) -> None:
    first = life(tmp_path / "d", (1,), (1, 2))
    first.begin([ORDER])
    first.end([DONE], 7)
    first.committed(6)
    assert life(tmp_path / "d", (2,), (2, 3)).left() == [Deed(events=(DONE,))]
    first = life(tmp_path / "d", (2,), (2, 3))
    first.retold([DONE], 1)
    first.committed(1)
    assert life(tmp_path / "d", (2,), (2, 3)).left() == []


def test_what_was_left_stays_until_it_was_told_again(tmp_path: Path) -> None:
    life(tmp_path / "d", (1,), (1, 2)).begin([ORDER])
    for generation in range(1, 5):
        left = life(tmp_path / "d", (generation, generation + 1), (generation + 1, generation + 2)).left()
        assert left == [Deed(orders=(ORDER,))]


def test_deeds_of_another_time_are_none(tmp_path: Path) -> None:
    life(tmp_path / "d", (1,), (1, 2)).begin([ORDER])
    assert life(tmp_path / "d", (3, 4), (4, 5)).left() == []


def test_a_torn_end_takes_nothing_else_with_it(tmp_path: Path) -> None:
    first = life(tmp_path / "d", (1,), (1, 2))
    first.begin([ORDER])
    first.end([DONE], 1)
    first.begin([ORDER])
    whole = (tmp_path / "d").read_bytes()
    length = len(whole)
    for cut in range(1, 60):
        (tmp_path / "d").write_bytes(whole[: length - cut])
        assert life(tmp_path / "d", (1,), (1, 2)).left() == [Deed(events=(DONE,))]
        (tmp_path / "d").write_bytes(whole)


def test_the_file_does_not_grow_with_what_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deeds, "LARGE", 10_000)
    first = life(tmp_path / "d", (1,), (1, 2))
    for position in range(1, 1000):
        first.begin([ORDER])
        first.end([DONE], position)
        first.committed(position - 1)  # there is always something on its way
    assert (tmp_path / "d").stat().st_size < 20_000
    first.committed(999)
    assert (tmp_path / "d").stat().st_size < 100


def test_where_it_cannot_be_written_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = life(tmp_path / "file/d", (1,), (1, 2))
    found.begin([ORDER])
    found.end([DONE], 1)
    found.committed(1)
    assert found.left() == []


# With a whole plug


@asynccontextmanager
async def second_life(runtime: str, tmp_path: Path, *left: Deed) -> AsyncIterator[Stage]:
    """A plug whose earlier life left these deeds; its Referee knows an older `f`, and `gone`."""
    async with stage(runtime) as at:
        at = attrs.evolve(at, charter=msgspec.structs.replace(at.charter, settings=_with_state(at, tmp_path)))
        at.driver.marker = Identity("m", 4, 0)
        at.driver.write(b"f", b"old")
        at.driver.write(b"gone", b"gone")
        at.referee.rows = {path: at.driver.known(path) for path in (b"f", b"gone")}
        first = Deeds(FileSheet(_file(at.driver, tmp_path)))
        first.carry((4,), (4,))
        for deed in left:
            first.begin(deed.orders)
            if deed.events:
                first.end(deed.events, 1)
        yield at


def _with_state(at: Stage, tmp_path: Path):
    return attrs.evolve(at.charter.settings, state=str(tmp_path))


def _file(driver: MemoryDriver, tmp_path: Path) -> str:
    from onitu.model.settings import Settings
    from onitu.plug.replica import _file as file_of

    return file_of(Settings("t", {}, {}, state=str(tmp_path)), "deeds", "here", FOLDER)


async def _cut(path: str) -> None:
    """Wait until no deed is left in the file, but its header."""
    with trio.fail_after(5):
        while os.path.getsize(path) > 60:  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.001)


async def test_outcomes_are_told_before_what_was_done_to_them_since(runtime: str, tmp_path: Path) -> None:
    done = replace(DONE, token=b"99:99")
    async with second_life(runtime, tmp_path, Deed((ORDER,), (done,))) as at:
        at.driver.remove(b"f")  # a user deleted what the order had put there
        await at.started()
        told = [(e.seen, e.order) for e in at.referee.events if e.path == b"f"]
        assert told == [(Seen.DONE, AGAIN), (Seen.GONE, 0)]


async def test_what_was_done_to_them_since_is_looked_for_where_the_referee_knew_nothing(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = replace(DONE, token=b"99:99")
    async with second_life(runtime, tmp_path, Deed((ORDER,), (done,))) as at:
        at.referee.rows = {}  # its store was lost, or is of another time: the replica is like a new one
        at.driver.remove(b"f")
        watched = at.driver.watch

        async def watch(folder: str, hints: trio.MemorySendChannel[Hint], ready: trio.Event) -> None:
            await _cut(_file(at.driver, tmp_path))  # by then the Referee has committed what was told again
            await watched(folder, hints, ready)

        monkeypatch.setattr(at.driver, "watch", watch)
        await at.started()
        told = [(e.seen, e.order) for e in at.referee.events if e.path == b"f"]
        assert told == [(Seen.DONE, AGAIN), (Seen.GONE, 0)]


async def test_what_vanished_with_a_directory_that_the_referee_does_not_know_is_looked_for(
    runtime: str, tmp_path: Path
) -> None:
    done = replace(DONE, path=b"d/f", token=b"99:99")
    async with second_life(runtime, tmp_path, Deed((put(3, b"d/f", b"new", "p1"),), (done,))) as at:
        at.referee.rows = {}  # what it knew of `d` is lost with its store
        await at.started()
        told = [(e.seen, e.order) for e in at.referee.events if e.path == b"d/f"]
        assert told == [(Seen.DONE, AGAIN), (Seen.GONE, 0)]


async def test_orders_that_were_only_begun_are_told_where_their_effect_stands(runtime: str, tmp_path: Path) -> None:
    orders = (ORDER, Order(4, Do.DELETE, b"gone", NOTHING), put(5, b"never", b"never", "p1"), mkdir(6, b"d"))
    async with second_life(runtime, tmp_path, Deed(orders)) as at:
        at.driver.write(b"f", b"new")
        at.driver.remove(b"gone")
        await at.started()
        again = [(e.seen, e.path) for e in at.referee.events if e.order == AGAIN]
        assert again == [(Seen.DONE, b"f"), (Seen.DONE, b"gone")]
        (stands,) = [e for e in at.referee.events if e.seen is Seen.STANDS]
        assert (stands.path, stands.token) == (b"f", at.driver.entry(b"f").token)
        assert Seen.GONE not in [e.seen for e in at.referee.events]


async def test_deeds_are_bound_to_the_generations_that_the_marker_is_about_to_have(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a replica that is put back to an earlier one they say nothing: what its backup has not would look as if its
    user had deleted it (S6)."""
    monkeypatch.setattr("onitu.plug.replica.ADVANCE", 0.01)
    async with second_life(runtime, tmp_path) as at:
        mark, bound = at.driver.mark, []

        async def marked(folder: str, identity: Identity) -> None:
            bound.append((identity, deeds.bound_to(FileSheet(_file(at.driver, tmp_path)).read())))
            await mark(folder, identity)

        monkeypatch.setattr(at.driver, "mark", marked)
        await at.started()
        await at.referee.order(mkdir(1, b"d"))
        await at.referee.until(lambda: sum(batch.generation > 0 for batch in at.referee.batches))
        await eventually(lambda: len(bound) >= 4)
        for identity, generations in bound:
            assert generations == {identity.generation, identity.pending} - {0}


async def test_once_everything_is_committed_nothing_is_left(runtime: str, tmp_path: Path) -> None:
    async with second_life(runtime, tmp_path) as at:
        await at.started()
        await at.referee.order(mkdir(1, b"d"))
        await at.referee.until(lambda: at.referee.answer(1))
        await _cut(_file(at.driver, tmp_path))
        assert at.driver.things[b"d"].kind is Kind.DIRECTORY
