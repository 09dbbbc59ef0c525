"""One run of Onitu: the state directory's lock, the sockets, the children in their order, and the end.

    async with running(settings) as supervisor:          # `onitu sync` does this in its own process
        await supervisor.started.wait()
        status = await supervisor.ask("status")

`supervise` is the same with nothing in the block but waiting: the daemon. What both promise:

- all processes are started at once; the Referee gets its charter when the store answers, and the drivers find it;
- the end is orderly: drivers, then the Referee, then the store, each with a deadline, and each as soon as those before
  it have said all that they had to say; whatever way the block is left,
  no process of the run is alive afterwards;
- a run that is killed leaves none either: see `onitu.supervisor.child`, `lifeguard` and `statelock`;
- an error that no restart can help (exit status 78 of a child) ends the run, and is raised.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import logbook
import msgspec
import trio
import zmq

from onitu.model.errors import StateError
from onitu.model.settings import Settings
from onitu.store.urls import check_url
from onitu.supervisor.backoff import Policy
from onitu.supervisor.child import Child, Job, State
from onitu.supervisor.control import Control
from onitu.supervisor.forks import Fork
from onitu.supervisor.headstart import HeadStart, begun
from onitu.supervisor.logs import LogSink, Places
from onitu.supervisor.store import EmbeddedStore
from onitu.wire.charter import Charter, Endpoints
from onitu.wire.lifeline import frame
from onitu.wire.messages import BEAT
from onitu.wire.sockets import Context, Kind, Socket

log = logbook.Logger("supervisor")


class Plan(msgspec.Struct, frozen=True):
    """What the children are and what is expected of them; the defaults are what everybody uses.

    Attributes:
        referee: the Referee's command.
        driver: the command of every driver.
        silence: seconds without a sign of life after which a child is killed.
        startup: the same, before its first sign of life.
        driver_patience: seconds that drivers have to end before they are killed.
        referee_patience: the Referee's.
        store_patience: the embedded store's.
        policy: when children are restarted.
    """

    # -P: a module in the directory where somebody started us must not take the place of one of ours.
    referee: tuple[str, ...] = (sys.executable, "-P", "-m", "onitu.referee")
    driver: tuple[str, ...] = (sys.executable, "-P", "-m", "onitu.plug")
    silence: float = 30.0
    startup: float = 30.0
    driver_patience: float = 6.0
    referee_patience: float = 4.0
    store_patience: float = 4.0
    policy: Policy = msgspec.field(default_factory=Policy)


class Supervisor:
    """A run, from inside. Made by `running`.

    Attributes:
        settings: its settings.
        endpoints: where its sockets are (`endpoints.news` for who wants to see progress).
        context: the ZeroMQ context of this process, for sockets to them.
        children: every child by name: `store` (where it is embedded), `referee`, `driver SERVICE`.
        started: set when the store is up and all children were started. They may still be connecting.
        interrupted: the signal that ended the run, or None.
    """

    def __init__(
        self, settings: Settings, head_start: HeadStart, context: Context, store: EmbeddedStore | None
    ) -> None:
        endpoints = head_start.endpoints
        self.settings = settings
        self.endpoints = endpoints
        self.context = context
        self.children: dict[str, Child] = {}
        self.started = trio.Event()
        self.interrupted: signal.Signals | None = None
        self._store = store
        self._forks: dict[str, Fork] = head_start.forks
        self._failure: StateError | None = None
        self._stopping = trio.Event()
        self._finished = trio.Event()
        self._block = trio.CancelScope()
        self.control = Control(
            context, endpoints.referee, self.children, self.stop, {"name": settings.name, "state": settings.state}
        )

    async def ask(self, what: str, /, **arguments: Any) -> dict[str, Any]:
        """Ask the run what can be asked on its control channel (`onitu.supervisor.control`), without the socket.

        Raises:
            OnituError: the answer is an error.
            PeerGone: the Referee does not answer (yet).
        """
        return await self.control.answer(what, arguments)

    def stop(self) -> None:
        """End the run: the block of `running` is cancelled and the children end in order. Returns at once."""
        self._stopping.set()
        self._block.cancel()

    def kill(self) -> None:
        """End the run at once: every child is killed. Safe at any moment, as every crash is."""
        self.stop()
        for child in self.children.values():
            child.stop()
            child.kill("it was killed by a second interrupt")

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the children that were given up."""
        return tuple(name for name, child in self.children.items() if child.state is State.FAILED)

    @property
    def store_url(self) -> str:
        """Where the store is."""
        return self.settings.store if self._store is None else self._store.server.url

    # --- the life of the run ------------------------------------------------------------------------------------

    async def _serve(
        self,
        socket: Socket,
        sink: LogSink,
        jobs: Sequence[Job],
        signals: AsyncIterator[int] | None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The run, with all that has to be there from before its first child until after its last one.

        Shielded: who is cancelled around us still gets an orderly end. Only `stop` ends this.
        """
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    if signals is not None:
                        nursery.start_soon(self._take_signals, signals)
                    nursery.start_soon(sink.run)
                    nursery.start_soon(self.control.serve, socket)
                    task_status.started()
                    await self._live(jobs)
                    nursery.cancel_scope.cancel()
        finally:
            self._finished.set()

    async def _live(self, jobs: Sequence[Job]) -> None:
        """Everything from the first child's start to the last one's end. Its owner shields it; `stop` ends it."""
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as opening:
                nursery.start_soon(self._when_stopping, opening)
                await self._open(nursery, jobs)
                await self._stopping.wait()
            self.control.phase = "stopping"
            await self._close()
            nursery.cancel_scope.cancel()

    async def _when_stopping(self, opening: trio.CancelScope) -> None:
        await self._stopping.wait()
        opening.cancel()

    async def _open(self, nursery: trio.Nursery, jobs: Sequence[Job]) -> None:
        if self._store is not None:
            store = self._start(nursery, self._store.job)
            nursery.start_soon(self._store.watch, store)
        for job in jobs:
            self._start(nursery, job)
        if self._store is not None and not await self._store.ready(store):
            log_file = self._store.server.log
            self._fail("store", f"The embedded store does not start: {store.reason}; its log is {log_file}.")
            return
        self.control.phase = "running"
        self.started.set()

    def _start(self, nursery: trio.Nursery, job: Job) -> Child:
        # Without its store the Referee would only die, and be given up.
        before = self._store.answers if job.name == "referee" and self._store is not None else None
        cause = self._store.cause if job.name == "store" and self._store is not None else None
        fork = self._forks.pop(job.name, None)
        child = self.children[job.name] = Child(job, fatal=self._fail, before=before, fork=fork, cause=cause)
        nursery.start_soon(child.run)
        return child

    async def _close(self) -> None:
        async with trio.open_nursery() as nursery:
            if self._store is not None and self._failure is None and self.interrupted is None:
                nursery.start_soon(self._store.compact)  # while the others end
            await self._end([name for name in self.children if name not in ("referee", "store")])
            await self._end(["referee"])
        await self._end(["store"])
        for child in self.children.values():
            await child.stopped.wait()

    async def _end(self, names: Sequence[str]) -> None:
        """Have these children end, and wait until nobody else has to be there for that."""
        ending = [self.children[name] for name in names if name in self.children]
        for child in ending:
            child.stop()
        if "store" in names and ending and self._store is not None:
            await self._store.hasten()
        for child in ending:
            await child.parts()

    def _fail(self, name: str, words: str) -> None:
        if self._failure is None:
            self._failure = StateError(words.strip() or f"{name} cannot run, and did not say why")
        self.stop()

    async def _take_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if self.interrupted is None:
                self.interrupted = signal.Signals(number)
                log.info("{}: ending", self.interrupted.name)
                self.stop()
            elif number == signal.SIGINT:
                log.warning("interrupted again: everything is killed")
                self.kill()


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    log_level: str = "INFO",
    places: Places | None = None,
    signals: bool = False,
    plan: Plan | None = None,
    head_start: HeadStart | None = None,
) -> AsyncIterator[Supervisor]:
    """Run `settings` for as long as the block lasts.

    The block is entered as soon as the state directory is ours; wait for `Supervisor.started` where that matters. It is
    cancelled (and the `async with` statement then ends without an error) when the run is asked to stop from outside:
    by the control channel, or by a signal.

    Args:
        settings: everything; `state` is an absolute path.
        log_level: Logbook's name of the lowest level that the children send.
        places: where log records go; left out: warnings to the terminal, the rest to a file in the state directory.
        signals: whether SIGINT, SIGTERM and SIGHUP end the run (the last one where nobody had it ignored, as `nohup`
            does), and a second SIGINT kills everything (main thread only).
        plan: other programs and other patience than usual, for tests.
        head_start: what was begun of this run before Trio; left out, nothing.

    Raises:
        StateError: the state directory is in use or cannot be used, or a child says that no restart can help.
        ConfigurationError: the URL of the store is none.
        OnituError: a socket cannot be used.
    """
    plan = plan or Plan()
    places = places or Places(directory=Path(settings.state), level=log_level)
    async with AsyncExitStack() as stack:
        # Before anything else: a SIGINT that comes now must end the run in order too.
        arriving = stack.enter_context(trio.open_signal_receiver(*_ending())) if signals else None
        if head_start is None:
            head_start = stack.enter_context(begun(settings, fork=False))
        endpoints, lock = head_start.endpoints, head_start.lock
        context: Context = zmq.Context()
        stack.callback(context.destroy, linger=0)
        store = None
        if head_start.server is None:
            check_url(settings.store)
        else:
            store = EmbeddedStore(head_start.server, lock, plan.store_patience, plan.policy)
        sink = await stack.enter_async_context(LogSink(context, endpoints.logs, places))
        stack.enter_context(sink.installed())
        sink.take_spilled(Path(endpoints.runtime))
        stack.callback(sink.take_spilled, Path(endpoints.runtime))
        supervisor = Supervisor(settings, head_start, context, store)
        jobs = _jobs(settings, endpoints, supervisor.store_url, lock, log_level, plan)
        socket = await stack.enter_async_context(Socket.bind(context, Kind.ROUTER, endpoints.control))
        error: BaseException | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor._serve, socket, sink, jobs, arriving)
            try:
                with supervisor._block:
                    yield supervisor
            except BaseException as caught:
                # Kept, and raised outside of the nursery: it is the block's own error, and no group of errors.
                error = caught
            finally:
                supervisor.stop()
                with trio.CancelScope(shield=True):
                    await supervisor._finished.wait()
        if supervisor._failure is not None and not isinstance(error, trio.Cancelled):
            raise supervisor._failure from error
        if error is not None:
            raise error


def _ending() -> list[signal.Signals]:
    """The signals that end a run. A terminal that is closed sends SIGHUP."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hung_up]


async def supervise(
    settings: Settings, *, log_level: str = "INFO", places: Places | None = None, plan: Plan | None = None
) -> int:
    """The daemon: run `settings` until a signal or the control channel ends it. The errors are those of `running`.

    Returns:
        130 where SIGINT ended it, else 0.
    """
    async with running(settings, log_level=log_level, places=places, signals=True, plan=plan) as supervisor:
        await supervisor.started.wait()
        log.info("{} runs, with {} services", settings.name, len(settings.services))
        await trio.sleep_forever()
    return 130 if supervisor.interrupted is signal.SIGINT else 0


def _jobs(settings: Settings, endpoints: Endpoints, store: str, lock: int, log_level: str, plan: Plan) -> list[Job]:
    """What is started once the store is up. Only the Referee is told where the store is."""

    def job(name: str, command: tuple[str, ...], patience: float, *, service: str = "", store: str = "") -> Job:
        charter = Charter(name, settings, endpoints, service=service, store=store, log_level=log_level, beat=BEAT)
        return Job(
            name,
            command,
            frame(charter),
            inherit=(lock,),
            patience=patience,
            silence=plan.silence,
            startup=plan.startup,
            policy=plan.policy,
        )

    return [
        job("referee", plan.referee, plan.referee_patience, store=store),
        *(job(f"driver {name}", plan.driver, plan.driver_patience, service=name) for name in settings.services),
    ]
