"""The driver for FTP, on a pyftpdlib of the tests' own: what the suite for every driver does not know of."""

from __future__ import annotations

import ftplib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

from onitu.drivers.ftp import FtpDriver, FtpsDriver, connection, remote
from onitu.drivers.ftp.remote import FtpRemote
from onitu.drivers.ftp.replies import meaning, nanoseconds, thing_of
from onitu.model import paths
from onitu.model.errors import ConfigurationError, Unavailable
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind
from onitu.plug.driver import Refused
from onitu.plug.remote import Busy, Thing
from onitu.plug.remote.replica import TMP
from onitu.testing.conformance import Fault
from onitu.testing.conformance.bench import FOLDER, Bench, answer, bench_on, file_version, opened
from tests.servers.ftp import PASSWORD, ExplicitServer, FtpServer, ImplicitServer

BIG = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpServer]:
    with FtpServer(tmp_path_factory.mktemp("ftp")) as made:
        yield made


def test_replies_are_told_apart() -> None:
    def kind(reply: str) -> object:
        error = ftplib.error_perm(reply) if reply[0] == "5" else ftplib.error_temp(reply)
        found = meaning(error)
        return found.trouble if isinstance(found, Refused) else type(found)

    assert kind("530 Login incorrect.") is Unavailable
    assert kind("452 Not enough space.") is kind("552 Quota exceeded.") is Trouble.NO_SPACE
    assert kind("421 Too many users.") is kind("425 Cannot open data connection.") is Busy
    assert kind("550 Permission denied.") is Trouble.DENIED
    assert kind("553 Bad file name.") is kind("550 File name too long.") is Trouble.NAME_IMPOSSIBLE


def test_facts_are_read_as_the_standard_has_them() -> None:
    thing = thing_of("Type=file;Size=5;Modify=20200913122640.125;Unique=8U01;")
    assert thing is not None
    assert (thing.kind, thing.size, thing.mtime) == (Kind.FILE, 5, 1_600_000_000_125_000_000)
    assert thing.token == b"5 20200913122640.125 8U01"
    assert thing_of("type=cdir;") is None
    assert thing_of("type=dir;") == thing_of("type=cdir;", itself=True)
    odd = thing_of("type=OS.unix=slink:/x;size=3;")
    assert odd is not None
    assert odd.trouble is Trouble.UNSUPPORTED
    assert nanoseconds("nonsense") == nanoseconds("20209999999999") == 0


@pytest.mark.parametrize("size", ["", "size=;", "size=-1;", "size=many;", "size=" + "9" * 30 + ";"])
def test_a_file_whose_size_is_not_told_is_none_of_no_bytes(size: str) -> None:
    thing = thing_of(f"type=file;{size}modify=20200913122640;")
    assert thing is not None
    assert (thing.kind, thing.trouble) == (Kind.NOTHING, Trouble.IO)


def test_a_url_means_a_server_and_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    address = FtpDriver.from_url("ftp://me:a%20word@nas:2121/a%20b/c")
    assert address.options == {"host": "nas", "port": 2121, "user": "me", "password": "a word"}
    assert (address.root, address.name, address.asks) == ("a b/c", "nas", ())
    assert FtpDriver.from_url("ftp://me@nas//srv").root == "/srv"
    assert FtpDriver.from_url("ftp://me@nas/").asks == ("password",)
    assert FtpDriver.from_url("ftp://nas/").asks == ()
    assert FtpsDriver.from_url("ftps://nas/").options["tls"] == "explicit"
    assert FtpsDriver.from_url("ftps://nas:990/").options["tls"] == "implicit"
    (tmp_path / ".netrc").write_text("machine nas login me password word\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert FtpDriver.from_url("ftp://me@nas/").asks == ()
    assert FtpDriver.from_url("ftp://you@nas/").asks == ("password",), "the password of somebody else"
    with pytest.raises(ConfigurationError) as caught:
        FtpDriver.from_url("ftp://me:secret@nas/?tls=no")
    assert "secret" not in str(caught.value)


async def test_a_password_comes_from_netrc_and_what_is_wrong_there_is_told(
    server: FtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = server.empty("docs")
    options = {name: value for name, value in root.options.items() if name != "password"}
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    file.write_text(f'machine {options["host"]} login {options["user"]} password "{PASSWORD}"\n')
    for given in (options, {name: value for name, value in options.items() if name != "user"}):
        async with opened(FtpDriver, root, tmp_path / "workspace", given) as driver:
            await driver.identify(FOLDER)
    file.write_text("machine\n")
    async with opened(FtpDriver, root, tmp_path / "workspace", options) as driver:
        with pytest.raises(Unavailable, match="netrc cannot be read for the password of"):
            await driver.identify(FOLDER)


@pytest.mark.parametrize("kind", [ExplicitServer, ImplicitServer])
async def test_files_go_each_way_over_tls(kind: type[FtpServer], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        root = server.empty("docs")
        async with bench_on(FtpsDriver, root, tmp_path / "workspace") as bench:
            for name, data in ((b"d/small", b"x"), (b"d/big", BIG)):
                assert answer(await bench.put(name, data)).seen is Seen.DONE
                assert await bench.read(name, await bench.token(name), len(data)) == data
            assert await bench.tree() == {b"d": None, b"d/small": b"x", b"d/big": BIG}
        distrusting = {name: value for name, value in root.options.items() if name != "certificate"}
        async with opened(FtpsDriver, root, tmp_path / "workspace", distrusting) as driver:
            with pytest.raises(Unavailable, match=r"docs on .* cannot be used: the certificate of .* is not trusted: "):
                await driver.identify(FOLDER)


async def test_ftps_is_never_without_tls(server: FtpServer, tmp_path: Path) -> None:
    root = server.empty("plain")
    async with opened(FtpsDriver, root, tmp_path, {**root.options, "tls": "no"}) as driver:
        with pytest.raises(Unavailable, match="must be explicit or implicit"):
            await driver.identify(FOLDER)
    async with opened(FtpsDriver, root, tmp_path, root.options) as driver:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+ has no TLS \(.*AUTH.*\); ftp://"):
            await driver.identify(FOLDER)


async def test_a_wrong_password_is_told_without_it(server: FtpServer, tmp_path: Path) -> None:
    root = server.empty("wrong")
    with server.fault(Fault.WRONG_PASSWORD, root) as options:
        async with opened(FtpDriver, root, tmp_path, options) as driver:
            with pytest.raises(Unavailable, match="refuses the login") as caught:
                await driver.identify(FOLDER)
    assert str(options["password"]) not in str(caught.value)
    assert PASSWORD not in repr(driver.options)


async def test_an_upload_goes_on_where_it_was_cut(server: FtpServer, tmp_path: Path) -> None:
    root = server.empty("resumed")
    async with bench_on(FtpDriver, root, tmp_path) as bench:
        await bench.put(b"first", b"x")  # so that .onitu/tmp is there
        version = file_version(BIG)
        waiting = TMP + f"/{next(iter(version.digests.values())).hex()}-{len(BIG)}".encode()
        (server.home / "resumed" / os.fsdecode(waiting)).write_bytes(BIG[:700_000])
        commands: list[str] = []
        putcmd = connection.Connection.putcmd

        def noted(self: connection.Connection, line: str) -> None:
            commands.append(line.partition(" ")[0])
            putcmd(self, line)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connection.Connection, "putcmd", noted)
            assert answer(await bench.put(b"big", BIG)).seen is Seen.DONE
        assert "APPE" in commands
        assert "STOR" not in commands
        assert (await bench.tree())[b"big"] == BIG


async def test_what_a_listing_does_not_show_is_looked_at_by_itself(
    server: FtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was cut between two entries has no sign of it."""
    root = server.empty("cut listing")
    for number in range(20):
        root.write(b"d/%d" % number, b"x")
    async with opened(FtpDriver, root, tmp_path / "workspace") as driver:
        await driver.identify(FOLDER)
        entries = FtpRemote._entries

        async def cut(it: FtpRemote, directory: bytes) -> dict[bytes, Thing]:
            return dict(list((await entries(it, directory)).items())[:3])

        monkeypatch.setattr(FtpRemote, "_entries", cut)
        found = await driver.stat(FOLDER, [b"d/%d" % number for number in range(20)])
        assert all(entry is not None for entry in found)


@pytest.mark.parametrize("left", [700_000, len(BIG)])
async def test_what_an_earlier_try_left_is_compared(server: FtpServer, tmp_path: Path, left: int) -> None:
    """The server may have lost power since."""
    root = server.empty(f"damaged {left}")
    async with bench_on(FtpDriver, root, tmp_path) as bench:
        await bench.put(b"first", b"x")
        version = file_version(BIG)
        waiting = TMP + f"/{next(iter(version.digests.values())).hex()}-{len(BIG)}".encode()
        (server.home / f"damaged {left}" / os.fsdecode(waiting)).write_bytes(BIG[: left - 65536] + bytes(65536))
        assert answer(await bench.put(b"big", BIG)).seen is Seen.DONE
        assert (await bench.tree())[b"big"] == BIG


async def test_an_upload_that_the_server_begins_late_empties_no_other(
    server: FtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = server.empty("late")
    async with bench_on(FtpDriver, root, tmp_path) as bench:
        await bench.put(b"first", b"x")
        version = file_version(BIG)
        waiting = TMP + f"/{next(iter(version.digests.values())).hex()}-{len(BIG)}".encode()
        first = server.home / "late" / os.fsdecode(waiting)
        storbinary, tries = connection.Connection.storbinary, 0

        def late(self: connection.Connection, line: str, file: BinaryIO, size: int) -> str:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise EOFError  # the command is on its way

            def meanwhile(_: bytes) -> None:
                first.write_bytes(b"")

            return storbinary(self, line, file, size, meanwhile)

        monkeypatch.setattr(connection.Connection, "storbinary", late)
        assert answer(await bench.put(b"big", BIG)).seen is Seen.DONE
        assert (await bench.tree())[b"big"] == BIG
        assert first.read_bytes() == b""  # it goes with the leftovers, in a week


async def test_a_server_without_machine_listings_is_refused(
    server: FtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.Connection, "_features", lambda self: frozenset({"MDTM", "SIZE"}))
    async with opened(FtpDriver, server.empty("old"), tmp_path) as driver:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1 has no MLSD"):
            await driver.identify(FOLDER)


async def test_a_directory_that_is_made_while_it_is_looked_for_is_no_hidden_one(
    server: FtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = server.empty("made late")
    async with opened(FtpDriver, root, tmp_path / "workspace") as driver:
        await driver.identify(FOLDER)
        entries = FtpRemote._entries

        async def late(it: FtpRemote, directory: bytes) -> dict[bytes, Thing]:
            root.write(b"d/e/f", b"made just now")
            return await entries(it, directory)

        monkeypatch.setattr(FtpRemote, "_entries", late)
        monkeypatch.setattr(remote, "FRESH", 0.0)
        (entry,) = await driver.stat(FOLDER, [b"d/e/f"])
        assert entry is not None
        assert entry.version.size == 13


async def test_a_directory_that_is_made_while_something_is_written_into_it_is_no_refusal(
    server: FtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = server.empty("made meanwhile")
    async with bench_on(FtpDriver, root, tmp_path / "workspace") as bench:
        stat = FtpRemote.stat

        async def late(it: FtpRemote, path: bytes) -> Thing | None:
            if path == b"d":  # the server said that it is not there
                root.write(b"d/other", b"")
            return await stat(it, path)

        monkeypatch.setattr(FtpRemote, "stat", late)
        assert answer(await bench.put(b"d/x", b"x")).seen is Seen.DONE


async def test_many_new_files_in_one_directory_are_no_reason_to_list_it_for_each(
    server: FtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = server.empty("many")
    listed: list[bytes] = []
    entries = FtpRemote._entries

    async def counted(it: FtpRemote, directory: bytes) -> dict[bytes, Thing]:
        listed.append(directory)
        return await entries(it, directory)

    async with bench_on(FtpDriver, root, tmp_path / "workspace") as bench:
        monkeypatch.setattr(FtpRemote, "_entries", counted)
        monkeypatch.setattr(remote, "FRESH", 3600.0)
        for number in range(20):
            assert answer(await bench.put(b"d/%d" % number, b"x")).seen is Seen.DONE
        assert listed.count(b"d") <= 1
        root.write(b"d/foreign", b"a user's")
        assert await bench.token(b"d/foreign") != b""
        assert answer(await bench.put(b"d/foreign", b"x")).seen is Seen.STANDS


async def test_a_name_with_a_line_break_is_refused(server: FtpServer, tmp_path: Path) -> None:
    async with bench_on(FtpDriver, server.empty("breaks"), tmp_path) as bench:
        event = answer(await bench.put(b"a\nDELE b", b"x"))
        assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.NAME_IMPOSSIBLE)
        assert await bench.tree() == {}


async def test_a_listing_in_which_a_name_has_a_line_break_is_not_believed(server: FtpServer, tmp_path: Path) -> None:
    async with bench_on(FtpDriver, server.empty("odd"), tmp_path) as bench:
        await bench.write(b"good/a", b"x")
        (server.home / "odd" / "good" / "broken\nname").write_bytes(b"x")
        (listing,) = await bench.driver.scan(FOLDER, [b"good"])
        assert not listing.complete
        assert "no entry" in listing.reason


async def say_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "QUIET", 0.3)
    async with trio.open_nursery() as nursery:
        (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, say_nothing, [silent])
        driver = FtpDriver("nas", {"host": "127.0.0.1", "port": silent.socket.getsockname()[1]}, {FOLDER: ""})
        driver.workspace = str(tmp_path)
        with trio.fail_after(60):
            async with driver.open():
                with pytest.raises(Unavailable, match="nas: "):
                    await driver.identify(FOLDER)
        nursery.cancel_scope.cancel()


# --- listings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["TRUNCATED", "HALF"])
async def test_a_listing_that_is_not_whole_says_nothing_of_what_is_not_in_it(
    server: FtpServer, tmp_path: Path, how: str
) -> None:
    root = server.empty(f"part-{how}")
    async with bench_on(FtpDriver, root, tmp_path / "workspace") as bench:
        names = [b"f%d" % number for number in range(20)]
        for name in names:
            root.write(name, b"x")
        assert (await bench.tree()).keys() == set(names)
        with server.listing(how):
            (listing,) = await bench.driver.scan(FOLDER, [paths.ROOT])
            assert not listing.complete
            found = await bench.driver.stat(FOLDER, names)
        assert [entry is not None and entry.trouble is Trouble.NONE for entry in found] == [True] * 20


async def test_a_link_to_a_directory_above_it_is_not_followed(server: FtpServer, tmp_path: Path) -> None:
    root = server.empty("loop")
    root.write(b"d/e/f", b"x")
    async with bench_on(FtpDriver, root, tmp_path / "workspace") as bench:
        for name, target in (("up", ".."), ("itself", "."), ("root", "../..")):
            (server.home / "loop/d/e" / name).symlink_to(target)
        (server.home / "loop/aside").symlink_to("d/e")
        (top,) = await bench.driver.scan(FOLDER, [paths.ROOT])
        d, aside = await bench.driver.scan(FOLDER, [b"d", b"aside"])
        (e,) = await bench.driver.scan(FOLDER, [b"d/e"])
        assert {entry.path: entry.kind for entry in (*top.entries, *d.entries)} == dict.fromkeys(
            (b"d", b"d/e", b"aside"), Kind.DIRECTORY
        )
        links = [b"d/e/itself", b"d/e/root", b"d/e/up"]
        for entries in (list(e.entries), await bench.driver.stat(FOLDER, links)):
            troubles = {entry.path: entry.trouble for entry in entries if entry is not None and entry.trouble}
            assert troubles == dict.fromkeys(links, Trouble.UNSUPPORTED)
        assert b"aside/f" in [entry.path for entry in aside.entries]


async def test_a_name_has_what_python_takes_for_the_end_of_a_line(server: FtpServer, tmp_path: Path) -> None:
    async with bench_on(FtpDriver, server.empty("lines"), tmp_path / "workspace") as bench:
        for name in (b"\xc3\x85 a;b=c", b"vertical\x0btab;x", b"\x1cfile=;"):
            assert answer(await bench.put(name, name)).seen is Seen.DONE
            assert await bench.read(name, await bench.token(name), len(name)) == name
            (entry,) = await bench.driver.stat(FOLDER, [name])
            assert entry is not None
            assert entry.version.size == len(name)


async def test_an_upload_goes_on_only_with_what_was_sent_of_the_same_state_of_the_source(
    server: FtpServer, tmp_path: Path
) -> None:
    whole = BIG * 4
    root, source, version = server.empty("torn"), tmp_path / "source", file_version(whole)
    source.mkdir()
    (source / "big").write_bytes(whole)
    order = Order(1, Do.PUT, b"big", version)

    async def put(bench: Bench) -> Event:
        async with bench.driver.stage(FOLDER, version, b"big") as staged:
            await staged.clone(str(source), b"big", b"whatever")
            await staged.finish()
            (events,) = await bench.driver.perform(FOLDER, [order], {1: staged}, {})
        return answer(events)

    async with bench_on(FtpDriver, root, tmp_path / "workspace") as bench:
        with server.fault(Fault.CUT, root):
            with pytest.raises(Refused, match="the connection was cut"):
                await put(bench)
        (part,) = (server.home / "torn" / ".onitu" / "tmp").glob("*-*")
        # As if a program had written to the source meanwhile, and then made it what it was.
        part.write_bytes(b"?" * part.stat().st_size)
        (source / "big").write_bytes(whole)
        assert (await put(bench)).seen is Seen.DONE
    assert (server.home / "torn" / "big").read_bytes() == whole
