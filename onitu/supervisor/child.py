"""One child process and the task that keeps it alive.

What is asked of a child, whatever it is:

- its standard input is its charter and then its lifeline: at EOF it ends;
- it writes a byte to standard output every few seconds, and `FAREWELL` when the others need not wait for it any more
  in order to end. A child that was silent for `silence` seconds is taken for
  dead and killed; time in which the supervisor itself did not run is not held against it;
- what it writes to standard error goes to the log, line by line;
- SIGTERM asks it to finish; it has `patience` seconds before SIGKILL;
- exit status 78 says that no restart can help (a wrong configuration, a state of another version): its last words on
  standard error are the reason, and the whole run ends.

Each child leads a process group of its own: a Ctrl-C on the terminal reaches the supervisor alone, and what a child has
started itself goes with it. Nothing of a child is left when its task has ended, however that was; only a process
that the kernel itself cannot kill is not waited for.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import math
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable

import logbook
import msgspec
import trio

from onitu.supervisor.backoff import Backoff, Policy
from onitu.supervisor.forks import Fork
from onitu.supervisor.process import ForkedProcess
from onitu.wire.lifeline import FAREWELL

FATAL = 78
"""The exit status (`EX_CONFIG` of sysexits.h) of a child that no restart can help."""

_LAST_WORDS = 20
_LONGEST_LINE = 4096
_DRAIN = 0.5
_UNKILLABLE = 10.0

Process = trio.Process | ForkedProcess

log = logbook.Logger("supervisor")


class State(enum.Enum):
    """How a child stands."""

    WAITING = "waiting"
    """Not running: not yet started, or in the delay before a restart."""
    STARTING = "starting"
    """Running, but it has given no sign of life yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Asked to end."""
    STOPPED = "stopped"
    FAILED = "failed"
    """It died too often; it starts again when a person asks for it."""


class Job(msgspec.Struct, frozen=True):
    """What a child runs, and what is expected of it.

    Attributes:
        name: as in status and logs: `store`, `referee`, `driver laptop`.
        command: the program, by its path, and its arguments; nothing secret among them.
        charter: the bytes for its standard input.
        inherit: file descriptors that it gets beside the standard ones.
        patience: seconds from SIGTERM to SIGKILL.
        silence: seconds without a sign of life after which it is killed.
        startup: the same, before the first sign of life.
        policy: when it is restarted.
    """

    name: str
    command: tuple[str, ...]
    charter: bytes = b""
    inherit: tuple[int, ...] = ()
    patience: float = 6.0
    silence: float = 10.0
    startup: float = 30.0
    policy: Policy = msgspec.field(default_factory=Policy)


class Child:
    """A child process under supervision. `run` is its task; everything else may be called from other tasks.

    Attributes:
        job: what it runs.
        pid: of the process; None while there is none.
        state: how it stands.
        restarts: how often it was started again.
        since: when it came into its state, in seconds since the epoch.
        reason: why it last died, a sentence; empty where it never did.
        parted: whether it says nothing to the other children any more, as it has said farewell or its task has ended.
    """

    def __init__(
        self,
        job: Job,
        *,
        fatal: Callable[[str, str], None] | None = None,
        before: Callable[[], Awaitable[object]] | None = None,
        fork: Fork | None = None,
        cause: Callable[[], str] | None = None,
    ) -> None:
        """`fatal` is called with the child's name and its last words when it ends with status 78; `before` is awaited
        in each life before the charter is handed over, so that a child is not given up for the absence of what it
        needs, and loads its code meanwhile. `fork`, where there is one, is the process of its first life; the command
        starts the others. `cause`: asked why it ended, where it did so without a word."""
        self.job = job
        self.pid: int | None = None
        self.state = State.WAITING
        self.restarts = 0
        self.since = time.time()
        self.reason = ""
        self.parted = False
        self.stopped = trio.Event()
        """Set when the task has ended; no process is left then."""
        self._fatal = fatal
        self._before = before
        self._fork = fork
        self._cause = cause
        self._changed = trio.Event()
        self._backoff = Backoff(job.policy)
        self._stopping = trio.Event()
        self._retry = trio.Event()
        self._words: collections.deque[str] = collections.deque(maxlen=_LAST_WORDS)
        self._rest = b""
        self._silent = 0.0
        self._handed_over = False
        self._verdict = ""

    async def run(self) -> None:
        """Start the child, and again whenever it dies, until `stop`. Cancellation kills it."""
        try:
            while not self._stopping.is_set():
                born = trio.current_time()
                status = await self._live()
                if self._stopping.is_set():
                    break
                if status == FATAL and self._fatal is not None:
                    self._to(State.FAILED)
                    self._fatal(self.job.name, self.last_words)
                    break
                await self._recover(trio.current_time() - born)
        finally:
            self.parted = True
            if self.state is not State.FAILED:
                self._to(State.STOPPED)
            self._wake()
            self.stopped.set()

    def stop(self) -> None:
        """Ask the child to end, for good; wait for `stopped` to know that it has."""
        if not self._stopping.is_set():
            self._stopping.set()
            if self.pid is not None:
                self._to(State.STOPPING)

    def kill(self, reason: str) -> None:
        """Kill the process, and what it started, at once; it is restarted unless it was asked to stop."""
        if self.pid is not None:
            self._verdict = reason
            # Until it is reaped (`_gone`), the number belongs to this child, be it dead or alive.
            _kill_group(self.pid)

    def retry(self) -> bool:
        """Start a failed or a waiting child now, with its deaths forgiven; False where it runs."""
        if self.state not in (State.FAILED, State.WAITING):
            return False
        self._backoff = self._backoff.forgiven()
        self._retry.set()
        return True

    async def becomes(self, *states: State) -> None:
        """Wait until the child is in one of `states`. A state that lasted for a moment only may be missed."""
        while self.state not in states:
            await self._changed.wait()

    async def parts(self) -> None:
        """Wait until `parted`."""
        while not self.parted:
            await self._changed.wait()

    @property
    def last_words(self) -> str:
        """The last lines that the child wrote to standard error in this life, from after the last empty line."""
        return "\n".join(self._words)

    async def _recover(self, lived: float) -> None:
        """Wait until the next life may begin, or a stop is asked for."""
        chance = random.random()  # noqa: S311 (jitter)
        self._backoff, delay = self._backoff.died(trio.current_time(), lived, chance)
        if delay is None:
            log.error("{} died too often, it is given up: {}", self.job.name, self.reason)
            self._to(State.FAILED)
        else:
            log.warning("{} died ({}); restarted in {:.1f} s", self.job.name, self.reason, delay)
            self._to(State.WAITING)
        self._retry = trio.Event()
        with trio.move_on_after(math.inf if delay is None else delay):
            await _either(self._retry, self._stopping)
        if not self._stopping.is_set():
            self.restarts += 1

    async def _live(self) -> int:
        """One life of the process: from its start until it is dead and nothing is left of it. Gives its status."""
        self.parted = False
        self._words.clear()
        self._rest = b""
        self._silent = 0.0
        self._handed_over = False
        self._verdict = ""
        try:
            process = await self._started()
        except OSError as error:
            self.reason = f"it cannot be started: {error}"
            return 127
        self.pid = process.pid
        self._to(State.STOPPING if self._stopping.is_set() else State.STARTING)
        log.debug("{} started as process {}", self.job.name, process.pid)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hand_over, process)
                nursery.start_soon(self._feel_pulse, process)
                nursery.start_soon(self._listen, process)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._end_when_asked)
                await _exited(process)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                status = await self._gone(process)
        return status

    async def _started(self) -> Process:
        fork, self._fork = self._fork, None
        if fork is not None:
            return ForkedProcess(fork)
        return await trio.lowlevel.open_process(
            list(self.job.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self.job.inherit,
            start_new_session=True,
        )

    async def _hand_over(self, process: Process) -> None:
        assert process.stdin is not None
        if self._before is not None:
            await self._before()
        self._handed_over = True
        try:
            await process.stdin.send_all(self.job.charter)
        except trio.BrokenResourceError:
            return  # it died; that shows elsewhere

    async def _feel_pulse(self, process: Process) -> None:
        assert process.stdout is not None
        while signs := await process.stdout.receive_some(4096):
            self._silent = 0.0
            if FAREWELL in signs:
                self.parted = True
                self._wake()
            if self.state is State.STARTING:
                self._to(State.RUNNING)

    async def _listen(self, process: Process) -> None:
        assert process.stderr is not None
        while piece := await process.stderr.receive_some(65536):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                self._heard(line)
            if len(self._rest) > _LONGEST_LINE:
                self._heard(self._rest)
                self._rest = b""

    def _heard(self, line: bytes) -> None:
        text = line[:_LONGEST_LINE].decode(errors="replace").rstrip()
        if text:
            self._words.append(text)
            log.warning("{}: {}", self.job.name, text)
        else:
            self._words.clear()

    async def _watch(self) -> None:
        """Kill the child when it was silent for too long.

        Silence is counted in ticks of this task: where the supervisor was stopped, or the machine slept, a tick takes
        long, and only its due length counts. The child could not be heard then.
        """
        tick = min(5.0, self.job.silence / 4)
        while True:
            await trio.sleep(tick)
            self._silent += tick if self._handed_over else 0.0
            limit = self.job.startup if self.state is State.STARTING else self.job.silence
            if self._silent > limit and self.state is not State.STOPPING:
                self.kill(f"it gave no sign of life for {limit:g} s")

    async def _end_when_asked(self) -> None:
        await self._stopping.wait()
        assert self.pid is not None
        # Only the child, not its group: how it ends what it has started is its own affair.
        with contextlib.suppress(ProcessLookupError):  # it is dead already, where there is no pidfd to tell first
            os.kill(self.pid, signal.SIGTERM)
        await trio.sleep(self.job.patience)
        log.warning("{} did not end within {:g} s and is killed", self.job.name, self.job.patience)
        self.kill(f"it did not end within {self.job.patience:g} s")

    async def _gone(self, process: Process) -> int:
        """Kill what is left, hear the last words, reap. Shielded by the caller; bounded."""
        _kill_group(process.pid)
        self.pid = None  # from here on the number may be somebody else's
        status = -signal.SIGKILL
        with trio.move_on_after(_UNKILLABLE) as waiting:
            status = await process.wait()
        if waiting.cancelled_caught:
            # In the kernel, on a mount that does not answer: it ends when that does. It holds the state's lock so long.
            log.error("{} (process {}) does not even die by SIGKILL; not waited for", self.job.name, process.pid)
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.aclose()
        await process.stdout.aclose()
        # A process that left the group may hold the pipe open for ever; the words of the child are there at once.
        with trio.move_on_after(_DRAIN):
            await self._listen(process)
        assert process.stderr is not None
        await process.stderr.aclose()
        if self._rest:
            self._heard(self._rest)
        word = self._words[-1] if self._words else ""
        if status > 0 and not word and self._cause is not None and not self._stopping.is_set():
            word = self._cause()
        self.reason = self._verdict or _told(status, word)
        return status

    def _to(self, state: State) -> None:
        self.state = state
        self.since = time.time()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _exited(process: Process) -> None:
    """Wait until the process is dead, if possible without reaping it: its number, and that of its group, then belongs
    to it until the group was killed. (Where there is no pidfd the group is killed right after the reaping.)"""
    if not hasattr(os, "pidfd_open"):
        await process.wait()
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nobody left. macOS answers EPERM for a group of zombies.
        return


def _told(status: int, word: str) -> str:
    if status >= 0:
        return f"it ended with status {status}" + (f": {word}" if status and word else "")
    try:
        return f"it was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was killed by signal {-status}"


async def _either(one: trio.Event, other: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_after, one, nursery.cancel_scope)
        nursery.start_soon(_cancel_after, other, nursery.cancel_scope)


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
