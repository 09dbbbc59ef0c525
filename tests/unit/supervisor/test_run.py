from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import trio

from onitu.model.errors import PeerGone, StateError
from onitu.supervisor import headstart, lifeguard, statelock, store
from onitu.supervisor.backoff import Policy
from onitu.supervisor.child import State
from onitu.supervisor.run import Plan, Supervisor, running
from onitu.supervisor.runtime import control_endpoint, runtime_directory
from onitu.wire.messages import BEAT
from onitu.wire.sockets import ask

from .processes import QUICK, descendants, fake, lives, settings, until

TIMEOUT = 30.0
PLAN = partial(Plan, referee=fake("charter", "beat"), driver=fake("beat"), policy=QUICK)


@asynccontextmanager
async def run(state: Path, *services: str, store: str = "", **plan: Any) -> AsyncIterator[Supervisor]:
    with trio.fail_after(TIMEOUT):
        async with running(settings(str(state), *services, store=store), plan=PLAN(**plan)) as supervisor:
            await supervisor.started.wait()
            yield supervisor


def states(supervisor: Supervisor) -> dict[str, str]:
    return {name: child.state.value for name, child in supervisor.children.items()}


async def all_running(supervisor: Supervisor) -> None:
    for child in supervisor.children.values():
        await child.becomes(State.RUNNING)


# --- what runs ------------------------------------------------------------------------------------------------------


async def test_a_run_has_a_store_a_referee_and_a_process_for_each_service(tmp_path: Path) -> None:
    async with run(tmp_path, "a", "b") as supervisor:
        await all_running(supervisor)
        assert list(supervisor.children) == ["store", "referee", "driver a", "driver b"]
    assert set(states(supervisor).values()) == {"stopped"}


async def test_the_store_answers_before_anything_else_starts(tmp_path: Path) -> None:
    async with run(tmp_path, "a") as supervisor:
        with redis.Redis.from_url(supervisor.store_url) as client:
            assert client.ping()


async def test_two_signs_of_life_may_be_missed_by_every_process(tmp_path: Path) -> None:
    with headstart.begun(settings(str(tmp_path), "a"), fork=False) as begun:
        assert begun.server is not None
        kept = store.EmbeddedStore(begun.server, begun.lock, 1.0, Policy())
        assert kept.job.silence > 2 * lifeguard.BEAT
    assert Plan().silence > 2 * BEAT


async def test_an_external_store_is_nobodys_child(tmp_path: Path) -> None:
    async with run(tmp_path, "a", store="redis://localhost:1") as supervisor:
        assert list(supervisor.children) == ["referee", "driver a"]
        assert not (tmp_path / "store").exists()


async def test_nothing_is_left_of_a_run(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    async with run(tmp_path, "a") as supervisor:
        await all_running(supervisor)
        assert len(os.listdir(runtime_directory(str(tmp_path)))) == 2
    assert descendants(os.getpid()) == before
    with pytest.raises(FileNotFoundError):
        os.listdir(runtime_directory(str(tmp_path)))
    with statelock.held(str(tmp_path)):
        pass


async def test_an_error_of_the_block_comes_out_as_it_is_after_an_orderly_end(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with run(tmp_path, "a") as supervisor:
            raise KeyError("mine")
    assert set(states(supervisor).values()) == {"stopped"}


async def test_a_cancelled_run_ends_in_order(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with run(tmp_path, "a") as supervisor:
            await all_running(supervisor)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert set(states(supervisor).values()) == {"stopped"}
    assert supervisor.children["driver a"].reason == "it was killed by SIGTERM"


async def test_the_children_end_in_order(tmp_path: Path) -> None:
    note = tmp_path / "note"
    state = tmp_path / "state"
    plan = {"referee": fake("note", str(note), "referee"), "driver": fake("note", str(note), "driver")}
    async with run(state, "a", "b", **plan) as supervisor:
        await all_running(supervisor)
        url = supervisor.store_url
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
    assert note.read_text().splitlines() == ["driver", "driver", "referee"]
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(url) as client:
        client.ping()


async def test_nobody_waits_for_who_has_said_farewell_but_the_run_does(tmp_path: Path) -> None:
    note = tmp_path / "note"
    plan = {"referee": fake("note", str(note), "referee"), "driver": fake("part", str(note), "driver")}
    async with run(tmp_path / "state", "a", **plan) as supervisor:
        await all_running(supervisor)
    assert note.read_text().splitlines() == ["referee", "driver"]
    assert set(states(supervisor).values()) == {"stopped"}


async def test_a_second_run_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    async with run(tmp_path, "a"):
        with pytest.raises(StateError, match=rf"process {os.getpid()}, uses the state directory"):
            async with running(settings(str(tmp_path)), plan=PLAN()):
                pytest.fail("two runs on one state")


# --- children that die ------------------------------------------------------------------------------------------------


async def test_a_driver_that_died_is_restarted_alone(tmp_path: Path) -> None:
    async with run(tmp_path, "a", "b") as supervisor:
        await all_running(supervisor)
        others = {name: child.pid for name, child in supervisor.children.items() if name != "driver a"}
        victim = supervisor.children["driver a"]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: victim.restarts == 1 and victim.state is State.RUNNING)
        assert others == {name: child.pid for name, child in supervisor.children.items() if name != "driver a"}


async def test_a_driver_that_dies_too_often_fails_alone_and_is_retried_on_demand(tmp_path: Path) -> None:
    cure = tmp_path / "cure"
    async with run(tmp_path / "state", "a", driver=fake("once", str(cure))) as supervisor:
        driver = supervisor.children["driver a"]
        await driver.becomes(State.FAILED)
        assert supervisor.failed == ("driver a",)
        assert states(supervisor)["referee"] in ("starting", "running")
        cure.touch()
        assert await supervisor.ask("retry", process="a") == {"retried": ["driver a"]}
        await driver.becomes(State.RUNNING)
        assert supervisor.failed == ()


async def test_status_78_of_a_child_ends_the_run_with_its_message(tmp_path: Path) -> None:
    plan = PLAN(referee=fake("charter", "fatal"))
    with trio.fail_after(TIMEOUT), pytest.raises(StateError, match="the schema is of another world"):
        # `started` is not waited for: the Referee may end everything before.
        async with running(settings(str(tmp_path), "a"), plan=plan) as supervisor:
            await trio.sleep_forever()
    assert states(supervisor) == {"store": "stopped", "referee": "failed", "driver a": "stopped"}


async def test_a_killed_server_comes_back_with_its_data(tmp_path: Path) -> None:
    async with run(tmp_path, "a") as supervisor:
        store = supervisor.children["store"]
        with redis.Redis.from_url(supervisor.store_url) as client:
            client.set("key", "value")
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
            await until(lambda: store.restarts == 1 and store.state is State.RUNNING)
            await _comes_back(client)
            assert client.get("key") == b"value"


async def test_a_server_whose_lifeguard_is_killed_dies_and_comes_back_with_its_data(tmp_path: Path) -> None:
    async with run(tmp_path, "a") as supervisor:
        store = supervisor.children["store"]
        with redis.Redis.from_url(supervisor.store_url) as client:
            client.set("key", "value")
            server = client.info("server")["process_id"]
            assert store.pid not in (None, server)
            os.kill(store.pid or 0, signal.SIGKILL)
            await until(lambda: not lives(server), 2.0)
            await until(lambda: store.restarts == 1 and store.state is State.RUNNING)
            await _comes_back(client)
            assert client.get("key") == b"value"


async def test_the_referee_waits_for_its_charter_while_the_store_is_down(tmp_path: Path) -> None:
    async with run(tmp_path) as supervisor:
        referee = supervisor.children["referee"]
        await referee.becomes(State.RUNNING)
        with redis.Redis.from_url(supervisor.store_url) as client:
            server = client.info("server")["process_id"]
        os.kill(server, signal.SIGSTOP)
        os.kill(referee.pid or 0, signal.SIGKILL)
        await referee.becomes(State.WAITING)
        with trio.move_on_after(10 * QUICK.longest) as waited:
            await referee.becomes(State.RUNNING)
        assert waited.cancelled_caught
        assert referee.state is State.STARTING
        os.kill(server, signal.SIGCONT)
        await referee.becomes(State.RUNNING)
        assert referee.restarts == 1


def _files(state: Path) -> dict[str, int]:
    """The embedded store's files, by name, and their sizes."""
    return {path.name: path.stat().st_size for path in (state / "store" / "appendonlydir").iterdir()}


@pytest.mark.parametrize(
    ("times", "patience", "snapshots"),
    [(40, 10.0, 1), (4, 10.0, 0), (40, 0.0, 0)],
    ids=["a log that has grown", "a small one", "no time for it"],
)
async def test_at_the_end_a_log_that_has_grown_becomes_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, patience: float, snapshots: int
) -> None:
    monkeypatch.setattr(store, "COMPACTING", patience)
    async with run(tmp_path, "a") as supervisor:
        with redis.Redis.from_url(supervisor.store_url) as client:
            for number in range(times):
                client.set("what", b"%d " % number * 50_000)
    files = _files(tmp_path)
    last = b"%d " % (times - 1) * 50_000
    logged = sum(size for name, size in files.items() if name.endswith(".aof"))
    assert logged < 1000 if snapshots else logged > times * len(last) // 2
    assert ("appendonly.aof.1.base.rdb" in files) is not bool(snapshots), files
    async with run(tmp_path, "a") as supervisor:
        with redis.Redis.from_url(supervisor.store_url) as client:
            assert client.get("what") == last
    assert _files(tmp_path) == files


async def test_a_store_looks_at_itself_seldom_once_nobody_waits_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOOK", 0.2)

    def hertz(client: redis.Redis) -> int:
        try:
            return int(client.config_get("hz")["hz"])
        except redis.ConnectionError:
            return -1

    async with run(tmp_path, "a") as supervisor:
        child = supervisor.children["store"]
        with redis.Redis.from_url(supervisor.store_url) as client:
            await until(lambda: hertz(client) == 2)
            os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
            await until(lambda: child.restarts == 1 and hertz(client) == 2)


async def test_a_store_that_cannot_start_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / "appendonlydir").touch()  # the server wants a directory of this name
    with pytest.raises(StateError, match=r"does not start: .*; its log is .*store\.log"):
        async with run(tmp_path, "a"):
            pytest.fail("it cannot have started")


async def _comes_back(client: redis.Redis) -> None:
    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    await until(answers)


# --- a supervisor in a process of its own -----------------------------------------------------------------------------


@asynccontextmanager
async def hosted(state: Path, *driver: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A supervisor process, once all its children run."""
    command = [sys.executable, "-m", "tests.unit.supervisor.host", str(state), *(driver or fake("beat"))]
    process = subprocess.Popen(command, start_new_session=True)  # noqa: ASYNC220 (it is there at once)
    try:
        with trio.fail_after(TIMEOUT):
            await _tells(state, lambda status: [row["state"] for row in status["processes"]] == ["running"] * 4)
            yield process
    finally:
        # Its children are in groups of their own; they end with their lifelines.
        process.kill()
        process.wait()


async def _tells(state: Path, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the status of a run is as `condition` wants it."""
    while True:
        with contextlib.suppress(PeerGone):
            if condition(await ask(control_endpoint(str(state)), "status", timeout=0.5)):
                return
        await trio.sleep(0.02)


async def test_nothing_outlives_a_killed_supervisor_by_two_seconds(tmp_path: Path) -> None:
    async with hosted(tmp_path) as process:
        family = descendants(process.pid)
        assert len(family) == 5  # the store's lifeguard and server, the Referee, two drivers
        process.kill()
        await until(lambda: not any(map(lives, family)), 2.0)


async def test_a_new_run_can_follow_a_killed_one_at_once(tmp_path: Path) -> None:
    async with hosted(tmp_path) as process:
        process.kill()
        process.wait()
        async with run(tmp_path, "a") as supervisor:
            await all_running(supervisor)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
async def test_a_signal_ends_a_run_in_order(number: int, status: int, tmp_path: Path) -> None:
    async with hosted(tmp_path) as process:
        family = descendants(process.pid)
        process.send_signal(number)
        assert await trio.to_thread.run_sync(process.wait) == status
        assert not any(map(lives, family))


async def test_a_second_interrupt_kills_at_once(tmp_path: Path) -> None:
    async with hosted(tmp_path, *fake("deaf")) as process:
        family = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        await _tells(tmp_path, lambda status: status["run"]["phase"] == "stopping")
        process.send_signal(signal.SIGINT)
        with trio.fail_after(3.0):  # less than the patience with a deaf driver
            assert await trio.to_thread.run_sync(process.wait) == 130
        assert not any(map(lives, family))
