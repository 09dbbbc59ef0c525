"""What a driver did since its start, by name; each sign of life tells it (`onitu.plug.session`)."""

from __future__ import annotations

from .bell import Bell


class Counters(dict[str, int]):
    """Numbers by name.

    Attributes:
        changed: rings whenever one of them is set, for the one task that tells them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changed = Bell()

    def __setitem__(self, name: str, number: int) -> None:
        super().__setitem__(name, number)
        self.changed.ring()

    def add(self, name: str, amount: int) -> None:
        """Count so many more."""
        if amount:
            self[name] = self.get(name, 0) + amount
