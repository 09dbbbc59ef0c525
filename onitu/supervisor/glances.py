"""Glances before a run: whether all is as the seal of the state says, and so nothing to do.

For each service a process is forked, long before a driver could be: it has its eyes, and no socket of ours. Where the
driver brings a function for it (at a directory of this host), there is no Trio in it either. Meanwhile this process
goes on loading what a run needs, where there is a processor for that. If all of them find everything as it was, the run
is over before it began; else they have told all that they have to.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from onitu.model.settings import Settings

from .forks import Fork
from .seal import Seal

if TYPE_CHECKING:
    import trio

PATIENCE = 5.0
"""Seconds that a glance has, beside those for what it has to look at."""
EACH = 100e-6
"""Seconds for each file. (A run that finds the same out in another way needs about half of it; a service in a network
lists 1,000 in about a tenth of a second.)"""

_UNCHANGED, _CHANGED = b"=", b"!"


class Glances:
    """What comes of the glances at so many services."""

    def __init__(self, seal: Seal, services: int) -> None:
        files = sum(int(folder.get("files", 0)) for folder in seal.status.get("folders", {}).values())
        self._deadline = time.monotonic() + PATIENCE + EACH * files
        self._left = services
        self._poll = select.poll()

    def watch(self, looking: Fork) -> None:
        """Hear what comes of the glance of this process."""
        self._poll.register(looking.stdout, select.POLLIN)

    def unchanged(self, wait: bool) -> bool | None:
        """Whether all services are found as they were when the state was sealed; None: not of all of them it is told.
        `wait`: until it is, for `PATIENCE` at most and what the files take."""
        while self._left:
            found = self._poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000 if wait else 0)
            if not found:
                return False if wait else None
            for stdout, _ in found:
                if os.read(stdout, 1) != _UNCHANGED:
                    return False
                self._poll.unregister(stdout)
                self._left -= 1
        return True


def look(settings: Settings, service: str, seal: Seal) -> None:
    """The glance at one service, in a process of its own: what comes of it is a byte on standard output. It ends early
    when its standard input ends, as with the process that wanted to know."""
    from onitu.plug import catalogue

    at_once = catalogue.glance(settings.services[service].driver) is not None
    (_look_at_once if at_once else _look)(settings, service, seal)


def _look_at_once(settings: Settings, service: str, seal: Seal) -> None:
    """By the function that the driver brings for it."""
    from onitu.plug.glance import unchanged_at_once

    end = select.poll()
    end.register(0, select.POLLIN)

    def check() -> None:
        if end.poll(0):
            raise _Ended

    with contextlib.suppress(_Ended):
        _tell(unchanged_at_once(settings, service, seal.replicas[service], check))


def _look(settings: Settings, service: str, seal: Seal) -> None:
    """By its driver."""
    import trio

    from onitu.plug.glance import unchanged

    async def glance() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_ended, nursery.cancel_scope)
            _tell(await unchanged(settings, service, seal.replicas[service]))
            nursery.cancel_scope.cancel()

    trio.run(glance)


async def _until_ended(scope: trio.CancelScope) -> None:
    import trio

    await trio.lowlevel.wait_readable(0)
    scope.cancel()


class _Ended(BaseException):
    """Nobody wants to know any more."""


def _tell(unchanged: bool) -> None:
    os.write(1, _UNCHANGED if unchanged else _CHANGED)
