"""A folder on this host and on WebDAV servers, with the real command; and the suite of every driver on each of them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onitu.testing.conformance import Fault
from tests.servers.http_faults import answer
from tests.servers.webdav import PASSWORD, USER, DavRoot, DigestServer, RcloneServer, WsgidavServer, _DavServer

from .harness import Result, onitu, snapshot, started, wait_for

FILES = 50


class Both:
    """The two replicas of one folder. The password is in a netrc file."""

    def __init__(self, place: Path, server: _DavServer) -> None:
        self.local = place / "here"
        self.local.mkdir()
        self.state = place / "state"
        self.server = server
        root = server.empty("docs")
        assert isinstance(root, DavRoot)
        self.served = root
        self.netrc = place / "netrc"
        self.netrc.write_text(f'machine 127.0.0.1 login "{USER}" password "{PASSWORD}"\n', encoding="utf-8")
        self.netrc.chmod(0o600)

    @property
    def url(self) -> str:
        where = str(self.served.options["url"]).removeprefix("http://")
        return f"dav://{where}/docs"

    def sync(self, code: int = 0) -> Result:
        command = ("sync", self.local, self.url, "--state", self.state, "--json")
        result = onitu(*command, timeout=300, NETRC=str(self.netrc))
        assert result.code == code, result.err + result.out
        assert PASSWORD not in result.err + result.out
        return result

    def here(self) -> dict[str, bytes | None]:
        """What stands here: content by path, None for a directory."""
        kinds = {name: entry[0] for name, entry in snapshot(self.local).items()}
        return {name: (self.local / name).read_bytes() if kind == "file" else None for name, kind in kinds.items()}

    def there(self) -> dict[str, bytes | None]:
        return {os.fsdecode(path): data for path, data in self.served.tree().items()}

    def fill(self) -> None:
        for number in range(FILES):
            path = self.local / f"d{number % 5}" / f"file {number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(number * 5000))
        (self.local / "empty").mkdir()


@pytest.fixture(params=[DigestServer, RcloneServer, WsgidavServer])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    (tmp_path / "server").mkdir()
    with request.param(tmp_path / "server") as server:
        yield Both(tmp_path, server)


def test_a_folder_is_synchronised_both_ways_and_the_second_time_nothing_is_done(both: Both) -> None:
    both.fill()
    both.served.write(b"theirs/from a user.txt", b"theirs")
    both.sync()
    assert both.here() == both.there()
    assert len(both.here()) == FILES + 8
    again = both.sync().summary
    assert (again["transferred_bytes"], again["puts"], again["deletes"], again["moves"]) == (0, 0, 0, 0)

    first, second, third = (both.local / "d1" / f"file {number}" for number in (1, 6, 11))
    first.write_bytes(b"edited here")
    second.unlink()
    third.rename(both.local / "empty" / "moved here")
    both.served.write(b"d2/file 2", b"edited there")
    both.served.delete(b"d2/file 7")
    both.served.rename(b"d2/file 12", b"d2/moved there")
    both.sync()
    here = both.here()
    assert here == both.there()
    assert (here["d1/file 1"], here["d2/file 2"]) == (b"edited here", b"edited there")
    assert here["empty/moved here"] is not None
    assert here["d2/moved there"] is not None
    assert not {"d1/file 6", "d2/file 7", "d1/file 11", "d2/file 12"} & here.keys()
    assert both.sync().summary["transferred_bytes"] == 0


def test_the_daemon_carries_changes_and_rides_out_a_server_that_was_away(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.fill()
    monkeypatch.setenv("NETRC", str(both.netrc))
    configuration = tmp_path / "onitu.yml"
    configuration.write_text(
        f"state: {both.state}\nservices:\n"
        f"  here: {{driver: local_storage, folders: {{docs: {both.local}}}}}\n"
        f"  cloud:\n    driver: webdav\n    folders: {{docs: docs}}\n"
        f"    options: {{url: '{both.served.options['url']}', poll: 0.2, poll_most: 0.5}}\n"
        "folders: {docs: {}}\n"
    )
    with started(configuration, both.state) as daemon:
        assert both.here() == both.there()
        (both.local / "d0" / "new").write_bytes(b"new here")
        both.served.write(b"d0/theirs", b"new there")
        wait_for(lambda: {"d0/new", "d0/theirs"} <= both.here().keys() & both.there().keys(), why="carried")
        with both.server.ill.having(Fault.DOWN):
            (both.local / "d0" / "meanwhile").write_bytes(b"written while nobody answered")
            wait_for(lambda: "nothing listens at " in json.dumps(daemon.status()), why="told")
        wait_for(lambda: "d0/meanwhile" in both.there(), why="healed")
        daemon.in_sync()
        assert both.here() == both.there()
        assert PASSWORD not in json.dumps(daemon.status()) + daemon.log.read_text()


def test_a_server_that_can_other_things_than_yesterday_is_met_as_what_it_is_in_the_same_run(both: Both) -> None:
    both.fill()
    both.sync()
    (memory,) = both.state.rglob("able-*")
    note = json.loads(memory.read_bytes())
    believed = json.loads(base64.b64decode(note["found"]))
    believed |= {"creates": not believed["creates"], "refuses": not believed["refuses"]}
    note["found"] = base64.b64encode(json.dumps(believed).encode()).decode()
    memory.write_text(json.dumps(note))
    (both.local / "new").write_bytes(b"new here")
    both.served.write(b"theirs", b"new there")
    told = both.sync()
    assert both.here() == both.there()
    assert told.summary["problems"] == []
    assert both.sync().summary["puts"] == 0


def test_a_run_ends_where_reads_are_answered_with_another_page(both: Both) -> None:
    both.sync()
    both.served.write(b"theirs", b"theirs")
    (both.local / "ours").write_bytes(b"ours")
    page = b"<p>Please accept the terms of this network"
    both.server.ill.reads = {"/theirs": answer("200 OK", "Content-Type: text/html", body=page)}
    told = both.sync(code=1)
    assert [problem["path"] for problem in told.summary["problems"]] == ["theirs"]
    assert both.here().keys() == {"ours"}
    assert both.there() == {"ours": b"ours", "theirs": b"theirs"}
    both.server.ill.reads = {}
    both.sync()
    assert both.here() == both.there() == {"ours": b"ours", "theirs": b"theirs"}
