"""Following the journal: every decision once, oldest first, by asking again and again.

News would be faster, but they are lost where they come before somebody listens; the journal is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

Ask = Callable[[int], Awaitable[list[dict[str, Any]]]]
"""Gives the newest entries, newest first; at most as many as it is told."""

FEW, MANY = 100, 100_000


@attrs.define
class Follower:
    """What was seen of a journal so far.

    Attributes:
        ask: where entries come from.
        since: seconds since 1970; what is older is not given.
    """

    ask: Ask
    since: float = 0.0
    _seen: dict[tuple[str, str], None] = attrs.field(factory=dict)

    async def new(self) -> list[dict[str, Any]]:
        """The entries that came since the last call, oldest first.

        More than `MANY` between two calls are not all given.
        """
        limit = FEW
        while True:
            entries = await self.ask(limit)
            fresh = [entry for entry in entries if self._is_new(entry)]
            if len(fresh) < limit or limit >= MANY:
                break
            # None of them was known: there may be more before them.
            limit *= 10
        self.known(fresh)
        return fresh[::-1]

    def known(self, entries: list[dict[str, Any]]) -> None:
        """Take these, newest first, for given."""
        self._seen |= {_identity(entry): None for entry in reversed(entries)}
        while len(self._seen) > 2 * MANY:
            del self._seen[next(iter(self._seen))]

    def _is_new(self, entry: dict[str, Any]) -> bool:
        return float(entry.get("time", 0.0)) >= self.since and _identity(entry) not in self._seen


def _identity(entry: dict[str, Any]) -> tuple[str, str]:
    return str(entry.get("folder", "")), str(entry.get("id", ""))
