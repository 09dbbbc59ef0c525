"""A head start: what of a run is begun before Trio runs, while the rest of the program is still being loaded.

    with begun(settings) as head_start:
        trio.run(main, head_start)           # where `running(settings, head_start=head_start)` takes it over

The state directory is locked, the embedded store starts on one processor while the other loads code, and each child of
ours is forked as soon as what it needs is loaded (`onitu.supervisor.forks`). Where this process cannot fork, only the
lock is taken and the directories are made, and `running` starts the children itself.

Nothing heavy may be imported here at the top: the store would wait for it.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from onitu.model.settings import Settings
from onitu.store.embedded import Embedded
from onitu.wire.charter import Endpoints

from . import forks, lifeguard, runtime, seal, statelock
from .forks import Fork
from .seal import Seal

if TYPE_CHECKING:
    from .glances import Glances

LOCK = "lock"
"""The file in the store's directory that a server and all that it forked hold."""

# AnyIO's side of Trio, under a name of its own that may change, is loaded by the first wait for a socket: here once,
# else in each process after its fork.
_FOR_ALL = ("trio", "onitu.wire.lifeline", "onitu.wire.sockets", "anyio._backends._trio")
_FOR_DRIVERS = ("onitu.drivers.local.driver", "onitu.plug.run")
_FOR_THE_RUN = ("onitu.supervisor.run",)
"""Modules that are loaded before the forks, which then share them."""


class HeadStart(msgspec.Struct):
    """What was begun.

    Attributes:
        lock: the descriptor of the state directory's lock.
        endpoints: where the run's sockets will be.
        server: the embedded store, prepared; None where the settings name another.
        forks: by a child's name, what it is to be in its first life. Who takes one out owns it.
        seal: where everything is as it was when this was made; then nothing else was begun. None: not so far as known.
    """

    lock: int
    endpoints: Endpoints
    server: Embedded | None
    forks: dict[str, Fork] = msgspec.field(default_factory=dict)
    seal: Seal | None = None

    def discard(self) -> None:
        """Kill the forks that nobody took."""
        while self.forks:
            self.forks.popitem()[1].discard()


@contextlib.contextmanager
def begun(settings: Settings, *, fork: bool = True, glance: bool = False) -> Iterator[HeadStart]:
    """Lock the state directory, make what has to be there, and begin what can be begun, for as long as the block lasts.

    It blocks: for the time that it takes to load the code, and where the children of a dead run are still ending. What
    nobody took over is killed at the end of the block.

    Args:
        settings: everything; `state` is an absolute path.
        fork: whether to begin the children, where that is possible; not from where Trio runs.
        glance: whether to look first if there is anything to do (`HeadStart.seal`).

    Raises:
        StateError: the state directory is in use or cannot be used, or there is no store for this platform.
    """
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(statelock.held(settings.state))
        endpoints = stack.enter_context(runtime.prepared(settings.state))
        server = None
        if not settings.store:
            server = Embedded(os.path.join(settings.state, "store"), endpoints.runtime)
            server.prepare()
        head_start = HeadStart(lock, endpoints, server)
        stack.callback(head_start.discard)
        sealed = seal.load(settings) if glance and server is not None else None
        if fork and forks.possible():
            with contextlib.suppress(OSError):  # no more processes now: `running` tries, and tells
                head_start.seal = _begin(head_start, settings, sealed)
        if head_start.seal is None:
            seal.take_off(settings.state)  # before any of them is told what to do
        yield head_start


def guarding(server: Embedded) -> list[str]:
    """The command line of the lifeguard (`onitu.supervisor.lifeguard`) for this server."""
    return [sys.executable, "-I", "-S", lifeguard.__file__, os.path.join(server.state, LOCK), *server.command()]


def _begin(head_start: HeadStart, settings: Settings, sealed: Seal | None) -> Seal | None:
    """Begin the children: the store first, which has most to do; then those of ours, in the order in which their code
    is loaded. Where the state is sealed the services are looked at meanwhile, and the store waits for what that comes
    to: if everything is as it was none of them is needed, and the seal is returned."""

    def begin(name: str, called: str, main: Callable[[], object]) -> None:
        gc.freeze()  # what is there is not looked at again, nor written to and so copied, in each of them
        head_start.forks[name] = forks.fork(called, main, (head_start.lock,))

    def begin_store() -> None:
        if head_start.server is not None:
            # A program of its own: as a fork it would keep all that this process has changed since, twice its size.
            arguments = guarding(head_start.server)
            begin("store", "onitu-lifeguard", lambda: os.execv(arguments[0], arguments))  # noqa: S606 (no shell)

    def begin_referee() -> None:
        begin("referee", "onitu-referee", _be_referee)

    def begin_drivers() -> None:
        for name in settings.services:
            looks = sealed if glances is not None and name not in near else None
            begin(f"driver {name}", "onitu-driver", functools.partial(_be_driver, settings, name, looks))
            if glances is not None and looks is not None:
                glances.watch(head_start.forks[f"driver {name}"])

    steps: deque[Callable[[], None]] = deque(
        (
            *(functools.partial(_load, module) for module in _FOR_ALL),
            begin_referee,
            *(functools.partial(_load, module) for module in _FOR_DRIVERS),
            begin_drivers,
            *(functools.partial(_load, module) for module in _FOR_THE_RUN),
        )
    )
    glances: Glances | None = None
    near: list[str] = []
    if sealed is not None:
        from onitu.plug import catalogue, glance  # noqa: F401 (the second for the forks)

        from .glances import Glances, look_at_once

        glances = Glances(sealed, len(settings.services))
        # A driver of a service in the network loads a library, and that once: it looks itself, once it is there.
        near += [name for name, service in settings.services.items() if catalogue.glance(service.driver) is not None]
        for name in near:
            begin(f"glance {name}", "onitu-glance", functools.partial(look_at_once, settings, name, sealed))
            glances.watch(head_start.forks[f"glance {name}"])
        # What is loaded while every processor has a glance only makes them slower.
        busy = len(near) == len(settings.services) and len(near) >= len(os.sched_getaffinity(0))
        while (unchanged := glances.unchanged(wait=busy or not steps)) is None:
            steps.popleft()()
        if unchanged:
            head_start.discard()
            return sealed
        glances = None  # no other need look any more
        for name in near:
            head_start.forks.pop(f"glance {name}").discard()
    begin_store()
    for step in steps:
        step()
    return None


def _load(module: str) -> None:
    with contextlib.suppress(ImportError):  # where one of ours cannot be loaded, that is told by who needs it
        importlib.import_module(module)


def _be_referee() -> None:
    # It loads the store's client by itself, while this process goes on.
    from onitu.referee.__main__ import main
    from onitu.wire.lifeline import leave, run_child

    leave(run_child(main))


def _be_driver(settings: Settings, service: str, sealed: Seal | None) -> None:
    from onitu.plug.run import main
    from onitu.wire.lifeline import leave, run_child

    if sealed is not None:
        from .glances import look

        look(settings, service, sealed)
    leave(run_child(main))
