"""Glances before a run: each driver looks at its service while nobody has told it to do anything yet.

The drivers of a one-off run are forked early (`onitu.supervisor.headstart`), and would wait until the store and the
Referee are there. Where the state is sealed they look meanwhile whether all is as the seal says. If all of them find it
so, the run is over before it began. A driver that is told what to do leaves off looking.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
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


def unchanged(drivers: Iterable[Fork], seal: Seal) -> bool:
    """Whether all drivers find their services as they were when the state was sealed. It blocks, for `PATIENCE` at most
    and what the files take."""
    files = sum(int(folder.get("files", 0)) for folder in seal.status.get("folders", {}).values())
    deadline = time.monotonic() + PATIENCE + EACH * files
    left = {driver.stdout for driver in drivers}
    poll = select.poll()
    for stdout in left:
        poll.register(stdout, select.POLLIN)
    while left:
        found = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not found or any(os.read(stdout, 1) != _UNCHANGED for stdout, _ in found):
            return False
        for stdout, _ in found:
            poll.unregister(stdout)
            left.discard(stdout)
    return True


def look(settings: Settings, service: str, seal: Seal) -> None:
    """The glance of one driver, in its own process: what comes of it is a byte on standard output. It ends early when
    something comes in on standard input: the charter, or its end."""
    import trio

    from onitu.plug.glance import unchanged

    async def glance() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_told, nursery.cancel_scope)
            found = await unchanged(settings, service, seal.replicas[service])
            os.write(1, _UNCHANGED if found else _CHANGED)
            nursery.cancel_scope.cancel()

    trio.run(glance)


async def _until_told(scope: trio.CancelScope) -> None:
    import trio

    await trio.lowlevel.wait_readable(0)
    scope.cancel()
