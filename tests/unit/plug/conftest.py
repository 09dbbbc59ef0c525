from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture
def runtime() -> Iterator[str]:
    """A directory for sockets, with a path that is short enough for them."""
    path = tempfile.mkdtemp(prefix="onitu-")
    yield path
    shutil.rmtree(path)
