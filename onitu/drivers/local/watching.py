"""Watching: inotify on Linux; elsewhere what `watchfiles` tells; hints only, never the truth."""

from __future__ import annotations

import logbook
import trio

from onitu.plug.driver import Hint, HintKind

from . import syscalls
from .replica import Replica

_log = logbook.Logger("onitu.drivers.local")


async def watch(replica: Replica, hints: trio.MemorySendChannel[Hint], ready: trio.Event, poll: float) -> None:
    """See `Driver.watch`. `poll`: seconds between OVERFLOW hints where not everything can be watched."""
    if not syscalls.LINUX:
        from .elsewhere import watch_elsewhere

        await watch_elsewhere(replica.tree.root, hints, ready)
        return
    from .inotify import Inotify

    try:
        watcher = Inotify(replica, hints)
    except OSError as error:
        _log.warning("{} cannot be watched ({}); it is scanned every {:g} s", replica.tree.root, error.strerror, poll)
        ready.set()
        await _poll(hints, poll)
        return
    with watcher:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_poll_once_limited, watcher.limited, replica.tree.root, hints, poll)
            await watcher.run(ready)
            nursery.cancel_scope.cancel()


async def _poll_once_limited(limited: trio.Event, root: str, hints: trio.MemorySendChannel[Hint], poll: float) -> None:
    await limited.wait()
    _log.warning(
        "the system's limit of watches is reached, so parts of {} are only seen by a scan every {:g} s"
        " (raise fs.inotify.max_user_watches)",
        root,
        poll,
    )
    await _poll(hints, poll)


async def _poll(hints: trio.MemorySendChannel[Hint], poll: float) -> None:
    while True:
        await trio.sleep(poll)
        await hints.send(Hint(HintKind.OVERFLOW))
