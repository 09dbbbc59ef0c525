"""The command line of the suite, as a pytest plugin: options of a conftest would come too late for `--pyargs`.

It adds them only where the suite is asked for, so that it is in no other plugin's way.
"""

from __future__ import annotations

import sys

import pytest

SUITE = "onitu.testing.conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    if not any(SUITE in argument for argument in sys.argv):
        return
    group = parser.getgroup("onitu", "conformance of a driver")
    group.addoption("--driver", default="", metavar="MODULE:CLASS", help="the driver under test")
    group.addoption("--server", default="", metavar="MODULE:CLASS", help="its server [a directory of this host]")
    group.addoption("--largest", default=100_000_000, type=int, metavar="BYTES", help="the largest file [100,000,000]")
