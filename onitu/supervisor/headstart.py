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
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from onitu.model.errors import OnituError
from onitu.model.settings import Settings
from onitu.store.embedded import Embedded
from onitu.wire.charter import Endpoints

from . import forks, lifeguard, limits, runtime, seal, statelock
from .forks import Fork
from .seal import Seal

LOCK = "lock"
"""The file in the store's directory that a server and all that it forked hold."""

# AnyIO's side of Trio, under a name of its own that may change, is loaded by the first wait for a socket: here once,
# else in each process after its fork.
_FOR_ALL = ("trio", "onitu.wire.lifeline", "onitu.wire.sockets", "anyio._backends._trio")
_FOR_DRIVERS = ("onitu.drivers.local.driver", "onitu.plug.run")
_FOR_THE_RUN = ("onitu.supervisor.run",)
"""Modules that are loaded before the forks, which then share them."""


_M_ARENA_MAX = -8
"""Of glibc's `malloc.h`; see mallopt(3)."""


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
        glance: whether to look first if there is anything to do (`HeadStart.seal`), and to begin connections for the
            drivers: for a run that ends once it has done what there is to do.

    Raises:
        StateError: the state directory is in use or cannot be used, or there is no store for this platform.
        OnituError: too few files may be open.
    """
    limits.allow_files(len(settings.services))
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
                head_start.seal = _begin(head_start, settings, sealed, ahead=glance)
        if head_start.seal is None:
            seal.take_off(settings.state)  # before any of them is told what to do
        yield head_start


def guarding(server: Embedded) -> list[str]:
    """The command line of the lifeguard (`onitu.supervisor.lifeguard`) for this server."""
    return [sys.executable, "-I", "-S", lifeguard.__file__, os.path.join(server.state, LOCK), *server.command()]


def _begin(head_start: HeadStart, settings: Settings, sealed: Seal | None, ahead: bool) -> Seal | None:
    """Begin the children: the store first, which has most to do; then those of ours, in the order in which their code
    is loaded. Where the state is sealed the services are looked at before: if everything is as it was none of them is
    needed, and the seal is returned."""
    if sealed is not None and _unchanged(head_start, settings, sealed):
        return sealed
    if head_start.server is not None:
        # A program of its own: as a fork it would keep all that this process has changed since, twice its size.
        arguments = guarding(head_start.server)
        _fork(head_start, "store", "onitu-lifeguard", lambda: os.execv(arguments[0], arguments))  # noqa: S606 (no shell)
    if ahead:
        _connect(head_start, settings, settings.services)
    _load(*_FOR_ALL)
    _share_heap()
    _fork(head_start, "referee", "onitu-referee", _be_referee)
    _load(*_FOR_DRIVERS)
    for name, service in settings.services.items():
        _fork_for(head_start, name, f"driver {name}", "onitu-driver", functools.partial(_be_driver, service.driver))
    _load(*_FOR_THE_RUN)
    return None


def _connect(head_start: HeadStart, settings: Settings, names: Iterable[str]) -> None:
    """Begin the first connections of those services whose drivers have them made by another program: it has its own
    part to do while ours is loaded."""
    from onitu.plug import catalogue

    for name in names:
        service = settings.services[name]
        with contextlib.suppress(ImportError, OnituError):  # that is told by who needs it
            if (connect := catalogue.ahead(service.driver, service.options)) is not None:
                gc.freeze()
                head_start.forks[_ahead(name)] = forks.fork("onitu-connect", connect)  # it need not hold the lock


def _ahead(name: str) -> str:
    return f"ahead {name}"


def _fork_for(head_start: HeadStart, service: str, name: str, called: str, main: Callable[[], object]) -> Fork:
    """`_fork` for a process that is to have the connection that was begun for a service."""
    ahead = head_start.forks.get(_ahead(service))
    if ahead is None:
        return _fork(head_start, name, called, main)

    def with_connection() -> None:
        from onitu.plug import ahead as begun

        begun.give(pid, stdin, stdout, stderr)
        main()

    pid, stdin, stdout, stderr = ahead.pid, ahead.stdin, ahead.stdout, ahead.stderr
    fork = _fork(head_start, name, called, with_connection, ahead.streams)
    ahead.let_go()
    return fork


def _unchanged(head_start: HeadStart, settings: Settings, sealed: Seal) -> bool:
    """Glance at every service; whether all of them are as they were. Meanwhile what a run needs is loaded."""
    from onitu.plug import catalogue, glance  # noqa: F401 (the second for the forks)

    from .glances import Glances, look

    glances = Glances(sealed, len(settings.services))
    modules = deque((*_FOR_ALL, *_FOR_DRIVERS, *_FOR_THE_RUN))
    at_once = [name for name, service in settings.services.items() if catalogue.glance(service.driver) is not None]
    later = [name for name in settings.services if name not in at_once]
    if not later and len(at_once) >= len(os.sched_getaffinity(0)):
        modules.clear()  # while every processor has a directory to look at, to load only makes the looks slower

    def begin(names: list[str]) -> None:
        for name in names:
            looking = functools.partial(look, settings, name, sealed)
            glances.watch(_fork_for(head_start, name, f"glance {name}", "onitu-glance", looking))

    try:
        _connect(head_start, settings, later)
        begin(at_once)
        while (unchanged := glances.unchanged(wait=not modules)) is None:
            _load(modules.popleft())
            begin(later)  # with Trio, of which they have need, and which they so share
            later = []
        return unchanged
    finally:
        head_start.discard()  # who has not told need not any more; and they hold the locks of the replicas


def _fork(head_start: HeadStart, name: str, called: str, main: Callable[[], object], keep: Sequence[int] = ()) -> Fork:
    """Begin a process of this name, which `ps` calls `called`."""
    gc.freeze()  # what is there is not looked at again, nor written to and so copied, in each of them
    fork = head_start.forks[name] = forks.fork(called, main, (head_start.lock, *keep))
    return fork


def _load(*modules: str) -> None:
    for module in modules:
        with contextlib.suppress(ImportError):  # where one of ours cannot be loaded, that is told by who needs it
            importlib.import_module(module)


def _share_heap() -> None:
    """Have the threads of this process, and of its forks, share one heap. With glibc each has one of its own: 2 of the
    130 MB that a run took."""
    import ctypes  # Trio has loaded it

    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _be_referee() -> None:
    # It loads the store's client by itself, while this process goes on.
    from onitu.referee.__main__ import main
    from onitu.wire.lifeline import leave, run_child

    leave(run_child(main))


def _be_driver(driver: str) -> None:
    # It loads the driver and its library by itself, before it is told what it is to do.
    from onitu.plug import catalogue
    from onitu.plug.run import main
    from onitu.wire.lifeline import leave, run_child

    with contextlib.suppress(OnituError):  # it is told to people where the driver is made
        catalogue.load(driver)
    leave(run_child(main))
