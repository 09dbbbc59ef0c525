"""The words of the driver interface: what a driver and the plug tell each other, as plain data.

They need no Trio, and so whoever only looks can be there before it is loaded (`onitu.plug.glance`). Drivers have them
from `onitu.plug.driver`.
"""

from __future__ import annotations

import enum

import attrs
import msgspec
from msgspec.structs import replace

from onitu.model.events import Trouble
from onitu.model.versions import Kind, Same, Version, same_content


@attrs.frozen
class Capabilities:
    """What a service can do. Probed at start where servers differ; the driver tells the Referee in its `Hello`.

    Attributes:
        compare_and_swap: replacing is atomic and sees what it displaced.
        create_only: creating fails where something stands already.
        moves: a rename costs no transfer.
        directories: empty directories exist.
        links: symbolic links exist.
        modes: permission bits are kept.
        mtimes: modification times are kept, to this many nanoseconds; 0: not at all.
        racy: nanoseconds after a change within which one more may get the same token. A younger file is not read before
            they have passed; 0: every change shows at once.
        watches: changes are pushed; else the service is polled.
        case_sensitive: `A` and `a` are two names.
        digests: the digests that the service knows without a read.
    """

    compare_and_swap: bool = True
    create_only: bool = True
    moves: bool = True
    directories: bool = True
    links: bool = True
    modes: bool = True
    mtimes: int = 1
    racy: int = 20_000_000
    watches: bool = True
    case_sensitive: bool = True
    digests: tuple[str, ...] = ()

    def as_known(self, seen: Version, known: Version) -> Version:
        """A version that was seen, with what the service does not tell of mode and time (no bits, whole seconds only)
        as it is known of the same content; else it would be taken for a change of these, and given to everyone."""
        if seen.kind is not Kind.FILE or same_content(seen, known) is not Same.YES:
            return seen
        step = self.mtimes
        same_time = not step or seen.mtime // step == known.mtime // step
        mode = seen.mode if self.modes and seen.mode else known.mode
        return replace(seen, mode=mode, mtime=known.mtime if same_time else seen.mtime)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One thing in a listing, as `stat` sees it: no content was read.

    `version` has no digest of a file yet (unless the service tells one for free). `trouble` is set for what cannot be
    synchronised (a socket, an unreadable directory…): it is reported, and blocks the deletion of its directory.
    """

    path: bytes
    version: Version
    token: bytes
    trouble: Trouble = Trouble.NONE
    reason: str = ""

    @property
    def kind(self) -> Kind:
        return self.version.kind


class Listing(msgspec.Struct, frozen=True, gc=False):
    """What stands directly in one directory. `complete` is False where it could not be read to its end: then nothing
    may be concluded from what is absent in it. `missing`: the directory itself is not there. `familiar`: what stands in
    it is what the tally says that was given, and only the directories in it are listed."""

    directory: bytes
    entries: tuple[Entry, ...]
    complete: bool = True
    missing: bool = False
    reason: str = ""
    familiar: bool = False


class HintKind(enum.Enum):
    CHANGED = "changed"
    """Something happened at `path`: look at it (and below it, where it is a directory that is `deep`)."""
    MOVED = "moved"
    """What stood at `source` was renamed to `path`, a file or a whole directory."""
    OVERFLOW = "overflow"
    """Changes were missed: scan everything."""
    POLL = "poll"
    """It is time to scan everything: nothing was pushed, and nothing is known to be missed."""
    LOST = "lost"
    """The root went away."""


class Hint(msgspec.Struct, frozen=True, gc=False):
    """A watcher's word: never the truth, only where to look for it.

    Attributes:
        kind: see `HintKind`.
        path: where.
        source: for MOVED.
        deep: whether everything below is to be looked at too (a new directory, say).
        directory: whether the thing is known to be a directory.
        writing: a file that somebody has written to and still holds open; its closing will be told.
    """

    kind: HintKind
    path: bytes = b""
    source: bytes = b""
    deep: bool = False
    directory: bool = False
    writing: bool = False


@attrs.frozen
class Identity:
    """Which replica this is, from its marker. `marker` is empty where there is no marker yet (a new replica).

    `generation`: the generation that the marker confirms; `pending`: one that was begun, and may be in the store.
    """

    marker: str = ""
    generation: int = 0
    pending: int = 0


class Refused(Exception):
    """An operation that was not carried out, with the class of its reason and a sentence for people."""

    def __init__(self, trouble: Trouble, reason: str) -> None:
        super().__init__(reason)
        self.trouble = trouble
        self.reason = reason
