"""From findings to events: what was seen is paired into moves, read where its content is not known, confirmed, told.

The order of the events makes each true when the Referee comes to it: directories before what is in them, moves before
the deletions that they would look like, what is in a directory before its deletion, and what now stands in a
directory's place after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec
import trio

from onitu.model import paths
from onitu.model.events import Event, Seen, Trouble
from onitu.model.outside import REAL
from onitu.model.versions import Kind, Same, Version, same_content
from onitu.wire.messages import Known

from .driver import Entry
from .floor import Floor, Move

T = TypeVar("T")

PORTION_FILES = 256
"""Files that are read, or paths that are confirmed, at a time."""
PORTION_BYTES = 8 << 20
"""Bytes that are read at a time; a larger file is read alone."""

TRIES = 10.0
"""Reads that a file may spoil by changing meanwhile; `PORTION_BYTES` of it count as one more, up to as many again."""
PATIENCE = 5.0
"""Seconds in which it may, however often: what is written for so long has not come to rest."""
SPOILED = 10_000
"""Files whose spoiled reads are counted."""
RESTLESS = "it changes whenever it is read; it follows once it rests"

COARSE = 2_000_000_000
"""Nanoseconds of the coarsest clock that a file system has (FAT's)."""


class Findings(msgspec.Struct):
    """What a look brought that is to be told.

    Attributes:
        since: the outbox's position when the look began.
        stands: new or changed things.
        replacing: things that stand where a directory was known.
        missing: paths where something was known, or may have been, and nothing was seen; with its row, if there is one.
        hidden: what is to be forgotten.
        vanished: rows whose paths are looked at for themselves; here only for what of them has moved.
        known: what the Referee knows of files in `stands`, as far as it was asked.
    """

    since: int = 0
    stands: list[Entry] = msgspec.field(default_factory=list)
    replacing: list[Entry] = msgspec.field(default_factory=list)
    missing: dict[bytes, Known | None] = msgspec.field(default_factory=dict)
    hidden: list[Event] = msgspec.field(default_factory=list)
    vanished: Sequence[Known] = ()
    known: dict[bytes, Version] = msgspec.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stands) + len(self.replacing) + len(self.missing) + len(self.hidden)

    def miss(self, floor: Floor, rows: Iterable[Known]) -> None:
        """Known rows that are to be looked for; not those that a rule hides, whose absence says nothing."""
        for row in rows:
            if row.excluded or row.gone:
                continue
            reason = floor.hides(row.path, row.version)
            if reason is None:
                self.missing[row.path] = row
            else:
                self.hide(row.path, reason)

    def hide(self, path: bytes, reason: str, trouble: Trouble = Trouble.NONE) -> None:
        self.hidden.append(Event(Seen.HIDDEN, path, trouble=trouble, reason=reason))


class Reporter:
    """Tells findings of one replica."""

    def __init__(self, floor: Floor, doubt: Callable[[bytes], None], clock: Callable[[], int] = REAL.clock) -> None:
        """`doubt` is called with each path that is not any more as it was seen; `clock` is the wall clock."""
        self._floor = floor
        self.doubt = doubt
        self._clock = clock
        self._capabilities = floor.driver.capabilities(floor.folder)
        self._spoiled: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        """When a file's reads began to fail because it changed meanwhile, and what they count for together."""

    def has_new(self, findings: Findings) -> bool:
        """Whether there is a file among the findings that came from none of the paths where something is missing."""
        return any(entry.kind is Kind.FILE for entry in self._pair(findings)[1])

    async def report(self, findings: Findings) -> None:
        """Tell everything in the findings that is still true. Raises `Unavailable`."""
        moves, stands = self._pair(findings)
        moves, edited = await self._proven(moves)
        stands += edited
        moved = {move.row.path for move in moves}
        missing = [path for path in findings.missing if path not in moved]
        directories = [entry for entry in stands if entry.kind is Kind.DIRECTORY]
        await self._stand(sorted(directories, key=lambda entry: entry.path), findings)
        untold: set[bytes] = set()
        for portion in _split(moves):
            for move in await self._floor.tell_moved(portion):
                self.doubt(move.row.path)
                self.doubt(move.entry.path)
                untold.update(paths.ancestors(move.row.path))
        await self._read_and_stand([entry for entry in stands if entry.kind is not Kind.DIRECTORY], findings)
        await self._floor.tell(findings.hidden)
        for path in sorted(untold.intersection(missing)):
            self.doubt(path)  # to whom it is told, something would still be in it
        for gone in _split(sorted(set(missing) - untold, reverse=True)):
            for path in await self._floor.tell_gone(gone):
                self.doubt(path)
        await self._read_and_stand(findings.replacing, findings)

    def _pair(self, findings: Findings) -> tuple[list[Move], list[Entry]]:
        """What seems to have moved, and what stands besides."""
        floor = self._floor
        lost: dict[bytes, Known] = {}
        for row in (*findings.missing.values(), *findings.vanished):
            if row is None or row.hidden or row.gone or row.version.kind is not Kind.FILE:
                continue
            if token := floor.driver.identity_of(row.token):
                lost.setdefault(token, row)
        moves: list[Move] = []
        rest: list[Entry] = []
        for entry in findings.stands:
            token = floor.driver.identity_of(entry.token) if lost and entry.kind is Kind.FILE else None
            row = lost.get(token) if token is not None else None
            if row is not None and token is not None and floor.same_thing(row, entry):
                del lost[token]
                moves.append(Move(row, entry, entry.token))
            else:
                rest.append(entry)
        return moves, rest

    async def _proven(self, moves: Sequence[Move]) -> tuple[list[Move], list[Entry]]:
        """The moves of what has the content that it had; and what was edited too, which is no move.

        What is below a renamed directory has its whole token still. Of a file that was renamed itself, what its token
        kept (inode, size and mtime) is as it was even where a program wrote it before and gave the old time back: so it
        is read, though not sent. Where it cannot be read, that has to do.
        """
        proven = [move for move in moves if move.entry.token == move.row.token]
        edited: list[Entry] = []
        renamed = {move.entry.path: move for move in moves if move.entry.token != move.row.token}
        for portion in portions([move.entry for move in renamed.values()]):
            read = await self._floor.driver.fingerprint(self._floor.folder, portion)
            for entry, seen in zip(portion, read, strict=True):
                move = renamed[entry.path]
                if seen is None or seen.trouble:
                    proven.append(move)  # it changes just now, which shows once more before it is told
                elif same_content(seen.version, move.row.version) is Same.NO:
                    edited.append(entry)
                else:
                    proven.append(msgspec.structs.replace(move, token=seen.token))
        return proven, edited

    async def _stand(self, entries: Sequence[Entry], findings: Findings) -> None:
        for portion in _split(entries):
            for path in await self._floor.tell_standing(portion, findings.since, known=findings.known):
                self.doubt(path)

    async def _read_and_stand(self, entries: Sequence[Entry], findings: Findings) -> None:
        """Read files whose digests nobody knows yet, portion by portion, and tell them."""
        await self._stand([entry for entry in entries if not _to_read(entry)], findings)
        for portion in portions([entry for entry in entries if _to_read(entry)]):
            await self._let_time_pass(portion)
            read = await self._floor.driver.fingerprint(self._floor.folder, portion)
            whole: list[Entry] = []
            tokens: list[bytes] = []
            spoiled: list[bytes] = []
            unreadable: list[Event] = []
            for entry, seen in zip(portion, read, strict=True):
                if seen is None:
                    spoiled.append(entry.path)
                elif seen.trouble:
                    unreadable.append(Event(Seen.HIDDEN, entry.path, trouble=seen.trouble, reason=seen.reason))
                else:
                    whole.append(seen)
                    tokens.append(entry.token)
            spoiled += await self._floor.tell_standing(whole, findings.since, tokens, findings.known)
            changed = {entry.path: entry for entry in portion if entry.path in spoiled}
            for entry in whole:
                if entry.path not in changed:
                    self._spoiled.pop(entry.path, None)
            for path, entry in changed.items():
                if self._is_restless(entry):
                    unreadable.append(Event(Seen.HIDDEN, path, trouble=Trouble.IO, reason=RESTLESS))
                else:
                    self.doubt(path)
            await self._floor.tell([event for event in unreadable if not self._floor.told.is_hidden(event.path)])

    def _is_restless(self, entry: Entry) -> bool:
        """Whether a file that changed while it was read has done so too often, and for too long, to be waited for."""
        now = trio.current_time()
        since, count = self._spoiled.pop(entry.path, (now, 0.0))
        count += 1 + min(TRIES, entry.version.size / PORTION_BYTES)
        self._spoiled[entry.path] = since, count
        if len(self._spoiled) > SPOILED:
            self._spoiled.popitem(last=False)
        return count >= TRIES and now - since >= PATIENCE

    async def _let_time_pass(self, entries: Sequence[Entry]) -> None:
        """Wait until a change after the read would get another time than the one that the files have now.

        This is what a small change waits longest for where it waits: on Linux 6.13 and later nothing (there a stamp
        that somebody has looked at is never given twice), before that two ticks of the kernel's clock, 20 ms.
        """
        if not self._capabilities.mtimes or not self._capabilities.racy:
            return
        racy = max(self._capabilities.racy, min(self._capabilities.mtimes, COARSE))
        now = self._clock()
        ages = [now - entry.version.mtime for entry in entries]
        youngest = min((age for age in ages if age >= 0), default=racy)
        if youngest < racy:
            await trio.sleep((racy - youngest) / 1e9)


def _to_read(entry: Entry) -> bool:
    """Whether it is told only after a fingerprint: a file whose digest is not known, and a link, of which there is
    nothing to read, but which a driver has on its disk by then."""
    return entry.kind is Kind.LINK or (entry.kind is Kind.FILE and not entry.version.digests)


def _split(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), PORTION_FILES):
        yield items[start : start + PORTION_FILES]


def portions(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Files to be read at a time."""
    portion: list[Entry] = []
    size = 0
    for entry in entries:
        if portion and (len(portion) == PORTION_FILES or size + entry.version.size > PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += entry.version.size
    if portion:
        yield portion
