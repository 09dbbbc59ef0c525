"""Orders: what is expected is replaced, what is not is told, and no value that nobody had seen is lost (S1)."""

from __future__ import annotations

import pytest
import trio

from onitu.model.events import BESIDE, Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, NOTHING, Kind, Version

from .bench import FOLDER, LONG_AGO, Bench, answer, file_version, skip

OLD, NEW, MINE = b"what stands there", b"what shall stand there", b"what a user wrote"
ROUNDS = 20


async def test_what_is_put_gets_its_directories_which_are_told_beside(bench: Bench) -> None:
    events = await bench.put(b"a/b/c", NEW)
    assert answer(events).seen is Seen.DONE
    assert await bench.tree() == {b"a": None, b"a/b": None, b"a/b/c": NEW}
    beside = {event.path for event in events if event.order == BESIDE}
    assert beside in ({b"a", b"a/b"}, set())  # none: where directories make themselves


async def test_what_is_expected_is_replaced(bench: Bench) -> None:
    await bench.write(b"a", OLD)
    assert answer(await bench.put(b"a", NEW, await bench.token(b"a"), OLD)).seen is Seen.DONE
    assert await bench.tree() == {b"a": NEW}
    done = answer(await bench.put(b"a", MINE, await bench.token(b"a"), NEW))
    assert done.seen is Seen.DONE
    assert await bench.tree() == {b"a": MINE}


@pytest.mark.parametrize("length", [60, 90, 120, 150, 165, 180, 195, 210])
async def test_what_stands_at_a_path_of_any_length_is_replaced_and_deleted(bench: Bench, length: int) -> None:
    path = b"/".join([b"directory"] * 30)[: length - 5].rstrip(b"/") + b"/file"
    for data in (OLD, NEW):
        stands = await bench.token(path) if data is NEW else b""
        assert answer(await bench.put(path, data, stands, OLD if stands else None)).seen is Seen.DONE
    gone = await bench.do(Do.DELETE, path, NOTHING, await bench.token(path), file_version(NEW))
    assert gone.seen is Seen.DONE
    assert path not in await bench.tree()


async def test_the_token_of_an_answer_is_good_for_the_next_order(bench: Bench) -> None:
    token, before = b"", None
    for number in range(4):
        data = b"version %d" % number
        done = answer(await bench.put(b"a", data, token, before))
        assert done.seen is Seen.DONE, done
        token, before = done.token, data
    gone = await bench.do(Do.DELETE, b"a", NOTHING, token, file_version(before or b""))
    assert gone.seen is Seen.DONE
    assert await bench.tree() == {}


@pytest.mark.parametrize("do", [Do.PUT, Do.DELETE, Do.MOVE, Do.META])
async def test_a_wrong_token_changes_nothing_and_what_stands_is_told(bench: Bench, do: Do) -> None:
    (read,) = await bench.driver.fingerprint(FOLDER, [await bench.write(b"a", OLD)])
    assert read is not None
    wrong = read.token  # as the plug has it: one that was read is good also where both changes have the same time stamp
    await bench.write(b"a", MINE)
    if do is Do.PUT:
        event = answer(await bench.put(b"a", NEW, wrong, OLD))
    else:
        version = NOTHING if do is Do.DELETE else file_version(OLD)
        event = await bench.do(do, b"a", version, wrong, file_version(OLD), b"b" if do is Do.MOVE else b"")
    assert (event.seen, event.path, event.version.size) == (Seen.STANDS, b"a", len(MINE))
    assert await bench.tree() == {b"a": MINE}


@pytest.mark.parametrize("do", [Do.PUT, Do.DELETE, Do.MOVE, Do.META])
async def test_what_is_gone_is_told(bench: Bench, do: Do) -> None:
    token = (await bench.write(b"a", OLD)).token
    bench.root.delete(b"a")
    if do is Do.PUT:
        event = answer(await bench.put(b"a", NEW, token, OLD))
    else:
        version = NOTHING if do is Do.DELETE else file_version(OLD)
        event = await bench.do(do, b"a", version, token, file_version(OLD), b"b" if do is Do.MOVE else b"")
    assert (event.seen, event.path) == (Seen.GONE, b"a")
    assert await bench.tree() == {}


async def test_where_nothing_is_expected_nothing_is_replaced(bench: Bench) -> None:
    await bench.write(b"a", MINE)
    event = answer(await bench.put(b"a", NEW))
    assert (event.seen, event.version.size) == (Seen.STANDS, len(MINE))
    assert await bench.tree() == {b"a": MINE}


async def test_what_is_to_be_kept_stands_under_its_name(bench: Bench) -> None:
    token = (await bench.write(b"a", OLD)).token
    order = Order(1, Do.PUT, b"a", file_version(NEW), token, file_version(OLD), keep=b"a (kept)")
    events = await bench.carry_out(order, NEW)
    assert answer(events).seen is Seen.DONE
    assert [event.path for event in events if event.path == b"a (kept)"]
    assert await bench.tree() == {b"a": NEW, b"a (kept)": OLD}


async def test_a_move_is_one(bench: Bench) -> None:
    token = (await bench.write(b"a", OLD)).token
    event = await bench.do(Do.MOVE, b"a", file_version(OLD), token, file_version(OLD), b"d/b")
    assert (event.seen, event.path, event.source) == (Seen.DONE, b"d/b", b"a")
    assert await bench.tree() == {b"d": None, b"d/b": OLD}


async def test_a_move_to_where_something_stands_changes_nothing(bench: Bench) -> None:
    token = (await bench.write(b"a", OLD)).token
    await bench.write(b"b", MINE)
    event = await bench.do(Do.MOVE, b"a", file_version(OLD), token, file_version(OLD), b"b")
    assert event.seen in (Seen.STANDS, Seen.FAILED)
    assert await bench.tree() == {b"a": OLD, b"b": MINE}


async def test_a_directory_goes_only_when_it_is_empty(bench: Bench) -> None:
    await bench.write(b"d/a", OLD)
    directory = Version(Kind.DIRECTORY)
    event = await bench.do(Do.DELETE, b"d", NOTHING, await bench.token(b"d"), directory)
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.NOT_EMPTY)
    assert await bench.tree() == {b"d": None, b"d/a": OLD}
    token = await bench.token(b"d")
    assert (await bench.do(Do.DELETE, b"d/a", NOTHING, await bench.token(b"d/a"), file_version(OLD))).seen is Seen.DONE
    assert (await bench.do(Do.DELETE, b"d", NOTHING, token, directory)).seen in (Seen.DONE, Seen.GONE)
    assert await bench.tree() == {}


async def test_a_time_is_given_to_what_stands(bench: Bench) -> None:
    token = (await bench.write(b"a", OLD)).token
    event = await bench.do(Do.META, b"a", file_version(OLD, LONG_AGO), token, file_version(OLD))
    assert event.seen is Seen.DONE, event
    entry = await bench.entry(b"a")
    if bench.able.mtimes:
        assert entry.version.mtime // bench.able.mtimes == LONG_AGO // bench.able.mtimes
    assert await bench.tree() == {b"a": OLD}


async def test_a_fingerprint_has_our_digest(bench: Bench) -> None:
    token = (await bench.write(b"a", OLD)).token
    event = await bench.do(Do.FINGERPRINT, b"a", file_version(OLD), token, file_version(OLD))
    assert event.seen is Seen.STANDS
    assert event.version.digests[BLAKE3] == file_version(OLD).digests[BLAKE3]


async def test_a_file_above_the_path_is_not_trodden_on(bench: Bench) -> None:
    await bench.write(b"a", MINE)
    event = answer(await bench.put(b"a/b", NEW))
    if event.seen is Seen.DONE:
        pytest.fail("a file has something below it")
    assert (await bench.tree())[b"a"] == MINE


async def test_many_orders_of_one_batch_are_all_carried_out(bench: Bench) -> None:
    orders: list[Order] = []
    for number in range(40):
        directory = b"d%d" % (number % 4)
        if number < 4:
            orders.append(Order(100 + number, Do.PUT, directory, Version(Kind.DIRECTORY, mode=0o755)))
        orders.append(Order(number + 1, Do.PUT, directory + b"/%d" % number, Version(Kind.DIRECTORY, mode=0o755)))
    outcomes = await bench.driver.perform(FOLDER, orders, {}, {})
    assert [[event.order for event in outcome if event.order > 0] for outcome in outcomes] == [
        [o.number] for o in orders
    ]
    assert all(outcome[-1].seen is Seen.DONE for outcome in outcomes)
    assert set(await bench.tree()) == {order.path for order in orders}


async def test_content_that_is_not_what_was_ordered_never_stands(bench: Bench) -> None:
    for size in (10, 500_000):
        order = Order(1, Do.PUT, b"a", file_version(b"x" * size))
        event = answer(await bench.carry_out(order, b"y" * size))
        assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.CORRUPT)
    assert await bench.tree() == {}


async def test_a_put_that_is_cancelled_leaves_old_or_new_whole(bench: Bench) -> None:
    old, new = b"o" * 300_000, b"n" * 300_000
    await bench.write(b"a", old)
    for patience in (0.0, 0.001, 0.005, 0.02, 0.05):
        entry = await bench.entry(b"a")
        stands = (await bench.tree())[b"a"]
        wanted = new if stands == old else old
        with trio.move_on_after(patience):
            await bench.put(b"a", wanted, entry.token, stands)
        assert (await bench.tree()).get(b"a") in (old, new)
        assert set(await bench.tree()) == {b"a"}


async def test_a_user_who_writes_at_the_same_time_loses_nothing(bench: Bench) -> None:
    if not bench.able.compare_and_swap:
        skip("this service cannot compare and swap")
    await bench.write(b"a", OLD)
    held = OLD
    for number in range(ROUNDS):
        token = await bench.token(b"a")
        mine, ours = b"user %d" % number, b"ours %d" % number
        events: list[Event] = []

        async def put(token: bytes = token, ours: bytes = ours, held: bytes = held, into: list[Event] = events) -> None:
            into += await bench.put(b"a", ours, token, held)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            nursery.start_soon(trio.to_thread.run_sync, bench.root.write, b"a", mine)
        tree = await bench.tree()
        assert mine in tree.values(), f"round {number}: the user's value is lost: {events}"
        held = tree[b"a"] or b""


async def test_of_two_who_expect_the_same_only_one_gets_it(bench: Bench) -> None:
    await bench.write(b"a", OLD)
    token = await bench.token(b"a")
    first, second = answer(await bench.put(b"a", NEW, token, OLD)), answer(await bench.put(b"a", MINE, token, OLD))
    assert (first.seen, second.seen) == (Seen.DONE, Seen.STANDS)
    assert await bench.tree() == {b"a": NEW}


async def test_an_upload_goes_on_after_a_new_start(bench: Bench) -> None:
    data = bytes(range(256)) * 4096
    version = file_version(data)
    async with bench.driver.stage(FOLDER, version, b"a") as staged:
        await staged.write(data[:500_000])
    async with bench.driver.stage(FOLDER, version, b"a") as staged:
        assert staged.offset in (0, 500_000)
    assert answer(await bench.put(b"a", data)).seen is Seen.DONE
    assert await bench.tree() == {b"a": data}
