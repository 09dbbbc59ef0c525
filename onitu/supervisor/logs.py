"""Where the log records of all processes end: the terminal, a rotating file, JSON lines.

The other end of `onitu.wire.logs`. Each record is written, then acknowledged, and taken once.
"""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self

import logbook
import logbook.compat
import msgspec
import trio

from onitu.model.errors import OnituError, PeerGone
from onitu.wire.charter import SPILL_SUFFIX
from onitu.wire.logs import portable
from onitu.wire.messages import Answer, Record
from onitu.wire.sockets import Context, Kind, Security, Socket

FORMAT = "{record.time:%Y-%m-%d %H:%M:%SZ} {record.level_name:<8} {record.extra[process]}: {record.message}"
SHORT = "{record.level_name}: {record.extra[process]}: {record.message}"
_REMEMBERED = 4096
"""Numbers of records that are remembered for each process, to take none twice. Above what it may have on the way."""

_log = logbook.Logger("onitu.supervisor")


class Places(msgspec.Struct, frozen=True):
    """Where records go.

    Attributes:
        terminal: the lowest level for standard error; empty: nothing goes there.
        directory: where `onitu.log` is written and rotated; None: nowhere.
        level: the lowest level for the file.
        json: a file for JSON lines; None: none.
        max_size: bytes at which the file is rotated.
        backups: how many rotated files are kept.
    """

    terminal: str = "WARNING"
    directory: Path | None = None
    level: str = "INFO"
    json: Path | None = None
    max_size: int = 10 * 1024 * 1024
    backups: int = 5


class LogSink:
    """The supervisor's end of the logs channel. An async context manager that owns the socket and the files.

    While it is open, `installed` has the supervisor's own records go the same way; `run` takes those of the children.
    A record is written where it is taken: on the Trio thread, a line at a time, into the page cache.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        places: Places,
        *,
        curve: Security | None = None,
        stream: IO[str] | None = None,
    ) -> None:
        """`stream` is the terminal; left out, it is standard error at the time of each record."""
        self._context = context
        self._endpoint = endpoint
        self._places = places
        self._curve = curve
        self._stream = stream
        self._handlers: list[logbook.Handler] = []
        self._seen: dict[bytes, dict[int, None]] = {}
        self._stack = ExitStack()
        self._socket: Socket | None = None

    async def __aenter__(self) -> Self:
        with ExitStack() as stack:
            self._handlers = list(_handlers(self._places, self._stream))
            for handler in self._handlers:
                stack.callback(handler.close)
            self._socket = Socket.bind(self._context, Kind.ROUTER, self._endpoint, curve=self._curve)
            stack.callback(self._socket.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def installed(self, process: str = "onitu") -> Iterator[None]:
        """Take this process's own records too, and those of the standard library's `logging`."""
        with _Own(self, process).applicationbound(), logbook.compat.redirected_logging(set_root_logger_level=False):
            yield

    async def run(self) -> None:
        """Write what the children send, and acknowledge it, until cancelled."""
        socket = self._socket
        if socket is None:
            raise RuntimeError("the sink is not open")
        while True:
            for identity, message in await socket.receive_many():
                if not isinstance(message, Record):
                    _log.warning("dropped a {} on the logs channel", type(message).__name__)
                    continue
                if self._is_new(identity, message.number):
                    self.write(message)
                if message.number:
                    _acknowledge(socket, identity, message.number)

    def write(self, message: Record) -> None:
        """One record to all places. A record that is none is reported as a warning instead."""
        try:
            record = restored(message)
        except OnituError as error:
            record = restored(Record(message.process, _warning(str(error))))
        for handler in self._handlers:
            if handler.should_handle(record):
                handler.handle(record)

    def take_spilled(self, directory: Path) -> int:
        """Write the records that processes left in spill files, and remove the files. Returns how many they were."""
        count = 0
        for path in sorted(directory.glob(f"*{SPILL_SUFFIX}")):
            for line in path.read_bytes().splitlines():
                try:
                    message = msgspec.json.decode(line, type=Record)
                except msgspec.MsgspecError:
                    continue  # the torn last line of a process that was killed while it wrote
                self.write(message)
                count += 1
            path.unlink()
        return count

    def _is_new(self, identity: bytes, number: int) -> bool:
        if not number:
            return True
        seen = self._seen.setdefault(identity, {})
        if number in seen:
            return False
        seen[number] = None
        if len(seen) > _REMEMBERED:
            del seen[next(iter(seen))]  # the oldest
        return True


class _Own(logbook.Handler):
    """The supervisor's own records."""

    def __init__(self, sink: LogSink, process: str) -> None:
        logbook.Handler.__init__(self)
        self._sink = sink
        self._process = process

    def emit(self, record: logbook.LogRecord) -> None:
        self._sink.write(Record(self._process, portable(record)))


class _JsonLines(logbook.FileHandler):
    """One JSON object a line: time, level, process, channel, message, and what else the record has."""

    def __init__(self, path: Path, level: str) -> None:
        logbook.FileHandler.__init__(self, str(path), level=_level(level))

    def format(self, record: logbook.LogRecord) -> str:
        extra = dict(record.extra)
        line = {
            "time": str(record.time),
            "level": record.level_name,
            "process": extra.pop("process", ""),
            "pid": record.process,
            "channel": record.channel,
            "message": record.message,
            "exception": record.formatted_exception,
            "extra": extra,
        }
        return msgspec.json.encode({key: value for key, value in line.items() if value}).decode()

    def _open(self, mode: str | None = None) -> None:
        self.stream = _private(self._filename, mode or self._mode)


class _Rotating(logbook.RotatingFileHandler):
    """Logbook's, with files that nobody else may read: logs name paths."""

    def __init__(self, path: Path, places: Places) -> None:
        logbook.RotatingFileHandler.__init__(
            self,
            str(path),
            level=_level(places.level),
            format_string=FORMAT,
            max_size=places.max_size,
            backup_count=places.backups,
        )

    def _open(self, mode: str | None = None) -> None:
        self.stream = _private(self._filename, mode or self._mode)


def restored(message: Record) -> logbook.LogRecord:
    """The Logbook record in a message, with the process that it came from in `extra`.

    Raises:
        OnituError: it is none that can be written.
    """
    try:
        fields = msgspec.convert(message.record, _Fields)
    except msgspec.ValidationError as error:
        raise OnituError(f"a log record of {message.process} that is none ({error})") from None
    record: logbook.LogRecord = logbook.LogRecord.from_dict(msgspec.structs.asdict(fields))
    record.extra["process"] = message.process
    return record


class _Fields(msgspec.Struct, frozen=True, kw_only=True):
    """What a record must have, and what is taken of it. Anything else in it is left out."""

    level: Annotated[int, msgspec.Meta(ge=logbook.TRACE, le=logbook.CRITICAL)]
    message: str
    time: datetime.datetime
    channel: str | None = ""
    msg: str = ""
    args: tuple[()] = ()
    kwargs: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    process: int | None = None
    thread_name: str | None = None
    module: str | None = None
    func_name: str | None = None
    filename: str | None = None
    lineno: int | None = None
    formatted_exception: str | None = None


def _warning(text: str) -> dict[str, Any]:
    record = logbook.LogRecord("onitu.supervisor", logbook.WARNING, text)
    record.heavy_init()
    return portable(record)


def _acknowledge(socket: Socket, identity: bytes, number: int) -> None:
    # Where that fails the process is gone, or will send the record again: nothing is lost, for it was written.
    with suppress(PeerGone, trio.WouldBlock):
        socket.send_nowait(Answer(number), to=identity)


def _handlers(places: Places, stream: IO[str] | None) -> Iterator[logbook.Handler]:
    if places.terminal:
        if stream is None:
            yield logbook.StderrHandler(_level(places.terminal), format_string=SHORT)
        else:
            yield logbook.StreamHandler(stream, _level(places.terminal), format_string=SHORT)
    if places.directory is not None:
        places.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield _Rotating(places.directory / "onitu.log", places)
    if places.json is not None:
        places.json.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield _JsonLines(places.json, places.level)


def _level(name: str) -> int:
    level: int = logbook.lookup_level(name.upper())
    return level


def _private(path: str, mode: str) -> IO[str]:
    """A file for text that only its owner can read, also where it was there before."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if mode == "w" else os.O_APPEND)
    fd = os.open(path, flags, 0o600)
    if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
        os.fchmod(fd, 0o600)
    return open(fd, "a", encoding="utf-8")
