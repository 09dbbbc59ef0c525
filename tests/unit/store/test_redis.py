"""The store on a real server: fencing, the lease, crashes, damage, the schema."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
import redis
import trio
import trio.testing

from onitu.model.errors import Fenced, StateError
from onitu.model.nodes import Node
from onitu.store import codec, schema, urls
from onitu.store import redis as module
from onitu.store.embedded import wait_ready
from onitu.store.interface import Change, Entry, ServiceRecord
from onitu.store.keys import Command, Keys
from onitu.store.lease import Holder
from onitu.store.redis import RedisFolder, RedisStore
from tests.conftest import READY, Server

from .values import a_file

KEYS = Keys("home")


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    made = urls.client(valkey)
    yield made
    made.close()


def left_by(client: redis.Redis, holder: Holder, milliseconds: int) -> None:
    """What a Referee that was killed leaves."""
    client.set(KEYS.named("lease"), msgspec.json.encode(holder), px=milliseconds)
    client.set(KEYS.named("fence"), "7 nonce")


async def numbered(folder: object) -> list[bytes]:
    assert isinstance(folder, RedisFolder)
    return sorted([node.path async for page in folder.walk() for node in page])


async def test_a_second_referee_takes_over_after_the_lease_and_the_first_is_fenced(
    valkey: str, client: redis.Redis
) -> None:
    with trio.fail_after(20):
        # The first one's renewal never comes in this test: it is as if that process had been stopped.
        async with RedisStore(valkey, ttl=30).open_folder("home") as first:
            await first.commit(Change(seq=1))
            client.pexpire(KEYS.named("lease"), 300)
            async with RedisStore(valkey, wait=10).open_folder("home") as second:
                await second.commit(Change(seq=2))
                with pytest.raises(Fenced, match="another Onitu took over folder 'home'"):
                    await first.commit(Change(seq=3))
                with pytest.raises(Fenced):
                    await first.commit(Change(seq=4))
                assert (await second.meta()).seq == 2


async def test_a_fenced_referee_does_not_give_back_the_lease_of_another(valkey: str, client: redis.Redis) -> None:
    async def second(task_status: trio.TaskStatus[None]) -> None:
        async with RedisStore(valkey, ttl=30).open_folder("home"):
            task_status.started()
            await over.wait()

    over = trio.Event()
    async with trio.open_nursery() as nursery:
        async with RedisStore(valkey, ttl=30).open_folder("home"):
            client.delete(KEYS.named("lease"))
            await nursery.start(second)
        assert client.exists(KEYS.named("lease"))
        over.set()
    assert not client.exists(KEYS.named("lease"))


async def test_a_directory_without_nodes_is_forgotten(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(Change(nodes={p: a_file(p) for p in (b"a", b"d/b", b"e/f")}))
        await folder.commit(Change(nodes={b"d/b": Node(b"d/b"), b"e/f": Node(b"e/f"), b"e/g": a_file(b"e/g")}))
        assert client.smembers(KEYS.named("dirs")) == {b"", b"e"}
        assert not client.exists(KEYS.directory(b"d"))


async def test_a_fenced_referee_that_does_nothing_is_ended_by_its_renewal(valkey: str, client: redis.Redis) -> None:
    with trio.fail_after(20):
        with pytest.raises(Fenced):
            await _idle(RedisStore(valkey, ttl=0.3), partial(client.set, KEYS.named("fence"), "99 another"))
    assert client.get(KEYS.named("fence")) == b"99 another"


async def test_who_commits_after_the_end_is_told_why_nothing_is_written(valkey: str, client: redis.Redis) -> None:
    with trio.fail_after(20):
        async with RedisStore(valkey).open_folder("home") as given_back:
            pass
        with pytest.raises(StateError, match="is not open any more"):
            await given_back.commit(Change(seq=1))
        with contextlib.suppress(Fenced):
            async with RedisStore(valkey, ttl=0.3).open_folder("home") as taken:
                client.set(KEYS.named("fence"), "99 another")
                await trio.sleep_forever()
        with pytest.raises(Fenced):
            await taken.commit(Change(seq=1))
    assert not client.hexists(KEYS.named("meta"), "seq")


async def test_who_is_cancelled_with_the_folder_meets_no_error(valkey: str, client: redis.Redis) -> None:
    with trio.fail_after(20), trio.CancelScope() as run:
        async with RedisStore(valkey).open_folder("home") as folder:
            run.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()  # its tasks have ended
            await folder.commit(Change(seq=1))
    assert run.cancelled_caught


async def test_renewal_keeps_the_lease_longer_than_its_ttl(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey, ttl=1.0).open_folder("home") as folder:
        with pytest.raises(StateError, match="is held by another Onitu"):
            async with RedisStore(valkey, wait=2.5).open_folder("home"):
                pass
        await folder.commit(Change(seq=1))


async def test_a_lease_that_ran_out_is_still_ours_while_nobody_took_the_folder(
    valkey: str, client: redis.Redis
) -> None:
    async with RedisStore(valkey, ttl=0.3).open_folder("home") as folder:
        client.delete(KEYS.named("lease"))
        await folder.commit(Change(seq=1))
        with trio.fail_after(10):
            while not client.exists(KEYS.named("lease")):
                await trio.lowlevel.checkpoint()


async def test_an_emptied_store_fences_and_is_fresh_when_opened_again(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(Change(nodes={b"a": a_file(b"a")}, seq=1))
        client.flushall()
        with pytest.raises(Fenced):
            await folder.commit(Change(nodes={b"b": a_file(b"b")}, seq=2))
        assert client.keys() == []
    async with RedisStore(valkey).open_folder("home") as folder:
        assert (await folder.meta()).fresh
        assert await numbered(folder) == []


async def test_a_token_of_the_life_before_flushall_does_not_fit_the_next(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey, ttl=60).open_folder("home") as first:
        client.flushall()
        async with RedisStore(valkey).open_folder("home") as second:
            with pytest.raises(Fenced):
                await first.commit(Change(seq=1))
            await second.commit(Change(seq=2))


async def test_a_holder_that_cannot_be_seen_is_named_when_its_lease_does_not_run_out(
    valkey: str, client: redis.Redis
) -> None:
    left_by(client, Holder(4711, "elsewhere", "another boot", "nonce"), 60_000)
    with pytest.raises(StateError, match="process 4711 on elsewhere"):
        async with RedisStore(valkey, wait=0.2).open_folder("home"):
            pass


async def test_a_dead_holder_elsewhere_is_waited_for(valkey: str, client: redis.Redis) -> None:
    left_by(client, Holder(4711, "elsewhere", "another boot", "nonce"), 300)
    async with RedisStore(valkey, wait=10).open_folder("home") as folder:
        await folder.commit(Change(seq=1))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process id says nothing about its host's boot")
async def test_a_holder_that_died_here_is_not_waited_for(valkey: str, client: redis.Redis) -> None:
    left_by(client, msgspec.structs.replace(Holder.this(), pid=an_ended_process()), 60_000)
    async with RedisStore(valkey, wait=0).open_folder("home") as folder:
        await folder.commit(Change(seq=1))


def an_ended_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


async def test_a_commit_that_is_resent_is_applied_once(valkey: str) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        assert isinstance(folder, RedisFolder)
        words: list[Command] = [[b"HINCRBY", KEYS.named("counts"), b"files", b"1"]]
        for _ in range(3):
            await folder.hop(partial(folder._call, "the same", words))
        assert (await folder.meta()).counts == {"files": 1}


async def test_waiting_commits_go_together(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(Change(seq=1))
        before = calls(client)
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(folder.commit, Change(counts={"files": 1}, seq=number))
        # The first may go alone; all others wait for it and go together.
        assert calls(client) - before <= 3
        assert (await folder.meta()).counts == {"files": 200}


def calls(client: redis.Redis) -> int:
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


async def test_after_a_commit_that_failed_none_is_written(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        client.set(KEYS.named("counts"), "no hash")
        with pytest.raises(StateError, match="WRONGTYPE"):
            await folder.commit(Change(counts={"files": 1}))
        client.delete(KEYS.named("counts"))
        with pytest.raises(StateError, match="WRONGTYPE"):
            await folder.commit(Change(seq=9))
        assert (await folder.meta()).seq == 0


async def test_a_server_that_forgot_the_script_is_told_again(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        client.script_flush()
        await folder.commit(Change(seq=1))


async def test_a_change_of_fifty_thousand_nodes_is_one_commit(valkey: str) -> None:
    nodes = {p: a_file(p, n) for n, p in enumerate(b"d%d/file%d.txt" % (n % 2500, n) for n in range(50_000))}
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(
            Change(
                nodes=nodes,
                todo=dict.fromkeys(nodes, 1),
                quarantine=dict.fromkeys((("nas", p) for p in nodes), True),
                seq=50_000,
            )
        )
        assert await folder.todo_count() == 50_000
        assert len(await folder.quarantined("nas", 100_000)) == 50_000
        assert {node.path: node async for page in folder.walk() for node in page} == nodes


async def test_one_directory_of_many_nodes_is_walked_in_pages(valkey: str) -> None:
    nodes = {p: a_file(p) for p in (b"big/%d" % n for n in range(5000))}
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(Change(nodes=nodes))
        pages = [page async for page in folder.walk()]
        assert max(map(len, pages)) < 2500
        assert {node.path for page in pages for node in page} == set(nodes)


async def test_the_journal_is_bounded(valkey: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onitu.store.keys.JOURNAL", 200)
    async with RedisStore(valkey).open_folder("home") as folder:
        for _ in range(10):
            await folder.commit(Change(journal=[Entry(b"a", "nas", "case", "") for _ in range(100)]))
    assert 200 <= client.xlen(KEYS.named("journal")) < 400


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("meta", "seq", b"4\xb39"),
        ("meta", "forgotten", b"-x"),
        ("meta", "gaps", b"\xff"),
        ("meta", "rules", b"\xff"),
        ("services", b"\xff", b""),
        ("services", "nas", b"\xc1"),
        ("counts", "files", b"1."),
        ("counts", b"\xe9", b"1"),
    ],
)
async def test_a_damaged_summary_is_an_error_that_names_the_folder(
    valkey: str, client: redis.Redis, key: str, field: bytes | str, value: bytes
) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        client.hset(KEYS.named(key), field, value)
        with pytest.raises(StateError, match="folder 'home'"):
            await folder.meta()


async def test_damaged_bytes_are_an_error_that_names_folder_and_path(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(Change(nodes={p: a_file(p) for p in (b"d/a", b"d/b")}))
        data = bytearray(codec.encode(a_file(b"d/a")))
        data[20] ^= 1
        client.hset(KEYS.directory(b"d"), b"a", bytes(data))
        with pytest.raises(StateError, match=r"'d/a' in folder 'home' is damaged"):
            await folder.nodes([b"d/a"])
        with pytest.raises(StateError, match=r"'d/a' in folder 'home' is damaged"):
            await folder.children([b"d"])
        assert await folder.nodes([b"d/b"]) == {b"d/b": a_file(b"d/b")}


# The schema


async def test_a_new_state_has_our_schema(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home"):
        assert client.hget(KEYS.named("meta"), "schema") == b"%d" % schema.SCHEMA


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [("2", "written by a newer Onitu"), ("0", "no way from it to 1"), ("-1", "no way"), ("x", "which is none")],
)
async def test_an_unknown_schema_is_refused_and_left_as_it_is(
    valkey: str, client: redis.Redis, stored: str, sentence: str
) -> None:
    client.hset(KEYS.named("meta"), "schema", stored)
    for _ in range(2):
        with pytest.raises(StateError, match=sentence):
            async with RedisStore(valkey).open_folder("home"):
                pass
    assert client.hgetall(KEYS.named("meta")) == {b"schema": stored.encode()}


async def test_an_older_schema_is_migrated_once(valkey: str, client: redis.Redis) -> None:
    """A made-up schema 0 that kept each node under a key of its own."""
    nodes = {p: a_file(p) for p in (b"a", b"d/b", b"d/c")}
    for path, node in nodes.items():
        client.set(KEYS.prefix + b"node:" + path, codec.encode(node))
    client.hset(KEYS.named("meta"), mapping={"schema": "0", "seq": "12"})
    runs = []

    def migrate(client: redis.Redis, keys: Keys) -> Iterator[list[Command]]:
        runs.append(1)
        for path, node in nodes.items():
            old = keys.prefix + b"node:" + path
            data = urls.ask(client, "GET", old)
            assert codec.decode(data, keys.folder, path) == node
            yield [*module.commands(keys, Change(nodes={path: node})), [b"DEL", old]]

    for fresh_run in (1, 1):
        async with RedisStore(valkey, migrations={0: migrate}).open_folder("home") as folder:
            meta = await folder.meta()
            assert (meta.fresh, meta.seq) == (False, 12)
            assert await folder.nodes(list(nodes)) == nodes
        assert len(runs) == fresh_run
    assert client.keys(KEYS.prefix + b"node:*") == []


async def test_the_remains_of_a_state_without_meta_are_removed(valkey: str, client: redis.Redis) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(
            Change(
                nodes={b"d/a": a_file(b"d/a")},
                services={"nas": ServiceRecord()},
                quarantine={("nas", b"d/a"): True},
                todo={b"d/a": 1},
            )
        )
    client.delete(KEYS.named("meta"))
    async with RedisStore(valkey).open_folder("home") as folder:
        assert (await folder.meta()).fresh
    left = client.keys("onitu:*")
    assert sorted(left) == [KEYS.named("fence"), KEYS.named("meta")]


# The server


async def test_a_server_that_may_evict_is_refused(valkey: str, client: redis.Redis) -> None:
    client.config_set("maxmemory", "1gb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StateError, match="set it to noeviction"):
            async with RedisStore(valkey).open_folder("home"):
                pass
    finally:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")


async def test_a_server_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    store = RedisStore(f"unix://user:hunter2@{tmp_path}/none.sock")
    with trio.fail_after(10):
        for attempt in (store.ping(), _opened(store)):
            with pytest.raises(StateError, match="cannot be reached") as caught:
                await attempt
            assert "hunter2" not in str(caught.value)
            assert "none.sock" in str(caught.value)


async def _idle(store: RedisStore, meanwhile: Callable[[], object]) -> None:
    """A Referee that has nothing to do, and what happens then."""
    async with store.open_folder("home"):
        meanwhile()
        await trio.sleep_forever()


async def _opened(store: RedisStore) -> None:
    async with store.open_folder("home"):
        pass


async def test_a_store_is_entered_when_its_server_answers(valkey: str, tmp_path: Path) -> None:
    async with RedisStore(valkey) as store, store.open_folder("home") as folder:
        await folder.commit(Change(seq=1))
    with pytest.raises(StateError, match="cannot be reached"):
        async with RedisStore(f"unix://{tmp_path}/none.sock"):
            pass


async def ready(server: Server) -> None:
    server.start()
    await wait_ready(server.url, READY)


async def test_a_commit_meets_a_server_that_went_away(own_server: Server) -> None:
    await ready(own_server)
    with trio.fail_after(20):
        async with RedisStore(own_server.url).open_folder("home") as folder:
            own_server.kill()
            with pytest.raises(StateError, match="cannot be reached"):
                await folder.commit(Change(seq=1))
            await ready(own_server)
            # Nobody knows what became of the commit that failed, so no later one may be acknowledged.
            with pytest.raises(StateError, match="cannot be reached"):
                await folder.commit(Change(seq=2))


async def test_an_idle_referee_notices_that_the_server_stays_away(own_server: Server) -> None:
    await ready(own_server)
    with trio.fail_after(20):
        with pytest.raises(StateError, match="cannot be reached"):
            await _idle(RedisStore(own_server.url, ttl=0.3), own_server.kill)


async def test_acknowledged_commits_survive_sigkill_of_the_server(own_server: Server) -> None:
    acknowledged: list[int] = []

    async def writer() -> None:
        async with RedisStore(own_server.url, ttl=0.5).open_folder("home") as folder:
            for number in range((await folder.meta()).seq + 1, 1_000_000):
                await folder.commit(change(number))
                acknowledged.append(number)

    for _ in range(3):
        await ready(own_server)
        before = len(acknowledged)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(refused, writer)
                while len(acknowledged) < before + 50:
                    await trio.lowlevel.checkpoint()
                own_server.kill()
        await ready(own_server)
        async with RedisStore(own_server.url).open_folder("home") as folder:
            await whole(folder, at_least=acknowledged[-1])
        own_server.kill()


async def test_a_log_that_was_cut_loses_whole_commits_only(own_server: Server) -> None:
    await ready(own_server)
    # The cut takes the end of the lease with it, so the next one has to wait for it to run out.
    async with RedisStore(own_server.url, ttl=0.2).open_folder("home") as folder:
        for number in range(1, 31):
            await folder.commit(change(number))
    own_server.kill()
    log = log_of(own_server)
    size = log.stat().st_size
    for cut in (1, 20, 200, 333, 500):
        size -= cut
        with log.open("rb+") as file:
            file.truncate(size)
        await ready(own_server)
        async with RedisStore(own_server.url, ttl=0.2).open_folder("home") as folder:
            await whole(folder, at_least=10)
        own_server.kill()
        size = log.stat().st_size


def log_of(server: Server) -> Path:
    (log,) = Path(server.embedded.state).glob("**/*.incr.aof")
    return log


def change(number: int) -> Change:
    """A batch of events: two nodes in two directories, and the record that tells a duplicate."""
    nodes = {p: a_file(p, number) for p in (b"a/x", b"b/x", b"n/%d" % number)}
    return Change(
        nodes=nodes,
        services={"nas": ServiceRecord(epoch="e", number=number)},
        counts={"batches": 1},
        seq=number,
    )


async def whole(folder: object, at_least: int) -> None:
    """The state is one that stood between two commits."""
    assert isinstance(folder, RedisFolder)
    meta = await folder.meta()
    assert not meta.fresh
    assert meta.seq >= at_least
    assert meta.services == {"nas": ServiceRecord(epoch="e", number=meta.seq)}
    found = await folder.nodes([b"a/x", b"b/x", b"n/%d" % meta.seq, b"n/%d" % (meta.seq + 1)])
    assert found == {p: a_file(p, meta.seq) for p in (b"a/x", b"b/x", b"n/%d" % meta.seq)}


async def refused(writer: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(StateError):
        await writer()
