from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from onitu.model.errors import OnituError
from onitu.supervisor import control
from onitu.supervisor.child import State
from onitu.supervisor.run import Plan, Supervisor, running
from onitu.supervisor.runtime import control_endpoint
from onitu.wire.messages import Answer, Ask
from onitu.wire.sockets import Kind, Socket, ask

from .processes import QUICK, fake, settings

TIMEOUT = 30.0


@asynccontextmanager
async def a_run(state: Path, *, driver: tuple[str, ...] = fake("beat")) -> AsyncIterator[Supervisor]:
    """A run without an embedded store; the Referee is a fake that only beats."""
    plan = Plan(referee=fake("beat"), driver=driver, policy=QUICK)
    with trio.fail_after(TIMEOUT):
        async with running(settings(str(state), "a", store="redis://localhost:1"), plan=plan) as supervisor:
            await supervisor.started.wait()
            yield supervisor


@asynccontextmanager
async def a_referee(supervisor: Supervisor) -> AsyncIterator[list[Ask]]:
    """Somebody who answers in the Referee's place, with what he was asked."""
    asked: list[Ask] = []

    async def answer(socket: Socket) -> None:
        while True:
            peer, message = await socket.receive()
            assert isinstance(message, Ask)
            asked.append(message)
            if message.what == "forbidden":
                await socket.send(Answer(message.request, error="this is forbidden"), peer)
            else:
                await socket.send(Answer(message.request, {"echo": message.what, **message.arguments}), peer)

    async with Socket.bind(supervisor.context, Kind.ROUTER, supervisor.endpoints.referee) as socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, socket)
            yield asked
            nursery.cancel_scope.cancel()


async def test_ping_is_answered_without_a_referee(tmp_path: Path) -> None:
    async with a_run(tmp_path):
        assert await ask(control_endpoint(str(tmp_path)), "ping") == {"pid": os.getpid()}


async def test_status_tells_of_the_processes_also_without_a_referee(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STATUS_TIMEOUT", 0.2)
    async with a_run(tmp_path) as supervisor:
        for child in supervisor.children.values():
            await child.becomes(State.RUNNING)
        status = await ask(control_endpoint(str(tmp_path)), "status")
        assert status["referee"] == "the Referee does not answer"
        assert status["run"]["phase"] == "running"
        assert status["run"]["pid"] == os.getpid()
        rows = {row["name"]: row for row in status["processes"]}
        assert list(rows) == ["referee", "driver a"]
        for name, row in rows.items():
            assert row["pid"] == supervisor.children[name].pid
            assert row["state"] == "running"
            assert row["restarts"] == 0
            assert row["rss"] > 1_000_000


async def test_a_question_that_the_referee_took_with_it_is_answered_at_once(tmp_path: Path) -> None:
    """Not after the 30 s that the Referee has: with a deadline far below, by the test's own."""
    async with a_run(tmp_path) as supervisor:
        referee = supervisor.children["referee"]
        await referee.becomes(State.RUNNING)
        heard: list[str] = []

        async def asked(what: str) -> None:
            try:
                heard.append((await supervisor.ask(what))["referee"])
            except OnituError as error:
                heard.append(str(error))

        async with Socket.bind(supervisor.context, Kind.ROUTER, supervisor.endpoints.referee) as socket:
            with trio.fail_after(control.STATUS_TIMEOUT - 1):
                async with trio.open_nursery() as nursery:
                    for what in ("approve", "status"):
                        nursery.start_soon(asked, what)
                        await socket.receive()  # and never answered
                    referee.kill("a test wants it so")
        assert sorted(heard) == [
            "the Referee does not answer",
            "the Referee ended before it answered 'approve'; ask again",
        ]


async def test_status_holds_what_the_referee_says(tmp_path: Path) -> None:
    async with a_run(tmp_path) as supervisor, a_referee(supervisor):
        status = await supervisor.ask("status", folder="docs")
        assert status["echo"] == "status"
        assert status["folder"] == "docs"
        assert status["referee"] == ""


async def test_other_questions_and_their_answers_are_passed_on_unchanged(tmp_path: Path) -> None:
    async with a_run(tmp_path) as supervisor, a_referee(supervisor) as asked:
        answer = await ask(control_endpoint(str(tmp_path)), "explain", {"path": "/a", "deep": [1, None]})
        assert answer == {"echo": "explain", "path": "/a", "deep": [1, None]}
        assert [question.what for question in asked] == ["explain"]


async def test_an_error_of_the_referee_is_passed_on(tmp_path: Path) -> None:
    async with a_run(tmp_path) as supervisor, a_referee(supervisor):
        with pytest.raises(OnituError, match=r"^this is forbidden$"):
            await ask(control_endpoint(str(tmp_path)), "forbidden")


async def test_many_ask_at_once(tmp_path: Path) -> None:
    found: list[int] = []

    async def one(number: int) -> None:
        answer = await ask(control_endpoint(str(tmp_path)), "log", {"n": number}, 20.0, context=supervisor.context)
        found.append(answer["n"])

    async with a_run(tmp_path) as supervisor, a_referee(supervisor):
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
    assert sorted(found) == list(range(100))


async def test_stop_ends_the_run(tmp_path: Path) -> None:
    async with a_run(tmp_path) as supervisor:
        assert await ask(control_endpoint(str(tmp_path)), "stop") == {"pid": os.getpid()}
        await trio.sleep_forever()
    assert {child.state for child in supervisor.children.values()} == {State.STOPPED}


async def test_resume_retries_a_failed_driver_and_is_passed_on(tmp_path: Path) -> None:
    cure = tmp_path / "cure"
    async with a_run(tmp_path / "state", driver=fake("once", str(cure))) as supervisor, a_referee(supervisor) as asked:
        driver = supervisor.children["driver a"]
        await driver.becomes(State.FAILED)
        cure.touch()
        await supervisor.ask("resume")
        await driver.becomes(State.RUNNING)
        assert [question.what for question in asked] == ["resume"]


async def test_a_process_that_is_not_there_cannot_be_retried(tmp_path: Path) -> None:
    async with a_run(tmp_path) as supervisor:
        with pytest.raises(OnituError, match="there is no process 'b': referee, driver a"):
            await supervisor.ask("retry", process="b")
