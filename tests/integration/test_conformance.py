"""The suite that every driver passes, run as anybody runs it; and the page on how to write one, as it stands."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .harness import onitu, started, wait_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "write-a-driver.md").read_text()
LARGEST = 5_000_000
"""Bytes of the largest file here; the suite's own default is a hundred million."""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's two modules, installed as a package would be."""
    place = tmp_path / "packages"
    (place / "shelf-1.0.dist-info").mkdir(parents=True)
    driver, server = re.split(r"^## Prove it$", PAGE, flags=re.MULTILINE)
    (place / "shelf.py").write_text("".join(code(driver, "python")))
    (place / "shelf_server.py").write_text("".join(code(server, "python")))
    (points,) = code(driver, "toml")
    points = points.replace('[project.entry-points."onitu.drivers"]', "[onitu.drivers]").replace('"', "")
    (place / "shelf-1.0.dist-info" / "entry_points.txt").write_text(points)
    (place / "shelf-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def code(text: str, language: str) -> list[str]:
    """The blocks of this language; one that begins with `async def` goes on with the class of the one before."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.indent(block, "    ") if block.startswith("async def") else block + "\n\n" for block in found]


def conform(place: Path, *options: str) -> str:
    """Run the suite in a directory that knows nothing of this project; what it printed."""
    plugin = "onitu.testing.conformance.options"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", plugin, "--pyargs", "onitu.testing.conformance", "-rs", *options],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )
    return f"{done.stdout}\nexit {done.returncode}"


def test_the_local_driver_conforms(tmp_path: Path) -> None:
    said = conform(tmp_path, "--driver", "onitu.drivers.local:LocalDriver", "--largest", str(LARGEST))
    assert said.endswith("exit 0"), said


@pytest.mark.parametrize(
    ("driver", "server"),
    [
        ("ftp:FtpDriver", "ftp:FtpServer"),
        ("rclone:RcloneDriver", "rclone:DiskServer"),
    ],
)
def test_the_driver_of_a_service_in_the_network_conforms(driver: str, server: str, tmp_path: Path) -> None:
    """The two that are quick, and without faults, for which one has to wait: `nox -s conformance` has the rest (a
    minute for SFTP and for S3, three for WebDAV)."""
    options = ("--driver", f"onitu.drivers.{driver}", "--server", f"tests.servers.{server}", "-k", "not faults")
    said = conform(tmp_path, *options, "--largest", "2000000")
    assert said.endswith("exit 0"), said


def test_the_driver_of_the_page_conforms(page: Path) -> None:
    options = ("--driver", "shelf:ShelfDriver", "--server", "shelf_server:ShelfServer", "--largest", str(LARGEST))
    said = conform(page, *options)
    assert said.endswith("exit 0"), said


def test_a_driver_that_breaks_its_word_does_not_conform(page: Path) -> None:
    (page / "packages" / "careless.py").write_text(
        "import shelf\n\n"
        "class CarelessDriver(shelf.ShelfDriver):\n"
        "    def remote(self, folder):\n"
        "        return Careless(self.roots[folder], self.options.patience)\n\n"
        "class Careless(shelf.Shelf):\n"
        "    async def put(self, path, content, expect, prepared=None):\n"
        "        return await super().put(path, content, None)\n"
    )
    said = conform(page, "--driver", "careless:CarelessDriver", "--server", "shelf_server:ShelfServer", "-k", "acting")
    assert said.endswith("exit 1")
    failed = set(re.findall(r"^FAILED \S+::(\w+)", said, re.MULTILINE)) or set(re.findall(r"_ (test_\w+)", said))
    assert "test_a_wrong_token_changes_nothing_and_what_stands_is_told" in failed
    assert "test_where_nothing_is_expected_nothing_is_replaced" in failed


def test_a_service_that_is_polled_is_kept_the_same_while_a_daemon_runs(page: Path) -> None:
    subprocess.run([sys.executable, "-c", "import shelf; shelf.make('shelf.db')"], cwd=page, check=True, timeout=60)
    (page / "a").mkdir()
    text = f"""\
state: {page}/state/run
folders: {{docs: {{}}}}
services:
  here: {{driver: local, folders: {{docs: {page}/a}}}}
  shelf: {{driver: shelf, options: {{poll: 0.1, poll_most: 0.2}}, folders: {{docs: {page}/shelf.db}}}}
"""
    (page / "onitu.yaml").write_text(text)
    with started(page / "onitu.yaml", page / "state" / "run") as daemon:
        (page / "a" / "mine").write_text("from here")
        wait_for(lambda: rows(page).get(b"mine") == b"from here", why="mine on the shelf")
        with contextlib.closing(sqlite3.connect(page / "shelf.db")) as db, db:
            db.execute("UPDATE things SET data = ?, token = ? WHERE path = ?", (b"from there", b"another", b"mine"))
        wait_for(lambda: (page / "a" / "mine").read_text() == "from there", why="the edit is polled")
        with contextlib.closing(sqlite3.connect(page / "shelf.db")) as db, db:
            db.execute("DELETE FROM things WHERE path = ?", (b"mine",))
        wait_for(lambda: not (page / "a" / "mine").exists(), why="the deletion is polled")
        counters = daemon.folder()["services"]["shelf"]["counters"]
        assert counters["scans"] > 2
        assert counters["poll_requests"] <= 4  # the listing, the marker: no request for each file


def rows(place: Path) -> dict[bytes, bytes]:
    """The files on the shelf, but Onitu's own."""
    with contextlib.closing(sqlite3.connect(place / "shelf.db")) as db:
        found = db.execute("SELECT path, data FROM things")
        return {path: data for path, data in found if not path.startswith(b".onitu")}


def test_the_page_works_as_it_is_told(page: Path) -> None:
    (page / "docs").mkdir()
    (page / "docs" / "one.txt").write_text("the first")
    (page / "docs" / "two.txt").write_text("the other")
    made, first, second = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
    subprocess.run(["sh", "-c", made.replace("python", sys.executable)], cwd=page, check=True, timeout=60)
    for typed, said in (
        (first, "in sync: 2 replicas, 2 files; 2 changed, 18 bytes transferred, 0 conflicts"),
        (second, "nothing to do: 0 bytes transferred; 2 replicas, 2 files"),
    ):
        assert said in PAGE
        result = onitu(*typed.replace("$PWD", str(page)).split()[1:], cwd=page)
        assert result.code == 0, result.err
        assert said in result.err
    (page / "docs" / "one.txt").unlink()
    assert onitu(*second.replace("$PWD", str(page)).split()[1:], cwd=page).code == 0
    assert set(rows(page)) == {b"two.txt"}
