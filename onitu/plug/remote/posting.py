"""Small files that a few threads put, each of them one after the other.

What lies between an order and its request, and a hop to a thread and back, takes longer than to put a small file does.
So where a service compares and swaps, and its library blocks, a thread reads and puts many. What fails here is carried
out once more in the ordinary way (`Acting`), as after an answer that did not come: there it is tried again, looked at,
and told.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import trio

from onitu.plug.driver import Refused

from .calls import in_lone_thread
from .interface import Changed, Missing, Posting, Thing

TURN = 0.1
"""Seconds after which a thread begins no further one, so that others come to their calls."""


class Post(msgspec.Struct, eq=False):
    """One that is to be put. `read`: its content, in the thread; raises `Refused`. `thing`: what stands there then;
    None: it is not known that it does."""

    posting: Posting
    read: Callable[[], bytes]
    thing: Thing | None = None


async def post(posts: Sequence[Post], limiter: trio.CapacityLimiter, threads: int) -> None:
    """Put them, up to the first that shows that the service has trouble. Raises nothing; a cancelled one was carried
    out or not."""
    waiting = deque(posts)

    async def one() -> None:
        while waiting:
            turn = _Turn(waiting)
            await in_lone_thread(turn.take, limiter, turn.interrupt)

    async with trio.open_nursery() as nursery:
        for _ in range(min(threads, len(posts))):
            nursery.start_soon(one)


class _Turn:
    """What one thread does in one go."""

    def __init__(self, waiting: deque[Post]) -> None:
        self._waiting = waiting
        self._under_way: Posting | None = None
        self._cut = False

    def interrupt(self) -> None:
        self._cut = True
        if self._under_way is not None:
            self._under_way.interrupt()

    def take(self) -> None:
        end = time.monotonic() + TURN
        while self._take_one() and time.monotonic() < end:
            pass

    def _take_one(self) -> bool:
        """Whether there may be another one to take."""
        try:
            each = self._waiting.popleft()
        except IndexError:
            return False
        self._under_way = each.posting
        if self._cut:
            return False
        try:
            each.thing = each.posting.put(each.read())
        except (Missing, Changed, Refused):
            return True
        except Exception:  # whatever it is: the ordinary way meets it again, and tells it
            self._waiting.clear()
        return True
