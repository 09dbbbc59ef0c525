"""Services that are full already, with the same files: they meet by what each knows of its contents."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.rclone import binary
from tests.servers.s3 import ACCESS, SECRET, Bucket, Ill, S3Server, make_bucket, seaweedfs

from .harness import onitu

FILES = 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3Server]:
    (tmp_path / "store").mkdir()
    with seaweedfs(tmp_path / "store") as server:
        make_bucket(server)
        yield server


def full(server: S3Server, name: str) -> str:
    """A prefix with files in it; its URL."""
    ill = Ill(server)
    ill.close()  # nobody needs the proxy here
    bucket = Bucket(server, ill, "bucket", name)
    for path, data in files():
        bucket.write(path.encode(), data)
    return f"s3://{bucket.path}?endpoint={server.url}"


def files() -> Iterator[tuple[str, bytes]]:
    for number in range(FILES):
        yield f"d{number % 3}/file {number}", b"%d" % number * (1 + 1000 * number)


def met(*replicas: str, state: Path, **environment: str) -> dict[str, Any]:
    """The replicas were synchronised; what `onitu sync` told at its end, of the only folder."""
    keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    result = onitu("sync", *replicas, "--state", state, "--json", timeout=180, **keys, **environment)
    assert result.code == 0, result.err + result.out
    (folder,) = result.summary["folders"].values()
    assert folder["files"] == FILES
    return folder


def test_two_buckets_and_a_remote_of_rclone_that_know_their_md5_meet_without_a_transfer(
    store: S3Server, tmp_path: Path
) -> None:
    config = tmp_path / "rclone.conf"
    keys = f"access_key_id = {ACCESS}\nsecret_access_key = {SECRET}\n"
    config.write_text(f"[third]\ntype = s3\nprovider = SeaweedFS\nendpoint = {store.url}\n{keys}")
    full(store, "three")
    found = {"RCLONE_CONFIG": str(config), "PATH": f"{Path(binary()).parent}:{os.environ['PATH']}"}
    replicas = full(store, "one"), full(store, "two"), "rclone:third:bucket/three"
    folder = met(*replicas, state=tmp_path / "state", **found)
    assert len(folder["services"]) == len(replicas)
    assert (folder["transferred_bytes"], folder["sent_bytes"], folder["copied_bytes"]) == (0, 0, 0)
    assert moved(folder) == {}


def test_a_bucket_and_a_directory_of_this_host_share_no_digest_so_the_bucket_is_read_once_and_nothing_is_sent(
    store: S3Server, tmp_path: Path
) -> None:
    root = tmp_path / "here"
    for path, data in files():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    replicas = full(store, "one"), str(root)
    folder = met(*replicas, state=tmp_path / "state")
    assert folder["transferred_bytes"] == 0
    assert moved(folder) == {"read_bytes": sum(len(data) for _, data in files())}
    assert moved(met(*replicas, state=tmp_path / "state")) == {}


def moved(folder: dict[str, Any]) -> Counter[str]:
    """Bytes of files that came from services in the network and went to them, in all."""
    total: Counter[str] = Counter()
    for service in folder["services"].values():
        total.update({name: service["counters"].get(name, 0) for name in ("read_bytes", "written_bytes")})
    return +total
