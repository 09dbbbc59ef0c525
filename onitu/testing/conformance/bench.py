"""A driver under test on one root, with short words for what the plug asks of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import attrs
import pytest
import trio
from blake3 import blake3

from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Capabilities, Driver, Entry, Identity, Refused
from onitu.plug.options import Value, filled

from .server import Root

FOLDER = "docs"
SERVICE = "served"
LONG_AGO = 1_600_000_000_000_000_000
PIECE = 256 * 1024


@attrs.define
class Bench:
    """See the module. The root has its marker already."""

    driver: Driver
    root: Root

    @property
    def able(self) -> Capabilities:
        return self.driver.capabilities(FOLDER)

    # --- a user, and what the plug asks -----------------------------------------------------------------------------

    async def write(self, path: bytes, data: bytes) -> Entry:
        """A user writes a file; what a look then tells."""
        await trio.to_thread.run_sync(self.root.write, path, data)
        return await self.entry(path)

    async def tree(self) -> dict[bytes, bytes | None]:
        return await trio.to_thread.run_sync(self.root.tree)

    async def entry(self, path: bytes) -> Entry:
        (found,) = await self.driver.stat(FOLDER, [path])
        assert found is not None, f"nothing stands at {path!r}"
        assert found.path == path
        return found

    async def token(self, path: bytes) -> bytes:
        return (await self.entry(path)).token

    async def listed(self) -> dict[bytes, Entry]:
        """Everything, as scans tell it."""
        found: dict[bytes, Entry] = {}
        waiting = [paths.ROOT]
        while waiting:
            listings = await self.driver.scan(FOLDER, waiting)
            assert [listing.directory for listing in listings] == waiting
            assert all(listing.complete and not listing.missing for listing in listings)
            entries = [entry for listing in listings for entry in listing.entries]
            found.update((entry.path, entry) for entry in entries)
            waiting = [entry.path for entry in entries if entry.kind is Kind.DIRECTORY]
        return found

    async def read(self, path: bytes, token: bytes, size: int) -> bytes:
        parts = []
        for offset in range(0, size, PIECE):
            parts.append(await self.driver.read(FOLDER, path, token, offset, min(PIECE, size - offset)))
        return b"".join(parts)

    # --- orders -------------------------------------------------------------------------------------------------

    async def put(self, path: bytes, data: bytes, expect: bytes = b"", held: bytes | None = None) -> list[Event]:
        """Put a file in the place of what `expect` names, which has the content `held`."""
        before = file_version(held) if held is not None else None
        return await self.carry_out(Order(1, Do.PUT, path, file_version(data), expect, before), data)

    async def carry_out(self, order: Order, data: bytes | None = None) -> list[Event]:
        """The outcome of one order, checked as the plug would."""
        if data is None:
            (events,) = await self.driver.perform(FOLDER, [order], {}, {})
            return checked(events, order)
        try:
            async with self.driver.stage(FOLDER, order.version, order.path) as staged:
                for offset in range(staged.offset, len(data), PIECE):
                    await staged.write(data[offset : offset + PIECE])
                await staged.finish()
                (events,) = await self.driver.perform(FOLDER, [order], {order.number: staged}, {})
        except Refused as error:
            return [Event(Seen.FAILED, order.path, order=order.number, trouble=error.trouble, reason=error.reason)]
        return checked(events, order)

    async def do(
        self, do: Do, path: bytes, version: Version, expect: bytes, held: Version, target: bytes = b""
    ) -> Event:
        """The answer to an order that needs no content."""
        return answer(await self.carry_out(Order(1, do, path, version, expect, held, target)))


_reasons: list[str] = []


def skip(reason: str) -> NoReturn:
    """Skip the test. pytest-trio forgets the reason; here it is kept for the report."""
    _reasons.append(reason)
    pytest.skip(reason)


def reason_of_skip() -> str:
    """Why a test was skipped just now; empty: it was not by `skip`."""
    return _reasons.pop() if _reasons else ""


def file_version(data: bytes, mtime: int = LONG_AGO, mode: int = 0o644) -> Version:
    return Version(Kind.FILE, len(data), {BLAKE3: blake3(data).digest()}, mtime, mode)


def checked(events: Sequence[Event], order: Order) -> list[Event]:
    """The events, of which exactly one answers the order."""
    assert [event.order for event in events].count(order.number) == 1, events
    return list(events)


def answer(events: Sequence[Event]) -> Event:
    return next(event for event in events if event.order == 1)


@contextlib.asynccontextmanager
async def opened(
    kind: type[Driver], root: Root, workspace: Path, options: Mapping[str, Value] | None = None
) -> AsyncIterator[Driver]:
    """A driver for this root, not identified yet."""
    given, missing = filled(kind.Options, root.options if options is None else options)
    assert not missing, f"the server's options leave out {missing}"
    driver = kind(SERVICE, given, {FOLDER: root.path})
    driver.workspace = str(workspace)
    async with driver.open():
        yield driver


@contextlib.asynccontextmanager
async def bench_on(
    kind: type[Driver], root: Root, workspace: Path, options: Mapping[str, Value] | None = None
) -> AsyncIterator[Bench]:
    """A bench on a root that becomes a replica."""
    async with opened(kind, root, workspace, options) as driver:
        assert await driver.identify(FOLDER) == Identity()
        await driver.mark(FOLDER, Identity("conformance", 1, 2))
        yield Bench(driver, root)
