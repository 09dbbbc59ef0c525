"""The SFTP protocol of the driver `sftp` against a server that answers what a test wants."""

from __future__ import annotations

import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing

from onitu.drivers.sftp import wire
from onitu.drivers.sftp.things import thing_of
from onitu.model.events import Trouble
from onitu.model.versions import Kind

Packets = list[tuple[int, int, bytes]]
Play = Callable[[Packets], list[bytes]]


def packet(kind: int, number: int, *fields: bytes) -> bytes:
    body = struct.pack(">BI", kind, number) + b"".join(fields)
    return struct.pack(">I", len(body)) + body


def status(number: int, code: int) -> bytes:
    return packet(wire.STATUS, number, struct.pack(">I", code), wire.string(b"words"), wire.string(b""))


def data(number: int, content: bytes) -> bytes:
    return packet(wire.DATA, number, wire.string(content))


class Server:
    """Collects requests, and answers them as `play` says: kind, number and fields of each."""

    def __init__(self, stream: trio.StapledStream, play: Play) -> None:
        self.stream = stream
        self.play = play
        self.asked: Packets = []

    async def run(self) -> None:
        buffer = b""
        async for received in self.stream:
            buffer += received
            requests: Packets = []
            while len(buffer) >= 4 and len(buffer) >= 4 + (length := int.from_bytes(buffer[:4], "big")):
                body, buffer = buffer[4 : 4 + length], buffer[4 + length :]
                requests.append((body[0], int.from_bytes(body[1:5], "big"), body[5:]))
            for kind, number, _ in [one for one in requests if one[0] == wire.INIT]:
                assert (kind, number) == (wire.INIT, 3)
                await self.stream.send_all(struct.pack(">IBI", 5, wire.VERSION, 3))
            requests = [one for one in requests if one[0] != wire.INIT]
            self.asked += requests
            for answer in self.play(requests):
                await self.stream.send_all(answer)


@pytest.fixture
async def session_of() -> AsyncIterator[Callable[[Play], Awaitable[tuple[wire.Session, Server]]]]:
    async with trio.open_nursery() as nursery:

        async def make(play: Play) -> tuple[wire.Session, Server]:
            ours, theirs = trio.testing.memory_stream_pair()
            server = Server(theirs, play)
            session = wire.Session(ours, ours, 30.0)
            nursery.start_soon(server.run)
            nursery.start_soon(session.run)
            await session.greet()
            return session, server

        yield make
        nursery.cancel_scope.cancel()


Make = Callable[[Play], Awaitable[tuple[wire.Session, Server]]]


async def test_answers_in_any_order_reach_who_asked(session_of: Make) -> None:
    waiting: Packets = []

    def play(requests: Packets) -> list[bytes]:
        waiting.extend(requests)
        return [data(number, fields) for _, number, fields in reversed(waiting)] if len(waiting) == 3 else []

    session, _ = await session_of(play)
    asked = [session.ask(wire.READ, wire.string(b"%d" % n)) for n in range(3)]
    assert [(await reply.wait(wire.DATA)).string() for reply in asked] == [wire.string(b"%d" % n) for n in range(3)]


async def test_a_short_read_is_gone_on_with_until_the_end_of_the_file(session_of: Make) -> None:
    content = bytes(range(250)) * 4

    def play(requests: Packets) -> list[bytes]:
        answers = []
        for _, number, fields in requests:
            offset, length = struct.unpack(">QI", fields[-12:])
            piece = content[offset : offset + min(length, 77)]
            answers.append(data(number, piece) if piece else status(number, wire.EOF))
        return answers

    session, _ = await session_of(play)
    session.largest_read = 300
    assert await session.read(b"h", session.ask_read(b"h", 0, 900)) == content[:900]
    assert await session.read(b"h", session.ask_read(b"h", 100, 5000)) == content[100:]
    assert await session.read(b"h", session.ask_read(b"h", 5000, 10)) == b""


async def test_no_more_than_the_window_is_sent_past_what_was_acknowledged_and_nothing_after_a_failure(
    session_of: Make,
) -> None:
    def play(requests: Packets) -> list[bytes]:
        return [status(number, wire.FAILURE) for _, number, fields in requests if b"first" in fields]

    session, server = await session_of(play)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first" + bytes(session.largest_write - 5)
        for _ in range(9):
            yield bytes(1 << 20)

    with pytest.raises(wire.Status, match="words"):
        await session.write(b"h", pieces(), 0)
    await trio.testing.wait_all_tasks_blocked()
    assert sum(len(fields) for _, _, fields in server.asked) <= wire.WINDOW + 100 * len(server.asked)


async def test_a_handle_whose_opener_was_cancelled_is_closed(session_of: Make) -> None:
    opened: Packets = []

    def play(requests: Packets) -> list[bytes]:
        opened.extend(one for one in requests if one[0] == wire.OPEN)
        return []

    session, server = await session_of(play)
    with trio.move_on_after(0.01):
        await session.open(b"file", wire.TO_READ)
    (_, number, _) = opened[0]
    await server.stream.send_all(packet(wire.HANDLE, number, wire.string(b"the handle")))
    with trio.fail_after(10):
        while (wire.CLOSE, wire.string(b"the handle")) not in [(kind, fields) for kind, _, fields in server.asked]:
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"Last login: Tue Nov 24 on pts/0\n",
        struct.pack(">I", wire.LONGEST + 1) + bytes(10),
        packet(wire.DATA, 99, wire.string(b"nobody asked")),
        struct.pack(">IB", 1, wire.DATA),
        packet(wire.DATA, 1, struct.pack(">I", 50) + b"too short"),
        packet(wire.HANDLE, 1, wire.string(b"a handle for a read")),
    ],
    ids=["a greeting", "too long", "an answer to nobody", "no number", "a cut field", "another kind"],
)
async def test_nonsense_ends_the_session_and_hangs_nobody(session_of: Make, nonsense: bytes) -> None:
    session, _ = await session_of(lambda requests: [nonsense])
    with trio.fail_after(10), pytest.raises(wire.Garbled):
        (await session.ask(wire.READ).wait(wire.DATA)).string()


async def test_silence_while_something_is_owed_is_a_cut_and_idleness_is_none(
    session_of: Make, autojump_clock: trio.testing.MockClock
) -> None:
    session, _ = await session_of(lambda requests: [])
    await trio.sleep(1000)
    began = trio.current_time()
    with pytest.raises(wire.Cut, match="did not answer for 30 s"):
        (await session.ask(wire.READ).wait(wire.DATA)).string()
    assert trio.current_time() - began == pytest.approx(30, abs=0.1)
    with pytest.raises(wire.Cut):
        session.ask(wire.READ)


async def test_whoever_waits_learns_that_the_connection_ended(session_of: Make) -> None:
    session, server = await session_of(lambda requests: [])
    reply = session.ask(wire.READ)
    await server.stream.send_eof()
    with trio.fail_after(10), pytest.raises(wire.Cut):
        await reply.wait(wire.DATA)


def test_a_file_whose_size_is_not_told_is_none_of_no_bytes() -> None:
    told = wire.Stat(mode=stat.S_IFREG | 0o644, mtime=7)
    assert thing_of(wire.Stat(size=5, mode=told.mode, mtime=7)).size == 5
    assert (thing_of(told).kind, thing_of(told).trouble) == (Kind.NOTHING, Trouble.IO)
