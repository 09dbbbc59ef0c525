"""A directory of this host and remotes of rclone in one folder, by the real daemon."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.rclone import binary, cloud

from .harness import onitu, started, wait_for

FILES = 50


def tree(root: Path) -> dict[str, bytes]:
    """The content of every file, by path; a file that goes meanwhile is none."""
    found: dict[str, bytes] = {}
    for directory, inner, names in os.walk(root):
        if ".onitu" in inner:
            inner.remove(".onitu")
        for name in names:
            path = Path(directory) / name
            try:
                found[str(path.relative_to(root))] = path.read_bytes()
            except FileNotFoundError:
                continue
    return found


def fill(root: Path) -> None:
    for number in range(FILES):
        path = root / f"d{number % 5}" / f"file {number} é"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 4000))


def test_edits_deletions_and_moves_are_carried_each_way(tmp_path: Path) -> None:
    here = cloud(tmp_path, "disk")
    local, state = tmp_path / "local", tmp_path / "state"
    local.mkdir()
    fill(local)
    configuration = tmp_path / "onitu.yml"
    configuration.write_text(
        f"""
name: clouds
state: {state}
folders:
  docs: {{}}
services:
  laptop:
    driver: local
    folders:
      docs: {local}
  cloud:
    driver: rclone
    options: {{remote: disk, config: {here.config}, program: {binary()}, poll: 0.3, poll_most: 0.5}}
    folders:
      docs: {here.files}
"""
    )
    with started(configuration, state) as daemon:
        assert len(tree(here.files)) == FILES
        assert tree(local) == tree(here.files)
        for near, far, name in ((local, here.files, "1"), (here.files, local, "2")):
            (near / "d0" / "file 0 é").write_bytes(b"edited " + name.encode())
            wait_for(lambda n=near, f=far: tree(f) == tree(n), why="an edit")
            (near / "d1" / "file 1 é").unlink(missing_ok=True)
            (near / "d2" / "file 2 é").unlink(missing_ok=True)
            wait_for(lambda n=near, f=far: tree(f) == tree(n), why="a deletion")
            (near / "d3").rename(near / f"moved by {name}")
            wait_for(lambda n=near, f=far: tree(f) == tree(n) and not (f / "d3").exists(), why="a move")
            (near / f"moved by {name}").rename(near / "d3")
            wait_for(lambda n=near, f=far: tree(f) == tree(n) and (f / "d3").exists(), why="a move back")
        daemon.in_sync()
    assert len(tree(local)) == FILES - 2
    assert not (here.files / ".onitu" / "tmp").exists() or not os.listdir(here.files / ".onitu" / "tmp")


def test_a_second_sync_with_a_url_moves_nothing(tmp_path: Path) -> None:
    here = cloud(tmp_path, "disk")
    local, state = tmp_path / "local", tmp_path / "state"
    local.mkdir()
    fill(local)
    environment = {"RCLONE_CONFIG": str(here.config)}
    arguments = ("sync", local, f"rclone:disk:{here.files}", "--state", state, "--json")
    first = onitu(*arguments, **environment)
    assert first.code == 0, first.err + first.out
    assert tree(local) == tree(here.files)
    again = onitu(*arguments, **environment)
    assert again.code == 0, again.err + again.out
    told = again.summary
    assert [told[what] for what in ("transferred_bytes", "puts", "deletes", "moves", "metas")] == [0] * 5, told
