"""`onitu check`: do all replicas hold what the state says, and is that what they shall hold?

Two halves, at the same time. Each driver audits its replica (`onitu.plug.audit`): what stands there against what is
known of it. Meanwhile the nodes are gone through: what is known of each service against the head. Both look a second
time at what they found, once all that was under way is done. Nothing is changed by a check.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from onitu.model import paths
from onitu.wire.messages import Audit, Audited, Hello

from .folder import FolderReferee
from .planner import plan
from .view import Need

if TYPE_CHECKING:
    from .service import RefereeService

LIMIT = 10_000
"""Disagreements that are listed; the rest is only counted."""

SETTLING = 20.0
"""Seconds that are waited for what is under way: before a check begins, and before it looks a second time."""

PATIENCE = 60.0
"""Seconds without a word after which an audit is taken for dead, beside the time for what it said that it reads."""

SLOWEST = 1_000_000
"""Bytes a second that are read at least."""

Sentence = Callable[[FolderReferee, str, bytes], Awaitable[str]]
"""What a service holds at a path and what comes next there, in words (`onitu explain`)."""


class AuditRun(msgspec.Struct, eq=False):
    """The audit of one replica, as far as its driver has told.

    Attributes:
        folder: the folder.
        service: whose replica.
        checked: paths compared.
        read: bytes of content read.
        found: the first of what disagrees.
        more: how much disagrees beside that.
        trouble: why not everything was compared; empty: it was.
        done: set at the end, whatever it was.
    """

    folder: str
    service: str
    checked: int = 0
    read: int = 0
    found: list[tuple[bytes, str]] = msgspec.field(default_factory=list)
    more: int = 0
    trouble: str = ""
    done: trio.Event = msgspec.field(default_factory=trio.Event)
    deadline: float = msgspec.field(default_factory=lambda: trio.current_time() + PATIENCE)

    def hear(self, report: Audited) -> None:
        """The driver's next word."""
        self.checked, self.read = report.checked, report.read
        room = LIMIT - len(self.found)
        self.found += [(one.path, one.what) for one in report.found[:room]]
        self.more += len(report.found[room:])
        self.deadline = trio.current_time() + PATIENCE + report.reading / SLOWEST
        if report.done:
            self.end(report.trouble)

    def end(self, trouble: str) -> None:
        """It is over; `trouble` says why, where it is not complete."""
        if not self.done.is_set():
            self.trouble = trouble
            self.done.set()

    async def over(self) -> None:
        """Wait for the end; a driver that says nothing for too long is one."""
        while not self.done.is_set():
            with trio.move_on_at(self.deadline):
                await self.done.wait()
            if trio.current_time() >= self.deadline:
                self.end(f"its driver said nothing for {PATIENCE:g} s")


class Audits:
    """All audits that go on, by number. One check at a time; others wait for it."""

    def __init__(self) -> None:
        self.turn = trio.Lock()
        self._open: dict[int, AuditRun] = {}

    def hear(self, service: str, report: Audited) -> AuditRun | None:
        """A report; None: nobody waits for it any more."""
        run = self._open.get(report.number)
        if run is None or (run.service, run.folder) != (service, report.folder):
            return None
        run.hear(report)
        return run

    def greeted(self, service: str, hello: Hello, same: bool) -> None:
        """A driver said Hello. `same`: it is the process that there was before."""
        for run in self._open.values():
            state = hello.replicas.get(run.folder)
            if run.service == service and not (same and state is not None and not state.trouble):
                run.end((state.trouble if state is not None else "") or "its driver was started anew")

    def lost(self, service: str) -> None:
        """A driver fell silent."""
        for run in self._open.values():
            if run.service == service:
                run.end("its driver fell silent")

    async def audit(self, referee: RefereeService, folder: FolderReferee, run: AuditRun) -> None:
        """Have a replica audited, and wait for the end of that."""
        link = folder.links[run.service]
        if not link.usable:
            run.end(link.trouble or "its driver is not there")
            return
        number = referee.outside.bits(60) | 1  # another run of the Referee must not take its reports for its own
        self._open[number] = run
        try:
            if not await referee.send(run.service, Audit(run.folder, number)):
                run.end("its driver is not there")
            await run.over()
        finally:
            del self._open[number]
            if run.trouble or not run.done.is_set():
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                    await referee.send(run.service, Audit(run.folder, 0))


async def check(
    referee: RefereeService, folders: Sequence[FolderReferee], sentence: Sentence, seconds: float
) -> dict[str, Any]:
    """Check these folders, for at most so many seconds.

    Returns:
        `disagreements`: rows of `folder`, `path`, `service` and `what` (`path` is empty where a whole replica could not
        be checked); `more`: how many are not listed; `checked`: paths compared, in all replicas together; `bytes`: what
        was read for that.
    """
    runs = {(f.folder, service): AuditRun(f.folder, service) for f in folders for service in f.links}
    left: dict[str, list[tuple[str, bytes]]] = {}
    with trio.move_on_after(seconds) as scope:
        async with referee.audits.turn:
            await _settled(folders)
            async with trio.open_nursery() as nursery:
                for folder in folders:
                    for service in folder.links:
                        nursery.start_soon(referee.audits.audit, referee, folder, runs[folder.folder, service])
                    nursery.start_soon(_go_through, folder, left.setdefault(folder.folder, []))
            await _settled([folder for folder in folders if left[folder.folder]])
    rows: list[dict[str, Any]] = []
    for run in runs.values():
        if scope.cancelled_caught:
            run.end("there was no time left for it")
        rows += [_row(run.folder, run.service, paths.show(path), what) for path, what in run.found]
        if run.trouble:
            rows.append(_row(run.folder, run.service, "", f"not checked to its end: {run.trouble}"))
    for folder in folders:
        rows += await _still_left(folder, left.get(folder.folder, []), sentence)
    more = sum(run.more for run in runs.values()) + len(rows[LIMIT:])
    return {
        "disagreements": rows[:LIMIT],
        "more": more,
        "checked": sum(run.checked for run in runs.values()),
        "bytes": sum(run.read for run in runs.values()),
    }


async def _settled(folders: Sequence[FolderReferee]) -> None:
    """Until nothing is under way, or for as long as that is worth waiting for."""
    with trio.move_on_after(SETTLING):
        for folder in folders:
            await folder.settled.wait()


# --- the nodes ----------------------------------------------------------------------------------------------------


async def _go_through(folder: FolderReferee, left: list[tuple[str, bytes]]) -> None:
    """Find the services that do not hold what they shall, at every node."""
    async for page in folder.store.walk():
        wanted = [node.path for node in page]
        left += await folder.ask(functools.partial(_left, folder, wanted))
        del left[LIMIT:]


async def _left(folder: FolderReferee, wanted: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Where something is left to be done at these paths. In the folder's own task, from what is stored now: the page
    that named them may be of before a change."""

    def look() -> list[tuple[str, bytes]]:
        missing = folder.view.missing(wanted)
        if missing:
            raise Need(nodes=missing)
        everyone = frozenset(folder.links)
        return [
            (service, path)
            for path in wanted
            for service in folder.links
            if plan(folder.view, folder.rules, service, path, everyone).left
        ]

    return await folder.at_hand(look)


async def _still_left(
    folder: FolderReferee, left: Sequence[tuple[str, bytes]], sentence: Sentence
) -> list[dict[str, Any]]:
    """Of what was left, what still is, with the reason."""
    wanted = list(dict.fromkeys(path for _, path in left))
    still = set(await folder.ask(functools.partial(_left, folder, wanted))) if wanted else set()
    rows = []
    for service, path in left:
        if (service, path) in still:
            what = await folder.ask(functools.partial(sentence, folder, service, path))
            rows.append(_row(folder.folder, service, paths.show(path), what))
    return rows


def _row(folder: str, service: str, path: str, what: str) -> dict[str, Any]:
    return {"folder": folder, "path": path, "service": service, "what": what}
