"""Transfers over sockets between real processes: a source that lies, changes, or goes away in the middle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .harness import Daemon, assert_same, snapshot, started, wait_for
from .test_original import configuration, served

LIAR = '''
import os
from onitu.drivers.local.driver import LocalDriver


class Liar(LocalDriver):
    """Says wrong bytes for as long as a file named `lies` stands beside its root."""

    async def read(self, folder, path, token, offset, length):
        data = await super().read(folder, path, token, offset, length)
        if not os.path.exists(os.path.join(os.path.dirname(self.roots[folder]), "lies")):
            return data
        return data[:-1] + bytes([data[-1] ^ 1])
'''


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the driver `liar`; the file that makes it lie."""
    place = tmp_path / "packages"
    (place / "liar-1.0.dist-info").mkdir(parents=True)
    (place / "liar-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: liar\nVersion: 1.0\n")
    (place / "liar-1.0.dist-info" / "entry_points.txt").write_text("[onitu.drivers]\nliar = liar:Liar\n")
    (place / "liar.py").write_text(LIAR)
    monkeypatch.setenv("PYTHONPATH", str(place))
    lies = tmp_path / "lies"
    lies.touch()
    return lies


def replicas(base: Path, **options: str) -> tuple[Path, Path, list[Path]]:
    """Services that copy over sockets only, each with what it is given; configuration, state, roots."""
    text = "folders: {docs: {}}\nservices:\n"
    for name, more in options.items():
        (base / name).mkdir()
        text += f"  {name}: {{{more}, folders: {{docs: {base}/{name}}}}}\n"
    return *configuration(base, text), [base / name for name in options]


def local(bandwidth: int = 0, velocity: float = 1.0) -> str:
    return f"driver: local_storage, velocity: {velocity}, options: {{kernel_copy: false, bandwidth: {bandwidth}}}"


def received(daemon: Daemon, service: str) -> int:
    return int(daemon.folder()["services"][service]["counters"].get("transferred_bytes", 0))


def test_a_corrupted_transfer_is_refused_until_the_source_tells_the_truth(tmp_path: Path, liar: Path) -> None:
    path, state, (a, b) = replicas(tmp_path, A="driver: liar", B=local())
    (a / "large").write_bytes(os.urandom(3_000_000))
    (a / "small").write_text("small")
    (b / "old").write_text("stands")
    with started(path, state, settled=False) as daemon:
        wait_for(lambda: daemon.folder()["blocked"] == 2, why="both are told as blocked")
        assert set(snapshot(b)) == {"old"}
        reasons = {problem["path"]: problem["reason"] for problem in daemon.ask("problems")["problems"]}
        assert reasons.keys() == {"large", "small"}
        (a / "old").write_text("an edit that arrives wrong")
        wait_for(lambda: daemon.folder()["blocked"] == 3)
        assert (b / "old").read_text() == "stands"
        liar.unlink()
        daemon.ask("resume")
        daemon.in_sync()
        assert_same(a, b)


def test_where_one_source_lies_another_is_asked(tmp_path: Path, liar: Path) -> None:
    path, state, (a, b, c) = replicas(tmp_path, A="driver: liar, velocity: 2", B=local(), C=local())
    content = os.urandom(3_000_000)
    for root in (a, b):
        (root / "x").write_bytes(content)
        os.utime(root / "x", ns=(10**18, 10**18))
    with started(path, state) as daemon:
        assert (c / "x").read_bytes() == content
        assert daemon.folder()["blocked"] == 0
        assert_same(a, b, c)


def test_a_source_that_is_rewritten_during_its_transfer_arrives_whole(tmp_path: Path) -> None:
    path, state, (a, b) = replicas(tmp_path, A=local(), B=local(bandwidth=4_000_000))
    before, after = b"b" * 6_000_000, b"a" * 6_000_000
    with started(path, state) as daemon:
        (a / "x").write_bytes(before)
        wait_for(lambda: list((b / ".onitu" / "tmp").glob("*.part")), why="it is on its way")
        (a / "x").write_bytes(after)
        wait_for(lambda: whole(b / "x", before, after) == after)
        daemon.in_sync()
        assert set(assert_same(a, b)) == {"x"}


def whole(path: Path, *allowed: bytes) -> bytes:
    """What stands there, which must be one of these, or nothing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    assert content in allowed, f"{path} has {len(content)} bytes that nobody wrote"
    return content


def test_a_second_source_takes_over_in_the_middle_of_a_transfer(tmp_path: Path) -> None:
    path, state, (a, b, c) = replicas(tmp_path, A=local(), B=local(velocity=2.0), C=local(bandwidth=4_000_000))
    content = os.urandom(8_000_000)
    with started(path, state) as daemon:
        daemon.ask("pause", service="C")
        (a / "x").write_bytes(content)
        wait_for(lambda: (b / "x").exists())
        wait_for(lambda: served(daemon, "A") == len(content))
        daemon.ask("resume", service="C")
        wait_for(lambda: received(daemon, "C") > 1_000_000, why="it is on its way")
        b.rename(tmp_path / "gone")
        (tmp_path / "gone" / "x").rename(tmp_path / "x")  # its driver has the directory open, wherever it is
        wait_for(lambda: (c / "x").exists(), why="A takes over")
        assert (c / "x").read_bytes() == content
        wait_for(lambda: daemon.folder()["services"]["C"]["counters"].get("resumed_bytes", 0) >= 1_000_000)
        wait_for(
            lambda: len(content) < served(daemon, "A") <= 2 * len(content) - 1_000_000, why="only what was missing"
        )
        (tmp_path / "x").rename(tmp_path / "gone" / "x")
        (tmp_path / "gone").rename(b)
        daemon.in_sync()
        assert_same(a, b, c)
