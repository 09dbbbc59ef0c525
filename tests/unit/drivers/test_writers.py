"""Programs that write in place at the worst moment, and leave no trace in size or time of what they did."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from .conftest import Local, file_version, write

OLD = bytes(200_000)
NEW = b"n" * 200_000
LATE = b"l" * 200_000


def contents(root: Path) -> set[bytes]:
    return {path.read_bytes() for path in root.iterdir() if path.is_file()}


class Mapped:
    """A file that a program writes through a mapping: only its first store is seen in the stamps."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR)
        self.map = mmap.mmap(self.fd, os.fstat(self.fd).st_size)

    def store(self, start: int, data: bytes) -> None:
        self.map[start : start + len(data)] = data

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


async def test_what_is_read_while_it_is_written_is_read_again(local: Local) -> None:
    write(local.root / "f", OLD)
    program = Mapped(local.root / "f")
    program.store(0, LATE[:100_000] + OLD[100_000:])  # every page is written once
    torn = await local.hashed(b"f")
    program.store(100_000, LATE[100_000:])
    program.close()
    after = await local.entry(b"f")
    assert after is not None
    assert after.version.mtime == torn.version.mtime, "the stamps have told it: this test shows nothing"
    assert after.token != torn.token
    assert (await local.hashed(b"f")).version.digests == file_version(LATE).digests


async def test_what_was_read_while_it_was_written_is_not_replaced_unread(local: Local) -> None:
    write(local.root / "f", OLD)
    program = Mapped(local.root / "f")
    program.store(0, LATE[:100_000] + OLD[100_000:])  # every page is written once
    torn = await local.hashed(b"f")
    program.store(100_000, LATE[100_000:])
    program.close()
    events = await local.put(b"f", NEW, expect=torn.token, held=torn.version)
    await local.settled()
    assert LATE in contents(local.root), [event.seen for event in events]


async def test_what_was_read_while_it_was_written_is_not_known_again_after_a_rename(local: Local) -> None:
    write(local.root / "f", OLD)
    assert local.driver.identity_of((await local.hashed(b"f")).token) is not None
    program = Mapped(local.root / "f")
    assert local.driver.identity_of((await local.hashed(b"f")).token) is None
    program.close()
