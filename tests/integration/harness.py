"""Real runs for integration tests: `python -m onitu` in processes of its own, on real directories.

Nothing here sleeps for luck: a test waits for a condition, with a deadline. A process is only ever ended by the pid of
one that the test itself started, or that such a one tells in its status.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from onitu.supervisor import runtime
from onitu.wire import sockets

DEADLINE = 60.0
"""Seconds that anything may take before a test fails; these machines are slow at times."""


def wait_for(what: Callable[[], Any], deadline: float = DEADLINE, why: str = "") -> Any:
    """The first true value of `what`, looked at again and again until the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {why or what}")
        time.sleep(0.005)  # between two looks at a condition


def snapshot(root: Path, meta: bool = True) -> dict[str, tuple[Any, ...]]:
    """What stands below a root: path → kind, content, mode and mtime. Onitu's own directory does not count."""
    found: dict[str, tuple[Any, ...]] = {}
    base = os.fsencode(root)

    def walk(directory: bytes) -> None:
        for entry in os.scandir(directory):
            relative = os.path.relpath(entry.path, base)
            if relative == b".onitu":
                continue
            info = entry.stat(follow_symlinks=False)
            name = os.fsdecode(relative)
            if stat.S_ISLNK(info.st_mode):
                found[name] = ("link", os.readlink(entry.path), info.st_mtime_ns if meta else 0)
            elif stat.S_ISDIR(info.st_mode):
                found[name] = ("directory", stat.S_IMODE(info.st_mode) if meta else 0)
                walk(entry.path)
            elif stat.S_ISREG(info.st_mode):
                with open(entry.path, "rb") as file:
                    digest = hashlib.file_digest(file, "blake2b").hexdigest()
                found[name] = (
                    "file",
                    info.st_size,
                    digest,
                    *((stat.S_IMODE(info.st_mode), info.st_mtime_ns) if meta else ()),
                )

    walk(base)
    return found


def difference(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two snapshots differ."""
    return {path: (a.get(path), b.get(path)) for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)}


def alike(*roots: Path, meta: bool = True) -> bool:
    """Whether all the roots hold the same tree now; False also where one changes while it is looked at."""
    try:
        first = snapshot(roots[0], meta)
        return all(snapshot(root, meta) == first for root in roots[1:])
    except FileNotFoundError:
        return False


def assert_same(*roots: Path, meta: bool = True) -> dict[str, tuple[Any, ...]]:
    """All the roots hold the same tree; the tree."""
    first = snapshot(roots[0], meta)
    for root in roots[1:]:
        found = difference(first, snapshot(root, meta))
        assert not found, f"{roots[0].name} and {root.name} differ in {len(found)}: {dict(list(found.items())[:5])}"
    return first


@attrs.define
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON objects that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """The last one."""
        return self.lines[-1]


def onitu(*arguments: str | Path, timeout: float = DEADLINE, cwd: Path | None = None, **environment: str) -> Result:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "onitu", *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def sync(*roots: Path, state: Path, **options: Any) -> Result:
    """`onitu sync` once, with JSON; it has to end in sync."""
    result = onitu("sync", *roots, "--state", state, "--json", **options)
    assert result.code == 0, result.err + result.out
    return result


@attrs.define
class Daemon:
    """A run that goes on: `onitu sync --watch` or `onitu start`."""

    process: subprocess.Popen[bytes]
    state: Path
    log: Path

    def ask(self, what: str, wait: float = 10.0, **arguments: Any) -> dict[str, Any]:
        """Ask it, as the command line does."""
        endpoint = runtime.control_endpoint(str(self.state))
        return trio.run(sockets.ask, endpoint, what, arguments, wait)

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def folder(self) -> dict[str, Any]:
        """The status of its only folder, as soon as its Referee answers."""
        folder: dict[str, Any]
        (folder,) = wait_for(lambda: self.status().get("folders"), why="the Referee answers").values()
        return folder

    def is_in_sync(self) -> bool:
        """Whether everything is in sync now, as it sees it."""
        try:
            folders = self.ask("status")["folders"].values()
        except Exception:  # it is starting, or one of its processes is
            return False
        return bool(folders) and all(folder["in_sync"] for folder in folders)

    def in_sync(self, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait until everything is in sync."""
        try:
            wait_for(self.is_in_sync, deadline, "in sync")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._story()}") from None
        return self.status()

    def _story(self) -> str:
        with contextlib.suppress(Exception):
            return json.dumps(self.status(), indent=1) + "\n" + self.log.read_text()[-3000:]
        return self.log.read_text()[-3000:]

    def pids(self) -> dict[str, int]:
        """The pids of its processes by name, as its status tells them."""
        return {p["name"]: p["pid"] for p in self.status()["processes"] if p["pid"]}

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one of its processes; its pid."""
        pid = self.pids()[name]
        os.kill(pid, number)
        return pid

    def stop(self, deadline: float = 20.0) -> int:
        """End it in order; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline)

    def crash(self) -> None:
        """SIGKILL the supervisor."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(
    *arguments: str | Path, state: Path, cwd: Path | None = None, prefix: Sequence[str] = ()
) -> Iterator[Daemon]:
    """A run that goes on for the block. `prefix`: a command that starts it."""
    state.parent.mkdir(parents=True, exist_ok=True)
    log = state.parent / f"{state.name}.out"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "onitu", *map(str, arguments)], stdout=output, stderr=output, cwd=cwd
        )
    daemon = Daemon(process, state, log)
    try:
        yield daemon
    finally:
        try:
            daemon.stop()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextlib.contextmanager
def watching(*roots: Path, state: Path, settled: bool = True, prefix: Sequence[str] = ()) -> Iterator[Daemon]:
    """`onitu sync --watch` on these roots."""
    with running("sync", *roots, "--watch", "--state", state, state=state, prefix=prefix) as daemon:
        if settled:
            daemon.in_sync()
        yield daemon


@contextlib.contextmanager
def started(configuration: Path, state: Path, settled: bool = True) -> Iterator[Daemon]:
    """`onitu start` with this configuration, which has to name `state` as its state directory."""
    with running("start", "-c", configuration, state=state) as daemon:
        if settled:
            daemon.in_sync()
        yield daemon
