"""Transfers: the content of a version is brought to this service, from the best source that has it.

Promises: every chunk is checked against its digest before it is written, and the whole by the driver before it is
used; a transfer goes on where an earlier one stopped; a source that has the version no more, that stalls, or whose
bytes are wrong costs time only: the next one takes over.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence

import msgspec
import trio
from blake3 import blake3

from onitu.model.events import Trouble
from onitu.model.orders import Order, Source
from onitu.model.settings import Settings
from onitu.model.versions import Kind, Version
from onitu.wire.messages import MAX_CHUNK

from .bell import Throttle
from .catalogue import LOCAL
from .counters import Counters
from .driver import Refused, Staged
from .peers import Peers

OUTSTANDING = 8
"""Chunks that one transfer asks for ahead."""
SMALL_CHUNK = 256 * 1024
STALLED = 30.0
"""Seconds without a chunk after which the next source is asked."""
LARGE_AT_ONCE = 4
SMALL_AT_ONCE = 32
"""Transfers at the same time: of files above the driver's `small`, and of others."""

Local = tuple[str, bytes, bytes]
"""A file on this host: its replica's root, its path, its token."""


class SourceFailed(Exception):
    """One source could not give the content; another may."""

    def __init__(self, trouble: Trouble, reason: str) -> None:
        super().__init__(reason)
        self.trouble = trouble
        self.reason = reason


class _Slot(msgspec.Struct):
    """A chunk on its way."""

    offset: int
    length: int
    done: trio.Event = msgspec.field(default_factory=trio.Event)
    data: bytes = b""
    failure: SourceFailed | None = None


class Transfers:
    """What all transfers of a driver share."""

    def __init__(
        self, settings: Settings, service: str, peers: Peers, throttle: Throttle, counters: Counters,
        takes_local: bool = False,
    ) -> None:  # fmt: skip
        """`takes_local`: whether the service's driver reads files on this host itself, whatever it is."""
        self._settings = settings
        self._clones = takes_local or _clones(settings, service)
        self._peers = peers
        self._throttle = throttle
        self._counters = counters
        self._roots: dict[tuple[str, str], str | None] = {}
        self._large = trio.CapacityLimiter(LARGE_AT_ONCE)
        self._small = trio.CapacityLimiter(SMALL_AT_ONCE)

    def limit(self, version: Version, small: int) -> trio.CapacityLimiter:
        """What bounds the transfers of versions of this size."""
        return self._large if version.size > small else self._small

    def local(self, folder: str, sources: Sequence[Source]) -> list[Local]:
        """Those of the sources whose files lie on this host, where the kernel can copy them."""
        return [found for source in sources if (found := self._local(folder, source)) is not None]

    def _local(self, folder: str, source: Source) -> Local | None:
        where = source.service, folder
        if where not in self._roots:
            self._roots[where] = self._root(*where)
        root = self._roots[where]
        return None if root is None else (root, source.path, source.token)

    def _root(self, service: str, folder: str) -> str | None:
        """Where a service has the folder on this host; None: it has not, or the kernel is not to copy it."""
        peer = self._settings.services.get(service)
        if not self._clones or peer is None or folder not in peer.replicas or not _clones(self._settings, peer.name):
            return None
        return os.path.expanduser(peer.replicas[folder].path)

    async def fill(self, folder: str, order: Order, staged: Staged, source: Source) -> None:
        """Bring what is missing from one source.

        Raises:
            SourceFailed: this source cannot give it.
            Refused: this service cannot take it.
        """
        size = order.version.size
        self._counters.add("resumed_bytes", staged.offset)
        missing = size - staged.offset
        if missing <= 0:
            return
        local = self._local(folder, source)
        if local is not None:
            try:
                await staged.clone(*local)
            except Refused as error:
                if error.trouble is Trouble.SOURCE_LOST:
                    raise SourceFailed(error.trouble, error.reason) from None
                if error.trouble not in (Trouble.DENIED, Trouble.UNSUPPORTED):
                    raise
                # This process may not open it, or the kernel cannot copy it: its own driver can read it.
            else:
                self._counters.add("cloned_bytes", missing)
                self._counters.add("files", 1)
                return
        await self._fetch(folder, order.version, staged, source)
        self._counters.add("files", 1)

    def copied(self, order: Order) -> None:
        """A small file was put by the driver itself, from a file on this host."""
        if order.version.kind is Kind.FILE:
            self._counters.add("cloned_bytes", order.version.size)
            self._counters.add("files", 1)

    async def _fetch(self, folder: str, version: Version, staged: Staged, source: Source) -> None:
        """Fetch chunks, several ahead, and write them in order."""
        if source.service not in self._settings.services:
            raise SourceFailed(Trouble.SOURCE_LOST, f"{source.service} is no service of the configuration")
        failure: SourceFailed | Refused | None = None
        async with trio.open_nursery() as nursery:
            try:
                await self._pump(nursery, folder, version, staged, source)
            except (SourceFailed, Refused) as error:  # handed on below: a nursery would wrap it
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _pump(self, nursery: trio.Nursery, folder: str, version: Version, staged: Staged, source: Source) -> None:
        length = MAX_CHUNK if version.size > 8 * MAX_CHUNK else SMALL_CHUNK
        offset = staged.offset
        slots: deque[_Slot] = deque()
        while offset < version.size or slots:
            while offset < version.size and len(slots) < OUTSTANDING:
                slot = _Slot(offset, min(length, version.size - offset))
                await self._throttle.take(slot.length)
                nursery.start_soon(self._get, folder, source, slot)
                slots.append(slot)
                offset += slot.length
            slot = slots.popleft()
            with trio.move_on_after(STALLED) as waiting:
                await slot.done.wait()
            if waiting.cancelled_caught:
                raise SourceFailed(Trouble.SOURCE_LOST, f"{source.service} sent nothing for {STALLED:g} s")
            if slot.failure is not None:
                raise slot.failure
            await staged.write(slot.data)
            self._counters.add("transferred_bytes", slot.length)

    async def _get(self, folder: str, source: Source, slot: _Slot) -> None:
        chunk = await self._peers.fetch(source.service, folder, source.path, source.token, slot.offset, slot.length)
        where = f"{source.service}, byte {slot.offset}"
        if chunk.trouble:
            slot.failure = SourceFailed(Trouble.SOURCE_LOST, f"{where}: {chunk.reason or chunk.trouble.name}")
        elif chunk.offset != slot.offset or blake3(chunk.data).digest() != chunk.digest:
            slot.failure = SourceFailed(Trouble.CORRUPT, f"{where}: what arrived is not what was sent")
        elif len(chunk.data) != slot.length:
            slot.failure = SourceFailed(Trouble.SOURCE_LOST, f"{where}: the file has another size by now")
        else:
            slot.data = chunk.data
        slot.done.set()


def _clones(settings: Settings, service: str) -> bool:
    """Whether the service keeps its files where this host's kernel can copy them."""
    given = settings.services[service]
    return given.driver in LOCAL and bool(given.options.get("kernel_copy", True))
