"""The SFTP protocol, version 3, over a pair of streams: https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02
and the extensions of OpenSSH, https://github.com/openssh/openssh-portable/blob/master/PROTOCOL (section 4).

Requests of any number of tasks are under way at the same time, and a task sends several before it waits for the first:
a round trip is paid once for all of them. Nothing here knows files of a folder; that is `driver`.
"""

from __future__ import annotations

import stat
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import trio

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = (
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
    20,
)
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, NO_CONNECTION, CONNECTION_LOST, OP_UNSUPPORTED = range(
    9
)

TO_READ, TO_WRITE, TO_CREATE, TO_TRUNCATE, TO_MAKE_NEW = 1, 2, 8, 16, 32
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 1, 2, 4, 8, 0x80000000

WINDOW = 2 << 20
"""Bytes of one transfer that are on their way; OpenSSH lets no more pass through one channel at a time."""
LISTING_AHEAD = 4
"""Parts of a listing that are asked for at the same time."""
PACKET = 32768
"""Bytes of content in a packet that every server takes."""
LARGE_PACKET = 128 * 1024
"""… and that are used where a server says that it takes them: half the packets, half the work, and no more is gained
by larger ones."""
LONGEST = 16 << 20
"""Bytes of a packet that no sane server exceeds."""
_TAKE = 1 << 18


class Status(Exception):
    """A request that failed, with the protocol's code and the server's words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class Cut(Exception):
    """The session has ended, or was broken by what the server sent. What was asked may have been done or not."""


class Garbled(Cut):
    """The server sent what is not SFTP."""


class Stat(msgspec.Struct, frozen=True):
    """What the server tells of a file. `mode` has the type's bits; None of it is known where it is -1."""

    size: int = -1
    mode: int = -1
    mtime: int = -1


class Reply:
    """The answer to one request, once it is there."""

    __slots__ = ("_there", "body", "dropped", "failure", "kind", "since")

    def __init__(self) -> None:
        self.since = trio.current_time()
        self.kind = 0
        self.body = b""
        self.dropped = False
        self.failure: Cut | None = None
        self._there = trio.Event()

    def arrive(self, kind: int, body: bytes) -> None:
        self.kind, self.body = kind, body
        self._there.set()

    def fail(self, failure: Cut) -> None:
        self.failure = failure
        self._there.set()

    async def there(self) -> None:
        """Until it has come, whatever it is."""
        await self._there.wait()

    async def wait(self, kind: int) -> Reader:
        """The answer of this kind. Raises `Status`, `Cut`. Cancelled: what it opens is closed when it arrives."""
        if not self._there.is_set():  # a turn of the loop for each packet of a large file is a fifth of its cost
            try:
                await self._there.wait()
            except trio.Cancelled:
                self.dropped = True
                raise
        if self.failure is not None:
            raise type(self.failure)(*self.failure.args)
        reader = Reader(self.body)
        if self.kind == STATUS and (kind != STATUS or self.body[:4] != b"\0\0\0\0"):
            code = reader.number()
            raise Status(code, reader.string().decode(errors="replace") if reader.more else "")
        if self.kind != kind:
            raise Garbled(f"the server answered with a packet of kind {self.kind}, not {kind}")
        return reader


class Reader:
    """Takes fields off the front of a packet. Raises `Garbled` where it is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def _take(self, layout: str) -> int:
        try:
            (value,) = struct.unpack_from(layout, self._data, self._at)
        except struct.error:
            raise Garbled("the server sent a packet that is too short") from None
        self._at += struct.calcsize(layout)
        return int(value)

    def number(self) -> int:
        return self._take(">I")

    def long(self) -> int:
        return self._take(">Q")

    def string(self) -> bytes:
        length = self.number()
        value = self._data[self._at : self._at + length]
        if len(value) < length:
            raise Garbled("the server sent a packet that is too short")
        self._at += length
        return value

    def stat(self) -> Stat:
        flags = self.number()
        size = self.long() if flags & _SIZE else -1
        if flags & _OWNER:
            self.long()
        mode = self.number() if flags & _MODE else -1
        mtime = (self.number(), self.number())[1] if flags & _TIMES else -1
        for _ in range(self.number() if flags & _MORE else 0):
            self.string(), self.string()
        return Stat(size, mode, mtime)


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def attributes(mode: int = -1, mtime: int = -1, size: int = -1) -> bytes:
    """Those that are not -1, as a request has them; seconds that the protocol cannot hold become the nearest."""
    flags = (_SIZE if size >= 0 else 0) | (_MODE if mode >= 0 else 0) | (_TIMES if mtime != -1 else 0)
    fields = struct.pack(">I", flags)
    if size >= 0:
        fields += struct.pack(">Q", size)
    if mode >= 0:
        fields += struct.pack(">I", stat.S_IMODE(mode))
    if mtime != -1:
        seconds = min(max(mtime, 0), 0xFFFFFFFF)
        fields += struct.pack(">II", seconds, seconds)
    return fields


class Session:
    """One session. `run` has to go on in a task as long as it is used."""

    def __init__(
        self,
        source: trio.abc.ReceiveStream,
        sink: trio.abc.SendStream,
        quiet: float,
        count: Callable[[str, int], None] = lambda name, amount: None,
    ) -> None:
        """`quiet`: seconds without a byte from the server, while it owes an answer, after which it counts as lost;
        `count`: told of `received_bytes`."""
        self._count = count
        self.extensions: dict[bytes, bytes] = {}
        self.largest_read = self.largest_write = PACKET
        self.failure: Cut | None = None
        self._source, self._sink, self._quiet = source, sink, quiet
        self._owed: dict[int, Reply] = {}
        self._number = 0
        self._queue: deque[bytes] = deque()
        self._queued = trio.Event()
        self._heard = trio.current_time()
        self._hello: Reply | None = Reply()

    @property
    def load(self) -> int:
        """Requests that are under way."""
        return len(self._owed)

    def ask(self, kind: int, *fields: bytes) -> Reply:
        """Send a request, without waiting for anything. Raises `Cut`."""
        if self.failure is not None:
            raise type(self.failure)(*self.failure.args)
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        self._owed[number] = reply = Reply()
        self._put(struct.pack(">IBI", 5 + sum(map(len, fields)), kind, number), *fields)
        return reply

    def _put(self, *parts: bytes) -> None:
        self._queue.extend(parts)
        self._queued.set()

    async def greet(self) -> None:
        """Agree on the protocol. Raises `Cut`, `Status`."""
        assert self._hello is not None
        self._put(struct.pack(">IBI", 5, INIT, 3))
        hello = await self._hello.wait(VERSION)
        hello.number()
        while hello.more:
            name = hello.string()
            self.extensions[name] = hello.string()
        if b"limits@openssh.com" in self.extensions:
            limits = await self.ask(EXTENDED, string(b"limits@openssh.com")).wait(EXTENDED_REPLY)
            limits.long()
            most_read, most_write = limits.long(), limits.long()
            self.largest_read = min(most_read or PACKET, LARGE_PACKET)
            self.largest_write = min(most_write or PACKET, LARGE_PACKET)

    # --- the streams --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry packets until the session ends, or is cancelled; raises nothing else."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                nursery.start_soon(self._watch, nursery.cancel_scope)
                await self._receive()
                nursery.cancel_scope.cancel()
        finally:
            self.break_off(Cut("the connection was closed"))

    def break_off(self, failure: Cut) -> None:
        """End it: all that is owed fails with this. Nothing happens the second time."""
        if self.failure is None:
            self.failure = failure
            for reply in [self._hello, *self._owed.values()] if self._hello else [*self._owed.values()]:
                reply.fail(failure)
            self._owed.clear()

    async def _send(self) -> None:
        try:
            while True:
                await self._queued.wait()
                self._queued = trio.Event()
                while self._queue:
                    parts, size = [self._queue.popleft()], 0
                    while self._queue and size < _TAKE:
                        parts.append(self._queue.popleft())
                        size += len(parts[-1])
                    await self._sink.send_all(b"".join(parts))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the other direction tells why

    async def _receive(self) -> None:
        buffer = bytearray()
        try:
            while data := await self._some():
                buffer += data
                at = 0
                while len(buffer) - at >= 5:
                    (length,) = struct.unpack_from(">I", buffer, at)
                    if not 1 <= length <= LONGEST:
                        raise Garbled("the server sent what is not SFTP (does a login script of it print something?)")
                    if len(buffer) - at < 4 + length:
                        break
                    self._arrived(bytes(memoryview(buffer)[at + 4 : at + 4 + length]))
                    at += 4 + length
                del buffer[:at]
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Cut as failure:
            self.break_off(failure)

    async def _some(self) -> bytes:
        """The next bytes; empty at the end."""
        data = bytes(await self._source.receive_some(_TAKE))
        self._heard = trio.current_time()
        self._count("received_bytes", len(data))
        return data

    async def _watch(self, everything: trio.CancelScope) -> None:
        """End it where nothing came for too long while something was owed."""
        while True:
            oldest = next(iter(self._owed.values()), self._hello)
            since = trio.current_time() if oldest is None else max(self._heard, oldest.since)
            if trio.current_time() >= since + self._quiet:
                break
            await trio.sleep_until(since + self._quiet)  # nothing that is asked from now on can be late before that
        self.break_off(Cut(f"the server did not answer for {self._quiet:g} s"))
        everything.cancel()

    def _arrived(self, packet: bytes) -> None:
        kind = packet[0]
        if self._hello is not None:
            hello, self._hello = self._hello, None
            hello.arrive(kind, packet[1:])
            return
        if len(packet) < 5:
            raise Garbled("the server sent a packet that is too short")
        reply = self._owed.pop(int.from_bytes(packet[1:5], "big"), None)
        if reply is None:
            raise Garbled("the server answered what nobody had asked")
        if reply.dropped and kind == HANDLE:
            self.close(Reader(packet[5:]).string())
        reply.arrive(kind, packet[5:])

    # --- what takes more than one request --------------------------------------------------------------------------

    async def open(self, path: bytes, flags: int, mode: int = -1) -> bytes:
        """The handle of a file."""
        reply = self.ask(OPEN, string(path), struct.pack(">I", flags), attributes(mode))
        return (await reply.wait(HANDLE)).string()

    def close(self, handle: bytes) -> None:
        """Give a handle back; nobody waits for that."""
        if self.failure is None:
            self.ask(CLOSE, string(handle))

    async def listed(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        """What stands in a directory, by name, without `.` and `..`. Raises `Status`, `Cut`."""
        handle = (await self.ask(OPENDIR, string(directory)).wait(HANDLE)).string()
        found: list[tuple[bytes, Stat]] = []
        try:
            ahead = deque(self.ask(READDIR, string(handle)) for _ in range(LISTING_AHEAD))
            while ahead:
                try:
                    names = await ahead.popleft().wait(NAME)
                except Status as status:
                    if status.code != EOF:
                        raise
                    return found
                for _ in range(names.number()):
                    name, _long, told = names.string(), names.string(), names.stat()
                    if name not in (b".", b".."):
                        found.append((name, told))
                ahead.append(self.ask(READDIR, string(handle)))
            return found
        finally:
            self.close(handle)

    def ask_read(self, handle: bytes, offset: int, length: int) -> list[tuple[int, int, Reply]]:
        """Ask for bytes of a file: offset, length and answer of each packet."""
        pieces = range(offset, offset + length, self.largest_read)
        sizes = [min(self.largest_read, offset + length - at) for at in pieces]
        return [
            (at, size, self.ask(READ, string(handle), struct.pack(">QI", at, size)))
            for at, size in zip(pieces, sizes, strict=True)
        ]

    async def read(self, handle: bytes, asked: Sequence[tuple[int, int, Reply]]) -> bytes:
        """The bytes that were asked for, shorter at the end of the file. Raises `Status`, `Cut`."""
        parts: list[bytes] = []
        for offset, length, reply in asked:
            end = offset + length
            while True:
                try:
                    data = (await reply.wait(DATA)).string()
                except Status as status:
                    if status.code != EOF:
                        raise
                    return b"".join(parts)
                parts.append(data)
                offset += len(data)
                if offset >= end or not data:
                    break
                reply = self.ask(READ, string(handle), struct.pack(">QI", offset, end - offset))
        return b"".join(parts)

    async def write(self, handle: bytes, pieces: AsyncIterator[bytes], offset: int) -> Sequence[Reply]:
        """Write all of it from there on; returns what the server has not answered yet. At no time is more than `WINDOW`
        bytes sent past the first one that was not acknowledged. Raises `Status` after the first packet that failed,
        `Cut`."""
        ahead: deque[tuple[int, Reply]] = deque()
        under_way = 0
        async for piece in pieces:
            for at in range(0, len(piece), self.largest_write):
                data = piece[at : at + self.largest_write]
                if ahead and under_way + len(data) > WINDOW:
                    # Room for some more at once: to be woken for each answer costs as much as to send a packet.
                    under_way -= await _answered(ahead, max(len(data), WINDOW // 4))
                where = struct.pack(">QI", offset, len(data))
                ahead.append((len(data), self.ask(WRITE, string(handle), where, data)))
                under_way += len(data)
                offset += len(data)
        return [reply for _, reply in ahead]


async def _answered(ahead: deque[tuple[int, Reply]], wanted: int) -> int:
    """Wait until so many bytes, and all before them, are acknowledged; returns how many are. Raises `Status`, `Cut`."""
    size = 0
    chosen: list[Reply] = []
    while ahead and size < wanted:
        length, reply = ahead.popleft()
        size += length
        chosen.append(reply)
    await chosen[-1].there()
    for reply in chosen:
        await reply.wait(STATUS)
    return size
