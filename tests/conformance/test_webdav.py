"""The suite of every driver, for WebDAV on five servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_conformance import conform


@pytest.mark.parametrize("server", ["webdav:Apache", "webdav:Digest", "webdav:Rclone", "webdav:Wsgidav", "cloud:Cloud"])
def test_the_driver_conforms(server: str, tmp_path: Path) -> None:
    options = ("--driver", "onitu.drivers.webdav:WebdavDriver", "--server", f"tests.servers.{server}Server")
    said = conform(tmp_path, *options, "--largest", "20000000")
    assert said.endswith("exit 0"), said
