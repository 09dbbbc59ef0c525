"""What was found out about a service, from one life to the next."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from onitu.plug.remote.memory import KEPT, Memory, about

from .cupboard import CupboardOptions

ABOUT = about("shelf", "here", CupboardOptions(key="k"))


def test_what_was_kept_is_recalled_by_who_asks_for_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "able")
    assert Memory(path, ABOUT).recall() == b""
    Memory(path, ABOUT).keep(b"found", time.time())
    assert Memory(path, ABOUT).recall() == b"found"
    assert Memory(path, about("shelf", "there", CupboardOptions(key="k"))).recall() == b""
    assert Memory(path, about("shelf", "here", CupboardOptions(key="k", swaps=False))).recall() == b""
    assert os.stat(path).st_mode & 0o777 == 0o600
    Memory(path, ABOUT).forget()
    assert Memory(path, ABOUT).recall() == b""


def test_it_is_not_believed_for_more_than_a_day_nor_from_a_clock_that_was_ahead(tmp_path: Path) -> None:
    memory = Memory(str(tmp_path / "able"), ABOUT)
    for age, believed in ((KEPT - 60, True), (KEPT + 60, False), (-60, False)):
        memory.keep(b"found", time.time() - age)
        assert bool(memory.recall()) is believed


def test_what_is_secret_does_not_count_and_is_not_told(tmp_path: Path) -> None:
    assert about("shelf", "here", CupboardOptions(key="another")) == ABOUT


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"about": 1}', b"\xff"])
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "able").write_bytes(damage)
    assert Memory(str(tmp_path / "able"), ABOUT).recall() == b""


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = Memory(str(tmp_path / "file" / "able"), ABOUT)
    memory.keep(b"found", time.time())
    assert memory.recall() == b""
