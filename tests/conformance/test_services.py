"""What goes wrong at a service is told by `onitu status` in a sentence with service, path and cause; other paths and
services go on; and when it is over, all heals by itself. For each driver, on a real server, with the real daemon."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from onitu.model.errors import OnituError
from onitu.plug.options import Value
from onitu.testing.conformance import Fault, Root, Server
from tests.integration.harness import Daemon, onitu, snapshot, started, wait_for

BIG = os.urandom(3_000_000)

PATIENCE = 120.0
"""Seconds until a fault is told; rclone tries long by itself."""
SERVERS = {
    "sftp": "sftp:Sftp",
    "ftp": "ftp:Ftp",
    "s3": "s3:Seaweed",
    "webdav": "webdav:Digest",
    "rclone": "rclone:Dav",
}

CAUSES = {
    Fault.WRONG_PASSWORD: r"lets nobody in with|refuses the login|secret key is wrong|does not accept the password"
    r"|401 Unauthorized",
    Fault.HOST_KEY_CHANGED: r"THE HOST KEY OF .* HAS CHANGED",
    Fault.DOWN: r"is not reached|nothing listens|refused|closed the connection",
    Fault.DENIED: r"[Pp]ermission|[Dd]enied|may not|403",
    Fault.FULL: r"space is left|space left|no room|507",
}


@attrs.define
class Stand:
    """Three services with one folder: two directories of this host, and the root of a server."""

    place: Path
    driver: str
    server: Server
    root: Root

    @property
    def here(self) -> Path:
        return self.place / "here"

    @property
    def beside(self) -> Path:
        return self.place / "beside"

    @property
    def state(self) -> Path:
        return self.place / "state"

    def again(self, name: str) -> Stand:
        """Another root on the same server, and other directories."""
        return stand(self.place / name, self.driver, self.server, name)

    @property
    def configuration(self) -> Path:
        return self.place / "onitu.yaml"

    def configure(self, options: Mapping[str, Value]) -> None:
        away = {"driver": self.driver, "options": {**options, "poll": 0.3, "poll_most": 1.0}}
        services = {
            "here": {"driver": "local", "folders": {"docs": str(self.here)}},
            "beside": {"driver": "local", "folders": {"docs": str(self.beside)}},
            "away": {**away, "folders": {"docs": self.root.path}},
        }
        text = json.dumps({"state": str(self.state), "folders": {"docs": {}}, "services": services})
        self.configuration.write_text(text)

    def write(self, path: str, data: bytes) -> None:
        """A user writes here."""
        file = self.here / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)

    def has(self, path: str, data: bytes) -> bool:
        """Whether it is at the service."""
        return self.root.tree().get(path.encode()) == data

    def told(self, daemon: Daemon, *words: str) -> str:
        """Wait until one line of `onitu status` has all these (patterns); the line."""

        def said() -> bool:
            """Whether it is told already. To ask the daemon itself is less work than the command."""
            try:
                found = [daemon.status(), daemon.ask("problems")]
            except OnituError:  # it is starting
                return False
            text = json.dumps(found)
            return all(re.search(word, text) for word in words)

        def shown() -> str:
            lines = onitu("status", "-c", self.configuration).out.splitlines()
            return next((line for line in lines if all(re.search(word, line) for word in words)), "")

        try:
            wait_for(said, PATIENCE, f"status tells {words}")
            return str(wait_for(shown, PATIENCE, f"`onitu status` tells {words}"))
        except AssertionError as error:
            status = onitu("status", "-c", self.configuration)
            raise AssertionError("\n".join([str(error), status.out, daemon.log.read_text()[-3000:]])) from None

    def goes_on(self) -> None:
        """Two other services are kept the same."""
        self.write("meanwhile", os.urandom(8))
        wait_for(lambda: _content(self.beside / "meanwhile") == _content(self.here / "meanwhile"), why="others go on")

    def healed(self, daemon: Daemon) -> None:
        daemon.in_sync(180)
        here = {os.fsencode(p.relative_to(self.here)): p.read_bytes() for p in self.here.rglob("*") if p.is_file()}
        here = {path: data for path, data in here.items() if not path.startswith(b".onitu/")}
        assert {path: data for path, data in self.root.tree().items() if data is not None} == here


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def stand(place: Path, driver: str, server: Server, name: str) -> Stand:
    found = Stand(place, driver, server, server.empty(name))
    for root in (found.here, found.beside):
        root.mkdir(parents=True)
    found.configure(found.root.options)
    return found


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    module, _, name = SERVERS[request.param].partition(":")
    kind = getattr(importlib.import_module(f"tests.servers.{module}"), f"{name}Server")
    place = tmp_path_factory.mktemp(request.param)
    (place / "server").mkdir()
    with kind(place / "server") as server:
        yield stand(place / "first", request.param, server, "first")


@pytest.fixture(scope="module")
def daemon(served: Stand) -> Iterator[Daemon]:
    served.write("denied/stands", b"x")
    with started(served.configuration, served.state) as daemon:
        yield daemon


def having(stand: Stand, fault: Fault) -> contextlib.AbstractContextManager[Mapping[str, Value]]:
    if fault not in stand.server.faults:
        pytest.skip(f"{type(stand.server).__name__} cannot have it that {fault.value}")
    return stand.server.fault(fault, stand.root)


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.FULL])
def test_a_path_that_cannot_be_written_is_told_with_its_cause(served: Stand, daemon: Daemon, fault: Fault) -> None:
    path, free = f"denied/{fault.name}", f"free {fault.name}"
    with having(served, fault):
        served.write(path, BIG)
        print(served.told(daemon, "away", path, CAUSES[fault]))
        served.write(free, b"x")
        wait_for(lambda: served.has(free, b"x"), why="other paths go on")
        served.goes_on()
        assert not served.has(path, BIG)
    served.healed(daemon)


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.CUT, Fault.BUSY])
def test_what_passes_is_got_over(served: Stand, daemon: Daemon, fault: Fault) -> None:
    with having(served, fault):
        served.write(f"file {fault.name}", BIG)
        if fault is Fault.DOWN:
            print(served.told(daemon, "away", CAUSES[fault]))
        served.goes_on()
    served.healed(daemon)


def test_a_service_that_stays_busy_is_told_so(served: Stand, daemon: Daemon) -> None:
    stay_busy = getattr(served.server, "stay_busy", None)
    if stay_busy is None:
        pytest.skip("the protocol has no words for it")
    with having(served, Fault.BUSY):
        stay_busy()
        served.write("file that waits", BIG)
        print(served.told(daemon, "away", r"503|429|[Bb]usy|[Ss]low ?[Dd]own|Too many users"))
        served.goes_on()
    served.healed(daemon)


@pytest.mark.parametrize("fault", [Fault.WRONG_PASSWORD, Fault.HOST_KEY_CHANGED])
def test_a_service_that_lets_nobody_in_says_why(served: Stand, fault: Fault) -> None:
    stand = served.again(fault.name)
    stand.write("file", b"x")
    with contextlib.ExitStack() as stack:
        options = stack.enter_context(having(stand, fault))
        stand.configure(options)
        with started(stand.configuration, stand.state, settled=False) as daemon:
            print(stand.told(daemon, "away", CAUSES[fault]))
            stand.goes_on()
            said = daemon.log.read_text() + json.dumps(daemon.status())
            assert not [name for name in ("password", "secret_key") if str(options.get(name, "\0")) in said]
            if options == stand.root.options:  # it is the server that is mended
                stack.close()
                stand.healed(daemon)
                return
    stand.configure(stand.root.options)
    with started(stand.configuration, stand.state) as daemon:
        stand.healed(daemon)


def test_a_new_life_gives_no_file_another_time_or_mode_and_an_edit_there_leaves_the_mode(served: Stand) -> None:
    """What a service tells of a file of the last second it may tell of the next change, too: it is read once more."""
    stand = served.again("young")
    now = time.time_ns()
    for number in range(60):  # whenever they arrive, some are young
        path = stand.here / str(number)
        path.write_bytes(b"%d" % number)
        path.chmod(0o750)
        os.utime(path, ns=(now, now + number * 123_456_789))
    with started(stand.configuration, stand.state) as daemon:
        stand.healed(daemon)
    before = snapshot(stand.here), snapshot(stand.beside)
    with started(stand.configuration, stand.state) as daemon:
        stand.healed(daemon)
        folder = daemon.status()["folders"]["docs"]
        assert not any(folder[done] for done in ("puts", "deletes", "moves", "metas")), onitu(
            "log", "-c", stand.configuration
        ).out
        assert (snapshot(stand.here), snapshot(stand.beside)) == before
        stand.root.write(b"7", b"edited there")
        wait_for(lambda: _content(stand.here / "7") == b"edited there", PATIENCE, "the edit arrives")
        stand.healed(daemon)
        keeps_modes = stand.driver == "sftp"  # there it is a new file, with a mode of its own
        assert (stand.here / "7").stat().st_mode & 0o777 == (0o644 if keeps_modes else 0o750)
