"""The README's first command, but for the installation: in a checkout of its own, which finds Onitu installed."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .harness import DEADLINE, wait_for

SCRIPTS = Path(__file__).parents[2] / "scripts"


def checkout(place: Path) -> Path:
    """What `scripts/demo` needs of a checkout. Its `scripts/setup` takes the environment of this test for its own."""
    (place / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPTS / "demo", place / "scripts")
    setup = place / "scripts" / "setup"
    setup.write_text(f"#!/bin/sh\nln -sfn {shlex.quote(sys.prefix)} .venv\n")
    setup.chmod(0o755)
    return place


@contextlib.contextmanager
def demo(place: Path) -> Iterator[Path]:
    """Run it for the block, and end it as people do; the directory with the two folders."""
    process = subprocess.Popen([place / "scripts" / "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield place / "demo"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 130, out + err
        assert "the next run goes on from here" in err
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def carried(source: Path, target: Path, text: str) -> None:
    """Write a file, and wait until it stands at its other place."""
    source.write_text(text)
    wait_for(lambda: target.exists() and target.read_text() == text, why=f"{target} arrives")


def test_the_demo_keeps_two_folders_the_same_until_it_is_interrupted(tmp_path: Path) -> None:
    place = checkout(tmp_path / "checkout")
    with demo(place) as folders:
        wait_for((folders / "there" / "hello.txt").exists, why="the first file arrives")
        carried(folders / "there" / "new.txt", folders / "here" / "new.txt", "hi\n")
    with demo(place) as folders:
        carried(folders / "here" / "hello.txt", folders / "there" / "hello.txt", "changed\n")
        assert (folders / "here" / "new.txt").read_text() == "hi\n"


def test_a_checkout_in_the_place_of_a_deleted_one_begins_anew(tmp_path: Path) -> None:
    place = checkout(tmp_path / "checkout")
    with demo(place) as folders:
        wait_for((folders / "there" / "hello.txt").exists, why="the first file arrives")
    shutil.rmtree(place)
    with demo(checkout(place)) as folders:
        wait_for((folders / "there" / "hello.txt").exists, why="the first file arrives again")
