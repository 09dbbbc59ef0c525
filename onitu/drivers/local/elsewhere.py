"""Hints where there is no inotify: `watchfiles` tells what it saw; it pairs no renames."""

from __future__ import annotations

import os

import trio

from onitu.model import paths
from onitu.plug.driver import Hint, HintKind


async def watch_elsewhere(root: str, hints: trio.MemorySendChannel[Hint], ready: trio.Event) -> None:
    """Send a hint for each change below `root` until cancelled."""
    import watchfiles  # only where it is needed; not installed on Linux

    stop = trio.Event()
    real = os.path.realpath(root)  # noqa: ASYNC240
    try:
        # Without the default filter, which hides what editors and tools write, and with a short debounce. What it
        # starts to watch late, the scan that follows `ready` sees.
        changes = watchfiles.awatch(real, watch_filter=None, debounce=100, step=20, stop_event=stop, recursive=True)
        ready.set()
        async for batch in changes:
            names = [os.fsencode(name) for _, name in batch]
            for hint in await trio.to_thread.run_sync(_hints, os.fsencode(real), names):
                await hints.send(hint)
    finally:
        stop.set()


def _hints(root: bytes, names: list[bytes]) -> list[Hint]:
    found = []
    for name in names:
        path = os.path.relpath(name, root)
        if path == b".":
            found.append(Hint(HintKind.OVERFLOW if os.path.isdir(root) else HintKind.LOST))
        elif path.split(b"/", 1)[0] not in (paths.PRIVATE, b".."):
            directory = os.path.isdir(name) and not os.path.islink(name)
            found.append(Hint(HintKind.CHANGED, path, deep=directory, directory=directory))
    return found
