from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import logbook
import trio

from onitu.supervisor.child import Child, Job, State

from .processes import QUICK, fake, lives, until

TIMEOUT = 20.0


@asynccontextmanager
async def supervised(*how: str, fatal: Callable[[str, str], None] | None = None, **more: Any) -> AsyncIterator[Child]:
    child = Child(Job("fake", fake(*how), **{"policy": QUICK, "patience": 5.0, **more}), fatal=fatal)
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            yield child
            child.stop()


async def test_a_child_is_starting_until_it_gives_a_sign_of_life() -> None:
    async with supervised("mute") as child:
        await child.becomes(State.STARTING)
        assert child.pid is not None
    async with supervised("beat") as child:
        await child.becomes(State.RUNNING)
        assert child.pid is not None
        assert lives(child.pid)


async def test_a_stopped_child_is_gone() -> None:
    async with supervised("beat") as child:
        await child.becomes(State.RUNNING)
        pid = child.pid
        child.stop()
        await child.stopped.wait()
        assert child.state is State.STOPPED
        assert child.restarts == 0
        assert pid is not None
        assert not lives(pid)


async def test_a_killed_child_is_restarted() -> None:
    async with supervised("beat") as child:
        await child.becomes(State.RUNNING)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.restarts == 1 and child.state is State.RUNNING)
        assert child.pid != first
        assert child.reason == "it was killed by SIGKILL"


async def test_a_child_that_dies_too_often_has_failed_until_somebody_asks_for_it(tmp_path: Path) -> None:
    cure = tmp_path / "cure"
    async with supervised("once", str(cure)) as child:
        await child.becomes(State.FAILED)
        assert child.restarts == QUICK.limit
        assert child.reason == "it ended with status 4: I am once"
        assert child.pid is None
        cure.touch()
        assert child.retry()
        await child.becomes(State.RUNNING)
        assert not child.retry()


async def test_a_hung_child_is_killed_and_restarted() -> None:
    async with supervised("beat", silence=0.5) as child:
        await child.becomes(State.RUNNING)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await until(lambda: child.restarts == 1 and child.state is State.RUNNING)
        assert not lives(first)
        assert child.reason == "it gave no sign of life for 0.5 s"


async def test_a_child_that_never_gives_a_sign_of_life_is_killed() -> None:
    async with supervised("mute", startup=0.2, silence=0.1) as child:
        await until(lambda: child.restarts == 1)
        assert child.reason == "it gave no sign of life for 0.2 s"


async def test_a_child_that_beats_is_left_alone() -> None:
    async with supervised("beat", silence=0.5) as child:
        await child.becomes(State.RUNNING)
        with trio.move_on_after(1.5):
            await child.becomes(State.WAITING, State.STARTING)
        assert child.restarts == 0


async def test_time_in_which_the_supervisor_did_not_run_is_not_held_against_a_child() -> None:
    async with supervised("beat", silence=0.3) as child:
        await child.becomes(State.RUNNING)
        first = child.pid
        # As a machine that sleeps: nothing of ours runs, and the watch must not be the first to count what it missed.
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        previous = signal.signal(signal.SIGALRM, lambda *_: None)
        try:
            signal.pause()
        finally:
            signal.signal(signal.SIGALRM, previous)
        with trio.move_on_after(0.5):
            await child.becomes(State.WAITING)
        assert child.pid == first


async def test_a_child_that_is_deaf_to_sigterm_is_killed_at_the_deadline() -> None:
    async with supervised("deaf", patience=0.3) as child:
        await child.becomes(State.RUNNING)
        child.stop()
        await child.stopped.wait()
        assert child.reason == "it did not end within 0.3 s"


async def test_status_78_ends_it_with_its_last_words() -> None:
    told: list[tuple[str, str]] = []
    async with supervised("fatal", fatal=lambda name, words: told.append((name, words))) as child:
        await child.stopped.wait()
        assert child.state is State.FAILED
    assert told == [("fake", "I am fatal\nthe schema is of another world")]


async def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    async with supervised("parent", str(note)) as child:
        await until(lambda: note.exists() and note.read_text())
        grandchild = int(note.read_text())
        assert lives(grandchild)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: not lives(grandchild))


async def test_a_cancelled_child_is_killed() -> None:
    child = Child(Job("fake", fake("deaf")))
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            await child.becomes(State.RUNNING)
            pid = child.pid
            nursery.cancel_scope.cancel()
    assert pid is not None
    assert not lives(pid)
    assert child.stopped.is_set()


async def test_a_program_that_is_not_there_is_given_up() -> None:
    child = Child(Job("fake", ("/nowhere/at/all",), policy=QUICK))
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            await child.becomes(State.FAILED)
            assert "cannot be started" in child.reason
            child.stop()


async def test_what_a_child_says_is_logged() -> None:
    with logbook.TestHandler() as heard:
        async with supervised("beat") as child:
            await until(lambda: child.last_words == "I am beat")
    assert heard.has_warning("fake: I am beat")


async def test_a_charter_that_nobody_reads_does_not_hold_up_the_end() -> None:
    async with supervised("mute", charter=bytes(1 << 20)) as child:
        await child.becomes(State.STARTING)
        child.stop()
        await child.stopped.wait()
