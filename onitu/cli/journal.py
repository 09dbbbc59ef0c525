"""Following the journal: every decision once, oldest first, by asking again and again.

News would be faster, but they are lost where they come before somebody listens; the journal is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

Ask = Callable[[int, Mapping[str, str]], Awaitable[list[dict[str, Any]]]]
"""Gives the newest entries, newest first: at most as many as it is told, and of a folder that is named only those after
the one of this number."""

FEW, MANY = 100, 100_000

_BEFORE_ALL = (-1, 0)


class Follower(msgspec.Struct):
    """What was seen of a journal so far.

    Attributes:
        ask: where entries come from.
        since: seconds since 1970; what is older is not given.
    """

    ask: Ask
    since: float = 0.0
    _last: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """By folder, the number of the newest entry that was given. The store numbers them by its clock, ever higher."""

    async def new(self) -> list[dict[str, Any]]:
        """The entries that came since the last call, oldest first.

        More than `MANY` between two calls are not all given.
        """
        limit = FEW
        after = {folder: f"{milliseconds}-{which}" for folder, (milliseconds, which) in self._last.items()}
        while True:
            entries = await self.ask(limit, after)
            fresh = [entry for entry in entries if self._is_new(entry)]
            if len(fresh) < limit or limit >= MANY:
                break
            # None of them was known: there may be more before them.
            limit *= 10
        self.known(fresh)
        return fresh[::-1]

    def known(self, entries: list[dict[str, Any]]) -> None:
        """Take these for given, and what is older."""
        for entry in entries:
            folder = entry["folder"]
            self._last[folder] = max(_number(entry), self._last.get(folder, _BEFORE_ALL))

    def _is_new(self, entry: dict[str, Any]) -> bool:
        return float(entry["time"]) >= self.since and _number(entry) > self._last.get(entry["folder"], _BEFORE_ALL)


def _number(entry: dict[str, Any]) -> tuple[int, int]:
    """Milliseconds, and which one in these."""
    milliseconds, _, which = str(entry["id"]).partition("-")
    return int(milliseconds), int(which)
