"""Programs that write in place at the worst moment, and leave no trace in size or time of what they did."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from onitu.drivers.local import reading, syscalls
from onitu.model.events import Event, Seen
from onitu.model.orders import Do
from onitu.model.versions import BLAKE3
from onitu.plug.driver import Hint

from .conftest import Local, file_version, write

# What was forced to the disk is mapped anew: the next store through a mapping shows in the stamps, and no test here
# would show what it has to.
pytestmark = pytest.mark.options(durability="normal")

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


@pytest.mark.parametrize("do", [Do.PUT, Do.DELETE])
async def test_what_is_stored_through_a_mapping_after_it_was_displaced_is_kept(local: Local, do: Do) -> None:
    write(local.root / "f", OLD)
    program = Mapped(local.root / "f")
    program.store(0, LATE[:100_000] + OLD[100_000:])  # every page is written once
    torn = await local.hashed(b"f")
    if do is Do.PUT:
        (event,) = await local.put(b"f", NEW, expect=torn.token, held=torn.version)
    else:
        (event,) = await local.order(do, b"f", expect=torn.token, held=torn.version)
    assert event.seen is Seen.DONE
    program.store(100_000, LATE[100_000:])
    program.close()
    await local.settled()
    assert LATE in contents(local.root)


async def test_what_was_read_while_it_was_written_is_not_known_again_after_a_rename(local: Local) -> None:
    write(local.root / "f", OLD)
    assert local.driver.identity_of((await local.hashed(b"f")).token) is not None
    program = Mapped(local.root / "f")
    assert local.driver.identity_of((await local.hashed(b"f")).token) is None
    program.close()


def test_a_mapped_file_counts_as_open_for_writing_also_when_it_was_closed(tmp_path: Path) -> None:
    write(tmp_path / "f", OLD)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    fd = os.open(tmp_path / "f", os.O_RDWR)  # not by the module `mmap`, which keeps a descriptor
    at = libc.mmap(None, ctypes.c_size_t(len(OLD)), mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    reader = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        assert syscalls.open_for_writing(reader) is True
        assert libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(len(OLD))) == 0
        assert syscalls.open_for_writing(reader) is False
    finally:
        os.close(reader)


def keeping_the_time(path: Path, data: bytes) -> Callable[[], None]:
    """What writes a file in place and gives it its time back, as programs with containers do."""

    def write_in_place() -> None:
        st = path.stat()
        with path.open("r+b") as file:
            file.write(data)
            file.flush()
            os.utime(file.fileno(), ns=(st.st_atime_ns, st.st_mtime_ns))

    return write_in_place


@pytest.fixture
def just_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Callable[[], None]], threading.Thread]]:
    """Let another program do something once, just before a system call of the driver's, and give it a second to end
    before that (it may be kept waiting until after it)."""
    programs: list[threading.Thread] = []

    def arrange(call: str, act: Callable[[], None]) -> threading.Thread:
        real, program = getattr(syscalls, call), threading.Thread(target=act)

        def acting(*arguments: object) -> object:
            if not programs:
                programs.append(program)
                program.start()
                program.join(1.0)
            return real(*arguments)

        monkeypatch.setattr(syscalls, call, acting)
        return program

    yield arrange
    for program in programs:
        program.join()


def told(events: list[Event], data: bytes) -> bool:
    return any(event.version.digests.get(BLAKE3) == file_version(data).digests[BLAKE3] for event in events)


@pytest.mark.parametrize(("do", "call"), [(Do.PUT, "exchange"), (Do.DELETE, "rename_new"), (Do.MOVE, "rename_new")])
async def test_an_edit_that_keeps_size_and_time_is_seen_when_it_is_displaced(
    local: Local, just_before: Callable[[str, Callable[[], None]], threading.Thread], do: Do, call: str
) -> None:
    write(local.root / "f", OLD)
    seen = await local.hashed(b"f")
    program = just_before(call, keeping_the_time(local.root / "f", LATE))
    if do is Do.PUT:
        events = await local.put(b"f", NEW, expect=seen.token, held=seen.version)
    else:
        target = b"g" if do is Do.MOVE else b""
        events = await local.order(do, b"f", seen.version, expect=seen.token, held=seen.version, target=target)
    await trio.to_thread.run_sync(program.join)
    await local.settled()
    assert LATE in contents(local.root)
    if do is Do.MOVE:
        now = await local.entry(b"g") or await local.entry(b"f")
        assert now is not None
        assert told(events, LATE) or all(event.token != now.token for event in events), "it will never be read again"


@pytest.mark.parametrize(("do", "call"), [(Do.PUT, "exchange"), (Do.DELETE, "rename_new"), (Do.MOVE, "rename_new")])
async def test_who_opens_a_file_while_it_is_displaced_does_not_wait_until_it_is_compared(
    local: Local,
    just_before: Callable[[str, Callable[[], None]], threading.Thread],
    monkeypatch: pytest.MonkeyPatch,
    do: Do,
    call: str,
) -> None:
    write(local.root / "f", OLD)
    seen = await local.hashed(b"f")
    came_in, compared = threading.Event(), list[bool]()

    def user() -> None:
        with (local.root / "f").open("r+b"):
            came_in.set()

    real = reading.digest

    def digest(fd: int, size: int, check: Callable[[], None] = reading.never) -> tuple[bytes, int]:
        if just_begun.ident is not None and size == len(OLD):
            compared.append(came_in.wait(10.0))
        return real(fd, size, check)

    just_begun = just_before(call, user)
    monkeypatch.setattr(reading, "digest", digest)
    if do is Do.PUT:
        await local.put(b"f", NEW[:100], expect=seen.token, held=seen.version)
    else:
        target = b"g" if do is Do.MOVE else b""
        await local.order(do, b"f", seen.version, expect=seen.token, held=seen.version, target=target)
    await trio.to_thread.run_sync(just_begun.join)
    assert compared
    assert all(compared), "who had opened it waited until it was read"


async def test_what_is_still_written_after_it_was_displaced_is_not_settled_before_its_return_was_told(
    local: Local,
) -> None:
    """So a status says that all is in sync only when what comes out of it was told."""
    send, hints = trio.open_memory_channel[Hint](100)
    said: list[tuple[int, list[bytes]]] = []

    def look() -> None:
        told = []
        with contextlib.suppress(trio.WouldBlock):
            while True:
                told.append(hints.receive_nowait().path)
        said.append((local.driver.unsettled("f"), told))

    async with trio.open_nursery() as nursery:
        ready = trio.Event()
        nursery.start_soon(local.driver.watch, "f", send, ready)
        await ready.wait()
        write(local.root / "f", OLD)
        old = await local.hashed(b"f")
        with (local.root / "f").open("r+b", buffering=0) as program:
            await local.put(b"f", NEW, expect=old.token, held=old.version)
            assert local.driver.unsettled("f") == 1
            local.driver.on_settled = look
            program.write(LATE)
        with trio.fail_after(10):
            while not said or said[-1][0]:  # noqa: ASYNC110 - the driver only calls back
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    told = [path for _, paths in said for path in paths if b"conflict" in path]
    assert told, said
    assert LATE in contents(local.root)
