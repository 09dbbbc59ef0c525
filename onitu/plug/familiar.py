"""What is familiar: directories in which, at the last look, everything stood as the Referee knew it.

For each of them its tally is kept (`onitu.model.tally`), over the driver's lives. A first scan then only counts what
stands in such a directory: where it comes to the same tally nobody has to ask the Referee for its rows, nor to compare
them. What is kept here is believed by nobody: a scan that relied on it adds up the tallies that it took on trust and
the rows that it asked for, and where the sum is not the Referee's own tally, all is scanned once more the long way.

The file stands in the state directory, and is written at the end of a life. It may be old, lost, or of another time.
It is bound to the eyes with which was looked: under other filters, or another Onitu's, something else is hidden.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from onitu.model import paths
from onitu.model.nodes import Holding
from onitu.model.tally import Tally, thing
from onitu.model.versions import Kind
from onitu.wire.messages import Known

from .driver import Entry
from .sheet import Sheet

MOST = 50_000
"""Directories that are kept at most: about 250 bytes each."""


class Familiar:
    """One replica's."""

    def __init__(self, sheet: Sheet | None = None, eyes: bytes = b"") -> None:
        """`sheet`: what it is kept on; None: nothing is kept. `eyes`: what decides how a directory is seen; what was
        seen with others is not recalled."""
        self._sheet = sheet
        self._eyes = eyes
        self._tallies: dict[bytes, bytes] = {}
        self._met: dict[bytes, bytes] = {}
        self._directories = 0

    @property
    def kept(self) -> bool:
        """Whether anything is kept at all, so that it is worth while to count."""
        return self._sheet is not None

    def recall(self) -> bool:
        """Take what an earlier life has kept; whether there is any. It can be recalled once."""
        if self._sheet is not None:
            with contextlib.suppress(msgspec.MsgspecError):
                kept = msgspec.msgpack.decode(self._sheet.read(), type=tuple[bytes, dict[bytes, bytes]])
                self._tallies = kept[1] if kept[0] == self._eyes else {}
            self._sheet.discard()  # of what changes from now on it would be wrong
        return bool(self._tallies)

    def tallies(self, directories: Iterable[bytes]) -> dict[bytes, bytes]:
        """The tallies of those of the directories that are familiar."""
        return {path: self._tallies[path] for path in directories if path in self._tallies}

    def meet(self, directory: bytes, tally: bytes) -> None:
        """Everything that stands in a directory was just seen to be as it is known."""
        if self.kept and len(self._met) < MOST:
            self._met[directory] = tally

    def forget(self, path: bytes) -> None:
        """Something was told of a path, and so of the directory that it is in."""
        if self._met:
            self._met.pop(paths.parent(path), None)

    def distrust(self) -> None:
        """What was taken on trust was wrong, or not all of what is known was met: nothing is kept for the next life, or
        every one might have to scan twice."""
        self._tallies.clear()
        self._met.clear()
        self._sheet = None

    def looked(self, directories: int) -> None:
        """A scan of so many directories is over: what an earlier life has kept is of no more use."""
        self._tallies.clear()
        self._directories = directories

    def keep(self) -> None:
        """Keep what is familiar for the next life, where that is half of all: with less there would be more to add up
        than to spare. Where it cannot be kept, the next life scans the long way."""
        if self._sheet is not None and len(self._met) * 2 >= max(1, self._directories):
            with contextlib.suppress(OSError):
                self._sheet.replace(msgspec.msgpack.encode((self._eyes, self._met)))
            self._sheet.close()


class Proof:
    """The sum of what a scan took on trust and of what the Referee told it.

    It is the Referee's own tally only where both are right together: each thing is hashed with its whole path, so no
    mistake in one place makes up for one in another.
    """

    def __init__(self) -> None:
        self._sum = Tally()

    def trust(self, tally: bytes) -> None:
        """A directory stands as this tally says, and is taken to be known so."""
        found = Tally.read(tally)
        if found is not None:
            self._sum.include(found)

    def told(self, rows: Iterable[Known]) -> None:
        """The Referee knows these rows."""
        things: list[bytes] = []
        below: list[tuple[bytes, bytes, int]] = []
        for row in rows:
            if row.hidden or row.gone:
                held = Holding(row.version, row.token, hidden=row.hidden, gone=row.gone, unread=row.unread)
                self._sum.know(row.path, held)
            elif row.version.kind is Kind.DIRECTORY:
                below.append((row.path, row.token, row.version.mode))
            else:
                things.append(thing(row.path, row.version.kind, row.token))
        self._sum.see_all(things, below)

    def __bytes__(self) -> bytes:
        """The tally of all that was added up."""
        return bytes(self._sum)


def tally_of(entries: Iterable[Entry]) -> bytes:
    """The tally of what stands directly in a directory."""
    things: list[bytes] = []
    below: list[tuple[bytes, bytes, int]] = []
    for entry in entries:
        if entry.kind is Kind.DIRECTORY:
            below.append((entry.path, entry.token, entry.version.mode))
        else:
            things.append(thing(entry.path, entry.kind, entry.token))
    found = Tally()
    found.see_all(things, below)
    return bytes(found)
