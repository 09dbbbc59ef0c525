"""Staged content: whole, checked, resumed; from a stream or in the kernel."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from onitu.drivers.local import LocalDriver, staging, syscalls, tokens
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Version
from onitu.plug.driver import Identity, Refused, Staged

from .conftest import MTIME, Local, file_version, write

BIG = os.urandom(300_000) + bytes(50_000)
BALLAST = bytes(600_000)


async def put_staged(local: Local, path: bytes, version: Version, staged: Staged, expect: bytes = b"") -> Event:
    order = Order(next(local.numbers), Do.PUT, path, version, expect=expect)
    ((*_, event),) = await local.driver.perform("f", [order], {order.number: staged}, {})
    return event


@pytest.mark.parametrize("data", [b"", b"small", BIG])
async def test_what_was_written_is_put(local: Local, data: bytes) -> None:
    version = file_version(data, mode=0o444)
    async with local.driver.stage("f", version) as staged:
        for start in range(0, len(data), 100_000):
            await staged.write(data[start : start + 100_000])
        await staged.finish()
        event = await put_staged(local, b"a/f", version, staged)
    st = (local.root / "a/f").stat()
    assert (event.seen, (local.root / "a/f").read_bytes()) == (Seen.DONE, data)
    assert (st.st_mtime_ns, stat.S_IMODE(st.st_mode), local.staged()) == (MTIME, 0o444, [])


@pytest.mark.parametrize("data", [b"small", BIG])
async def test_a_wrong_digest_is_corrupt_and_dropped(local: Local, data: bytes) -> None:
    async with local.driver.stage("f", file_version(data)) as staged:
        await staged.write(bytes(len(data)))
        with pytest.raises(Refused) as refused:
            await staged.finish()
        assert (refused.value.trouble, staged.offset) == (Trouble.CORRUPT, 0)
        await staged.write(data)
        await staged.finish()


@pytest.mark.parametrize("data", [b"small", BIG])
async def test_more_than_the_versions_size_is_not_taken(local: Local, data: bytes) -> None:
    async with local.driver.stage("f", file_version(data)) as staged:
        await staged.write(data)
        with pytest.raises(Refused) as refused:
            await staged.write(b"x")
        assert refused.value.trouble is Trouble.CORRUPT


async def test_what_is_too_short_is_corrupt(local: Local) -> None:
    async with local.driver.stage("f", file_version(BIG)) as staged:
        await staged.write(BIG[:-1])
        with pytest.raises(Refused):
            await staged.finish()


async def test_a_later_try_goes_on_where_an_earlier_one_ended(local: Local) -> None:
    version = file_version(BIG)
    async with local.driver.stage("f", version) as staged:
        await staged.write(BIG[:200_000])
    assert stat.S_IMODE((local.root / ".onitu/tmp" / local.staged()[0]).stat().st_mode) == 0o600
    async with local.driver.stage("f", version) as staged:
        assert staged.offset == 200_000
        await staged.write(BIG[200_000:])
        await staged.finish()
        assert (await put_staged(local, b"f", version, staged)).seen is Seen.DONE
    assert (local.root / "f").read_bytes() == BIG


async def test_what_came_of_an_earlier_version_goes_when_a_later_one_comes_to_the_same_path(local: Local) -> None:
    for number, path in enumerate((b"a", b"a", b"a", b"b")):
        data = bytes([number]) * len(BIG)
        async with local.driver.stage("f", file_version(data), path) as staged:
            await staged.write(data[:100_000])  # and then its source is edited
    assert len(local.staged()) == 2
    async with local.driver.stage("f", file_version(data), b"b") as staged:
        assert staged.offset == 100_000
        await staged.write(data[100_000:])
        await staged.finish()
        await put_staged(local, b"b", staged.version, staged)  # type: ignore[attr-defined]
    assert len(local.staged()) == 1


async def test_two_orders_with_one_content_do_not_share_a_file(local: Local) -> None:
    version = file_version(BIG)
    async with local.driver.stage("f", version) as one, local.driver.stage("f", version) as two:
        for part in (BIG[:100], BIG[100:]):
            await one.write(part)
            await two.write(part)
        await one.finish()
        await two.finish()
        assert (await put_staged(local, b"one", version, one)).seen is Seen.DONE
        assert (await put_staged(local, b"two", version, two)).seen is Seen.DONE
    assert ((local.root / "one").read_bytes(), (local.root / "two").read_bytes()) == (BIG, BIG)


async def test_content_that_a_refused_order_did_not_use_serves_the_next_try(local: Local) -> None:
    version = file_version(BIG, mode=0o400)
    write(local.root / "f", b"user")
    async with local.driver.stage("f", version) as staged:
        await staged.write(BIG)
        await staged.finish()
        refusal = await put_staged(local, b"f", version, staged)
        assert refusal.seen is Seen.STANDS
    async with local.driver.stage("f", version) as staged:
        assert staged.offset == len(BIG)
        await staged.finish()
        assert (await put_staged(local, b"f", version, staged, refusal.token)).seen is Seen.DONE
    assert (local.root / "f").read_bytes() == BIG


@pytest.mark.parametrize("piece", [staging._PIECE, 10_000], ids=["whole", "in pieces"])
@pytest.mark.parametrize("way", ["clone", "copy_file_range", "read and write"])
async def test_a_clone_takes_the_rest_from_another_replica(
    local: Local, way: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_PIECE", piece)
    if way != "clone":
        monkeypatch.setattr(syscalls, "clone", lambda source, target: False)
    if way == "read and write":
        monkeypatch.delattr(os, "copy_file_range")
    for offset, data in ((0, BIG), (70_000, BIG[1:]), (0, b"small")):
        version = file_version(data)
        token = write(local.source / "s", data)
        async with local.driver.stage("f", version) as staged:
            await staged.write(data[:offset])
            await staged.clone(str(local.source), b"s", token)
            assert staged.offset == len(data)
            await staged.finish()


async def test_a_clone_keeps_holes(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "clone", lambda source, target: False)
    with (local.source / "s").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(10 << 20)
        file.write(b"data in the middle")
    data = (local.source / "s").read_bytes()
    st = (local.source / "s").stat()
    version = file_version(data)
    async with local.driver.stage("f", version) as staged:
        await staged.clone(str(local.source), b"s", tokens.token_of(st))
        await staged.finish()
        assert (await put_staged(local, b"f", version, staged)).seen is Seen.DONE
    assert (local.root / "f").stat().st_blocks * 512 < 1 << 20
    assert (local.root / "f").read_bytes() == data


async def test_a_source_that_is_another_by_now_is_lost(local: Local, tmp_path: Path) -> None:
    token = write(local.source / "s", BIG)
    write(local.source / "s", BIG + b"x")
    os.symlink(tmp_path, local.source / "up")
    for path in (b"s", b"none", b"up/source/s"):
        async with local.driver.stage("f", file_version(BIG)) as staged:
            with pytest.raises(Refused) as refused:
                await staged.clone(str(local.source), path, token)
            assert refused.value.trouble is Trouble.SOURCE_LOST


@pytest.mark.parametrize("wrong", [0, 120_000, len(BIG) - 1])
async def test_a_copy_that_comes_out_wrong_is_corrupt(
    local: Local, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "clone", lambda source, target: False)
    monkeypatch.setattr(staging, "_PIECE", 50_000)
    real = staging.copy_piece

    def copy_wrongly(source: int, target: int, offset: int, length: int) -> int:
        count = real(source, target, offset, length)
        if offset <= wrong < offset + count:
            os.pwrite(target, bytes([BIG[wrong] ^ 1]), wrong)
        return count

    monkeypatch.setattr(staging, "copy_piece", copy_wrongly)
    token = write(local.source / "s", BIG)
    async with local.driver.stage("f", file_version(BIG)) as staged:
        await staged.clone(str(local.source), b"s", token)
        with pytest.raises(Refused) as refused:
            await staged.finish()
    assert refused.value.trouble is Trouble.CORRUPT


async def test_a_source_that_changes_during_the_copy_is_lost(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "clone", lambda source, target: False)
    monkeypatch.setattr(staging, "_PIECE", 50_000)
    token = write(local.source / "s", BIG)
    real = staging.copy_piece

    def copy_and_change(source: int, target: int, offset: int, length: int) -> int:
        with (local.source / "s").open("r+b") as file:
            file.write(b"x")
        return real(source, target, offset, length)

    monkeypatch.setattr(staging, "copy_piece", copy_and_change)
    async with local.driver.stage("f", file_version(BIG)) as staged:
        with pytest.raises(Refused) as refused:
            await staged.clone(str(local.source), b"s", token)
        assert refused.value.trouble is Trouble.SOURCE_LOST


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.decode().strip()}")
    yield root
    subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.fixture
async def small(full_disk: Path, tmp_path: Path) -> AsyncIterator[Local]:
    """A replica on that file system, where 600,000 bytes are taken."""
    (tmp_path / "source").mkdir()
    driver = LocalDriver("disk", {}, {"f": str(full_disk)})
    async with driver.open():
        await driver.identify("f")
        await driver.mark("f", Identity("m", 1))
        local = Local(driver, full_disk, tmp_path / "source")
        await local.put(b"f", BALLAST)
        yield local


async def test_a_full_disk_is_told_and_a_deletion_still_frees_it(small: Local) -> None:
    (small.root / "ballast").write_bytes(bytes(300_000))
    events = await small.put(b"g", os.urandom(125_000))
    assert [(event.seen, event.trouble) for event in events] == [(Seen.FAILED, Trouble.NO_SPACE)]
    token = (await small.hashed(b"f")).token
    events = await small.order(Do.DELETE, b"f", expect=token, held=file_version(BALLAST))
    assert [event.seen for event in events] == [Seen.DONE]
    await small.settled()
    with trio.fail_after(5):
        assert (await small.put(b"g", b"x" * 125_000))[0].seen is Seen.DONE
    assert sorted(os.listdir(small.root)) == [".onitu", "ballast", "g"]


@pytest.mark.parametrize("way", ["over sockets", "in the kernel"])
@pytest.mark.parametrize("told", [True, False], ids=["it is known before", "it shows while it is written"])
async def test_what_does_not_fit_gives_its_space_back(
    small: Local, way: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not told:
        monkeypatch.setattr(staging.StagedFile, "_reserve", lambda self, wanted: None)
    data = os.urandom(700_000)
    async with small.driver.stage("f", file_version(data)) as staged:
        token = write(small.source / "s", data)
        with pytest.raises(Refused) as refused:
            await (staged.write(data) if way == "over sockets" else staged.clone(str(small.source), b"s", token))
        assert (refused.value.trouble, staged.offset) == (Trouble.NO_SPACE, 0)
    assert (await small.put(b"g", os.urandom(125_000)))[0].seen is Seen.DONE
