"""The local driver: which replica it is, what stands in it, what is read from it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from onitu.drivers.local import LocalDriver, reading, tokens
from onitu.drivers.local.mounts import Mounts
from onitu.model.errors import Anew, Unavailable
from onitu.model.events import Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind
from onitu.plug.driver import Identity, Refused
from onitu.plug.familiar import tally_of

from .conftest import MTIME, Local, directory_version, file_version, link_version, write
from .test_acting import not_root

# Which replica


async def test_a_new_replica_has_no_marker_and_keeps_the_one_that_it_gets(local: Local) -> None:
    assert await local.driver.identify("f") == Identity("m" * 32, 1, 0)
    await local.driver.mark("f", Identity("n" * 32, 2, 3))
    assert await local.driver.identify("f") == Identity("n" * 32, 2, 3)
    assert stat.S_IMODE((local.root / ".onitu").stat().st_mode) == 0o700


async def test_nothing_is_made_in_a_root_before_it_gets_its_marker(tmp_path: Path) -> None:
    async with (driver := LocalDriver("disk", {}, {"f": str(tmp_path)})).open():
        for _ in range(2):
            assert await driver.identify("f") == Identity()
            assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240
        await driver.mark("f", Identity("m" * 32, 1, 2))
        assert await driver.identify("f") == Identity("m" * 32, 1, 2)
        assert (await driver.scan("f", [b""]))[0].complete


async def test_a_root_that_another_run_took_first_is_not_marked_over(tmp_path: Path) -> None:
    roots = {"f": str(tmp_path)}
    async with (driver := LocalDriver("disk", {}, roots)).open():
        await driver.identify("f")
        async with (other := LocalDriver("disk", {}, roots)).open():
            await other.identify("f")
            await other.mark("f", Identity("o" * 32, 1, 2))
            with pytest.raises(Unavailable, match="in use"):
                await driver.mark("f", Identity("m" * 32, 1, 2))
        assert await driver.identify("f") == Identity("o" * 32, 1, 2)


async def test_a_missing_root_is_an_error_unless_it_may_be_made(tmp_path: Path) -> None:
    roots = {"f": str(tmp_path / "a/b")}
    async with (driver := LocalDriver("disk", {}, roots)).open():
        with pytest.raises(Unavailable, match="a/b cannot be opened: no such file"):
            await driver.identify("f")
    async with (driver := LocalDriver("disk", {"create": True}, roots)).open():
        assert await driver.identify("f") == Identity()


async def test_an_error_leaves_the_open_driver_as_it_is(tmp_path: Path) -> None:
    driver = LocalDriver("disk", {}, {"f": str(tmp_path / "none")})
    with pytest.raises(Unavailable):
        async with driver.open():
            await driver.identify("f")


async def test_a_replica_has_one_user_at_a_time(local: Local) -> None:
    async with (other := LocalDriver("disk", {}, {"f": str(local.root)})).open():
        with pytest.raises(Unavailable, match=f"in use by process {os.getpid()}"):
            await other.identify("f")


async def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, os; from onitu.drivers.local.replica import Replica;"
        "r = Replica.open(sys.argv[1], 'disk', 1024); print('open', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    with child.stdout, child.stdin:
        assert await trio.to_thread.run_sync(child.stdout.readline) == b"open\n"
        async with (driver := LocalDriver("disk", {}, {"f": str(tmp_path)})).open():
            with pytest.raises(Unavailable, match=f"process {child.pid}"):
                await driver.identify("f")
            child.kill()
            child.wait()
            await driver.identify("f")


async def test_a_root_that_went_or_was_swapped_is_unavailable(local: Local, tmp_path: Path) -> None:
    (local.root / "f").write_bytes(b"1")
    os.rename(local.root, tmp_path / "moved")
    order = Order(1, Do.DELETE, b"f", directory_version())
    for _ in range(2):
        with pytest.raises(Unavailable):
            await local.driver.scan("f", [b""])
        with pytest.raises(Unavailable):
            await local.driver.stat("f", [b"f"])
        with pytest.raises(Unavailable):
            await local.driver.perform("f", [order], {}, {})
        local.root.mkdir(exist_ok=True)
    local.root.rmdir()
    os.rename(tmp_path / "moved", local.root)
    assert (await local.driver.scan("f", [b""]))[0].complete


async def test_a_lost_or_foreign_marker_makes_the_replica_unavailable(local: Local) -> None:
    marker = local.root / ".onitu/marker"
    text = marker.read_text()
    marker.write_text(text.replace("mmm", "xxx"))
    for _ in range(2):
        with pytest.raises(Unavailable, match="another one"):
            await local.driver.scan("f", [b""])
    marker.unlink()
    for _ in range(2):
        with pytest.raises(Unavailable, match="lost its marker"):
            await local.driver.stat("f", [b"f"])


@pytest.mark.parametrize("size", [5, 3_000_000])
async def test_what_waits_on_its_way_in_may_be_removed_while_it_runs(local: Local, size: int) -> None:
    await local.put(b"f", b"1")
    shutil.rmtree(local.root / ".onitu/tmp")
    version = file_version(b"x" * size)
    async with local.driver.stage("f", version, b"g") as staged:
        await staged.write(b"x" * size)
        await staged.finish()
        (events,) = await local.driver.perform("f", [Order(100, Do.PUT, b"g", version)], {100: staged}, {})
    assert [event.seen for event in events] == [Seen.DONE]
    assert (local.root / "g").stat().st_size == size
    assert local.staged() == []


async def test_a_replica_without_its_limbo_is_identified_anew(local: Local) -> None:
    shutil.rmtree(local.root / ".onitu/limbo")
    with pytest.raises(Anew, match=r"lost \.onitu/limbo"):
        await local.driver.scan("f", [b""])
    await local.driver.identify("f")
    assert (await local.driver.scan("f", [b""]))[0].complete
    assert (await local.put(b"f", b"1"))[-1].seen is Seen.DONE


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_mount_that_went_or_came_back_during_a_look_is_no_empty_directory(
    local: Local, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    (local.root / "disk").mkdir()
    looks: list[int] = []

    def gone(self: Mounts) -> frozenset[bytes]:
        looks.append(1)
        return frozenset({b"disk"} if len(looks) % 2 == (when == "before") else ())

    monkeypatch.setattr(Mounts, "gone", gone)
    top, disk = await local.driver.scan("f", [b"", b"disk"])
    assert [entry.trouble for entry in top.entries] == [Trouble.UNAVAILABLE]
    assert not disk.complete
    assert "mounted at disk is not there" in disk.reason
    for found in await local.driver.stat("f", [b"disk", b"disk/f"]):
        assert found is not None
        assert found.trouble is Trouble.UNAVAILABLE
    assert await local.driver.tally("f", (), 2**62) is None


async def test_a_marker_that_was_copied_back_is_the_same(local: Local) -> None:
    marker = local.root / ".onitu/marker"
    text = marker.read_text()
    marker.unlink()
    marker.write_text(text)
    assert (await local.driver.scan("f", [b""]))[0].complete


async def test_a_damaged_marker_says_what_can_be_done(local: Local) -> None:
    (local.root / ".onitu/marker").write_text("{")
    with pytest.raises(Unavailable, match="is damaged; if this replica"):
        await local.driver.identify("f")


async def test_leftovers_are_swept_but_partial_content_is_kept_for_a_while(local: Local) -> None:
    tmp = local.root / ".onitu/tmp"
    for name in ("1.new", "ab-5.part"):
        (tmp / name).write_bytes(b"x")
    (tmp / "2.new").mkdir()
    await local.driver.identify("f")
    assert local.staged() == ["ab-5.part"]


async def test_capabilities_are_probed(local: Local) -> None:
    capabilities = local.driver.capabilities("f")
    assert (capabilities.case_sensitive, capabilities.links, capabilities.mtimes) == (True, True, 1)
    assert local.staged() == []


# What stands


async def test_a_scan_tells_every_kind_and_leaves_out_onitus_own_at_every_depth(local: Local) -> None:
    write(local.root / "f", b"12345")
    os.utime(local.root / "f", ns=(MTIME, MTIME))
    (local.root / "f").chmod(0o640)
    os.symlink("x\udcff", local.root / "l")
    os.utime(local.root / "l", ns=(MTIME, MTIME), follow_symlinks=False)
    (local.root / "d/.onitu").mkdir(parents=True)
    (local.root / "d").chmod(0o750)
    top, d = await local.driver.scan("f", [b"", b"d"])
    versions = {entry.path: entry.version for entry in top.entries}
    assert versions == {
        b"f": replace(file_version(b"12345", mode=0o640), digests={}),
        b"l": link_version(b"x\xff"),
        b"d": directory_version(0o750),
    }
    assert d.entries == ()
    assert await local.driver.stat("f", [b"f", b"l", b"d"]) == [
        next(entry for entry in top.entries if entry.path == path) for path in (b"f", b"l", b"d")
    ]


async def test_what_cannot_be_synchronised_is_told_with_its_trouble(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(local.root)
    os.mkfifo(local.root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    (listing,) = await local.driver.scan("f", [b""])
    reasons = {entry.path: (entry.kind, entry.trouble, entry.reason) for entry in listing.entries}
    assert reasons == {
        b"fifo": (Kind.NOTHING, Trouble.UNSUPPORTED, "fifo is a FIFO, which cannot be synchronised"),
        b"socket": (Kind.NOTHING, Trouble.UNSUPPORTED, "socket is a socket, which cannot be synchronised"),
    }
    assert await local.driver.fingerprint("f", listing.entries) == list(listing.entries)


async def test_of_a_familiar_directory_only_the_directories_are_listed(local: Local) -> None:
    """And of every other one what a scan lists, whatever stands in it."""
    for directory in ("same", "same/below", "edited", "mode", "mode/below", "odd"):
        (local.root / directory).mkdir()
        write(local.root / directory / "f", b"content")
    os.symlink("f", local.root / "same" / "link")
    paths = [b"", b"same", b"same/below", b"edited", b"mode", b"odd", b"none"]
    before = await local.driver.scan("f", paths)
    tallies = {listing.directory: tally_of(listing.entries) for listing in before}
    assert all(one.familiar for one in await local.driver.scan_familiar("f", paths[:-1], tallies))
    write(local.root / "edited" / "f", b"another")
    (local.root / "mode" / "below").chmod(0o700)
    os.mkfifo(local.root / "odd" / "pipe")
    found = await local.driver.scan_familiar("f", paths, {**tallies, b"none": tallies[b"same"]})
    top, same, below, *others = found
    assert top.familiar
    assert {entry.path for entry in top.entries} == {b"same", b"edited", b"mode", b"odd"}
    assert [(one.directory, [entry.path for entry in one.entries]) for one in (same, below)] == [
        (b"same", [b"same/below"]),
        (b"same/below", []),
    ]
    assert same.familiar
    assert below.familiar
    assert others == await local.driver.scan("f", paths[3:])
    assert await local.driver.scan_familiar("f", paths, {}) == await local.driver.scan("f", paths)


async def test_a_missing_directory_is_told_as_missing(local: Local, tmp_path: Path) -> None:
    write(local.root / "f", b"")
    os.symlink(tmp_path, local.root / "l")
    listings = await local.driver.scan("f", [b"none", b"f", b"l", b"l/source"])
    assert [(listing.missing, listing.entries) for listing in listings] == [(True, ())] * 4


@not_root
async def test_a_directory_that_cannot_be_listed_is_incomplete(local: Local) -> None:
    (local.root / "d").mkdir(0o300)
    (listing,) = await local.driver.scan("f", [b"d"])
    assert (listing.complete, listing.missing, listing.reason) == (False, False, "cannot list d: permission denied")


@not_root
async def test_what_cannot_be_looked_at_is_not_nothing(local: Local) -> None:
    (local.root / "d").mkdir()
    write(local.root / "d/f", b"")
    (local.root / "d").chmod(0o600)
    entry = await local.entry(b"d/f")
    assert entry is not None
    assert entry.trouble is Trouble.DENIED
    (local.root / "d").chmod(0o700)


async def test_nothing_stands_below_a_file_a_link_or_nothing(local: Local, tmp_path: Path) -> None:
    write(local.root / "f", b"")
    write(tmp_path / "x", b"")
    os.symlink(tmp_path, local.root / "l")
    assert await local.driver.stat("f", [b"none", b"none/x", b"f/x", b"l/x", b"n" * 256]) == [None] * 5


# What is read


async def test_a_fingerprint_is_of_exactly_what_was_seen(local: Local) -> None:
    write(local.root / "same", b"12345")
    write(local.root / "other", b"12345")
    os.symlink("x", local.root / "link")
    (local.root / "d").mkdir()
    (listing,) = await local.driver.scan("f", [b""])
    write(local.root / "other", b"54321")
    fingerprints = await local.driver.fingerprint("f", listing.entries)
    before = {entry.path: entry for entry in listing.entries}
    found = dict(zip(before, fingerprints, strict=True))
    assert found[b"other"] is None
    assert found[b"same"] is not None
    assert found[b"same"].version.digests == file_version(b"12345").digests
    assert (found[b"link"], found[b"d"]) == (before[b"link"], before[b"d"])


async def test_a_file_that_changes_while_it_is_read_is_not_told(local: Local) -> None:
    write(local.root / "f", bytes(3 * 1024 * 1024))
    replica = local.driver._replicas["f"]
    entry = await local.entry(b"f")
    assert entry is not None

    def change() -> None:
        with (local.root / "f").open("r+b") as file:
            file.write(b"x")

    assert reading.fingerprint(replica.tree, entry, change, True) is None


async def test_a_cancel_ends_a_long_fingerprint_soon(local: Local) -> None:
    with (local.root / "f").open("wb") as file:
        file.truncate(1 << 40)
    entry = await local.entry(b"f")
    assert entry is not None
    with trio.fail_after(10):
        with trio.move_on_after(0.05) as scope:
            await local.driver.fingerprint("f", [entry])
        assert scope.cancelled_caught


async def test_a_token_of_a_fresh_file_is_dirty_where_stamps_are_coarse(local: Local) -> None:
    write(local.root / "f", b"1")
    with local.driver._replicas["f"].tree.place(b"f") as place:
        read = reading.read_settled(place, fine=False)
        assert read is not None
        assert tokens.is_dirty(read[2])
        assert read[2] != tokens.token_of(read[0])
        assert tokens.matches(read[2], read[0])
        assert not tokens.racy(read[0], time.time_ns() + 2 * tokens.TICK)


async def test_what_was_renamed_and_edited_is_another_thing(local: Local) -> None:
    identity = local.driver.identity_of
    before = write(local.root / "f", b"one")
    (local.root / "f").rename(local.root / "g")
    renamed = await local.entry(b"g")
    assert renamed is not None
    assert identity(renamed.token) == identity(before)
    with (local.root / "g").open("ab") as file:
        file.write(b" more")
    edited = await local.entry(b"g")
    assert edited is not None
    assert identity(edited.token) != identity(before)


async def test_a_read_is_of_what_the_token_names(local: Local) -> None:
    token = write(local.root / "f", b"0123456789")
    assert await local.driver.read("f", b"f", token, 2, 3) == b"234"
    assert await local.driver.read("f", b"f", token, 8, 100) == b"89"
    assert await local.driver.read("f", b"f", token, 100, 100) == b""
    write(local.root / "f", b"changed")
    for path in (b"f", b"none"):
        with pytest.raises(Refused) as refused:
            await local.driver.read("f", path, token, 0, 3)
        assert refused.value.trouble is Trouble.SOURCE_LOST


async def test_a_link_is_never_read_through(local: Local, tmp_path: Path) -> None:
    token = write(tmp_path / "secret", b"secret")
    os.symlink(tmp_path / "secret", local.root / "l")
    os.symlink(tmp_path, local.root / "d")
    for path in (b"l", b"d/secret"):
        with pytest.raises(Refused):
            await local.driver.read("f", path, token, 0, 3)


async def test_a_marker_that_is_written_while_the_replica_is_looked_at_is_no_other_one(local: Local) -> None:
    async with trio.open_nursery() as nursery:

        async def look() -> None:
            while True:
                await local.driver.stat("f", [b"f"])

        for _ in range(4):
            nursery.start_soon(look)
        for generation in range(2, 200):
            await local.driver.mark("f", Identity("m" * 32, generation, 0))
        nursery.cancel_scope.cancel()
