"""The pace of a folder: who only tells, far faster than the others can follow, is made to wait now and then.

A driver may have a bounded number of batches without acknowledgement, so an acknowledgement that comes later makes it
tell more slowly. Without that the store, which is memory, would hold everything that a fast service has told and a slow
one has not got yet: in a first copy of a million files 90 MB more.

Nobody waits who has orders under way (what became of them is told in the same stream), and nobody waits longer than the
others go on: `PATIENCE` after the last order of another service was answered, all acknowledgements are sent.
Pure: the time is passed in.
"""

from __future__ import annotations

import msgspec

AHEAD = 50_000
"""Paths that are left to be worked off, from which on nobody is to tell of more at full speed."""

PATIENCE = 0.5
"""Seconds."""

COUNT = 0.25
"""Seconds for which a number of paths that are left is good enough."""


class Pace(msgspec.Struct):
    """See the module.

    Attributes:
        left: paths that were left when they were counted last.
        counted: when that was.
        answered: by service, when an order of its was answered last.
        waiting: the services whose acknowledgement is due, in that order.
    """

    left: int = 0
    counted: float = float("-inf")
    answered: dict[str, float] = msgspec.field(default_factory=dict)
    waiting: dict[str, None] = msgspec.field(default_factory=dict)

    def is_old(self, now: float, files: int) -> bool:
        """Whether it is time to count anew what is left of a folder of so many files."""
        return files > AHEAD and now >= self.counted + COUNT

    def count(self, now: float, left: int) -> None:
        """So many paths are left."""
        self.counted, self.left = now, left

    def waits(self, service: str, orders: int, now: float) -> bool:
        """Whether a service that has so many orders under way is to wait for its acknowledgement."""
        return self.left > AHEAD and not orders and now < self._until(service)

    @property
    def next(self) -> float:
        """When one that waits may have waited long enough though nothing happens; infinite: none waits."""
        return min(map(self._until, self.waiting), default=float("inf"))

    def _until(self, service: str) -> float:
        """For how long a service may be kept waiting."""
        others = (when for other, when in self.answered.items() if other != service)
        return max(others, default=float("-inf")) + PATIENCE
