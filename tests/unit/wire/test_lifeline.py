"""Real processes: a parent that starts a child with a lifeline, and what becomes of the child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from onitu.model.errors import OnituError
from onitu.model.settings import Folder, Replica, Rule, Service, Settings
from onitu.wire.charter import Charter, Endpoints
from onitu.wire.lifeline import Lifeline, frame, read_charter

NEVER = "ipc:///nowhere"


def charter(runtime: Path) -> Charter:
    settings = Settings(
        name="home",
        folders={"docs": Folder("docs")},
        services={
            "nas": Service(
                "nas",
                "sftp",
                {"password": "s3cret", "port": 22, "rate": 0.5, "agent": True},
                replicas={"docs": Replica("docs", "/srv")},
            )
        },
        rules=(Rule("/photos/", sync=("nas",)),),
        state=str(runtime),
    )
    endpoints = Endpoints(NEVER, NEVER, NEVER, NEVER, f"ipc://{runtime}/logs", str(runtime))
    return Charter("driver nas", settings, endpoints, service="nas")


CHILD = """
    import os, sys, threading, time
    import logbook, trio
    from onitu.wire.lifeline import run_child

    async def main(charter, farewell):
        print("up", os.getpid(), charter.process, flush=True)
        try:
            {body}
        finally:
            print("cleaned", flush=True)

    sys.exit(run_child(main))
"""


@contextmanager
def child(body: str, runtime: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD).format(body=body)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(frame(charter(runtime)))
        process.stdin.flush()
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == b"up %d driver nas\n" % process.pid, (line, process.stderr.read() if not line else b"")
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_charter_arrives_as_it_was_written(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, frame(charter(tmp_path)) + b"more")
    assert read_charter(reading) == charter(tmp_path)
    assert os.read(reading, 10) == b"more"
    os.close(writing)
    os.close(reading)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0\5ab", b"hello, this is somebody's terminal", b"\0\0\0\1\xc0"])
def test_what_is_no_charter_is_refused_clearly(data: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with pytest.raises(OnituError, match="charter"):
        read_charter(reading)
    os.close(reading)


def test_a_cut_line_cancels_the_scope() -> None:
    code = (
        "import os, sys, trio; from onitu.wire.lifeline import Lifeline\n"
        "async def main():\n"
        "    line = Lifeline(0)\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(line.hold, nursery.cancel_scope)\n"
        "        print('up', flush=True); await trio.sleep_forever()\n"
        "    print('cancelled', line.cut)\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()
        assert process.stdout.read() == b"cancelled True\n"
        assert process.wait(5) == 0


async def test_a_line_that_was_cut_before_it_was_held_cancels_too() -> None:
    reading, writing = os.pipe()
    line = Lifeline(reading, grace=3600)  # its thread sleeps until the tests end
    os.close(writing)
    with trio.fail_after(5):
        with trio.CancelScope() as scope:
            await trio.to_thread.run_sync(lambda: None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.hold, scope)
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert line.cut


def test_sigterm_cancels_and_exits_with_0(tmp_path: Path) -> None:
    with child("await trio.sleep_forever()", tmp_path) as process:
        process.send_signal(signal.SIGINT)  # ignored: the terminal sent it to everybody
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)
        assert (out, err, process.returncode) == (b"cleaned\n", b"", 0)


def test_a_child_whose_main_returns_exits_with_0(tmp_path: Path) -> None:
    with child("pass", tmp_path) as process:
        assert process.wait(5) == 0


def test_an_error_is_logged_with_its_traceback_and_exits_with_1(tmp_path: Path) -> None:
    with child("raise ValueError('what was wrong')", tmp_path) as process:
        assert process.wait(5) == 1
    spilled = (tmp_path / f"{process.pid}.spill").read_text()  # nobody read the logs
    assert "what was wrong" in spilled
    assert "Traceback" in spilled


def test_an_error_that_is_made_for_people_is_logged_as_a_sentence(tmp_path: Path) -> None:
    body = (
        "from onitu.model.errors import StoreGone; raise ExceptionGroup('tasks', [StoreGone('the store is gone')] * 2)"
    )
    with child(body, tmp_path) as process:
        assert process.wait(5) == 1
    spilled = (tmp_path / f"{process.pid}.spill").read_text()
    assert "driver nas failed: the store is gone" in spilled
    assert "Traceback" not in spilled


def test_nothing_secret_stands_in_argv_or_environment(tmp_path: Path) -> None:
    with child("await trio.sleep_forever()", tmp_path) as process:
        if not Path("/proc/self/cmdline").exists():
            pytest.skip("no /proc")
        for name in ("cmdline", "environ"):
            assert b"s3cret" not in Path(f"/proc/{process.pid}/{name}").read_bytes()


PARENT = """
    import subprocess, sys, os
    from pathlib import Path
    from tests.unit.wire.test_lifeline import CHILD, charter
    from onitu.wire.lifeline import frame
    import textwrap
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD).format(body=sys.argv[1])], stdin=subprocess.PIPE, close_fds=True,
    )
    process.stdin.write(frame(charter(Path(sys.argv[2]))))
    process.stdin.flush()
    import time; time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("body", "cleaned"),
    [
        ("await trio.sleep_forever()", True),
        ("time.sleep(3600)", False),  # an event loop that hangs
        ("await trio.to_thread.run_sync(time.sleep, 3600)", False),  # a thread that nobody can cancel
    ],
    ids=["orderly", "hanging loop", "hanging thread"],
)
def test_a_child_dies_within_2_seconds_of_its_parents_sigkill(body: str, cleaned: bool, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), body, str(tmp_path)], stdout=subprocess.PIPE
    )
    pid = 0
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        parent.kill()
        parent.wait()
        killed = time.monotonic()
        # The pipe reads EOF when the last process that holds it, the child, is gone.
        rest = parent.stdout.read()
        assert time.monotonic() - killed < 2
        assert rest == (b"cleaned\n" if cleaned else b"")
        pid = 0
    finally:
        parent.kill()
        parent.communicate()
        if pid:
            os.kill(pid, signal.SIGKILL)
