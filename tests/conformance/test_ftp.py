"""The suite of every driver, for FTP without and with TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_conformance import conform


@pytest.mark.parametrize(("driver", "server"), [("Ftp", "Ftp"), ("Ftps", "Explicit"), ("Ftps", "Implicit")])
def test_the_driver_conforms(driver: str, server: str, tmp_path: Path) -> None:
    options = ("--driver", f"onitu.drivers.ftp:{driver}Driver", "--server", f"tests.servers.ftp:{server}Server")
    said = conform(tmp_path, *options, "--largest", "20000000")
    assert said.endswith("exit 0"), said
