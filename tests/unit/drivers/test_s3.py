"""The driver for S3: what the suite of every driver does not know of, on real servers."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
from blake3 import blake3

from onitu.drivers.s3 import S3Driver, bucket, uploads
from onitu.drivers.s3.client import EMPTY, Broken, Failed, Keys, sign
from onitu.drivers.s3.credentials import Credentials
from onitu.drivers.s3.listing import page
from onitu.drivers.s3.remote import S3Remote
from onitu.model import paths
from onitu.model.errors import Anew, ConfigurationError, Unavailable
from onitu.model.events import BESIDE, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Identity, Refused
from onitu.plug.options import Value, filled
from onitu.plug.remote import NOTHING_THERE, Busy, Changed, Content, Missing, Thing
from onitu.testing.conformance import Fault
from tests.servers.s3 import ACCESS, SECRET, SERVERS, Ill, S3Server, answer, make_bucket, user

LONG_AGO = 1_600_000_000_123_456_789
WRONG = b"0" * 32


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS, which obeys every condition."""
    with SERVERS["seaweedfs"](tmp_path_factory.mktemp("s3")) as server:
        make_bucket(server)
        yield server


@attrs.define
class Place:
    """An empty prefix on a server, with a user's client and a proxy."""

    server: S3Server
    ill: Ill
    user: Any
    name: str
    tmp: Path

    def options(self, **more: Value) -> dict[str, Value]:
        return {"endpoint": self.ill.url, "access_key": ACCESS, "secret_key": SECRET, **more}

    @asynccontextmanager
    async def driver(self, look_only: bool = False, **more: Value) -> AsyncIterator[S3Driver]:
        given, _ = filled(S3Driver.Options, self.options(**more))
        driver = S3Driver("nas", given, {"docs": f"bucket/{self.name}"})
        driver.workspace = str(self.tmp / "workspace")
        driver.look_only = look_only
        async with driver.open():
            yield driver

    @asynccontextmanager
    async def remote(self, **more: Value) -> AsyncIterator[S3Remote]:
        async with self.driver(**more) as driver:
            await driver.identify("docs")
            yield driver.remote("docs")

    def write(self, path: str, data: bytes = b"a user's", **more: Any) -> None:
        self.user.put_object(Bucket="bucket", Key=f"{self.name}/{path}", Body=data, **more)

    def data(self, path: str) -> bytes:
        return self.user.get_object(Bucket="bucket", Key=f"{self.name}/{path}")["Body"].read()

    def keys(self) -> list[str]:
        found = self.user.list_objects_v2(Bucket="bucket", Prefix=f"{self.name}/").get("Contents", [])
        return [key["Key"].removeprefix(f"{self.name}/") for key in found]

    def begun(self) -> list[str]:
        """Uploads that were begun."""
        found = self.user.list_multipart_uploads(Bucket="bucket").get("Uploads", [])
        return [upload["UploadId"] for upload in found if upload["Key"].startswith(f"{self.name}/")]

    def sent(self, what: str) -> int:
        """How many requests with this in their first line came through the proxy; they are forgotten."""
        found = sum(what in line for line in self.ill.requests)
        self.ill.requests.clear()
        return found


@pytest.fixture
def place(started: S3Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    ill = Ill(started)
    name = blake3(request.node.name.encode()).hexdigest()[:8]
    yield Place(started, ill, user(started), name, tmp_path)
    ill.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """The smallest parts that S3 takes."""
    size = 5 << 20
    monkeypatch.setattr(uploads, "PART", size)
    monkeypatch.setattr("onitu.drivers.s3.remote.PART", size)
    return size


def content(data: bytes, mtime: int = LONG_AGO, mode: int = 0o640) -> Content:
    return Content.of(data, mtime, mode)


def large(parts: float, size: int) -> bytes:
    return os.urandom(1 << 20) * int(parts * size / (1 << 20))


# --- signatures and credentials -------------------------------------------------------------------------------------


def test_a_request_is_signed_as_amazons_documentation_signs_it() -> None:
    headers = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9", "x-amz-content-sha256": EMPTY}
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    when = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)
    signed = sign("GET", "/test.txt", "", headers, keys, "us-east-1", when)
    wanted = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert signed["authorization"].endswith(f"Signature={wanted}")


async def test_credentials_are_found_where_amazons_tools_find_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    shared = place.tmp / "credentials"
    shared.write_text(f"[nas]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
    config = place.tmp / "config"
    config.write_text(f"[profile nas]\nendpoint_url = {place.ill.url}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    nothing = {"endpoint": "", "access_key": "", "secret_key": ""}
    async with place.driver(**nothing, profile="nas") as driver:
        await driver.identify("docs")
    async with place.driver(**{**nothing, "endpoint": place.ill.url}) as driver:
        with pytest.raises(Unavailable, match="nas: there are no credentials"):
            await driver.identify("docs")
    async with place.driver(**nothing, profile="other") as driver:
        with pytest.raises(Unavailable, match="other"):
            await driver.identify("docs")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", place.ill.url)
    async with place.driver(**nothing) as driver:
        await driver.identify("docs")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"AWS_SESSION_TOKEN": "t"},
        {"AWS_SECURITY_TOKEN": "old", "AWS_SESSION_TOKEN": "t"},
        {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_CA_BUNDLE": "/ca.pem"},
        {"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://all"},
        {"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_S3": "http://s3"},
    ],
)
def test_where_there_is_only_the_environment_it_says_what_botocore_would(
    more: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", **more}.items():
        monkeypatch.setenv(name, value)
    alone, asked = (Credentials("nas", "", Keys("", "")) for _ in range(2))
    found = alone.configured(), alone.keys()
    assert alone._session is None
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").touch()
    assert found == (asked.configured(), asked.keys())
    assert asked._session is not None


def test_botocore_is_not_loaded_where_there_is_only_the_environment(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from onitu.drivers.s3 import S3Driver
        S3Driver("nas", {"endpoint": "http://127.0.0.1:1"}, {"docs": "bucket"}).remote("docs").client
        assert not [name for name in sys.modules if name.startswith("botocore")]
    """
    environment = {"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "PATH": os.defpath}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=os.getcwd(), check=True)


async def test_what_is_recalled_counts_for_one_try_only_also_where_nobody_answers(place: Place) -> None:
    async with place.driver(endpoint="http://127.0.0.1:1") as driver:
        remote = driver.remote("docs")
        assert remote.recall(remote.memory())
        with pytest.raises(OSError):
            await remote.probe()
        assert not remote._recalled


async def test_what_cannot_be_used_is_told_in_a_sentence_without_a_secret(place: Place) -> None:
    async with place.driver(secret_key="not the secret") as driver:
        with pytest.raises(Unavailable, match=r"nas: the bucket bucket on .* the secret key is wrong") as caught:
            await driver.identify("docs")
        assert "not the secret" not in str(caught.value)
    async with place.driver(endpoint="http://127.0.0.1:1") as driver:
        with pytest.raises(Unavailable, match=r"nas: cannot use the root: nothing listens at 127\.0\.0\.1:1"):
            await driver.identify("docs")
    async with place.driver(bucket="nosuchbucket") as driver:
        with pytest.raises(Unavailable, match=r"nas: there is no bucket nosuchbucket on 127\.0\.0\.1"):
            await driver.identify("docs")
    async with place.driver(endpoint="ftp://somewhere") as driver:
        with pytest.raises(Unavailable, match="is no URL of an S3 service"):
            await driver.identify("docs")


async def test_who_may_only_read_reads_and_is_told_so(place: Place) -> None:
    place.write("a", b"x")
    async with place.remote(access_key="READER") as remote:
        thing = await remote.stat(b"a")
        assert thing is not None
        assert await remote.read(b"a", thing.token, 0, 1) == b"x"
        with pytest.raises(Failed) as caught:
            await remote.put(b"b", content(b"y"), NOTHING_THERE)
        refused = remote.translate(caught.value)
        assert isinstance(refused, Refused)
        assert refused.trouble is Trouble.DENIED
    assert place.keys() == ["a"]


def test_a_url_says_bucket_prefix_and_where() -> None:
    address = S3Driver.from_url("s3://My.Bucket/a%20b/c/?endpoint=http://127.0.0.1:9000&region=eu-central-1")
    assert (address.root, address.name, address.asks) == ("My.Bucket/a b/c", "My.Bucket", ())
    assert address.options == {"endpoint": "http://127.0.0.1:9000", "region": "eu-central-1"}
    address = S3Driver.from_url("s3://KEY:se%2Fcret@bucket")
    assert (address.root, address.options) == ("bucket", {"access_key": "KEY", "secret_key": "se/cret"})
    assert S3Driver.from_url("s3://KEY@bucket/x").asks == ("secret_key",)
    for wrong in ("s3:///prefix", "s3://KEY:secret@bucket:80/", "s3://bucket?nonsense=1"):
        with pytest.raises(ConfigurationError) as caught:
            S3Driver.from_url(wrong)
        assert "secret" not in str(caught.value)


async def test_a_bucket_in_another_region_is_followed_there(place: Place) -> None:
    place.ill.answers = [answer("301 Moved", "PermanentRedirect", x_amz_bucket_region="eu-north-1")]
    async with place.remote() as remote:
        assert remote.client.region == "eu-north-1"


# --- what the server can --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "swaps", "marks"), [("seaweedfs", True, True), ("moto", True, True), ("rclone", False, False)]
)
async def test_a_probe_finds_out_what_the_server_can_and_leaves_nothing(
    kind: str, swaps: bool, marks: bool, started: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with SERVERS[kind](tmp_path / "server") as server:
        make_bucket(server)
        place = Place(server, Ill(server), user(server), "docs", tmp_path)
        async with place.driver() as driver:
            await driver.identify("docs")
            able = driver.remote("docs").able
            assert (able.swaps, able.creates, able.deletes, able.marks, able.md5s) == (swaps, swaps, swaps, marks, True)
            assert driver.capabilities("docs").compare_and_swap is swaps
            assert place.sent("probe") > 0
            await driver.identify("docs")
            assert place.sent("probe") == 0
        assert place.keys() == []
        place.ill.close()


async def test_who_only_looks_writes_nothing(place: Place) -> None:
    async with place.driver(look_only=True) as driver:
        await driver.identify("docs")
        assert {line.split()[0] for line in place.ill.requests} == {"GET", "HEAD"}


@pytest.mark.parametrize("condition", [NOTHING_THERE, WRONG])
async def test_the_server_itself_refuses_what_is_not_expected(place: Place, condition: bytes) -> None:
    async with place.remote() as remote:
        place.write("a")
        with pytest.raises(Changed):
            await remote.put(b"a", content(b"x"), condition)
        with pytest.raises(Changed):
            await remote.put(b"nothing", content(b"x"), WRONG)
        if condition:
            with pytest.raises(Failed) as caught:
                await remote.delete(b"a", condition)
            assert isinstance(remote.translate(caught.value), Changed)
    assert place.data("a") == b"a user's"


async def test_a_deletion_that_the_server_does_not_compare_is_preceded_by_a_look(place: Place) -> None:
    async with place.remote() as remote:
        place.write("a")
        remote._bucket.able = msgspec.structs.replace(remote.able, deletes=False)
        with pytest.raises(Changed):
            await remote.delete(b"a", WRONG)
        with pytest.raises(Missing):
            await remote.delete(b"b", WRONG)
        thing = await remote.stat(b"a")
        assert thing is not None
        await remote.delete(b"a", thing.token)
        assert await remote.stat(b"a") is None


# --- uploads in parts -----------------------------------------------------------------------------------------------


async def test_an_upload_that_was_cut_goes_on_in_a_new_life(
    place: Place, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE", 1)
    data = large(3.2, small_parts)
    async with place.remote() as remote:
        place.ill.cuts = "partNumber=4"
        with pytest.raises((OSError, http.client.HTTPException)) as caught:
            await remote.prepare(b"big", content(data))
        assert isinstance(remote.translate(caught.value), Busy)
        place.ill.cuts = ""
        (number,) = place.begun()
    there = place.user.list_parts(Bucket="bucket", Key=f"{place.name}/big", UploadId=number)["Parts"]
    assert len(there) == 3
    place.sent("")
    async with place.remote() as remote:
        prepared = await remote.prepare(b"big", content(data))
        assert place.sent("partNumber=") == 1
        assert await remote.stat(b"big") is None
        put = await remote.put(b"big", content(data), NOTHING_THERE, prepared)
        assert put == await remote.stat(b"big")
        assert (put.size, put.mtime, put.mode) == (len(data), LONG_AGO, 0o640)
        assert put.digests == {BLAKE3: blake3(data).digest()}
    assert place.data("big") == data
    assert place.begun() == []
    assert os.listdir(place.tmp / "workspace" / "uploads") == []


async def test_parts_of_other_content_are_not_used(place: Place, small_parts: int) -> None:
    data, other = large(1.2, small_parts), large(1.2, small_parts)
    async with place.remote() as remote:
        await remote.prepare(b"big", content(other))
        (old,) = place.begun()
        prepared = await remote.prepare(b"big", content(data))
        assert old not in place.begun()
        # The same content, but somebody put a part of his own into our upload:
        (number,) = place.begun()
        key = f"{place.name}/big"
        place.user.upload_part(Bucket="bucket", Key=key, UploadId=number, PartNumber=1, Body=other[:small_parts])
        prepared = await remote.prepare(b"big", content(data))
        await remote.put(b"big", content(data), NOTHING_THERE, prepared)
    assert place.data("big") == data


async def test_what_came_while_parts_were_sent_is_not_replaced(place: Place, small_parts: int) -> None:
    data = large(1.2, small_parts)
    async with place.remote() as remote:
        prepared = await remote.prepare(b"big", content(data))
        place.write("big")
        with pytest.raises(Changed):
            await remote.put(b"big", content(data), NOTHING_THERE, prepared)
        assert isinstance(prepared, uploads.Upload)
        for expect in (NOTHING_THERE, WRONG):  # and where the look before was too early
            with pytest.raises(Failed) as caught:
                await remote._uploads.complete(prepared, expect)
            assert isinstance(remote.translate(caught.value), Changed)
    assert place.data("big") == b"a user's"


async def test_an_upload_that_the_server_forgot_is_sent_again(place: Place, small_parts: int) -> None:
    data = large(1.2, small_parts)
    async with place.remote() as remote:
        prepared = await remote.prepare(b"big", content(data))
        place.user.abort_multipart_upload(Bucket="bucket", Key=f"{place.name}/big", UploadId=place.begun()[0])
        put = await remote.put(b"big", content(data), NOTHING_THERE, prepared)
        assert put.size == len(data)
    assert place.data("big") == data


async def test_an_upload_whose_answer_was_lost_is_not_done_twice(place: Place, small_parts: int) -> None:
    data = large(1.2, small_parts)
    async with place.remote() as remote:
        prepared = await remote.prepare(b"big", content(data))
        assert isinstance(prepared, uploads.Upload)
        first = await remote.put(b"big", content(data), None, prepared)
        place.sent("")
        assert await remote.put(b"big", content(data), None, prepared) == first
        assert place.sent("partNumber=") == 0


async def test_what_nobody_went_on_with_is_given_up_after_a_week(place: Place, small_parts: int) -> None:
    async with place.remote() as remote:
        await remote.prepare(b"old", content(large(1.2, small_parts)))
        (note,) = (place.tmp / "workspace" / "uploads").iterdir()
        os.utime(note, (time.time() - 8 * 86400,) * 2)
        await remote.prepare(b"new", content(large(1.2, small_parts)))
        assert len(place.begun()) == 2
    async with place.remote():
        assert len(place.begun()) == 1
        assert not note.exists()


@pytest.mark.parametrize("said", ["503 Slow Down", "500 Internal Server Error", "502 Bad Gateway"])
@pytest.mark.parametrize("what", ["PUT ", "DELETE "])
async def test_a_service_that_is_busy_while_it_is_tried_is_tried_again(place: Place, what: str, said: str) -> None:
    place.ill.told = {what: [answer(said, retry_after="0")]}
    async with place.driver() as driver:
        await driver.identify("docs")
        assert not any(place.ill.told.values()), "it was tried"
        found = driver.capabilities("docs")
    shutil.rmtree(place.tmp / "workspace")
    async with place.driver() as driver:
        await driver.identify("docs")
        assert driver.capabilities("docs") == found


@pytest.mark.parametrize("said", ["400 Bad Request", "403 Forbidden", "500 Oops", "502 Bad Gateway"])
async def test_one_strange_answer_makes_no_other_server_of_it(
    place: Place, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the requests it comes to with which it is found out what the server can do."""
    monkeypatch.setattr("onitu.plug.remote.calls.FIRST_PAUSE", 0.001)
    disturbed = 0
    while True:
        place.ill.answers = [None] * disturbed + [answer(said)]
        async with place.driver() as driver:
            with contextlib.suppress(Unavailable):
                await driver.identify("docs")
                able = driver.remote("docs").able
                right = able.swaps and able.creates and able.deletes and able.marks and able.md5s
                assert driver.remote("docs").denied or right, disturbed
        shutil.rmtree(place.tmp / "workspace", ignore_errors=True)
        if place.ill.answers:
            break
        disturbed += 1
    assert disturbed > 8


async def test_where_it_could_not_be_tried_what_conditions_mean_nothing_is_changed_without_them(place: Place) -> None:
    place.write("a")
    async with place.driver() as driver:
        await driver.identify("docs")
        await driver.mark("docs", Identity("me", 1, 0))
    shutil.rmtree(place.tmp / "workspace")
    async with place.driver() as driver:
        place.ill.told = {"PUT ": [answer("403 Forbidden", "AccessDenied") for _ in range(2)]}
        await driver.identify("docs")
        assert driver.remote("docs").denied is not None
        (before,) = await driver.stat("docs", [b"a"])
        assert before is not None
        order = Order(1, Do.DELETE, b"a", Version(Kind.NOTHING), before.token, before.version)
        ((failed,),) = await driver.perform("docs", [order], {}, {})
        assert (failed.seen, failed.trouble, failed.order) == (Seen.FAILED, Trouble.DENIED, 1)
        assert failed.reason == "a cannot be changed: permission denied"
        assert place.data("a") == b"a user's"
        with pytest.raises(Anew):  # it may be tried by now
            await driver.perform("docs", [order], {}, {})
        await driver.identify("docs")
        place.write("a", b"a user's newer")
        ((stands,),) = await driver.perform("docs", [order], {}, {})
        assert stands.seen is Seen.STANDS
        assert place.data("a") == b"a user's newer"


async def test_a_full_service_may_be_freed_of_something(place: Place) -> None:
    place.write("a")
    async with place.driver() as driver:
        await driver.identify("docs")
        await driver.mark("docs", Identity("me", 1, 0))
    shutil.rmtree(place.tmp / "workspace")
    async with place.driver() as driver:
        place.ill.told = {"probe": [answer("507 Insufficient Storage", "QuotaExceeded") for _ in range(8)]}
        await driver.identify("docs")
        (before,) = await driver.stat("docs", [b"a"])
        assert before is not None
        delete = Order(1, Do.DELETE, b"a", Version(Kind.NOTHING), before.token, before.version)
        make = Order(2, Do.PUT, b"d", Version(Kind.DIRECTORY))
        (done, failed) = await driver.perform("docs", [delete, make], {}, {})
        assert (done[-1].seen, done[-1].order) == (Seen.DONE, 1)
        assert [(event.seen, event.trouble, event.order) for event in failed] == [(Seen.FAILED, Trouble.NO_SPACE, 2)]
        assert place.keys() == [".onitu/marker"]


PAGE = b"<!DOCTYPE html><html>Please log in</html>"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\netag: "1"\r\ncontent-length: %d\r\n\r\n%b' % (len(PAGE), PAGE),
        b'HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: "1"\r\n',
    ],
    ids=["no ETag", "a page for people", "cut in its headers"],
)
async def test_an_answer_that_is_not_of_s3_proves_nothing(place: Place, said: bytes) -> None:
    async with place.driver() as driver:
        await driver.identify("docs")
        await driver.mark("docs", Identity("me", 1, 0))
        (place.tmp / "here").mkdir()
        (place.tmp / "here" / "a").write_bytes(b"1")
        place.ill.told = {"/a ": [said] * 2}
        order, source = Order(1, Do.PUT, b"a", content(b"1").version), (str(place.tmp / "here"), b"a", b"")
        ((done,),) = await driver.perform("docs", [order], {}, {1: [source]})
        assert not place.ill.told["/a "]
        assert done.seen is Seen.DONE
        assert place.data("a") == b"1"
        (there,) = await driver.stat("docs", [b"a"])
        assert there is not None
        assert there.token == done.token
        place.ill.told = {"/a ": [said] * 2}
        gone = Order(2, Do.DELETE, b"a", Version(Kind.NOTHING), done.token, done.version)
        await driver.perform("docs", [gone], {}, {})
        assert not place.ill.told["/a "]
        assert place.keys() == [".onitu/marker"]


@pytest.mark.parametrize("status", ["409 Conflict", "412 Precondition Failed"])
async def test_a_look_has_no_condition_that_could_not_be_met(place: Place, status: str) -> None:
    place.write("a")
    async with place.driver() as driver:
        await driver.identify("docs")
        place.ill.told = {"HEAD ": [answer(status)]}
        (there,) = await driver.stat("docs", [b"a"])
        assert there is not None
        assert there.version.size == len(b"a user's")


async def test_an_answer_that_is_cut_in_its_headers_is_none(place: Place) -> None:
    place.write("a")
    async with place.driver() as driver:
        await driver.identify("docs")
        (before,) = await driver.stat("docs", [b"a"])
        assert before is not None
        tag = before.token[1:]
        cut = b'HTTP/1.1 200 OK\r\nETag: "%b"\r\nx-amz-meta-mtime: 1\r\n' % tag
        for said in (cut, cut + b"Content-Le", cut + b"content-length: 8\r\n"):
            place.ill.told = {"HEAD ": [said]}
            assert await driver.stat("docs", [b"a"]) == [before]
            assert not place.ill.told["HEAD "]


async def test_a_service_that_asks_to_slow_down_gets_the_part_later(place: Place, small_parts: int) -> None:
    data = large(1.2, small_parts)
    async with place.remote() as remote:
        place.ill.told = {"partNumber=2": [answer("503 Slow Down", "SlowDown")]}
        prepared = await remote.prepare(b"big", content(data))
        assert place.sent("partNumber=2") == 2
        await remote.put(b"big", content(data), NOTHING_THERE, prepared)
    assert place.data("big") == data


# --- metadata -------------------------------------------------------------------------------------------------------


async def test_a_listing_needs_no_request_for_each_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(23):
        place.write(f"d{number % 3}/{number}", b"%d" % number)
    async with place.remote() as remote:
        monkeypatch.setattr(bucket, "MOST", 5)
        place.sent("")
        tree = {path: thing async for path, thing in remote.list_tree()}
        assert place.sent("") == 5  # pages: none of them is left out
        assert set(tree) == {b"d%d/%d" % (n % 3, n) for n in range(23)}
        looked = await remote.stat(b"d1/1")
        assert looked == tree[b"d1/1"]
        assert set(await remote.list(b"")) - {b".onitu"} == {b"d0", b"d1", b"d2"}
        assert len(await remote.list(b"d0")) == 8


async def test_times_and_modes_of_other_tools_are_understood(place: Place) -> None:
    async with place.remote() as remote:
        for name, mtime, mode in (("rclone", "1600000000.5", "100755"), ("s3fs", "1600000000", "33261")):
            place.write(name, Metadata={"mtime": mtime, "mode": mode})
            thing = await remote.stat(name.encode())
            assert thing is not None
            assert thing.mode == 0o755
            assert thing.mtime // 1_000_000_000 == 1_600_000_000
        place.write("nonsense", Metadata={"mtime": "yesterday", "mode": "rw"})
        thing = await remote.stat(b"nonsense")
        assert thing is not None
        assert thing.mode == 0
        assert abs(thing.mtime - time.time_ns()) < 3600 * 10**9


async def test_a_digest_in_the_metadata_is_not_believed_of_other_content(place: Place, small_parts: int) -> None:
    data = large(1.2, small_parts)
    async with place.remote() as remote:
        for path, ours in ((b"small", b"ours"), (b"large", data)):
            await remote.put(path, content(ours), NOTHING_THERE)
            head = place.user.head_object(Bucket="bucket", Key=f"{place.name}/{path.decode()}")
            thing = await remote.stat(path)
            assert thing is not None
            assert thing.digests[BLAKE3] == blake3(ours).digest()
            # A tool that edits in place and takes the metadata along:
            place.write(path.decode(), b"mine" if path == b"small" else data + b"!", Metadata=head["Metadata"])
            thing = await remote.stat(path)
            assert thing is not None
            assert BLAKE3 not in thing.digests


async def test_a_new_time_leaves_the_rest_of_the_metadata(place: Place) -> None:
    async with place.remote() as remote:
        place.write("a.html", Metadata={"author": "me"}, ContentType="text/x-own", CacheControl="no-cache")
        before = await remote.stat(b"a.html")
        assert before is not None
        version = Version(Kind.FILE, mtime=LONG_AGO, mode=0o600)
        with pytest.raises(Changed):
            await remote.set_meta(b"a.html", version, WRONG)
        after = await remote.set_meta(b"a.html", version, before.token)
        assert after == await remote.stat(b"a.html") == msgspec.structs.replace(before, mtime=LONG_AGO, mode=0o600)
    head = place.user.head_object(Bucket="bucket", Key=f"{place.name}/a.html")
    assert head["Metadata"]["author"] == "me"
    assert (head["ContentType"], head["CacheControl"]) == ("text/x-own", "no-cache")
    assert place.data("a.html") == b"a user's"


async def test_many_small_files_take_one_request_each_and_what_a_user_put_there_meanwhile_stays(place: Place) -> None:
    local = place.tmp / "here"
    local.mkdir()
    orders, sources = [Order(1, Do.PUT, b"d", Version(Kind.DIRECTORY))], {}
    for number in range(2, 42):
        name, data = f"file {number}", b"content of %d" % number
        (local / name).write_bytes(data)
        version = content(data).version
        orders.append(Order(number, Do.PUT, b"d/" + name.encode(), version))
        sources[number] = [(str(local), name.encode(), b"")]
    (local / "file 9").write_bytes(b"changed since")
    async with place.driver() as driver:
        await driver.identify("docs")
        await driver.mark("docs", Identity("me", 1, 0))
        place.write("d/file 7", b"a user's own")
        place.ill.told = {"file%2030": [answer("503 Slow Down", "SlowDown", retry_after="0")]}
        place.ill.requests.clear()
        outcomes = await driver.perform("docs", orders, {}, sources)
        assert [events[-1].order for events in outcomes] == [order.number for order in orders]
        seen = {events[-1].path: events[-1] for events in outcomes}
        assert (seen[b"d/file 7"].seen, seen[b"d/file 7"].version.size) == (Seen.STANDS, len(b"a user's own"))
        assert (seen[b"d/file 9"].seen, seen[b"d/file 9"].trouble) == (Seen.FAILED, Trouble.SOURCE_LOST)
        done = [path for path, event in seen.items() if event.seen is Seen.DONE]
        assert len(done) == 39
        found = dict(zip(done, await driver.stat("docs", done), strict=True))
        for path in done[1:]:
            assert (there := found[path]) is not None
            assert there.token == seen[path].token
            assert (there.version.mtime, there.version.mode) == (LONG_AGO, 0o640)
            assert there.version.digests == seen[path].version.digests
            assert place.data(path.decode()) == b"content of " + path.rpartition(b" ")[2]
        assert place.data("d/file 7") == b"a user's own"
        assert driver.counters["written_bytes"] == sum(
            order.version.size for order in orders if order.path in done and order.version.kind is Kind.FILE
        )
        puts = [line.split()[1].rpartition("file%20")[2] for line in place.ill.requests if line.startswith("PUT ")]
        of_files = sorted(int(number) for number in puts if number.isdigit())
        assert of_files == sorted([*(n for n in range(2, 42) if n != 9), 7, 30])  # twice what was refused at first


async def test_a_directory_that_gets_its_mark_as_the_last_thing_goes_is_told_as_nobodys_doing(place: Place) -> None:
    """It stood by that thing alone, and whoever had the thing made may never have heard of the directory."""
    async with place.driver() as driver:
        await driver.identify("docs")
        await driver.mark("docs", Identity("me", 1, 0))
        place.write("d/e/x")
        (x,) = await driver.stat("docs", [b"d/e/x"])
        assert x is not None
        order = Order(1, Do.DELETE, b"d/e/x", Version(Kind.NOTHING), x.token, x.version)
        ((beside, done),) = await driver.perform("docs", [order], {}, {})
        assert (beside.seen, beside.path, beside.order) == (Seen.STANDS, b"d/e", BESIDE)
        assert (done.seen, done.order) == (Seen.DONE, 1)
        assert place.keys() == [".onitu/marker", "d/e/"]


async def test_a_copy_is_made_by_the_service_and_keeps_what_the_original_has(place: Place, small_parts: int) -> None:
    data = large(1.2, small_parts)
    async with place.remote() as remote:
        for path, ours in ((b"small", b"ours"), (b"large", data)):
            put = await remote.put(path, content(ours), NOTHING_THERE)
            place.sent("")
            copied = await remote.copy(path, b"d/" + path, put.token)
            assert copied is not None
            looked = await remote.stat(b"d/" + path)
            assert looked is not None
            assert (looked.token, looked.mtime, looked.mode) == (copied.token, LONG_AGO, 0o640)
            assert looked.digests[BLAKE3] == blake3(ours).digest()
            assert place.sent("GET") <= 1  # nothing was fetched
            with pytest.raises(Changed):
                await remote.copy(path, b"d/" + path, put.token)
            with pytest.raises(Changed):
                await remote.copy(path, b"elsewhere", WRONG)
    assert place.data("d/large") == data


# --- directories ----------------------------------------------------------------------------------------------------


async def test_a_directory_that_only_a_file_made_stays_when_its_file_goes(place: Place) -> None:
    place.write("d/inner/a")
    async with place.remote() as remote:
        await remote.delete(b"d/inner/a", None)
        assert await remote.list(b"d/inner") == {}
        assert await remote.list(b"d") == {b"inner": Thing(Kind.DIRECTORY)}
        await remote.remove_directory(b"d/inner")
        with pytest.raises(Missing):
            await remote.list(b"d/inner")
        assert await remote.list(b"d") == {}
    assert place.keys() == ["d/"]


async def test_a_file_that_a_directory_which_nobody_sees_keeps_out_is_told(place: Place) -> None:
    """SeaweedFS keeps the directory of a file that was deleted for two minutes, and lets no new file take its name."""
    async with place.driver() as driver:
        await driver.identify("docs")
        await driver.mark("docs", Identity("me", 1, 0))
        place.write("d/x")
        place.user.delete_object(Bucket="bucket", Key=f"{place.name}/d/x")
        version = Version(Kind.FILE, 1, {BLAKE3: blake3(b"1").digest()})
        order = Order(1, Do.PUT, b"d", version, keep=b"")
        async with driver.stage("docs", version, b"d") as staged:
            await staged.write(b"1")
            await staged.finish()
            ((failed,),) = await driver.perform("docs", [order], {1: staged}, {})
        assert (failed.seen, failed.order) == (Seen.FAILED, 1)
        assert failed.reason == "nas: cannot write d: something is said to stand there, and nothing is shown"


async def test_where_an_object_and_a_directory_have_one_name_the_directory_counts(place: Place) -> None:
    place.write("a")
    place.user.put_object(Bucket="bucket", Key=f"{place.name}/b/", Body=b"")
    async with place.remote() as remote:
        remote._directories = {b"b"}
        with pytest.raises(Changed):
            await remote.put(b"b", content(b"x"), NOTHING_THERE)
        with pytest.raises(Missing):
            await remote.put(b"a/b", content(b"x"), NOTHING_THERE)
        with pytest.raises(Changed):
            await remote.make_directory(b"a")


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Place]:
    """On moto, which takes any key, as Amazon does."""
    (tmp_path / "server").mkdir()
    with SERVERS["moto"](tmp_path / "server") as server:
        make_bucket(server)
        place = Place(server, Ill(server), user(server), "docs", tmp_path)
        yield place
        place.ill.close()


@pytest.mark.parametrize("whole", [False, True])
async def test_keys_that_a_folder_cannot_hold_are_told(odd: Place, whole: bool) -> None:
    for key in ("d/x", "d", "d-e", "e/f", "a//b", "/r", "g/../h", "g/.", "..", "g/ok", "m/"):
        odd.write(key, b"" if key == "m/" else b"1")
    async with odd.driver() as driver:
        await driver.identify("docs")
        remote = driver.remote("docs")
        found: dict[bytes, Thing] = {}
        if whole:
            found = {path: thing async for path, thing in remote.list_tree()}
        else:
            for directory in (b"", b"a", b"e", b"g", b"m"):
                listed = await remote.list(directory)
                found.update({paths.join(directory, name): thing for name, thing in listed.items()})
    troubled = {path for path, thing in found.items() if thing.trouble}
    assert troubled == {b"d", b"%2F", b"a/%2F", b"g/%2E%2E", b"g/%2E", b"%2E%2E"}
    assert {b"d-e", b"e/f", b"g/ok", b"m"} <= set(found)
    assert "an object has the name of a directory" in found[b"d"].reason


# --- connections ----------------------------------------------------------------------------------------------------


async def test_a_connection_that_the_server_closed_meanwhile_is_made_again(place: Place) -> None:
    async with place.remote() as remote:
        with place.ill.having(Fault.CLOCK):  # nothing but that what is held ends with it
            pass
        assert await remote.stat(b"nothing") is None


async def test_a_call_that_is_cancelled_ends_at_once_though_the_service_stalls(place: Place) -> None:
    async with place.remote(timeout=3600.0) as remote:
        with place.ill.having(Fault.STALLED), trio.fail_after(300):
            for act in (lambda: remote.stat(b"a"), lambda: remote.put(b"a", content(b"x" * 5_000_000), NOTHING_THERE)):
                with trio.move_on_after(0.5) as scope:
                    await act()
                assert scope.cancelled_caught
        assert await remote.stat(b"a") is None  # not even an empty one


async def test_a_body_that_is_not_what_was_meant_does_not_become_an_object(place: Place) -> None:
    async with place.remote() as remote:
        for cut in (b"", b"x" * 1000):
            place.ill.cut = len(cut)
            with place.ill.having(Fault.CUT), pytest.raises((OSError, http.client.HTTPException)):
                await remote.put(b"a", content(b"x" * 400_000), NOTHING_THERE)
        assert await remote.stat(b"a") is None


async def test_an_etag_tells_that_a_file_was_moved(place: Place) -> None:
    async with place.driver() as driver:
        assert driver.identity_of(b"=" + b"a" * 32) == b"=" + b"a" * 32
        assert driver.identity_of(b"=" + b"a" * 32 + b"-3") is not None
        assert driver.identity_of(b"=12-34") is None


def test_a_page_for_people_is_no_empty_listing() -> None:
    with pytest.raises(Broken, match=r"no listing of a bucket, but <html>: is that an S3 endpoint\?"):
        page(b"<html xmlns='http://www.w3.org/1999/xhtml'><body><p>Please log in</p></body></html>")


@pytest.mark.parametrize("size", ["-1", "9" * 30, "many", ""])
def test_a_listing_with_a_size_that_is_none_is_not_believed(size: str) -> None:
    listed = "<ListBucketResult><Contents><Key>f</Key><ETag>1</ETag><Size>{}</Size></Contents></ListBucketResult>"
    assert page(listed.format("7").encode()).objects == [("f", b"1", 7, 0)]
    with pytest.raises(Broken, match="a size that is none"):
        page(listed.format(size).encode())
