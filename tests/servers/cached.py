"""A directory that `rclone serve` shows, which believes for a moment what it saw of it last."""

from __future__ import annotations

import time

from onitu.testing.conformance.server import LocalRoot

SECONDS = 0.001
OPTIONS = ("--dir-cache-time", f"{SECONDS * 1000:g}ms")
"""What a test writes on the disk is seen after so long; with 0 rclone spins."""


class CachedRoot(LocalRoot):
    """Each change ends when rclone sees it."""

    def write(self, path: bytes, data: bytes) -> None:
        super().write(path, data)
        time.sleep(2 * SECONDS)

    def delete(self, path: bytes) -> None:
        super().delete(path)
        time.sleep(2 * SECONDS)

    def rename(self, path: bytes, target: bytes) -> None:
        super().rename(path, target)
        time.sleep(2 * SECONDS)

    def make_directory(self, path: bytes) -> None:
        super().make_directory(path)
        time.sleep(2 * SECONDS)
