"""What every store promises, asked of the real server and of the one in memory alike."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from onitu.model.errors import StateError
from onitu.model.nodes import Node
from onitu.store.interface import Change, Entry, FolderStore, Problem, ServiceRecord, Store
from onitu.store.memory import MemoryStore
from onitu.store.redis import RedisStore

from .values import a_file


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore(ttl=0.5, wait=0.3)
    return RedisStore(request.getfixturevalue("valkey"), ttl=0.5, wait=0.3)


@pytest.fixture
async def folder(store: Store) -> AsyncIterator[FolderStore]:
    async with store.open_folder("home") as opened:
        yield opened


async def everything(folder: FolderStore) -> dict[bytes, Node]:
    return {node.path: node async for page in folder.walk() for node in page}


async def test_a_server_that_is_there_answers(store: Store) -> None:
    await store.ping()


async def test_a_folder_is_fresh_once(store: Store) -> None:
    async with store.open_folder("home") as folder:
        assert (await folder.meta()).fresh
    async with store.open_folder("home") as folder:
        assert not (await folder.meta()).fresh


async def test_one_commit_writes_everything_and_it_is_there_when_opened_again(store: Store) -> None:
    node = a_file(b"docs/a")
    record = ServiceRecord("marker", 2, "epoch", 7, 1)
    change = Change(
        nodes={node.path: node},
        todo={node.path: 5},
        services={"nas": record},
        journal=[Entry(node.path, "nas", "new", "head", {"seq": 5}, 1.5)],
        problems={("nas", b"x"): Problem(b"x", "nas", "blocked", "denied")},
        quarantine={("nas", b"y"): True},
        seq=5,
        counts={"files": 1, "bytes": 10},
        conflicts={b"copy": b"docs/a"},
    )
    async with store.open_folder("home") as folder:
        await folder.commit(change)
    async with store.open_folder("home") as folder:
        meta = await folder.meta()
        assert (meta.seq, meta.services, meta.counts) == (5, {"nas": record}, {"files": 1, "bytes": 10})
        assert await folder.nodes([b"docs/a", b"none"]) == {b"docs/a": node}
        assert await folder.todo((0, b""), 10) == [(5, b"docs/a")]
        assert await folder.todo_count() == 1
        (line,) = await folder.journal(None, 10)
        assert replace(line, id="") == change.journal[0]
        assert await folder.problems(None, 10) == [Problem(b"x", "nas", "blocked", "denied")]
        assert await folder.quarantined("nas", 10) == [b"y"]
        assert await folder.conflicts() == {b"copy": b"docs/a"}


async def test_what_a_commit_takes_away_is_gone(folder: FolderStore) -> None:
    await folder.commit(
        Change(
            nodes={p: a_file(p) for p in (b"d/a", b"d/b")},
            todo={b"d/a": 1, b"d/b": 2},
            problems={("nas", b"x"): Problem(b"x", "nas", "blocked", "")},
            quarantine={("nas", b"y"): True, ("nas", b"z"): True},
            counts={"files": 2},
            conflicts={b"copy": b"d/a"},
            seq=2,
        )
    )
    await folder.commit(
        Change(
            nodes={b"d/a": Node(b"d/a"), b"never": Node(b"never")},
            todo={b"d/a": None},
            problems={("nas", b"x"): None},
            quarantine={("nas", b"y"): False},
            counts={"files": -1},
            conflicts={b"copy": None},
        )
    )
    assert await everything(folder) == {b"d/b": a_file(b"d/b")}
    assert await folder.todo((0, b""), 10) == [(2, b"d/b")]
    assert await folder.problems(None, 10) == []
    assert await folder.problem_counts() == {}
    assert await folder.quarantined("nas", 10) == [b"z"]
    assert await folder.conflicts() == {}
    meta = await folder.meta()
    assert (meta.seq, meta.counts) == (2, {"files": 1})


async def test_gaps_between_the_numbers_stay_until_others_are_told(folder: FolderStore) -> None:
    assert (await folder.meta()).gaps == ()
    await folder.commit(Change(seq=9, gaps=((1, 5), (7, 2**62))))
    await folder.commit(Change(seq=10, forgotten=2**62 + 1))
    await folder.commit(Change(seq=11))
    assert (await folder.meta()).gaps == ((1, 5), (7, 2**62))
    assert (await folder.meta()).forgotten == 2**62 + 1


async def test_a_directory_is_walked_until_its_last_node_is_gone(folder: FolderStore) -> None:
    await folder.commit(Change(nodes={b"d/a": a_file(b"d/a")}))
    await folder.commit(Change(nodes={b"d/a": Node(b"d/a")}))
    assert await everything(folder) == {}
    await folder.commit(Change(nodes={b"d/c": a_file(b"d/c")}))
    assert list(await everything(folder)) == [b"d/c"]


async def test_children_are_the_nodes_directly_in_a_directory(folder: FolderStore) -> None:
    known = [b"a", b"d", b"d/b", b"d/e/f", b"da"]
    await folder.commit(Change(nodes={p: a_file(p) for p in known}))
    root, d, none, e = await folder.children([b"", b"d", b"none", b"d/e"])
    assert sorted(n.path for n in root) == [b"a", b"d", b"da"]
    assert [[n.path for n in nodes] for nodes in (d, none, e)] == [[b"d/b"], [], [b"d/e/f"]]


async def test_children_that_are_at_hand_are_taken_from_there(folder: FolderStore) -> None:
    await folder.commit(Change(nodes={p: a_file(p) for p in (b"d/a", b"d/b")}))
    mine, gone = a_file(b"d/a"), a_file(b"d/c")
    ((a, b),) = (
        sorted(nodes, key=lambda n: n.path)
        for nodes in await folder.children([b"d"], {n.path: n for n in (mine, gone)})
    )
    assert a is mine
    assert b == a_file(b"d/b")


async def test_nothing_asked_for_is_nothing_found(folder: FolderStore) -> None:
    assert await folder.nodes([]) == {}
    assert await folder.children([]) == []
    assert await folder.todo((0, b""), 0) == []
    await folder.commit(Change())


PATHOLOGICAL = [
    b"\xff",
    b"\xfe\xff/\x80",
    b"line\nbreak",
    b"{tag}/}:d:x",
    b"d:dirs",
    b"*?[a]",
    b" ",
    b"a" * 255,
    b"/".join([b"deep"] * 200),
    "é/日本/\U0001f600".encode(),
    b"\r\n$3\r\nfoo",
]


async def test_pathological_names_come_back_as_they_are(folder: FolderStore) -> None:
    nodes = {p: a_file(p) for p in PATHOLOGICAL}
    await folder.commit(
        Change(
            nodes=nodes,
            todo=dict.fromkeys(PATHOLOGICAL, 1),
            problems={("n:s", p): Problem(p, "n:s", "blocked", "ü") for p in PATHOLOGICAL},
            quarantine={("n:s", p): True for p in PATHOLOGICAL},
            conflicts={p: p for p in PATHOLOGICAL},
            journal=[Entry(p, "n:s", "new", "head") for p in PATHOLOGICAL],
        )
    )
    assert await folder.nodes(PATHOLOGICAL) == nodes
    assert await everything(folder) == nodes
    assert await folder.todo((0, b""), 100) == [(1, p) for p in sorted(PATHOLOGICAL)]
    assert {p.path for p in await folder.problems("blocked", 100)} == set(PATHOLOGICAL)
    assert await folder.quarantined("n:s", 100) == sorted(PATHOLOGICAL)
    assert await folder.conflicts() == {p: p for p in PATHOLOGICAL}
    for path in PATHOLOGICAL:
        assert [e.path for e in await folder.journal(path, 10)] == [path]


@pytest.mark.parametrize(("one", "other"), [("a", "a}:d:x"), ("a{", "a"), ("a%7B", "a{"), ("é", "e")])
async def test_folders_are_apart_whatever_their_names(store: Store, one: str, other: str) -> None:
    async with store.open_folder(one) as first, store.open_folder(other) as second:
        await first.commit(Change(nodes={b"x": a_file(b"x"), b"x}:meta/b": a_file(b"x}:meta/b")}, seq=1))
        assert await everything(second) == {}
        assert (await second.meta()).seq == 0


async def test_todo_goes_on_strictly_after_the_given_pair(folder: FolderStore) -> None:
    left = [(1, b"z"), (2, b"\xff"), (2, b"a"), (2, b"a\n"), (2, b"b"), (3, b""), (2**53 - 1, b"m")]
    left = [(score, path or b"c") for score, path in left]
    await folder.commit(Change(todo={path: score for score, path in left}))
    expected, seen, after = sorted(left), [], (0, b"")
    while page := await folder.todo(after, 2):
        seen += page
        after = page[-1]
    assert seen == expected
    for cut in [*expected, (2, b"aa"), (2, b"zz"), (5, b""), (0, b"zzz")]:
        assert await folder.todo(cut, 100) == [pair for pair in expected if pair > cut]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.binary(min_size=1, max_size=3), st.integers(1, 4), max_size=12),
    st.tuples(st.integers(0, 5), st.binary(max_size=3)),
    st.integers(1, 5),
)
def test_todo_orders_by_score_and_bytes(
    valkey: str, left: dict[bytes, int], after: tuple[int, bytes], limit: int
) -> None:
    async def main() -> None:
        store = RedisStore(valkey)
        async with store.open_folder("home") as folder:
            old = await folder.todo((0, b""), 1000)
            await folder.commit(Change(todo={**dict.fromkeys((p for _, p in old), None), **left}))
            expected = sorted((score, path) for path, score in left.items() if (score, path) > after)
            assert await folder.todo(after, limit) == expected[:limit]

    trio.run(main)


async def test_the_journal_is_read_newest_first_and_by_path(folder: FolderStore) -> None:
    lines = [Entry(b"p%d" % (n % 7), "nas", "case", str(n), {"source": b"from%d" % n}) for n in range(2500)]
    await folder.commit(Change(journal=lines[:2000]))
    await folder.commit(Change(journal=lines[2000:]))
    assert [e.outcome for e in await folder.journal(None, 3)] == ["2499", "2498", "2497"]
    assert len(await folder.journal(None, 2200)) == 2200
    assert [e.outcome for e in await folder.journal(b"p0", 2)] == ["2499", "2492"]
    assert [e.outcome for e in await folder.journal(b"from3", 5)] == ["3"]
    assert await folder.journal(b"none", 5) == []
    ids = [e.id for e in await folder.journal(None, 100)]
    assert len(set(ids)) == 100
    assert [e.id for e in await folder.journal(None, 100, after=ids[3])] == ids[:3]
    assert len(await folder.journal(None, 2200, after=ids[-1])) == 99
    assert await folder.journal(None, 100, after=ids[0]) == []
    assert [e.outcome for e in await folder.journal(b"p0", 10, after=ids[10])] == ["2499", "2492"]


async def test_problems_are_found_and_counted_by_kind(folder: FolderStore) -> None:
    found = [
        Problem(b"a%d" % n, service, kind, "why")
        for n in range(5)
        for service, kind in (("nas", "blocked"), ("laptop", "hidden"))
    ]
    await folder.commit(Change(problems={(p.service, p.path): p for p in found}))
    assert await folder.problem_counts() == {"blocked": 5, "hidden": 5}
    assert {p.path for p in await folder.problems("hidden", 10)} == {p.path for p in found}
    assert len(await folder.problems(None, 3)) == 3


async def test_concurrent_commits_are_all_written(folder: FolderStore) -> None:
    async def commit(number: int) -> None:
        path = b"d%d/n%d" % (number % 7, number)
        await folder.commit(Change(nodes={path: a_file(path, number)}, counts={"files": 1}))

    async with trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(commit, number)
    assert (await folder.meta()).counts == {"files": 300}
    assert len(await everything(folder)) == 300


async def test_commits_take_effect_in_the_order_of_their_calls(folder: FolderStore) -> None:
    order: list[int] = []

    async def commit(number: int) -> None:
        order.append(number)
        await folder.commit(
            Change(nodes={b"same": a_file(b"same", number)}, journal=[Entry(b"same", "", "", str(number))])
        )

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(commit, number)
    assert [int(e.outcome) for e in await folder.journal(None, 50)] == order[::-1]
    assert (await folder.nodes([b"same"]))[b"same"].head.seq == order[-1]


async def test_a_change_that_cannot_be_stored_fails_alone(folder: FolderStore) -> None:
    with pytest.raises(ValueError, match="stands under"):
        await folder.commit(Change(nodes={b"a": a_file(b"b")}))
    with pytest.raises(TypeError):
        await folder.commit(Change(journal=[Entry(b"a", "", "", "", {"what": object()})], seq=3))
    assert (await folder.meta()).seq == 0
    await folder.commit(Change(seq=1))
    assert (await folder.meta()).seq == 1


async def test_a_folder_that_is_held_is_refused_after_the_wait(store: Store) -> None:
    async with store.open_folder("home") as folder:
        with pytest.raises(StateError, match="folder 'home' is held by another Onitu"):
            async with store.open_folder("home"):
                pass
        await folder.commit(Change(seq=1))


async def test_a_folder_that_was_closed_is_open_at_once(store: Store) -> None:
    for _ in range(3):
        async with store.open_folder("home"):
            pass


@pytest.mark.parametrize("error", [ValueError("mine"), ExceptionGroup("mine", [ValueError()])])
async def test_errors_of_the_body_come_out_as_they_are_and_give_the_lease_back(store: Store, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        async with store.open_folder("home"):
            raise error
    assert repr(caught.value) == repr(error)
    async with store.open_folder("home"):
        pass


async def test_a_cancelled_body_gives_the_lease_back(store: Store) -> None:
    with trio.CancelScope() as scope:
        async with store.open_folder("home"):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with store.open_folder("home") as folder:
        await folder.commit(Change(seq=1))
