"""Trio as a guest: a test that is not asynchronous itself (a Hypothesis state machine) runs coroutines one by one.

The Trio run, its tasks and its clock live on between two calls; nothing of it moves outside of them.
"""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio
from trio.testing import MockClock


class Guest:
    """A Trio run on a clock that stands still unless it is told to jump. `close` it."""

    def __init__(self) -> None:
        self.clock = MockClock()
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._ended: list[outcome.Outcome[None]] = []
        self._nursery: trio.Nursery | None = None
        trio.lowlevel.start_guest_run(
            self._main, run_sync_soon_threadsafe=self._calls.put, done_callback=self._ended.append, clock=self.clock
        )
        while self._nursery is None:
            self._calls.get()()

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def run(self, job: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine to its end, give back what it returns or raise what it raises."""
        assert self._nursery is not None
        box: list[outcome.Outcome[Any]] = []

        async def boxed() -> None:
            box.append(await outcome.acapture(job))

        self._nursery.start_soon(boxed)
        while not box:
            assert not self._ended, self._ended
            self._calls.get(timeout=60)()
        return box[0].unwrap()

    def start(self, job: Callable[[], Awaitable[None]]) -> None:
        """Start a task that goes on while others run."""
        assert self._nursery is not None
        self._nursery.start_soon(job)

    def close(self) -> None:
        """Cancel what still runs, and wait for its end."""
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        while not self._ended:
            self._calls.get(timeout=60)()
        self._ended[0].unwrap()
