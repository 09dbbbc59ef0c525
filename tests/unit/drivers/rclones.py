"""A driver for rclone on a remote of the tests' own, with short words for what the plug asks of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
from blake3 import blake3

from onitu.drivers.rclone import RcloneDriver
from onitu.model import paths
from onitu.model.events import Event
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Entry, Identity
from tests.servers.rclone import Cloud, Guest, binary, cloud

FOLDER = "docs"
OLD = 1_600_000_000_123_456_789
OTHER = 1_500_000_000_987_654_321


@attrs.define
class Stage:
    driver: RcloneDriver
    cloud: Cloud
    guest: Guest

    async def entry(self, path: bytes) -> Entry:
        (entry,) = await self.driver.stat(FOLDER, [path])
        assert entry is not None, path
        return entry

    async def put(
        self, path: bytes, data: bytes, expect: bytes = b"", held: Version | None = None, mtime: int = OLD
    ) -> Event:
        version = version_of(data, mtime)
        order = Order(1, Do.PUT, path, version, expect, held)
        async with self.driver.stage(FOLDER, version, path) as staged:
            await staged.write(data[staged.offset :])
            await staged.finish()
            (events,) = await self.driver.perform(FOLDER, [order], {1: staged}, {})
        return answer(events)

    async def do(self, order: Order) -> Event:
        (events,) = await self.driver.perform(FOLDER, [order], {}, {})
        return answer(events)

    async def tree(self) -> dict[bytes, Entry]:
        """Everything, as scans tell it."""
        found: dict[bytes, Entry] = {}
        todo = [paths.ROOT]
        while todo:
            listings = await self.driver.scan(FOLDER, todo)
            assert all(listing.complete and not listing.missing for listing in listings)
            entries = [entry for listing in listings for entry in listing.entries]
            found |= {entry.path: entry for entry in entries}
            todo = [entry.path for entry in entries if entry.kind is Kind.DIRECTORY]
        return found

    async def content(self, path: bytes) -> bytes:
        entry = await self.entry(path)
        data = b""
        while len(data) < entry.version.size:
            data += await self.driver.read(FOLDER, path, entry.token, len(data), 1 << 20)
        return data


def version_of(data: bytes, mtime: int = OLD) -> Version:
    return Version(Kind.FILE, len(data), {BLAKE3: blake3(data).digest()}, mtime, 0o644)


def answer(events: Sequence[Event]) -> Event:
    (found,) = [event for event in events if event.order == 1]
    return found


@contextlib.asynccontextmanager
async def opened(here: Cloud, workspace: Path, **options: str | bool) -> AsyncIterator[RcloneDriver]:
    remote, _, root = here.root.partition(":")
    given = {"remote": remote, "config": str(here.config), "program": binary(), **options}
    driver = RcloneDriver("nas", given, {FOLDER: root})
    driver.workspace = str(workspace)
    async with driver.open():
        yield driver


@contextlib.asynccontextmanager
async def staged(kind: str, tmp_path: Path) -> AsyncIterator[Stage]:
    here = cloud(tmp_path, kind)
    async with opened(here, tmp_path / "workspace") as driver:
        if kind == "memory":
            await driver.rcd.ask("operations/mkdir", fs="memory:bucket", remote="")
        assert await driver.identify(FOLDER) == Identity()
        await driver.mark(FOLDER, Identity("me", 1, 2))
        yield Stage(driver, here, Guest(driver, here.root))
