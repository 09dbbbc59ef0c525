from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    """Three empty directories."""
    found = [tmp_path / name for name in ("A", "B", "C")]
    for root in found:
        root.mkdir()
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the state will be."""
    return tmp_path / "state"
