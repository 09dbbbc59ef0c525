"""Holes: hashed without being read, and kept where content is written, on a disk and in memory."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from onitu.drivers.local import holes, reading, syscalls, tokens

from .conftest import Local, file_version

MEBI = 1 << 20
SIZE = 40 * MEBI + 123
SHARED = Path("/dev/shm")


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk, and one in memory where the system has such a thing."""
    if request.param == "disk" or not SHARED.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=SHARED) as directory:
        yield Path(directory)


def sparse(path: Path, seed: int, size: int = SIZE) -> bytes:
    """A file of some islands in holes; its content."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(5):
            file.seek(chance.randrange(size - 5_000))
            file.write(chance.randbytes(chance.randrange(1, 5_000)))
        if seed % 2:
            file.seek(size - 1)
            file.write(b"x")
    return path.read_bytes()


def taken(path: Path) -> int:
    """Bytes that the file takes on its disk."""
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("large", [reading.LARGE, MEBI], ids=["by one thread", "by several"])
@pytest.mark.parametrize("seed", range(6))
def test_a_sparse_file_has_the_digest_of_what_a_reader_sees(
    place: Path, seed: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGE", large)
    data = sparse(place / "f", seed)
    fd = os.open(place / "f", os.O_RDONLY)
    assert reading.digest(fd, SIZE) == (blake3(data).digest(), SIZE)
    for start in (0, 1, 12_345_678, SIZE - 1, SIZE):
        assert b"".join(map(bytes, holes.content(fd, start, SIZE, 100_000))) == data[start:]
    os.close(fd)


def test_holes_are_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(place / "f", 2)
    count, preadv = 0, os.preadv

    def counting(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal count
        read = preadv(fd, buffers, offset)
        count += read
        return read

    monkeypatch.setattr(os, "preadv", counting)
    with (place / "f").open("rb") as file:
        assert reading.digest(file.fileno(), SIZE)[1] == SIZE
        assert count < MEBI
        # Where the file system's word on holes does not count, all is read.
        monkeypatch.setattr(syscalls, "file_system", lambda fd: 0)
        assert reading.digest(file.fileno(), SIZE)[1] == SIZE
    assert count > SIZE


def test_what_a_sparse_file_grew_by_is_counted(place: Path) -> None:
    sparse(place / "f", 3)
    with (place / "f").open("rb") as file:
        assert sum(map(len, holes.content(file.fileno(), 0, SIZE - 1000))) == SIZE
        assert sum(map(len, holes.content(file.fileno(), 0, SIZE - 1000, beyond=False))) == SIZE - 1000


def test_a_piece_is_good_until_the_next_but_one(place: Path) -> None:
    data = random.Random(1).randbytes(100_000)
    (place / "f").write_bytes(data)
    with (place / "f").open("rb") as file:
        before = b""
        kept: memoryview | None = None
        for number, piece in enumerate(holes.content(file.fileno(), 0, len(data), 4096)):
            assert kept is None or bytes(kept) == before
            kept, before = piece, data[number * 4096 :][:4096]


def test_a_digest_of_many_pieces_is_given_up_when_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGE", MEBI)
    sparse(place / "f", 4)
    left = iter(range(5))

    def check() -> None:
        if next(left, None) is None:
            raise InterruptedError

    with (place / "f").open("rb") as file, pytest.raises(InterruptedError):
        reading.digest(file.fileno(), SIZE, check)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("behind")]


@pytest.mark.parametrize("seed", range(4))
def test_a_run_of_zeros_is_written_as_a_hole(place: Path, seed: int) -> None:
    data = sparse(place / "f", seed)
    chance = random.Random(seed)
    target = os.open(place / "g", os.O_RDWR | os.O_CREAT)
    offset = 0
    while offset < SIZE:
        chunk = memoryview(data)[offset : offset + chance.choice((1, 65_536, 262_144, MEBI, 777_777))]
        while chunk:
            count = holes.append(target, chunk, offset)
            offset, chunk = offset + count, chunk[count:]
            assert os.fstat(target).st_size == offset, "so that a later try begins there"
    os.close(target)
    assert (place / "g").read_bytes() == data
    assert taken(place / "g") < 2 * MEBI


def test_content_without_zeros_is_written_in_one_call(place: Path) -> None:
    data = memoryview(os.urandom(MEBI))
    target = os.open(place / "g", os.O_RDWR | os.O_CREAT)
    assert holes.append(target, data, 0) == MEBI
    os.close(target)


@pytest.mark.parametrize("way", ["clone", "copy", "read and write", "stream"])
@pytest.mark.parametrize("seed", [0, 1])
async def test_a_sparse_file_stays_sparse(local: Local, way: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "clone":
        monkeypatch.setattr(syscalls, "clone", lambda source, target: False)
    if way == "read and write":
        monkeypatch.delattr(os, "copy_file_range")
    data = sparse(local.source / "f", seed)
    token = tokens.token_of((local.source / "f").stat())
    async with local.driver.stage("f", file_version(data)) as staged:
        if way == "stream":
            for start in range(0, SIZE, MEBI):
                await staged.write(data[start : start + MEBI])
        else:
            await staged.clone(str(local.source), b"f", token)
        await staged.finish()
        (name,) = local.staged()
        assert (local.root / ".onitu/tmp" / name).read_bytes() == data
        assert taken(local.root / ".onitu/tmp" / name) <= taken(local.source / "f") + 2 * MEBI
