"""A run with nothing to do, which is a glance: what stands on both replicas is counted. And what a run that has
something to do begins with: what is known of the replicas is read from the store and told to their drivers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from onitu.drivers.local import LocalDriver
from onitu.model import paths
from onitu.model.events import Event
from onitu.model.versions import Kind
from onitu.plug.floor import DIRECTORIES, Floor
from onitu.plug.lookups import Lookups
from onitu.plug.outbox import Outbox
from onitu.plug.told import Told
from onitu.wire.messages import Index, Known, Lookup

from .desk import FOLDER, Desk, Took, clocked

COUNTED = "count what stands on both sides"
STAGES = (COUNTED,)
KNOWN = "look up what each service is known to hold"


class Gathering(Outbox):
    """An outbox that has room for everything."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.events: list[Event] = []

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()

    def put(self, events: Sequence[Event], scanned: bool = False) -> None:
        self.events += events
        self.position += len(events)


class Knowing(Floor):
    """A floor that was told all rows before, by directory."""

    def __init__(self, driver: LocalDriver, rows: Mapping[bytes, Sequence[Known]]) -> None:
        told = Told()
        outbox = Gathering(FOLDER, "epoch", told, lambda: None)
        super().__init__(driver, FOLDER, (), outbox, told, Lookups(lambda: None))
        self.gathered = outbox.events
        self._rows = rows

    async def rows(
        self, directories: Sequence[bytes], known: bool = True, strays: dict[bytes, Known] | None = None
    ) -> list[dict[bytes, Known]]:
        return [self.told.overlay(directory, self._rows.get(directory, ())) for directory in directories]


def bare(roots: Sequence[Path]) -> Took:
    """The system calls alone: each directory listed, and each file looked at."""
    took = Took(float)
    with clocked(took, COUNTED):
        for root in roots:
            for directory in root.iterdir():
                with os.scandir(directory) as listing:
                    for item in listing:
                        item.stat(follow_symlinks=False)
    return took


async def counted(drivers: Mapping[str, LocalDriver]) -> Took:
    """A glance at each replica."""
    took = Took(float)
    with clocked(took, COUNTED):
        for driver in drivers.values():
            assert await driver.tally(FOLDER, (), time.time_ns()) is not None, "there was something else"
    return took


async def known(at: Desk, drivers: Mapping[str, LocalDriver], took: Took) -> dict[str, dict[bytes, list[Known]]]:
    """What each service is known to hold, by directory, as their drivers ask for it at a start."""
    at.referee.view.forget()
    directories = [paths.ROOT]
    rows: dict[str, dict[bytes, list[Known]]] = {name: {} for name in drivers}
    while directories:
        portion, directories = tuple(directories[:DIRECTORIES]), directories[DIRECTORIES:]
        below: dict[bytes, None] = {}
        for name in drivers:  # in turns, as they ask
            await at.asked(partial(at.referee.lookup, name, Lookup(1, FOLDER, portion)), took, KNOWN)
            for directory in portion:
                rows[name][directory] = []
            for index in at.received(name, Index, took):
                for directory, told in zip(portion, index.directories, strict=True):
                    rows[name][directory] += told
                    below |= {row.path: None for row in told if row.version.kind is Kind.DIRECTORY}
        directories += sorted(below)
    return rows
