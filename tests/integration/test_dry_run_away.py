"""`onitu sync --dry-run` leaves no trace on services in the network either, be they new to it or known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import pytest

from onitu.testing.conformance import Root
from onitu.testing.conformance.server import LocalRoot
from tests.servers import ftp, rclone, s3, sftp, webdav

from .harness import onitu


@attrs.frozen
class Away:
    """A root in the network, and how a person names it. `environment`: where the secrets are."""

    root: Root
    url: str
    environment: Mapping[str, str] = attrs.field(factory=dict)

    def everything(self) -> dict[Any, Any]:
        """Whatever stands there, Onitu's own too, with what would show that somebody wrote there."""
        if isinstance(self.root, s3.Bucket):
            pages = self.root.client.get_paginator("list_object_versions").paginate(Bucket="bucket")
            told = [found for page in pages for kind in ("Versions", "DeleteMarkers") for found in page.get(kind, ())]
            return {(found["Key"], found["VersionId"]): found["LastModified"] for found in told}
        place = self.root.place if isinstance(self.root, webdav.DavRoot) else None
        if isinstance(self.root, LocalRoot):
            place = Path(os.fsdecode(self.root.at(b"")))
        assert place is not None
        return {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in [place, *place.rglob("*")]}


def served(server: Any, place: Path) -> Away:
    """A new root on a server that runs."""
    root = server.empty("docs")
    options = root.options
    match server:
        case sftp.SftpServer():
            config, known = place / "config", server.sshd.home
            config.write_text(f"Host *\n  IdentityFile {known}/key\n  UserKnownHostsFile {known}/known\n")
            login = f"me:{quote(sftp.PASSWORD)}@" if isinstance(server, sftp.RcloneServer) else ""
            path = root.path if root.path.startswith("/") else f"/{root.path}"
            return Away(root, f"sftp://{login}127.0.0.1:{options['port']}{path}?config={config}")
        case ftp.FtpServer():
            return Away(root, f"ftp://{ftp.USER}:{quote(ftp.PASSWORD)}@127.0.0.1:{options['port']}/docs")
        case s3.SeaweedServer():
            versions = {"Status": "Enabled"}  # so that what came and went is seen
            s3.user(server.server).put_bucket_versioning(Bucket="bucket", VersioningConfiguration=versions)
            keys = {"AWS_ACCESS_KEY_ID": s3.ACCESS, "AWS_SECRET_ACCESS_KEY": s3.SECRET}
            return Away(root, f"s3://{root.path}?endpoint={options['endpoint']}", keys)
        case rclone.DiskServer():
            return Away(root, f"rclone:disk:{root.path}", {"RCLONE_CONFIG": str(options["config"])})
    return Away(root, str(options["url"]).replace("http:", "dav:") + "/docs")


SERVERS = [sftp.RcloneServer, ftp.FtpServer, s3.SeaweedServer, webdav.ApacheServer, rclone.DiskServer]
"""One for each driver, on which it tries most."""


@pytest.mark.parametrize("kind", SERVERS)
def test_nothing_is_written_there(kind: Any, tmp_path: Path, state: Path) -> None:
    (tmp_path / "server").mkdir()
    here = tmp_path / "here"
    here.mkdir()
    (here / "ours").write_bytes(b"ours")
    with kind(tmp_path / "server") as server:
        away = served(server, tmp_path)
        away.root.write(b"theirs", b"theirs")
        command = ("sync", here, away.url, "--state", state, "--json")

        def planned() -> set[tuple[str, str]]:
            before = away.everything()
            done = onitu(*command, "--dry-run", **away.environment)
            assert done.code == 0, done.err + done.out
            assert away.everything() == before
            return {(line["do"], line["path"]) for line in done.lines if line["type"] == "planned"}

        assert planned() == {("put", "ours"), ("put", "theirs")}
        done = onitu(*command, **away.environment)
        assert done.code == 0, done.err + done.out
        (here / "ours").unlink()
        away.root.write(b"theirs", b"edited there")
        assert planned() == {("delete", "ours"), ("put", "theirs")}
