"""The local driver's glance: it sees what the driver sees, and needs nothing that only a driver needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from onitu.drivers.local.glance import unchanged
from onitu.model.errors import Unavailable
from onitu.model.settings import Filter
from onitu.model.tally import Sealed, Tally
from onitu.plug.driver import Driver, Identity
from tests.unit.drivers.conftest import Local

HIDING = (
    (),
    (Filter(blacklist=("*.tmp", "cache/")),),
    (Filter(whitelist=("*.txt",)), Filter(size_max=10)),
    (Filter(mimetypes=("text/*",)),),
)


def never() -> None:
    """Go on looking."""


def furnish(local: Local) -> None:
    """Some of each kind, seen and hidden."""
    for name in ("docs", "docs/below", "cache", "empty"):
        (local.root / name).mkdir()
    for name in ("a.txt", "b.tmp", "docs/c.txt", "docs/below/d", "cache/e.txt"):
        (local.root / name).write_text(name)
    (local.root / "docs" / "long.txt").write_text("x" * 100)
    (local.root / "link.txt").symlink_to("a.txt")


def let_go(local: Local) -> None:
    """A glance comes when nobody has the replica's lock."""
    local.driver._replicas.pop("f").close()


async def sealed(local: Local, hiding: tuple[Filter, ...] = ()) -> Sealed:
    """The seal of all that stands there now."""
    seen = await Driver.tally(local.driver, "f", hiding, 0)
    assert seen is not None
    identity = await local.driver.identify("f")
    let_go(local)
    return Sealed(identity.marker, identity.generation, bytes(seen), time.time_ns() + 1_000_000_000)


def glance(local: Local, seal: Sealed, hiding: tuple[Filter, ...] = ()) -> bool:
    return unchanged(str(local.root), hiding, seal, never)


@pytest.mark.parametrize("hiding", HIDING)
async def test_it_counts_what_a_listing_tells_whatever_is_hidden(local: Local, hiding: tuple[Filter, ...]) -> None:
    furnish(local)
    counted = await local.driver.tally("f", hiding, time.time_ns() + 1_000_000_000)
    assert counted is not None
    assert counted == await Driver.tally(local.driver, "f", hiding, 0) != Tally()
    assert glance(local, await sealed(local, hiding), hiding)


async def test_only_what_is_not_hidden_is_a_change(local: Local) -> None:
    furnish(local)
    hiding = HIDING[1]
    seal = await sealed(local, hiding)
    (local.root / "docs" / "new.tmp").write_text("hidden")
    os.mkfifo(local.root / "cache" / "pipe")
    assert glance(local, seal, hiding)
    (local.root / "docs" / "new.txt").write_text("seen")
    assert not glance(local, seal, hiding)


async def test_a_change_after_the_seal_is_seen_by_its_stamps_alone(local: Local) -> None:
    """However many files there are, the first of them that is younger ends the look."""
    furnish(local)
    seal = await sealed(local)
    assert not glance(local, Sealed(seal.marker, seal.generation, seal.tally, 0))


@pytest.mark.parametrize("other", [Identity("o" * 32, 1, 0), Identity("m" * 32, 7, 8)])
async def test_another_replica_or_another_time_of_it_is_none_that_is_as_it_was(local: Local, other: Identity) -> None:
    seal = await sealed(local)
    assert glance(local, seal)
    await local.driver.identify("f")
    await local.driver.mark("f", other)
    let_go(local)
    assert not glance(local, seal)


async def test_what_lies_in_the_limbo_is_for_a_whole_run(local: Local) -> None:
    seal = await sealed(local)
    (local.root / ".onitu" / "limbo" / "17-0").write_text("somebody's value")
    assert not glance(local, seal)


async def test_a_replica_in_use_or_without_a_root_cannot_be_glanced_at(local: Local) -> None:
    seal = await sealed(local)
    await local.driver.identify("f")
    with pytest.raises(Unavailable, match="in use"):
        glance(local, seal)
    with pytest.raises(Unavailable, match="cannot be opened"):
        unchanged(str(local.root / "nowhere"), (), seal, never)


def test_nothing_is_loaded_for_it_that_only_a_run_needs() -> None:
    """A run with nothing to do would wait for it."""
    program = (
        "import sys; import onitu.cli.main, onitu.cli.sync, onitu.cli.urls, onitu.supervisor.headstart;"
        "from onitu.plug import catalogue, glance; from onitu.supervisor import glances;"
        "assert catalogue.glance('local') is not None;"
        "print(*sorted({'trio', 'zmq', 'anyio', 'redis', 'logbook', 'ssl', 'yaml'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []
