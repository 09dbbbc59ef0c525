"""Serving chunks: what other drivers need of this service's files is read and sent, straight to them."""

from __future__ import annotations

from collections.abc import Mapping

import logbook
import trio
from blake3 import blake3

from onitu.model import paths
from onitu.model.errors import PeerGone, Unavailable
from onitu.model.events import Trouble
from onitu.model.settings import Replica
from onitu.wire.channel import Channel
from onitu.wire.messages import MAX_CHUNK, Chunk, Fetch

from .bell import Throttle
from .counters import Counters
from .driver import Driver, Refused

READS = 16
"""Chunks that are read and sent at the same time."""

log = logbook.Logger("plug")


def chunk_endpoint(runtime: str, service: str) -> str:
    """Where a service serves its chunks: the same for everyone, from its name; short, as `ipc://` paths have to be."""
    return f"ipc://{runtime}/c-{blake3(service.encode()).hexdigest()[:12]}"


class Serving:
    """Answers `Fetch`. Only replicas that may be read from are (S5)."""

    def __init__(self, driver: Driver, replicas: Mapping[str, Replica], throttle: Throttle, counters: Counters) -> None:
        self._driver = driver
        self._readable = {folder for folder, replica in replicas.items() if "r" in replica.mode}
        self._throttle = throttle
        self._counters = counters

    async def run(self, socket: Channel) -> None:
        """Serve on this ROUTER until cancelled."""
        limit = trio.CapacityLimiter(READS)
        async with trio.open_nursery() as nursery:
            while True:
                identity, message = await socket.receive()
                if not isinstance(message, Fetch):
                    log.warning("{} on the channel for chunks: dropped", type(message).__name__)
                    continue
                # What waits for its turn waits in the socket, where it is bounded.
                await limit.acquire_on_behalf_of(place := object())
                nursery.start_soon(self._answer, socket, identity, message, limit, place)

    async def _answer(
        self, socket: Channel, identity: bytes, fetch: Fetch, limit: trio.CapacityLimiter, place: object
    ) -> None:
        try:
            chunk = await self.read(fetch)
            await self._throttle.take(len(chunk.data))
            await socket.send(chunk, to=identity)
            self._counters.add("served_bytes", len(chunk.data))
        except PeerGone:
            log.debug("{} went away before it had its chunk", identity)
        finally:
            limit.release_on_behalf_of(place)

    async def read(self, fetch: Fetch) -> Chunk:
        """The answer to a `Fetch`."""

        def no(trouble: Trouble, reason: str) -> Chunk:
            return Chunk(fetch.request, fetch.offset, b"", trouble=trouble, reason=reason)

        if fetch.folder not in self._readable:
            return no(Trouble.DENIED, f"{fetch.folder} is not read from here")
        if fetch.offset < 0 or not 0 < fetch.length <= MAX_CHUNK:
            return no(Trouble.IO, "no such range")
        try:
            path = paths.checked(fetch.path)
            data = await self._driver.read(fetch.folder, path, fetch.token, fetch.offset, fetch.length)
        except paths.BadPath as error:
            return no(Trouble.DENIED, str(error))
        except Refused as error:
            return no(error.trouble, error.reason)
        except Unavailable as error:
            return no(Trouble.UNAVAILABLE, str(error))
        return Chunk(fetch.request, fetch.offset, data, blake3(data).digest())
