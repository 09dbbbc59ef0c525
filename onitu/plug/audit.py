"""The audit: everything that stands in a replica is read and compared with what is known of it.

A scan trusts tokens; an audit trusts nothing but content, so it finds what no token tells: a disk that rots, a change
that was missed. It changes nothing and concludes nothing. Promises:

- a file or link that is known, not hidden, and not held back is compared in presence, kind, content, mode and time, as
  far as the service keeps them; what is not managed here may stand here as it likes;
- what differs is looked at once more after everything that was seen has been told, so that a user's edit in between is
  no disagreement;
- reports are small, and wait until the one before was sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import logbook
import trio

from onitu.model import paths
from onitu.model.errors import ProtocolError, Unavailable
from onitu.model.versions import Kind, Same, Version, same_content
from onitu.wire.messages import Audited, Disagreement, Known

from .bell import Bell
from .driver import Capabilities, Entry
from .floor import DIRECTORIES, Floor
from .report import portions

FOUND = 256
"""Disagreements in one report, and paths that are looked at once more together."""
EVERY = 1.0
"""Seconds between two reports while nothing is found."""
LARGE = 64 << 20
"""Bytes before whose reading it is said that it will take a while."""
SETTLING = 10.0
"""Seconds that are waited for everything that was seen to be told, before something is looked at once more."""
WAITING = 4
"""Reports that wait to be sent."""

log = logbook.Logger("plug")

MISSING = "it is missing here"
MISSING_DIRECTORY = "it is missing here, with all that was known in it"
UNKNOWN = "it stands here, but nobody knows of it"
DAMAGED = "its content is not the known one, although its size and times are: is the disk failing?"
DIFFERENT = "its content is not the known one"
RESTLESS = "it changed while it was read"


class Auditor:
    """One replica's. `run` it while the replica can be used; the rest may be called at any time."""

    def __init__(self, floor: Floor, readable: bool, looking: Callable[[], int], wake: Callable[[], None]) -> None:
        """`readable`: whether what stands here is managed at all. `looking`: how much was seen and not yet told. `wake`
        is called when there is a report to take."""
        self._floor = floor
        self._readable = readable
        self._looking = looking
        self._wake = wake
        self._wanted = 0
        self._running = False
        self._scope = trio.CancelScope()
        self._asked = Bell()
        self._taken = Bell()
        self._reports: deque[Audited] = deque()

    def ask(self, number: int) -> None:
        """Begin the audit of this number; 0: none. The one before ends without another word."""
        self._wanted = number
        self._reports.clear()
        self._scope.cancel()
        if number and not self._running:
            self._tell(Audited(self._floor.folder, number, done=True, trouble="the replica cannot be used now"))
        self._asked.ring()

    def take(self) -> Audited | None:
        """The next report to send."""
        if not self._reports:
            return None
        self._taken.ring()
        return self._reports.popleft()

    async def run(self) -> None:
        """Carry out what is asked for, until cancelled."""
        self._running, self._wanted = True, 0
        try:
            while True:
                await self._asked.wait()
                number, self._wanted = self._wanted, 0
                if number:
                    with trio.CancelScope() as self._scope:
                        await _Audit(self, self._floor, number).run()
        finally:
            self._running = False

    # --- for an audit -------------------------------------------------------------------------------------------

    def manages(self, entry: Entry) -> bool:
        """Whether something that nobody knows of should be known."""
        return self._readable and not entry.trouble and self._floor.hides(entry.path, entry.version) is None

    async def report(self, report: Audited) -> None:
        """Have a report sent; waits while too many are."""
        while len(self._reports) >= WAITING:
            await self._taken.wait()
        self._tell(report)

    async def settled(self) -> None:
        """Until everything that was seen was told; or until it is clear that this may take for ever."""
        with trio.move_on_after(SETTLING):
            while self._looking():  # noqa: ASYNC110 (many things change it, and none of them waits for us)
                await trio.sleep(0.02)

    def _tell(self, report: Audited) -> None:
        self._reports.append(report)
        self._wake()


class _Audit:
    """One audit."""

    def __init__(self, auditor: Auditor, floor: Floor, number: int) -> None:
        self._auditor = auditor
        self._floor = floor
        self._number = number
        self._can = floor.driver.capabilities(floor.folder)
        self._checked = 0
        self._read = 0
        self._last = trio.current_time()
        self._doubtful: dict[bytes, None] = {}

    async def run(self) -> None:
        """From the root to the last report."""
        trouble = ""
        try:
            await self._walk()
            await self._look_again()
        except (Unavailable, ProtocolError) as error:
            trouble = str(error)
            log.warning("{}: the audit ends: {}", self._floor.folder, trouble)
        await self._report(done=True, trouble=trouble)

    async def _walk(self) -> None:
        waiting = [paths.ROOT]
        while waiting:
            portion = [waiting.pop() for _ in range(min(DIRECTORIES, len(waiting)))]
            known = await self._floor.rows(portion)
            to_read: list[tuple[Entry, Known]] = []
            for listing, rows in zip(await self._floor.driver.scan(self._floor.folder, portion), known, strict=True):
                if not listing.complete:
                    await self._report((Disagreement(listing.directory, listing.reason or "it cannot be listed"),))
                    continue
                for entry in listing.entries:
                    row = rows.pop(entry.path, None)
                    self._look(entry.path, entry, row, to_read)
                    if entry.kind is Kind.DIRECTORY and self._leads_on(entry, row):
                        waiting.append(entry.path)
                for path, row in rows.items():
                    self._look(path, None, row, to_read)
            await self._read_all(to_read)
            if len(self._doubtful) >= FOUND:
                await self._look_again()
            elif trio.current_time() - self._last > EVERY:
                await self._report()

    def _look(self, path: bytes, entry: Entry | None, row: Known | None, to_read: list[tuple[Entry, Known]]) -> None:
        """What is seen without reading."""
        row = self._counts(row)
        if row is None and (entry is None or not self._auditor.manages(entry)):
            return
        self._checked += 1
        if self._differ(entry, row) is not None:
            self._doubtful[path] = None
        elif entry is not None and row is not None and entry.kind is Kind.FILE:
            to_read.append((entry, row))

    async def _read_all(self, files: Sequence[tuple[Entry, Known]]) -> None:
        rows = {entry.path: row for entry, row in files}
        for portion in portions([entry for entry, _ in files]):
            for entry, read in zip(portion, await self._fingerprint(portion), strict=True):
                if read is None or self._differ(read, rows[entry.path]) is not None:
                    self._doubtful[entry.path] = None

    async def _fingerprint(self, entries: Sequence[Entry]) -> list[Entry | None]:
        size = sum(entry.version.size for entry in entries)
        if size >= LARGE or trio.current_time() - self._last > EVERY:
            await self._report(reading=size)
        self._read += size
        return await self._floor.driver.fingerprint(self._floor.folder, entries)

    async def _look_again(self) -> None:
        """What differed is looked at once more, and told where it still does."""
        doubtful, self._doubtful = list(self._doubtful), {}
        if doubtful:
            await self._auditor.settled()
        for start in range(0, len(doubtful), FOUND):
            portion = doubtful[start : start + FOUND]
            rows = await self._rows(portion)
            entries = dict(zip(portion, await self._floor.stat(portion), strict=True))
            files = [
                entry
                for path, entry in entries.items()
                if entry is not None and entry.kind is Kind.FILE and self._differ(entry, rows.get(path)) is None
            ]
            for some in portions(files):
                for entry, read in zip(some, await self._fingerprint(some), strict=True):
                    entries[entry.path] = read
            restless = {entry.path for entry in files if entries[entry.path] is None}
            found = []
            for path in portion:
                stands, row = entries[path], rows.get(path)
                if row is None and (stands is None or not self._auditor.manages(stands)):
                    continue
                what = RESTLESS if path in restless else self._differ(stands, row)
                if what is not None:
                    found.append(Disagreement(path, what))
            await self._report(tuple(found))

    async def _rows(self, wanted: Sequence[bytes]) -> dict[bytes, Known]:
        """What is known of these paths now, as far as it counts."""
        rows = await self._floor.rows_at(wanted)
        return {path: row for path in wanted if (row := self._counts(rows.get(path))) is not None}

    def _leads_on(self, directory: Entry, row: Known | None) -> bool:
        """Whether what is in a directory is managed here; one that nobody can read is not."""
        return (row is None or not row.hidden) and self._floor.hides(directory.path, directory.version) is None

    def _counts(self, row: Known | None) -> Known | None:
        """The row, unless it says nothing of what has to stand here: hidden, or gone and waiting for an approval."""
        if row is None or row.hidden or row.gone or self._floor.hides(row.path, row.version) is not None:
            return None
        return row

    def _differ(self, entry: Entry | None, row: Known | None) -> str | None:
        """In what way what stands here is not what is known; None: it is, as far as it was read."""
        if row is None:
            return UNKNOWN
        if entry is None:
            return MISSING_DIRECTORY if row.version.kind is Kind.DIRECTORY else MISSING
        if entry.trouble:
            return entry.reason or "it cannot be read"
        if same_content(row.version, entry.version) is Same.NO:
            return _contents(row, entry)
        return differing_meta(row.version, entry.version, self._can)

    async def _report(
        self, found: tuple[Disagreement, ...] = (), reading: int = 0, done: bool = False, trouble: str = ""
    ) -> None:
        self._last = trio.current_time()
        folder = self._floor.folder
        await self._auditor.report(
            Audited(folder, self._number, self._checked, self._read, reading, found, done, trouble)
        )


def _contents(row: Known, entry: Entry) -> str:
    known, stands = row.version, entry.version
    if known.kind is not stands.kind:
        return f"a {stands.kind.name.lower()} stands here, known is a {known.kind.name.lower()}"
    if known.kind is Kind.LINK:
        return f"the link leads to {paths.show(stands.link)}, not to {paths.show(known.link)}"
    if known.size != stands.size:
        return f"it has {stands.size} bytes, known are {known.size}"
    return DAMAGED if row.token == entry.token else DIFFERENT


def differing_meta(known: Version, stands: Version, can: Capabilities) -> str | None:
    """In what way mode or time differ, as far as the service keeps them; None: they do not."""
    modes = can.modes and known.mode and known.kind is not Kind.LINK
    if known.kind is Kind.DIRECTORY and not stands.mode:
        modes = False  # the service does not tell them
    if modes and known.mode & 0o777 != stands.mode & 0o777:
        return f"its mode is {stands.mode & 0o777:04o}, known is {known.mode & 0o777:04o}"
    if can.mtimes and known.kind is not Kind.DIRECTORY and known.mtime // can.mtimes != stands.mtime // can.mtimes:
        return "its modification time is not the known one"
    return None
