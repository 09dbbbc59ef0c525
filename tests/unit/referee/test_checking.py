"""The Referee's side of `onitu check`, over real sockets, with drivers that say only what a test tells them to."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import pytest
import trio
import zmq

from onitu.model.events import Event, Seen
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.model.versions import Kind as Stands
from onitu.model.versions import Version
from onitu.referee import checking
from onitu.referee.service import RefereeService, serving
from onitu.store.memory import MemoryStore
from onitu.wire.charter import Charter, Endpoints
from onitu.wire.messages import Audit, Audited, Batch, Disagreement, Hello, Message, ReplicaState, Welcome
from onitu.wire.sockets import Kind, Options, Socket, ask

FOLDER = "docs"


@attrs.define
class Scripted:
    """A driver's process."""

    name: str
    socket: Socket
    number: int = 0

    async def hello(self, epoch: str = "e", trouble: str = "") -> None:
        state = ReplicaState(trouble=trouble) if trouble else ReplicaState(f"marker {self.name}", 1, 0)
        await self.socket.send(Hello(self.name, epoch, 10, "", {FOLDER: state}))
        await self.hear(Welcome)

    async def scanned(self, *events: Event) -> None:
        self.number += 1
        await self.socket.send(Batch(FOLDER, "e", self.number, events, scanned=True))

    async def hear(self, kind: type[Message]) -> Any:
        """The next message of this kind; others are forgotten."""
        while True:
            _, message = await self.socket.receive()
            if isinstance(message, kind):
                return message

    async def asked(self) -> int:
        """Wait for an audit to be asked for; its number."""
        return int((await self.hear(Audit)).number)

    async def say(self, number: int, *found: str, done: bool = True, **more: Any) -> None:
        rows = tuple(Disagreement(path.encode(), "differs") for path in found)
        await self.socket.send(Audited(FOLDER, number, found=rows, done=done, **more))


@attrs.frozen
class Stage:
    """A Referee with two drivers, and whoever asks it."""

    referee: RefereeService
    a: Scripted
    b: Scripted
    endpoint: str

    async def check(self, **arguments: Any) -> dict[str, Any]:
        return await ask(self.endpoint, "check", arguments, 30.0)

    @contextlib.asynccontextmanager
    async def checking(self, **arguments: Any) -> AsyncIterator[dict[str, Any]]:
        """A check that goes on during the block; its answer is there at the end."""
        answer: dict[str, Any] = {}

        async def one() -> None:
            answer.update(await self.check(**arguments))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            yield answer


@pytest.fixture
def runtime() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="onitu-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def stage(runtime: str) -> AsyncIterator[Stage]:
    services = {n: Service(n, "local", replicas={FOLDER: Replica(FOLDER, f"/{n}")}) for n in "ab"}
    settings = Settings("t", {FOLDER: Folder(FOLDER)}, services)
    names = ("events", "news", "control", "referee", "logs")
    endpoints = Endpoints(**{name: f"ipc://{runtime}/{name}" for name in names}, runtime=runtime)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def driver(name: str) -> Scripted:
        return Scripted(name, Socket.connect(context, Kind.DEALER, endpoints.events, options=Options(name.encode())))

    try:
        with trio.fail_after(30):
            async with serving(Charter("referee", settings, endpoints), MemoryStore()) as referee:
                a, b = driver("a"), driver("b")
                async with a.socket, b.socket:
                    for one in (a, b):
                        await one.hello()
                        await one.scanned()
                    yield Stage(referee, a, b, endpoints.referee)
    finally:
        context.destroy(linger=0)


async def test_the_reports_of_all_drivers_become_one_answer(stage: Stage) -> None:
    async with stage.checking() as answer:
        number = await stage.a.asked()
        await stage.a.say(number, "x", "y", done=False, checked=2)
        await stage.a.say(number, "z", checked=5, read=100)
        await stage.b.say(await stage.b.asked(), checked=5, read=50)
    assert (answer["checked"], answer["bytes"], answer["more"]) == (10, 150, 0)
    assert [(row["folder"], row["path"], row["service"], row["what"]) for row in answer["disagreements"]] == [
        (FOLDER, path, "a", "differs") for path in "xyz"
    ]


async def test_reports_of_another_audit_or_of_another_service_count_nothing(stage: Stage) -> None:
    async with stage.checking() as answer:
        number = await stage.a.asked()
        await stage.a.say(number + 1, "x", checked=7)
        await stage.b.say(number, "x", checked=7)
        await stage.a.say(number, checked=1)
        await stage.b.say(await stage.b.asked(), checked=1)
    assert (answer["checked"], answer["disagreements"]) == (2, [])


async def test_beyond_a_limit_disagreements_are_only_counted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LIMIT", 3)
    async with stage.checking() as answer:
        number = await stage.a.asked()
        await stage.a.say(number, "1", "2", done=False)
        await stage.a.say(number, "3", "4", "5")
        await stage.b.say(await stage.b.asked(), "6", "7")
    assert len(answer["disagreements"]) == 3
    assert answer["more"] == 4


async def test_what_a_service_does_not_hold_of_the_heads_is_told(stage: Stage) -> None:
    version = Version(Stands.FILE, 1, {"blake3": b"1"}, mtime=1, mode=0o644)
    await stage.a.scanned(Event(Seen.STANDS, b"new", version, b"t"))
    folder = stage.referee.folders[FOLDER]
    while not folder.links["b"].in_flight:  # noqa: ASYNC110 (the fixture has the deadline)
        await trio.sleep(0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "SETTLING", 0.1)
        async with stage.checking() as answer:
            for one in (stage.a, stage.b):
                await one.say(await one.asked())
    assert answer["disagreements"] == [
        {"folder": FOLDER, "path": "new", "service": "b", "what": "an order is under way"}
    ]


async def test_a_driver_that_says_nothing_is_not_waited_for_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "PATIENCE", 0.2)
    async with stage.checking() as answer:
        await stage.a.say(await stage.a.asked(), checked=1)
        await stage.b.say(await stage.b.asked(), "x", done=False, checked=3)
        assert await stage.b.asked() == 0  # it is told that nobody waits any more
    assert [(row["path"], row["service"]) for row in answer["disagreements"]] == [("x", "b"), ("", "b")]
    assert answer["disagreements"][1]["what"] == "not checked to its end: its driver said nothing for 0.2 s"


async def test_a_driver_has_time_for_what_it_says_that_it_reads(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PATIENCE", 0.05)
    async with stage.checking() as answer:
        number = await stage.a.asked()
        await stage.a.say(number, done=False, reading=20 * checking.SLOWEST)
        await stage.b.say(await stage.b.asked())
        await trio.sleep(0.2)  # longer than a driver may be silent
        await stage.a.say(number, checked=1)
    assert (answer["checked"], answer["disagreements"]) == (1, [])


@pytest.mark.parametrize(
    ("more", "words"), [({"epoch": "e2"}, "started anew"), ({"trouble": "the disk is gone"}, "the disk is gone")]
)
async def test_a_driver_that_begins_anew_or_loses_its_root_is_told_as_not_checked(
    stage: Stage, more: dict[str, str], words: str
) -> None:
    async with stage.checking() as answer:
        await stage.a.say(await stage.a.asked())
        number = await stage.b.asked()
        await stage.b.say(number, done=False, checked=1)
        await stage.b.hello(**more)
        await stage.b.say(number, "late", checked=2)
    (row,) = answer["disagreements"]
    assert (row["path"], row["service"]) == ("", "b")
    assert words in row["what"]


async def test_two_checks_take_turns(stage: Stage) -> None:
    async with stage.checking() as first, stage.checking() as second:
        numbers = []
        for _ in range(2):
            numbers.append(await stage.a.asked())
            await stage.b.say(await stage.b.asked(), checked=1)
            await stage.a.say(numbers[-1], checked=1)
    assert first["checked"] == second["checked"] == 2
    assert len(set(numbers)) == 2


async def test_a_check_ends_in_time(stage: Stage) -> None:
    async with stage.checking(timeout=0.3) as answer:
        await stage.a.say(await stage.a.asked(), checked=1)
        assert await stage.b.asked()
    (row,) = answer["disagreements"]
    assert (row["service"], row["what"]) == ("b", "not checked to its end: there was no time left for it")
