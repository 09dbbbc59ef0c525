"""Glances before a run: each service is looked at by a fork of its own, which loads little and starts nothing else.

They are made with the state locked, before Trio runs (`onitu.supervisor.forks`). Where all of them find what the seal
says, the run is over before it began.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, NoReturn

from onitu.model.settings import Settings

from . import forks
from .seal import Seal

if TYPE_CHECKING:
    import trio

PATIENCE = 5.0
"""Seconds that a glance has, beside those for what it has to look at."""
EACH = 100e-6
"""Seconds for each file. (A run that finds the same out in another way needs about half of it; a service in a network
lists 1,000 in about a tenth of a second.)"""

_UNCHANGED = 0
_CHANGED = 3


def unchanged(settings: Settings, seal: Seal) -> bool:
    """Whether all services are as they were when the state was sealed. It blocks, for `PATIENCE` at most and what the
    files take.

    Raises:
        OSError: there can be no more processes.
    """
    _load_what_all_need()
    files = sum(int(folder.get("files", 0)) for folder in seal.status.get("folders", {}).values())
    deadline = time.monotonic() + PATIENCE + EACH * files
    with contextlib.ExitStack() as stack:
        waiting = {}
        for name in settings.services:
            fork = forks.fork("onitu-glance", lambda name=name: _look(settings, name, seal))  # type: ignore[misc]
            stack.callback(fork.discard)
            waiting[os.pidfd_open(fork.pid)] = fork
            stack.callback(os.close, next(reversed(waiting)))
        return _all_say_so(list(waiting), deadline)


def _all_say_so(waiting: list[int], deadline: float) -> bool:
    poll = select.poll()
    for ended in waiting:
        poll.register(ended, select.POLLIN)
    left = set(waiting)
    while left:
        found = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not found:
            return False
        for ended, _ in found:
            result = os.waitid(os.P_PIDFD, ended, os.WEXITED | os.WNOWAIT)
            if result is None or result.si_code != os.CLD_EXITED or result.si_status != _UNCHANGED:
                return False
            poll.unregister(ended)
            left.discard(ended)
    return True


def _load_what_all_need() -> None:
    import trio  # noqa: F401

    import onitu.drivers.local
    import onitu.plug.glance  # noqa: F401


def _look(settings: Settings, service: str, seal: Seal) -> NoReturn:
    """The life of one fork."""
    import trio

    from onitu.plug.glance import unchanged

    async def look() -> bool:
        found = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_orphaned, nursery.cancel_scope)
            found = await unchanged(settings, service, seal.replicas[service])
            nursery.cancel_scope.cancel()
        return found

    os._exit(_UNCHANGED if trio.run(look) else _CHANGED)


async def _until_orphaned(scope: trio.CancelScope) -> None:
    """Standard input ends with the process that this one was forked from."""
    import trio

    await trio.lowlevel.wait_readable(0)
    scope.cancel()
