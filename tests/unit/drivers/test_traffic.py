"""Every driver of a service in the network keeps to its `bandwidth`, and tells what its polls cost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from onitu.model import paths
from onitu.model.events import Seen
from onitu.model.orders import Do, Order
from onitu.plug.catalogue import load
from onitu.plug.driver import Driver, Identity
from onitu.testing.conformance import Server
from tests.servers.ftp import FtpServer
from tests.servers.rclone import DiskServer
from tests.servers.s3 import SeaweedServer
from tests.servers.sftp import SftpServer
from tests.servers.webdav import ApacheServer

from .sftp_stage import answer, file_version

SERVERS = {"sftp": SftpServer, "s3": SeaweedServer, "webdav": ApacheServer, "ftp": FtpServer, "rclone": DiskServer}
FOLDER = "docs"
RATE = 16 << 20
BURST = 4 << 20
"""Bytes that may go at once at first (rclone's, which is the largest)."""
SIZE, CHUNK = 12 << 20, 1 << 20
LEAST = (SIZE - BURST) / RATE
"""Seconds that so many bytes take at least, whatever the machine."""


@pytest.fixture(params=SERVERS, scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Server]]:
    with SERVERS[request.param](tmp_path_factory.mktemp("server")) as server:
        yield request.param, server


async def test_a_large_file_goes_and_comes_within_the_bandwidth_and_polls_are_counted(
    service: tuple[str, Server], tmp_path: Path
) -> None:
    kind, server = service
    root = server.empty("docs")
    options = {**root.options, "bandwidth": RATE}
    if "timeout" in options:
        options["timeout"] = 30.0  # nothing is cut or stalled here
    driver: Driver = load(kind)("there", options, {FOLDER: root.path})
    driver.workspace = str(tmp_path / "workspace")
    data = os.urandom(SIZE)
    version = file_version(data)
    async with driver.open():
        await driver.identify(FOLDER)
        await driver.mark(FOLDER, Identity("me", 1, 2))
        order = Order(1, Do.PUT, b"file", version)
        began = time.monotonic()
        async with driver.stage(FOLDER, version, b"file") as staged:
            await staged.write(data)
            await staged.finish()
            (events,) = await driver.perform(FOLDER, [order], {1: staged}, {})
        assert answer(events).seen is Seen.DONE
        assert time.monotonic() - began >= LEAST
        assert root.tree() == {b"file": data}

        (listing,) = await driver.scan(FOLDER, [paths.ROOT])
        (entry,) = listing.entries
        assert driver.counters["poll_requests"] >= 1
        assert driver.counters["poll_bytes"] > len(b"file")

        began = time.monotonic()
        parts: list[bytes] = [b""] * (SIZE // CHUNK)

        async def read(number: int) -> None:
            parts[number] = await driver.read(FOLDER, b"file", entry.token, number * CHUNK, CHUNK)

        async with trio.open_nursery() as nursery:
            for number in range(len(parts)):
                nursery.start_soon(read, number)
        assert b"".join(parts) == data
        assert time.monotonic() - began >= LEAST
