"""Where replicas and the state live on this host, and whether they get into each other's way.

Paths are compared as the file system does: through links, and by identity (device and inode) of every directory that
exists, so that a second name of one directory, or another case of it, is seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from onitu.model import filters
from onitu.model.settings import Filter
from onitu.model.versions import Kind


class Root(msgspec.Struct, frozen=True):
    """A directory of this host that belongs to a replica, or to the state (then `folder` is empty)."""

    label: str
    path: Path
    folder: str = ""
    service: str = ""
    mode: str = "rw"
    hidden: tuple[Filter, ...] = ()

    def hides(self, inner: Path) -> bool:
        """Whether this replica does not manage `inner`, which lies in it, by its own rules."""
        path = os.fsencode(inner)
        return any(filters.hides_path(filter, path, Kind.DIRECTORY) for filter in self.hidden)


class Overlap(msgspec.Struct, frozen=True):
    """`inner` lies at `path` (relative) in `outer`; they are one directory where that is `.`."""

    inner: Root
    outer: Root
    path: Path

    @property
    def same(self) -> bool:
        return self.path == Path()

    @property
    def sentence(self) -> str:
        """What is wrong with it, seen from `inner`."""
        where = "is the same directory as" if self.same else "lies inside"
        return f"{str(self.inner.path)!r} {where} {self.outer.label} ({str(self.outer.path)!r})"


def overlaps(roots: list[Root]) -> Iterator[Overlap]:
    """Every pair of which one lies in the other, or is the same; then the later one is `inner`."""
    chains = [_chain(root.path) for root in roots]
    for number, inner in enumerate(roots):
        for other, outer in enumerate(roots):
            if number == other:
                continue
            path = _within(chains[number], chains[other])
            if path is not None and (path != Path() or number > other):
                yield Overlap(inner, outer, path)


def real(text: str, base: Path) -> Path:
    """The absolute path, without links, that a person means by `text`, relative to `base`."""
    return Path(os.path.realpath(base / os.path.expanduser(text)))


def state_directory(name: str) -> Path:
    """`$XDG_STATE_HOME/onitu/NAME`, absolute."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # The specification says that a relative value counts for nothing.
    root = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~/.local/state"))
    return Path(os.path.realpath(root / "onitu" / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "onitu")))


def _chain(path: Path) -> list[tuple[object, Path]]:
    """For the path and each directory above it: its identity, and the path from there."""
    real_path = Path(os.path.realpath(path))
    chain: list[tuple[object, Path]] = []
    for directory in [real_path, *real_path.parents]:
        try:
            found = directory.stat()
            identity: object = (found.st_dev, found.st_ino)
        except OSError:
            identity = str(directory)
        chain.append((identity, real_path.relative_to(directory)))
    return chain


def _within(inner: list[tuple[object, Path]], outer: list[tuple[object, Path]]) -> Path | None:
    """The path of the one root in the other; None: it does not lie there."""
    return next((path for identity, path in inner if identity == outer[0][0]), None)
