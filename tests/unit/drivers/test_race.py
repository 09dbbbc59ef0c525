"""Users who write at the very moment: each of their values stands at its path, as a conflict copy, or was told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from onitu.drivers.local import syscalls
from onitu.model.events import Event, Seen
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3

from .conftest import Local, file_version, write

PUTS = 2000


def by_rename(root: Path, data: bytes) -> bytes:
    """As careful editors save. Returns what it replaced (an exchange, so that the account is exact)."""
    new = root.parent / "new"
    new.write_bytes(data)
    here = os.open(root.parent, os.O_RDONLY)
    try:
        syscalls.exchange(here, b"new", here, b"root/f")
    finally:
        os.close(here)
    return new.read_bytes()


def in_place(root: Path, data: bytes) -> bytes:
    """As the others do: open what is there, write, close. Returns what it wrote over."""
    with (root / "f").open("r+b", buffering=0) as file:
        over = file.read()
        file.seek(0)
        file.write(data)
    return over


class User(threading.Thread):
    """Saves one value after the other until stopped. Values have one length, so that no size tells them apart."""

    def __init__(self, root: Path, save: Callable[[Path, bytes], bytes]) -> None:
        super().__init__()
        self.root, self.save = root, save
        self.stopped = threading.Event()
        self.wrote: list[bytes] = []
        self.replaced: set[bytes] = set()

    def run(self) -> None:
        while not self.stopped.wait(0.0003):
            data = b"user  %08d" % len(self.wrote)
            self.replaced.add(self.save(self.root, data))
            self.wrote.append(data)


def answer(events: list[Event]) -> Event:
    (event,) = [event for event in events if event.order]
    return event


def digest(data: bytes) -> bytes:
    return file_version(data).digests[BLAKE3]


@pytest.mark.parametrize("save", [by_rename, in_place])
async def test_no_value_is_lost_in_a_race_of_puts_and_a_user(
    local: Local, save: Callable[[Path, bytes], bytes]
) -> None:
    source = write(local.source / "s", b"onitu 00000000")
    version = file_version(b"onitu 00000000")
    write(local.root / "f", b"user  first   ")
    token, held, done = b"", None, 0
    told: set[bytes] = set()
    user = User(local.root, save)
    user.start()
    try:
        for n in range(1, PUTS + 1):
            order = Order(n, Do.PUT, b"f", version, expect=token, held=held)
            (events,) = await local.driver.perform("f", [order], {}, {n: [(str(local.source), b"s", source)]})
            told |= {event.version.digests[BLAKE3] for event in events if event.seen is Seen.STANDS}
            event = answer(events)
            done += event.seen is Seen.DONE
            if event.seen is not Seen.FAILED:  # it changed faster than it could be read
                token, held = event.token, event.version
    finally:
        user.stopped.set()
        await trio.to_thread.run_sync(user.join)
    await local.settled()
    standing = {path.read_bytes() for path in local.root.iterdir() if path.is_file()}
    assert len(user.wrote) > 100
    assert done > 100
    lost = [data for data in user.wrote if data not in user.replaced | standing and digest(data) not in told]
    assert lost == []
