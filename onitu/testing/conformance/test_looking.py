"""What stands is what is told; what changed is seen; a root that is not the one that it was concludes nothing."""

from __future__ import annotations

import time

import pytest
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.settings import Filter
from onitu.model.tally import Tally
from onitu.model.versions import BLAKE3, Kind
from onitu.plug.driver import Driver, Hint, HintKind, Identity, Refused

from .bench import FOLDER, Bench, file_version, skip


async def test_a_listing_is_what_was_written(bench: Bench) -> None:
    written = {b"dir%d/sub%d/file%d" % (n % 3, n % 2, n): b"%d" % n for n in range(40)} | {b"top": b"top"}
    for path, data in written.items():
        await trio.to_thread.run_sync(bench.root.write, path, data)
    listed = await bench.listed()
    files = {path: entry for path, entry in listed.items() if entry.kind is Kind.FILE}
    assert files.keys() == written.keys()
    assert {path: entry.version.size for path, entry in files.items()} == {p: len(d) for p, d in written.items()}
    directories = {path for path, entry in listed.items() if entry.kind is Kind.DIRECTORY}
    assert directories == {directory for path in written for directory in paths.ancestors(path)}


async def test_a_look_and_a_listing_tell_the_same_token(bench: Bench) -> None:
    for number in range(30):
        await trio.to_thread.run_sync(bench.root.write, b"d/%d" % number, b"x" * number)
    listed = await bench.listed()
    for few in (list(listed)[:3], list(listed)):
        looked = await bench.driver.stat(FOLDER, few)
        assert [entry.token for entry in looked if entry is not None] == [listed[path].token for path in few]


async def test_what_is_counted_is_what_is_listed(bench: Bench) -> None:
    for number in range(30):
        await trio.to_thread.run_sync(bench.root.write, b"d%d/e/%d" % (number % 3, number), b"x" * number)
    listed = Tally()
    for path, entry in (await bench.listed()).items():
        listed.see(path, entry.kind, entry.token, entry.version.mode)
    long_after = time.time_ns() + 3600 * 10**9
    assert await bench.driver.tally(FOLDER, (), long_after) == listed
    assert await bench.driver.tally(FOLDER, (Filter(blacklist=("no such name",)),), long_after) == listed
    few = await bench.driver.tally(FOLDER, (Filter(blacklist=("d1",)),), long_after)
    assert few not in (None, listed)


async def test_a_new_replica_is_at_rest(bench: Bench) -> None:
    """`at_rest` may say no at any time; but a driver that says so of a replica on which nothing was done yet takes no
    glance ever."""
    if type(bench.driver).at_rest is Driver.at_rest:
        skip("the driver does not tell whether anything is left to be settled")
    assert await bench.driver.at_rest(FOLDER)


async def test_what_is_not_there_is_told_so(bench: Bench) -> None:
    await bench.write(b"a", b"x")
    assert await bench.driver.stat(FOLDER, [b"b", b"a/b", b"no/such"]) == [None, None, None]
    (missing,) = await bench.driver.scan(FOLDER, [b"no/such"])
    assert missing.missing or not missing.complete


async def test_nothing_of_onitus_own_is_told(bench: Bench) -> None:
    assert await bench.listed() == {}


async def test_an_edit_is_seen_also_where_size_and_time_hardly_differ(bench: Bench) -> None:
    first = await bench.write(b"a", b"first")
    (read,) = await bench.driver.fingerprint(FOLDER, [first])
    assert read is not None
    again = await bench.write(b"a", b"other")
    assert again.token != read.token
    (read,) = await bench.driver.fingerprint(FOLDER, [again])
    assert read is not None
    assert read.version.digests[BLAKE3] == file_version(b"other").digests[BLAKE3]


async def test_what_does_not_change_keeps_its_token(bench: Bench) -> None:
    await bench.write(b"a", b"x")
    await bench.write(b"b", b"x")
    before = await bench.listed()
    await bench.write(b"b", b"longer")
    after = await bench.listed()
    assert after[b"a"] == before[b"a"]
    assert after[b"b"].token != before[b"b"].token


async def test_a_users_deletion_and_rename_are_seen(bench: Bench) -> None:
    for path in (b"a", b"b", b"d/c"):
        await bench.write(path, path)
    bench.root.delete(b"a")
    bench.root.rename(b"b", b"e")
    bench.root.delete(b"d")
    listed = await bench.listed()
    assert set(listed) == {b"e"}
    assert await bench.driver.stat(FOLDER, [b"a", b"b", b"d", b"d/c"]) == [None] * 4


async def test_what_changed_since_it_was_seen_is_not_read(bench: Bench) -> None:
    old = await bench.write(b"a", b"what was seen")
    await bench.write(b"a", b"what stands there now")
    assert await bench.driver.fingerprint(FOLDER, [old]) == [None]
    with pytest.raises(Refused) as refused:
        await bench.driver.read(FOLDER, b"a", old.token, 0, 5)
    assert refused.value.trouble is Trouble.SOURCE_LOST


async def test_a_digest_that_costs_no_read_is_right(bench: Bench) -> None:
    import hashlib

    entry = await bench.write(b"a", b"data")
    for name, value in entry.version.digests.items():
        if name in hashlib.algorithms_available:
            assert value == hashlib.new(name, b"data").digest()  # the service's choice
        elif name == BLAKE3:
            assert value == file_version(b"data").digests[BLAKE3]


# --- the marker -----------------------------------------------------------------------------------------------------


async def test_a_marker_is_found_again(bench: Bench) -> None:
    assert await bench.driver.identify(FOLDER) == Identity("conformance", 1, 2)
    await bench.driver.mark(FOLDER, Identity("conformance", 2, 0))
    assert await bench.driver.identify(FOLDER) == Identity("conformance", 2, 0)


async def test_a_root_that_lost_its_marker_is_unavailable(bench: Bench) -> None:
    await bench.write(b"a", b"x")
    await trio.to_thread.run_sync(bench.root.delete, b".onitu")
    with pytest.raises(Unavailable):
        await bench.driver.scan(FOLDER, [paths.ROOT])
    with pytest.raises(Unavailable):
        await bench.driver.stat(FOLDER, [b"gone"])


async def test_a_watch_is_ready_and_may_be_cancelled(bench: Bench) -> None:
    send, receive = trio.open_memory_channel[Hint](100)
    ready = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.driver.watch, FOLDER, send, ready)
            await ready.wait()
            if bench.able.watches:
                await trio.to_thread.run_sync(bench.root.write, b"a", b"x")
                hint = await receive.receive()
                assert hint.kind is not HintKind.LOST
            nursery.cancel_scope.cancel()
