"""Fixtures for every test: a real server, started once, emptied for each test."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import settings

from onitu.store import urls
from onitu.store.embedded import Embedded, wait_ready

READY = 20.0

settings.register_profile("steady", deadline=None)  # no test fails on a time
settings.load_profile("steady")


class Server:
    """An embedded server of a test's own, in directories of its own."""

    def __init__(self, directory: Path) -> None:
        self.embedded = Embedded(str(directory / "state"), str(directory / "run"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.embedded.url

    def start(self, more: bytes = b"") -> None:
        """Start it with more settings than ours; `wait_ready` tells when it answers."""
        self.embedded.prepare()
        with open(self.embedded.configuration, "ab") as file:
            file.write(more)
        self.process = subprocess.Popen(self.embedded.command(), stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL, as the power cord."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def flush(self) -> None:
        client = urls.client(self.url)
        client.flushall()
        client.close()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    """The session's server, with the settings of the embedded one."""
    # A Unix socket's path is short, pytest's directories are not.
    directory = Path(tempfile.mkdtemp(prefix="onitu-"))
    server = Server(directory)
    server.start()
    try:
        trio.run(wait_ready, server.url, READY)
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


@pytest.fixture
def valkey(valkey_server: Server) -> str:
    """The URL of a real server that is empty."""
    valkey_server.flush()
    return valkey_server.url


@pytest.fixture
def own_directory() -> Iterator[Path]:
    """A directory with a path that is short enough for a Unix socket in it; pytest's are not."""
    directory = Path(tempfile.mkdtemp(prefix="onitu-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def own_server(own_directory: Path) -> Iterator[Server]:
    """A server for one test, not yet started, which the test may kill and start again."""
    server = Server(own_directory)
    yield server
    server.kill()
