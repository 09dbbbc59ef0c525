"""Log records on their way to the supervisor: a Logbook handler that never blocks, and a task that sends.

The handler puts a record, numbered and encoded, at the end of one bounded queue; a Trio task sends the queue to the
supervisor, which acknowledges each by its number. Records may come from any thread. There are two kinds:

- *calm* ones (below WARNING) are dropped, and counted, where the queue has no room; the count is reported when it has;
- *urgent* ones (WARNING and above) are never lost. What the supervisor did not acknowledge by the end of the process,
  or what has no room, is written to a spill file in the runtime directory, or to standard error where that fails.

A record may so reach the supervisor twice; it tells by the number.

This is why the sockets are DEALER and ROUTER: with PUSH and PULL nobody could say what was still in the queues of a
supervisor that was killed, or in those of a socket that was closed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import logbook
import logbook.compat
import msgspec
import trio

from .charter import SPILL_SUFFIX
from .messages import Answer, Record, encode
from .sockets import Context, Kind, Options, Security, Socket

CALM = 10_000
"""Calm records that wait at most."""
URGENT = 100_000
"""Urgent records that wait at most; more of them go to the spill file at once."""
WINDOW = 1_000
"""Records that are sent and not acknowledged yet, at most: the credit that keeps queues from filling."""
RESEND = 5.0
"""Seconds after which a record that was not acknowledged is sent once more."""
LONGEST = 64 * 1024
"""Characters of one string in a record."""


class _Waiting(msgspec.Struct, frozen=True):
    """A record in the queue, as its bytes."""

    number: int
    urgent: bool
    data: bytes


class Outlet(logbook.Handler):
    """The handler of a child process, and what sends its records. Used from `run_child`.

    Args:
        process: the process's name in the records.
        level: Logbook's name of the lowest level that is sent.
        spill: the directory of the spill file; empty: standard error.
    """

    def __init__(self, process: str, level: str = "INFO", *, spill: str = "") -> None:
        logbook.Handler.__init__(self, logbook.lookup_level(level.upper()))
        self.process = process
        self.dropped = 0
        self._spill_path = os.path.join(spill, f"{os.getpid()}{SPILL_SUFFIX}") if spill else ""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._calm = 0
        self._sent: dict[int, tuple[float, _Waiting]] = {}
        self._closed = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._changed = trio.Event()
        self._told = False

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Take the records of all threads, and those of the standard library's `logging`, until the block is left."""
        with self.applicationbound(), logbook.compat.redirected_logging(set_root_logger_level=False):
            yield

    # --- any thread ---------------------------------------------------------------------------------------------

    def emit(self, record: logbook.LogRecord) -> None:
        """Queue a record. Never waits."""
        urgent = record.level >= logbook.WARNING
        if not urgent and self._calm >= CALM:
            with self._lock:
                self.dropped += 1
            return
        number = next(self._numbers)
        waiting = _Waiting(number, urgent, encode(Record(self.process, portable(record), number)))
        with self._lock:
            if self._closed or (urgent and len(self._queue) - self._calm >= URGENT):
                late = True
            else:
                late = False
                self._queue.append(waiting)
                self._calm += not urgent
        if late:
            self._write([waiting])
        else:
            self._tell()

    def spill(self) -> None:
        """Write what the supervisor has not acknowledged to the spill file. Records that come later go there at once.

        Also for the last moments of a process, from another thread.
        """
        with self._lock:
            self._closed = True
            left = [waiting for _, waiting in self._sent.values() if waiting.urgent]
            left += [waiting for waiting in self._queue if waiting.urgent]
            self._sent.clear()
            self._queue.clear()
            self._calm = 0
        self._write(left)

    # --- the Trio run's thread ----------------------------------------------------------------------------------

    async def run(self, context: Context, endpoint: str, curve: Security | None = None) -> None:
        """Send the queue to the supervisor until cancelled. Nobody has to listen yet."""
        self._token = trio.lowlevel.current_trio_token()
        self._told = False
        options = Options(identity=f"{self.process}-{os.getpid()}".encode(), high_water=WINDOW)
        try:
            async with Socket.connect(context, Kind.DEALER, endpoint, options=options, curve=curve) as socket:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._take_answers, socket)
                    nursery.start_soon(self._send_again, socket)
                    await self._send_all(socket)
        finally:
            self._token = None

    async def drain(self, patience: float) -> None:
        """Wait until everything was sent and acknowledged, or `patience` seconds went by."""
        with trio.move_on_after(patience):
            while self._queue or self._sent:
                await self._change()

    async def _send_all(self, socket: Socket) -> None:
        while True:
            while self._queue and len(self._sent) < WINDOW:
                await self._send_next(socket)
            self._report_dropped()
            if not self._queue or len(self._sent) >= WINDOW:
                await self._change()

    async def _send_next(self, socket: Socket) -> None:
        """The record leaves the queue only after it was sent: a cancelled send has sent nothing."""
        waiting = self._queue[0]
        await socket.send_frames([waiting.data])
        with self._lock:
            if not self._queue or self._queue[0] is not waiting:
                return  # spilled meanwhile
            self._queue.popleft()
            self._calm -= not waiting.urgent
            self._sent[waiting.number] = (trio.current_time(), waiting)

    async def _take_answers(self, socket: Socket) -> None:
        while True:
            for _, message in await socket.receive_many():
                if isinstance(message, Answer):
                    with self._lock:
                        self._sent.pop(message.request, None)
            self._wake()

    async def _send_again(self, socket: Socket) -> None:
        """What was on its way when a connection broke is lost without a sound."""
        while True:
            await trio.sleep(RESEND)
            before = trio.current_time() - RESEND
            for number, (sent, waiting) in list(self._sent.items()):
                if sent <= before and number in self._sent:
                    await socket.send_frames([waiting.data])
                    with self._lock:
                        if number in self._sent:
                            self._sent[number] = (trio.current_time(), waiting)

    def _report_dropped(self) -> None:
        if self.dropped and self._calm < CALM // 2:
            with self._lock:
                count, self.dropped = self.dropped, 0
            record = logbook.LogRecord(
                "onitu.wire", logbook.WARNING, f"{count} log records below WARNING were dropped: they came too fast"
            )
            record.heavy_init()
            self.emit(record)

    async def _change(self) -> None:
        """Until something changed: a record came, or some were acknowledged.

        The caller looked at the queue in the same turn; what comes after that look wakes it by a later turn.
        """
        await self._changed.wait()

    def _tell(self) -> None:
        """Have Trio's thread wake the sender, once for all the records of one turn."""
        with self._lock:
            token, told = self._token, self._told
            self._told = token is not None
        if token is not None and not told:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._wake)

    def _wake(self) -> None:
        with self._lock:
            self._told = False
        event, self._changed = self._changed, trio.Event()
        event.set()

    # --- the spill file -----------------------------------------------------------------------------------------

    def _write(self, waiting: list[_Waiting]) -> None:
        if not waiting:
            return
        decoder = msgspec.msgpack.Decoder(Record)
        lines = b"".join(msgspec.json.encode(decoder.decode(one.data)) + b"\n" for one in waiting)
        try:
            if not self._spill_path:
                raise OSError("no spill file")
            fd = os.open(self._spill_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, lines)
            finally:
                os.close(fd)
        except OSError:
            sys.stderr.buffer.write(lines)
            sys.stderr.flush()


def portable(record: logbook.LogRecord) -> dict[str, Any]:
    """The record as a dict that every codec can carry: formatted, strings valid and not too long.

    Its arguments are left out: the message has them, and they may be anything.
    """
    try:
        record.pull_information()
    except TypeError as error:  # Logbook's way to say that the message does not fit its arguments
        record.msg, record.args, record.kwargs = f"{record.msg} ({error})", (), {}
        record.pull_information()
    record.msg, record.args, record.kwargs = record.message, (), {}
    plain: dict[str, Any] = _plain(record.to_dict(json_safe=True))
    return plain


def _plain(value: Any) -> Any:
    """Lone surrogates (names of files that are no UTF-8) and huge numbers would not go through MessagePack."""
    if isinstance(value, str):
        return value[:LONGEST].encode(errors="backslashreplace").decode()
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
