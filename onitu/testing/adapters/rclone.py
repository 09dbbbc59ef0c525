"""`rclone bisync`, as a command that is run again and again: it has no other way to watch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import Repeated, output_of

NEEDS_RESYNC = 7
"""Exit code of a bisync that refuses to run again before a `--resync` (its manual, "Exit codes")."""


class Rclone(Repeated):
    """The newer version keeps the name, the other one becomes `NAME.conflictN`.

    The first run is a `--resync --resync-mode newer`. Where it refuses to go on without one later, it gets another: its
    message asks for it.
    """

    name = "rclone"
    temporary = ("*.partial",)
    settings = (
        "bisync --resilient --recover --conflict-resolve newer --conflict-loser num --create-empty-src-dirs --force; "
        "--resync where it asks for one; run again and again"
    )

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.resync = True  # the first run has to be one

    def version(self) -> str:
        return output_of(["rclone", "version"], "rclone is not installed: apt-get install rclone")

    def prepare(self, roots: Sequence[Path]) -> None:
        super().prepare(roots)
        (self.home / "rclone.conf").touch()

    def command(self) -> Sequence[str | Path]:
        return [
            *("rclone", "bisync", *self.roots, "--color", "NEVER", "--config", "rclone.conf", "--workdir", "work"),
            *("--resilient", "--recover", "--force", "--create-empty-src-dirs"),
            *("--conflict-resolve", "newer", "--conflict-loser", "num"),
            *(("--resync", "--resync-mode", "newer") if self.resync else ()),
        ]

    def done(self, code: int) -> bool:
        if code == NEEDS_RESYNC and not self.resync:
            self.helped += 1
        self.resync = code == NEEDS_RESYNC or (self.resync and code != 0)
        return code == 0

    def kill(self) -> None:
        """Takes away the lock of the dead run too, as its message asks the user to do."""
        super().kill()
        for lock in (self.home / "work").glob("*.lck"):
            lock.unlink()
            self.helped += 1
