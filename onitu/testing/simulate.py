"""`python -m onitu.testing simulate`: histories by the thousand, each from one seed, each judged.

See `onitu.testing.simulation`. With `--jobs` above 1 each process plays its share of the seeds.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import msgspec

from .simulation.run import Outcome, simulate
from .simulation.script import Script, decode, draw, encode
from .simulation.shrink import shrink

PORTION = 8
"""Seeds that a process plays at a time."""


@attrs.frozen
class Played:
    """What became of one seed, as it comes back from another process."""

    seed: int
    ok: bool
    digest: str
    operations: int
    faults: int
    messages: int
    seconds: float
    cpu: float
    verdict: str


@attrs.frozen
class What:
    """Which scripts are drawn."""

    services: int
    operations: int
    faults: bool

    def script(self, seed: int) -> Script:
        return draw(seed, self.services, self.operations, self.faults)


def seeds_of(value: str | range) -> range:
    """`7` or `1-1000`."""
    if isinstance(value, range):
        return value
    first, _, last = value.partition("-")
    if not first.isdigit() or (last and not last.isdigit()):
        raise click.BadParameter(f"{value} is neither a number nor a range like 1-1000")
    return range(int(first), int(last or first) + 1)


@click.command(epilog="Exit codes: 0 every promise was kept, 1 one was broken, 2 usage, 130 interrupted.")
@click.option(
    "--seeds",
    type=seeds_of,
    default="1-100",
    metavar="FIRST-LAST",
    show_default=True,
    help="One seed, or a range of them.",
)
@click.option("--services", type=click.IntRange(2, 6), default=3, show_default=True, help="Services in each history.")
@click.option("--operations", type=click.IntRange(1), default=100, show_default=True, help="Users' operations in each.")
@click.option("--faults/--no-faults", default=True, show_default=True, help="Whether anything fails.")
@click.option("--jobs", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), show_default=True)
@click.option(
    "--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Play this script instead."
)
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Write failing scripts, shrunk, here.")
@click.option("--shrink/--no-shrink", "shrinking", default=True, show_default=True, help="Shrink what fails.")
@click.option("--trace", is_flag=True, help="Print the trace of each history.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line on standard output.")
def command(
    seeds: range, services: int, operations: int, faults: bool, jobs: int, replay: Path | None, save: Path | None,
    shrinking: bool, trace: bool, as_json: bool,
) -> None:  # fmt: skip
    """Play simulated histories, and hold each against the promises.

    The real Referee and the real plugs run in one process, on a clock, a network, a store and disks in memory. One seed
    is one history: the same seed gives the same trace, byte for byte.

    \b
    python -m onitu.testing simulate --seeds 1-1000
    python -m onitu.testing simulate --seeds 42 --trace
    python -m onitu.testing simulate --replay failed-42.json --trace
    """
    try:
        if replay is not None:
            broken = _replay(replay, trace, as_json)
        else:
            broken = _play(seeds, What(services, operations, faults), jobs, save, shrinking, trace, as_json)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(1 if broken else 0)


def _replay(path: Path, trace: bool, as_json: bool) -> bool:
    try:
        script = decode(path.read_bytes())
    except msgspec.MsgspecError as error:
        raise click.UsageError(f"{path} is no script: {error}") from None
    outcome = simulate(script)
    _print(_played(outcome, 0.0), outcome.lines if trace else (), as_json)
    return not outcome.ok


def _play(
    seeds: range, what: What, jobs: int, save: Path | None, shrinking: bool, trace: bool, as_json: bool
) -> bool:  # fmt: skip
    began, cpu, count, broken = time.monotonic(), 0.0, 0, []
    for played in _all(seeds, what, 1 if trace else jobs):
        count, cpu = count + 1, cpu + played.cpu
        _print(played, simulate(what.script(played.seed)).lines if trace else (), as_json)
        if not played.ok:
            broken.append(played.seed)
            _tell_failure(what.script(played.seed), save, shrinking)
        if sys.stderr.isatty():
            click.echo(f"\r{count} of {len(seeds)}, {len(broken)} broken", err=True, nl=count == len(seeds))
    wall = time.monotonic() - began
    click.echo(
        f"{count} histories of {what.operations} operations on {what.services} services in {wall:.1f} s "
        f"({cpu / max(1, count):.2f} s of a processor each): {len(broken)} broke a promise"
        + (f", of the seeds {', '.join(map(str, broken))}" if broken else ""),
        err=True,
    )
    return bool(broken)


def _all(seeds: range, what: What, jobs: int) -> Iterator[Played]:
    """What became of each seed, in order."""
    if jobs == 1:
        for seed in seeds:
            yield from play_some([seed], what)
        return
    portions = [list(seeds[start : start + PORTION]) for start in range(0, len(seeds), PORTION)]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        yield from itertools.chain.from_iterable(pool.map(play_some, portions, itertools.repeat(what)))


def play_some(seeds: list[int], what: What) -> list[Played]:
    """Play these seeds here."""
    found = []
    for seed in seeds:
        began = time.process_time()
        outcome = simulate(what.script(seed))
        found.append(_played(outcome, time.process_time() - began))
    return found


def _played(outcome: Outcome, cpu: float) -> Played:
    script = outcome.script
    return Played(
        script.seed,
        outcome.ok,
        outcome.digest,
        script.operations,
        len(script.steps) - script.operations,
        outcome.messages,
        round(outcome.seconds, 3),
        round(cpu, 4),
        outcome.verdict.explain(),
    )


def _print(played: Played, lines: tuple[str, ...], as_json: bool) -> None:
    for line in lines:
        click.echo(line, err=as_json)
    if as_json:
        click.echo(json.dumps(attrs.asdict(played)))
    elif not played.ok or lines:
        click.echo(f"seed {played.seed}, trace {played.digest}: {played.verdict}", err=True)


def _tell_failure(script: Script, save: Path | None, shrinking: bool) -> None:
    """Shrink what failed, and say how to see it again."""
    small = shrink(script, lambda less: not simulate(less).ok) if shrinking else script
    outcome = simulate(small)
    click.echo(f"{small.operations} operations and {len(small.steps) - small.operations} faults do it:", err=True)
    click.echo(outcome.verdict.explain(5), err=True)
    if save is None:
        click.echo(encode(small).decode(), err=True)
        return
    save.mkdir(parents=True, exist_ok=True)
    path = save / f"failed-{script.seed}.json"
    path.write_bytes(encode(small))
    click.echo(f"python -m onitu.testing simulate --replay {path} --trace", err=True)
