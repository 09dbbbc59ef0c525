"""A driver's process: its driver, its sockets, its replicas, put together and taken apart in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import logbook
import trio
import zmq

from onitu.model.outside import REAL, Outside
from onitu.wire.channel import Channel
from onitu.wire.charter import Charter
from onitu.wire.sockets import Kind, Options, Socket

from . import catalogue
from .bell import Bell, Throttle
from .driver import Driver
from .lookups import Lookups
from .peers import Peers
from .replica import Replica
from .serving import Serving, chunk_endpoint
from .session import Session
from .sheet import FileSheet, Sheet
from .transfers import Transfers

FLUSH = 2.0
"""Seconds that the last events have to reach the Referee when the driver is stopped."""

log = logbook.Logger("plug")


class Wire(Protocol):
    """Where sockets come from: ZeroMQ, or a simulation's memory."""

    def events(self) -> Channel:
        """A DEALER to the Referee, named after the service."""

    def chunks(self, service: str) -> Channel:
        """A DEALER to where a service serves its chunks."""

    def serve(self) -> Channel:
        """The ROUTER where this service does."""


class ZmqWire:
    """ZeroMQ, as the charter says."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], charter: Charter) -> None:
        self._context = context
        self._charter = charter

    def events(self) -> Socket:
        options = Options(identity=self._charter.service.encode())
        return Socket.connect(self._context, Kind.DEALER, self._charter.endpoints.events, options=options)

    def chunks(self, service: str) -> Socket:
        endpoint = chunk_endpoint(self._charter.endpoints.runtime, service)
        return Socket.connect(self._context, Kind.DEALER, endpoint, options=Options(large=True))

    def serve(self) -> Socket:
        endpoint = chunk_endpoint(self._charter.endpoints.runtime, self._charter.service)
        return Socket.bind(self._context, Kind.ROUTER, endpoint)


async def main(charter: Charter, farewell: Callable[[], None]) -> None:
    """The process of one driver, until cancelled. `farewell` is called once it has told everything; its driver may take
    some time after that to leave its service as it should be."""
    driver = catalogue.made(charter.settings, charter.service)
    driver.look_only = charter.settings.dry_run
    with zmq.Context() as context:
        async with driver.open():
            try:
                await run(charter, driver, ZmqWire(context, charter))
            finally:
                farewell()


async def run(
    charter: Charter, driver: Driver, wire: Wire, outside: Outside = REAL, sheet: Callable[[str], Sheet] = FileSheet
) -> None:
    """Run an open driver until cancelled: then the batch of orders under way is finished, and its events are sent.

    The replicas stop first; the session and the serving of chunks go on until the last events are committed. `sheet`:
    what the deeds at a path of the state directory are written on.
    """
    service = charter.settings.services[charter.service]
    epoch = outside.name()
    counters = driver.counters
    wake = Bell()
    driver.on_settled = wake.ring
    lookups = Lookups(wake.ring)
    peers = Peers(wire.chunks)
    rate = 0.0 if driver.paces else float(service.options.get("bandwidth", 0) or 0)
    transfers = Transfers(charter.settings, service.name, peers, Throttle(rate), counters, driver.takes_local)
    serving = Serving(driver, service.replicas, Throttle(rate), counters)
    chunks = chunk_endpoint(charter.endpoints.runtime, service.name)
    session = Session(service.name, epoch, wire.events, chunks, wake, lookups, counters, outside.pid())
    session.replicas = {
        folder: Replica(driver, charter.settings, service.name, folder, epoch, wake, lookups, transfers, outside, sheet)
        for folder in service.replicas
    }
    connections = trio.CancelScope(shield=True)

    async def connect(task_status: trio.TaskStatus[None]) -> None:
        with connections:
            async with wire.serve() as socket, trio.open_nursery() as nursery:
                await nursery.start(peers.run)
                nursery.start_soon(serving.run, socket)
                nursery.start_soon(session.run)
                task_status.started()

    async with trio.open_nursery() as nursery:
        await nursery.start(connect)
        try:
            async with trio.open_nursery() as lives:
                for replica in session.replicas.values():
                    lives.start_soon(replica.run)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH):
                await session.flushed()
            connections.cancel()
            for replica in session.replicas.values():
                replica.keep()
            log.info("{}: {}", service.name, ", ".join(f"{k} {v}" for k, v in counters.items()) or "nothing moved")
