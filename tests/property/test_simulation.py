"""Whole histories of Onitu in one process: judged, the same for the same seed, sharp enough to see what is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onitu.referee import machine
from onitu.referee.folder import FolderReferee
from onitu.testing.simulation import acting
from onitu.testing.simulation.run import Outcome, simulate
from onitu.testing.simulation.script import Kind, Script, Step, decode, draw, encode
from onitu.testing.simulation.shrink import shrink

FINE = Kind()


def play(*steps: Step, services: int = 2, seed: int = 1) -> Outcome:
    """A history without any fault but those given."""
    return simulate(Script(seed, (FINE,) * services, steps))


@pytest.mark.parametrize("seed", range(1, 41))
def test_every_promise_is_kept_whatever_fails(seed: int) -> None:
    outcome = simulate(draw(seed, services=2 + seed % 3, operations=60))
    assert outcome.ok, outcome.verdict.explain()


@pytest.mark.parametrize("seed", range(1001, 1011))
def test_every_promise_is_kept_while_nothing_fails(seed: int) -> None:
    outcome = simulate(draw(seed, services=3, operations=100, faults=False))
    assert outcome.ok, outcome.verdict.explain()


@pytest.mark.parametrize("script", sorted((Path(__file__).parent / "scripts").iterdir()), ids=lambda path: path.stem)
def test_what_once_broke_a_promise_does_so_no_more(script: Path) -> None:
    outcome = simulate(decode(script.read_bytes()))
    assert outcome.ok, outcome.verdict.explain()


@pytest.mark.parametrize("seed", [3, 7, 20])
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    first, second = (simulate(draw(seed, operations=40)) for _ in range(2))
    assert first.lines == second.lines
    assert first.lines != simulate(draw(seed + 1, operations=40)).lines


def test_the_same_seed_gives_the_same_trace_in_every_process() -> None:
    program = (
        "from onitu.testing.simulation.run import simulate\n"
        "from onitu.testing.simulation.script import draw\n"
        "print(*(simulate(draw(seed, operations=40)).digest for seed in range(1, 5)))\n"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, check=True
        ).stdout
        for salt in ("0", "1", "4711")
    }
    assert len(traces) == 1
    assert len(traces.pop().split()) == 4


def test_a_script_survives_a_file() -> None:
    script = draw(11)
    assert decode(encode(script)) == script


def test_a_replica_put_back_to_a_moment_of_its_drivers_own_life_deletes_nothing() -> None:
    """It found that the marker's generation only moved on when a driver was started: three values were lost."""
    later = [Step(20, "write", 0, path, size=30) for path in "bcd"]
    outcome = play(Step(2, "write", 0, "a", size=30), Step(2, "snapshot", 1), *later, Step(20, "return", 1))
    assert outcome.ok, outcome.verdict.explain()
    assert outcome.counts["put"] == 4 + 3


# --- how much is done -----------------------------------------------------------------------------------------------


def test_a_rename_costs_one_move_and_no_put() -> None:
    outcome = play(Step(0, "write", 0, "a", size=300), Step(5, "rename", 0, "a", "b"))
    assert outcome.counts["put"] == 1
    assert outcome.counts["move"] == 1
    assert "delete" not in outcome.counts


def test_a_rescan_of_what_is_in_sync_only_lists() -> None:
    outcome = play(Step(0, "write", 0, "a", size=300), Step(0, "write", 1, "d/b", size=30), Step(5, "link", 0, "c"))
    assert outcome.counts["put"] == 4
    assert set(outcome.idle) == {"scan"}


def test_a_touch_brings_no_content() -> None:
    outcome = play(Step(0, "write", 0, "a", size=300), Step(5, "touch", 0, "a"))
    assert outcome.counts["put"] == 1
    assert outcome.counts["meta"] == 1
    assert outcome.counts["serve"] == 1


# --- faults are noticed ---------------------------------------------------------------------------------------------


def test_a_connection_that_is_back_in_a_moment_is_greeted_anew() -> None:
    """The Referee took the driver for gone, and never again for there, where it was back before the next beat."""
    steps = [Step(0.3, "cut", 1, seconds=0.3), Step(0.1, "write", 0, "a", size=30)]
    assert play(*steps).ok


@pytest.mark.parametrize("tenths", range(1, 13))
def test_what_a_broken_connection_took_with_it_is_said_again(tenths: int) -> None:
    """Orders, batches, answers: nobody noticed, and everybody waited for ever."""
    steps = (
        Step(2, "write", 0, "a", size=30),
        Step(0.1, "write", 1, "b", size=300),
        Step(0.05 * tenths, "cut", tenths % 2, seconds=0.02),
        Step(0.1, "write", 0, "c", size=30),
    )
    outcome = simulate(Script(tenths, (FINE, FINE), steps, latency=0.5))
    assert outcome.ok, outcome.verdict.explain()


# --- what is broken is seen -----------------------------------------------------------------------------------------


def caught(seeds: range) -> Outcome | None:
    """The first of these histories that breaks a promise."""
    return next((outcome for seed in seeds if not (outcome := simulate(draw(seed, operations=60))).ok), None)


def test_a_driver_that_does_not_look_before_it_acts_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting._One, "refused", lambda self, thing: None)
    monkeypatch.setattr(acting._One, "expected", lambda self, out: True)
    outcome = caught(range(1, 31))
    assert outcome is not None
    assert outcome.verdict.lost


def test_a_referee_that_drops_who_loses_a_name_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.Deciding, "_make_copy", lambda self, node, loser: None)
    outcome = caught(range(1, 31))
    assert outcome is not None
    assert outcome.verdict.lost


def test_a_referee_that_believes_a_replica_from_a_backup_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps are written down: a restart between the snapshot and the return gives the marker another generation."""
    steps = [
        Step(2, "write", 0, "a", size=30),
        Step(2, "snapshot", 1),
        Step(1, "stop", 1),
        *(Step(3, "write", 0, name, size=30) for name in ("b", "c", "d")),
        Step(3, "return", 1),
    ]
    assert play(*steps).ok

    async def forget(self: FolderReferee, service: str) -> None:
        """Nothing: what is known of the replica goes on to count."""

    monkeypatch.setattr(FolderReferee, "forget", forget)
    assert play(*steps).verdict.lost


def test_what_fails_is_shrunk_to_the_steps_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting._One, "refused", lambda self, thing: None)
    monkeypatch.setattr(acting._One, "expected", lambda self, out: True)
    outcome = caught(range(1, 31))
    assert outcome is not None
    small = shrink(outcome.script, lambda script: not simulate(script).ok)
    assert len(small.steps) <= 10
    assert not simulate(small).ok
