"""A look with nothing to do, stage by stage: what is known of both replicas is read from the store and told to their
drivers, which list everything and compare."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import processes
from onitu.drivers.local import LocalDriver
from onitu.model import paths
from onitu.plug.floor import DIRECTORIES, Floor
from onitu.plug.lookups import Lookups
from onitu.plug.outbox import Outbox
from onitu.plug.report import Reporter
from onitu.plug.scan import Scan
from onitu.plug.told import Told
from onitu.wire.messages import Index, Known, Lookup

from .desk import FOLDER, MESSAGES, STORE, Desk, clocked

KNOWN = "look up what each service is known to hold"
COMPARED = "list the files, and compare"
STAGES = (KNOWN, STORE, MESSAGES, COMPARED)


class Knowing(Floor):
    """A floor that was told all rows before, by directory."""

    def __init__(self, driver: LocalDriver, rows: Mapping[bytes, Sequence[Known]]) -> None:
        told = Told()
        outbox = Outbox(FOLDER, "epoch", told, lambda: None)
        super().__init__(driver, FOLDER, (), outbox, told, Lookups(lambda: None))
        self._rows = rows

    async def rows(self, directories: Sequence[bytes], known: bool = True) -> list[dict[bytes, Known]]:
        return [self.told.overlay(directory, self._rows[directory]) for directory in directories]


def bare(roots: Sequence[Path]) -> Counter[str]:
    """The system calls alone: each directory listed, and each file looked at."""
    took: Counter[str] = Counter()
    with clocked(took, COMPARED):
        for root in roots:
            for directory in root.iterdir():
                with os.scandir(directory) as listing:
                    for item in listing:
                        item.stat(follow_symlinks=False)
    return took


async def looked(at: Desk, drivers: dict[str, LocalDriver]) -> Counter[str]:
    """A look at replicas that are the same, and known."""
    took: Counter[str] = Counter()
    at.referee.view.forget()  # as at a start
    before = processes.used([at.store.pid])
    (top,) = await next(iter(drivers.values())).scan(FOLDER, [paths.ROOT])
    directories = [paths.ROOT, *sorted(entry.path for entry in top.entries)]
    rows: dict[str, dict[bytes, list[Known]]] = {name: {d: [] for d in directories} for name in drivers}
    for start in range(0, len(directories), DIRECTORIES):
        portion = tuple(directories[start : start + DIRECTORIES])
        for name in drivers:  # in turns, as they ask
            await at.asked(partial(at.referee.lookup, name, Lookup(start, FOLDER, portion)), took, KNOWN)
            for index in at.received(name, Index, took):
                for directory, told in zip(portion, index.directories, strict=True):
                    rows[name][directory] += told
    took[STORE] = processes.used([at.store.pid]) - before
    for name, driver in drivers.items():
        floor = Knowing(driver, rows[name])
        with clocked(took, COMPARED):
            await Scan(floor, Reporter(floor, lambda path: None)).run([paths.ROOT])
        assert floor.outbox.position == 0, "there was something to tell"
    return took
