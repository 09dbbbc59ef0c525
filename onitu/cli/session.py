"""A run inside the command's own process: `onitu sync`, `onitu start`, and `onitu check` without a daemon."""

from __future__ import annotations

import functools
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from onitu.model.errors import PeerGone
from onitu.model.settings import Settings

from . import asking, output
from .asking import AGAIN, GivenUp
from .journal import Follower

if TYPE_CHECKING:
    from onitu.supervisor.headstart import HeadStart
    from onitu.supervisor.run import Supervisor
    from onitu.supervisor.seal import Seal
    from onitu.wire.messages import News

T = TypeVar("T")

GLANCE = 0.2
"""Seconds between two looks at the progress."""
LATEST = 60.0
"""Seconds after which the journal is looked at although no news came of it: news can be lost."""


def run(settings: Settings, main: Callable[[HeadStart], Awaitable[T]], at_rest: Callable[[Seal], T] | None = None) -> T:
    """Run an async function that is to open a `session` of these settings, with a head start. Where `at_rest` is given,
    and a glance shows that everything is as it was at the end of the last run, that is called in its place.

    Raises:
        StateError: another run uses the state, or the state cannot be used.
    """
    from onitu.supervisor.headstart import begun

    # From now on an interrupt ends the run, as it does once Trio has it, also where a shell had it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with begun(settings, glance=at_rest is not None) as head_start:
        if at_rest is not None and head_start.seal is not None:
            return at_rest(head_start.seal)
        return asking.run(functools.partial(main, head_start))


def session(
    settings: Settings, head_start: HeadStart | None = None, *, verbose: bool = False, quiet: bool = False
) -> AbstractAsyncContextManager[Supervisor]:
    """Run the settings for as long as the block lasts.

    The block is cancelled by SIGINT, SIGTERM and SIGHUP, which end the run in order (`Supervisor.interrupted` tells so
    then), and by a stop from outside; what comes after it is done in any case.

    Raises:
        StateError: another run uses the state, or the state cannot be used.
    """
    from onitu.supervisor.logs import Places
    from onitu.supervisor.run import running

    level = "DEBUG" if verbose else "INFO"
    terminal = "ERROR" if quiet else "INFO" if verbose else "WARNING"
    places = Places(terminal=terminal, directory=Path(settings.state), level=level)
    return running(settings, log_level=level, places=places, signals=True, head_start=head_start)


async def settled(supervisor: Supervisor, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The status once nothing moves any more; `show` is given one every `GLANCE` seconds until then.

    Raises:
        GivenUp: a process of the run died too often and was given up, so that it may never settle.
    """
    await supervisor.started.wait()
    while True:
        status = await answer(supervisor, "settled", timeout=GLANCE)
        show(status)
        if output.is_settled(status):
            return status


async def answer(supervisor: Supervisor, what: str, **arguments: Any) -> dict[str, Any]:
    """What the run answers, as soon as it does: while one of its processes is being started again, it is asked again.

    Raises:
        GivenUp: a process died too often and was given up, so that there may never be an answer.
        OnituError: the answer is an error.
    """
    import trio

    while True:
        if supervisor.failed:
            reasons = "; ".join(f"{name}: {supervisor.children[name].reason}" for name in supervisor.failed)
            raise GivenUp(f"given up, see onitu.log in {supervisor.settings.state}: {reasons}")
        try:
            return await supervisor.ask(what, **arguments)
        except PeerGone:
            await trio.sleep(AGAIN)


async def follow_news(supervisor: Supervisor, tell: Callable[[News], None]) -> None:
    """Give all news to `tell`, until cancelled; of decisions only that there were some. They are lossless in the
    journal, and so many that nobody is to send them here."""
    from onitu.wire.messages import News
    from onitu.wire.sockets import Kind, Options, Socket

    options = Options(topics=("decided", "trouble", "progress"))
    async with Socket.connect(supervisor.context, Kind.SUB, supervisor.endpoints.news, options=options) as socket:
        while True:
            _, message = await socket.receive()
            if isinstance(message, News):
                tell(message)


def follower(supervisor: Supervisor, since: float) -> Follower:
    """The decisions of this run, from `since` (seconds since 1970) on."""

    async def entries(limit: int, after: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = (await supervisor.ask("log", limit=limit, after=dict(after)))["entries"]
        except PeerGone:
            return []
        return found

    return Follower(entries, since)
