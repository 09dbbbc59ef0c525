"""Faults at seeded moments of a storm of edits, on real processes: whatever fails, nothing is lost, and it heals.

`ONITU_SEED` shifts all seeds, `ONITU_FAULTS` (8 where it is not set) is the number of faults of each storm.
"""

from __future__ import annotations

import contextlib
import glob
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onitu.testing import users
from onitu.testing.hands import Hands
from onitu.testing.users import Habit, User, at_work
from tests.servers.sftp import missing

from .accounts import SEED, held_against
from .harness import Daemon, onitu, sync, wait_for, watching
from .test_crash import alive, family

FAULTS = int(os.environ.get("ONITU_FAULTS", "8"))
CUTS = max(2, FAULTS // 4)
FILES = [f"f{n}" for n in range(20)]
LONG = 120.0


def storm(
    roots: list[Path],
    seed: str,
    habits: dict[Habit, float] | None = None,
    files: list[str] = FILES,
    largest: int = 300_000,
) -> list[User]:
    """Users at a brisk pace, one at each replica."""
    return [
        User.at(
            root,
            root.name,
            files,
            seed=f"{seed} {SEED}",
            habits=habits or dict(users.EVERYTHING),
            own=[f"{root.name}'s"],
            largest=largest,
            pace=0.004,
        )
        for root in roots
    ]


def go_on(users: list[User], values: int = 40) -> None:
    """Wait until every user has written some values more."""
    reach = [user.written + values for user in users]
    wait_for(lambda: all(user.written >= least for user, least in zip(users, reach, strict=True)), why="users write on")


def processes(daemon: Daemon) -> dict[str, int]:
    """The pids of the children, and of the store's server below its guard, as far as they can be known now."""
    with contextlib.suppress(Exception):  # it is starting, or what would tell is down just now
        pids = daemon.pids()
        if "store" in pids:
            pids["server"] = min(family(pids["store"]), default=0)
        return {name: pid for name, pid in pids.items() if pid and alive(pid)}
    return {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
def test_any_process_may_die_or_stand_still_at_any_moment(roots: list[Path], state: Path, number: int) -> None:
    chance = random.Random(f"{number} {SEED}")
    with watching(*roots, state=state) as daemon:
        with at_work(storm(roots, f"signal {number}")) as crowd:
            for _ in range(FAULTS):
                go_on(list(crowd), chance.randrange(10, 80))
                name, pid = chance.choice(
                    sorted(wait_for(lambda: processes(daemon), why="it tells its processes").items())
                )
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    if number == signal.SIGSTOP and chance.random() < 0.7:  # else it is given up, and replaced
                        go_on(list(crowd), chance.randrange(10, 80))
                        os.kill(pid, signal.SIGCONT)
                print(f"{signal.Signals(number).name} {name}")
        daemon.in_sync(LONG)
        held_against(crowd, roots, signal.Signals(number).name, FAULTS)


def test_the_supervisor_may_stand_still_and_die(roots: list[Path], state: Path) -> None:
    chance = random.Random(f"supervisor {SEED}")
    crowd = storm(roots, "supervisor")
    with at_work(crowd):
        for _ in range(max(2, FAULTS // 4)):
            with watching(*roots, state=state, settled=False) as daemon:
                go_on(crowd, chance.randrange(10, 120))
                daemon.process.send_signal(signal.SIGSTOP)
                go_on(crowd, chance.randrange(10, 120))
                daemon.process.send_signal(signal.SIGCONT)
                children = family(daemon.process.pid)
                daemon.crash()
                wait_for(lambda children=children: not any(alive(pid) for pid in children), why="its children end too")
    sync(*roots, state=state, timeout=LONG)
    held_against(crowd, roots, "supervisor", 2 * max(2, FAULTS // 4))


# --- the store's log ------------------------------------------------------------------------------------------------


def logs(state: Path) -> list[Path]:
    """The files of the store's log that grow."""
    return sorted(state.rglob("*.incr.aof"))


def logged(state: Path) -> int:
    """Bytes in them."""
    return sum(log.stat().st_size for log in logs(state))


def crashed(roots: list[Path], state: Path, crowd: list[User], values: int) -> None:
    """A run in a storm that ends as by a power cut, with all its processes, some values after its log has grown."""
    before = logged(state)
    with watching(*roots, state=state, settled=False) as daemon:
        with at_work(crowd):
            wait_for(lambda: logged(state) > before + 5_000, why="the store's log grows")
            go_on(crowd, values)
            children = family(daemon.process.pid)
            daemon.crash()
            wait_for(lambda: not any(alive(pid) for pid in children), why="its children end too")


def test_a_power_cut_may_tear_the_stores_log_at_any_byte(roots: list[Path], state: Path) -> None:
    chance = random.Random(f"cut {SEED}")
    crowd = storm(roots, "cut")
    for _ in range(CUTS):
        crashed(roots, state, crowd, chance.randrange(20, 150))
        (log,) = logs(state)
        size = log.stat().st_size
        os.truncate(log, chance.choice((chance.randrange(size + 1), max(0, size - chance.randrange(1, 2000)))))
        sync(*roots, state=state, timeout=LONG)
    held_against(crowd, roots, "store cut", CUTS)


def test_the_stores_log_may_be_lost_whole(roots: list[Path], state: Path) -> None:
    crowd = storm(roots, "lost log")
    crashed(roots, state, crowd, 100)
    for directory in {log.parent for log in logs(state)}:
        shutil.rmtree(directory)
    sync(*roots, state=state, timeout=LONG)
    held_against(crowd, roots, "store lost", 1)


def test_a_flipped_byte_in_the_stores_log_is_told_or_heals_and_loses_nothing(roots: list[Path], state: Path) -> None:
    chance = random.Random(f"flip {SEED}")
    crowd = storm(roots, "flip")
    for _ in range(CUTS):
        crashed(roots, state, crowd, 60)
        (log,) = logs(state)
        data = bytearray(log.read_bytes())
        data[chance.randrange(len(data) // 2)] ^= 1 << chance.randrange(8)
        log.write_bytes(data)
        result = onitu("sync", *roots, "--state", state, timeout=LONG)
        if result.code != 0:
            print(result.code, result.err[-300:])
            assert "Traceback" not in result.err
            assert "store" in result.err
            if "is damaged" in result.err:
                assert "referee died" not in result.err, "no restart helps"
            shutil.rmtree(state)
            sync(*roots, state=state, timeout=LONG)
    held_against(crowd, roots, "store flipped", CUTS)


# --- time and readers -----------------------------------------------------------------------------------------------


def test_times_that_jump_back_and_forth_lose_nothing(roots: list[Path], state: Path) -> None:
    """Files get times an hour off, as from another host whose clock jumps."""

    def jump(hands: Hands, path: str, chance: random.Random) -> None:
        at = time.time() + chance.choice((-3600, 3600))
        os.utime(hands.root / path, (at, at))

    habits: dict[Habit, float] = {**users.EVERYTHING, jump: 4.0}
    with watching(*roots, state=state) as daemon:
        with at_work(storm(roots, "clock", habits)) as crowd:
            go_on(list(crowd), 30 * FAULTS)
        daemon.in_sync(LONG)
        held_against(crowd, roots, "clock")


FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
"""Where Debian's package `libfaketime` has the library that makes the threads of a process see another time."""


def sees_another_time(daemon: Daemon) -> bool:
    """Whether the last decision was, by the clock of who made it, long ago or is yet to come. (Users go on, so there is
    always a new one.)"""
    lines = daemon.ask("log", limit=1)["entries"]
    return any(abs(line["time"] - time.time()) > 600 for line in lines)


def test_the_hosts_clock_jumps_back_and_forth(roots: list[Path], state: Path, tmp_path: Path) -> None:
    """All processes, the store's among them, see a wall clock that jumps by up to a day while users are at work."""
    library = next(iter(sorted(glob.glob(FAKETIME))), "")
    if not library:
        missing(f"there is no {FAKETIME}: install libfaketime")
    chance = random.Random(f"host clock {SEED}")
    jumps = [chance.choice((-1, 1)) * far for far in (86_400, 5, 3_600, *chance.choices((5, 3_600), k=CUTS))]
    offset = tmp_path / "offset"
    offset.write_text("+0")
    prefix = (
        "env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={offset}", "FAKETIME_CACHE_DURATION=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1",
    )  # fmt: skip
    with watching(*roots, state=state, prefix=prefix) as daemon:
        with at_work(storm(roots, "host clock")) as crowd:
            for jump in jumps:
                go_on(list(crowd), chance.randrange(10, 60))
                jumped = tmp_path / "offset.new"
                jumped.write_text(f"{jump:+d}")
                jumped.rename(offset)
                if abs(jump) > 600:
                    wait_for(lambda: sees_another_time(daemon), LONG, "the processes see it jump")
            go_on(list(crowd), 60)
        daemon.in_sync(LONG)
        held_against(crowd, roots, "host clock", len(jumps))


def test_a_reader_that_stands_still_stops_nobody(roots: list[Path], state: Path) -> None:
    with watching(*roots, state=state) as daemon:
        command = [sys.executable, "-m", "onitu", "log", "--follow", "--state", str(state)]
        reader = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )  # nobody reads its pipe either
        try:
            crowd = storm(roots, "reader")
            with at_work(crowd):
                go_on(crowd, 20)
                reader.send_signal(signal.SIGSTOP)
                before = {name: memory(pid) for name, pid in processes(daemon).items()}
                go_on(crowd, 40 * FAULTS)
            daemon.in_sync(LONG)
            assert reader.poll() is None, "it ended, and this test shows nothing"
            grown = {name: memory(pid) - before[name] for name, pid in processes(daemon).items() if name in before}
            assert max(grown.values()) < 64 << 20, grown
            held_against(crowd, roots, "stalled reader", 1)
        finally:
            reader.kill()
            reader.communicate()


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
