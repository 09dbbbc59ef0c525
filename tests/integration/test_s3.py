"""A folder on this host and in a bucket, with the real daemon; and the suite of every driver on three servers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from onitu.testing.conformance import Fault
from tests.servers.s3 import ACCESS, SECRET, SERVERS, Bucket, Ill, make_bucket, seaweedfs

from .harness import Result, onitu, snapshot, started, wait_for

FILES = 50


@attrs.define
class Both:
    """The two replicas of one folder."""

    place: Path
    bucket: Bucket
    ill: Ill

    @property
    def local(self) -> Path:
        return self.place / "here"

    @property
    def url(self) -> str:
        return f"s3://{self.bucket.path}?endpoint={self.bucket.options['endpoint']}"

    def sync(self) -> Result:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
        result = onitu("sync", self.local, self.url, "--state", self.place / "state", "--json", timeout=180, **keys)
        assert result.code == 0, result.err + result.out
        assert SECRET not in result.err + result.out
        return result

    def cannot(self) -> str:
        """What a run says of paths that it cannot synchronise."""
        keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
        result = onitu("sync", self.local, self.url, "--state", self.place / "state", timeout=180, **keys)
        assert result.code == 1, result.err + result.out
        return result.err + result.out

    def here(self) -> dict[str, bytes | None]:
        """What stands here: content by path, None for a directory."""
        found: dict[str, bytes | None] = {}
        for name, entry in snapshot(self.local).items():
            found[name] = (self.local / name).read_bytes() if entry[0] == "file" else None
        return found

    def there(self) -> dict[str, bytes | None]:
        return {os.fsdecode(path): data for path, data in self.bucket.tree().items()}

    def same(self) -> bool:
        return self.here() == self.there()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    (tmp_path / "server").mkdir()
    (tmp_path / "here").mkdir()
    with seaweedfs(tmp_path / "server") as server:
        make_bucket(server)
        ill = Ill(server)
        yield Both(tmp_path, Bucket(server, ill, "bucket", "docs"), ill)
        ill.close()


@pytest.fixture
def on_moto(tmp_path: Path) -> Iterator[Both]:
    """It takes any key, as Amazon does."""
    (tmp_path / "server").mkdir()
    (tmp_path / "here").mkdir()
    with SERVERS["moto"](tmp_path / "server") as server:
        make_bucket(server)
        ill = Ill(server)
        yield Both(tmp_path, Bucket(server, ill, "bucket", "docs"), ill)
        ill.close()


def fill(both: Both) -> None:
    for number in range(FILES):
        path = both.local / f"d{number % 5}" / f"file {number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 100))
        path.chmod(0o755 if number % 3 else 0o644)
    (both.local / "empty").mkdir()


def test_a_bucket_is_synchronised_both_ways_and_the_second_time_nothing_is_done(both: Both) -> None:
    fill(both)
    both.bucket.write(b"theirs/from a user.txt", b"theirs")
    both.sync()
    assert both.same()
    assert len(both.here()) == FILES + 8
    again = both.sync().summary
    assert (again["transferred_bytes"], again["puts"], again["deletes"], again["moves"]) == (0, 0, 0, 0)
    assert both.same()

    first, second, third = (both.local / "d1" / f"file {number}" for number in (1, 6, 11))
    first.write_bytes(b"edited here")
    second.unlink()
    third.rename(both.local / "empty" / "moved here")
    both.bucket.write(b"d2/file 2", b"edited there")
    both.bucket.delete(b"d2/file 7")
    both.bucket.rename(b"d2/file 12", b"d2/moved there")
    both.sync()
    assert both.same()
    here = both.here()
    assert (here["d1/file 1"], here["d2/file 2"]) == (b"edited here", b"edited there")
    assert here["empty/moved here"] is not None
    assert here["d2/moved there"] is not None
    assert not {"d1/file 6", "d2/file 7", "d1/file 11", "d2/file 12"} & here.keys()
    assert both.sync().summary["transferred_bytes"] == 0


def test_keys_that_no_folder_can_hold_are_told_and_cost_nothing(on_moto: Both) -> None:
    bucket = on_moto.bucket
    for path in (b"d/x", b"e/f"):
        bucket.write(path, b"1")
    on_moto.sync()
    bucket.write(b"d", b"an object of a directory's name")
    bucket.write(b"e//f", b"no path")
    said = on_moto.cannot()
    assert "d: an object has the name of a directory" in said
    assert "e/%2F: there are keys with an empty name" in said
    assert "not in sync" in said
    assert on_moto.here() == {"d": None, "d/x": b"1", "e": None, "e/f": b"1"}
    for path in (b"d", b"e//f"):
        bucket.delete(path)
    on_moto.sync()
    assert on_moto.same()


def test_a_tree_that_comes_back_from_a_bucket_has_its_times_and_modes(both: Both) -> None:
    fill(both)
    both.sync()
    before = snapshot(both.local)
    both.local.rename(both.place / "old")
    both.local.mkdir()
    keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    result = onitu("sync", both.url, both.local, "--state", both.place / "new", "--json", timeout=180, **keys)
    assert result.code == 0, result.err
    files = {path: entry for path, entry in snapshot(both.local).items() if entry[0] == "file"}
    assert files == {path: entry for path, entry in before.items() if entry[0] == "file"}


def test_the_daemon_carries_changes_and_rides_out_a_service_that_was_away(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(both)
    options = {**both.bucket.options, "secret_key": "${S3_SECRET}", "poll": 0.2, "poll_most": 0.5}
    lines = "".join(f"      {name}: {value}\n" for name, value in options.items())
    configuration = both.place / "onitu.yml"
    configuration.write_text(
        f"state: {both.place / 'state'}\nservices:\n"
        f"  here: {{driver: local_storage, folders: {{docs: {both.local}}}}}\n"
        f"  cloud:\n    driver: amazon_s3\n    folders: {{docs: {both.bucket.path}}}\n    options:\n{lines}"
        "folders: {docs: {}}\n"
    )
    monkeypatch.setenv("S3_SECRET", SECRET)
    with started(configuration, both.place / "state") as daemon:
        assert both.same()
        (both.local / "d0" / "new").write_bytes(b"new here")
        both.bucket.write(b"d0/theirs", b"new there")
        wait_for(lambda: {"d0/new", "d0/theirs"} <= both.here().keys() & both.there().keys(), why="carried")
        with both.ill.having(Fault.DOWN):
            (both.local / "d0" / "meanwhile").write_bytes(b"written while nobody answered")
            # A listing may be the first to notice it, or an order; from then on it is the next try to use the root.
            sentence = rf"cannot \w+ [^:]+: nothing listens at 127\.0\.0\.1:{both.ill.port}"
            wait_for(lambda: re.search(sentence, json.dumps(daemon.status())), why=sentence)
        wait_for(lambda: "d0/meanwhile" in both.there(), why="healed")
        daemon.in_sync()
        assert both.same()
        assert SECRET not in json.dumps(daemon.status()) + daemon.log.read_text()
