from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import logbook
import pytest
import trio
import zmq

from onitu.supervisor.logs import LogSink, Places
from onitu.wire.logs import Outlet, portable
from onitu.wire.messages import Answer, Beat, Record
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
def places(tmp_path: Path) -> Places:
    return Places(terminal="ERROR", directory=tmp_path / "log", level="INFO", json=tmp_path / "log" / "onitu.json")


def a_record(text: str, level: int = logbook.WARNING) -> dict[str, object]:
    record = logbook.LogRecord("somewhere", level, text, extra={"path": "a/b"})
    record.heavy_init()
    return portable(record)


def files(directory: Path, pattern: str = "*") -> list[Path]:
    return sorted(directory.glob(pattern))


async def test_a_childs_records_reach_all_places(
    context: Context, endpoint: str, places: Places, tmp_path: Path
) -> None:
    outlet = Outlet("driver nas", "DEBUG", spill=str(tmp_path))
    terminal = io.StringIO()
    async with LogSink(context, endpoint, places, stream=terminal) as sink, trio.open_nursery() as nursery:
        nursery.start_soon(sink.run)
        nursery.start_soon(outlet.run, context, endpoint)
        with outlet.installed():
            log.debug("too low")
            log.info("found {} files", 3)
            try:
                raise OSError("no space")
            except OSError:
                log.exception("cannot write")
        with trio.fail_after(10):
            await outlet.drain(10)
        nursery.cancel_scope.cancel()
    outlet.spill()
    text = (tmp_path / "log" / "onitu.log").read_text()
    assert "too low" not in text
    assert "INFO     driver nas: found 3 files" in text
    assert "OSError: no space" in text
    assert terminal.getvalue().startswith("ERROR: driver nas: cannot write\nTraceback")
    lines = [json.loads(line) for line in (tmp_path / "log" / "onitu.json").read_text().splitlines()]
    assert [(line["level"], line["process"], line["message"]) for line in lines] == [
        ("INFO", "driver nas", "found 3 files"),
        ("ERROR", "driver nas", "cannot write"),
    ]
    assert not files(tmp_path, "*.spill")


async def test_the_supervisors_own_records_go_the_same_way(context: Context, endpoint: str, places: Places) -> None:
    terminal = io.StringIO()
    async with LogSink(context, endpoint, places, stream=terminal) as sink:
        with sink.installed("onitu"):
            log.error("the child {} died", "nas")
        log_of_others = logbook.TestHandler()
        with log_of_others.applicationbound():
            log.error("not taken any more")
    assert terminal.getvalue() == "ERROR: onitu: the child nas died\n"


async def test_a_record_that_came_twice_is_written_once_and_acknowledged_twice(
    context: Context, endpoint: str, places: Places
) -> None:
    terminal = io.StringIO()
    record = Record("referee", a_record("once", logbook.ERROR), 7)
    async with (
        LogSink(context, endpoint, places, stream=terminal) as sink,
        Socket.connect(context, Kind.DEALER, endpoint) as child,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sink.run)
        with trio.fail_after(5):
            for _ in range(2):
                await child.send(record)
                assert await child.receive() == (b"", Answer(7))
        nursery.cancel_scope.cancel()
    assert terminal.getvalue() == "ERROR: referee: once\n"


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"level": 99, "message": "x", "time": "2020-01-01T00:00:00.0Z"},
        {"level": 13, "message": 5, "time": "2020-01-01T00:00:00.0Z"},
        {"level": 13, "message": "x", "time": "yesterday"},
        {**a_record("x"), "extra": [1]},
        {**a_record("x"), "level": [1]},
        {**a_record("x"), "formatted_exception": 5},
    ],
)
async def test_a_record_that_is_none_becomes_a_warning(
    record: dict[str, object], context: Context, endpoint: str
) -> None:
    terminal = io.StringIO()
    async with LogSink(context, endpoint, Places(), stream=terminal) as sink:
        sink.write(Record("driver nas", record))
    assert terminal.getvalue().startswith("WARNING: driver nas: a log record of driver nas that is none")


async def test_other_messages_and_garbage_do_not_stop_the_sink(context: Context, endpoint: str, places: Places) -> None:
    terminal = io.StringIO()
    async with (
        LogSink(context, endpoint, places, stream=terminal) as sink,
        Socket.connect(context, Kind.DEALER, endpoint) as child,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sink.run)
        with trio.fail_after(5):
            await child.send(Beat())
            await child.send_frames([b"\xc1garbage"])
            await child.send(Record("referee", a_record("still here", logbook.ERROR), 1))
            assert await child.receive() == (b"", Answer(1))
        nursery.cancel_scope.cancel()
    assert terminal.getvalue() == "ERROR: referee: still here\n"


async def test_the_files_are_private_and_rotated(context: Context, endpoint: str, tmp_path: Path) -> None:
    places = Places(terminal="", directory=tmp_path, max_size=2000, backups=2)
    (tmp_path / "onitu.log").touch(mode=0o644)
    async with LogSink(context, endpoint, places) as sink:
        for i in range(100):
            sink.write(Record("referee", a_record(f"line {i:03}")))
    found = files(tmp_path)
    assert [file.name for file in found] == ["onitu.log", "onitu.log.1", "onitu.log.2"]
    for file in found:
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.stat().st_size <= 2000
    assert "line 099" in found[0].read_text()


async def test_spilled_records_are_taken_once(context: Context, endpoint: str, places: Places, tmp_path: Path) -> None:
    outlet = Outlet("driver nas", spill=str(tmp_path))
    with outlet.installed():
        log.warning("nobody was there")
        log.error("still nobody")
    outlet.spill()
    with files(tmp_path, "*.spill")[0].open("ab") as file:
        file.write(b'{"torn')
    terminal = io.StringIO()
    async with LogSink(context, endpoint, places, stream=terminal) as sink:
        assert sink.take_spilled(tmp_path) == 2
        assert sink.take_spilled(tmp_path) == 0
    assert terminal.getvalue() == "ERROR: driver nas: still nobody\n"
    assert "nobody was there" in (tmp_path / "log" / "onitu.log").read_text()
