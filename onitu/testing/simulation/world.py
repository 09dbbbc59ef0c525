"""The simulated world: hosts, a network, a store, and the processes of the real Referee and the real plugs."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from onitu.model.outside import Outside
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.plug import run as plug
from onitu.plug.serving import chunk_endpoint
from onitu.plug.sheet import Sheet
from onitu.referee.service import RefereeService
from onitu.store.memory import Call, MemoryStore
from onitu.wire.channel import Channel
from onitu.wire.charter import Charter, Endpoints
from onitu.wire.memory import Network
from onitu.wire.sockets import Kind

from .disk import Disk
from .driver import Flavour, Host, SimulatedDriver
from .life import Life, Process, touch
from .script import Script
from .trace import Trace

FOLDER = "f"
RUNTIME = "/sim"
EPOCH = 1_700_000_000
"""Seconds since 1970 at the beginning of every history."""


class World:
    """See the module.

    Attributes:
        trace: what happened.
        hosts: by service.
        processes: the drivers by service, and `referee`.
        store: the Referee's.
        network: the one that connects all.
        ahead: seconds that all wall clocks have jumped.
        latency: seconds that a message takes at most.
        backup: of the store.
        until: what ends when.
    """

    def __init__(self, script: Script) -> None:
        self.trace = Trace(trio.current_time)
        self.ahead = 0.0
        self.latency = script.latency
        self.store = MemoryStore()
        self.store.hook = self._stored
        self._seed = script.seed
        self._delays = self.chance("delays")
        self.network = Network(self._delay, self.trace.message)
        names = [f"s{number}" for number in range(len(script.services))]
        self.hosts = {name: self._host(name, Flavour(k.grain, k.watches, k.kernel, k.skew))
                      for name, k in zip(names, script.services, strict=True)}  # fmt: skip
        services = {name: self._service(host) for name, host in self.hosts.items()}
        self.settings = Settings("simulated", {FOLDER: Folder(FOLDER)}, services, state="/state")
        self.endpoints = Endpoints("events", "news", "control", "referee", "logs", RUNTIME)
        self.referee: RefereeService | None = None
        self.backup: object | None = None
        self.until: list[tuple[float, Callable[[], None]]] = []
        self._sockets: dict[str, list[Channel]] = {}
        pauses = self.chance("pauses")
        tell = self.trace.line
        self.processes = {
            name: Process(name, self._begin(name), self._last_words(name), lambda: 0.2 + pauses.random(), tell)
            for name in ("referee", *names)
        }

    def chance(self, what: str) -> random.Random:
        """A stream of chance of its own, so that more of one thing does not change another."""
        return random.Random(f"{what} {self._seed}")  # noqa: S311 (nobody is to be kept from guessing it)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let everything live, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.network.run)
            for process in self.processes.values():
                nursery.start_soon(process.run, nursery)
            task_status.started()

    # --- hosts --------------------------------------------------------------------------------------------------

    def _host(self, name: str, flavour: Flavour) -> Host:
        def clock() -> int:
            return int((EPOCH + self.ahead + flavour.skew + trio.current_time()) * 1e9)

        return Host(name, flavour, Disk(clock, flavour.grain), clock, self.chance(f"host {name}"))

    def _service(self, host: Host) -> Service:
        driver = "local" if host.flavour.kernel else "simulated"
        options: dict[str, str | int | float | bool] = {"poll": 5.0}
        return Service(host.name, driver, options, replicas={FOLDER: Replica(FOLDER, f"/{host.name}")})

    # --- processes ----------------------------------------------------------------------------------------------

    def _begin(self, name: str) -> Callable[[Life], Awaitable[None]]:
        return self._live_referee if name == "referee" else self._live_driver

    def _last_words(self, name: str) -> Callable[[], None]:
        def last_words() -> None:
            for socket in self._sockets.pop(name, []):
                socket.close()
            if name == "referee":
                self.store.abandon(FOLDER)
            else:
                self.hosts[name].disk.watchers = []
                self.hosts[name].watcher = None

        return last_words

    async def _live_referee(self, life: Life) -> None:
        charter = Charter("referee", self.settings, self.endpoints)
        outside = self._outside(f"referee {self.processes['referee'].lives}", 0.0)
        self.referee = referee = RefereeService(charter, self.store, _Sockets(self, life), outside)
        try:
            await referee.run()
        finally:
            if self.referee is referee:
                self.referee = None

    async def _live_driver(self, life: Life) -> None:
        name = life.name
        host = self.hosts[name]
        charter = Charter(f"driver {name}", self.settings, self.endpoints, name)
        roots = {FOLDER: f"/{name}"}
        driver = SimulatedDriver(host, {f"/{one.name}": one for one in self.hosts.values()}, roots)
        outside = self._outside(f"{name} {self.processes[name].lives}", host.flavour.skew)
        async with driver.open():
            await plug.run(charter, driver, _Sockets(self, life), outside, lambda path: _Paper(host, path, life))

    def _outside(self, who: str, skew: float) -> Outside:
        chance = self.chance(who)
        return Outside(
            lambda: int((EPOCH + self.ahead + skew + trio.current_time()) * 1e9), chance.getrandbits, lambda: 1
        )

    def _stored(self, call: Call) -> None:
        if not call.done:
            touch()

    def _delay(self, name: str) -> float:
        chance = self._delays.random()
        return self.latency * chance * chance if self.latency else 0.0

    def opened(self, life: Life, socket: Channel) -> None:
        """A socket of a process, which closes when it dies."""
        self._sockets.setdefault(life.name, []).append(socket)


class _Sockets:
    """The sockets of one life: what the Referee and the plug ask for."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    def events(self) -> Channel:
        if self._life.name == "referee":
            return self._bind(Kind.ROUTER, "events")
        identity = self._life.name.encode()
        return self._own(self._world.network.connect("events", self._life.name, identity, self._life.effect))

    def news(self) -> Channel:
        return self._bind(Kind.PUB, "news")

    def questions(self) -> Channel:
        return self._bind(Kind.ROUTER, "referee")

    def serve(self) -> Channel:
        return self._bind(Kind.ROUTER, chunk_endpoint(RUNTIME, self._life.name))

    def chunks(self, service: str) -> Channel:
        endpoint = chunk_endpoint(RUNTIME, service)
        return self._own(self._world.network.connect(endpoint, self._life.name, effect=self._life.effect))

    def _bind(self, kind: Kind, endpoint: str) -> Channel:
        return self._own(self._world.network.bind(kind, endpoint, self._life.name, self._life.effect))

    def _own(self, socket: Channel) -> Channel:
        self._world.opened(self._life, socket)
        return socket


class _Paper(Sheet):
    """Where deeds are written down: it stays with the host."""

    def __init__(self, host: Host, path: str, life: Life) -> None:
        self._host = host
        self._path = path
        self._life = life

    def read(self) -> bytes:
        return self._host.deeds.get(self._path, b"")

    def replace(self, data: bytes) -> None:
        self._life.effect()
        self._host.deeds[self._path] = data

    def append(self, data: bytes) -> None:
        self._life.effect()
        self._host.deeds[self._path] += data

    def cut(self, size: int) -> None:
        self._life.effect()
        self._host.deeds[self._path] = self._host.deeds[self._path][:size]

    def close(self) -> None:
        pass

    def discard(self) -> None:
        self._host.deeds.pop(self._path, None)
