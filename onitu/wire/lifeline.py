"""The life of a child process: its charter, its lifeline, its signals, its end.

A child reads its charter from its standard input (`onitu.wire.charter`), and from then on the pipe is its *lifeline*:
only the supervisor holds the other end, so end-of-file means that the supervisor is dead, whatever killed it.

The lifeline is watched by a daemon thread from before Trio starts, not by a Trio task, and that is on purpose: a child
whose event loop hangs must not become an orphan either. When the line is cut the thread has Trio cancel everything,
and after `GRACE` seconds it ends the process, whatever that is doing. It is the only thread of ours that outlives a
nursery.

What `run_child` promises:

- SIGTERM cancels `main`, and the child exits with 0; SIGINT is ignored (a terminal sends it to the whole group, and the
  supervisor decides);
- an error that `main` raises is logged with its traceback, and the child exits with 1; where no restart can help
  (`ConfigurationError`, `Unreadable`) its text is the last thing on standard error, and the child exits with 78;
- where the charter asks for it, a byte goes to standard output every so often, for as long as Trio's loop turns, and
  `FAREWELL` once `main` says it; what anybody prints goes to standard error then;
- what the child logs reaches the supervisor, or a spill file (`onitu.wire.logs`);
- no orphans: it is gone at most `GRACE` seconds after the supervisor.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import logbook
import msgspec
import trio
import zmq

from onitu.model.errors import ConfigurationError, OnituError, Unreadable

from .charter import Charter
from .logs import Outlet

GRACE = 1.5
"""Seconds that a child has to end by itself after its supervisor died."""

EXIT_ORPHAN = 75
"""The exit code of a child that had to be ended that way. (Nobody is left to see it but a debugger.)"""

EXIT_FINAL = 78
"""The exit code (`EX_CONFIG` of sysexits.h) of a child that no restart can help; the run ends with its last words."""

FAREWELL = b"!"
"""The sign of life of a child that is about to end and says nothing to the other children any more: who has to outlive
it for that can end already."""

_HEADER = struct.Struct(">I")
_MAX_CHARTER = 64 * 1024 * 1024
_LOG_PATIENCE = 1.0

_decoder = msgspec.msgpack.Decoder(Charter)
_log = logbook.Logger("onitu.child")


def frame(charter: Charter) -> bytes:
    """What the supervisor writes to a child's standard input, which it then keeps open while the child shall live."""
    data = msgspec.msgpack.encode(charter)
    return _HEADER.pack(len(data)) + data


def read_charter(fd: int = 0) -> Charter:
    """The charter from a descriptor; blocks until it is there, so it is for the time before Trio runs.

    Raises:
        OnituError: what is there is no charter. (Somebody started the child by hand.)
    """
    (length,) = _HEADER.unpack(_read(fd, _HEADER.size))
    if length > _MAX_CHARTER:
        raise OnituError("this process is started by `onitu` itself: its standard input is no charter")
    try:
        return _decoder.decode(_read(fd, length))
    except msgspec.MsgspecError as error:
        # Its text names the field, not the content: a charter holds secrets.
        raise OnituError(f"the charter does not fit this version of Onitu: {error}") from None


class Lifeline:
    """Watches the lifeline on `fd` in a daemon thread, from now on.

    Args:
        fd: the descriptor; the lifeline owns it from now on.
        grace: seconds from the cut to the hard exit.
        last: called in the thread just before the hard exit, for what must be done even then.

    Attributes:
        cut: whether the supervisor is dead.
    """

    def __init__(self, fd: int, *, grace: float = GRACE, last: Callable[[], None] | None = None) -> None:
        self.cut = False
        self._fd = fd
        self._grace = grace
        self._last = last
        self._lock = threading.Lock()
        self._told: tuple[trio.lowlevel.TrioToken, trio.Event] | None = None
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    async def hold(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the line is cut. Ends by that, or by being cancelled. One task at a time may hold it."""
        event = trio.Event()
        with self._lock:
            self._told = (trio.lowlevel.current_trio_token(), event)
            if self.cut:
                event.set()
        try:
            await event.wait()
            scope.cancel()
        finally:
            with self._lock:
                self._told = None

    def _watch(self) -> None:
        while os.read(self._fd, 4096):
            pass  # nothing is ever said after the charter
        with self._lock:
            self.cut = True
            if self._told is not None:
                token, event = self._told
                with contextlib.suppress(trio.RunFinishedError):  # then the process is about to end anyway
                    token.run_sync_soon(event.set)
        time.sleep(self._grace)
        try:
            if self._last is not None:
                self._last()
        finally:
            os._exit(EXIT_ORPHAN)


Main = Callable[[Charter, Callable[[], None]], Awaitable[None]]
"""What a child does: it gets its charter, and what it may call, once, to say farewell before it ends."""


def run_child(main: Main) -> int:
    """What `python -m onitu.referee` and `python -m onitu.plug` are: read the charter, run `main` with it, to its end.

    Returns:
        The exit code: 0 where `main` returned, or SIGTERM or the supervisor's end cancelled it; 1 where it raised.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    charter = read_charter()
    outlet = Outlet(charter.process, charter.log_level, spill=charter.endpoints.runtime)
    lifeline = Lifeline(_private_stdin(), last=outlet.spill)
    pulse = _private_stdout() if charter.beat else None
    # What was imported is never garbage, and what comes and goes has few cycles: to look for them at the usual pace
    # took the Referee 1.8 s instead of 1.6 s for 10,000 files.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    with outlet.installed():
        return trio.run(_life, main, charter, lifeline, outlet, pulse)


def leave(code: int) -> NoReturn:
    """End this process after `run_child`. Everything that it owned is closed by then; the interpreter would take apart
    its modules for another 20 ms and more, while somebody waits for the end of the run."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _life(
    main: Main,
    charter: Charter,
    lifeline: Lifeline,
    outlet: Outlet,
    pulse: int | None,
) -> int:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    scope = trio.CancelScope()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_cancel_on_sigterm, scope)
            nursery.start_soon(lifeline.hold, scope)
            nursery.start_soon(outlet.run, context, charter.endpoints.logs)
            if pulse is not None:
                nursery.start_soon(_beat, pulse, charter.beat)
            code = await _guarded(main, charter, scope, pulse)
            if not lifeline.cut:
                await outlet.drain(_LOG_PATIENCE)
            nursery.cancel_scope.cancel()
    finally:
        outlet.spill()
        context.destroy(linger=0)
    return code


async def _guarded(main: Main, charter: Charter, scope: trio.CancelScope, pulse: int | None) -> int:
    try:
        with scope:
            await main(charter, functools.partial(_say, pulse, FAREWELL))
    except Exception as error:
        # The top of this process: nobody above could do anything, and the supervisor restarts it.
        final = _final(error)
        if final is not None:
            sys.stderr.write(f"\n{final}\n")  # last words begin after an empty line
            return EXIT_FINAL
        if (sentences := _sentences(error)) is not None:
            _log.error("{} failed: {}", charter.process, "; ".join(dict.fromkeys(sentences)))
        else:
            _log.exception("{} failed", charter.process)
        return 1
    return 0


def _sentences(error: BaseException) -> list[str] | None:
    """What an error says to people, where all that is in it is made for them; None: it needs its traceback."""
    if isinstance(error, BaseExceptionGroup):
        found = [_sentences(one) for one in error.exceptions]
        return None if None in found else [sentence for one in found if one is not None for sentence in one]
    return [str(error)] if isinstance(error, OnituError) else None


def _final(error: BaseException) -> OnituError | None:
    """The error that no restart can help, where that is what happened; nurseries raise groups."""
    if isinstance(error, ConfigurationError | Unreadable):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((final for one in error.exceptions if (final := _final(one)) is not None), None)
    return None


async def _beat(pulse: int, every: float) -> None:
    while True:
        _say(pulse, b".")
        await trio.sleep(every)


def _say(pulse: int | None, sign: bytes) -> None:
    if pulse is not None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # the supervisor is suspended, or dead
            os.write(pulse, sign)


async def _cancel_on_sigterm(
    scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _private_stdin() -> int:
    """The lifeline under another number, which no child of ours inherits; standard input becomes empty."""
    fd = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return fd


def _private_stdout() -> int:
    """Standard output under another number, which no child of ours inherits; standard output becomes standard error."""
    fd = os.dup(1)
    os.set_blocking(fd, False)
    os.dup2(2, 1)
    return fd


def _read(fd: int, count: int) -> bytes:
    parts = []
    while count:
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            raise OnituError("this process is started by `onitu` itself: its standard input ended before its charter")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
