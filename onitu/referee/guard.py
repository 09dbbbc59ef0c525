"""The guard against mass deletion: a service that loses most of a folder at once is asked before anyone believes it.

A few deletions go through at once, of a large folder one in a hundred files. Where many come together they are all
held back, and where a burst grows, from a point on its rest is, until the burst is over, or until the end of a
driver's first scan, which has seen what happened while nobody looked. Then, if it would take more than half of the
folder (and more than 50 files), or all of it, the deletions of that service stay held back until somebody approves
them. The other services, and this one's other changes, go on. Moves do not count.

Pure: the time is passed in.
"""

from __future__ import annotations

import msgspec

FREE = 50
"""Deletions of one burst that pass at once, and how many a burst must exceed to be asked about."""

FREE_OF, FREE_AT_MOST = 100, 500
"""Of a large folder one in so many of its files passes at once, up to that many."""

QUIET = 1.0
"""Seconds without a deletion after which a burst is over."""


class Guard(msgspec.Struct):
    """The deletions of one service in one folder.

    Attributes:
        quarantined: deletions wait for a yes.
        count: files deleted in this burst.
        held: how many of them are held back.
        files: the most files that the folder had since the burst began.
        last: when the burst's last deletion was seen.
        holding: the rest of this burst is held back until it is over.
    """

    quarantined: bool = False
    count: int = 0
    held: int = 0
    files: int = 0
    last: float = float("-inf")
    holding: bool = False

    def announce(self, now: float, number: int, files: int) -> None:
        """At most so many deletions come together now, before the first of them is decided: a replica that was emptied
        while nobody looked is seen in one scan, and then not even its first files are deleted elsewhere."""
        if number:
            self._begin(now, files)
            self.holding = self.holding or self._too_many(self.count + number)

    def deletes(self, now: float, files: int) -> bool:
        """A file of `files` is to be deleted; whether that is to be held back."""
        self._begin(now, files)
        self.count += 1
        self.holding = self.holding or self._too_many(self.count)
        hold = self.holding or self.quarantined
        self.held += hold
        return hold

    def resume(self, now: float, held: int, files: int, awaits: bool) -> None:
        """Take up after a crash: so many deletions are held back, and `awaits` says whether they were judged to need a
        yes. Where they were not, as many may have passed before them as pass at once: what is judged is all of it."""
        passed = min(self._free(files), files)
        self.held, self.count, self.files = held, held + passed, files + passed
        self.quarantined = awaits or self.suspicious(files)
        self.holding, self.last = not self.quarantined, now

    def _begin(self, now: float, files: int) -> None:
        if not self.holding and now - self.last > QUIET:
            self.count, self.held, self.files = 0, 0, files
        # What was made since can be deleted too: a program that makes and deletes many files has emptied no folder.
        self.files = max(self.files, files)
        self.last = now

    def _too_many(self, count: int) -> bool:
        """Whether a burst of so many is no longer one that passes at once."""
        return count > min(self._free(self.files), max(1, self.files // 2))

    def _free(self, files: int) -> int:
        """How many deletions pass at once, of so many files."""
        return max(FREE, min(files // FREE_OF, FREE_AT_MOST))

    def over(self, now: float) -> bool:
        """Whether a burst that is held back has ended."""
        return self.holding and now - self.last > QUIET

    def suspicious(self, files: int) -> bool:
        """Whether the burst that ended would delete too much to be believed, where the folder has `files` now, those
        that are held back among them. What counts is what would be left: files that were made and deleted again in
        the burst are no loss."""
        left = files - self.held
        return (self.count >= 2 and left <= 0) or (self.count > FREE and left * 2 < self.files)

    def go_on(self) -> None:
        """What was held back was judged, as all was seen that happened while nobody looked; deletions that follow at
        once belong to the same burst."""
        self.holding, self.held = False, 0

    def end(self) -> None:
        """The burst was judged; the next deletion begins another."""
        self.holding = False
        self.last = float("-inf")
