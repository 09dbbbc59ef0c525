"""One folder on this host, on an sshd, in a bucket and on a WebDAV server at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.servers.s3 import ACCESS, SECRET, Bucket, Ill, make_bucket, seaweedfs
from tests.servers.sftp import Sshd, sshd
from tests.servers.webdav import DavRoot, apache

from .harness import Result, onitu

FILES = 1_000

Tree = dict[str, bytes | None]


def tree(root: Path) -> Tree:
    """What stands in a directory: content by path, None for a directory."""
    found: Tree = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if name.parts[0] != ".onitu":
            found[str(name)] = None if path.is_dir() else path.read_bytes()
    return found


@attrs.define
class Mixed:
    """The replicas."""

    place: Path
    server: Sshd
    bucket: Bucket
    share: DavRoot

    @property
    def here(self) -> Path:
        return self.place / "here"

    @property
    def there(self) -> Path:
        return self.server.root / "docs"

    def urls(self) -> list[str]:
        return [
            str(self.here),
            f"s3://{self.bucket.path}?endpoint={self.bucket.options['endpoint']}",
            f"sftp://127.0.0.1:{self.server.port}{self.there}?config={self.server.home}/config",
            f"dav://{str(self.share.options['url']).removeprefix('http://')}/{self.share.path}",
        ]

    def sync(self) -> Result:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
        result = onitu("sync", "--json", *self.urls(), "--state", self.place / "state", timeout=300, **keys)
        assert result.code == 0, result.err + result.out
        return result

    def assert_same(self) -> Tree:
        expected = tree(self.here)
        assert tree(self.there) == expected
        for root in (self.bucket, self.share):
            assert {os.fsdecode(path): data for path, data in root.tree().items()} == expected
        return expected


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Mixed]:
    (tmp_path / "here").mkdir()
    (tmp_path / "store").mkdir()
    with seaweedfs(tmp_path / "store") as store, sshd() as server, apache() as served:
        make_bucket(store)
        keys = f"Host *\n  IdentityFile {server.home}/key\n  UserKnownHostsFile {server.home}/known\n"
        (server.home / "config").write_text(keys)
        (server.root / "docs").mkdir()
        ill = Ill(store)
        share = DavRoot(served, served.port, "open", "docs")
        yield Mixed(tmp_path, server, Bucket(store, ill, "bucket", "docs"), share)
        ill.close()


def test_a_thousand_files_are_the_same_on_every_kind_of_service_and_changes_travel_from_each(mixed: Mixed) -> None:
    for number in range(FILES):
        path = mixed.here / f"d{number % 20}" / f"file {number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 4))
    mixed.sync()
    assert len(mixed.assert_same()) == FILES + 20
    assert "nothing to do" in mixed.sync().err

    here, there = mixed.here, mixed.there
    (here / "d0" / "file 20").write_bytes(b"edited here")
    (here / "d0" / "file 40").unlink()
    os.rename(here / "d0" / "file 60", here / "d1" / "moved here")
    (there / "d2" / "file 22").write_bytes(b"edited by SFTP")
    (there / "d2" / "file 42").unlink()
    os.rename(there / "d2" / "file 62", there / "moved by SFTP")
    shutil.rmtree(there / "d3")
    mixed.bucket.write(b"d4/file 24", b"edited in the bucket")
    mixed.bucket.delete(b"d4/file 44")
    mixed.bucket.rename(b"d4/file 64", b"d4/moved in the bucket")
    mixed.share.write(b"d5/file 25", b"edited on the share")
    mixed.share.delete(b"d5/file 45")
    mixed.share.rename(b"d5/file 65", b"d6/moved on the share")
    changed = mixed.sync()
    found = mixed.assert_same()
    edited = {
        "d0/file 20": "here",
        "d2/file 22": "by SFTP",
        "d4/file 24": "in the bucket",
        "d5/file 25": "on the share",
    }
    assert {name: found[name] for name in edited} == {name: f"edited {by}".encode() for name, by in edited.items()}
    gone = {f"d{n}/file {n + more}" for n in (0, 2, 4, 5) for more in (40, 60)} | {"d3"}
    assert not found.keys() & gone
    assert found.keys() >= {"d1/moved here", "moved by SFTP", "d4/moved in the bucket", "d6/moved on the share"}
    assert not [name for name in found if "conflict" in name]
    again = mixed.sync()
    assert "nothing to do" in again.err, f"{again.err}{again.out}, after\n{changed.out}"
