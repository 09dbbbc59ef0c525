"""What only the store in memory can do: fail when told to, forget, go back in time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from onitu.model.errors import Fenced, StateError
from onitu.store.interface import Change
from onitu.store.memory import Call, MemoryStore

from .values import a_file


async def test_a_call_fails_before_its_effect() -> None:
    store = MemoryStore()
    async with store.open_folder("home") as folder:
        store.fail_at(2)
        await folder.meta()
        with pytest.raises(StateError, match=r"call 2 \(commit\)"):
            await folder.commit(Change(seq=1))
        assert (await folder.meta()).seq == 0
        await folder.commit(Change(seq=2))


async def test_a_call_fails_after_its_effect() -> None:
    store = MemoryStore()
    async with store.open_folder("home") as folder:
        store.fail_at(1, done=True, error=OSError("the answer was lost"))
        with pytest.raises(OSError, match="lost"):
            await folder.commit(Change(seq=1))
        assert (await folder.meta()).seq == 1


async def test_the_hook_sees_every_call_twice() -> None:
    store, seen = MemoryStore(), list[Call]()
    store.hook = seen.append
    async with store.open_folder("home") as folder:
        await folder.commit(Change(seq=1))
    assert seen == [
        Call(1, "open_folder", False),
        Call(1, "open_folder", True),
        Call(2, "commit", False),
        Call(2, "commit", True),
    ]


async def test_an_abandoned_lease_runs_out(autojump_clock: MockClock) -> None:
    store = MemoryStore(ttl=10, wait=15)
    async with store.open_folder("home") as first:
        store.abandon("home")
        before = trio.current_time()
        async with store.open_folder("home") as second:
            assert trio.current_time() - before == pytest.approx(10)
            await second.commit(Change(seq=2))
            with pytest.raises(Fenced):
                await first.commit(Change(seq=3))


async def test_an_abandoned_lease_that_takes_too_long_is_not_waited_for(autojump_clock: MockClock) -> None:
    store = MemoryStore(ttl=10, wait=5)
    async with store.open_folder("home"):
        store.abandon("home")
        with pytest.raises(StateError, match="is held by another Onitu"):
            async with store.open_folder("home"):
                pass


async def test_a_flushed_store_fences_and_is_fresh() -> None:
    store = MemoryStore()
    async with store.open_folder("home") as folder:
        await folder.commit(Change(nodes={b"a": a_file(b"a")}))
        store.flush()
        with pytest.raises(Fenced):
            await folder.commit(Change(seq=1))
    async with store.open_folder("home") as folder:
        assert (await folder.meta()).fresh
        assert await folder.nodes([b"a"]) == {}


async def test_a_restored_backup_fences_and_stands_as_it_stood() -> None:
    store = MemoryStore()
    async with store.open_folder("home") as folder:
        await folder.commit(Change(nodes={b"a": a_file(b"a", 1)}, seq=1))
        backup = store.backup()
        await folder.commit(Change(nodes={b"a": a_file(b"a", 2)}, seq=2))
        store.restore(backup)
        with pytest.raises(Fenced):
            await folder.commit(Change(seq=3))
    for _ in range(2):
        async with store.open_folder("home") as folder:
            meta = await folder.meta()
            assert (meta.fresh, meta.seq) == (False, 1)
            assert await folder.nodes([b"a"]) == {b"a": a_file(b"a", 1)}
            await folder.commit(Change(seq=9))
        store.restore(backup)


async def test_what_a_caller_does_with_its_change_afterwards_is_not_stored() -> None:
    change = Change(todo={b"a": 1}, counts={"files": 1})
    store = MemoryStore()
    async with store.open_folder("home") as folder:
        await folder.commit(change)
        change.todo[b"b"] = 2
        (await folder.conflicts())[b"x"] = b"y"
        assert await folder.todo((0, b""), 10) == [(1, b"a")]
        assert await folder.conflicts() == {}
