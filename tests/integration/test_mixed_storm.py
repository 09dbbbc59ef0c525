"""Storms on mixed services: a disk, an sshd, a bucket and a WebDAV server hold one folder, and users write on all four.

What each of them does keeps clear of the windows that the services' pages state, and of nothing else:

- on the disk: everything, as fast as it can be synchronised at all;
- on the sshd's disk: writes by exchange, creations and deletions, of the same files at the same time. (A program that
  goes on writing to a file which it had opened writes to what is dropped: nobody writes in place there. And a file that
  is renamed over another one of its size and its second is not seen: nobody renames there.)
- in the bucket, which compares and swaps: puts and deletions of the same files, each on the condition that what stands
  there is what the user saw;
- on the WebDAV server's disk: files of the user's own at any time. The server compares and then renames, and what comes
  in between is lost; so the files of all are only written there while that service is paused, and nothing is under way.

Onitu reaches each of the three servers through a proxy that can cut its connections.

`ONITU_SEED` shifts all seeds, `ONITU_STORM_VALUES` (240 where it is not set) is the number of values that are written
in each storm, and `ONITU_FAULTS` (8) how often something is killed in the second one, or cut in the third.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from onitu.testing.users import User, at_work

from .accounts import SEED, held_against, leftovers
from .harness import Daemon, started, wait_for
from .mixed import FILES, Four, four_services
from .test_faults import processes

VALUES = int(os.environ.get("ONITU_STORM_VALUES", "240"))
KILLS = int(os.environ.get("ONITU_FAULTS", "8"))
TURNS = 4
"""Times that the WebDAV service is paused."""
LONG = 180.0 + VALUES / 10


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Four]:
    with four_services(tmp_path) as found:
        yield found


def written(crowd: Sequence[User]) -> int:
    return sum(user.written for user in crowd)


def go_on(crowd: Sequence[User], values: int) -> None:
    """Wait until they have written so many values more, all together; one that ended early ends the wait."""
    reach = written(crowd) + values
    wait_for(lambda: written(crowd) >= reach or not all(user.busy for user in crowd), LONG, "users write on")


@contextlib.contextmanager
def paused(daemon: Daemon) -> Iterator[None]:
    """Nothing is under way on the WebDAV service for the block, and nothing is begun."""
    wait_for(lambda: asked(daemon, "pause", service="dav"), why="paused")
    try:
        wait_for(lambda: at_rest(daemon), LONG, "nothing is under way on a paused service")
        yield
    finally:
        wait_for(lambda: asked(daemon, "resume", service="dav"), why="resumed")


def asked(daemon: Daemon, what: str, **arguments: str) -> bool:
    """Whether the Referee could be asked; it may just be dying."""
    with contextlib.suppress(Exception):
        return bool(daemon.ask(what, **arguments))
    return False


def at_rest(daemon: Daemon) -> bool:
    with contextlib.suppress(Exception):
        service = daemon.status()["folders"]["docs"]["services"]["dav"]
        return service["state"] == "paused" and not service["in_flight"]
    return False


def come_to_rest(daemon: Daemon, four: Four, crowd: Sequence[User], attack: str, faults: int = 0) -> None:
    """Everything is in sync, on all of them, with nothing lost and nothing left aside."""
    # What was written after the last poll of a service is not known of yet, so all are to be looked at once more.
    wait_for(lambda: asked(daemon, "rescan"), why="a scan is asked for")
    daemon.in_sync(LONG)
    wait_for(lambda: not leftovers([four.here]), why="nothing is left in Onitu's own directories")
    daemon.in_sync(LONG)
    aside = [str(path) for root in (four.nas, four.dav) for path in (root / ".onitu").rglob("limbo/*")]
    assert not aside, "what is aside stands nowhere"
    held_against(crowd, [four.here], attack, faults, trees=four.trees())


def test_no_value_is_lost_in_a_storm_on_a_disk_an_sshd_a_bucket_and_a_webdav_server(four: Four) -> None:
    crowd, dav = four.crowd("mixed")
    with started(four.configuration, four.state) as daemon:
        for turn in range(TURNS):
            with at_work([*crowd, dav]):
                go_on([*crowd, dav], VALUES // TURNS // 2)
            with paused(daemon), at_work(crowd):
                for path in dav.random.sample(FILES, len(FILES) // 2):
                    dav.act(path)
                go_on(crowd, VALUES // TURNS // 2)
            print(f"turn {turn}: {written([*crowd, dav])} values")
        come_to_rest(daemon, four, [*crowd, dav], "mixed storm")


def test_no_value_is_lost_where_drivers_and_the_referee_die_meanwhile(four: Four) -> None:
    chance = random.Random(f"mixed kills {SEED}")
    crowd, dav = four.crowd("mixed kills")
    with started(four.configuration, four.state) as daemon:
        with at_work([*crowd, dav]):
            for _ in range(KILLS):
                go_on([*crowd, dav], chance.randrange(1, max(2, 2 * VALUES // KILLS)))
                running = wait_for(lambda: processes(daemon), why="it tells its processes")
                name = chance.choice(sorted(running.keys() - {"store", "server", "supervisor"}))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running[name], signal.SIGKILL)
                print(f"SIGKILL {name}")
        come_to_rest(daemon, four, [*crowd, dav], "mixed kills", KILLS)


def test_no_value_is_lost_where_connections_are_cut_and_stand_still(four: Four) -> None:
    chance = random.Random(f"mixed cuts {SEED}")
    crowd, dav = four.crowd("mixed cuts")
    with started(four.configuration, four.state) as daemon:
        with at_work([*crowd, dav]):
            for _ in range(KILLS):
                go_on([*crowd, dav], chance.randrange(1, max(2, 2 * VALUES // KILLS)))
                name, proxy = chance.choice(sorted(four.proxies.items()))
                still = chance.random() < 0.5
                if still:
                    proxy.stall()
                    go_on([*crowd, dav], chance.randrange(1, 40))
                proxy.cut()
                proxy.go_on()
                print(f"{name}: cut{' after it stood still' * still}, {proxy.connections} connections so far")
        come_to_rest(daemon, four, [*crowd, dav], "mixed cuts", KILLS)
