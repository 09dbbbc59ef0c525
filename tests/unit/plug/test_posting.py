"""Small files that a few threads put: all of them, up to the first trouble, and not longer than anybody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
import trio

from onitu.model.events import Trouble
from onitu.model.versions import Kind
from onitu.plug.driver import Refused
from onitu.plug.remote import Changed, Posting, Thing
from onitu.plug.remote import posting as module
from onitu.plug.remote.posting import Post, post


class Put(Posting):
    """A put that does something, and notes that it was asked for."""

    def __init__(self, asked: list[bytes], act: Callable[[], object] = lambda: None) -> None:
        self._asked = asked
        self._act = act
        self.cut = threading.Event()

    def put(self, data: bytes) -> Thing:
        self._asked.append(data)
        self._act()
        return Thing(Kind.FILE, data)

    def interrupt(self) -> None:
        self.cut.set()


def posts(asked: list[bytes], acts: Sequence[Callable[[], object]]) -> list[Post]:
    return [Post(Put(asked, act), lambda name=b"%d" % n: name) for n, act in enumerate(acts)]  # type: ignore[misc]


def fine() -> None:
    """Nothing is wrong."""


def failing(error: Exception) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


async def test_all_are_put_by_as_many_threads_as_there_may_be() -> None:
    together, limiter = threading.Barrier(3, timeout=10), trio.CapacityLimiter(3)
    asked: list[bytes] = []
    given = posts(asked, [together.wait] * 30)
    await post(given, limiter, 3)
    assert sorted(asked) == sorted(each.thing.token for each in given if each.thing)
    assert len(asked) == 30
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("error", [Changed(), Refused(Trouble.SOURCE_LOST, "it changed")])
async def test_one_that_is_refused_is_left_and_the_others_are_put(error: Exception) -> None:
    given = posts([], [fine, failing(error), fine])
    await post(given, trio.CapacityLimiter(1), 1)
    assert [each.thing is not None for each in given] == [True, False, True]


async def test_none_is_begun_after_the_service_has_trouble() -> None:
    asked: list[bytes] = []
    given = posts(asked, [fine, failing(ConnectionError("cut")), fine, fine])
    await post(given, trio.CapacityLimiter(1), 1)
    assert asked == [b"0", b"1"]
    assert [each.thing is not None for each in given] == [True, False, False, False]


async def test_who_cancels_interrupts_what_is_under_way_and_begins_no_other() -> None:
    began, token = trio.Event(), trio.lowlevel.current_trio_token()
    asked: list[bytes] = []
    stalled = Put(asked)

    def stall() -> None:
        token.run_sync_soon(began.set)
        assert stalled.cut.wait(10)

    stalled._act = stall
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                post, [Post(stalled, lambda: b"first"), *posts(asked, [fine])], trio.CapacityLimiter(1), 1
            )
            await began.wait()
            nursery.cancel_scope.cancel()
    assert asked == [b"first"]


async def test_others_come_to_their_calls_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN", 1e-9)  # the next one has to be asked for again
    limiter, began, token = trio.CapacityLimiter(1), trio.Event(), trio.lowlevel.current_trio_token()
    waits = threading.Event()
    asked: list[bytes] = []

    def first() -> None:
        token.run_sync_soon(began.set)
        assert waits.wait(10)

    async def other() -> None:
        await began.wait()
        waits.set()
        async with limiter:
            asked.append(b"other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post, posts(asked, [first, fine]), limiter, 1)
        nursery.start_soon(other)
    assert asked == [b"0", b"other", b"1"]
