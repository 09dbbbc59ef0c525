"""Listing everything below a root, with as few requests as the server allows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import logbook
import msgspec
import trio

from onitu.plug.driver import Refused
from onitu.plug.remote import Busy, Missing, Thing
from onitu.plug.remote.http import httpx

from .collection import Collection, thing_of
from .multistatus import Member

log = logbook.Logger("webdav")

WALKERS = 8
"""Directories that are listed at the same time."""
TRIES = 4
WHOLE = 6 * 3600.0
"""Seconds after which every directory is listed, whatever their entity tags say: a storage that Nextcloud mounts from
elsewhere may change without them."""


class _Folder(msgspec.Struct, frozen=True):
    """A directory as it was listed. `tag`: its entity tag, as its parent's listing told it before."""

    tag: bytes
    members: dict[bytes, Member]


class Tree(msgspec.Struct, eq=False):
    """What was listed of a root last. `deep`: one request lists all; `folders`: a collection's entity tag changes with
    everything below it, so that what has the same one need not be listed again."""

    root: Collection
    deep: bool = False
    folders: bool = False
    _known: dict[bytes, _Folder] = msgspec.field(default_factory=dict)
    _whole: float = float("-inf")

    @property
    def at_once(self) -> bool:
        """Whether to list everything at once is cheaper than each directory."""
        return self.deep or self.folders

    async def listed(self) -> AsyncIterator[tuple[bytes, Thing]]:
        """Everything below the root."""
        if self.deep and not self.folders:
            try:
                found = [(path, thing_of(member)) async for path, member in self.root.inside(b"", "infinity")]
            except (Refused, httpx.ReadTimeout):
                self.deep = False  # too much for one answer: from now on each directory
            except (Busy, httpx.RemoteProtocolError, httpx.ReadError) as error:
                # Apache breaks off where it may not read one directory: only that one is to be missed.
                log.info("the listing of everything broke off ({}): directory by directory", error)
            else:
                for path, thing in found:
                    yield path, thing
                return
        for path, member in await self._walk():
            yield path, thing_of(member)

    async def _walk(self) -> list[tuple[bytes, Member]]:
        """Directory by directory, from the top: a tag is always read before what it stands for."""
        root = await self.root.look(b"", slash=True)
        if root is None:
            raise Missing
        if trio.current_time() - self._whole > WHOLE or not self.folders:
            self._known.clear()
            self._whole = trio.current_time()
        found: dict[bytes, _Folder] = {}
        waiting = [(b"", root.tag)]
        failure: Exception | None = None
        while waiting:
            batch, waiting = waiting[:WALKERS], waiting[WALKERS:]
            async with trio.open_nursery() as nursery:

                async def one(directory: bytes, tag: bytes) -> None:
                    nonlocal failure
                    try:
                        found[directory] = await self._folder(directory, tag)
                    except Exception as error:  # a nursery would wrap it
                        failure = failure or error

                for directory, tag in batch:
                    nursery.start_soon(one, directory, tag)
            if failure is not None:
                raise failure
            for directory, _ in batch:
                members = found[directory].members
                waiting += [(path, member.tag) for path, member in members.items() if member.collection]
        self._known = found if self.folders else {}
        return [item for folder in found.values() for item in folder.members.items()]

    async def _folder(self, directory: bytes, tag: bytes) -> _Folder:
        known = self._known.get(directory)
        if known is not None and tag and known.tag == tag:
            return known
        for attempt in range(TRIES):
            try:
                members = {path: member async for path, member in self.root.inside(directory)}
                return _Folder(tag, members)
            except Busy as error:
                if attempt + 1 == TRIES:
                    raise
                await trio.sleep(min(error.after or 0.5 * 2**attempt, 30.0))
            except Missing:
                break  # it went while the tree was walked
        return _Folder(b"", {})
