"""The power fails under a replica's disk: what was told of it has to be there, or the store knows more than the disk.

The disk is a file with an ext4 in it. What has not reached that file when all processes of Onitu are dead was only in
the kernel's memory: a copy of the file, mounted, is the disk as it is after the power came back.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from onitu.testing.users import at_work

from .accounts import SEED, held_against
from .harness import started, sync
from .test_crash import alive, family
from .test_faults import CUTS, LONG, go_on, storm, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@attrs.define
class Disk:
    """A disk of its own below `place`."""

    place: Path
    image: Path

    @property
    def root(self) -> Path:
        """A directory on it."""
        return self.place / "B"

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.place)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=True)

    def lose_power(self) -> None:
        """Be as after a power cut at this moment. Nobody may write to it meanwhile."""
        left = self.image.with_suffix(".left")
        shutil.copyfile(self.image, left)
        self.unmount()
        left.rename(self.image)
        self.mount()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk", tmp_path / "image")
    found.place.mkdir()
    with found.image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "root_owner=0:0", str(found.image)], check=True)
    found.mount()
    found.root.mkdir()
    os.sync()
    try:
        yield found
    finally:
        found.unmount()


def configured(tmp_path: Path, *roots: Path) -> Path:
    """A configuration of these replicas of one folder."""
    services = "".join(
        f"  {root.name}: {{driver: local_storage, options: {{durability: full}}, folders: {{docs: {root}}}}}\n"
        for root in roots
    )
    path = tmp_path / "onitu.yaml"
    path.write_text(f"name: power\nstate: {tmp_path}/state\nfolders: {{docs: {{}}}}\nservices:\n{services}")
    return path


def test_what_was_told_of_a_replica_is_there_after_its_power_failed(tmp_path: Path, disk: Disk) -> None:
    chance = random.Random(f"power {SEED}")
    here, there = tmp_path / "A", tmp_path / "C"
    for root in (here, there):
        root.mkdir()
    roots = [here, disk.root, there]
    configuration = configured(tmp_path, *roots)
    crowd = storm([here, there], "power")
    for _ in range(CUTS):
        with started(configuration, tmp_path / "state", settled=False) as daemon:
            with at_work(crowd):
                go_on(crowd, chance.randrange(50, 200))
                children = family(daemon.process.pid)
                daemon.crash()
                wait_for(lambda children=children: not any(alive(pid) for pid in children), why="its children end too")
        disk.lose_power()
        with started(configuration, tmp_path / "state") as daemon:
            daemon.in_sync(LONG)
    held_against(crowd, roots, "power", CUTS)


def test_what_a_user_wrote_is_on_its_disk_before_others_have_it(tmp_path: Path, disk: Disk) -> None:
    other, state = tmp_path / "A", tmp_path / "state"
    other.mkdir()
    sync(disk.root, other, state=state)
    for number in range(100):
        (disk.root / f"d{number % 7}").mkdir(exist_ok=True)
        (disk.root / f"d{number % 7}" / f"f{number}").write_bytes(b"%d " % number * number)
    sync(disk.root, other, state=state)
    disk.lose_power()
    for number in range(100):
        path = Path(f"d{number % 7}", f"f{number}")
        assert (disk.root / path).read_bytes() == (other / path).read_bytes() == b"%d " % number * number


def test_a_link_that_a_user_made_is_on_its_disk_before_others_have_it(tmp_path: Path, disk: Disk) -> None:
    other = tmp_path / "A"
    other.mkdir()
    with started(configured(tmp_path, disk.root, other), tmp_path / "state") as daemon:
        (disk.root / "link").symlink_to("somewhere")
        wait_for(lambda: (other / "link").is_symlink(), why="the link travels")
        children = family(daemon.process.pid)
        daemon.crash()
        wait_for(lambda: not any(alive(pid) for pid in children), why="its children end too")
    disk.lose_power()
    assert os.readlink(disk.root / "link") == "somewhere"
