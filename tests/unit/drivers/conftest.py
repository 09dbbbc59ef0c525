"""A local replica in a temporary directory, and short ways to make orders for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import attrs
import pytest
import trio
from blake3 import blake3

from onitu.drivers.local import LocalDriver, tokens
from onitu.model.events import BESIDE, Event
from onitu.model.orders import Do, Order
from onitu.model.versions import NOTHING, Kind, Version
from onitu.plug.driver import Entry, Identity

NS = 1_000_000_000
MTIME = 1_500_000_000 * NS + 123_456_789


def file_version(data: bytes, mtime: int = MTIME, mode: int = 0o644) -> Version:
    return Version(Kind.FILE, len(data), {"blake3": blake3(data).digest()}, mtime, mode)


def link_version(target: bytes, mtime: int = MTIME) -> Version:
    return Version(Kind.LINK, link=target, mtime=mtime)


def directory_version(mode: int = 0o755) -> Version:
    return Version(Kind.DIRECTORY, mode=mode)


def write(path: Path, data: bytes) -> bytes:
    """Write a file as a user would; returns its token."""
    path.write_bytes(data)
    return tokens.token_of(path.stat())


@attrs.define
class Local:
    """A driver with one folder, and what tests do with it."""

    driver: LocalDriver
    root: Path
    source: Path
    numbers: itertools.count = attrs.field(factory=lambda: itertools.count(1))
    beside: list[Event] = attrs.field(factory=list)

    async def entry(self, path: bytes) -> Entry | None:
        return (await self.driver.stat("f", [path]))[0]

    async def hashed(self, path: bytes) -> Entry:
        """The entry with its digest, however often it has to be read until its stamps have settled."""
        entry = await self.entry(path)
        assert entry is not None
        (found,) = await self.driver.fingerprint("f", [entry])
        assert found is not None
        return found

    async def order(
        self, do: Do, path: bytes, version: Version = NOTHING, data: bytes | None = None, **more
    ) -> list[Event]:
        """Carry out one order; `data` is brought as a local source. Directories that were made for it are not among the
        events, but in `beside`."""
        order = Order(next(self.numbers), do, path, version, **more)
        local: Mapping = {}
        if data is not None:
            name = b"source-%d" % order.number
            local = {order.number: [(str(self.source), name, write(self.source / os.fsdecode(name), data))]}
        (events,) = await self.driver.perform("f", [order], {}, local)
        assert [event.order for event in events].count(order.number) == 1, events
        self.beside = [event for event in events if event.order == BESIDE]
        assert events[: len(self.beside)] == self.beside, "they are told before the answer"
        return events[len(self.beside) :]

    async def put(self, path: bytes, data: bytes, expect: bytes = b"", mtime: int = MTIME, mode: int = 0o644, **more):
        return await self.order(Do.PUT, path, file_version(data, mtime, mode), data, expect=expect, **more)

    def names(self) -> list[str]:
        """Every path in the replica, without Onitu's own."""
        return sorted(
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if ".onitu" not in path.relative_to(self.root).parts
        )

    async def settled(self) -> None:
        """Wait until the limbo is empty."""
        with trio.fail_after(5):
            while self.limbo():  # noqa: ASYNC110 - a directory sends no event
                await trio.sleep(0.005)

    def limbo(self) -> list[str]:
        return sorted(set(os.listdir(self.root / ".onitu/limbo")) - {"journal"})

    def staged(self) -> list[str]:
        return sorted(os.listdir(self.root / ".onitu/tmp"))


@pytest.fixture
async def local(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Local]:
    """A replica; with the options of the mark `options`, where a test has it."""
    root, source = tmp_path / "root", tmp_path / "source"
    root.mkdir()
    source.mkdir()
    mark = request.node.get_closest_marker("options")
    driver = LocalDriver("disk", mark.kwargs if mark is not None else {}, {"f": str(root)})
    async with driver.open():
        await driver.identify("f")
        await driver.mark("f", Identity("m" * 32, 1, 0))
        yield Local(driver, root, source)
