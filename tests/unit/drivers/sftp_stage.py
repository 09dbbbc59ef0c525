"""An SFTP replica on a real sshd, and short ways to make orders for it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from blake3 import blake3

from onitu.drivers.sftp import SftpDriver
from onitu.drivers.sftp.remote import SftpRemote
from onitu.model import paths
from onitu.model.events import Event
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Entry, Identity
from tests.servers.sftp import Sshd

FOLDER = "docs"
MTIME = 1_600_000_000_000_000_000
OLD, NEW, MINE = b"what stood there", b"what is to stand there", b"what a user wrote meanwhile"
NUMBERS = itertools.count(1)


@attrs.define
class Stage:
    """`there`: the replica's root, as a foreign writer sees it."""

    driver: SftpDriver
    there: Path

    @property
    def remote(self) -> SftpRemote:
        found = self.driver._roots[FOLDER].replica.remote
        assert isinstance(found, SftpRemote)
        return found

    async def token(self, path: bytes) -> bytes:
        (entry,) = await self.driver.stat(FOLDER, [path])
        return entry.token if entry is not None else b""

    async def put(
        self, path: bytes, data: bytes = NEW, expect: bytes = b"", held: Version | None = None, mtime: int = MTIME
    ) -> list[Event]:
        version = file_version(data, mtime)
        order = Order(next(NUMBERS), Do.PUT, path, version, expect, held)
        async with self.driver.stage(FOLDER, version, path) as staged:
            await staged.write(data[staged.offset :])
            await staged.finish()
            (events,) = await self.driver.perform(FOLDER, [order], {order.number: staged}, {})
        return events

    async def do(self, *orders: Order) -> list[list[Event]]:
        return await self.driver.perform(FOLDER, orders, {}, {})

    async def content(self, path: bytes, size: int, chunk: int = 1 << 20) -> bytes:
        """What is read through the driver."""
        token = await self.token(path)
        parts = [await self.driver.read(FOLDER, path, token, at, chunk) for at in range(0, size, chunk)]
        return b"".join(parts)

    async def scan(self) -> dict[bytes, Entry]:
        """Everything that the driver sees."""
        found: dict[bytes, Entry] = {}
        directories = [paths.ROOT]
        while directories:
            listings = await self.driver.scan(FOLDER, directories)
            assert all(listing.complete and not listing.missing for listing in listings)
            entries = [entry for listing in listings for entry in listing.entries]
            found |= {entry.path: entry for entry in entries}
            directories = [entry.path for entry in entries if entry.kind is Kind.DIRECTORY]
        return found

    def visible(self) -> dict[str, bytes]:
        """The files that a user sees."""
        files = (path for path in self.there.rglob("*") if path.is_file() and ".onitu" not in path.parts)
        return {str(path.relative_to(self.there)): path.read_bytes() for path in files}

    def hidden(self) -> list[str]:
        """What is in Onitu's own directory, but the marker."""
        names = ("tmp", "limbo")
        return [str(path) for name in names for path in (self.there / ".onitu" / name).glob("*")]


@contextlib.asynccontextmanager
async def opened(server: Sshd, there: Path, root: str = "", **options: Any) -> AsyncIterator[Stage]:
    """A replica that was made just now in a directory of the server, which calls it `root`."""
    os.makedirs(there, exist_ok=True)
    driver = SftpDriver("nas", server.options(**options), {FOLDER: root or str(there)})
    driver.workspace = str(server.home / "workspace")
    async with driver.open():
        await driver.identify(FOLDER)
        await driver.mark(FOLDER, Identity("me", 1, 2))
        yield Stage(driver, there)


def file_version(data: bytes, mtime: int = MTIME, mode: int = 0o640) -> Version:
    return Version(Kind.FILE, len(data), {BLAKE3: blake3(data).digest()}, mtime, mode)


def answer(events: Sequence[Event]) -> Event:
    """The event that answers the order."""
    (found,) = [event for event in events if event.order > 0]
    return found
