from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import logbook
import msgspec
import pytest
import trio
import trio.lowlevel
import zmq

from onitu.wire import logs
from onitu.wire.logs import CALM, Outlet
from onitu.wire.messages import Answer, Record
from onitu.wire.sockets import Context, Kind, Socket

log = logbook.Logger("test")


@pytest.fixture
def context() -> Iterator[Context]:
    context: Context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"ipc://{tmp_path_factory.mktemp('l')}/l"


@pytest.fixture
def outlet(tmp_path: Path) -> Iterator[Outlet]:
    outlet = Outlet("driver nas", "DEBUG", spill=str(tmp_path))
    with outlet.installed():
        yield outlet


class Reader:
    """A supervisor that takes records, and acknowledges after a number of them where it shall."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self.socket = Socket.bind(context, Kind.ROUTER, endpoint)
        self.records: list[Record] = []
        self._more = trio.Event()

    async def until(self, count: int) -> None:
        """Until so many records arrived."""
        while len(self.records) < count:
            await self._more.wait()

    async def run(self, pause: float = 0, acknowledge: bool = True) -> None:
        async with self.socket:
            while True:
                for identity, message in await self.socket.receive_many(100):
                    assert isinstance(message, Record)
                    self.records.append(message)
                    if message.number and acknowledge:
                        await self.socket.send(Answer(message.number), to=identity)
                more, self._more = self._more, trio.Event()
                more.set()
                if pause:
                    await trio.sleep(pause)


def spilled(directory: Path) -> list[Record]:
    return [
        msgspec.json.decode(line, type=Record)
        for path in directory.glob("*.spill")
        for line in path.read_bytes().splitlines()
    ]


async def test_records_arrive_in_order_with_all_that_they_say(outlet: Outlet, context: Context, endpoint: str) -> None:
    reader = Reader(context, endpoint)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.run)
            nursery.start_soon(outlet.run, context, endpoint)
            log.info("took {} from {name}", 3, name="nas")
            try:
                raise ValueError("bad")
            except ValueError:
                log.exception("failed")
            logging.getLogger("paramiko").warning("from %s", "stdlib")
            await trio.to_thread.run_sync(log.notice, "from a thread")
            await outlet.drain(5)
            nursery.cancel_scope.cancel()
    assert [(r.process, r.record["message"]) for r in reader.records] == [
        ("driver nas", "took 3 from nas"),
        ("driver nas", "failed"),
        ("driver nas", "from stdlib"),
        ("driver nas", "from a thread"),
    ]
    assert "ValueError: bad" in reader.records[1].record["formatted_exception"]


def test_infos_never_block_without_a_reader(outlet: Outlet) -> None:
    for i in range(20_000):
        log.info("line {}", i)
    assert outlet.dropped == 20_000 - CALM


async def test_the_loop_goes_on_while_nobody_reads(outlet: Outlet, context: Context, endpoint: str) -> None:
    """Also with a task that sends, and a peer that is connected but takes nothing."""
    deaf = Socket.bind(context, Kind.ROUTER, endpoint)
    async with deaf, trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run, context, endpoint)
        with trio.fail_after(120):
            for i in range(20_000):
                log.info("line {}", i)
                if i % 1000 == 0:
                    await trio.lowlevel.checkpoint()
        assert outlet.dropped > 0
        nursery.cancel_scope.cancel()


async def test_dropped_infos_are_counted_in_a_warning(outlet: Outlet, context: Context, endpoint: str) -> None:
    reader = Reader(context, endpoint)
    for i in range(CALM + 500):
        log.info("line {}", i)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.run)
            nursery.start_soon(outlet.run, context, endpoint)
            await reader.until(CALM + 1)
            nursery.cancel_scope.cancel()
    assert reader.records[-1].record["message"].startswith("500 log records below WARNING were dropped")
    assert outlet.dropped == 0


async def test_no_warning_is_lost_with_a_late_and_slow_reader(
    outlet: Outlet, context: Context, endpoint: str, tmp_path: Path
) -> None:
    count = 3000
    for i in range(count):
        log.warning("w{}", i)
        log.info("i{}", i)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outlet.run, context, endpoint)
            await trio.testing.wait_all_tasks_blocked()
            reader = Reader(context, endpoint)
            nursery.start_soon(reader.run, 0.005)
            await outlet.drain(30)
            nursery.cancel_scope.cancel()
    outlet.spill()
    assert [r.record["message"] for r in reader.records if r.record["level"] == logbook.WARNING] == [
        f"w{i}" for i in range(count)
    ]
    assert spilled(tmp_path) == []


async def test_what_was_not_acknowledged_is_spilled(
    outlet: Outlet, context: Context, endpoint: str, tmp_path: Path
) -> None:
    """The reader took them, but nobody knows whether it wrote them."""
    reader = Reader(context, endpoint)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.run, 0, False)
            nursery.start_soon(outlet.run, context, endpoint)
            for i in range(20):
                log.warning("w{}", i)
            await reader.until(20)
            await outlet.drain(0.05)
            nursery.cancel_scope.cancel()
    outlet.spill()
    log.error("even later")
    assert [r.record["message"] for r in spilled(tmp_path)] == [*(f"w{i}" for i in range(20)), "even later"]
    assert next(tmp_path.glob("*.spill")).stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240


READER = """
import sys, trio, zmq
from onitu.wire.sockets import *
from onitu.wire.messages import *
async def main():
    async with Socket.bind(zmq.Context(), Kind.ROUTER, sys.argv[1]) as socket:
        while True:
            identity, message = await socket.receive()
            if message.number:
                print(message.number, flush=True)
                await socket.send(Answer(message.number), to=identity)
trio.run(main)
"""


async def test_no_warning_is_lost_when_the_reader_is_killed(
    outlet: Outlet, context: Context, endpoint: str, tmp_path: Path
) -> None:
    """Each is in what the reader wrote before it was killed, or in the spill file."""
    process = subprocess.Popen([sys.executable, "-c", READER, endpoint], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdout is not None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outlet.run, context, endpoint)
            log.warning("first")
            with trio.fail_after(20):
                assert await trio.to_thread.run_sync(process.stdout.readline) == b"1\n"
            for i in range(2, 1001):
                log.warning("w{}", i)
                if i % 50 == 0:
                    await trio.lowlevel.checkpoint()
                if i == 700:
                    process.kill()
            await outlet.drain(0.2)
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        out, _ = process.communicate()
    outlet.spill()
    read = {1, *(int(line) for line in out.split())}
    left = {record.number for record in spilled(tmp_path)}
    assert read | left == set(range(1, 1001))
    assert left


async def test_a_new_reader_gets_what_the_killed_one_did_not_acknowledge(
    outlet: Outlet, context: Context, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RESEND", 0.2)
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outlet.run, context, endpoint)
            log.warning("once")
            with trio.CancelScope() as scope:
                first = Reader(context, endpoint)
                async with trio.open_nursery() as inner:
                    inner.start_soon(first.run, 0, False)
                    await first.until(1)
                    scope.cancel()
            second = Reader(context, endpoint)
            nursery.start_soon(second.run)
            await outlet.drain(10)
            nursery.cancel_scope.cancel()
    assert first.records[0] == second.records[0]


def test_records_that_no_codec_likes_are_made_portable(outlet: Outlet, tmp_path: Path) -> None:
    log.warning("path {}", "caf\udce9", extra={"big": 1 << 70, "object": object(), "raw": b"x"})
    log.warning("missing {} {}", 1)
    log.warning("long {}", "x" * 1_000_000)
    outlet.spill()
    messages = [record.record["message"] for record in spilled(tmp_path)]
    assert messages[0] == "path caf\\udce9"
    assert messages[1].startswith("missing {} {} (")
    assert len(messages[2]) == logs.LONGEST


def test_a_spill_that_cannot_be_written_goes_to_standard_error(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    outlet = Outlet("driver nas", spill="/nowhere/at/all")
    with outlet.installed():
        log.error("look here")
    outlet.spill()
    assert b"look here" in capfdbinary.readouterr().err
