"""A local folder and one on a real sshd, kept the same by the whole of Onitu; and a server that is not OpenSSH."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.sftp import Sshd, sshd

from .harness import assert_same, onitu, snapshot, started, wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


def configured(server: Sshd, here: Path, there: Path, state: Path) -> Path:
    options = {**server.options(), "poll": 0.2, "poll_most": 0.5}
    path = state.parent / "onitu.yaml"
    services = {
        "laptop": {"driver": "local", "folders": {"docs": str(here)}},
        "nas": {"driver": "sftp", "options": options, "folders": {"docs": str(there)}},
    }
    path.write_text(json.dumps({"state": str(state), "folders": {"docs": {}}, "services": services}))
    return path


def whole_seconds(path: Path) -> None:
    """A time that SFTP can hold."""
    os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_000_000_000))


def write(root: Path, name: str, data: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    whole_seconds(path)


def test_fifty_files_edits_moves_and_deletions_travel_both_ways_and_then_nothing_moves(
    server: Sshd, tmp_path: Path, state: Path
) -> None:
    here, there = tmp_path / "here", server.root / "docs"
    for root, side in ((here, "here"), (there, "there")):
        root.mkdir()
        for number in range(25):
            write(root, f"{side}/{number % 3}/{number} é.txt", f"{side} {number}\n".encode() * number * 50)
    os.symlink("0/0 é.txt", here / "here" / "link")
    configuration = configured(server, here, there, state)
    with started(configuration, state) as daemon:
        assert len([1 for kind, *_ in assert_same(here, there, meta=False).values() if kind == "file"]) == 50
        for root, other, side in ((here, there, "here"), (there, here, "there")):
            write(root, f"{side}/1/1 é.txt", b"edited on " + side.encode())
            (root / side / "2" / "2 é.txt").unlink()
            os.rename(root / side / "0" / "3 é.txt", root / side / "moved")
            wait_for(lambda other=other, side=side: (other / side / "moved").exists(), why="the move arrives")
            wait_for(lambda other=other, side=side: not (other / side / "2" / "2 é.txt").exists(), why="the deletion")
            wait_for(
                lambda other=other, side=side: (other / side / "1" / "1 é.txt").read_bytes()[:6] == b"edited",
                why="the edit arrives",
            )
            daemon.in_sync()
        assert_same(here, there, meta=False)
    before = snapshot(here), snapshot(there)
    with started(configuration, state) as daemon:
        status = json.dumps(daemon.status())
        assert '"transferred_bytes": 0' in status or "transferred_bytes" not in status
        log = onitu("status", "-c", configuration)
        assert log.code == 0
    assert (snapshot(here), snapshot(there)) == before


def test_files_of_the_last_second_are_read_once_more_and_keep_their_times_and_modes(
    server: Sshd, tmp_path: Path, state: Path
) -> None:
    """SFTP tells whole seconds: one more change could leave such a file as it looks now."""
    here, there = tmp_path / "here", server.root / "young"
    here.mkdir()
    there.mkdir()
    config = tmp_path / "config"
    config.write_text(f"Host *\n  IdentityFile {server.home}/key\n  UserKnownHostsFile {server.home}/known\n")
    url = f"sftp://127.0.0.1:{server.port}{there}?config={config}"
    now = time.time_ns()
    for number in range(50):  # whenever they arrive, some are young
        path = here / f"{number}"
        path.write_bytes(b"%d" % number)
        path.chmod(0o640)
        os.utime(path, ns=(now, now + number * 123_456_789))
    assert onitu("sync", here, url, "--state", state).code == 0
    before = snapshot(here)
    again = onitu("sync", here, url, "--state", state, "--json")
    assert "nothing to do" in again.err, again.err + again.out
    assert snapshot(here) == before


def test_onitu_sync_takes_the_url_of_a_replica(server: Sshd, tmp_path: Path, state: Path) -> None:
    here, there, config = tmp_path / "here", server.root / "by url", tmp_path / "config"
    here.mkdir()
    there.mkdir()
    write(here, "file", b"from here")
    write(there, "other", b"from there")
    config.write_text(f"Host *\n  IdentityFile {server.home}/key\n  UserKnownHostsFile {server.home}/known\n")
    url = f"ssh://127.0.0.1:{server.port}{there}?config={config}".replace(" ", "%20")
    for _ in range(2):
        done = onitu("sync", here, url, "--state", state, "--json")
        assert done.code == 0, done.err + done.out
        assert_same(here, there)


def test_files_become_directories_and_deep_trees_go_in_one_run(server: Sshd, tmp_path: Path, state: Path) -> None:
    """Nothing is tried in vain: what stands in the way goes first, and a directory last."""
    here, there, config = tmp_path / "here", server.root / "trees", tmp_path / "config"
    config.write_text(f"Host *\n  IdentityFile {server.home}/key\n  UserKnownHostsFile {server.home}/known\n")
    url = f"sftp://127.0.0.1:{server.port}{there}?config={config}"
    deep = here.joinpath("goes", *"abcdefgh")
    for number in range(30):
        write(here, f"stays/{number}", b"%d" % number)
    for directory in (deep, *deep.parents[:8]):
        write(directory, "file", b"below")
    for name in ("becomes one", "becomes another"):
        (here / name).write_bytes(b"a file of this second")
    there.mkdir()
    assert onitu("sync", here, url, "--state", state).code == 0

    shutil.rmtree(here / "goes")
    os.rename(here / "becomes one", here / "went away")
    (here / "becomes another").unlink()
    for name in ("becomes one", "becomes another"):
        write(here, f"{name}/with/others/in it/file", b"new")
        (here / name / "empty" / "one").mkdir(parents=True)
    run = onitu("sync", here, url, "--state", state, "--json")
    assert run.code == 0, run.err + run.out
    assert_same(here, there, meta=False)
    decisions = [line for line in map(json.loads, run.out.splitlines()) if line["type"] == "decision"]
    assert not [line for line in decisions if line["case"] == "failed"]


def test_the_first_connection_of_a_run_is_made_before_its_driver_is_there(
    server: Sshd, tmp_path: Path, state: Path
) -> None:
    """Of a whole run and of a glance: no more than one is made, and by a process that is no child of the driver's."""
    here, there, config = tmp_path / "here", server.root / "ahead", tmp_path / "config"
    here.mkdir()
    there.mkdir()
    write(here, "file", b"from here")
    config.write_text(f"Host *\n  IdentityFile {server.home}/key\n  UserKnownHostsFile {server.home}/known\n")
    made = tmp_path / "made"
    place = tmp_path / "bin"
    place.mkdir()
    wrapper = place / "ssh"
    ssh = shutil.which("ssh")
    parent = "$(cat /proc/$PPID/comm)"
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = -G ] || echo "{parent}" >> {made}\nexec {ssh} "$@"\n')
    wrapper.chmod(0o755)
    url = f"sftp://127.0.0.1:{server.port}{there}?config={config}"
    path = f"{place}:{os.environ['PATH']}"
    for told in ("1 file", "nothing to do"):
        run = onitu("sync", here, url, "--state", state, PATH=path)
        assert (run.code, told in run.err) == (0, True), run.err
        (parent_of_ssh,) = made.read_text().splitlines()
        assert "onitu-driver" not in parent_of_ssh
        assert "onitu-glance" not in parent_of_ssh
        made.unlink()
    assert_same(here, there)
