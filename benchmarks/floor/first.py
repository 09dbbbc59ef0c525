"""A first copy, stage by stage: the driver that has the files lists and reads them, messages are written and read, the
Referee decides, commits and orders, the other driver carries its orders out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from blake3 import blake3

from benchmarks import processes
from onitu.drivers.local import LocalDriver, syscalls
from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.versions import Kind
from onitu.plug.driver import Entry

from .desk import DECIDED, FOLDER, MESSAGES, SIZE, STORE, TOGETHER, Desk, Took, carried_out, clocked

HAS, LACKS = "a", "b"
READ, WRITTEN = "list and read the files", "write the copies"
STAGES = (READ, MESSAGES, DECIDED, STORE, WRITTEN)


def bare(source: Path, target: Path) -> Took:
    """The system calls alone, those that a safe copy takes: each file is listed and read under a lease, with a look
    before and after, and once more when it is told; it is read again, written beside, given its time, looked at, given
    its name beneath the root by a rename that replaces nothing, and looked at there."""
    took = Took(float)
    found: list[tuple[str, str, os.stat_result]] = []
    with clocked(took, READ):
        for directory in sorted(source.iterdir()):
            with os.scandir(directory) as listing:
                entries = [(item.name, item.stat(follow_symlinks=False)) for item in listing]
            beneath = os.open(directory, syscalls.O_PATH | os.O_DIRECTORY)
            for name, st in entries:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=beneath)
                os.fstat(fd)
                syscalls.open_for_writing(fd)
                blake3(os.pread(fd, SIZE + 1, 0)).digest()
                os.fstat(fd)
                os.close(fd)
                os.stat(name, dir_fd=beneath, follow_symlinks=False)
                found.append((directory.name, name, st))
            os.close(beneath)
    with clocked(took, WRITTEN):
        for directory in source.iterdir():
            (target / directory.name).mkdir()
        roots = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
        for within, name, st in found:
            beneath = syscalls.open_beneath(roots[1], within.encode(), syscalls.O_PATH | os.O_DIRECTORY)
            fd = os.open(f"{within}/{name}", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=roots[0])
            data = os.pread(fd, SIZE + 1, 0)
            os.close(fd)
            blake3(data).digest()
            fd = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, st.st_mode & 0o777, dir_fd=roots[1])
            os.write(fd, data)
            os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
            os.fstat(fd)
            os.close(fd)
            syscalls.rename_new(roots[1], b"new", beneath, name.encode())
            os.stat(name, dir_fd=beneath, follow_symlinks=False)
            os.close(beneath)
        for root in roots:
            os.close(root)
    return took


async def copied(at: Desk, drivers: dict[str, LocalDriver], source: Path) -> Took:
    """A first copy from `HAS` at `source` to `LACKS`, which is empty."""
    took = Took(float)
    before = processes.used([at.store.pid])
    await at.tell(LACKS, (), took, scanned=True)
    with clocked(took, READ):
        found = [entry async for entry in _read(drivers[HAS])]
    for start in range(0, len(found), 256):
        events = [Event(Seen.STANDS, e.path, e.version, e.token) for e in found[start : start + 256]]
        await at.tell(HAS, events, took, scanned=start + 256 >= len(found))
        while await carried_out(at, LACKS, drivers[LACKS], {HAS: source}, took, WRITTEN):
            pass
    took[STORE] = processes.used([at.store.pid]) - before
    return took


async def _read(driver: LocalDriver) -> AsyncIterator[Entry]:
    """All that stands, directories first, files with their digests."""
    (top,) = await driver.scan(FOLDER, [paths.ROOT])
    directories = [entry for entry in top.entries if entry.kind is Kind.DIRECTORY]
    files: list[Entry] = []
    for start in range(0, len(directories), TOGETHER):
        for listing in await driver.scan(FOLDER, [entry.path for entry in directories[start : start + TOGETHER]]):
            files += listing.entries
    for entry in directories:
        yield entry
    for start in range(0, len(files), TOGETHER):
        for read in await driver.fingerprint(FOLDER, files[start : start + TOGETHER]):
            assert read is not None
            yield read
