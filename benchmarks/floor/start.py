"""What it takes to start and to end: a run of `onitu sync` on two empty directories, taken apart.

Most of it is to load Python modules: once in the command, of which the other processes are forks, and the store's
client in the Referee. What the modules of others take, no change of ours makes less.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from benchmarks import processes
from onitu.store.embedded import Embedded, wait_ready

LIBRARIES = "import anyio._backends._trio, attrs, blake3, click, logbook, msgspec, trio, zmq"
OURS = "import onitu.cli.main, onitu.cli.sync, onitu.cli.urls, onitu.cli.session, onitu.supervisor.run, onitu.plug.run"
ALL_OF_IT = f"{LIBRARIES}; {OURS}; import onitu.drivers.local.driver"
A_GLANCE = (
    "import onitu.cli.main, onitu.cli.sync, onitu.cli.urls, onitu.cli.session, onitu.supervisor.headstart;"
    "import onitu.supervisor.glances, onitu.plug.glance, onitu.drivers.local.glance"
)
STAGES = (
    "the interpreter",
    "Trio, AnyIO, pyzmq, msgspec, attrs, click, Logbook, blake3: loaded",
    "Onitu's own modules: loaded",
    "the store's client, in the Referee: loaded",
    "the store: started and ended",
    "all else: five processes, their sockets, their looks, their end",
)


def taken(root: Path, empty: float) -> dict[str, float]:
    """Seconds of processor time of each stage, where a run on two empty directories takes `empty`."""

    def python(code: str) -> float:
        return processes.run([sys.executable, "-P", "-c", code]).processor

    nothing = python("pass")
    libraries = python(LIBRARIES)
    ours = python(ALL_OF_IT)
    client = python(f"{LIBRARIES}; import redis")
    known = [nothing, libraries - nothing, ours - libraries, client - libraries, _store(root)]
    return dict(zip(STAGES, [*known, empty - sum(known)], strict=True))


def _store(root: Path) -> float:
    """A server that is started, asked once and ended."""
    embedded = Embedded(str(root / "state"), str(root / "run"))
    embedded.prepare()
    process = subprocess.Popen(embedded.command(), stdout=subprocess.DEVNULL)
    trio.run(wait_ready, embedded.url, 20.0)
    used = processes.used([process.pid])
    process.terminate()
    process.wait()
    return used
