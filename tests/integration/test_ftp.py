"""A directory of this host and one of an FTP server in one folder, by the real daemon."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from onitu.plug.options import Value
from onitu.testing.conformance import Fault
from onitu.testing.conformance.server import LocalRoot
from tests.servers.ftp import PASSWORD, FoldingServer, FtpServer

from .harness import onitu, snapshot, started, wait_for

FILES = 30


@attrs.define
class Both:
    """The two replicas of one folder."""

    place: Path
    server: FtpServer
    root: LocalRoot

    @property
    def local(self) -> Path:
        return self.place / "here"

    @property
    def state(self) -> Path:
        return self.place / "state"

    def configured(self, options: Mapping[str, Value]) -> Path:
        path = self.place / "onitu.yaml"
        away = {"driver": "ftp", "options": {**options, "poll": 0.2, "poll_most": 0.5}}
        services = {
            "laptop": {"driver": "local", "folders": {"docs": str(self.local)}},
            "nas": {**away, "folders": {"docs": self.root.path}},
        }
        path.write_text(json.dumps({"state": str(self.state), "folders": {"docs": {}}, "services": services}))
        return path

    def here(self) -> dict[bytes, bytes | None]:
        """What stands here: content by path, None for a directory."""
        kinds = {name: entry[0] for name, entry in snapshot(self.local).items()}
        return {os.fsencode(n): (self.local / n).read_bytes() if kind == "file" else None for n, kind in kinds.items()}

    def same(self) -> bool:
        try:
            return self.here() == self.root.tree()
        except FileNotFoundError:  # it changes just now
            return False


@contextlib.contextmanager
def on(kind: type[FtpServer], place: Path) -> Iterator[Both]:
    (place / "here").mkdir()
    (place / "server").mkdir()
    with kind(place / "server") as server:
        yield Both(place, server, server.empty("docs"))


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    with on(FtpServer, tmp_path) as both:
        yield both


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Both]:
    with on(FoldingServer, tmp_path) as both:
        yield both


def test_edits_deletions_and_moves_are_carried_each_way_and_an_absence_is_ridden_out(both: Both) -> None:
    for number in range(FILES):
        path = both.local / f"d{number % 3}" / f"file {number} é"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 5000))
    both.root.write(b"theirs/from a user", b"theirs")
    configuration = both.configured(both.root.options)
    with started(configuration, both.state) as daemon:
        assert both.same()
        assert len(both.here()) == FILES + 5
        (both.local / "d0" / "file 0 é").write_bytes(b"edited here")
        (both.local / "d1" / "file 1 é").unlink()
        (both.local / "d2" / "file 2 é").rename(both.local / "d2" / "moved here")
        wait_for(both.same, why="what was done here is there")
        both.root.write("d0/file 3 é".encode(), b"edited there")
        both.root.delete("d1/file 4 é".encode())
        both.root.rename("d2/file 5 é".encode(), b"d2/moved there")
        moved = both.local / "d2" / "moved there"
        wait_for(lambda: moved.exists() and both.same(), why="what was done there is here")
        daemon.in_sync()
        here = both.here()
        assert (here["d0/file 0 é".encode()], here["d0/file 3 é".encode()]) == (b"edited here", b"edited there")
        with both.server.fault(Fault.DOWN, both.root):
            (both.local / "meanwhile").write_bytes(b"written while nobody answered")
            wait_for(lambda: "the server closed the connection" in json.dumps(daemon.status()), why="told")
        wait_for(both.same, 90, why="healed")
        daemon.in_sync()
        assert PASSWORD not in json.dumps(daemon.status()) + daemon.log.read_text()
    before = both.here(), both.root.tree()
    with started(configuration, both.state) as daemon:
        counters = daemon.folder()["services"]["nas"]["counters"]
        assert not counters.get("transferred_bytes"), counters
    assert (both.here(), both.root.tree()) == before


def test_a_wrong_password_is_told_and_once_the_right_one_stands_there_all_goes_on(both: Both) -> None:
    (both.local / "file").write_bytes(b"x")
    configuration = both.configured({**both.root.options, "password": "a password that is none"})
    with started(configuration, both.state, settled=False) as daemon:
        wait_for(daemon.log.exists)
        wait_for(lambda: "refuses the login" in daemon.log.read_text(), why="told in the log")
        shown = wait_for(lambda: _line(configuration, "nas:"), why="told by the status")
        assert "docs on 127.0.0.1 cannot be used: the server refuses the login: Authentication failed" in shown
        assert "a password that is none" not in json.dumps(daemon.status()) + daemon.log.read_text()
    both.configured(both.root.options)
    with started(configuration, both.state):
        assert both.same()


def _line(configuration: Path, word: str) -> str:
    """The line of `onitu status` that has the word."""
    said = onitu("status", "-c", configuration).out
    return next((line for line in said.splitlines() if word in line and "unavailable" in line), "")


def test_a_name_that_changes_in_case_only_is_renamed_where_both_cases_are_one_name(folding: Both) -> None:
    """The server tells of the old name where it is asked for the new one: what was renamed was deleted, everywhere."""
    (folding.local / "sub").mkdir()
    (folding.local / "sub" / "README").write_text("mine")
    with started(folding.configured(folding.root.options), folding.state) as daemon:
        (folding.local / "sub" / "README").rename(folding.local / "sub" / "readme")
        wait_for(lambda: b"sub/readme" in folding.root.tree())
        daemon.ask("rescan")
        daemon.in_sync()
        assert folding.here() == folding.root.tree() == {b"sub": None, b"sub/readme": b"mine"}
        (folding.local / "sub" / "readme").write_text("edited")
        wait_for(folding.same)


def test_two_names_are_told_apart_from_those_that_a_service_takes_for_one(folding: Both) -> None:
    (folding.local / "Case").write_text("upper")
    (folding.local / "Photos").mkdir()
    (folding.local / "Photos" / "x").write_text("a picture")
    (folding.local / "file").write_text("no directory")
    with started(folding.configured(folding.root.options), folding.state) as daemon:
        (folding.local / "case").write_text("lower")
        (folding.local / "photos").mkdir()
        (folding.local / "photos" / "x").write_text("another picture")
        (folding.local / "FILE").mkdir()
        (folding.local / "FILE" / "y").write_text("in it")
        wait_for(lambda: daemon.folder()["blocked"] == 5 and daemon.folder()["settled"])
        daemon.ask("rescan")
        wait_for(lambda: daemon.folder()["settled"])
        reasons = {problem["path"]: problem["reason"] for problem in daemon.ask("problems")["problems"]}
        assert reasons["case"] == "nas: the service takes case and Case, which stands there, for one name"
        assert reasons["FILE/y"] == "nas: the service takes FILE and file, which stands there, for one name"
        assert set(reasons) == {"case", "photos", "photos/x", "FILE", "FILE/y"}
    there = {b"Case": b"upper", b"Photos": None, b"Photos/x": b"a picture", b"file": b"no directory"}
    more = {b"case": b"lower", b"photos": None, b"photos/x": b"another picture", b"FILE": None, b"FILE/y": b"in it"}
    assert folding.root.tree() == there
    assert folding.here() == there | more
