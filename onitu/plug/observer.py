"""The observer of one replica: it follows the watcher's hints, scans where hints are not enough, and has it told.

A hint is where to look, never what to believe. Hints that come while a look is under way wait as dirty paths; an
overflow, or too many of them, costs a scan, never a missed change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import logbook
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Event, Seen
from onitu.model.outside import REAL, Outside
from onitu.model.versions import NOTHING, Kind, Version
from onitu.wire.messages import Known

from .bell import Bell
from .dirty import Dirty, DirtyPaths
from .driver import Entry, Hint, HintKind
from .floor import Floor
from .report import Findings, Reporter
from .scan import Scan

AT_ONCE = 256
"""Dirty paths that are looked at together."""
HINTS = 1024
"""Hints that wait between the watcher and the observer."""

FIRST_AGAIN = 1.0
LAST_AGAIN = 60.0
"""Seconds after which a path that could not be read is looked at again: at first, and at most."""

ARRIVING = 0.02
"""Seconds in which a watcher tells from where something came that a scan has found."""

log = logbook.Logger("plug")

_DIRECTORY = Version(Kind.DIRECTORY)


class Observer:
    """One replica's. `run` it while the replica can be used; `mark` and `rescan` may be called at any time."""

    def __init__(self, floor: Floor, wake: Bell, poll: float, outside: Outside = REAL) -> None:
        """`wake` rings when `looking` may have changed; `poll`: seconds between scans of what cannot be watched."""
        self._floor = floor
        self._reporter = Reporter(floor, self.mark, outside.clock)
        self._wake = wake
        self._poll = poll
        self._bell = Bell()
        self._dirty = DirtyPaths()
        self._full = False
        self._in_hand = 0
        self._again = float("inf")
        self._pause = FIRST_AGAIN
        self._unreadable: dict[bytes, Entry] = {}
        self._send, self._hints = trio.open_memory_channel[Hint](HINTS)

    @property
    def looking(self) -> int:
        """How much is still to be looked at: dirty paths, hints, scans."""
        return len(self._dirty) + self._in_hand + int(self._full) + self._hints.statistics().current_buffer_used

    def mark(self, path: bytes, deep: bool = False) -> None:
        """The path is to be looked at."""
        self._dirty.mark(path, trio.current_time(), deep=deep)
        self._bell.ring()
        self._wake.ring()

    def rescan(self, directories: Sequence[bytes] = ()) -> None:
        """Scan these directories with all below them, or everything."""
        if not directories or paths.ROOT in directories:
            self._full = True
            self._dirty.clear()
        for directory in directories:
            if directory != paths.ROOT:
                self._dirty.mark(directory, trio.current_time(), deep=True, directory=True)
        self._bell.ring()
        self._wake.ring()

    async def run(self, watch: bool, scan: bool) -> None:
        """Observe until cancelled. With `watch`, first the watcher is ready and only then the scan begins, so that
        nothing falls between the two. Raises `Unavailable` where the root went away."""
        self._full = self._full or scan
        self._wake.ring()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_hints)
            if watch:
                ready = trio.Event()
                nursery.start_soon(self._watch, ready)
                await ready.wait()
            await self._observe()

    # --- hints --------------------------------------------------------------------------------------------------

    async def _watch(self, ready: trio.Event) -> None:
        await self._floor.driver.watch(self._floor.folder, self._send, ready)
        ready.set()
        while True:
            await trio.sleep(self._poll)
            self.rescan()

    async def _take_hints(self) -> None:
        while True:
            hint = await self._hints.receive()
            now = trio.current_time()
            with contextlib.suppress(trio.WouldBlock):
                while True:  # all that are there came at the same time, so that they are due at the same time
                    self._hint(hint, now)
                    hint = self._hints.receive_nowait()
            self._bell.ring()
            self._wake.ring()

    def _hint(self, hint: Hint, now: float) -> None:
        if hint.kind is HintKind.LOST:
            raise Unavailable("the replica's root went away")
        if hint.kind is HintKind.POLL:
            self.rescan()
            return
        if hint.kind is HintKind.OVERFLOW:
            log.info("{}: changes were missed, everything is scanned", self._floor.folder)
            self.rescan()
            return
        if hint.kind is HintKind.MOVED and not (_ours(hint.path) and _ours(hint.source)):
            # In or out of the tree, as far as it concerns us: it came, or it went.
            path = hint.path if _ours(hint.path) else hint.source
            hint = Hint(HintKind.CHANGED, path, deep=hint.directory, directory=hint.directory)
        if not _ours(hint.path):
            return  # the root itself, or something of Onitu's own
        self._dirty.hint(hint, now, told=self._floor.told.kind(hint.source) is not None)
        if self._dirty.too_many:
            self.rescan()

    # --- looking ------------------------------------------------------------------------------------------------

    async def _observe(self) -> None:
        while True:
            if self._full:
                await self._scan()
            elif due := self._dirty.take(trio.current_time(), AT_ONCE):
                self._in_hand = len(due)
                await self._look(due)
            else:
                self._plan_another_look()
                with trio.move_on_at(min(self._dirty.next_due(), self._again)):
                    await self._bell.wait()
            self._in_hand = 0
            self._wake.ring()

    def _plan_another_look(self) -> None:
        """What could not be read is looked at again, ever more seldom, while there is such a thing."""
        now, troubled = trio.current_time(), self._floor.told.troubled
        if not troubled:
            self._again, self._pause = float("inf"), FIRST_AGAIN
        elif now >= self._again:
            for path in troubled:
                self._dirty.mark(path, now)
            self._again, self._pause = float("inf"), min(2 * self._pause, LAST_AGAIN)
        elif self._again == float("inf"):
            self._again = now + self._pause

    async def _scan(self) -> None:
        self._full, self._in_hand = False, 1
        self._wake.ring()
        findings = Findings(self._floor.outbox.position, missing=dict(self._floor.vanished))
        whole = Scan(self._floor, self._reporter, self._floor.known)
        if not await whole.run([paths.ROOT], findings):
            log.info("{}: it is not as it was kept: everything is scanned", self._floor.folder)
            await Scan(self._floor, self._reporter, self._floor.known).run([paths.ROOT])
        self._floor.known, self._floor.vanished = True, {}
        await self._floor.tell((), scanned=True)

    async def _look(self, due: dict[bytes, Dirty]) -> None:
        findings = Findings(self._floor.outbox.position)
        self._unreadable.clear()
        deep: list[bytes] = []
        renamed = {path: dirty for path, dirty in due.items() if dirty.source}
        if renamed:
            deep += await self._look_renamed(renamed, findings)
        changed = {path: dirty for path, dirty in due.items() if not dirty.source}
        deep += await self._look_changed(changed, findings)
        await Scan(self._floor, self._reporter, vanished=self._vanished, hidden=self._unreadable).run(deep, findings)

    async def _vanished(self) -> list[Known]:
        """What was known at dirty paths where nothing stands now. A scan asks for it that found something new: what is
        renamed into a directory that is not watched yet only seems to vanish. A watcher that has not said so yet gets
        the time for it."""
        for _ in range(4):  # in turns with it, however late this process gets a processor
            await trio.sleep(ARRIVING / 4)
        dirty = self._dirty.first(AT_ONCE)
        gone = [path for path, entry in zip(dirty, await self._floor.stat(list(dirty)), strict=True) if entry is None]
        known = await self._floor.rows_at(gone)
        found = [known[path] for path in gone if path in known]
        directories = [row.path for row in found if row.version.kind is Kind.DIRECTORY]
        return found + (await self._floor.rows_below(directories) if directories else [])

    async def _look_renamed(self, renamed: dict[bytes, Dirty], findings: Findings) -> list[bytes]:
        """Renames: what they moved is missing at the old path and found at the new one; the reporter pairs the two.
        Returns the directories that are to be scanned: what they hold is paired the same way."""
        old = await self._floor.stat([dirty.source for dirty in renamed.values()])
        new = await self._floor.stat(list(renamed))
        news = [
            (path, dirty, before, entry)
            for (path, dirty), before, entry in zip(renamed.items(), old, new, strict=True)
            if before is not None or entry is None or not self._is_told(dirty.source, entry)
        ]
        rows = await self._floor.rows_at(list(dict.fromkeys(dirty.source for _, dirty, _, _ in news)))
        deep = []
        now = trio.current_time()
        for path, dirty, before, entry in news:
            row = rows.get(dirty.source)
            if before is not None or entry is None or entry.trouble or self._floor.hides(path, entry.version):
                for doubtful in (dirty.source, path):
                    self._dirty.mark(doubtful, now, deep=dirty.directory, directory=dirty.directory)
                continue
            if row is not None:
                findings.miss(self._floor, [row])
                if row.version.kind is Kind.DIRECTORY:
                    findings.miss(self._floor, await self._floor.rows_below([row.path]))
            if await self._look_standing(entry, dirty, findings):
                deep.append(path)
        return deep

    def _is_told(self, source: bytes, entry: Entry) -> bool:
        """Whether it was told that this stands here now and nothing at its old path, as after each rename of our own:
        the Referee need not be asked what it knows there."""
        told = self._floor.told
        plain = entry.kind is not Kind.DIRECTORY and not entry.trouble
        return plain and told.says_gone(source) and told.says(entry)

    async def _look_changed(self, changed: dict[bytes, Dirty], findings: Findings) -> list[bytes]:
        """Changes; returns the directories that are to be scanned."""
        deep: list[bytes] = []
        absent: list[bytes] = []
        entries = await self._floor.stat(list(changed))
        now = trio.current_time()
        for (path, dirty), entry in zip(changed.items(), entries, strict=True):
            if entry is None:
                if self._hidden_whatever(path, dirty) or (self._floor.told.says_gone(path) and not dirty.directory):
                    continue
                if dirty.absent:
                    absent.append(path)
                else:
                    self._dirty.mark(path, now, deep=dirty.deep, directory=dirty.directory, absent=True)
            elif await self._look_standing(entry, dirty, findings):
                deep.append(path)
        if absent:
            await self._look_absent(absent, findings)
        return deep

    def _hidden_whatever(self, path: bytes, dirty: Dirty) -> bool:
        """Whether the path is hidden, whatever stood there."""
        hides = self._floor.hides
        return hides(path, _DIRECTORY) is not None and (dirty.directory or hides(path, NOTHING) is not None)

    async def _look_standing(self, entry: Entry, dirty: Dirty, findings: Findings) -> bool:
        """Something stands there; whether it is to be looked into."""
        floor, path = self._floor, entry.path
        reason = floor.hides(path, entry.version)
        if reason is not None:
            # What the path alone hides was told by the scan; only the size of a file can be news.
            if entry.kind is Kind.FILE and floor.hides(path, NOTHING) is None:
                rows = await floor.rows_at([path])
                if path in rows and not rows[path].excluded:
                    findings.hide(path, reason)
            return False
        if entry.trouble:
            if not floor.told.is_hidden(path):
                findings.hidden.append(Event(Seen.HIDDEN, path, trouble=entry.trouble, reason=entry.reason))
            return False
        if entry.kind is Kind.DIRECTORY:
            if floor.told.is_hidden(path):
                self._unreadable[path] = entry
                return True
            if not floor.told.says(entry):
                findings.stands.append(entry)
            return dirty.deep
        if dirty.directory or floor.told.kind(path) is Kind.DIRECTORY:
            findings.miss(floor, await floor.rows_below([path]))
            findings.replacing.append(entry)
        elif not floor.told.says(entry):
            self._dirty.weigh(path, entry.version.size)
            findings.stands.append(entry)
        return False

    async def _look_absent(self, absent: list[bytes], findings: Findings) -> None:
        """Nothing stands there, as two looks said; what was known below is gone with it."""
        for path in absent:
            findings.missing.setdefault(path, None)
        maybe = [path for path in absent if self._floor.told.kind(path) is not Kind.FILE]
        findings.miss(self._floor, await self._floor.rows_below(maybe))


def _ours(path: bytes) -> bool:
    """Whether a path is one that events may name."""
    try:
        paths.checked(path)
    except paths.BadPath:
        return False
    return True
