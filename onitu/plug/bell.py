"""Three small things for tasks that wait: a bell, a delay of cancellation, a limit of speed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class Bell:
    """Wakes the one task that waits. A ring while nobody waits is remembered, however often it rang."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        """Until it rings, or at once if it rang since the last `wait`. A cancelled wait forgets nothing."""
        await self._rung.wait()
        self._rung = trio.Event()


async def finishing(seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    """Do work that a cancellation from outside reaches only `seconds` later, so that it can come to its end.

    Raises what `work` raises; and `trio.Cancelled` after it, where the cancellation came meanwhile.
    """
    done: list[T] = []
    failure: list[Exception] = []
    try:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope(shield=True)

            async def fuse() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    scope.deadline = trio.current_time() + seconds

            nursery.start_soon(fuse)
            with scope:
                try:
                    done.append(await work())
                except Exception as error:  # handed on below: a nursery would wrap it
                    failure.append(error)
            nursery.cancel_scope.cancel()
    except* trio.Cancelled:
        pass  # of a nursery it comes in a group
    await trio.lowlevel.checkpoint_if_cancelled()
    if failure:
        raise failure[0]
    return done[0]


class Throttle:
    """At most so many bytes a second, on Trio's clock, so a test can turn it. A rate of 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = float("-inf")

    @property
    def limits(self) -> bool:
        return self._rate > 0

    async def take(self, amount: int) -> None:
        """Wait until `amount` bytes may go."""
        if self._rate <= 0:
            return
        now = trio.current_time()
        start = max(self._free, now)
        self._free = start + amount / self._rate
        await trio.sleep(start - now)
