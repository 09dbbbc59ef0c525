"""The suite of every driver, for rclone on a directory of this host."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_conformance import conform


def test_the_driver_conforms(tmp_path: Path) -> None:
    options = ("--driver", "onitu.drivers.rclone:RcloneDriver", "--server", "tests.servers.rclone:DiskServer")
    said = conform(tmp_path, *options, "--largest", "20000000")
    assert said.endswith("exit 0"), said
