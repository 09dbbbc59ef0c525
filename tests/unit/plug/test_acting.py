"""What a plug does with orders, and how it brings contents."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace

from onitu.model.events import Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import NOTHING
from onitu.wire.messages import MAX_CHUNK, Chunk, Command, Fetch
from onitu.wire.sockets import Kind, Socket

from .kit import FOLDER, Stage, file_of, mkdir, put, stage

LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB, in several chunks


async def answered(at: Stage, *numbers: int) -> None:
    await at.referee.until(lambda: all(at.referee.answer(number) for number in numbers))


async def test_orders_are_carried_out_in_sequence_and_answered_exactly_once(runtime: str) -> None:
    async with stage(runtime) as at:
        at.peer("p1", b"content")
        at.driver.write(b"old", b"1")
        await at.started()
        old = at.driver.entry(b"old")
        assert old is not None
        await at.referee.order(
            mkdir(1, b"d"),
            put(2, b"d/f", b"content", "p1"),
            Order(3, Do.DELETE, b"old", NOTHING, old.token),
            put(4, b"none", b"content", "p1", expect=b"something"),
        )
        await answered(at, 1, 2, 3, 4)
        assert [[e.seen for e in at.referee.answer(n)] for n in (1, 2, 3, 4)] == [
            [Seen.DONE], [Seen.DONE], [Seen.DONE], [Seen.GONE],
        ]  # fmt: skip
        assert at.driver.things[b"d/f"].data == b"content"
        assert b"old" not in at.driver.things


async def test_two_orders_on_one_path_keep_their_sequence_whatever_they_need(runtime: str) -> None:
    async with stage(runtime) as at:
        at.peer("p1", LARGE)
        at.driver.write(b"a", b"1")
        await at.started()
        entry = at.driver.entry(b"a")
        assert entry is not None
        await at.referee.order(
            put(1, b"a", LARGE, "p1", expect=entry.token),
            Order(2, Do.DELETE, b"a", NOTHING, entry.token),
        )
        await answered(at, 1, 2)
        assert [order.number for order in at.driver.performed] == [1, 2]
        assert at.referee.answer(2)[0].seen is Seen.STANDS


async def test_an_order_out_of_the_root_is_refused_and_nothing_touched(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        await at.referee.order(mkdir(1, b"../out"), mkdir(2, b"/etc"), mkdir(3, b".onitu/x"))
        await answered(at, 1, 2, 3)
        assert {at.referee.answer(n)[0].seen for n in (1, 2, 3)} == {Seen.FAILED}
        assert not at.driver.performed


async def test_a_second_source_takes_over_where_the_first_lost_the_version(runtime: str) -> None:
    async with stage(runtime) as at:
        first, second = at.peer("p1", LARGE), at.peer("p2", LARGE)
        first.change = lambda chunk: Chunk(
            chunk.request, chunk.offset, b"", trouble=Trouble.SOURCE_LOST, reason="changed"
        )
        await at.started()
        await at.referee.order(put(1, b"a", LARGE, "p1", "p2"))
        await answered(at, 1)
        assert at.referee.answer(1)[0].seen is Seen.DONE
        assert first.fetched
        assert second.fetched
        assert at.driver.things[b"a"].data == LARGE


async def test_without_any_source_left_the_order_fails_as_such(runtime: str) -> None:
    async with stage(runtime) as at:
        at.peer("p1", LARGE).change = lambda chunk: Chunk(
            chunk.request, chunk.offset, b"", trouble=Trouble.SOURCE_LOST, reason="changed"
        )
        await at.started()
        await at.referee.order(put(1, b"a", LARGE, "p1"), put(2, b"b", LARGE))
        await answered(at, 1, 2)
        assert [at.referee.answer(n)[0].trouble for n in (1, 2)] == [Trouble.SOURCE_LOST] * 2
        assert not at.driver.performed


async def test_a_corrupted_chunk_is_not_written(runtime: str) -> None:
    async with stage(runtime) as at:
        first, second = at.peer("p1", LARGE), at.peer("p2", LARGE)

        def corrupt(chunk: Chunk) -> Chunk:
            return Chunk(chunk.request, chunk.offset, b"?" + chunk.data[1:], chunk.digest)

        first.change = corrupt
        await at.started()
        await at.referee.order(put(1, b"a", LARGE, "p1", "p2"), put(2, b"b", LARGE[:-1], "p1"))
        await answered(at, 1, 2)
        assert at.driver.things[b"a"].data == LARGE
        assert (at.referee.answer(2)[0].seen, at.referee.answer(2)[0].trouble) == (Seen.FAILED, Trouble.CORRUPT)
        assert second.fetched


async def test_content_that_is_another_than_ordered_is_never_put(runtime: str) -> None:
    async with stage(runtime) as at:
        at.peer("p1", b"x" * 1000)
        await at.started()
        await at.referee.order(put(1, b"a", b"y" * 1000, "p1"))
        await answered(at, 1)
        assert at.referee.answer(1)[0].trouble is Trouble.CORRUPT
        assert b"a" not in at.driver.things


async def test_a_digest_that_the_source_only_tells_is_named_where_it_is_none(runtime: str) -> None:
    async with stage(runtime) as at:
        at.peer("p1", b"x" * 1000)
        await at.started()
        told = put(1, b"a", b"x" * 1000, "p1")
        await at.referee.order(replace(told, version=replace(told.version, digests={"md5": b"of an encryption"})))
        await answered(at, 1)
        (failed,) = at.referee.answer(1)
        assert failed.trouble is Trouble.CORRUPT
        assert failed.reason.startswith("what p1 sent does not have the md5 that it tells")


async def test_a_resumed_transfer_fetches_only_what_is_missing(runtime: str) -> None:
    async with stage(runtime) as at:
        peer = at.peer("p1", LARGE)
        there = MAX_CHUNK + 100
        at.driver.staged[file_of(LARGE).digests["blake3"]] = LARGE[:there]
        await at.started()
        await at.referee.order(put(1, b"a", LARGE, "p1"))
        await answered(at, 1)
        assert min(fetch.offset for fetch in peer.fetched) == there
        assert sum(fetch.length for fetch in peer.fetched) == len(LARGE) - there
        assert at.driver.things[b"a"].data == LARGE
        await at.referee.until(lambda: at.referee.beats and at.referee.beats[-1].counters.get("resumed_bytes") == there)
        assert at.referee.beats[-1].counters["transferred_bytes"] == len(LARGE) - there


async def test_a_source_that_stalls_in_the_middle_is_left_and_what_it_sent_is_kept(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onitu.plug.transfers.STALLED", 0.2)
    async with stage(runtime) as at:
        first, second = at.peer("p1", LARGE), at.peer("p2", LARGE)
        first.change = lambda chunk: chunk if chunk.offset < MAX_CHUNK else None
        await at.started()
        await at.referee.order(put(1, b"a", LARGE, "p1", "p2"))
        await answered(at, 1)
        assert at.driver.things[b"a"].data == LARGE
        assert min(fetch.offset for fetch in second.fetched) == MAX_CHUNK


async def test_an_empty_file_needs_no_source(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        await at.referee.order(put(1, b"a", b""))
        await answered(at, 1)
        assert at.driver.things[b"a"].data == b""


async def test_a_root_that_went_away_fails_the_orders_and_says_so(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onitu.plug.replica.FIRST_RETRY", 0.01)
    async with stage(runtime) as at:
        await at.started()
        at.driver.unavailable = "unmounted"
        await at.referee.order(mkdir(1, b"d"))
        await at.referee.until(lambda: at.referee.hellos[-1].replicas[FOLDER].trouble == "unmounted")
        at.driver.unavailable = ""
        await at.referee.until(lambda: at.referee.scans == 2)
        await answered(at, 1)
        assert [e.trouble for e in at.referee.answer(1)] == [Trouble.UNAVAILABLE]


async def test_a_pause_begins_nothing_more_and_a_resume_does(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        await at.referee.send(Command("pause", FOLDER))
        await at.referee.order(mkdir(1, b"d"))
        await answered(at, 1)
        assert at.referee.answer(1)[0].trouble is Trouble.STOPPED
        await at.referee.send(Command("resume", FOLDER))
        await at.referee.order(mkdir(2, b"d"))
        await answered(at, 2)
        assert at.referee.answer(2)[0].seen is Seen.DONE


async def test_a_stop_finishes_the_orders_under_way_and_tells_what_came_of_them(runtime: str) -> None:
    async with stage(runtime) as at:
        at.peer("p1", LARGE)
        scope = await at.started()
        begun, go = trio.Event(), trio.Event()

        def hold() -> trio.Event:
            begun.set()
            return go

        at.driver.before_perform = hold
        await at.referee.order(put(1, b"a", LARGE, "p1"))
        with trio.fail_after(5):
            await begun.wait()
        scope.cancel()
        go.set()
        await answered(at, 1)
        assert at.referee.answer(1)[0].seen is Seen.DONE


async def test_a_file_is_served_in_checked_chunks_to_other_drivers(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/f", LARGE)
        await at.started()
        entry = at.driver.entry(b"d/f")
        assert entry is not None
        async with Socket.connect(at.context, Kind.DEALER, at.referee.hellos[-1].chunks) as socket:

            async def ask(fetch: Fetch) -> Chunk:
                await socket.send(fetch)
                with trio.fail_after(5):
                    _, chunk = await socket.receive()
                assert isinstance(chunk, Chunk)
                return chunk

            good = Fetch(1, FOLDER, b"d/f", entry.token, 10, 100)
            assert (await ask(good)).data == LARGE[10:110]
            assert len((await ask(good)).digest) == 32
            for bad, trouble in (
                ({"token": b"other"}, Trouble.SOURCE_LOST),
                ({"path": b"../etc/passwd"}, Trouble.DENIED),
                ({"folder": "other"}, Trouble.DENIED),
                ({"length": MAX_CHUNK + 1}, Trouble.IO),
                ({"offset": -1}, Trouble.IO),
            ):
                fields = {name: getattr(good, name) for name in good.__struct_fields__} | bad
                answer = await ask(Fetch(**fields))
                assert (answer.trouble, answer.data) == (trouble, b"")
