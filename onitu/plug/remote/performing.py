"""A batch of orders, carried out at the same time as far as they do not touch each other's paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from onitu.model import paths
from onitu.model.events import Event
from onitu.model.orders import Order

from .acting import Acting
from .calls import each
from .posting import Post, post
from .spool import Batch


class Performing:
    """See the module. `run` it once."""

    def __init__(self, actings: Sequence[Acting], batch: Batch, small: int, limiter: trio.CapacityLimiter) -> None:
        """`batch`: the contents of small files that lie on this host; `small`: bytes of the largest one that a thread
        may put (`posting`); `limiter`: of the calls to the service."""
        self._actings = actings
        self._batch = batch
        self._small = small
        self._limiter = limiter
        self._before = waits_for([acting.order for acting in actings])
        self._ended = [trio.Event() for _ in actings]
        self._events: dict[int, list[Event]] = {}

    async def run(self) -> list[list[Event]]:
        """The events of each order. Raises `Unavailable`."""
        posts = self._posts()
        rest = sorted(set(range(len(self._actings))) - set(posts))
        acts: list[Callable[[], Awaitable[None]]] = [partial(self._one, index) for index in rest]
        if posts:
            acts.append(partial(self._post, posts))
        await each(lambda act: act(), acts)
        return [self._events[index] for index in range(len(self._actings))]

    async def _one(self, index: int) -> None:
        await self._wait(index)
        self._end(index, await self._actings[index].carry_out())

    def _posts(self) -> list[int]:
        """Those that may be posted, none of which waits for another of them."""
        found: list[int] = []
        late: set[int] = set()
        for index, acting in enumerate(self._actings):
            if not late.isdisjoint(self._before[index]):
                late.add(index)
            elif acting.order.version.size <= self._small and acting.may_post():
                late.add(index)
                found.append(index)
        return found

    async def _post(self, indexes: Sequence[int]) -> None:
        """Put those that can be by threads, and carry out the rest."""
        posts: dict[int, Post] = {}
        for index in indexes:
            await self._wait(index)
            acting = self._actings[index]
            if (posting := acting.posting()) is not None:
                content = acting.content
                posts[index] = Post(posting, content.pread if content else self._batch.alone(acting.order.number))
        await post(list(posts.values()), self._limiter, int(self._limiter.total_tokens))
        for index, it in posts.items():
            acting = self._actings[index]
            acting.replica.calls.answered(it.posting)
            if it.thing is not None:
                self._end(index, acting.posted(it.thing))
        await each(self._one, [index for index in indexes if index not in self._events])

    async def _wait(self, index: int) -> None:
        for other in self._before[index]:
            await self._ended[other].wait()

    def _end(self, index: int, events: list[Event]) -> None:
        self._events[index] = events
        self._ended[index].set()


def waits_for(orders: Sequence[Order]) -> list[set[int]]:
    """For each order the indexes of those before it that touch one of its paths, or one above or below: they keep their
    sequence. (Only the last one of each path needs to be known: that one waits for those before it.)"""
    at: dict[bytes, int] = {}  # the last that touched this path
    below: dict[bytes, set[int]] = {}  # those that touched something below it
    found: list[set[int]] = []
    for index, order in enumerate(orders):
        mine: set[int] = set()
        for path in touched(order):
            mine |= {at[near] for near in (path, *paths.ancestors(path)) if near in at}
            mine |= below.get(path, set())
        for path in touched(order):
            at[path] = index
            for above in paths.ancestors(path):
                below.setdefault(above, set()).add(index)
        found.append(mine)
    return found


def touched(order: Order) -> Sequence[bytes]:
    return [path for path in (order.path, order.target, order.keep) if path]
