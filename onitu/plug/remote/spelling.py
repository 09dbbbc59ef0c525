"""How names are spelled on a service that takes two cases of a name for one, as macOS and Windows do.

There a question about `readme` is answered with what stands at `README`; whoever believes that renames a file onto
itself, and deletes what it has just renamed. Only a listing tells how a name is spelled.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import trio

from onitu.model import paths

FRESH = 1.0
"""Seconds for which the names of a directory are believed: many files go into one, and a listing has them all."""

Names = dict[bytes, bytes]
"""The names in a directory, by what the service takes them for."""


class Spelling(msgspec.Struct, eq=False):
    """See the module. `list`: the names in a directory, none where there is none."""

    list: Callable[[bytes], Awaitable[Iterable[bytes]]]
    _names: dict[bytes, tuple[float, Names]] = msgspec.field(default_factory=dict)

    async def find(self, path: bytes) -> tuple[bytes, bool]:
        """The path as the service spells what it takes it for, as far as anything stands there, and whether all of it
        does. Raises what `list` does."""
        found, stands = paths.ROOT, True
        for name in path.split(b"/"):
            there = (await self._inside(found)).get(folded(name)) if stands else None
            stands = there is not None
            found = paths.join(found, there or name)
        return found, stands

    async def stands(self, path: bytes) -> bool:
        """Whether something is spelled so. Raises what `list` does."""
        return await self.find(path) == (path, True)

    def put(self, path: bytes) -> None:
        """We made something stand there."""
        self._of(path)[folded(paths.name(path))] = paths.name(path)

    def take(self, path: bytes) -> None:
        """We took away what stood there."""
        self._of(path).pop(folded(paths.name(path)), None)

    def _of(self, path: bytes) -> Names:
        """What is known beside it."""
        _, names = self._names.get(paths.parent(path), (0.0, {}))
        return names

    async def _inside(self, directory: bytes) -> Names:
        now = trio.current_time()
        listed, names = self._names.get(directory, (float("-inf"), {}))
        if now - listed >= FRESH:
            self._names = {path: known for path, known in self._names.items() if now - known[0] < FRESH}
            names = {folded(name): name for name in await self.list(directory)}
            self._names[directory] = now, names
        return names


def folded(name: bytes) -> bytes:
    """What two cases of a name have in common."""
    try:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.decode()).casefold()).encode()
    except UnicodeDecodeError:
        return name.lower()
