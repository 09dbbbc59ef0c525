"""What one user does to whole directories, in bursts, beside three services in the network that are only polled.

As in `test_bursts`, what must stand everywhere in the end is what stands on the user's disk, and nothing else: no copy,
no directory that comes back. Orders are many times slower here than the user, so most of them come too late.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import botocore.exceptions
import pytest

from .harness import started, wait_for
from .mixed import Four, four_services
from .test_bursts import User

BYSTANDERS = 600
"""Files that nobody touches, so that whatever the user removes is less than half of the folder."""
ACTIONS = 40
LONG = 180.0


@pytest.mark.parametrize("seed", [2, 308])
def test_what_one_user_does_to_whole_directories_stands_on_a_disk_an_sshd_a_bucket_and_a_webdav_server(
    tmp_path: Path, seed: int
) -> None:
    with four_services(tmp_path) as four:
        (four.here / "work").mkdir()
        for number in range(BYSTANDERS):
            (four.here / f"bystander {number}").write_text(f"{number}")
        user = User(four.here / "work", seed)
        with started(four.configuration, four.state) as daemon:
            daemon.in_sync(LONG)
            for _ in range(ACTIONS):
                user.act()
            expected = contents(four.here)
            wait_for(lambda: same(four, expected), LONG, "equal trees")
            daemon.in_sync(LONG)
            assert same(four, expected)


def same(four: Four, expected: Mapping[str, bytes | None]) -> bool:
    """Whether that, and nothing else, stands on all of them; the bucket is asked last."""
    if not all(contents(root) == expected for root in (four.here, four.nas, four.dav)):
        return False
    try:
        return {os.fsdecode(path): data for path, data in four.cloud.tree().items()} == expected
    except botocore.exceptions.ClientError:  # something went while it was read
        return False


def contents(root: Path) -> dict[str, bytes | None]:
    """What a user sees: the directories, and the files with their contents."""
    found: dict[str, bytes | None] = {}
    for where, directories, files in os.walk(root):
        if Path(where) == root and ".onitu" in directories:
            directories.remove(".onitu")
        inside = os.path.relpath(where, root)
        found |= {os.path.normpath(f"{inside}/{name}"): None for name in directories}
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                found[os.path.normpath(f"{inside}/{name}")] = Path(where, name).read_bytes()
    return found
