"""Changes on both sides since the last run, stage by stage: what is known is looked up, all is listed and compared,
what changed is read and decided, and what is ordered is carried out on the other side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio

from benchmarks import processes
from onitu.drivers.local import LocalDriver
from onitu.model import paths
from onitu.plug.report import Reporter
from onitu.plug.scan import Scan

from .desk import DECIDED, MESSAGES, STORE, Desk, Took, carried_out, clocked
from .nothing import KNOWN, Knowing, known

COMPARED, DONE = "list the files, compare, and read what changed", "carry out what was ordered"
STAGES = (KNOWN, COMPARED, MESSAGES, DECIDED, STORE, DONE)
HELD_BACK = 3.0
"""Seconds after which no more orders come: the guard holds deletions back until a burst of them is over, one second."""


async def carried(at: Desk, drivers: Mapping[str, LocalDriver], roots: Mapping[str, Path]) -> Took:
    """Carry what changed in replicas that were the same, and known."""
    took = Took(float)
    before = processes.used([at.store.pid])
    rows = await known(at, drivers, took)
    for name, driver in drivers.items():
        floor = Knowing(driver, rows[name])
        with clocked(took, COMPARED):
            await Scan(floor, Reporter(floor, lambda path: None)).run([paths.ROOT])
        for start in range(0, len(floor.gathered), 256):
            await at.tell(name, floor.gathered[start : start + 256], took)
    ordered = trio.current_time()
    while trio.current_time() - ordered < HELD_BACK:
        for name, driver in drivers.items():
            if await carried_out(at, name, driver, roots, took, DONE):
                ordered = trio.current_time()
        await trio.sleep(0.05)  # the guard
    took[STORE] = processes.used([at.store.pid]) - before
    return took
