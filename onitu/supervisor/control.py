"""Questions to a run: some are answered here, the others go on to the Referee unchanged.

Answered here, also while the Referee is down:

- `ping`: `{"pid"}`.
- `status`: what the Referee says, and beside it `run` (`name`, `state`, `pid`, `since`, `phase`), `processes` (for each
  `name`, `pid`, `state`, `restarts`, `since`, `reason`, `rss` in bytes), `referee` (empty, or why it did not answer).
- `retry` (`process`: the name of a process or of a service; left out: all that failed): `{"retried": [names]}`.
- `stop`: `{"pid"}`, and the run ends. The end of a process can lose an answer: the lock on the state directory tells.

Everything else (`pause`, `rescan`, `approve`, …) is the Referee's. `resume` is too, and also retries failed drivers.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import logbook
import trio

from onitu.model.errors import OnituError, PeerGone
from onitu.supervisor.child import Child, State
from onitu.wire.messages import Answer, Ask
from onitu.wire.sockets import Context, Socket, ask

STATUS_TIMEOUT = 4.0
"""Seconds that the Referee has for its part of a status: less than `ask` waits for the whole, if not told otherwise."""

TIMEOUT = 30.0
"""Seconds that it has for everything else, unless the question names a `timeout` of its own."""

AT_ONCE = 64
"""Questions that are with the Referee at the same time; more of them wait."""

log = logbook.Logger("supervisor")


class Control:
    """Answers questions, from its socket (`serve`) and in the process (`answer`).

    Attributes:
        phase: `starting`, `running`, `stopping`; kept by the supervisor.
    """

    def __init__(
        self,
        context: Context,
        referee: str,
        children: Mapping[str, Child],
        stop: Callable[[], None],
        about: Mapping[str, Any],
    ) -> None:
        """`referee` is the Referee's endpoint; `about` is what status says of the run, beside its phase."""
        self.phase = "starting"
        self._context = context
        self._referee = referee
        self._children = children
        self._stop = stop
        self._about = {**about, "pid": os.getpid(), "since": time.time()}
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._own: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "ping": self._ping,
            "status": self._status,
            "retry": self._retry,
            "resume": self._resume,
            "stop": self._asked_to_stop,
        }

    async def answer(self, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question.

        Raises:
            OnituError: the question cannot be answered; the text says why.
            PeerGone: the Referee did not answer in time.
        """
        own = self._own.get(what)
        if own is not None:
            return await own(arguments)
        # Only these are counted: who waits for a long answer must not keep others from `status` and `stop`.
        async with self._limiter:
            return await self._pass_on(what, arguments)

    async def serve(self, socket: Socket) -> None:
        """Answer the questions that come through `socket` (a ROUTER) until cancelled. Each has a deadline."""
        async with trio.open_nursery() as nursery:
            while True:
                peer, message = await socket.receive()
                if isinstance(message, Ask):
                    nursery.start_soon(self._reply, socket, peer, message)
                else:
                    log.warning("a {} on the control channel is no question: dropped", type(message).__name__)

    async def _reply(self, socket: Socket, peer: bytes, question: Ask) -> None:
        try:
            answer = Answer(question.request, await self.answer(question.what, dict(question.arguments)))
        except OnituError as error:
            answer = Answer(question.request, error=str(error), gone=isinstance(error, PeerGone))
        except Exception as error:  # one wrong question must not end the run
            log.exception("{} could not be answered", question.what)
            answer = Answer(question.request, error=f"internal error: {type(error).__name__}: {error}")
        try:
            await socket.send(answer, peer)
        except PeerGone:
            log.debug("nobody waits any more for the answer to {}", question.what)

    async def _pass_on(self, what: str, arguments: dict[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:  # noqa: ASYNC109
        asked = arguments.get("timeout")
        if isinstance(asked, int | float) and math.isfinite(asked):
            timeout = max(timeout, asked + STATUS_TIMEOUT)
        answer: dict[str, Any] = {}
        error: OnituError | None = PeerGone(f"the Referee ended before it answered {what!r}; ask again")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_up_with_the_referee, nursery.cancel_scope)
            try:
                answer, error = await ask(self._referee, what, arguments, timeout, context=self._context), None
            except OnituError as caught:  # raised outside of the nursery, which would make a group of it
                error = caught
            nursery.cancel_scope.cancel()
        if error is not None:
            raise error
        return answer

    async def _give_up_with_the_referee(self, asking: trio.CancelScope) -> None:
        """A question dies with the Referee that got it: the next one never hears of it."""
        referee = self._children.get("referee")
        if referee is not None:
            await referee.becomes(State.STARTING, State.RUNNING)
            await referee.becomes(State.WAITING, State.FAILED, State.STOPPED)
            asking.cancel()

    async def _ping(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid()}

    async def _status(self, arguments: dict[str, Any]) -> dict[str, Any]:
        theirs: dict[str, Any] = {}
        referee = self._children.get("referee")
        if referee is not None and referee.pid is None and referee.reason:
            trouble = f"the Referee is not running: {referee.reason}"
        else:
            try:
                theirs, trouble = await self._pass_on("status", arguments, STATUS_TIMEOUT), ""
            except PeerGone:
                trouble = "the Referee does not answer"
        return {
            **theirs,
            "run": {**self._about, "phase": self.phase},
            "processes": [_row(child) for child in self._children.values()],
            "referee": trouble,
        }

    async def _retry(self, arguments: dict[str, Any]) -> dict[str, Any]:
        wanted = arguments.get("process")
        if wanted is None:
            chosen = [child for child in self._children.values() if child.state is State.FAILED]
        else:
            chosen = [child for name, child in self._children.items() if wanted in (name, name.removeprefix("driver "))]
            if not chosen:
                raise OnituError(f"there is no process {wanted!r}: {', '.join(self._children)}")
        return {"retried": [child.job.name for child in chosen if child.retry()]}

    async def _resume(self, arguments: dict[str, Any]) -> dict[str, Any]:
        await self._retry({"process": arguments.get("service")})
        return await self._pass_on("resume", arguments)

    async def _asked_to_stop(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        self._stop()
        return {"pid": os.getpid()}


def _row(child: Child) -> dict[str, Any]:
    return {
        "name": child.job.name,
        "pid": child.pid,
        "state": child.state.value,
        "restarts": child.restarts,
        "since": child.since,
        "reason": child.reason,
        "rss": _resident(child.pid),
    }


def _resident(pid: int | None) -> int | None:
    """Bytes of memory of a process; None where that cannot be known."""
    if pid is None or not sys.platform.startswith("linux"):
        return None
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return None
