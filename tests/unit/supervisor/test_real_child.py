"""`Child` and `onitu.wire.lifeline.run_child` together: the two ends of what the supervisor asks of a process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from onitu.supervisor.child import Child, Job, State
from onitu.wire.charter import Charter, Endpoints
from onitu.wire.lifeline import frame

from .processes import QUICK, settings, until

PROGRAM = """
import sys, time, trio
from onitu.model.errors import *
from onitu.wire.lifeline import run_child

async def main(charter, farewell):
    {body}

sys.exit(run_child(main))
"""


@asynccontextmanager
async def real(
    body: str, directory: Path, *, fatal: Callable[[str, str], None] | None = None, **more: Any
) -> AsyncIterator[Child]:
    at = f"ipc://{directory}"
    endpoints = Endpoints(f"{at}/e", f"{at}/n", f"{at}/c", f"{at}/r", f"{at}/l", str(directory))
    charter = frame(Charter("fake", settings(str(directory)), endpoints, beat=0.05))
    command = (sys.executable, "-P", "-c", PROGRAM.format(body=body))
    child = Child(Job("fake", command, charter, policy=QUICK, **more), fatal=fatal)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            yield child
            child.stop()


async def test_a_child_gives_signs_of_life_and_ends_by_itself_when_asked(tmp_path: Path) -> None:
    async with real("await trio.sleep_forever()", tmp_path) as child:
        await child.becomes(State.RUNNING)
    assert child.reason == "it ended with status 0"


async def test_a_loop_that_hangs_gives_none(tmp_path: Path) -> None:
    async with real("await trio.sleep(0.2); time.sleep(1000)", tmp_path, silence=0.5) as child:
        await child.becomes(State.RUNNING)
        await until(lambda: child.restarts == 1)
        assert child.reason == "it gave no sign of life for 0.5 s"


async def test_what_it_prints_is_heard_and_is_no_sign_of_life(tmp_path: Path) -> None:
    async with real("print('hello', flush=True); time.sleep(1000)", tmp_path, patience=0.2) as child:
        await until(lambda: child.last_words == "hello")


async def test_an_error_that_no_restart_can_help_is_its_last_word_and_status_78(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    body = (
        "print('something else', flush=True); raise ExceptionGroup('', [ValueError(), Unreadable('the schema is new')])"
    )
    async with real(body, tmp_path, fatal=lambda *words: told.append(words)) as child:
        await child.stopped.wait()
    assert told == [("fake", "the schema is new")]


async def test_any_other_error_is_a_death_as_others(tmp_path: Path) -> None:
    async with real("raise StateError('the store is away')", tmp_path) as child:
        await until(lambda: child.restarts == 1, 20)
        assert child.reason.startswith("it ended with status 1")


async def test_one_that_says_farewell_lives_on_until_it_ends(tmp_path: Path) -> None:
    async with real("farewell(); await trio.sleep_forever()", tmp_path) as child:
        await child.parts()
        assert child.state is State.RUNNING


async def test_a_farewell_counts_for_one_life(tmp_path: Path) -> None:
    body = f"""import os
    if not os.path.exists({str(tmp_path / "lived")!r}):
        farewell()
        os.mkdir({str(tmp_path / "lived")!r})
        raise StateError('the store is away')
    await trio.sleep_forever()"""
    async with real(body, tmp_path) as child:
        await child.parts()
        await until(lambda: child.restarts == 1 and child.state is State.RUNNING, 20)
        assert not child.parted
    assert child.parted
