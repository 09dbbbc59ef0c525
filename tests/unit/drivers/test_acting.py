"""Orders: what each kind does, and what it answers when it must not."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
import trio

from onitu.drivers.local import tokens
from onitu.drivers.local.limbo import AGE, Limbo
from onitu.drivers.local.tree import Place
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind

from .conftest import MTIME, NS, Local, directory_version, file_version, link_version


def almighty() -> bool:
    """Whether modes do not bind this process: root's CAP_DAC_OVERRIDE."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o500)
        try:
            (Path(directory) / "f").touch()
        except PermissionError:
            return False
        return True


not_root = pytest.mark.skipif(almighty(), reason="this process may write everywhere")


def only(events: list[Event]) -> Event:
    (event,) = events
    return event


def needs_leases(local: Local) -> None:
    if not local.driver._replicas["f"].abilities.leases:
        pytest.skip("this file system does not tell whether a file is open for writing")


async def looked_at(local: Local) -> None:
    """Until what was displaced is old enough for its second look, and that has been."""
    await trio.sleep(2 * AGE)
    await trio.to_thread.run_sync(local.driver._replicas["f"].limbo.settle_due)


async def stood(local: Local, path: bytes, data: bytes) -> bytes:
    """Something that Onitu put there earlier; its token."""
    event = only(await local.put(path, data))
    assert event.seen is Seen.DONE
    return event.token


# PUT


async def test_a_put_makes_a_file_with_its_parents_mode_and_time(local: Local) -> None:
    event = only(await local.put(b"a/b/c", b"hello", mode=0o640))
    st = (local.root / "a/b/c").stat()
    assert (local.root / "a/b/c").read_bytes() == b"hello"
    assert (st.st_mtime_ns, stat.S_IMODE(st.st_mode)) == (MTIME, 0o640)
    entry = await local.entry(b"a/b/c")
    assert entry is not None
    assert (event.seen, event.token, event.version) == (Seen.DONE, entry.token, file_version(b"hello", mode=0o640))
    assert local.staged() == []
    assert [(made.path, made.seen, made.token) for made in local.beside] == [
        (b"a", Seen.STANDS, tokens.DIRECTORY),
        (b"a/b", Seen.STANDS, tokens.DIRECTORY),
    ]
    for made in local.beside:
        found = await local.entry(made.path)
        assert found is not None
        assert made.version == found.version


@pytest.mark.parametrize("mtime", [-2_000_000_000 * NS + 1, -1, 0, 1, 4_294_967_296 * NS + 999_999_999])
async def test_every_time_is_kept_to_the_nanosecond(local: Local, mtime: int) -> None:
    await local.put(b"f", b"x", mtime=mtime)
    assert (local.root / "f").stat().st_mtime_ns == mtime


@pytest.mark.parametrize("mode", [0o400, 0o444, 0o755, 0o777, 0o200])
async def test_every_mode_is_kept(local: Local, mode: int) -> None:
    await local.put(b"f", b"x", mode=mode)
    assert stat.S_IMODE((local.root / "f").stat().st_mode) == mode


async def test_set_uid_is_never_given(local: Local) -> None:
    await local.put(b"f", b"x", mode=0o4755)
    assert stat.S_IMODE((local.root / "f").stat().st_mode) == 0o755


async def test_an_unknown_mode_is_the_replaced_files_or_the_umasks(local: Local) -> None:
    await local.put(b"new", b"x", mode=0)
    assert stat.S_IMODE((local.root / "new").stat().st_mode) in (0o644, 0o664, 0o600)
    token = only(await local.put(b"f", b"x", mode=0o711)).token
    await local.put(b"f", b"y", expect=token, mode=0)
    assert stat.S_IMODE((local.root / "f").stat().st_mode) == 0o711


async def test_a_put_replaces_what_it_expects_and_leaves_nothing_behind(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    event = only(await local.put(b"f", b"new", expect=token, held=file_version(b"old")))
    assert (event.seen, (local.root / "f").read_bytes()) == (Seen.DONE, b"new")
    await local.settled()
    assert (local.names(), local.staged()) == (["f"], [])


async def test_a_put_where_something_stands_already_is_refused_with_what_stands(local: Local) -> None:
    (local.root / "f").write_bytes(b"user")
    event = only(await local.put(b"f", b"new"))
    assert (event.seen, event.version.digests) == (Seen.STANDS, file_version(b"user").digests)
    assert tokens.matches(event.token, (local.root / "f").stat())
    assert ((local.root / "f").read_bytes(), local.staged()) == (b"user", [])


async def test_a_put_over_something_newer_is_refused(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    (local.root / "f").write_bytes(b"user")
    event = only(await local.put(b"f", b"new", expect=token, held=file_version(b"old")))
    assert (event.seen, (local.root / "f").read_bytes()) == (Seen.STANDS, b"user")


async def test_a_put_over_something_that_went_answers_gone(local: Local) -> None:
    token = await stood(local, b"a/f", b"old")
    (local.root / "a/f").unlink()
    assert only(await local.put(b"a/f", b"new", expect=token)).seen is Seen.GONE
    (local.root / "a").rmdir()
    assert only(await local.put(b"a/f", b"new", expect=token)).seen is Seen.GONE
    assert local.names() == []


async def test_the_same_size_and_mtime_do_not_hide_another_content(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    (local.root / "f").write_bytes(b"use")
    os.utime(local.root / "f", ns=(MTIME, MTIME))
    event = only(await local.put(b"f", b"new", expect=token, held=file_version(b"old")))
    assert (event.seen, (local.root / "f").read_bytes()) == (Seen.STANDS, b"use")


async def test_a_dirty_token_is_decided_by_the_content(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    dirty = token[:-8] + bytes(8)
    event = only(await local.put(b"f", b"new", expect=dirty, held=file_version(b"another")))
    assert (event.seen, (local.root / "f").read_bytes()) == (Seen.STANDS, b"old")
    event = only(await local.put(b"f", b"new", expect=dirty, held=file_version(b"old")))
    assert (event.seen, (local.root / "f").read_bytes()) == (Seen.DONE, b"new")
    await local.settled()
    assert local.names() == ["f"]


async def test_keep_gives_the_displaced_content_a_path_of_its_own(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    done, kept = await local.put(b"f", b"new", expect=token, held=file_version(b"old"), keep=b"g/f (conflict)")
    assert (done.seen, kept.seen, kept.path, kept.version) == (
        Seen.DONE,
        Seen.DONE,
        b"g/f (conflict)",
        file_version(b"old"),
    )
    entry = await local.entry(b"g/f (conflict)")
    assert entry is not None
    assert kept.token == entry.token
    assert (local.root / "g/f (conflict)").read_bytes() == b"old"


async def test_what_is_kept_is_told_as_that_where_only_its_content_proves_it(local: Local) -> None:
    """It is so fresh that its token proves nothing. As a user's new value it would come back where it is deleted."""
    await stood(local, b"f", b"old")
    token = tokens.dirty_token_of((local.root / "f").stat())
    done, kept = await local.put(b"f", b"new", expect=token, held=file_version(b"old"), keep=b"k")
    assert (done.seen, kept.seen, kept.path, kept.version) == (Seen.DONE, Seen.DONE, b"k", file_version(b"old"))


async def test_keep_never_overwrites(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    (local.root / "k").write_bytes(b"user")
    done, kept = await local.put(b"f", b"new", expect=token, held=file_version(b"old"), keep=b"k")
    assert (done.seen, kept.seen, kept.version.digests) == (Seen.DONE, Seen.STANDS, file_version(b"old").digests)
    assert b"conflict disk" in kept.path
    assert (local.root / "k").read_bytes() == b"user"


async def test_a_link_is_put_with_its_time_and_replaced(local: Local) -> None:
    first = only(await local.order(Do.PUT, b"l", link_version(b"/etc/passwd")))
    assert (first.seen, os.readlink(local.root / "l")) == (Seen.DONE, "/etc/passwd")
    assert os.lstat(local.root / "l").st_mtime_ns == MTIME
    entry = await local.entry(b"l")
    assert entry is not None
    assert (entry.token, entry.version) == (first.token, link_version(b"/etc/passwd"))
    second = only(
        await local.order(Do.PUT, b"l", link_version(b"x\xff"), expect=first.token, held=link_version(b"/etc/passwd"))
    )
    assert (second.seen, os.readlink(os.fsencode(local.root / "l"))) == (Seen.DONE, b"x\xff")
    await local.settled()
    assert local.names() == ["l"]


async def test_a_directory_is_made_and_an_existing_one_adopted(local: Local) -> None:
    event = only(await local.order(Do.PUT, b"d", directory_version(0o750)))
    assert (event.seen, stat.S_IMODE((local.root / "d").stat().st_mode)) == (Seen.DONE, 0o750)
    event = only(await local.order(Do.PUT, b"d", directory_version(0o700)))
    assert (event.seen, stat.S_IMODE((local.root / "d").stat().st_mode)) == (Seen.DONE, 0o700)


async def test_a_directorys_own_bits_stay(local: Local) -> None:
    (local.root / "d").mkdir()
    (local.root / "d").chmod(0o1777)
    await local.order(Do.META, b"d", directory_version(0o750), expect=b"directory")
    assert stat.S_IMODE((local.root / "d").stat().st_mode) == 0o1750


async def test_a_file_replaces_an_empty_directory_only(local: Local) -> None:
    (local.root / "d").mkdir()
    (local.root / "d/f").write_bytes(b"user")
    event = only(await local.put(b"d", b"new", expect=b"directory", held=directory_version()))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.NOT_EMPTY)
    (local.root / "d/f").unlink()
    event = only(await local.put(b"d", b"new", expect=b"directory", held=directory_version()))
    assert (event.seen, (local.root / "d").read_bytes()) == (Seen.DONE, b"new")


async def test_a_directory_replaces_a_file(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    event = only(await local.order(Do.PUT, b"f", directory_version(), expect=token, held=file_version(b"old")))
    assert (event.seen, event.token, (local.root / "f").is_dir()) == (Seen.DONE, b"directory", True)
    await local.settled()
    assert (local.names(), local.staged()) == (["f"], [])


async def test_a_directory_moves_aside_where_the_order_keeps_it(local: Local) -> None:
    (local.root / "d").mkdir()
    (local.root / "d/f").write_bytes(b"user")
    events = await local.put(b"d", b"new", expect=b"directory", held=directory_version(), keep=b"d2")
    assert {(event.seen, event.path) for event in events} == {(Seen.DONE, b"d"), (Seen.DONE, b"d2")}
    assert ((local.root / "d").read_bytes(), (local.root / "d2/f").read_bytes()) == (b"new", b"user")


async def test_a_file_where_a_directory_is_needed_is_told(local: Local) -> None:
    (local.root / "a").write_bytes(b"user")
    told, failed = await local.put(b"a/b/c", b"new")
    assert (told.seen, told.path, told.version.digests) == (Seen.STANDS, b"a", file_version(b"user").digests)
    assert (failed.seen, failed.trouble) == (Seen.FAILED, Trouble.NAME_CLASH)


@pytest.mark.parametrize("becomes", ["nothing", "a directory", "a FIFO", "a link"])
async def test_a_source_that_is_no_file_any_more_is_lost(local: Local, becomes: str) -> None:
    source = local.source / "s"
    source.parent.mkdir(exist_ok=True)
    (local.source / "elsewhere").write_bytes(b"12345")
    match becomes:
        case "a directory":
            source.mkdir()
        case "a FIFO":
            os.mkfifo(source)
        case "a link":
            source.symlink_to("elsewhere")
    order = Order(1, Do.PUT, b"f", file_version(b"12345"))
    ((event,),) = await local.driver.perform("f", [order], {}, {1: [(str(local.source), b"s", b"token")]})
    assert (event.seen, event.trouble, local.names(), local.staged()) == (Seen.FAILED, Trouble.SOURCE_LOST, [], [])


async def test_a_source_that_changed_or_went_is_answered_as_lost(local: Local) -> None:
    event = only(await local.order(Do.PUT, b"f", file_version(b"12345"), b"other"))
    assert (event.seen, event.trouble, local.names(), local.staged()) == (Seen.FAILED, Trouble.SOURCE_LOST, [], [])
    event = only(await local.order(Do.PUT, b"f", file_version(b"12345")))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.SOURCE_LOST)


async def test_an_empty_file_needs_no_source(local: Local) -> None:
    assert only(await local.order(Do.PUT, b"f", file_version(b""))).seen is Seen.DONE
    assert (local.root / "f").read_bytes() == b""


# What was displaced


async def test_a_displaced_file_that_is_open_for_writing_waits_and_its_late_words_survive(local: Local) -> None:
    needs_leases(local)
    token = await stood(local, b"f.txt", b"old")
    with (local.root / "f.txt").open("r+b", buffering=0) as writer:
        event = only(await local.put(b"f.txt", b"new", expect=token, held=file_version(b"old")))
        assert (event.seen, (local.root / "f.txt").read_bytes()) == (Seen.DONE, b"new")
        await looked_at(local)
        assert len(local.limbo()) == 1
        writer.write(b"late words")
    await local.settled()
    conflict, name = local.names()
    assert (conflict[:18], conflict[-5:], name) == ("f (conflict disk 2", ").txt", "f.txt")
    assert (local.root / conflict).read_bytes() == b"late words"


async def test_a_displaced_file_that_was_only_held_open_is_dropped_when_it_is_closed(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    with (local.root / "f").open("r+b"):
        await local.put(b"f", b"new", expect=token, held=file_version(b"old"))
    await local.settled()
    assert local.names() == ["f"]


async def test_a_deleted_file_that_is_written_on_comes_back(local: Local) -> None:
    needs_leases(local)
    token = await stood(local, b"f", b"old")
    with (local.root / "f").open("ab", buffering=0) as writer:
        event = only(await local.order(Do.DELETE, b"f", expect=token, held=file_version(b"old")))
        assert (event.seen, local.names()) == (Seen.DONE, [])
        await looked_at(local)
        writer.write(b" and more")
    await local.settled()
    assert (local.root / "f").read_bytes() == b"old and more"


# DELETE


async def test_a_delete_takes_what_it_expects(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    event = only(await local.order(Do.DELETE, b"f", expect=token, held=file_version(b"old")))
    assert (event.seen, event.version.kind, event.token, local.names()) == (Seen.DONE, Kind.NOTHING, b"", [])
    await local.settled()


async def test_a_delete_of_something_newer_is_refused(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    (local.root / "f").write_bytes(b"user")
    event = only(await local.order(Do.DELETE, b"f", expect=token, held=file_version(b"old")))
    assert (event.seen, event.version.digests) == (Seen.STANDS, file_version(b"user").digests)
    assert (local.root / "f").read_bytes() == b"user"


async def test_a_delete_of_what_went_answers_gone(local: Local) -> None:
    token = await stood(local, b"a/f", b"old")
    (local.root / "a/f").unlink()
    assert only(await local.order(Do.DELETE, b"a/f", expect=token)).seen is Seen.GONE
    (local.root / "a").rmdir()
    assert only(await local.order(Do.DELETE, b"a/f", expect=token)).seen is Seen.GONE


async def test_a_directory_is_deleted_only_when_it_is_empty(local: Local) -> None:
    (local.root / "d").mkdir()
    os.mkfifo(local.root / "d/fifo")
    event = only(await local.order(Do.DELETE, b"d", expect=b"directory"))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.NOT_EMPTY)
    (local.root / "d/fifo").unlink()
    assert only(await local.order(Do.DELETE, b"d", expect=b"directory")).seen is Seen.DONE
    assert local.names() == []


async def test_a_delete_of_a_link_takes_the_link(local: Local) -> None:
    (local.root / "f").write_bytes(b"user")
    token = only(await local.order(Do.PUT, b"l", link_version(b"f"))).token
    assert only(await local.order(Do.DELETE, b"l", expect=token, held=link_version(b"f"))).seen is Seen.DONE
    assert local.names() == ["f"]


# MOVE


async def test_a_move_renames_and_makes_parents(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    event = only(await local.order(Do.MOVE, b"f", file_version(b"old"), expect=token, target=b"a/b/g"))
    assert (event.seen, event.path, event.source) == (Seen.DONE, b"a/b/g", b"f")
    entry = await local.entry(b"a/b/g")
    assert entry is not None
    assert (event.token, local.names()) == (entry.token, ["a", "a/b", "a/b/g"])


async def test_a_move_gives_the_new_time_and_mode(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    version = file_version(b"old", MTIME + 5, 0o600)
    event = only(await local.order(Do.MOVE, b"f", version, expect=token, target=b"g"))
    st = (local.root / "g").stat()
    assert (event.seen, st.st_mtime_ns, stat.S_IMODE(st.st_mode)) == (Seen.DONE, MTIME + 5, 0o600)


async def test_what_a_user_deletes_just_after_it_was_renamed_is_told_as_deleted(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await stood(local, b"f", b"old")
    rename = Limbo.rename_new

    def rename_and_delete(limbo: Limbo, old: Place, new: Place) -> None:
        rename(limbo, old, new)
        os.unlink(new.name, dir_fd=new.fd)

    monkeypatch.setattr(Limbo, "rename_new", rename_and_delete)
    was, went = await local.order(Do.MOVE, b"f", file_version(b"old"), expect=token, target=b"g")
    assert (was.seen, was.path, was.source) == (Seen.DONE, b"g", b"f")
    assert (went.seen, went.path, went.order) == (Seen.GONE, b"g", 0)
    assert local.names() == []


async def test_a_move_of_something_newer_is_refused(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    (local.root / "f").write_bytes(b"user")
    event = only(await local.order(Do.MOVE, b"f", file_version(b"old"), expect=token, target=b"g"))
    assert (event.seen, event.path, local.names()) == (Seen.STANDS, b"f", ["f"])


async def test_a_move_to_where_something_stands_is_refused_and_both_are_told(local: Local) -> None:
    token = await stood(local, b"f", b"old")
    (local.root / "g").write_bytes(b"user")
    there, here = await local.order(Do.MOVE, b"f", file_version(b"old"), expect=token, target=b"g")
    assert (there.seen, there.path, there.order) == (Seen.STANDS, b"g", 0)
    assert (here.seen, here.path) == (Seen.STANDS, b"f")
    assert ((local.root / "f").read_bytes(), (local.root / "g").read_bytes()) == (b"old", b"user")


async def test_a_directory_moves_with_all_that_is_in_it(local: Local) -> None:
    (local.root / "d").mkdir()
    (local.root / "d/f").write_bytes(b"user")
    event = only(await local.order(Do.MOVE, b"d", directory_version(), expect=b"directory", target=b"e"))
    assert (event.seen, event.token, local.names()) == (Seen.DONE, b"directory", ["e", "e/f"])


async def test_a_directory_does_not_move_into_itself(local: Local) -> None:
    (local.root / "d").mkdir()
    event = only(await local.order(Do.MOVE, b"d", directory_version(), expect=b"directory", target=b"d/e"))
    assert (event.seen, local.names()) == (Seen.FAILED, ["d"])


# META and FINGERPRINT


async def test_meta_gives_mode_and_time_and_a_new_token(local: Local) -> None:
    token = await stood(local, b"f", b"x")
    event = only(await local.order(Do.META, b"f", file_version(b"x", -5, 0o400), expect=token))
    st = (local.root / "f").stat()
    entry = await local.entry(b"f")
    assert entry is not None
    assert (event.seen, event.token) == (Seen.DONE, entry.token)
    assert (st.st_mtime_ns, stat.S_IMODE(st.st_mode)) == (-5, 0o400)


async def test_meta_of_a_link_never_touches_its_target(local: Local) -> None:
    await stood(local, b"f", b"x")
    token = only(await local.order(Do.PUT, b"l", link_version(b"f"))).token
    assert only(await local.order(Do.META, b"l", link_version(b"f", 7), expect=token)).seen is Seen.DONE
    assert (os.lstat(local.root / "l").st_mtime_ns, (local.root / "f").stat().st_mtime_ns) == (7, MTIME)


async def test_meta_of_a_file_that_is_open_for_writing_compares_the_content(local: Local) -> None:
    token = await stood(local, b"f", b"x")
    with (local.root / "f").open("r+b"):
        event = only(await local.order(Do.META, b"f", file_version(b"x", 5), expect=token))
        assert (event.seen, (local.root / "f").stat().st_mtime_ns) == (Seen.DONE, 5)
        event = only(await local.order(Do.META, b"f", file_version(b"y", 9), expect=event.token))
        assert (event.seen, event.version.digests) == (Seen.STANDS, file_version(b"x").digests)


async def test_meta_of_something_newer_is_refused(local: Local) -> None:
    token = await stood(local, b"f", b"x")
    (local.root / "f").write_bytes(b"user")
    before = (local.root / "f").stat().st_mtime_ns
    assert only(await local.order(Do.META, b"f", file_version(b"x", 5), expect=token)).seen is Seen.STANDS
    assert (local.root / "f").stat().st_mtime_ns == before


async def test_a_fingerprint_tells_what_stands(local: Local) -> None:
    (local.root / "f").write_bytes(b"user")
    event = only(await local.order(Do.FINGERPRINT, b"f"))
    assert (event.seen, event.version.digests) == (Seen.STANDS, file_version(b"user").digests)
    assert only(await local.order(Do.FINGERPRINT, b"none/such")).seen is Seen.GONE
    os.mkfifo(local.root / "fifo")
    event = only(await local.order(Do.FINGERPRINT, b"fifo"))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.UNSUPPORTED)


# Names and rights


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"-rf", b'"\\', b"n" * 255, "é".encode() * 127, b" ", b"a."])
async def test_every_name_that_the_system_allows_goes(local: Local, name: bytes) -> None:
    token = only(await local.put(name, b"1")).token
    token = only(await local.put(name, b"2", expect=token, held=file_version(b"1"))).token
    event = only(await local.order(Do.MOVE, name, file_version(b"2"), expect=token, target=b"d/" + name))
    assert (
        only(await local.order(Do.DELETE, b"d/" + name, expect=event.token, held=file_version(b"2"))).seen is Seen.DONE
    )
    assert local.names() == ["d"]


async def test_a_name_that_is_too_long_is_impossible(local: Local) -> None:
    event = only(await local.put(b"n" * 256, b"1"))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.NAME_IMPOSSIBLE)


async def test_a_path_of_6000_bytes_goes(local: Local) -> None:
    path = b"/".join([b"d" * 200] * 29 + [b"f"])
    assert only(await local.put(path, b"1")).seen is Seen.DONE
    assert (await local.hashed(path)).version == file_version(b"1")
    (listing,) = await local.driver.scan("f", [path[:-2]])
    assert [entry.path for entry in listing.entries] == [path]


async def test_no_order_goes_through_a_link(local: Local, tmp_path: Path) -> None:
    token = await stood(local, b"d/f", b"old")
    outside = tmp_path / "outside"
    os.rename(local.root / "d", outside)
    os.symlink(outside, local.root / "d")
    told, refused = await local.put(b"d/new", b"1")
    assert (told.path, told.version.kind, refused.seen) == (b"d", Kind.LINK, Seen.FAILED)
    assert only(await local.put(b"d/f", b"1", expect=token)).seen is Seen.GONE
    assert only(await local.order(Do.DELETE, b"d/f", expect=token)).seen is Seen.GONE
    assert only(await local.order(Do.META, b"d/f", file_version(b"old", 5), expect=token)).seen is Seen.GONE
    assert only(await local.order(Do.MOVE, b"d/f", file_version(b"old"), expect=token, target=b"g")).seen is Seen.GONE
    assert only(await local.order(Do.FINGERPRINT, b"d/f")).seen is Seen.GONE
    here = await stood(local, b"here", b"x")
    events = await local.order(Do.MOVE, b"here", file_version(b"x"), expect=here, target=b"d/there")
    assert [event.seen for event in events if event.order] == [Seen.FAILED]
    assert (os.listdir(outside), (outside / "f").read_bytes()) == (["f"], b"old")


@not_root
async def test_a_directory_that_may_not_be_written_is_opened_for_a_moment(local: Local) -> None:
    token = await stood(local, b"d/f", b"old")
    (local.root / "d").chmod(0o555)
    token = only(await local.put(b"d/f", b"new", expect=token, held=file_version(b"old"))).token
    assert only(await local.put(b"d/g", b"1")).seen is Seen.DONE
    assert only(await local.order(Do.PUT, b"d/e", directory_version())).seen is Seen.DONE
    event = only(await local.order(Do.MOVE, b"d/f", file_version(b"new"), expect=token, target=b"d/h"))
    assert only(await local.order(Do.DELETE, b"d/h", expect=event.token, held=file_version(b"new"))).seen is Seen.DONE
    assert stat.S_IMODE((local.root / "d").stat().st_mode) == 0o555


@not_root
async def test_a_directory_that_may_not_be_written_moves(local: Local) -> None:
    (local.root / "d").mkdir(0o555)
    event = only(await local.order(Do.MOVE, b"d", directory_version(0o555), expect=b"directory", target=b"a/e"))
    assert (event.seen, stat.S_IMODE((local.root / "a/e").stat().st_mode)) == (Seen.DONE, 0o555)


@not_root
async def test_what_may_not_be_read_is_told_as_denied(local: Local) -> None:
    (local.root / "f").write_bytes(b"user")
    (local.root / "f").chmod(0)
    event = only(await local.order(Do.FINGERPRINT, b"f"))
    assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.DENIED)
    assert "f: permission denied" in event.reason
