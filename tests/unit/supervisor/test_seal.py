"""A seal holds as long as the settings and the store are those of the run that put it."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import msgspec
import pytest

from onitu.model.errors import StateError
from onitu.model.settings import Filter, Folder, Replica, Service, Settings
from onitu.supervisor import seal

SEALED = {"docs": {"a": {"marker": "m", "generation": 3, "tally": "00" * 64}}}
STATUS = {"folders": {"docs": {"files": 5}}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    files = tmp_path / "store" / "appendonlydir"
    files.mkdir(parents=True)
    (files / "appendonly.aof.1.incr.aof").write_bytes(b"commands")
    service = Service("a", "local_storage", {"poll": 5}, replicas={"docs": Replica("docs", "/a")})
    return Settings("x", {"docs": Folder("docs")}, {"a": service}, state=str(tmp_path))


def test_a_seal_is_found_again(settings: Settings) -> None:
    assert seal.load(settings) is None
    seal.put(settings, SEALED, STATUS)
    found = seal.load(settings)
    assert found is not None
    assert found.status == STATUS
    assert found.replicas["a"]["docs"].is_of("m", 3, 0)
    assert os.stat(os.path.join(settings.state, seal.NAME)).st_mode & 0o777 == 0o600


def test_a_seal_that_was_taken_off_is_none(settings: Settings) -> None:
    seal.put(settings, SEALED, STATUS)
    seal.take_off(settings.state)
    seal.take_off(settings.state)
    assert seal.load(settings) is None


def test_a_seal_that_cannot_be_taken_off_is_told(settings: Settings) -> None:
    os.mkdir(os.path.join(settings.state, seal.NAME))
    with pytest.raises(StateError, match="cannot be taken off"):
        seal.take_off(settings.state)


def test_a_seal_that_was_changed_by_hand_is_none(settings: Settings) -> None:
    seal.put(settings, SEALED, STATUS)
    path = Path(settings.state, seal.NAME)
    data = path.read_bytes()
    path.write_bytes(data.replace(msgspec.msgpack.encode({"files": 5}), msgspec.msgpack.encode({"files": 6})))
    assert path.read_bytes() != data
    assert seal.load(settings) is None


def test_a_seal_is_none_after_a_commit(settings: Settings) -> None:
    seal.put(settings, SEALED, STATUS)
    with open(os.path.join(settings.state, "store", "appendonlydir", "appendonly.aof.1.incr.aof"), "ab") as file:
        file.write(b"more")
    assert seal.load(settings) is None


def test_a_seal_is_none_beside_another_store(settings: Settings) -> None:
    seal.put(settings, SEALED, STATUS)
    path = os.path.join(settings.state, "store", "appendonlydir", "appendonly.aof.1.incr.aof")
    os.rename(path, path + ".saved")
    assert seal.load(settings) is None
    os.unlink(path + ".saved")
    assert seal.load(settings) is None


@pytest.mark.parametrize(
    "change",
    [
        {"folders": {"docs": Folder("docs", filter=Filter(blacklist=("*.bak",)))}},
        {"folders": {"docs": Folder("docs", conflict="first")}},
        {"services": {"a": Service("a", "local_storage", replicas={"docs": Replica("docs", "/b")})}},
        {"services": {"a": Service("a", "local_storage", replicas={"docs": Replica("docs", "/a", mode="r")})}},
        {"services": {"a": Service("a", "sftp", replicas={"docs": Replica("docs", "/a")})}},
        {"rules": ()},
    ],
)
def test_a_seal_is_none_for_other_settings(settings: Settings, change: dict[str, object]) -> None:
    seal.put(settings, SEALED, STATUS)
    assert seal.load(attrs.evolve(settings, **change)) is None


def test_a_seal_of_another_version_is_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seal.put(settings, SEALED, STATUS)
    monkeypatch.setattr("onitu.__version__", "0.0")
    assert seal.load(settings) is None


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x80", b"torn"])
def test_a_damaged_seal_is_none(settings: Settings, damage: bytes) -> None:
    seal.put(settings, SEALED, STATUS)
    with open(os.path.join(settings.state, seal.NAME), "wb") as file:
        file.write(damage)
    assert seal.load(settings) is None


def test_a_seal_that_was_cut_off_anywhere_is_none(settings: Settings) -> None:
    seal.put(settings, SEALED, STATUS)
    path = os.path.join(settings.state, seal.NAME)
    with open(path, "rb") as file:
        data = file.read()
    for length in range(len(data)):
        with open(path, "wb") as file:
            file.write(data[:length])
        assert seal.load(settings) is None


def test_where_a_seal_cannot_be_written_there_is_none(settings: Settings) -> None:
    os.mkdir(os.path.join(settings.state, f"{seal.NAME}.new"))
    seal.put(settings, SEALED, STATUS)
    assert seal.load(settings) is None


def test_no_secret_is_in_a_seal(settings: Settings) -> None:
    service = attrs.evolve(settings.services["a"], options={"password": "hunter2"})
    seal.put(attrs.evolve(settings, services={"a": service}), SEALED, STATUS)
    with open(os.path.join(settings.state, seal.NAME), "rb") as file:
        assert b"hunter2" not in file.read()
