"""A store that fails at a chosen call: the Referee dies between any two of its writes."""

from __future__ import annotations

from typing import Any

from onitu.model.errors import StateError


class Faulty:
    """A folder's store whose n-th call from now fails: before it has an effect, or after it, instead of its answer."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.folder = store.folder
        self.countdown = 0
        self.after = False
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == "walk":
            return method

        async def call(*arguments: Any) -> Any:
            self.calls += 1
            self.countdown -= 1
            due = self.countdown == 0
            if due and not self.after:
                raise StateError(f"{name} was told to fail")
            answer = await method(*arguments)
            if due:
                raise StateError(f"the answer of {name} was told to be lost")
            return answer

        return call
