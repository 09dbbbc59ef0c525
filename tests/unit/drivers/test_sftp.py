"""The driver `sftp` against OpenSSH's sshd: what is written, seen, replaced, moved, and never lost."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from onitu.drivers.sftp.remote import SftpRemote
from onitu.model.errors import Unavailable
from onitu.model.events import Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Identity
from onitu.plug.remote import Changed, Content, Missing, Thing
from onitu.testing.users import User, at_work, save
from onitu.testing.values import name_of
from tests.servers.sftp import Sshd, sshd

from .sftp_stage import FOLDER, MINE, MTIME, NEW, OLD, Stage, answer, file_version, opened

NAMES = [
    "plain.txt", "with spaces and  two", " leading and trailing ", "it's \"quoted\"", "100%25 %s %n", "\\back\\slash",
    "é (NFC)", "é (NFD)", "日本語", "🙂", "*?[a]{b}$HOME`id`;&|<>", "-rf", ".hidden", "~",
    "tab\tand\nnewline", "x" * 255,
]  # fmt: skip
RENAMES = 200
SIZES = [0, 1, 32767, 32768, 32769, 131071, 131072, 131073, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 7_654_321]


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


@pytest.fixture
async def stage(server: Sshd, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    there = server.root / str(abs(hash(request.node.name)))
    async with opened(server, there) as stage:
        yield stage


def meanwhile(stage: Stage, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Somebody acts in the instant before the next rename, once."""
    rename = SftpRemote.rename
    acts = iter([act])

    async def late(remote: SftpRemote, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        for one in acts:
            one()
        return await rename(remote, path, target, expect)

    monkeypatch.setattr(SftpRemote, "rename", late)


# --- what is written and read ---------------------------------------------------------------------------------------


async def test_names_of_every_kind_make_the_round_trip(stage: Stage) -> None:
    for name in [*(os.fsencode(name) for name in NAMES), b"not \xff UTF-8"]:
        data = b"in " + name
        event = answer(await stage.put(name, data))
        assert event.seen is Seen.DONE, event
        assert (stage.there / os.fsdecode(name)).read_bytes() == data
        assert await stage.content(name, len(data)) == data
    assert (await stage.scan()).keys() == {os.fsencode(name) for name in os.listdir(stage.there)} - {b".onitu"}
    assert stage.hidden() == []


async def test_files_of_every_size_make_the_round_trip(stage: Stage) -> None:
    for size in SIZES:
        data = random.Random(size).randbytes(size)
        path = b"deep/er/%d" % size
        event = answer(await stage.put(path, data))
        assert event.seen is Seen.DONE
        where = stage.there / os.fsdecode(path)
        assert where.read_bytes() == data
        assert (where.stat().st_mtime_ns, stat.S_IMODE(where.stat().st_mode)) == (MTIME, 0o640)
        assert await stage.content(path, size) == data
        assert await stage.content(path, size, 100_000) == data
        assert await stage.token(path) == event.token
    assert stage.hidden() == []


async def test_a_listing_tells_all_that_was_written(stage: Stage) -> None:
    for number in range(1500):
        (stage.there / f"file {number}").write_bytes(b"x" * number)
    (stage.there / "empty").mkdir(mode=0o750)
    os.symlink("../else where", stage.there / "link")
    os.symlink("/nowhere", stage.there / "dangling")
    os.mkfifo(stage.there / "pipe")
    found = await stage.scan()
    assert len(found) == 1504
    for number in range(1500):
        entry = found[b"file %d" % number]
        assert (entry.kind, entry.version.size) == (Kind.FILE, number)
    assert (found[b"empty"].kind, found[b"empty"].version.mode) == (Kind.DIRECTORY, 0o750)
    assert found[b"link"].version.link == b"../else where"
    assert found[b"dangling"].version.link == b"/nowhere"
    assert found[b"pipe"].trouble is Trouble.UNSUPPORTED
    for path in (b"file 7", b"empty", b"link", b"pipe"):
        assert await stage.driver.stat(FOLDER, [path]) == [found[path]]


async def test_links_and_directories_are_made_with_their_modes_and_times(stage: Stage) -> None:
    link = Version(Kind.LINK, link=b"to/some where", mtime=MTIME)
    directory = Version(Kind.DIRECTORY, mode=0o710)
    linked, made = await stage.do(Order(1, Do.PUT, b"a/link", link), Order(2, Do.PUT, b"made", directory))
    assert (answer(linked).seen, answer(made).seen) == (Seen.DONE, Seen.DONE)
    assert os.readlink(stage.there / "a" / "link") == "to/some where"
    assert stat.S_IMODE((stage.there / "made").stat().st_mode) == 0o710
    assert await stage.token(b"a/link") == answer(linked).token
    (again,) = await stage.do(Order(3, Do.META, b"a/link", link, answer(linked).token))
    assert answer(again).seen is Seen.DONE
    assert os.lstat(stage.there / "a" / "link").st_mtime_ns == MTIME


async def test_mode_and_time_are_changed_without_a_transfer(stage: Stage) -> None:
    put = answer(await stage.put(b"file"))
    version = file_version(NEW, MTIME - 10**12, 0o4755)
    (events,) = await stage.do(Order(1, Do.META, b"file", version, put.token))
    assert answer(events).seen is Seen.DONE
    told = (stage.there / "file").stat()
    assert (told.st_mtime_ns, stat.S_IMODE(told.st_mode)) == (version.mtime, 0o4755)


async def test_forty_writers_at_a_time_do_not_mix_their_files(stage: Stage) -> None:
    wanted = {f"{n % 5}/{n}": random.Random(n).randbytes(n * 9000) for n in range(40)}

    async def put(path: bytes, data: bytes) -> None:
        event = answer(await stage.put(path, data))
        assert event.seen is Seen.DONE, event

    async with trio.open_nursery() as nursery:
        for name, data in wanted.items():
            nursery.start_soon(put, name.encode(), data)
    assert stage.visible() == wanted
    assert stage.hidden() == []


async def test_a_poll_costs_one_call_for_each_directory_and_reads_nothing(stage: Stage) -> None:
    for directory in range(4):
        (stage.there / str(directory)).mkdir()
        for number in range(50):
            (stage.there / str(directory) / str(number)).write_bytes(b"x")
    await stage.scan()
    before = stage.driver.counters["requests"]
    await stage.scan()
    proofs = 2 * 2  # the marker is looked at and read after each of the two batches
    assert stage.driver.counters["requests"] - before == 5 + proofs
    assert stage.driver.counters.get("read_bytes", 0) < 1000  # markers


# --- changes of others ----------------------------------------------------------------------------------------------


async def test_a_new_file_costs_two_calls_and_one_for_its_batch_and_no_look_before(stage: Stage) -> None:
    await stage.put(b"first")  # makes Onitu's own directories
    before = stage.driver.counters["requests"]
    (done,) = await stage.put(b"second")
    assert done.seen is Seen.DONE
    assert stage.driver.counters["requests"] - before == 2 + 1  # the marker is looked at after each batch


async def test_a_new_file_where_something_stands_is_told_as_that_and_leaves_nothing_behind(stage: Stage) -> None:
    (stage.there / "a").write_bytes(OLD)
    (found,) = await stage.put(b"a", NEW)
    assert (found.seen, found.version.size) == (Seen.STANDS, len(OLD))
    assert stage.visible() == {"a": OLD}
    assert stage.hidden() == []


async def test_a_change_of_size_time_or_mode_gives_another_token(stage: Stage) -> None:
    put = answer(await stage.put(b"file", OLD))
    where = stage.there / "file"
    tokens = {put.token}
    for change in (
        lambda: where.write_bytes(OLD + b"!"),
        lambda: os.utime(where, (1, 1)),
        lambda: where.chmod(0o600),
        lambda: (where.unlink(), where.symlink_to("file")),
    ):
        change()
        tokens.add(await stage.token(b"file"))
    assert len(tokens) == 5


@pytest.mark.parametrize("ahead", [-3600, 0, 3600], ids=["an hour behind", "right", "an hour ahead"])
async def test_a_change_within_a_second_to_the_same_size_is_seen_whatever_the_clock(
    server: Sshd, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - ahead * 10**9)  # ours is off, as seen from the server
    there = server.root / f"clock{ahead}"
    async with opened(server, there) as stage:
        (there / "file").write_bytes(OLD)
        (entry,) = await stage.driver.fingerprint(FOLDER, list((await stage.scan()).values()))
        assert entry is not None
        assert entry.version.digests[BLAKE3] == blake3(OLD).digest()
        stamp = (there / "file").stat().st_mtime_ns
        (there / "file").write_bytes(OLD[::-1])
        os.utime(there / "file", ns=(stamp, stamp))
        assert (await stage.scan())[b"file"].token != entry.token  # so it is read again
        held = file_version(OLD, entry.version.mtime)
        events = await stage.put(b"file", NEW, expect=entry.token, held=held)
        assert answer(events).seen is Seen.STANDS
        assert stage.visible() == {"file": OLD[::-1]}


async def test_an_order_on_what_a_user_changed_is_refused_with_what_stands(stage: Stage) -> None:
    put = answer(await stage.put(b"file", OLD))
    (stage.there / "file").write_bytes(MINE)
    target = Order(2, Do.MOVE, b"file", file_version(OLD), put.token, target=b"moved")
    answers = [
        answer(await stage.put(b"file", NEW, expect=put.token)),
        answer(await stage.put(b"file", NEW)),
        answer((await stage.do(Order(1, Do.DELETE, b"file", Version(Kind.NOTHING), put.token)))[0]),
        answer((await stage.do(target))[0]),
    ]
    for event in answers:
        assert event.seen is Seen.STANDS
        assert event.version.digests[BLAKE3] == blake3(MINE).digest()
    assert stage.visible() == {"file": MINE}


async def test_what_a_user_writes_in_the_last_instant_before_a_replacement_gets_a_conflict_name(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = answer(await stage.put(b"file", OLD))
    meanwhile(stage, monkeypatch, lambda: (stage.there / "file").write_bytes(MINE))
    events = await stage.put(b"file", NEW, expect=put.token, held=put.version)
    assert answer(events).seen is Seen.DONE
    assert sorted(stage.visible().values()) == sorted([MINE, NEW])
    assert stage.visible()["file"] == NEW
    assert [event.seen for event in events] == [Seen.STANDS, Seen.DONE]


async def test_what_a_user_writes_in_the_last_instant_before_a_deletion_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = answer(await stage.put(b"file", OLD))
    meanwhile(stage, monkeypatch, lambda: (stage.there / "file").write_bytes(MINE))
    order = Order(1, Do.DELETE, b"file", Version(Kind.NOTHING), put.token, put.version)
    assert answer((await stage.do(order))[0]).seen is Seen.STANDS
    assert stage.visible() == {"file": MINE}


async def test_what_a_user_puts_at_the_target_in_the_last_instant_is_not_replaced(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(stage, monkeypatch, lambda: (stage.there / "file").write_bytes(MINE))
    event = answer(await stage.put(b"file", NEW))
    assert event.seen is Seen.STANDS
    assert stage.visible() == {"file": MINE}


@pytest.mark.parametrize("do", [Do.PUT, Do.DELETE])
async def test_a_file_that_was_renamed_over_one_of_its_size_and_time_is_not_taken_for_it(stage: Stage, do: Do) -> None:
    put = answer(await stage.put(b"f", OLD, mtime=MTIME))
    other = stage.there / "other"
    other.write_bytes(MINE[: len(OLD)])
    os.chmod(other, stat.S_IMODE((stage.there / "f").stat().st_mode))
    os.utime(other, ns=(MTIME, MTIME))
    other.rename(stage.there / "f")
    assert await stage.token(b"f") == put.token
    if do is Do.PUT:
        events = await stage.put(b"f", NEW, put.token, file_version(OLD))
        assert answer(events).seen is Seen.DONE
    else:
        order = Order(1, Do.DELETE, b"f", Version(Kind.NOTHING), put.token, file_version(OLD))
        (events,) = await stage.do(order)
    assert MINE[: len(OLD)] in stage.visible().values()
    (found,) = [event for event in events if event.seen is Seen.STANDS]
    assert found.version.digests[BLAKE3] == blake3(MINE[: len(OLD)]).digest()
    assert stage.hidden() == []


# --- deletes and moves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aside", [True, False], ids=["aside", "away"])
async def test_what_a_user_writes_while_a_file_is_renamed_is_not_deleted(stage: Stage, aside: bool) -> None:
    """OpenSSH's plain rename gives a file a second name, and then takes away whatever has the first one by then."""
    await stage.put(b"first")  # so that there is a limbo
    with at_work([User.at(stage.there, "user", ["f"], seed=1, habits={save: 1.0}, largest=50)]) as (user,):
        for number in range(RENAMES):
            while not (token := await stage.token(b"f")):
                pass
            if aside:
                await stage.remote.rename(b"f", b".onitu/limbo/%d" % number, None)
            else:
                await stage.do(Order(number + 1, Do.MOVE, b"f", file_version(b""), token, target=b"g%d" % number))
    standing = {name_of(data) for data in stage.visible().values()}
    standing |= {name_of(path.read_bytes()) for path in (stage.there / ".onitu" / "limbo").iterdir()}
    wrote = {deed.value for deed in user.deeds}
    assert len(wrote) > RENAMES
    assert wrote - standing - {value for deed in user.deeds for value in deed.replaced} == set()


async def test_files_links_and_directories_are_moved_and_deleted(stage: Stage) -> None:
    put = answer(await stage.put(b"dir/file", OLD))
    os.symlink("gone", stage.there / "link")
    link = await stage.token(b"link")
    orders = [
        Order(1, Do.MOVE, b"dir/file", file_version(OLD), put.token, target=b"new/place/file"),
        Order(2, Do.MOVE, b"link", Version(Kind.LINK, link=b"gone"), link, target=b"new/link"),
        Order(3, Do.MOVE, b"dir", Version(Kind.DIRECTORY), b"directory", target=b"other"),
    ]
    for events in await stage.do(*orders):
        assert answer(events).seen is Seen.DONE, events
    assert stage.visible() == {"new/place/file": OLD}
    assert os.readlink(stage.there / "new" / "link") == "gone"
    assert (stage.there / "other").is_dir()
    refused = Order(4, Do.DELETE, b"new", Version(Kind.NOTHING), b"directory")
    assert answer((await stage.do(refused))[0]).trouble is Trouble.NOT_EMPTY
    tokens = [await stage.token(path) for path in (b"new/place/file", b"new/link")]
    deletions = [
        Order(5, Do.DELETE, b"new/place/file", Version(Kind.NOTHING), tokens[0]),
        Order(6, Do.DELETE, b"new/link", Version(Kind.NOTHING), tokens[1]),
        Order(7, Do.DELETE, b"new/place", Version(Kind.NOTHING), b"directory"),
        Order(8, Do.DELETE, b"new", Version(Kind.NOTHING), b"directory"),
    ]
    for events in await stage.do(*deletions):
        assert answer(events).seen is Seen.DONE, events
    assert sorted(os.listdir(stage.there)) == [".onitu", "other"]


async def test_a_rename_replaces_neither_file_directory_nor_dangling_link(stage: Stage) -> None:
    (stage.there / "file").write_bytes(OLD)
    (stage.there / "file 2").write_bytes(MINE)
    (stage.there / "directory").mkdir()
    os.symlink("nowhere", stage.there / "link")
    os.symlink("else where", stage.there / "link 2")
    for path, target in ((b"file", b"file 2"), (b"file", b"directory"), (b"file", b"link"), (b"link", b"file"),
                         (b"link", b"link 2"), (b"directory", b"link"), (b"directory", b"file")):  # fmt: skip
        with pytest.raises(Changed):
            await stage.remote.rename(path, target, None)
    with pytest.raises(Changed):  # and without a look before
        await rename_from_tmp(stage, b"file 2")
    assert stage.visible() == {"file": OLD, "file 2": MINE}
    assert os.readlink(stage.there / "link") == "nowhere"


async def rename_from_tmp(stage: Stage, target: bytes) -> None:
    with contextlib.suppress(Changed):
        await stage.remote.make_directory(b".onitu/tmp")
    await stage.remote.put(b".onitu/tmp/ready", Content.of(NEW), None)
    await stage.remote.rename(b".onitu/tmp/ready", target, None)


# --- what leads out of the root -------------------------------------------------------------------------------------


async def test_nothing_is_written_read_or_deleted_through_a_link_that_took_a_directorys_place(
    stage: Stage, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(MINE)
    os.symlink(outside, stage.there / "dir")
    assert await stage.token(b"dir/file") == b""
    assert answer(await stage.put(b"dir/new")).trouble is Trouble.NAME_CLASH
    remote = stage.remote
    for act in (
        lambda: remote.list(b"dir"),
        lambda: remote.delete(b"dir/file", None),
        lambda: remote.rename(b"dir/file", b"here", None),
        lambda: remote.make_directory(b"dir/sub"),
        lambda: remote.read(b"dir/file", b"", 0, 1),
        lambda: remote.set_meta(b"dir/file", file_version(MINE), None),
    ):
        with pytest.raises(Missing):
            await act()
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"file": MINE}


# --- the root -------------------------------------------------------------------------------------------------------


async def test_the_marker_is_found_again_and_a_root_that_is_not_there_is_told(stage: Stage, server: Sshd) -> None:
    async with opened(server, stage.there) as other:
        assert await other.driver.identify(FOLDER) == Identity("me", 1, 2)
    (server.root / "file").write_bytes(b"")
    for root in ("/nowhere/at all", str(server.root / "file")):
        stage.driver.roots[FOLDER] = root
        with pytest.raises(Unavailable, match=f"nas: there is no directory {root} on 127.0.0.1"):
            await stage.driver.identify(FOLDER)
