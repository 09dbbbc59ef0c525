"""Blocking calls of libraries in worker threads: none outlives its call, and who cancels it is not kept waiting."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio

from onitu.plug.remote import in_lone_thread, in_thread

InThread = Callable[[Callable[[], object], trio.CapacityLimiter, Callable[[], object]], Awaitable[object]]


async def _in_thread(
    act: Callable[[], object], limiter: trio.CapacityLimiter, interrupt: Callable[[], object]
) -> object:
    return await in_thread(act, limiter, interrupt=interrupt)


@pytest.fixture(params=[_in_thread, in_lone_thread], ids=["in_thread", "in_lone_thread"])
def threaded(request: pytest.FixtureRequest) -> InThread:
    found: InThread = request.param
    return found


def nothing() -> None:
    """No interruption is awaited."""


async def test_what_the_call_returns_or_raises_comes_back_and_the_slot_is_free_again(threaded: InThread) -> None:
    limiter = trio.CapacityLimiter(1)
    assert await threaded(lambda: 7, limiter, nothing) == 7
    with pytest.raises(ConnectionError, match="cut"):
        await threaded(lambda: _raise(ConnectionError("cut")), limiter, nothing)
    assert limiter.borrowed_tokens == 0


async def test_it_runs_elsewhere_with_the_context_of_who_calls(threaded: InThread) -> None:
    spoken = contextvars.ContextVar("spoken", default="")
    spoken.set("here")
    here = threading.get_ident()
    assert await threaded(lambda: (spoken.get(), threading.get_ident() == here), trio.CapacityLimiter(1), nothing) == (
        "here",
        False,
    )


async def test_a_cancelled_call_is_interrupted_once_and_waited_for(threaded: InThread) -> None:
    began, cut, limiter = trio.Event(), threading.Event(), trio.CapacityLimiter(1)
    token, ends = trio.lowlevel.current_trio_token(), []

    def stall() -> None:
        token.run_sync_soon(began.set)
        assert cut.wait(10)
        ends.append("call")
        raise ConnectionAbortedError("interrupted")

    def interrupt() -> None:
        ends.append("interrupt")
        cut.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                await threaded(stall, limiter, interrupt)
                ends.append("returned")

            nursery.start_soon(call)
            await began.wait()
            nursery.cancel_scope.cancel()
    assert ends == ["interrupt", "call"]
    assert limiter.borrowed_tokens == 0


async def test_a_call_that_waits_for_its_turn_is_cancelled_without_a_thread(threaded: InThread) -> None:
    limiter, called = trio.CapacityLimiter(1), []
    async with limiter:
        with trio.move_on_after(0.01) as scope:
            await threaded(lambda: called.append("call"), limiter, nothing)
    assert scope.cancelled_caught
    assert not called


def _raise(error: Exception) -> None:
    raise error
