"""The base for remote services, over a cupboard that can compare and swap, only rename, or neither."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import BESIDE, Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Capabilities, Entry, Hint, HintKind, Identity, Refused
from onitu.plug.remote import Busy, Changed, Lost, Missing, Thing, calls, limbo
from onitu.plug.remote.content import Content
from onitu.plug.remote.limbo import UNSURE, by_content, by_token
from onitu.plug.remote.performing import touched, waits_for
from onitu.plug.remote.spool import Batch

from .cupboard import CUPBOARDS, Cupboard, CupboardDriver, CupboardRemote

FOLDER = "docs"
SWAPS, RENAMES, NEITHER = {"swaps": True}, {"swaps": False}, {"swaps": False, "renames": False}
OLD, NEW, MINE = b"what stood there", b"what is to stand there", b"what a user wrote meanwhile"


@attrs.define
class Stage:
    driver: CupboardDriver
    cupboard: Cupboard

    async def token(self, path: bytes) -> bytes:
        (entry,) = await self.driver.stat(FOLDER, [path])
        return entry.token if entry is not None else b""

    async def put(
        self, path: bytes, data: bytes = NEW, expect: bytes = b"", held: Version | None = None, keep: bytes = b""
    ) -> list[Event]:
        version = file_version(data)
        order = Order(1, Do.PUT, path, version, expect, held, keep=keep)
        async with self.driver.stage(FOLDER, version, path) as staged:
            await staged.write(data)
            await staged.finish()
            (events,) = await self.driver.perform(FOLDER, [order], {1: staged}, {})
        return events

    async def do(self, *orders: Order) -> list[list[Event]]:
        return await self.driver.perform(FOLDER, orders, {}, {})

    def data(self) -> dict[bytes, bytes]:
        """What a user sees."""
        return {p: d for p, d in self.cupboard.data.items() if not p.startswith(paths.PRIVATE)}

    def hidden(self) -> list[bytes]:
        """What is in Onitu's own directory, but the marker."""
        return [p for p in self.cupboard.data if p.startswith(paths.PRIVATE) and p != b".onitu/marker"]

    def meanwhile(self, call: str, path: bytes, data: bytes = MINE) -> None:
        """A user writes at the path, in the instant before the next such call at it."""

        def write(asked: str, where: bytes) -> None:
            if (asked, where) == (call, path):
                self.cupboard.fail = lambda call, path: None
                self.cupboard.write(path, data)

        self.cupboard.fail = write


@pytest.fixture(params=[SWAPS, RENAMES, NEITHER], ids=["swaps", "renames", "neither"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path, request.param) as stage:
        yield stage


@pytest.fixture
async def renaming(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path, RENAMES) as stage:
        yield stage


@pytest.fixture
async def swapping(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path, SWAPS) as stage:
        yield stage


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, options: dict[str, bool]) -> AsyncIterator[Stage]:
    CUPBOARDS["here"] = cupboard = Cupboard()
    driver = CupboardDriver("shelf", {"key": "k", **options}, {FOLDER: "here"})
    driver.workspace = str(tmp_path / "workspace")
    async with driver.open():
        assert await driver.identify(FOLDER) == Identity()
        await driver.mark(FOLDER, Identity("me", 1, 2))
        yield Stage(driver, cupboard)


def file_version(data: bytes) -> Version:
    return Version(Kind.FILE, len(data), {BLAKE3: blake3(data).digest()}, 1_600_000_000_000_000_000, 0o644)


def answer(events: Sequence[Event]) -> Event:
    (found,) = [event for event in events if event.order == 1]
    return found


@pytest.mark.parametrize("mtime", [-11_644_473_600 * 10**9, 32_503_680_000 * 10**9, 2**63 - 1])  # 1601, 3000, 2262
async def test_a_time_that_no_version_can_hold_is_told_as_the_nearest(stage: Stage, mtime: int) -> None:
    stage.cupboard.write(b"a", b"x", mtime)
    (listing,) = await stage.driver.scan(FOLDER, [paths.ROOT])
    (entry,) = listing.entries
    assert abs(entry.version.mtime) == 2**63 - 1
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=Entry) == entry
    assert (await stage.driver.fingerprint(FOLDER, [entry]))[0] is not None


# --- the marker -----------------------------------------------------------------------------------------------------


async def test_a_marker_that_was_written_is_read_again_and_never_listed(stage: Stage) -> None:
    assert await stage.driver.identify(FOLDER) == Identity("me", 1, 2)
    (listing,) = await stage.driver.scan(FOLDER, [paths.ROOT])
    assert listing.complete
    assert listing.entries == ()


async def test_a_root_that_lost_its_marker_concludes_nothing(stage: Stage) -> None:
    stage.cupboard.things.clear()
    stage.cupboard.data.clear()
    with pytest.raises(Unavailable, match="lost its marker"):
        await stage.driver.scan(FOLDER, [paths.ROOT])
    with pytest.raises(Unavailable, match="lost its marker"):
        await stage.driver.stat(FOLDER, [b"a"])


@pytest.mark.parametrize("size", [10, 500_000])
async def test_what_was_done_in_a_root_that_had_gone_is_not_told_as_done(stage: Stage, size: int) -> None:
    """A disk of the server's is not there for a while: what makes what is above a file makes the root, too."""
    await stage.put(b"first")

    def gone(call: str, path: bytes) -> None:
        if call in ("put", "rename"):
            stage.cupboard.fail = lambda call, path: None
            stage.cupboard.things.clear()
            stage.cupboard.data.clear()

    stage.cupboard.fail = gone
    events: list[Event] = []
    with contextlib.suppress(Unavailable):
        events = await stage.put(b"a", b"x" * size)
    assert Seen.DONE not in [event.seen for event in events]
    with pytest.raises(Unavailable, match="lost its marker"):
        await stage.driver.scan(FOLDER, [paths.ROOT])


@pytest.mark.parametrize("size", [10, 500_000])
async def test_what_is_on_its_way_in_may_be_taken_away_while_it_runs(stage: Stage, size: int) -> None:
    await stage.put(b"first")
    for path in stage.hidden():
        stage.cupboard.data.pop(path)
    for path in [path for path in stage.cupboard.things if path.startswith(paths.PRIVATE + b"/")]:
        if path != b".onitu/marker":
            stage.cupboard.things.pop(path)
    assert [event.seen for event in await stage.put(b"a", b"x" * size)] == [Seen.DONE]


async def test_nothing_is_made_in_a_root_that_had_gone(stage: Stage) -> None:
    stage.cupboard.things.clear()
    stage.cupboard.data.clear()
    for path in (b"a", b"d/e/a"):
        with contextlib.suppress(Unavailable):
            assert [event.seen for event in await stage.put(path, b"x")] == [Seen.FAILED]
    assert not [path for path in stage.cupboard.things if path.startswith((b"d", paths.PRIVATE))]


async def test_a_marker_that_is_written_while_it_is_read_is_not_gone(stage: Stage) -> None:
    marker = b".onitu/marker"
    stage.meanwhile("read", marker, b'{"marker": "me", "generation": 2, "pending": 3}')
    assert await stage.driver.identify(FOLDER) == Identity("me", 2, 3)

    def always(call: str, path: bytes) -> None:
        if (call, path) == ("read", marker):
            stage.cupboard.write(path, b"{}")

    stage.cupboard.fail = always
    with pytest.raises(Unavailable, match="another one at each look"):
        await stage.driver.identify(FOLDER)


async def test_a_marker_that_is_being_written_is_not_taken_for_another_one(stage: Stage) -> None:
    async def look() -> None:
        for _ in range(30):
            await stage.driver.stat(FOLDER, [b"nothing"])  # what is not there is only believed of a proven root

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        for generation in range(30):
            await stage.driver.mark(FOLDER, Identity("me", generation, 0))


# --- looking --------------------------------------------------------------------------------------------------------


async def test_a_scan_tells_what_stands_with_the_tokens_of_a_stat(stage: Stage) -> None:
    stage.cupboard.write(b"a/b/c.txt", OLD)
    stage.cupboard.write(b"d.txt", NEW)
    found: dict[bytes, Entry] = {}
    todo = [paths.ROOT]
    while todo:
        listings = await stage.driver.scan(FOLDER, todo)
        todo = [e.path for one in listings for e in one.entries if e.kind is Kind.DIRECTORY]
        found |= {e.path: e for one in listings for e in one.entries}
    assert set(found) == {b"a", b"a/b", b"a/b/c.txt", b"d.txt"}
    assert list(found.values()) == await stage.driver.stat(FOLDER, list(found))


async def test_a_service_that_lists_everything_at_once_is_asked_once(swapping: Stage) -> None:
    for number in range(50):
        swapping.cupboard.write(b"d%d/f" % number, OLD)
    swapping.cupboard.asked.clear()
    (listing,) = await swapping.driver.scan(FOLDER, [paths.ROOT])
    await swapping.driver.scan(FOLDER, [entry.path for entry in listing.entries])
    assert [call for call, path in swapping.cupboard.asked if not path.startswith(paths.PRIVATE)] == ["list_tree"]


async def test_many_paths_of_one_directory_are_looked_at_with_one_listing(renaming: Stage) -> None:
    for number in range(50):
        renaming.cupboard.write(b"d/%d" % number, OLD)
    renaming.cupboard.asked.clear()
    entries = await renaming.driver.stat(FOLDER, [b"d/%d" % number for number in range(50)])
    assert None not in entries
    assert renaming.cupboard.asked == [("list", b"d")]


async def test_a_file_that_changed_since_it_was_listed_has_no_fingerprint(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    (entry,) = await stage.driver.stat(FOLDER, [b"a"])
    assert entry is not None
    (read,) = await stage.driver.fingerprint(FOLDER, [entry])
    assert read is not None
    assert read.version.digests[BLAKE3] == blake3(OLD).digest()
    stage.cupboard.write(b"a", NEW)
    assert await stage.driver.fingerprint(FOLDER, [entry]) == [None]
    with pytest.raises(Refused, match="shelf: a changed"):
        await stage.driver.read(FOLDER, b"a", entry.token, 0, 5)


# --- PUT ------------------------------------------------------------------------------------------------------------


async def test_small_files_of_this_host_are_read_many_in_one_hop_to_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {number: b"%d" % number * 1000 for number in range(40)}
    for number, data in contents.items():
        (tmp_path / str(number)).write_bytes(data)
    (tmp_path / "7").write_bytes(b"something else")
    hops = 0
    run_sync = trio.to_thread.run_sync

    async def counted(act: Callable[..., object], *arguments: object) -> object:
        nonlocal hops
        hops += 1
        return await run_sync(act, *arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    batch = Batch(
        {
            number: (Version(Kind.FILE, len(data), {BLAKE3: blake3(data).digest()}), [(str(tmp_path), b"%d" % number)])
            for number, data in contents.items()
        }
    )
    for number, data in contents.items():
        if number == 7:
            with pytest.raises(Refused):
                await batch.take(number)
        else:
            assert await batch.take(number) == data
    assert hops == 3
    assert await batch.take(39) == contents[39]  # another try


async def test_a_new_file_stands_with_its_parents_which_are_told_beside(stage: Stage) -> None:
    *beside, done = await stage.put(b"a/b/new")
    assert stage.data() == {b"a/b/new": NEW}
    assert [(event.seen, event.path, event.order) for event in beside] == [
        (Seen.STANDS, b"a", BESIDE),
        (Seen.STANDS, b"a/b", BESIDE),
    ]
    assert (done.seen, done.order, done.token) == (Seen.DONE, 1, await stage.token(b"a/b/new"))
    assert stage.hidden() == []


async def test_parents_that_another_order_makes_at_the_same_time_are_taken_as_they_are(stage: Stage) -> None:
    waiting: list[bytes] = []

    def fail(call: str, path: bytes) -> None:
        if (call, path) == ("make_directory", b"a") and not waiting:
            waiting.append(path)
            stage.cupboard.things[b"a"] = Thing(Kind.DIRECTORY)

    stage.cupboard.fail = fail
    assert answer(await stage.put(b"a/new")).seen is Seen.DONE
    assert waiting
    assert stage.data() == {b"a/new": NEW}


async def test_a_parent_that_was_made_since_it_was_missed_is_no_reason_to_give_up(stage: Stage) -> None:
    asked: list[bytes] = []

    def fail(call: str, path: bytes) -> None:
        if (call, path) == ("stat", b"a") and not asked:
            asked.append(path)
            stage.cupboard.things[b"a"] = Thing(Kind.DIRECTORY)

    stage.cupboard.fail = fail
    assert answer(await stage.put(b"a/new")).seen is Seen.DONE
    assert asked
    assert stage.data() == {b"a/new": NEW}


async def test_a_listing_of_everything_that_turns_out_impossible_is_made_directory_by_directory(
    swapping: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapping.cupboard.write(b"a/b", OLD)
    tried = []

    async def cut() -> AsyncIterator[tuple[bytes, Thing]]:
        tried.append(True)
        raise Busy("one directory cannot be read", 0)
        yield

    monkeypatch.setattr(CupboardRemote, "list_tree", lambda self: None if tried else cut())
    top, inside = await swapping.driver.scan(FOLDER, [paths.ROOT, b"a"])
    assert tried
    assert [entry.path for entry in (*top.entries, *inside.entries)] == [b"a", b"a/b"]


async def test_a_refused_rename_into_place_names_the_path_that_was_ordered(renaming: Stage) -> None:
    def fail(call: str, path: bytes) -> None:
        if call == "rename" and path.startswith(b".onitu/tmp/"):
            raise Refused(Trouble.DENIED, "not yours")

    renaming.cupboard.fail = fail
    event = answer(await renaming.put(b"a"))
    assert (event.trouble, event.reason) == (Trouble.DENIED, "shelf: cannot write a: not yours")


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 300_000])
async def test_every_size_arrives_whole(stage: Stage, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert answer(await stage.put(b"a", data[:size])).seen is Seen.DONE
    assert stage.data() == {b"a": data[:size]}
    assert stage.hidden() == []


async def test_what_is_expected_is_replaced(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    events = await stage.put(b"a", expect=await stage.token(b"a"), held=file_version(OLD))
    assert [event.seen for event in events] == [Seen.DONE]
    assert events[0].token == await stage.token(b"a")
    assert stage.data() == {b"a": NEW}
    assert stage.hidden() == []


async def test_what_is_not_expected_is_told_and_nothing_is_changed(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    token = await stage.token(b"a")
    stage.cupboard.write(b"a", MINE)
    for expect in (token, b""):
        found = answer(await stage.put(b"a", expect=expect))
        assert (found.seen, found.token) == (Seen.STANDS, await stage.token(b"a"))
    assert answer(await stage.put(b"b", expect=token)).seen is Seen.GONE
    assert stage.data() == {b"a": MINE}


async def test_a_value_that_comes_in_the_last_moment_is_not_lost(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    token = await stage.token(b"a")
    call = {"swaps": "put", "renames": "rename", "neither": "stat"}[kind_of(stage)]
    stage.meanwhile(call, b"a")
    events = await stage.put(b"a", expect=token, held=file_version(OLD))
    assert MINE in stage.data().values()
    told = {event.path: event.version for event in events if event.seen is Seen.STANDS}
    (path,) = [path for path, data in stage.data().items() if data == MINE]
    assert path in told


async def test_what_is_to_be_kept_gets_its_name_before(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    events = await stage.put(b"a", expect=await stage.token(b"a"), held=file_version(OLD), keep=b"a (kept)")
    assert [(event.seen, event.path) for event in events] == [(Seen.DONE, b"a (kept)"), (Seen.DONE, b"a")]
    assert stage.data() == {b"a": NEW, b"a (kept)": OLD}
    assert [event.token for event in events] == [await stage.token(b"a (kept)"), await stage.token(b"a")]


async def test_a_file_above_the_path_is_told(renaming: Stage) -> None:
    renaming.cupboard.write(b"a", OLD)
    way, failed = await renaming.put(b"a/b")
    assert (way.seen, way.path, way.order) == (Seen.STANDS, b"a", 0)
    assert (failed.seen, failed.trouble) == (Seen.FAILED, Trouble.NAME_CLASH)


async def test_a_directory_takes_the_place_of_a_file_and_the_other_way_round(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    order = Order(1, Do.PUT, b"a", Version(Kind.DIRECTORY), await stage.token(b"a"), file_version(OLD))
    assert answer((await stage.do(order))[0]).seen is Seen.DONE
    assert stage.cupboard.things[b"a"].kind is Kind.DIRECTORY
    assert answer(await stage.put(b"a", expect=await stage.token(b"a"))).seen is Seen.DONE
    assert stage.data() == {b"a": NEW}


async def test_a_directory_that_stands_already_is_adopted(stage: Stage) -> None:
    stage.cupboard.write(b"a/b", OLD)
    ((event,),) = await stage.do(Order(1, Do.PUT, b"a", Version(Kind.DIRECTORY)))
    assert event.seen is Seen.DONE


async def test_a_link_is_refused_where_there_are_none(stage: Stage) -> None:
    ((event,),) = await stage.do(Order(1, Do.PUT, b"a", Version(Kind.LINK, link=b"b")))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.UNSUPPORTED)


# --- DELETE, MOVE, META, FINGERPRINT --------------------------------------------------------------------------------


def deletion(path: bytes, expect: bytes, data: bytes | None = OLD) -> Order:
    held = Version(Kind.DIRECTORY) if data is None else file_version(data)
    return Order(1, Do.DELETE, path, Version(Kind.NOTHING), expect, held)


async def test_what_is_expected_is_deleted(stage: Stage) -> None:
    stage.cupboard.write(b"a/b", OLD)
    ((event,),) = await stage.do(deletion(b"a/b", await stage.token(b"a/b")))
    assert (event.seen, event.order) == (Seen.DONE, 1)
    assert stage.data() == {}
    assert stage.hidden() == []


async def test_a_deletion_never_takes_a_value_that_nobody_had_seen(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    token = await stage.token(b"a")
    call = {"swaps": "delete", "renames": "rename", "neither": "stat"}[kind_of(stage)]
    stage.meanwhile(call, b"a")
    (events,) = await stage.do(deletion(b"a", token))
    assert answer(events).seen is Seen.STANDS
    assert stage.data() == {b"a": MINE}
    assert stage.hidden() == []


async def test_a_directory_that_is_not_empty_stays(stage: Stage) -> None:
    stage.cupboard.write(b"a/b", OLD)
    ((event,),) = await stage.do(deletion(b"a", await stage.token(b"a"), None))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.NOT_EMPTY)
    assert event.reason == "shelf: cannot remove a: there is something in it"


async def test_a_file_is_moved(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD, mtime=file_version(OLD).mtime)
    order = Order(1, Do.MOVE, b"a", file_version(OLD), await stage.token(b"a"), file_version(OLD), b"d/b")
    (events,) = await stage.do(order)
    done = answer(events)
    assert (done.seen, done.path, done.source) == (Seen.DONE, b"d/b", b"a")
    assert done.token == await stage.token(b"d/b")
    assert stage.data() == {b"d/b": OLD}


async def test_a_move_to_where_something_stands_changes_nothing(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    stage.cupboard.write(b"b", MINE)
    order = Order(1, Do.MOVE, b"a", file_version(OLD), await stage.token(b"a"), file_version(OLD), b"b")
    (events,) = await stage.do(order)
    assert [(event.seen, event.path, event.order) for event in events] == [
        (Seen.STANDS, b"b", 0),
        (Seen.STANDS, b"a", 1),
    ]
    assert stage.data() == {b"a": OLD, b"b": MINE}


async def test_a_time_is_given(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    order = Order(1, Do.META, b"a", file_version(OLD), await stage.token(b"a"), file_version(OLD))
    ((event,),) = await stage.do(order)
    assert (event.seen, event.token) == (Seen.DONE, await stage.token(b"a"))
    assert stage.cupboard.things[b"a"].mtime == file_version(OLD).mtime


async def test_a_fingerprint_is_ours(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    ((event,),) = await stage.do(Order(1, Do.FINGERPRINT, b"a", file_version(OLD), await stage.token(b"a")))
    assert event.seen is Seen.STANDS
    assert event.version.digests[BLAKE3] == blake3(OLD).digest()


async def test_orders_that_touch_each_other_keep_their_sequence(stage: Stage) -> None:
    stage.cupboard.write(b"a/b", OLD)
    orders = [
        deletion(b"a/b", await stage.token(b"a/b")),
        replace(deletion(b"a", await stage.token(b"a"), None), number=2),
        Order(3, Do.PUT, b"c", Version(Kind.DIRECTORY)),
        Order(4, Do.PUT, b"c/d", Version(Kind.DIRECTORY)),
    ]
    outcomes = await stage.do(*orders)
    assert [[(e.seen, e.order) for e in events] for events in outcomes] == [[(Seen.DONE, n)] for n in (1, 2, 3, 4)]


# --- what goes wrong ------------------------------------------------------------------------------------------------


async def test_a_busy_service_is_asked_again_as_it_wishes(stage: Stage, autojump_clock: trio.testing.MockClock) -> None:
    left = [Busy("too many requests", 7.0), Busy("connection reset")]

    def fail(call: str, path: bytes) -> None:
        if left and path == b"a":
            raise left.pop(0)

    stage.cupboard.fail = fail
    told: list[str] = []
    stage.driver.on_settled = lambda: told.append(stage.driver.waits(FOLDER))
    await stage.driver.identify(FOLDER)
    began = trio.current_time()
    assert answer(await stage.put(b"a")).seen is Seen.DONE
    assert trio.current_time() - began == 7.0 + 2 * calls.FIRST_PAUSE
    assert told[:2] == ["too many requests, again in 7 s", ""]


async def test_what_is_in_the_way_of_a_rename_is_above_its_target(stage: Stage) -> None:
    stage.cupboard.write(b"a", OLD)
    stage.cupboard.write(b"t", b"a file")
    order = Order(1, Do.MOVE, b"a", file_version(OLD), await stage.token(b"a"), file_version(OLD), b"t/x")
    (events,) = await stage.do(order)
    assert answer(events).reason == "shelf: a parent of t/x is no directory"
    assert stage.data() == {b"a": OLD, b"t": b"a file"}


async def test_one_path_that_fails_is_told_with_service_path_and_cause(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    def fail(call: str, path: bytes) -> None:
        if path == b"bad":
            raise Refused(Trouble.DENIED, "permission denied")
        if path == b"slow":
            raise TimeoutError("timed out")

    stage.cupboard.fail = fail
    orders = [Order(n, Do.PUT, p, Version(Kind.DIRECTORY)) for n, p in enumerate([b"bad", b"slow", b"good"], 1)]
    (bad,), (slow,), (good,) = await stage.do(*orders)
    assert bad.reason in ("shelf: cannot look at bad: permission denied", "shelf: cannot make bad: permission denied")
    assert (slow.trouble, slow.reason.partition(": ")[2].partition(": ")[2]) == (Trouble.IO, "timed out")
    assert good.seen is Seen.DONE


async def test_a_service_that_is_not_reached_is_unavailable_and_heals(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    def fail(call: str, path: bytes) -> None:
        raise Lost("connection refused")

    stage.cupboard.fail = fail
    with pytest.raises(Unavailable, match=r"shelf: cannot (list the root|read \.onitu/marker): connection refused"):
        await stage.driver.scan(FOLDER, [paths.ROOT])
    with pytest.raises(Unavailable, match="shelf: cannot use the root: connection refused"):
        await stage.driver.identify(FOLDER)
    stage.cupboard.fail = lambda call, path: None
    assert await stage.driver.identify(FOLDER) == Identity("me", 1, 2)


async def test_a_root_that_is_busy_for_a_moment_can_be_used_and_one_that_is_not_reached_is_told_at_once(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    left: list[Exception] = [Busy("the list broke off")]

    def fail(call: str, path: bytes) -> None:
        if call == "probe" and left:
            raise left.pop()

    stage.cupboard.fail = fail
    assert await stage.driver.identify(FOLDER) == Identity("me", 1, 2)
    began = trio.current_time()
    left.append(Lost("connection refused"))
    with pytest.raises(Unavailable, match="shelf: cannot use the root: connection refused"):
        await stage.driver.identify(FOLDER)
    assert trio.current_time() == began


async def test_a_call_that_stalls_is_given_up(stage: Stage, autojump_clock: trio.testing.MockClock) -> None:
    async def forever(path: bytes) -> Thing | None:
        await trio.sleep_forever()
        raise AssertionError

    root = stage.driver._root(FOLDER)
    root.replica.remote.stat = forever  # type: ignore[method-assign]
    (entry,) = await stage.driver.stat(FOLDER, [b"a"])
    assert entry is not None
    assert (entry.trouble, entry.reason) == (Trouble.IO, "shelf: cannot look at a: no answer for 60 s")


async def test_a_life_that_ended_while_something_was_aside_is_made_good(renaming: Stage) -> None:
    renaming.cupboard.write(b"a", OLD)
    limbo = renaming.driver._root(FOLDER).limbo
    thing = renaming.cupboard.things[b"a"]
    await limbo.take_aside(b"a", thing, delete=False, mark=by_token(thing))
    assert renaming.data() == {}
    await renaming.driver.identify(FOLDER)
    assert renaming.data() == {b"a": OLD}
    long = b"/".join([b"x" * 100] * 5)
    renaming.cupboard.write(long, MINE)
    expected = msgspec.structs.replace(renaming.cupboard.things[long], token=b"0")
    await limbo.take_aside(long, expected, delete=True, mark=by_token(expected))
    await renaming.driver.identify(FOLDER)
    assert renaming.data() == {b"a": OLD, long: MINE}
    assert renaming.hidden() == []


async def test_what_stepped_aside_under_a_token_that_proves_little_is_given_a_name_by_the_next_life(
    renaming: Stage,
) -> None:
    renaming.cupboard.write(b"a", OLD)
    limbo = renaming.driver._root(FOLDER).limbo
    await limbo.take_aside(b"a", renaming.cupboard.things[b"a"], delete=True, mark=UNSURE)
    renaming.cupboard.write(b"a", MINE)
    await renaming.driver.identify(FOLDER)
    assert sorted(renaming.data().values()) == sorted([OLD, MINE])


@pytest.mark.parametrize("expected", [True, False], ids=["expected", "not expected"])
async def test_what_stepped_aside_is_known_by_its_content_to_the_next_life(renaming: Stage, expected: bool) -> None:
    thing = renaming.cupboard.write(b"a", OLD)
    limbo = renaming.driver._root(FOLDER).limbo
    await limbo.take_aside(b"a", thing, delete=True, mark=by_content(blake3(OLD if expected else NEW).digest()))
    await renaming.driver.identify(FOLDER)
    assert renaming.data() == ({} if expected else {b"a": OLD})
    assert renaming.hidden() == []


async def test_what_stepped_aside_and_could_not_be_looked_at_is_not_dropped(renaming: Stage) -> None:
    """Meanwhile a user took its place, so that it cannot go back."""
    renaming.cupboard.write(b"a", OLD)
    token = await renaming.token(b"a")
    remote = renaming.driver._root(FOLDER).replica.remote
    real = remote.stat

    async def stat(path: bytes) -> Thing | None:
        if path.startswith(b".onitu/limbo/"):
            renaming.cupboard.write(b"a", MINE)
            raise Unavailable("nas: it is not reached")
        return await real(path)

    remote.stat = stat  # type: ignore[method-assign]
    answer = (await renaming.put(b"a", NEW, expect=token, held=file_version(OLD)))[-1]
    assert answer.seen is Seen.FAILED
    assert OLD in renaming.cupboard.data.values()


# --- what is heard of too late, or never ------------------------------------------------------------------------------

THEIRS = b"what a user wrote once it was away"


async def displace(stage: Stage, do: str, token: bytes) -> list[Event]:
    """Order what lets `OLD` step aside from `a`: a put, a deletion or a move."""
    if do == "put":
        return await stage.put(b"a", expect=token, held=file_version(OLD))
    order = deletion(b"a", token)
    if do == "move":
        order = Order(1, Do.MOVE, b"a", file_version(OLD), token, file_version(OLD), b"b")
    (events,) = await stage.do(order)
    return events


@pytest.mark.parametrize("do", ["put", "delete", "move"])
async def test_a_value_that_stepped_aside_without_an_answer_is_kept_from_what_came_to_its_path_since(
    renaming: Stage, autojump_clock: trio.testing.MockClock, do: str
) -> None:
    """The user writes just before the rename, and again before it is asked for once more."""
    renaming.cupboard.write(b"a", OLD)
    token = await renaming.token(b"a")
    renaming.meanwhile("rename", b"a")

    def lose(call: str, path: bytes) -> None:
        if path == b"a":
            renaming.cupboard.lose = lambda call, path: None
            renaming.cupboard.write(b"a", THEIRS)
            raise Busy("the connection was cut")

    renaming.cupboard.lose = lose
    events = await displace(renaming, do, token)
    assert renaming.cupboard.asked.count(("rename", b"a")) == 1
    assert answer(events).seen is Seen.STANDS
    data = renaming.data()
    assert data.pop(b"a") == THEIRS
    ((path, kept),) = data.items()
    assert kept == MINE
    assert path in {event.path for event in events if event.seen is Seen.STANDS}
    assert renaming.hidden() == []


@pytest.mark.parametrize("anew", [False, True], ids=["", "identified anew"])
@pytest.mark.parametrize("do", ["put", "delete"])
async def test_what_a_late_rename_takes_away_stands_again_with_the_next_poll(
    renaming: Stage, autojump_clock: trio.testing.MockClock, do: str, anew: bool
) -> None:
    """The first request reaches the service long after a second one was carried out."""
    renaming.cupboard.write(b"a", OLD)
    token = await renaming.token(b"a")
    remote = renaming.driver._root(FOLDER).replica.remote
    rename, late = remote.rename, list[bytes]()

    async def slow(path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        if path == b"a" and not late:
            late.append(target)
            raise Busy("the connection was cut")
        return await rename(path, target, expect)

    remote.rename = slow  # type: ignore[method-assign]
    if do == "put":
        events = await renaming.put(b"a", expect=token, held=file_version(OLD))
    else:
        (events,) = await renaming.do(deletion(b"a", token))
        renaming.cupboard.write(b"a", NEW)  # a user's
    assert answer(events).seen is Seen.DONE
    assert renaming.data() == {b"a": NEW}
    if anew:
        await renaming.driver.identify(FOLDER)
    await rename(b"a", *late, None)
    assert renaming.data() == {}
    (listing,) = await renaming.driver.scan(FOLDER, [paths.ROOT])
    assert [entry.path for entry in listing.entries] == [b"a"]
    assert renaming.data() == {b"a": NEW}
    assert renaming.hidden() == []


@pytest.mark.parametrize("do", ["put", "delete", "move"])
async def test_what_could_not_be_looked_at_aside_stands_again_with_the_next_poll(renaming: Stage, do: str) -> None:
    renaming.cupboard.write(b"a", OLD)
    token = await renaming.token(b"a")
    remote = renaming.driver._root(FOLDER).replica.remote
    stat, rename = remote.stat, remote.rename

    async def blind(path: bytes) -> Thing | None:
        if path.startswith(b".onitu/limbo/"):
            raise Refused(Trouble.IO, "it cannot be read")
        return await stat(path)

    async def surprised(path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        if path == b"a":
            renaming.cupboard.write(b"a", MINE)
            remote.stat = blind  # type: ignore[method-assign]
        elif path.startswith(b".onitu/limbo/"):
            raise Refused(Trouble.IO, "it cannot be written")
        return await rename(path, target, expect)

    remote.rename = surprised  # type: ignore[method-assign]
    events = await displace(renaming, do, token)
    assert answer(events).seen is Seen.FAILED
    assert renaming.data() == {}
    await renaming.driver.scan(FOLDER, [paths.ROOT])
    assert renaming.data() == {}  # it still cannot
    remote.stat, remote.rename = stat, rename  # type: ignore[method-assign]
    (listing,) = await renaming.driver.scan(FOLDER, [paths.ROOT])
    assert [entry.path for entry in listing.entries] == [b"a"]
    assert renaming.data() == {b"a": MINE}
    assert not any(path.startswith(b".onitu/limbo/") for path in renaming.hidden())
    renaming.cupboard.asked.clear()
    await renaming.driver.scan(FOLDER, [paths.ROOT])
    assert ("list", b".onitu/limbo") not in renaming.cupboard.asked  # nothing is left to look for


@pytest.mark.parametrize("longest", [143, 255])
async def test_no_name_in_the_limbo_is_longer_than_the_service_takes(
    renaming: Stage, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr(CupboardRemote, "longest_name", longest)
    longer: list[bytes] = []

    def look(call: str, path: bytes) -> None:
        if path.startswith(b".onitu/") and len(paths.name(path)) > longest:
            longer.append(path)

    renaming.cupboard.fail = look
    for length in range(40, 300, 3):
        path = b"/".join([b"directory"] * 30)[: length - 5].rstrip(b"/") + b"/file"
        renaming.cupboard.write(path, OLD)
        (events,) = await renaming.do(deletion(path, await renaming.token(path)))
        assert answer(events).seen is Seen.DONE
    assert not longer
    assert renaming.hidden() == []


async def test_nothing_is_left_of_a_long_path_that_is_gone_when_it_is_to_step_aside(renaming: Stage) -> None:
    long = b"/".join([b"x" * 100] * 5)
    renaming.cupboard.write(long, OLD)
    token = await renaming.token(long)

    def fail(call: str, path: bytes) -> None:
        if (call, path) == ("rename", long):
            del renaming.cupboard.things[path], renaming.cupboard.data[path]

    renaming.cupboard.fail = fail
    (events,) = await renaming.do(deletion(long, token))
    assert answer(events).seen is Seen.GONE
    assert renaming.hidden() == []
    renaming.cupboard.write(b".onitu/limbo/d.1.2..3.path", long, mtime=1)
    renaming.cupboard.write(b".onitu/limbo/d.1.2..4.path", long)
    await renaming.driver.identify(FOLDER)
    assert renaming.hidden() == [b".onitu/limbo/d.1.2..4.path"]  # what it tells of may come yet


async def test_a_limbo_that_cannot_be_listed_as_a_life_begins_is_settled_by_the_next_poll(renaming: Stage) -> None:
    renaming.cupboard.write(b"a", OLD)
    await renaming.driver._root(FOLDER).limbo.take_aside(b"a", renaming.cupboard.things[b"a"], False, UNSURE)

    def fail(call: str, path: bytes) -> None:
        if (call, path) == ("list", b".onitu/limbo"):
            raise Refused(Trouble.IO, "it cannot be read")

    renaming.cupboard.fail = fail
    await renaming.driver.identify(FOLDER)
    assert renaming.data() == {}
    renaming.cupboard.fail = lambda call, path: None
    await renaming.driver.scan(FOLDER, [paths.ROOT])
    assert renaming.data() == {b"a": OLD}


@pytest.mark.parametrize("do", ["put", "create", "delete"])
@pytest.mark.parametrize("done", [False, True], ids=["not carried out", "carried out"])
async def test_what_cannot_be_compared_is_looked_at_again_before_it_is_asked_for_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, do: str, done: bool
) -> None:
    async with opened(tmp_path, NEITHER) as stage:
        token = b""
        if do != "create":
            stage.cupboard.write(b"a", OLD)
            token = await stage.token(b"a")
        remote, name = stage.driver._root(FOLDER).replica.remote, "delete" if do == "delete" else "put"
        asked, act = list[bytes](), getattr(remote, name)

        async def unheard(path: bytes, *arguments: object) -> Thing | None:
            if path != b"a" or asked:
                return await act(path, *arguments)  # type: ignore[no-any-return]
            asked.append(path)
            if done:
                await act(path, *arguments)
            stage.cupboard.write(b"a", MINE)
            raise Busy("the connection was cut")

        setattr(remote, name, unheard)
        if do == "delete":
            (events,) = await stage.do(deletion(b"a", token))
        else:
            events = await stage.put(b"a", expect=token, held=file_version(OLD) if token else None)
        assert asked
        assert answer(events).seen is Seen.STANDS
        assert stage.data() == {b"a": MINE}


async def test_a_file_that_a_user_puts_over_what_came_just_now_is_not_taken_for_it(
    renaming: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    def lose(call: str, path: bytes) -> None:
        renaming.cupboard.lose = lambda call, path: None
        renaming.cupboard.write(b"a", MINE, mtime=7)

    renaming.cupboard.lose = lose
    found = answer(await renaming.put(b"a"))
    assert (found.seen, found.version.digests[BLAKE3]) == (Seen.STANDS, blake3(MINE).digest())


@pytest.mark.parametrize("told", ["its digest", "no digest"])
async def test_a_file_of_the_same_size_that_a_user_puts_over_what_came_just_now_is_not_taken_for_it(
    renaming: Stage, told: str
) -> None:
    mine = bytes(reversed(NEW))

    def write(asked: str, path: bytes) -> None:
        renaming.cupboard.lose = lambda call, path: None
        there = renaming.cupboard.write(b"a", mine)
        if told == "no digest":
            untold = msgspec.structs.replace(there, digests={}, mtime=file_version(NEW).mtime)
            renaming.cupboard.things[b"a"] = untold

    renaming.cupboard.lose = write
    found = answer(await renaming.put(b"a"))
    assert (found.seen, found.version.digests[BLAKE3]) == (Seen.STANDS, blake3(mine).digest())


async def test_a_file_that_a_user_puts_over_what_was_moved_just_now_is_not_taken_for_it(swapping: Stage) -> None:
    swapping.cupboard.write(b"a", OLD)

    def write(asked: str, path: bytes) -> None:
        swapping.cupboard.lose = lambda call, path: None
        swapping.cupboard.write(b"b", MINE)

    swapping.cupboard.lose = write
    order = Order(1, Do.MOVE, b"a", file_version(OLD), await swapping.token(b"a"), file_version(OLD), target=b"b")
    (events,) = await swapping.do(order)
    assert answer(events).seen is not Seen.DONE
    assert list(swapping.data().values()) == [MINE]


@pytest.mark.parametrize("expects", ["nothing", "a file", "a directory"])
async def test_nothing_steps_aside_for_a_name_that_the_service_does_not_take(
    renaming: Stage, monkeypatch: pytest.MonkeyPatch, expects: str
) -> None:
    def check_name(self: CupboardRemote, path: bytes) -> None:
        if b";" in path:
            raise Refused(Trouble.NAME_IMPOSSIBLE, "the server makes another name of it")

    if expects == "a file":
        renaming.cupboard.write(b"a;b", OLD)
    elif expects == "a directory":
        renaming.cupboard.things[b"a;b"] = Thing(Kind.DIRECTORY)
    token = await renaming.token(b"a;b")
    monkeypatch.setattr(CupboardRemote, "check_name", check_name)
    renaming.cupboard.asked.clear()
    found = answer(await renaming.put(b"a;b", NEW, token))
    assert (found.seen, found.trouble) == (Seen.FAILED, Trouble.NAME_IMPOSSIBLE)
    assert found.reason == "shelf: cannot write a;b: the server makes another name of it"
    assert renaming.data() == ({b"a;b": OLD} if expects == "a file" else {})
    assert not [call for call, path in renaming.cupboard.asked if call in ("rename", "delete", "remove_directory")]


async def test_what_came_back_without_an_answer_is_known_to_stand(
    renaming: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    renaming.cupboard.write(b"a", OLD)
    token = await renaming.token(b"a")
    renaming.meanwhile("rename", b"a")

    def lose(call: str, path: bytes) -> None:
        if path.startswith(b".onitu/limbo/"):
            renaming.cupboard.lose = lambda call, path: None
            raise Busy("the connection was cut")

    renaming.cupboard.lose = lose
    (events,) = await renaming.do(deletion(b"a", token))
    assert [(event.seen, event.path, event.order) for event in events] == [(Seen.STANDS, b"a", 1)]
    assert renaming.data() == {b"a": MINE}
    assert renaming.hidden() == []


# --- contents -------------------------------------------------------------------------------------------------------

BIG = bytes(range(256)) * 1200
HUGE = BIG * 7
"""More than one piece: it is hashed by another thread than the one that reads it."""


async def test_content_of_another_replica_is_sent_without_a_copy(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "big").write_bytes(BIG)
    version = file_version(BIG)
    async with stage.driver.stage(FOLDER, version, b"a") as staged:
        await staged.clone(str(tmp_path / "other"), b"big", b"whatever")
        await staged.finish()
        ((event,),) = await stage.driver.perform(FOLDER, [Order(1, Do.PUT, b"a", version)], {1: staged}, {})
    assert event.seen is Seen.DONE
    assert stage.data() == {b"a": BIG}
    assert list((tmp_path / "workspace").rglob("*.part")) == []


@pytest.mark.parametrize("whole", [BIG, HUGE], ids=["big", "huge"])
@pytest.mark.parametrize(
    "change", [lambda d: d[:-1] + b"x", lambda d: b"x" + d[1:], lambda d: d + b"x", lambda d: d[:-1]]
)
async def test_content_that_is_another_by_now_never_stands(
    stage: Stage, tmp_path: Path, whole: bytes, change: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "big").write_bytes(change(whole))
    version = file_version(whole)
    trouble = Trouble.NONE
    async with stage.driver.stage(FOLDER, version, b"a") as staged:
        try:
            await staged.clone(str(tmp_path), b"big", b"whatever")
            await staged.finish()
        except Refused as refused:
            trouble = refused.trouble
        else:
            ((event,),) = await stage.driver.perform(FOLDER, [Order(1, Do.PUT, b"a", version)], {1: staged}, {})
            trouble = event.trouble
    assert trouble is Trouble.SOURCE_LOST
    assert stage.data() == {}


async def test_a_content_of_several_pieces_arrives_whole(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(HUGE)
    async with stage.driver.stage(FOLDER, file_version(HUGE), b"a") as staged:
        await staged.clone(str(tmp_path), b"huge", b"whatever")
        await staged.finish()
        order = Order(1, Do.PUT, b"a", file_version(HUGE))
        ((event,),) = await stage.driver.perform(FOLDER, [order], {1: staged}, {})
    assert event.seen is Seen.DONE
    assert stage.data() == {b"a": HUGE}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("behind")]


async def test_a_small_file_is_put_straight_from_another_replica(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(NEW)
    orders = [Order(n, Do.PUT, b"%d" % n, file_version(NEW)) for n in (1, 2)]
    sources = {1: [(str(tmp_path), b"gone", b""), (str(tmp_path), b"small", b"")], 2: [(str(tmp_path), b"gone", b"")]}
    (done,), (failed,) = await stage.driver.perform(FOLDER, orders, {}, sources)
    assert done.seen is Seen.DONE
    assert (failed.seen, failed.trouble) == (Seen.FAILED, Trouble.SOURCE_LOST)
    assert stage.data() == {b"1": NEW}


async def test_content_goes_on_where_an_earlier_try_stopped(stage: Stage) -> None:
    version = file_version(BIG)
    async with stage.driver.stage(FOLDER, version, b"a") as staged:
        await staged.write(BIG[:1000])
    async with stage.driver.stage(FOLDER, version, b"a") as staged:
        assert staged.offset == 1000
        await staged.write(BIG[1000:])
        await staged.finish()


async def test_content_that_is_not_the_versions_is_dropped(stage: Stage) -> None:
    version = file_version(BIG)
    for _ in range(2):
        async with stage.driver.stage(FOLDER, version, b"a") as staged:
            assert staged.offset == 0
            await staged.write(BIG[:-1] + b"x")
            with pytest.raises(Refused, match="does not have the digest"):
                await staged.finish()


@pytest.mark.parametrize("error", [Changed, Missing])
@pytest.mark.parametrize("able", [RENAMES, SWAPS], ids=["renames", "swaps"])
async def test_what_does_not_stand_as_it_was_brought_ahead_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], error: type[Exception]
) -> None:
    """A server's answer that tells another size, say: that it is tried again later is all that comes of it."""

    async def fail(*_: object) -> None:
        raise error

    version = file_version(BIG)
    async with opened(tmp_path, able) as stage, stage.driver.stage(FOLDER, version, b"a") as staged:
        monkeypatch.setattr(CupboardRemote, "put", fail)
        monkeypatch.setattr(CupboardRemote, "prepare", fail)
        await staged.write(BIG)
        with pytest.raises(Refused, match="shelf: what was sent of a does not stand there as it was sent") as caught:
            await staged.finish()
        assert caught.value.trouble is Trouble.IO


@pytest.mark.parametrize("whole", [BIG, HUGE], ids=["big", "huge"])
async def test_the_last_byte_of_a_file_that_changed_is_not_handed_out(tmp_path: Path, whole: bytes) -> None:
    file = tmp_path / "big"
    file.write_bytes(whole)
    with file.open("rb") as opened, contextlib.closing(Content(file_version(whole), fd=opened.fileno())) as content:
        await content.read(0, 100_000)
        with file.open("r+b") as other:
            other.seek(5)
            other.write(b"now")
        with pytest.raises(Refused, match="changed while"):
            await content.read(100_000)
        with pytest.raises(Refused, match="changed while"):
            content.file().read()


# --- polling --------------------------------------------------------------------------------------------------------


async def test_the_pause_between_polls_grows_while_nothing_happens(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    send, receive = trio.open_memory_channel[Hint](10)
    times: list[float] = []
    await stage.driver.scan(FOLDER, [paths.ROOT])
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: watched(stage, send, task_status))
        for _ in range(9):
            assert (await receive.receive()).kind is HintKind.POLL
            times.append(trio.current_time())
            await stage.driver.scan(FOLDER, [paths.ROOT])
        stage.cupboard.write(b"a", NEW)
        for _ in range(2):
            await receive.receive()
            times.append(trio.current_time())
            await stage.driver.scan(FOLDER, [paths.ROOT])
        nursery.cancel_scope.cancel()
    pauses = [round(after - before, 2) for before, after in itertools.pairwise(times)]
    assert pauses == [11.25, 16.88, 25.31, 37.97, 56.95, 60, 60, 60, 60, 5]


async def watched(stage: Stage, send: trio.MemorySendChannel[Hint], task_status: trio.TaskStatus[None]) -> None:
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.driver.watch, FOLDER, send, ready)
        await ready.wait()
        task_status.started()


def kind_of(stage: Stage) -> str:
    able = stage.driver.capabilities(FOLDER)
    return "swaps" if able.compare_and_swap else "renames" if able.moves else "neither"


async def test_what_a_poll_cost_is_counted(swapping: Stage) -> None:
    swapping.cupboard.write(b"a/b", OLD)
    swapping.cupboard.asked.clear()
    await swapping.driver.scan(FOLDER, [paths.ROOT])
    assert swapping.driver.counters["poll_requests"] == len(swapping.cupboard.asked)
    assert swapping.driver.counters["scans"] == 1


PATHS = st.sampled_from([b"a", b"a/b", b"a/b/c", b"a/bc", b"b", b"ab", b"a/b/c/d"])


@given(st.lists(st.tuples(PATHS, st.one_of(st.just(b""), PATHS)), max_size=12))
def test_an_order_waits_for_all_before_it_that_touch_its_paths_or_above_or_below_and_for_no_other(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    nothing = Version(Kind.NOTHING)
    orders = [Order(n, Do.MOVE, path, nothing, target=target) for n, (path, target) in enumerate(pairs)]
    waiting = waits_for(orders)
    done: list[set[int]] = []  # what has ended by then
    for index, others in enumerate(waiting):
        near = {
            before
            for before in range(index)
            if any(a == b or paths.within(a, b) or paths.within(b, a)
                   for a in touched(orders[index]) for b in touched(orders[before]))
        }  # fmt: skip
        done.append(others.union(*(done[other] for other in others)))
        assert others <= near <= done[index]


@pytest.mark.parametrize("did", ["nothing", "it", "it, and a user wrote", "it, after that"])
async def test_what_was_to_step_aside_when_all_was_cancelled_stands_again(
    did: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the service did it already, and only its answer is missing, or not. It is never asked for it twice: many
    replace what stands at the new name, and that is what stepped aside (S1)."""
    rename, lost, go = CupboardRemote.rename, trio.Event(), trio.Event()
    late: list[Callable[[], Awaitable[object]]] = []
    if did != "it, after that":
        monkeypatch.setattr(limbo, "UNDO", 2.0)  # the answer never comes

    async def silent(self: CupboardRemote, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        if path != b"a":
            return await rename(self, path, target, expect)
        assert not lost.is_set()
        if did in ("it", "it, and a user wrote"):
            await rename(self, path, target, expect)
        if did == "it, and a user wrote":
            self.cupboard.write(b"a", MINE)
        lost.set()
        if did != "it, after that":
            return await trio.sleep_forever()
        try:
            await go.wait()
        except trio.Cancelled:
            late.append(lambda: rename(self, path, target, expect))
            raise
        return await rename(self, path, target, expect)

    monkeypatch.setattr(CupboardRemote, "rename", silent)
    async with opened(tmp_path, RENAMES) as stage, trio.open_nursery() as nursery:
        stage.cupboard.write(b"a", OLD)
        token = await stage.token(b"a")
        nursery.start_soon(stage.put, b"a", NEW, token, file_version(OLD))
        await lost.wait()
        nursery.cancel_scope.cancel()
        go.set()
    for act in late:
        await act()
    assert stage.data() == {b"a": MINE if did == "it, and a user wrote" else OLD}
    assert OLD in stage.cupboard.data.values(), "and if only where the next life finds it"


# --- tokens that tell little ----------------------------------------------------------------------------------------


@pytest.fixture
async def weak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A service that can only rename, and knows size and second of a file."""
    second = 1_000_000_000

    async def ask(self: CupboardRemote, call: str, path: bytes) -> Thing | None:
        thing = await asked(self, call, path)
        if thing is not None and thing.kind is Kind.FILE:
            token = b"%d %d" % (thing.size, thing.mtime // second)
            self.cupboard.things[path] = thing = msgspec.structs.replace(thing, token=token, digests={})
        return thing

    async def probe(self: CupboardRemote) -> Capabilities:
        return attrs.evolve(await probed(self), racy=second)

    async def listing(self: CupboardRemote, directory: bytes) -> Mapping[bytes, Thing]:
        names = await listed(self, directory)
        return {name: await ask(self, "look", paths.join(directory, name)) or thing for name, thing in names.items()}

    async def put(self: CupboardRemote, path: bytes, *more: Any) -> Thing:
        there = await puts(self, path, *more)
        return await ask(self, "look", path) or there

    asked, probed, listed, puts = CupboardRemote.ask, CupboardRemote.probe, CupboardRemote.list, CupboardRemote.put
    monkeypatch.setattr(CupboardRemote, "put", put)
    monkeypatch.setattr(CupboardRemote, "ask", ask)
    monkeypatch.setattr(CupboardRemote, "probe", probe)
    monkeypatch.setattr(CupboardRemote, "list", listing)
    async with opened(tmp_path, RENAMES) as stage:
        yield stage


async def test_what_is_put_just_now_is_told_with_the_digest_that_the_next_look_will_bring(weak: Stage) -> None:
    digests = {"md5": hashlib.md5(NEW, usedforsecurity=False).digest()}
    version = Version(Kind.FILE, len(NEW), digests, time.time_ns(), 0o644)
    async with weak.driver.stage(FOLDER, version, b"a") as staged:
        await staged.write(NEW)
        await staged.finish()
        ((event,),) = await weak.driver.perform(FOLDER, [Order(1, Do.PUT, b"a", version)], {1: staged}, {})
    assert event.seen is Seen.DONE
    assert event.version.digests == {**digests, "blake3": blake3(NEW).digest()}
    assert event.token != await weak.token(b"a")


async def test_what_was_written_just_now_is_not_believed_by_its_token(weak: Stage) -> None:
    now = time.time_ns()
    weak.cupboard.write(b"a", b"first", now)
    (entry,) = await weak.driver.stat(FOLDER, [b"a"])
    assert entry is not None
    (read,) = await weak.driver.fingerprint(FOLDER, [entry])
    assert read is not None
    weak.cupboard.write(b"a", b"other", now)
    assert await weak.token(b"a") != read.token
    (events,) = await weak.do(deletion(b"a", read.token, b"first"))
    assert answer(events).seen is Seen.STANDS
    found = answer(await weak.put(b"a", NEW, read.token, file_version(b"first")))
    assert found.version.digests[BLAKE3] == blake3(b"other").digest()
    assert weak.data() == {b"a": b"other"}


async def test_what_was_not_written_lately_keeps_its_token_when_it_is_read(weak: Stage) -> None:
    weak.cupboard.write(b"a", b"first", time.time_ns() - 3_600_000_000_000)
    (entry,) = await weak.driver.stat(FOLDER, [b"a"])
    assert entry is not None
    (read,) = await weak.driver.fingerprint(FOLDER, [entry])
    assert read is not None
    assert read.token == entry.token
    ((done,),) = await weak.do(deletion(b"a", read.token, b"first"))
    assert done.seen is Seen.DONE


async def test_what_was_put_with_the_time_of_now_is_read_again(weak: Stage) -> None:
    for age, believed in ((0, False), (3_600_000_000_000, True)):
        version = replace(file_version(NEW), mtime=time.time_ns() - age)
        path = b"%d" % age
        async with weak.driver.stage(FOLDER, version, path) as staged:
            await staged.write(NEW)
            await staged.finish()
            ((done,),) = await weak.driver.perform(FOLDER, [Order(1, Do.PUT, path, version)], {1: staged}, {})
        assert done.seen is Seen.DONE
        assert (done.token == await weak.token(path)) is believed


async def test_a_file_that_cannot_take_its_place_is_told_by_its_own_name(renaming: Stage) -> None:
    def fail(call: str, path: bytes) -> None:
        if call == "rename" and path.startswith(b".onitu/tmp/"):
            raise Refused(Trouble.DENIED, "permission denied")

    renaming.cupboard.fail = fail
    event = answer(await renaming.put(b"denied/a"))
    assert (event.trouble, event.reason) == (Trouble.DENIED, "shelf: cannot write denied/a: permission denied")
