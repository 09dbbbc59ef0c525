"""A directory that is renamed while it runs, stage by stage: what is at its new place is listed, found to have moved
and read; each file's move is decided; and each is renamed on the other side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks import processes
from onitu.drivers.local import LocalDriver
from onitu.model import paths
from onitu.plug.report import Findings, Reporter
from onitu.plug.scan import Scan

from .desk import DECIDED, MESSAGES, STORE, Desk, Took, carried_out, clocked
from .first import HAS
from .nothing import KNOWN, Knowing, known

FOUND, DONE = "list what moved, and read it", "rename it on the other side"
STAGES = (FOUND, MESSAGES, DECIDED, STORE, DONE)


async def carried(at: Desk, drivers: Mapping[str, LocalDriver], roots: Mapping[str, Path], name: str) -> Took:
    """Rename this directory of `HAS`, and carry that to the others."""
    took = Took(float)
    rows = (await known(at, drivers, took))[HAS]
    del took[KNOWN], took[MESSAGES]  # a run that goes on asks for the one directory only
    before = processes.used([at.store.pid])
    old, new = os.fsencode(name), os.fsencode(f"{name} renamed")
    (roots[HAS] / name).rename(roots[HAS] / os.fsdecode(new))
    floor = Knowing(drivers[HAS], rows)
    with clocked(took, FOUND):
        findings = Findings()
        findings.miss(floor, [row for row in rows[paths.ROOT] if row.path == old] + rows[old])
        findings.stands += [entry for entry in await floor.stat([new]) if entry is not None]
        await Scan(floor, Reporter(floor, lambda path: None)).run([new], findings)
    for start in range(0, len(floor.gathered), 256):
        await at.tell(HAS, floor.gathered[start : start + 256], took)
    while any([await carried_out(at, other, driver, roots, took, DONE) for other, driver in drivers.items()]):
        pass
    took[STORE] = processes.used([at.store.pid]) - before
    return took
