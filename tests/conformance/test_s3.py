"""The suite of every driver, for S3 on three servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_conformance import conform


@pytest.mark.parametrize("kind", ["Seaweed", "Moto", "Rclone"])
def test_the_driver_conforms(kind: str, tmp_path: Path) -> None:
    unfit = ["-k", "not newline"] if kind == "Moto" else []  # moto loses keys with a line feed
    options = ["--driver", "onitu.drivers.s3:S3Driver", "--server", f"tests.servers.s3:{kind}Server"]
    said = conform(tmp_path, *options, "--largest", "20000000", *unfit)
    assert said.endswith("exit 0"), said
