"""Unison, as a command that is run again and again (its `-repeat watch` needs a program that Debian does not ship)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from .base import Repeated, output_of


class Unison(Repeated):
    """The newer version keeps the name, the other one becomes a copy: `-prefer newer -copyonconflict`."""

    name = "unison"
    temporary = (".unison.*.unison.tmp",)
    options: ClassVar[tuple[str, ...]] = (
        "-batch",
        "-times",
        "-prefer",
        "newer",
        "-copyonconflict",
        "-confirmbigdel=false",
    )
    settings = " ".join(options) + "; run again and again"

    def version(self) -> str:
        return output_of(["unison", "-version"], "unison is not installed: apt-get install unison")

    def command(self) -> Sequence[str | Path]:
        return ["unison", *self.roots, "-ui", "text", *self.options]

    def environment(self) -> Mapping[str, str]:
        return {"UNISON": str(self.home / "archives")}

    def done(self, code: int) -> bool:
        """0: all is done. 1: some were skipped; 2: some failed; 3: it could not run (its manual, "Exit Code")."""
        return code == 0

    def kill(self) -> None:
        """Takes away the lock of the dead run too, as its message asks the user to do."""
        super().kill()
        for lock in (self.home / "archives").glob("lk*"):
            lock.unlink()
            self.helped += 1


class Thorough(Unison):
    """The same, but it reads every file in every run. By default it takes one for unchanged whose length and time are
    as they were (its manual, "Fast Update Detection"), and users here write more than once in a second.
    """

    name = "unison-thorough"
    options = (*Unison.options, "-fastcheck", "false")
    settings = " ".join(options) + "; run again and again"
