"""The list of deliberate bugs (`bugs.toml`), and how one of them gets into a copy of the code.

A bug is an exact replacement of text, not a patch with line numbers: it still applies when the code around it moves,
and where its own lines change, somebody has to say anew what would be wrong there.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import attrs

HERE = Path(__file__).parent
TOP = HERE.parents[1]


class Stale(Exception):
    """A bug's text is not, or not exactly once, in its file any more."""


@attrs.frozen
class Bug:
    """One deliberate bug.

    Attributes:
        name: what was done to the code.
        breaks: one sentence: what a user would see.
        promises: of S1–S6, those that it breaks.
        file: relative to the repository.
        old: what stands in the file, exactly once.
        new: what stands there with the bug.
        tests: the narrowest set of tests that should see it, as arguments of pytest.
    """

    name: str
    breaks: str
    promises: tuple[str, ...] = attrs.field(converter=tuple)
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = attrs.field(converter=tuple)

    def put_into(self, tree: Path) -> None:
        """Make a tree buggy. Raises `Stale`."""
        file = tree / self.file
        text = file.read_text() if file.exists() else ""
        if text.count(self.old) != 1:
            raise Stale(f"its text stands {text.count(self.old)} times in {self.file}, not once")
        file.write_text(text.replace(self.old, self.new))


def catalogue() -> list[Bug]:
    """All bugs, in the order in which data goes through the code."""
    return [Bug(**entry) for entry in tomllib.loads((HERE / "bugs.toml").read_text())["bug"]]
