"""Calls to a service: a number of them at a time, tried again where that may help, their troubles told in sentences.

What is moved is kept to the service's bandwidth here, too.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import logbook
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.plug.bell import Throttle
from onitu.plug.counters import Counters
from onitu.plug.driver import Refused

from .content import PIECE, Content
from .interface import Busy, Changed, Lost, Missing, Posting, Remote

if TYPE_CHECKING:
    import outcome

T = TypeVar("T")

TRIES = 5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""A call is tried so often, after a pause of this many seconds that doubles each time, up to the longest; a service
that says when to come back (`Retry-After`) is obeyed up to the longest too, and then told as busy."""

WORTH_TELLING = 1.0
"""Seconds of a pause from which on people are told of it."""

log = logbook.Logger("remote")


class Calls:
    """What all calls to one replica share. Each try of one counts as one of `requests` in the counters, unless the
    remote counts them itself.

    Attributes:
        up, down: what limits the bytes to the service, and from it, which all its replicas share.
        on_wait: called where what `waits` says has changed.
    """

    def __init__(
        self,
        remote: Remote,
        service: str,
        limiter: trio.CapacityLimiter,
        counters: Counters,
        up: Throttle | None = None,
        down: Throttle | None = None,
    ) -> None:
        self.up, self.down = up or Throttle(0), down or Throttle(0)
        self.remote = remote
        self.service = service
        self.counters = counters
        self.on_wait: Callable[[], None] = lambda: None
        self._waits: dict[object, str] = {}
        self._limiter = limiter

    @property
    def waits(self) -> str:
        """For what one of the calls waits that is to be tried again; empty: none does."""
        return next(iter(self._waits.values()), "")

    async def call(
        self,
        doing: str,
        path: bytes,
        act: Callable[[], Awaitable[T]],
        quiet: float | None = None,
        tries: int = TRIES,
        patient: bool = True,
    ) -> T:
        """The result of a call. `doing`: "read", "write", for sentences; `quiet`: seconds that it may take, None: the
        remote's own, infinite: it sees to that itself; `patient`: whether it is tried again where the service is not
        reached at all.

        Raises:
            Missing, Changed: see `interface`.
            Refused: with a sentence that names service, path and cause.
            Unavailable: the service is not reached, or cannot be used.
        """
        pause = FIRST_PAUSE
        for attempt in range(1, tries + 1):
            try:
                return await self._once(act, self.remote.quiet if quiet is None else quiet)
            except Busy as error:
                wait = pause if error.after is None else max(error.after, 0.0)
                if attempt == tries or wait > LONGEST_PAUSE or (isinstance(error, Lost) and not patient):
                    raise self._told(doing, path, error) from error
                text = error.reason
                log.info("{}: cannot {} {} yet: {}", self.service, doing, paths.show(path) or "the root", text)
            except Refused as error:
                raise Refused(error.trouble, self._sentence(doing, path, error.reason)) from error
            with self._telling(f"{text}, again in {wait:.0f} s" if wait >= WORTH_TELLING else ""):
                await trio.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Tell, while the block lasts, for what it waits; empty: that is not worth it."""
        call = object()
        if what:
            self._waits[call] = what
            self.on_wait()
        try:
            yield
        finally:
            if self._waits.pop(call, ""):
                self.on_wait()

    def paced(self, content: Content) -> Content:
        """The content, which from here on is read no faster than it may go to the service."""
        content.pace = lambda amount: _by_pieces(self.up, amount)
        return content

    async def came(self, data: bytes) -> bytes:
        """Bytes of a file that came from the service, as soon as so many may have come."""
        await _by_pieces(self.down, len(data))
        self.count("read_bytes", len(data))
        return data

    def count(self, name: str, amount: int) -> None:
        self.counters.add(name, amount)

    def answered(self, posting: Posting) -> None:
        """Count what it sent and got."""
        self.count("requests", posting.requests)
        self.count("received_bytes", posting.received)

    async def _once(self, act: Callable[[], Awaitable[T]], quiet: float) -> T:
        if not self.remote.counts_requests:
            self.count("requests", 1)
        with self.translated():
            async with self._limiter:
                with trio.move_on_after(quiet):
                    return await act()
        raise Busy(f"no answer for {quiet:g} s")

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the block as those of the interface."""
        try:
            yield
        except (Missing, Changed, Busy, Refused, Unavailable, NotImplementedError):
            raise
        except Exception as error:
            raise self.remote.translate(error) from error

    def _told(self, doing: str, path: bytes, error: Busy) -> Refused | Unavailable:
        sentence = self._sentence(doing, path, error.reason)
        return Unavailable(sentence) if isinstance(error, Lost) else Refused(Trouble.IO, sentence)

    def _sentence(self, doing: str, path: bytes, cause: str) -> str:
        return f"{self.service}: cannot {doing} {paths.show(path) or 'the root'}: {cause}"


async def _by_pieces(throttle: Throttle, amount: int) -> None:
    """Wait until so many bytes may go, all but the last piece of which are on their way by then."""
    for done in range(0, amount, PIECE):
        await throttle.take(min(PIECE, amount - done))


async def each(act: Callable[[T], Awaitable[None]], items: Sequence[T]) -> None:
    """Do it for all of them at the same time (the calls in it are limited). Raises the first `Unavailable`, bare."""
    failure: Unavailable | None = None
    async with trio.open_nursery() as nursery:

        async def one(item: T) -> None:
            nonlocal failure
            try:
                await act(item)
            except Unavailable as error:
                failure = failure or error
                nursery.cancel_scope.cancel()

        for item in items:
            nursery.start_soon(one, item)
    if failure is not None:
        raise failure


async def in_lone_thread(act: Callable[[], T], limiter: trio.CapacityLimiter, interrupt: Callable[[], object]) -> T:
    """As `in_thread`, for what never calls back into Trio (`trio.from_thread`, and so not `Content.file`): each call
    takes about a third of the time."""
    task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
    cancelled = False

    def ended(result: outcome.Outcome[T]) -> None:
        token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    def abort(_: object) -> trio.lowlevel.Abort:
        nonlocal cancelled
        cancelled = True
        interrupt()
        return trio.lowlevel.Abort.FAILED

    holder = object()  # as a task may have several of the limiter's tokens
    await limiter.acquire_on_behalf_of(holder)
    try:
        trio.lowlevel.start_thread_soon(functools.partial(contextvars.copy_context().run, act), ended)
        try:
            result: T = await trio.lowlevel.wait_task_rescheduled(abort)
            return result
        finally:
            if cancelled:  # whatever came of it
                await trio.lowlevel.checkpoint_if_cancelled()
    finally:
        limiter.release_on_behalf_of(holder)


async def in_thread(
    act: Callable[[], T],
    limiter: trio.CapacityLimiter | None = None,
    seconds: float = float("inf"),
    interrupt: Callable[[], object] = lambda: None,
) -> T:
    """Run a blocking call of a library in a worker thread.

    The thread is always waited for: none outlives its call. After `seconds`, or when the task is cancelled,
    `interrupt` is called, once, on Trio's thread: it must not block, and has to make the call end soon (it closes the
    connection's socket, say). Raises
    `trio.TooSlowError` after `seconds`, whatever the call raised then.
    """
    ended = slow = False

    async def watch() -> None:
        nonlocal slow
        try:
            await trio.sleep(seconds)
            slow = True
        finally:
            if not ended:
                interrupt()

    result: list[T] = []
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            result.append(await trio.to_thread.run_sync(act, limiter=limiter))
        except Exception as error:  # a nursery would wrap it
            failure = error
        ended = True
        nursery.cancel_scope.cancel()
    if slow:
        raise trio.TooSlowError
    if failure is not None:
        raise failure
    return result[0]
