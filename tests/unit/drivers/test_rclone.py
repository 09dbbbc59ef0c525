"""The driver for rclone, on remotes of its own kinds: a directory, one in memory (a bucket), and an encrypted one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from onitu.drivers.rclone import rcd, remote
from onitu.drivers.rclone.errors import Failed, meaning
from onitu.drivers.rclone.listing import nanoseconds
from onitu.drivers.rclone.names import decoded, encoded
from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind, Version
from onitu.plug.driver import Refused
from onitu.plug.remote import Busy, Content, Lost, Missing

from .rclones import FOLDER, OLD, OTHER, Stage, answer, staged, version_of

NAMES = [
    "plain",
    "a name with spaces ",
    "quotes ' \" `",
    "percent %41 %%",
    "hash # question ? star * plus + and &",
    "brackets [x] {y} ]",
    "back\\slash",
    ".hidden",
    "é (composed)",
    "e\u0301 (decomposed)",
    "日本語 😀",
    "quoted ‛ ‛‛ and pictures ␁ ‛␁ ␡",
    "control \x01 \x7f \n",
    "／ wide",
    "x" * 120,
    "-dash",
    "~tilde$var;ls|",
]
SIZES = [0, 1, 65535, 65536, 65537, 128 * 1024, 128 * 1024 + 1, 5_000_000]


@pytest.fixture(params=["disk", "memory", "secret"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(request.param, tmp_path) as stage:
        yield stage


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged("disk", tmp_path) as stage:
        yield stage


# --- names and errors, without a service ------------------------------------------------------------------------------


def test_every_name_is_told_to_rclone_in_a_way_that_leads_back() -> None:
    for name in NAMES:
        assert decoded(encoded(name)) == name
    assert encoded("\x01␁‛") == "␁‛␁‛‛"
    assert decoded("a lone ‛ quote") is None
    assert decoded("not \ufffd what it is") is None


def test_times_are_read_to_the_nanosecond_in_every_zone() -> None:
    assert nanoseconds("2020-09-13T12:26:40.123456789Z") == OLD
    assert nanoseconds("2020-09-13T14:26:40.123456789+02:00") == OLD
    assert nanoseconds("2020-09-13T12:26:40Z") == OLD - 123_456_789
    assert nanoseconds("") == nanoseconds("nonsense") == 0


def test_errors_are_told_apart_by_their_words_but_not_by_those_of_names() -> None:
    def kind(cause: str, *about: str) -> object:
        found = meaning(Failed(cause), *about)
        return found.trouble if isinstance(found, Refused) else type(found)

    assert kind("object not found") is kind("object not found", "object", "d") is Missing
    assert kind("error in ListJSON: directory not found", "directory not found") is Missing
    assert kind("lstat /d/denied/a: no such file or directory", "denied/a") is Missing
    assert kind("googleapi: Error 429: Too Many Requests, rateLimitExceeded") is Busy
    assert kind("HTTP error 503 (503 Service Unavailable) returned body") is Busy
    assert kind("dial tcp 127.0.0.1:1: connect: connection refused") is Lost
    assert kind("couldn't fetch token: invalid_grant: maybe token expired?") is Unavailable
    assert kind("write /x: no space left on device") is Trouble.NO_SPACE
    assert kind("googleapi: Error 403: storageQuotaExceeded") is Trouble.NO_SPACE
    assert kind("open /x: permission denied") is Trouble.DENIED
    assert kind("cannot write 429 permission denied quota: it broke", "429 permission denied quota") is Trouble.IO


# --- round trips ----------------------------------------------------------------------------------------------------


async def test_every_kind_of_name_arrives_and_is_listed_as_it_was_given(stage: Stage) -> None:
    for directory in ("", "a [directory] % ‛ \x02/"):
        for name in NAMES:
            event = await stage.put((directory + name).encode(), name.encode())
            assert event.seen is Seen.DONE, (name, event.reason)
    tree = await stage.tree()
    files = {path: entry for path, entry in tree.items() if entry.kind is Kind.FILE}
    assert set(files) == {
        (directory + name).encode() for directory in ("", "a [directory] % ‛ \x02/") for name in NAMES
    }
    for path, entry in files.items():
        assert await stage.content(path) == paths.name(path)
        assert (await stage.entry(path)).token == entry.token
        assert entry.version.mtime == OLD


async def test_every_size_arrives_whole(stage: Stage) -> None:
    for size in SIZES:
        data = os.urandom(size)
        event = await stage.put(b"file-%d" % size, data)
        assert event.seen is Seen.DONE, event.reason
        assert await stage.content(b"file-%d" % size) == data
        assert await stage.guest.read(f"file-{size}") == data
    assert all(name.startswith("rcd-") for name in os.listdir(stage.driver.rcd.directory))


async def test_a_name_that_is_too_long_is_refused_with_a_sentence(disk: Stage) -> None:
    event = await disk.put(b"x" * 300, b"data")
    assert event.trouble is Trouble.NAME_IMPOSSIBLE
    assert event.reason.startswith("nas: cannot ")
    assert "file name too long" in event.reason


async def test_a_directory_stands_without_anything_in_it_and_goes_only_when_empty(stage: Stage) -> None:
    made = await stage.do(Order(1, Do.PUT, b"a/b", Version(Kind.DIRECTORY)))
    assert made.seen is Seen.DONE
    assert set(await stage.tree()) == {b"a", b"a/b"}
    await stage.guest.write("a/b/file", b"data")
    gone = Order(1, Do.DELETE, b"a/b", Version(Kind.NOTHING), b"directory", Version(Kind.DIRECTORY))
    refused = await stage.do(gone)
    assert (refused.seen, refused.trouble) == (Seen.FAILED, Trouble.NOT_EMPTY)
    await stage.guest.delete("a/b/file")
    assert set(await stage.tree()) == {b"a", b"a/b"}
    assert (await stage.do(gone)).seen is Seen.DONE
    assert set(await stage.tree()) == {b"a"}


# --- changes --------------------------------------------------------------------------------------------------------


async def test_what_others_write_and_delete_shows_in_the_next_scan(stage: Stage) -> None:
    await stage.guest.write("d/file", b"one", OLD)
    before = (await stage.tree())[b"d/file"]
    assert (await stage.tree())[b"d/file"] == before
    await stage.guest.write("d/file", b"two", OTHER)
    after = (await stage.tree())[b"d/file"]
    assert after.token != before.token
    with pytest.raises(Refused) as refused:
        await stage.driver.read(FOLDER, b"d/file", before.token, 0, 3)
    assert refused.value.trouble is Trouble.SOURCE_LOST
    await stage.guest.delete("d/file")
    assert b"d/file" not in await stage.tree()


async def test_an_edit_replaces_what_was_expected(stage: Stage) -> None:
    first = await stage.put(b"file", b"one")
    second = await stage.put(b"file", b"three", first.token, version_of(b"one"), OTHER)
    assert second.seen is Seen.DONE
    assert await stage.guest.read("file") == b"three"
    entry = await stage.entry(b"file")
    assert entry.version.mtime == OTHER
    assert entry.token == second.token
    assert await stage.guest.paths() == {"file"}


async def test_a_value_that_was_not_expected_is_not_replaced(stage: Stage) -> None:
    first = await stage.put(b"file", b"one")
    await stage.guest.write("file", b"mine", OTHER)
    refused = await stage.put(b"file", b"three", first.token, version_of(b"one"))
    assert refused.seen is Seen.STANDS
    assert refused.version.size == 4
    assert (await stage.put(b"file", b"three")).seen is Seen.STANDS
    gone = await stage.do(Order(1, Do.DELETE, b"file", Version(Kind.NOTHING), first.token, version_of(b"one")))
    assert gone.seen is Seen.STANDS
    assert await stage.guest.read("file") == b"mine"


async def test_a_value_that_came_in_the_last_moment_is_kept(disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await disk.put(b"file", b"one")
    ask = rcd.Rcd.ask

    async def meanwhile(self: rcd.Rcd, command: str, **given: object) -> dict[str, object]:
        if command == "operations/movefile" and given["srcRemote"] == "file":
            (disk.cloud.files / "file").write_bytes(b"mine")
        return await ask(self, command, **given)

    monkeypatch.setattr(rcd.Rcd, "ask", meanwhile)
    await disk.put(b"file", b"three", first.token, version_of(b"one"))
    found = {await disk.guest.read(path) for path in await disk.guest.paths()}
    assert found == {b"mine", b"three"}


async def test_a_move_and_a_deletion_are_carried_out_and_take_nothing_along(stage: Stage) -> None:
    put = await stage.put(b"file", b"one")
    moved = await stage.do(Order(1, Do.MOVE, b"file", version_of(b"one"), put.token, version_of(b"one"), b"new/name"))
    assert (moved.seen, moved.path) == (Seen.DONE, b"new/name")
    assert await stage.guest.paths() == {"new/name"}
    assert (await stage.entry(b"new/name")).version.mtime == OLD
    await stage.guest.write("other", b"mine")
    blocked = Order(1, Do.MOVE, b"new/name", version_of(b"one"), moved.token, version_of(b"one"), b"other")
    assert (await stage.do(blocked)).seen is Seen.STANDS
    assert await stage.guest.read("other") == b"mine"
    gone = await stage.do(Order(1, Do.DELETE, b"new/name", Version(Kind.NOTHING), moved.token, version_of(b"one")))
    assert gone.seen is Seen.DONE
    assert await stage.guest.paths() == {"other"}


async def test_nothing_is_changed_behind_a_link_that_leads_out_of_the_root(disk: Stage, tmp_path: Path) -> None:
    """rclone leaves links out of listings, and follows them in paths."""
    out, root = tmp_path / "out", Path(disk.cloud.root.partition(":")[2])
    out.mkdir()
    (out / "x").write_bytes(b"old")
    (root / "d").mkdir()
    (root / "d" / "x").write_bytes(b"old")
    token = (await disk.entry(b"d/x")).token
    os.rename(root / "d", tmp_path / "elsewhere")
    (root / "d").symlink_to(out)
    await trio.sleep(remote.SOUND)
    for order in (
        Order(1, Do.DELETE, b"d/x", Version(Kind.NOTHING), token, version_of(b"old")),
        Order(1, Do.MOVE, b"d/x", Version(Kind.NOTHING), token, version_of(b"old"), b"y"),
    ):
        assert (await disk.do(order)).seen in (Seen.FAILED, Seen.GONE)
    assert (await disk.put(b"d/new", b"new")).seen is Seen.FAILED
    assert await disk.driver.stat(FOLDER, [b"d/x"]) == [None]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"x": b"old"}


async def test_what_came_of_an_upload_that_was_cut_goes_at_the_next_start(disk: Stage, tmp_path: Path) -> None:
    await disk.put(b"a", b"x" * 200_000)
    tmp = Path(disk.cloud.root.partition(":")[2]) / ".onitu" / "tmp"
    for name in ("whole", "cut.123abc.partial"):
        (tmp / name).write_bytes(b"x")
    await disk.driver.identify(FOLDER)
    assert os.listdir(tmp) == ["whole"]


async def test_a_time_is_set_without_the_content(stage: Stage) -> None:
    for size in (0, 5, 65536, 200_000):
        data = os.urandom(size)
        put = await stage.put(b"file-%d" % size, data)
        set_ = await stage.do(Order(1, Do.META, b"file-%d" % size, version_of(data, OTHER), put.token))
        assert set_.seen is Seen.DONE, set_.reason
        entry = await stage.entry(b"file-%d" % size)
        assert (entry.version.mtime, entry.token) == (OTHER, set_.token)
        assert await stage.guest.read(f"file-{size}") == data


async def test_setting_a_time_never_replaces_what_has_another_size(stage: Stage) -> None:
    await stage.guest.write("file", b"somebody's")
    remote_ = stage.driver._root(FOLDER).replica.remote
    assert await remote_.set_meta(b"file", version_of(b"one", OTHER), None) is None
    assert await remote_.set_meta(b"none", version_of(b"one", OTHER), None) is None
    assert await stage.guest.read("file") == b"somebody's"
    assert await stage.guest.paths() == {"file"}


async def test_a_content_of_the_same_size_and_time_is_still_written(stage: Stage) -> None:
    put = await stage.put(b"file", b"one")
    again = await stage.put(b"file", b"two", put.token, version_of(b"one"))
    assert again.seen is Seen.DONE
    assert await stage.guest.read("file") == b"two"


async def test_several_writers_at_a_time_do_not_meet(stage: Stage) -> None:
    names = [b"d%d/f%d" % (n % 3, n) for n in range(24)]

    async def put(name: bytes) -> None:
        assert (await stage.put(name, name * 1000)).seen is Seen.DONE

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(put, name)
    assert await stage.guest.paths() == {name.decode() for name in names}
    for name in names:
        assert await stage.guest.read(name.decode()) == name * 1000


async def test_a_file_of_this_host_is_not_copied_before_it_is_sent(disk: Stage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    data = os.urandom(300_000)
    (source / "file").write_bytes(data)
    os.utime(source / "file", ns=(OLD, OLD))
    version = version_of(data)
    lent: list[str] = []
    lend = remote.RcloneRemote._lend

    async def noted(self: remote.RcloneRemote, content: Content) -> str:
        lent.append(await lend(self, content))
        return lent[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote.RcloneRemote, "_lend", noted)
        async with disk.driver.stage(FOLDER, version, b"file") as staged:
            await staged.clone(str(source), b"file", b"")
            await staged.finish()
            (events,) = await disk.driver.perform(FOLDER, [Order(1, Do.PUT, b"file", version)], {1: staged}, {})
    assert answer(events).seen is Seen.DONE
    assert lent == [""]
    assert (disk.cloud.files / "file").read_bytes() == data
    assert (disk.cloud.files / "file").stat().st_mtime_ns == OLD


async def test_a_file_that_changes_while_it_is_sent_is_not_put_in_place(
    disk: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    data, file = os.urandom(300_000), tmp_path / "source" / "file"
    file.write_bytes(data)
    os.utime(file, ns=(OLD, OLD))
    version = version_of(data)
    transfer = rcd.Rcd.transfer

    async def disturbed(self: rcd.Rcd, command: str, **given: object) -> None:
        file.write_bytes(os.urandom(300_000))
        os.utime(file, ns=(OLD, OLD))
        await transfer(self, command, **given)

    async def bring() -> None:
        async with disk.driver.stage(FOLDER, version, b"file") as staged:
            await staged.clone(str(tmp_path / "source"), b"file", b"")
            await staged.finish()

    monkeypatch.setattr(rcd.Rcd, "transfer", disturbed)
    with pytest.raises(Refused) as refused:
        await bring()
    assert refused.value.trouble is Trouble.SOURCE_LOST
    assert await disk.guest.paths() == set()
