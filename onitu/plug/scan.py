"""The scan: what stands in a tree, compared with what the Referee knows of it.

Directories are listed many at a time, in sorted order, while the rows of the same directories are fetched. What the
Referee knows already costs nothing more. Promises:

- a path is missing only where the listing of its directory was complete, and gone only if a look on the floor then says
  so; an incomplete listing concludes nothing of what is below it;
- what is hidden is forgotten, never missing;
- a directory is taken on trust only where the Referee's own tally proves that it is known so (`familiar`);
- findings are kept back, up to a limit, so that a name that vanished and one that appeared are told as a move. Where
  the Referee knows nothing there can be no move, and everything is told at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import Kind
from onitu.wire.messages import Known

from .driver import Entry, Listing
from .familiar import Proof, tally_of
from .floor import DIRECTORIES, Floor
from .report import Findings, Reporter
from .told import agrees

AT_ONCE = 20_000
"""Entries and rows of the directories that are looked at together, about: as many directories as, by those before them,
will have so many. One directory is looked at whole, whatever is in it."""
KEPT_BACK = 50_000
"""Findings that wait for their move's other half; beyond, they are told as they come."""


class Scan:
    """One scan. Make a new one for each."""

    def __init__(
        self,
        floor: Floor,
        reporter: Reporter,
        known: bool = True,
        vanished: Callable[[], Awaitable[Sequence[Known]]] | None = None,
        hidden: Mapping[bytes, Entry] | None = None,
    ) -> None:
        """`known`: whether the Referee may know anything of this replica. `vanished`: what is known elsewhere and not
        there any more; asked for where directories were scanned. `hidden`: of the directories to scan, those that are
        hidden because they could not be listed."""
        self._floor = floor
        self._reporter = reporter
        self._modes = floor.driver.capabilities(floor.folder).modes
        self._known = known
        self._vanished = vanished
        self._stream = not known
        self._findings = Findings(floor.outbox.position)
        self._hidden = dict(hidden or {})
        self._familiar = floor.told.familiar
        self._proof: Proof | None = None
        self._strays: dict[bytes, Known] = {}
        self._strange = 0

    async def run(self, roots: Sequence[bytes], findings: Findings | None = None) -> bool:
        """Scan everything below these directories (not their own entries), and tell it together with `findings`. False:
        some of it was taken on trust and should not have been; what was told is true, but it may not be everything.

        Raises:
            Unavailable: the root is not there, or cannot be listed whole; what was told by then is true.
        """
        if findings is not None:
            self._findings = findings
        # Before anything is told the Referee knows of the replica what it knew at its Welcome.
        first = self._known and bool(self._floor.tally) and not self._floor.outbox.position
        everything = list(roots) == [paths.ROOT]
        if first and everything and self._familiar.recall():
            self._proof = Proof()
        waiting = sorted(roots, reverse=True)
        directories, looked = 1, 0
        while waiting:
            portion = [waiting.pop() for _ in range(min(directories, len(waiting)))]
            looked += len(portion)
            below: list[bytes] = []
            listings, rows = await self._look(portion)
            seen = sum(len(listing.entries) for listing in listings) + sum(map(len, rows))
            directories = max(1, min(4 * directories, DIRECTORIES, len(portion) * AT_ONCE // max(1, seen)))
            for listing, known in zip(listings, rows, strict=True):
                if listing.familiar:
                    self._unhide(listing)
                    below += [entry.path for entry in listing.entries]
                else:
                    below += await self._merge(listing, known)
            del listings, rows  # before the next ones come
            waiting += sorted(below, reverse=True)
            if self._stream or len(self._findings) >= KEPT_BACK:
                self._stream = True
                await self._flush()
        await self._miss_strays()
        if self._vanished is not None and roots and self._reporter.has_new(self._findings):
            self._findings.vanished = await self._vanished()
        await self._flush()
        if everything:
            self._familiar.looked(looked)
        if self._proof is None or bytes(self._proof) == self._floor.tally:
            return True
        self._familiar.distrust()
        return False

    async def _miss_strays(self) -> None:
        """A directory may have gone of which only what was in it is known, as another form of its name is held."""
        above = sorted(set(map(paths.parent, self._strays)))
        standing = await self._floor.stat(above)
        gone = {directory for directory, entry in zip(above, standing, strict=True) if entry is None}
        rows = [row for path, row in self._strays.items() if paths.parent(path) in gone]
        inside = [row.path for row in rows if row.version.kind is Kind.DIRECTORY]
        below = [row for row in await self._floor.rows_below(inside) if not gone.isdisjoint(paths.ancestors(row.path))]
        self._findings.miss(self._floor, [*rows, *below])

    async def _flush(self) -> None:
        findings, self._findings = self._findings, Findings(self._floor.outbox.position)
        await self._reporter.report(findings)

    async def _look(self, directories: Sequence[bytes]) -> tuple[list[Listing], list[dict[bytes, Known]]]:
        """Listings and rows of the same directories, fetched at the same time; of what is familiar only where it has
        changed."""
        tallies = self._familiar.tallies(directories) if self._proof is not None else {}
        found: dict[bytes, dict[bytes, Known]] = {}

        async def fetch(wanted: list[bytes]) -> None:
            found.update(zip(wanted, await self._rows(wanted), strict=True))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, [path for path in directories if path not in tallies])
            if tallies:
                listings = await self._floor.driver.scan_familiar(self._floor.folder, directories, tallies)
            else:
                listings = await self._floor.driver.scan(self._floor.folder, directories)
        if self._proof is not None and tallies:
            for listing in listings:
                if listing.familiar:
                    self._proof.trust(tallies[listing.directory])
                    self._familiar.meet(listing.directory, tallies[listing.directory])
            await fetch([one.directory for one in listings if one.directory in tallies and not one.familiar])
        return listings, [found.get(path, {}) for path in directories]

    async def _rows(self, directories: Sequence[bytes]) -> list[dict[bytes, Known]]:
        """What the Referee knows in each directory."""
        rows = await self._floor.rows(directories, self._known, self._strays) if directories else []
        if self._proof is not None:
            for known in rows:
                self._proof.told(known.values())
        return rows

    async def _rows_below(self, directory: bytes) -> list[Known]:
        """What the Referee knows anywhere below a directory that is not there any more, or not to be looked into."""
        rows = await self._floor.rows_below([directory])
        if self._proof is not None:
            self._proof.told(rows)
        return rows

    async def _merge(self, listing: Listing, known: dict[bytes, Known]) -> list[bytes]:
        """Compare one directory; returns the directories in it that are to be scanned."""
        directory = listing.directory
        if directory == paths.ROOT and (listing.missing or not listing.complete):
            raise Unavailable(listing.reason or "the replica's root cannot be listed")
        if listing.missing:
            self._reporter.doubt(directory)
            return []
        self._unhide(listing)
        strange, below = self._strange, []
        for entry in listing.entries:
            if await self._entry(entry, known.pop(entry.path, None)):
                below.append(entry.path)
        if listing.complete:
            for row in known.values():
                await self._absent(row)
            if not known and self._strange == strange and self._familiar.kept:
                self._familiar.meet(directory, tally_of(listing.entries))
        return below

    def _unhide(self, listing: Listing) -> None:
        """A directory that was hidden because it could not be read: told again once it can, not at each try."""
        before = self._hidden.pop(listing.directory, None)
        if listing.complete:
            if before is not None:
                self._findings.stands.append(before)
        elif before is None and not self._floor.told.is_hidden(listing.directory):
            self._findings.hide(listing.directory, listing.reason or "the directory cannot be read", Trouble.DENIED)

    async def _entry(self, entry: Entry, row: Known | None) -> bool:
        """Something that stands; whether to look into it."""
        findings = self._findings
        reason = self._floor.hides(entry.path, entry.version)
        directory = entry.kind is Kind.DIRECTORY
        as_known = row is not None and agrees(row, entry, self._modes) and not (row.hidden or row.gone)
        if as_known and reason is None and not entry.trouble:
            return directory
        self._strange += 1
        if reason is not None:
            await self._hide(row, reason)
            return False
        if entry.trouble:
            if row is None or not row.hidden:
                findings.hide(entry.path, entry.reason, entry.trouble)
            return False
        if row is None:
            findings.stands.append(entry)
        elif row.version.kind is Kind.DIRECTORY and not directory:
            findings.miss(self._floor, await self._rows_below(entry.path))
            findings.replacing.append(entry)
        elif directory and row.hidden and row.version.kind is Kind.DIRECTORY:
            self._hidden[entry.path] = entry
        else:
            findings.stands.append(_with_digests(entry, row))
            if not row.hidden:
                findings.known[entry.path] = row.version
        return directory

    async def _absent(self, row: Known) -> None:
        """Something that is known, and not in a complete listing."""
        reason = self._floor.hides(row.path, row.version)
        if reason is not None:
            await self._hide(row, reason)
            return
        if row.gone:
            return
        if row.version.kind is Kind.DIRECTORY:
            self._findings.miss(self._floor, await self._rows_below(row.path))
        # One that was hidden and is not any more is told too: then it is forgotten, and can come back (S4).
        self._findings.missing[row.path] = row

    async def _hide(self, row: Known | None, reason: str) -> None:
        """A known path that the rules hide is forgotten with everything below it, whether it stands or not."""
        if row is None or row.excluded:
            return
        if row.version.kind is Kind.DIRECTORY:
            for inner in reversed(await self._rows_below(row.path)):
                if not inner.excluded:
                    self._findings.hide(inner.path, reason)
        self._findings.hide(row.path, reason)


def _with_digests(entry: Entry, row: Known) -> Entry:
    """What only has to be told again need not be read again."""
    if row.token != entry.token or row.version.kind is not entry.kind or row.version.size != entry.version.size:
        return entry
    return replace(entry, version=replace(entry.version, digests=row.version.digests))
