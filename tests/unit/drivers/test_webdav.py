"""The driver for WebDAV, beyond the suite of every driver: what servers differ in, who asks, what a hostile one sends.

Apache, rclone and WsgiDAV are real; the cloud is our double of Nextcloud.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path

import attrs
import httpx
import pytest
import trio
import trustme
from blake3 import blake3

from onitu.drivers.webdav import WebdavDriver
from onitu.drivers.webdav.client import Answer, refusal
from onitu.drivers.webdav.collection import Collection, thing_of
from onitu.drivers.webdav.multistatus import LONGEST, Member, NotXml, members
from onitu.drivers.webdav.probing import has_time
from onitu.drivers.webdav.tree import Tree
from onitu.model import paths
from onitu.model.errors import Anew, ConfigurationError, Unavailable
from onitu.model.events import Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Capabilities, Driver, Identity, Refused
from onitu.plug.remote import Busy, Changed, Missing
from onitu.testing.conformance.bench import FOLDER, Bench, answer, bench_on, file_version, opened
from tests.servers.cloud import FILES, TOKEN, UPLOADS, Cloud, CloudRoot, CloudServer
from tests.servers.http_faults import answer as told
from tests.servers.webdav import (
    ApacheServer,
    DavRoot,
    DigestServer,
    RcloneRoot,
    RcloneServer,
    WsgidavServer,
    _DavServer,
    rclone,
)

MIB = 1 << 20
LONG_AGO = 1_600_000_000


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudServer]:
    with CloudServer(tmp_path) as server:
        assert isinstance(server, CloudServer)
        yield server


@attrs.define
class Stage:
    """A replica in the cloud."""

    bench: Bench
    cloud: Cloud
    root: CloudRoot

    def asked(self, method: str) -> list[bytes]:
        """The paths of such requests since the last look, from the root."""
        found = [path for asked, path in self.cloud.asked if asked == method]
        self.cloud.asked.clear()
        return [path.removeprefix(FILES + b"/docs").lstrip(b"/") for path in found]


@pytest.fixture
async def stage(cloud: CloudServer, tmp_path: Path) -> AsyncIterator[Stage]:
    root = cloud.empty("docs")
    assert isinstance(root, CloudRoot)
    root.options = {**root.options, "part": 5 * MIB}
    async with bench_on(WebdavDriver, root, tmp_path / "workspace") as bench:
        cloud.cloud.asked.clear()
        yield Stage(bench, cloud.cloud, root)


# --- what servers can do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ApacheServer, RcloneServer, WsgidavServer])
async def test_what_a_real_server_can_do_is_found_out_and_nothing_stays(kind: type[_DavServer], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        root = server.empty("docs")
        assert isinstance(root, DavRoot)
        able = await able_to(root, tmp_path)
        assert list(root.place.iterdir()) == []
    assert able.moves
    assert able.create_only
    assert able.compare_and_swap is (kind is ApacheServer)
    assert able.mtimes == 0
    assert able.racy == (1_000_000_000 if kind is WsgidavServer else 0)


@pytest.mark.parametrize("cache", ["1ms", "5m"])
async def test_a_server_that_remembers_what_it_was_asked_to_make_is_found_to_make_other_names(
    tmp_path: Path, cache: str
) -> None:
    """rclone shows control characters as others, but not to whom it tells what it remembers."""
    with rclone(tmp_path / "rclone", ("--dir-cache-time", cache)) as served:
        root = RcloneRoot(served, served.port, "", "docs")
        for again in range(3):
            async with opened(WebdavDriver, root, tmp_path / f"workspace {again}") as driver:
                assert isinstance(driver, WebdavDriver)
                await driver.identify(FOLDER)
                assert [able.spoils for able in driver.known.values()] == [bytes((*range(1, 32), 127))]


async def test_a_list_that_breaks_off_while_a_server_is_tried_is_asked_for_again(
    cloud: CloudServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As rclone's does where it is just clearing away the upload that was cut to see what becomes of it."""
    root, inside = cloud.empty("docs"), Collection.inside
    left = 3

    async def broken_off(self: Collection, directory: bytes, depth: str = "1") -> AsyncIterator[tuple[bytes, Member]]:
        nonlocal left
        async for found in inside(self, directory, depth):
            yield found
            if depth == "1" and left:
                left -= 1
                raise NotXml("junk after document element")

    monkeypatch.setattr(Collection, "inside", broken_off)
    async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
        assert isinstance(driver, WebdavDriver)
        await driver.identify(FOLDER)
        assert left == 0
        assert [able.spoils for able in driver.known.values()] == [b""]


async def test_a_server_that_ignores_conditions_is_found_out(cloud: CloudServer, tmp_path: Path) -> None:
    root = cloud.empty("docs")
    assert isinstance(root, CloudRoot)
    assert (await able_to(root, tmp_path / "obeys")).compare_and_swap
    cloud.cloud.obeys = False
    able = await able_to(root, tmp_path / "ignores")
    assert (able.compare_and_swap, able.moves, able.create_only) == (False, True, True)
    assert [path for path in cloud.cloud.nodes if paths.within(path, FILES + b"/docs")] == []


@pytest.mark.parametrize("said", ["400 Bad Request", "403 Forbidden", "404 Not Found", "500 Oops", "502 Bad Gateway"])
async def test_one_strange_answer_makes_no_other_server_of_it(
    cloud: CloudServer, tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the requests it comes to with which it is found out what the server can do."""
    monkeypatch.setattr("onitu.plug.remote.calls.FIRST_PAUSE", 0.001)
    root = cloud.empty("docs")
    right = await able_to(root, tmp_path / "right")
    assert right.compare_and_swap
    disturbed = 0
    while True:
        cloud.ill.answers = [None] * disturbed + [told(said)]
        async with opened(WebdavDriver, root, tmp_path / f"workspace {disturbed}") as driver:
            with contextlib.suppress(Unavailable):
                await driver.identify(FOLDER)
                assert denied(driver) or driver.capabilities(FOLDER) == right, disturbed
        if cloud.ill.answers:
            break
        disturbed += 1
    assert disturbed > 30


async def test_a_condition_that_nobody_made_is_no_answer_to_a_look(
    stage: Stage, cloud: CloudServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onitu.plug.remote.calls.FIRST_PAUSE", 0.001)
    cloud.ill.answers = [told("412 Precondition Failed")]
    assert (await stage.bench.driver.identify(FOLDER)).marker
    assert cloud.ill.answers == []


async def test_nothing_is_changed_before_it_could_be_tried_what_conditions_mean(
    cloud: CloudServer, tmp_path: Path
) -> None:
    root = cloud.empty("docs")
    root.write(b"a", b"a user's")
    async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
        cloud.ill.answers = [None] * 2 + [told("403 Forbidden")]
        await driver.identify(FOLDER)
        assert denied(driver)
        await driver.mark(FOLDER, Identity("me", 1, 0))
        (before,) = await driver.stat(FOLDER, [b"a"])
        assert before is not None
        order = Order(1, Do.DELETE, b"a", Version(Kind.NOTHING), before.token, before.version)
        with pytest.raises(Anew):
            await driver.perform(FOLDER, [order], {}, {})
        await driver.identify(FOLDER)
        root.write(b"a", b"a user's newer")
        ((stands,),) = await driver.perform(FOLDER, [order], {}, {})
        assert stands.seen is Seen.STANDS
    assert root.tree() == {b"a": b"a user's newer"}


async def test_a_deletion_that_was_not_made_is_not_believed(stage: Stage, cloud: CloudServer) -> None:
    stage.root.write(b"a", b"x")
    replica = stage.bench.driver._roots[FOLDER].replica  # type: ignore[attr-defined]
    thing = await replica.remote.stat(b"a")
    cloud.ill.answers = [told("200 OK")]
    with pytest.raises(Busy, match="it is there"):
        await replica.remote.delete(b"a", thing.token)
    await replica.remote.delete(b"a", thing.token)
    assert stage.root.tree() == {}


@pytest.mark.parametrize("young", [False, True])
async def test_a_condition_that_holds_is_tried_where_one_is_refused_as_tags_are_weak_at_first(
    tmp_path: Path, young: bool
) -> None:
    """Apache's is a weak one until the file is a second old: nobody waits for that who changes an older one."""
    with ApacheServer(tmp_path) as server:
        root = server.empty("docs")
        assert isinstance(root, DavRoot)
        root.write(b"a", b"x")
        async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
            assert isinstance(driver, WebdavDriver)
            await driver.identify(FOLDER)
            assert [able.unsure for able in driver.known.values()] == [True]
            written = time.time() + (2 if young else -60)
            os.utime(root.place / "a", (written, written))
            await changed(driver, b"a")
            assert [(able.unsure, able.tagged) for able in driver.known.values()] == [(not young, True)]
            assert driver.capabilities(FOLDER).compare_and_swap
        assert list(root.place.iterdir()) == []


async def test_a_server_whose_tags_are_always_weak_is_found_out_at_the_first_change(
    cloud: CloudServer, tmp_path: Path
) -> None:
    root = cloud.empty("docs")
    cloud.cloud.weak = True
    root.write(b"a", b"x")
    async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
        await driver.identify(FOLDER)
        with pytest.raises(Unavailable):
            await changed(driver, b"a")
        with pytest.raises(Unavailable):  # so that who looks for the marker has it identified again
            await driver.stat(FOLDER, [b"a"])
        await driver.identify(FOLDER)
        able = driver.capabilities(FOLDER)
        assert (able.compare_and_swap, able.moves) == (False, True)
    assert root.tree() == {b"a": b"x"}


def denied(driver: Driver) -> bool:
    """Whether nothing could be tried."""
    return driver._roots[FOLDER].replica.remote.denied is not None  # type: ignore[attr-defined, no-any-return]


async def changed(driver: Driver, path: bytes) -> None:
    """Take a file away, on the condition that it is what stands there."""
    replica = driver._roots[FOLDER].replica  # type: ignore[attr-defined]
    thing = await replica.remote.stat(path)
    await replica.calls.call("delete", path, lambda: replica.remote.delete(path, thing.token))


async def able_to(root: CloudRoot | DavRoot, tmp_path: Path) -> Capabilities:
    async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
        await driver.identify(FOLDER)
        return driver.capabilities(FOLDER)


async def test_a_run_without_changes_tries_nothing_anew(stage: Stage, cloud: CloudServer, tmp_path: Path) -> None:
    able = await able_to(stage.root, tmp_path)
    stage.cloud.asked.clear()
    assert await able_to(stage.root, tmp_path) == able
    assert {method for method, _ in stage.cloud.asked} <= {"PROPFIND", "GET", "HEAD", "OPTIONS"}


async def test_before_the_first_change_a_server_is_tried_anew(stage: Stage, tmp_path: Path) -> None:
    """It is another one behind the same address, and ignores conditions."""
    await able_to(stage.root, tmp_path)
    stage.cloud.obeys = False
    order = Order(1, Do.PUT, b"d", Version(Kind.DIRECTORY))
    async with opened(WebdavDriver, stage.root, tmp_path / "workspace") as driver:
        identity = await driver.identify(FOLDER)
        assert driver.capabilities(FOLDER).compare_and_swap
        with pytest.raises(Unavailable, match="can do other things than when it was used last"):
            await driver.perform(FOLDER, [order], {}, {})
        with pytest.raises(Unavailable):  # until it is identified anew
            await driver.perform(FOLDER, [order], {}, {})
        assert b"d" not in stage.root.tree()
        assert await driver.identify(FOLDER) == identity
        assert not driver.capabilities(FOLDER).compare_and_swap
        ((done,),) = await driver.perform(FOLDER, [order], {}, {})
        assert done.seen is Seen.DONE
    assert not (await able_to(stage.root, tmp_path)).compare_and_swap


async def test_a_life_that_is_killed_after_a_change_leaves_nothing_to_believe(stage: Stage, tmp_path: Path) -> None:
    await able_to(stage.root, tmp_path)
    async with opened(WebdavDriver, stage.root, tmp_path / "workspace") as driver:
        await driver.identify(FOLDER)
        await driver.perform(FOLDER, [Order(1, Do.PUT, b"d", Version(Kind.DIRECTORY))], {}, {})
        stage.cloud.asked.clear()
        await able_to(stage.root, tmp_path)  # as one that begins after this one was killed
        assert "PUT" in {method for method, _ in stage.cloud.asked}


async def test_a_dry_run_writes_nothing(cloud: CloudServer, tmp_path: Path) -> None:
    root = cloud.empty("docs")
    cloud.cloud.asked.clear()
    async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
        driver.look_only = True
        await driver.identify(FOLDER)
        await driver.scan(FOLDER, [paths.ROOT])
    assert {method for method, _ in cloud.cloud.asked} <= {"PROPFIND", "GET"}


async def test_a_dry_run_reads_what_has_a_tag_that_looks_like_a_size_and_a_time(tmp_path: Path) -> None:
    """Apache's is made of both, in hexadecimal digits, some of which have no letters."""
    with ApacheServer(tmp_path) as server:
        root = server.empty("docs")
        root.write(b"a", b"." * 0x59)
        microseconds = 0x6618438384436
        os.utime(root.place / "a", ns=(0, microseconds * 1000))
        async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
            driver.look_only = True
            await driver.identify(FOLDER)
            ((entry,),) = [listing.entries for listing in await driver.scan(FOLDER, [paths.ROOT])]
            assert entry.token.endswith(b"59-6618438384436")
            assert await driver.read(FOLDER, b"a", entry.token, 0, 3) == b"..."


@pytest.mark.parametrize("kind", [ApacheServer, RcloneServer, WsgidavServer])
@pytest.mark.parametrize("do", [Do.PUT, Do.DELETE, Do.MOVE])
async def test_a_file_that_was_renamed_over_one_of_its_size_and_time_is_not_lost(
    kind: type[_DavServer], do: Do, tmp_path: Path
) -> None:
    """Their entity tags are made of these alone."""
    mine, theirs = b"what stood there", b"what nobody read"
    with kind(tmp_path) as server:
        root = server.empty("docs")
        assert isinstance(root, DavRoot)
        for name, data in ((b"a", mine), (b"b", theirs)):
            root.write(name, data)
            os.utime(os.path.join(os.fsencode(root.place), name), (LONG_AGO, LONG_AGO))
        async with bench_on(WebdavDriver, root, tmp_path / "workspace") as bench:
            token = await bench.token(b"a")
            os.replace(root.place / "b", root.place / "a")
            new = file_version(b"new") if do is Do.PUT else Version(Kind.NOTHING)
            order = Order(1, do, b"a", new, token, file_version(mine), b"c" if do is Do.MOVE else b"")
            events = await bench.carry_out(order, b"new" if do is Do.PUT else None)
            event = next(event for event in events if event.seen is Seen.STANDS)
            assert event.version.digests[BLAKE3] == blake3(theirs).digest()
            swaps = bench.able.compare_and_swap
        tree = {path: data for path, data in root.tree().items() if data is not None}
        if do is Do.PUT and not swaps:
            assert tree == {b"a": b"new", event.path: theirs}
        else:
            assert tree == {b"a": theirs}


@pytest.mark.parametrize(
    ("tag", "timed"),
    [
        ("59-6618438384436", True),  # Apache
        ("66184383-59", True),  # nginx: seconds, here of another year
        ("660e7caf8dd2ee0059", True),  # rclone
        ("0a1b2c3d4e5f60718293a4b5c6d7e8f9-1796086035-89", True),  # WsgiDAV
        ("0a1b2c3d4e5f60718293a4b5c6d7e8f9", False),
        ("", False),
        ("59-653e999999999", False),  # as a decimal number it is none that a machine can hold
        ("653e9", False),
    ],
)
def test_an_entity_tag_tells_whether_it_is_made_of_a_time(tag: str, timed: bool) -> None:
    seconds = {
        "59-6618438384436": 0x6618438384436 // 10**6,
        "66184383-59": 0x66184383,
        "660e7caf8dd2ee0059": 0x660E7CAF8DD2EE00 // 10**9,
    }
    when = formatdate(seconds.get(tag, 1796086035), usegmt=True)
    assert has_time(Member(values={"etag": f'"{tag}"', "modified": when})) is timed


async def test_folders_that_did_not_change_are_not_listed_again(stage: Stage) -> None:
    for path in (b"a/b/c/file", b"d/e/file", b"f"):
        stage.root.write(path, b"x")
    everything = set(await stage.bench.listed())
    assert len(stage.asked("PROPFIND")) > len(everything) / 2
    assert set(await stage.bench.listed()) == everything
    assert [path for path in stage.asked("PROPFIND") if path and b".onitu" not in path] == []
    stage.root.write(b"d/e/new", b"x")
    assert set(await stage.bench.listed()) == everything | {b"d/e/new"}
    assert set(stage.asked("PROPFIND")) - {b"", b".onitu/marker"} == {b"d", b"d/e"}


async def test_what_a_poll_costs_is_told_with_each_folder_that_was_asked_for(stage: Stage) -> None:
    for path in (b"a/b/c/file", b"d/e/file"):
        stage.root.write(path, b"x")
    stage.cloud.asked.clear()
    await stage.bench.listed()
    assert len(stage.cloud.asked) > 6
    assert stage.bench.driver.counters["poll_requests"] == len(stage.cloud.asked)


async def test_a_condition_that_did_not_hold_while_the_tag_was_weak_is_tried_again(
    stage: Stage, cloud: CloudServer
) -> None:
    stage.root.write(b"a", b"x")
    token = await stage.bench.token(b"a")
    sound = stage.bench.driver._roots[FOLDER].replica  # type: ignore[attr-defined]
    await sound.prove()
    cloud.ill.answers = [told("412 Precondition Failed")]  # and by the next look it is a strong one
    await sound.calls.call("delete", b"a", lambda: sound.remote.delete(b"a", token[1:]))
    assert await stage.bench.tree() == {}


async def test_digests_that_the_server_has_cost_no_read(stage: Stage) -> None:
    stage.root.write(b"a", b"x")
    node = stage.cloud.nodes[FILES + b"/docs/a"]
    node.checksum = "SHA1:11f6ad8ec52a2984abaafd7c3b516503785c2072 MD5:9dd4e461268c8034f5c8564e155c67a6 ADLER32:0079"
    digests = (await stage.bench.entry(b"a")).version.digests
    assert {name: value.hex()[:4] for name, value in digests.items()} == {"sha1": "11f6", "md5": "9dd4"}


# --- chunks ---------------------------------------------------------------------------------------------------------


async def test_a_large_file_comes_in_parts_and_is_put_together_on_a_condition(stage: Stage) -> None:
    data = os.urandom(12 * MIB)
    assert answer(await stage.bench.put(b"new/large", data)).seen is Seen.DONE
    parts = [path for method, path in stage.cloud.asked if method == "PUT" and paths.within(path, UPLOADS)]
    assert [path.rpartition(b"/")[2] for path in parts] == [b"00001", b"00002", b"00003"]
    assert stage.root.tree()[b"new/large"] == data
    assert stage.cloud.children(UPLOADS) == []
    entry = await stage.bench.entry(b"new/large")
    assert entry.version.mtime == file_version(data).mtime
    stage.root.write(b"new/large", b"a user's")
    assert answer(await stage.bench.put(b"new/large", data[1:], entry.token, data)).seen is Seen.STANDS
    assert answer(await stage.bench.put(b"new/large", data[2:])).seen is Seen.STANDS
    assert stage.root.tree()[b"new/large"] == b"a user's"


async def test_an_upload_in_parts_goes_on_after_it_was_cut(stage: Stage, cloud: CloudServer) -> None:
    data = os.urandom(12 * MIB)

    def fail(method: str, path: bytes) -> None:
        if (method, path.rpartition(b"/")[2]) == ("PUT", b"00003"):
            cloud.cloud.before = lambda method, path: None
            raise ConnectionError

    cloud.cloud.before = fail
    assert answer(await stage.bench.put(b"large", data)).seen is Seen.DONE
    parts = [path[-1:] for method, path in stage.cloud.asked if method == "PUT" and paths.within(path, UPLOADS)]
    assert parts == [b"1", b"2", b"3", b"3"]
    assert stage.root.tree() == {b"large": data}


# --- orders ---------------------------------------------------------------------------------------------------------


async def test_a_file_that_comes_into_a_folder_while_it_goes_is_not_lost(stage: Stage) -> None:
    stage.root.make_directory(b"sub")

    def write(method: str, path: bytes) -> None:
        if method == "MOVE":
            stage.cloud.before = lambda method, path: None
            stage.root.write(b"sub/late", b"a user's")

    stage.cloud.before = write
    order = Order(1, Do.DELETE, b"sub", Version(Kind.NOTHING), await stage.bench.token(b"sub"), Version(Kind.DIRECTORY))
    event = answer(await stage.bench.carry_out(order))
    assert event.trouble is Trouble.NOT_EMPTY
    assert stage.root.tree() == {b"sub": None, b"sub/late": b"a user's"}


async def test_a_folder_that_an_earlier_life_left_aside_comes_back(stage: Stage) -> None:
    stage.root.make_directory(b"sub")
    stage.root.write(b"sub/late", b"a user's")
    stage.cloud.write(FILES + b"/docs/.onitu/tmp", None)
    stage.root.rename(b"sub", b".onitu/tmp/gone-01234567.c3Vi")  # base64 of its path
    await stage.bench.driver.identify(FOLDER)
    assert stage.root.tree() == {b"sub": None, b"sub/late": b"a user's"}


async def test_a_locked_file_is_tried_again(stage: Stage) -> None:
    stage.root.write(b"a", b"old")
    stage.cloud.locked.add(FILES + b"/docs/a")

    def unlock(method: str, path: bytes) -> None:
        if len([None for method, _ in stage.cloud.asked if method == "PUT"]) == 2:
            stage.cloud.locked.clear()

    token = await stage.bench.token(b"a")
    stage.asked("")
    stage.cloud.before = unlock
    assert answer(await stage.bench.put(b"a", b"new", token, b"old")).seen is Seen.DONE


async def test_a_full_account_is_told(stage: Stage) -> None:
    stage.cloud.quota = 1000
    event = answer(await stage.bench.put(b"a", b"x" * 2000))
    assert (event.trouble, event.reason) == (Trouble.NO_SPACE, "served: cannot write a: there is no space left")


async def test_an_answer_that_was_lost_is_no_conflict(stage: Stage, cloud: CloudServer) -> None:
    """The file was put in place, and nobody knows."""
    done = []
    handler = cloud.cloud.move

    def move(path: bytes, target: bytes, copy: bool = False) -> None:
        handler(path, target, copy)
        if not done:
            done.append(target)
            raise ConnectionError

    cloud.cloud.move = move  # type: ignore[method-assign]
    assert answer(await stage.bench.put(b"a", b"x" * 200_000)).seen is Seen.DONE
    assert stage.root.tree() == {b"a": b"x" * 200_000}


# --- who asks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["basic", "digest"])
async def test_a_password_is_shown_as_the_server_asks(where: str, tmp_path: Path) -> None:
    with DigestServer(tmp_path) as server:
        assert isinstance(server, DigestServer)
        server.where = where
        root = server.empty("docs")
        async with bench_on(WebdavDriver, root, tmp_path / "workspace") as bench:
            assert answer(await bench.put(b"large", b"x" * 300_000)).seen is Seen.DONE
            assert root.tree() == {b"large": b"x" * 300_000}
        with pytest.raises(Unavailable, match="does not accept the password of me") as caught:
            async with opened(
                WebdavDriver, root, tmp_path, {**root.options, "user": "me", "password": "secret-word"}
            ) as driver:
                await driver.identify(FOLDER)
        assert "secret-word" not in str(caught.value) + repr(driver.options)


async def test_a_token_is_shown(cloud: CloudServer, tmp_path: Path) -> None:
    root = cloud.empty("docs")
    options = {"url": root.options["url"], "token": TOKEN}
    async with opened(WebdavDriver, root, tmp_path, options) as driver:
        await driver.identify(FOLDER)
    async with opened(WebdavDriver, root, tmp_path, {**options, "token": "another"}) as driver:
        with pytest.raises(Unavailable, match="does not accept the token"):
            await driver.identify(FOLDER)


async def test_a_password_comes_from_netrc_or_is_asked_for(
    cloud: CloudServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cloud.empty("docs")
    options = {"url": root.options["url"]}
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with opened(WebdavDriver, root, tmp_path, options) as driver:
        with pytest.raises(Unavailable, match="asks who you are"):
            await driver.identify(FOLDER)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pass\n")
    (tmp_path / "netrc").chmod(0o600)
    async with opened(WebdavDriver, root, tmp_path, options) as driver:
        await driver.identify(FOLDER)


def test_a_url_is_taken_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    address = WebdavDriver.from_url("davs://me@cloud.example:8443/remote.php/dav/files/me/a%20b")
    assert address.options == {"url": "https://cloud.example:8443", "user": "me"}
    assert (address.root, address.name, address.asks) == (
        "/remote.php/dav/files/me/a b",
        "cloud.example",
        ("password",),
    )
    assert WebdavDriver.from_url("dav://me:x@[::1]/d").options == {"url": "http://[::1]", "user": "me", "password": "x"}
    assert WebdavDriver.from_url("dav://host/d").asks == ()
    with pytest.raises(ConfigurationError, match="the host is missing"):
        WebdavDriver.from_url("dav:///d")


# --- servers that must not be trusted -------------------------------------------------------------------------------


async def test_no_other_server_is_asked(cloud: CloudServer, tmp_path: Path) -> None:
    root = cloud.empty("docs")
    async with opened(WebdavDriver, root, tmp_path) as driver:
        for location in ("http://127.0.0.1:1/", "https://127.0.0.1/", "//elsewhere.example/x"):
            cloud.ill.answers = [told("301 Moved", f"Location: {location}")]
            with pytest.raises(Unavailable, match="redirects to another server"):
                await driver.identify(FOLDER)
        cloud.ill.answers = [told("301 Moved", f"Location: /{FILES.decode()}/docs/")]
        await driver.identify(FOLDER)
        cloud.ill.answers = [told("301 Moved", f"Location: /{FILES.decode()}/docs/")] * 30
        with pytest.raises(Unavailable, match="redirects more than"):
            await driver.identify(FOLDER)


async def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with CloudServer(tmp_path) as server:
        assert isinstance(server, CloudServer)
        server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
        root = server.empty("docs")
        port = server.http.server_address[1]
        options = {**root.options, "url": f"https://127.0.0.1:{port}/{FILES.decode()}"}
        async with opened(WebdavDriver, root, tmp_path, options) as driver:
            with pytest.raises(Unavailable, match=r"the certificate of https://127.0.0.1:.* is not trusted: "):
                await driver.identify(FOLDER)
        trusting = {**options, "certificates": str(tmp_path / "ca.pem")}
        async with opened(WebdavDriver, root, tmp_path, trusting) as driver:
            await driver.identify(FOLDER)


GOOD = (
    '<d:multistatus xmlns:d="DAV:">{}<d:response><d:href>{}</d:href><d:propstat><d:prop><d:resourcetype/>'
    '<d:getetag>W/"a"</d:getetag><d:getcontentlength>5</d:getcontentlength></d:prop>'
    "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>"
)


async def parsed(text: str, piece: int = 7, largest: int = 1 << 30) -> list[Member]:
    async def pieces() -> AsyncIterator[bytes]:
        data = text.encode()
        for offset in range(0, len(data), piece):
            await trio.lowlevel.checkpoint()
            yield data[offset : offset + piece]

    return [member async for member in members(pieces(), largest)]


@pytest.mark.parametrize("told", ["", "<d:getcontentlength/>", "<d:getcontentlength>many</d:getcontentlength>"])
async def test_a_file_whose_size_is_not_told_is_none_of_no_bytes(told: str) -> None:
    (member,) = await parsed(GOOD.replace("<d:getcontentlength>5</d:getcontentlength>", told).format("", "/a"))
    thing = thing_of(member)
    assert (thing.kind, thing.trouble) == (Kind.NOTHING, Trouble.IO)
    assert thing.reason == "the server does not tell its size"


async def test_an_answer_is_read_in_pieces_of_any_size() -> None:
    for piece in (1, 7, 100_000):
        (member,) = await parsed(GOOD.format("", "http://host:1/a%20b/c%2Fd/%C3%A9/"), piece)
        assert member.names == [b"a b", b"c/d", "é".encode()]
        assert (member.tag, member.weak, member.size, member.collection) == (b"a", True, 5, False)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "b">]>' + GOOD.format("&b;", "/"),
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">' + GOOD.format("", "/"),
        GOOD.format("&b;", "/"),
        GOOD.format("<d:x>" * 100, "/"),
        GOOD.format("x" * (LONGEST + 1), "/"),
        GOOD.format("<d:x a='" + "x" * (3 * LONGEST), "/"),
        GOOD.format("", "/")[:-30],
        GOOD.format("", "/").replace("multistatus", "html"),
        "not XML at all",
        "",
    ],
    ids=["entity", "outside", "undefined", "deep", "long text", "long tag", "cut", "html", "text", "nothing"],
)
async def test_an_answer_that_is_none_ends_the_reading(text: str) -> None:
    with pytest.raises(NotXml):
        await parsed(text, 50_000)


async def test_an_answer_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(NotXml, match="more than 1 MiB"):
        await parsed('<d:multistatus xmlns:d="DAV:">' + "<d:x>1</d:x>" * 200_000, 65536, MIB)


@pytest.mark.parametrize("href", ["/elsewhere/a", "/remote.php/dav/files/me/docs/../../you/a", "/"])
async def test_a_listing_that_tells_of_elsewhere_is_none(stage: Stage, cloud: CloudServer, href: str) -> None:
    stage.root.write(b"sub/a", b"x")
    body = GOOD.format("", href)
    strange = f"HTTP/1.1 207 Multi-Status\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    cloud.ill.answers = [strange]
    (listing,) = await stage.bench.driver.scan(FOLDER, [b"sub"])
    assert not listing.complete
    cloud.ill.answers = [strange]
    (entry,) = await stage.bench.driver.stat(FOLDER, [b"sub/a"])
    assert entry is not None
    assert entry.trouble is Trouble.IO


def test_a_status_has_its_meaning() -> None:
    def meant(status: int, data: bytes = b"", **headers: str) -> Exception:
        return refusal(Answer(status, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), data))

    assert isinstance(meant(404), Missing)
    assert isinstance(meant(412), Changed)
    for status in (423, 429, 500, 502, 503, 504):
        assert isinstance(meant(status), Busy)
    seconds, date, none = (meant(503, retry_after=v) for v in ("7", formatdate(0), "soon"))
    assert isinstance(seconds, Busy)
    assert isinstance(date, Busy)
    assert isinstance(none, Busy)
    assert (seconds.after, date.after, none.after) == (7.0, 0.0, None)
    for status, trouble in [(403, Trouble.DENIED), (507, Trouble.NO_SPACE), (400, Trouble.NAME_IMPOSSIBLE)]:
        error = meant(status, b"<d:error><s:message>so\n it is\x1b[31m</s:message></d:error>")
        assert isinstance(error, Refused)
        assert error.trouble is trouble
        assert error.reason.endswith(": so it is[31m")


# --- listing everything ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [Busy("the connection was cut"), httpx.RemoteProtocolError("disconnected")])
async def test_a_listing_of_everything_that_breaks_off_is_made_directory_by_directory(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def inside(root: Collection, directory: bytes, depth: str = "1") -> AsyncIterator[tuple[bytes, Member]]:
        asked.append(depth)
        return whole(root, directory, "1" if depth == "1" else "broken")

    async def whole(root: Collection, directory: bytes, depth: str) -> AsyncIterator[tuple[bytes, Member]]:
        if depth == "broken":
            raise failure
        async for found in real(root, directory):
            yield found

    real = Collection.inside
    with CloudServer(tmp_path) as server:
        root = server.empty("docs")
        root.write(b"d/e/f", b"x")
        async with opened(WebdavDriver, root, tmp_path / "workspace") as driver:
            await driver.identify(FOLDER)
            remote = driver.remote(FOLDER)
            await remote.probe()
            tree = Tree(remote._root, deep=True)
            monkeypatch.setattr(Collection, "inside", inside)
            assert {path async for path, _ in tree.listed()} >= {b"d", b"d/e", b"d/e/f"}
            assert asked[0] == "infinity"
            assert tree.deep, "the next time it may be whole"
