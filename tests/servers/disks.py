"""Disks that can be full or read-only, and programs that may not go everywhere. All of it needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

WITHOUT_RIGHTS = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
)
"""A prefix for a command that runs as root, but may not go where the mode forbids it."""


@contextlib.contextmanager
def mounted(what: str, place: Path, *options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, what, str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def memory_disk(place: Path, size: str) -> contextlib.AbstractContextManager[Path]:
    """A tmpfs of a size."""
    return mounted("onitu-test", place, "-t", "tmpfs", "-o", f"size={size},mode=755")


def remount(place: Path, options: str) -> bool:
    done = subprocess.run(["mount", "-o", f"remount,{options}", str(place)], capture_output=True, check=False)
    return done.returncode == 0


@contextlib.contextmanager
def without_space(place: Path, left: int, size: str) -> Iterator[None]:
    """A tmpfs that holds `left` bytes more, or a page less, for the block; then it has its `size` again."""
    found = os.statvfs(place)
    used = (found.f_blocks - found.f_bfree) * found.f_bsize
    assert remount(place, f"size={used + left}")
    try:
        yield
    finally:
        assert remount(place, f"size={size}")
