"""`python -m onitu.testing trial`: trials from the command line, as a table or as JSON."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from .adapters import OURS, Adapter, Missing, find
from .trials import NAMES, Mode, Outcome, Trial, run

COUNTS = ("lost", "diverged", "ghosts", "resurrected", "unsettled", "litter", "helped")
"""What the table counts, beside the values that were written."""

WIDE = 160
"""Columns of the table where no terminal says how many it has."""

TOLD = 2
"""How much of what is wrong with a trial is told in words."""

CLEAN, UNCLEAN, USAGE, INTERRUPTED = 0, 1, 2, 130


def seeds_of(ctx: click.Context, param: click.Parameter, value: str) -> Sequence[int]:
    """The seeds that `7` or `1-20` mean."""
    first, dash, last = value.partition("-")
    try:
        found = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        found = range(0)
    if not found:
        raise click.BadParameter(f"{value} is no range of seeds: 7, or 1-20", ctx, param)
    return found


@click.command()
@click.option(
    "--tool", "tools", multiple=True, metavar="TOOL", help=f"{', '.join(OURS)}, or MODULE:CLASS.  [default: all here]"
)
@click.option("--mode", "modes", multiple=True, type=click.Choice([m.value for m in Mode]), help="[default: all]")
@click.option(
    "--seeds", callback=seeds_of, default="1-5", show_default=True, help="One seed, or the first and the last."
)
@click.option("--replicas", type=click.IntRange(2, len(NAMES)), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True, help="Of edits, in the mode once.")
@click.option(
    "--seconds", type=click.FloatRange(0), default=10.0, show_default=True, help="Of edits, in the other modes."
)
@click.option("--deadline", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to come to rest.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Keep replicas, logs and history of what was not clean below this."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
def trial(
    tools: tuple[str, ...],
    modes: tuple[str, ...],
    seeds: Sequence[int],
    replicas: int,
    rounds: int,
    seconds: float,
    deadline: float,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Let the same users loose on synchronisers, and see what is left of what they wrote.

    \b
    python -m onitu.testing trial --tool onitu --mode race --seeds 1-20
    python -m onitu.testing trial --tool mine.adapter:Mine --json

    Exit codes: 0 every tool kept every promise, 1 some did not, 2 usage, or a tool that was asked for is missing, 130
    interrupted.
    """
    # So that whoever ends it early leaves no process of a tool behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(INTERRUPTED))
    versions = _installed(tools)
    table: list[dict[str, Any]] = []
    for tool, version in versions.items():
        for mode in map(Mode, modes or [each.value for each in Mode]):
            if tool.most is not None and replicas > tool.most:
                _say(f"{tool.name} takes {tool.most} replicas, not {replicas}: left out")
                break
            outcomes = []
            for seed in seeds:
                outcome = _one(Trial(tool, mode, seed, replicas, rounds, seconds, deadline), keep)
                outcomes.append(outcome)
                _tell(outcome, as_json)
            table.append(summary(outcomes, version))
            if as_json:
                click.echo(json.dumps({"type": "summary", **table[-1]}))
    if not as_json:
        show(table)
    raise SystemExit(CLEAN if table and all(row["clean"] for row in table) else UNCLEAN)


def _installed(names: Sequence[str]) -> dict[type[Adapter], str]:
    """The tools that were asked for, or all that are here, with their versions. If one that was asked for is missing,
    that ends it."""
    found: dict[type[Adapter], str] = {}
    for name in names or OURS:
        try:
            tool = find(name)
            with tempfile.TemporaryDirectory(prefix="trial-") as home:
                found[tool] = tool(Path(home)).version()
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        except Missing as error:
            _say(str(error))
            if names:
                raise SystemExit(USAGE) from None
    return found


def _one(asked: Trial, keep: Path | None) -> Outcome:
    """Carry it out, and leave behind what was asked for."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="trial-") as base:
            return run(asked, Path(base).resolve())
    kept = (keep / f"{asked.tool.name}-{asked.mode.value}-{asked.seed}").resolve()
    if kept.exists():
        shutil.rmtree(kept)
    kept.mkdir(parents=True)
    outcome = run(asked, kept)
    if outcome.clean:
        shutil.rmtree(kept)
    else:
        (kept / "verdict.txt").write_text(f"{outcome.verdict.explain(limit=1000)}\n{outcome.trouble}\n")
    return outcome


# --- the report -----------------------------------------------------------------------------------------------------


def counts(outcome: Outcome) -> dict[str, int]:
    """The numbers of one trial."""
    verdict = outcome.verdict
    return {
        "lost": len(outcome.gone),
        "diverged": len({found.path for found in verdict.diverged}),
        "ghosts": len({found.value or found.path for found in verdict.ghosts}),
        "resurrected": len({found.value for found in verdict.resurrected}),
        "unsettled": int(outcome.unsettled),
        "litter": len(outcome.litter),
        "helped": outcome.helped,
    }


def report(outcome: Outcome) -> dict[str, Any]:
    """One trial, for programs."""
    trial = outcome.trial
    return {
        "tool": trial.tool.name,
        "mode": trial.mode.value,
        "seed": trial.seed,
        "replicas": trial.replicas,
        "clean": outcome.clean,
        "written": outcome.written,
        **counts(outcome),
        "findings": [attrs.asdict(finding) for finding in outcome.verdict.findings],
        "trouble": outcome.trouble,
    }


def summary(outcomes: Sequence[Outcome], version: str) -> dict[str, Any]:
    """All seeds of a tool in a mode: sums, and which seeds they come from."""
    numbers = {outcome.trial.seed: counts(outcome) for outcome in outcomes}
    first = outcomes[0].trial
    return {
        "tool": first.tool.name,
        "version": version,
        "settings": first.tool.settings,
        "mode": first.mode.value,
        "replicas": first.replicas,
        "seeds": list(numbers),
        "clean": all(outcome.clean for outcome in outcomes),
        "written": sum(outcome.written for outcome in outcomes),
        **{name: sum(each[name] for each in numbers.values()) for name in COUNTS},
        "where": {name: [seed for seed, each in numbers.items() if each[name]] for name in COUNTS},
    }


def show(table: Sequence[dict[str, Any]]) -> None:
    """The summaries as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table("tool", "mode", "replicas", "seeds", "written", *COUNTS)
    for row in table:
        cells = [f"{row[name]}{_seeds(row['where'][name])}" for name in COUNTS]
        drawn.add_row(
            *(row["tool"], row["mode"], str(row["replicas"])), str(len(row["seeds"])), f"{row['written']:,}", *cells
        )
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(drawn)
    for line in dict.fromkeys(f"{row['tool']}: {row['version']}; {row['settings']}" for row in table):
        console.print(line, highlight=False, markup=False)


def _seeds(seeds: Sequence[int]) -> str:
    return f" (seeds {', '.join(map(str, seeds))})" if seeds else ""


def _tell(outcome: Outcome, as_json: bool) -> None:
    """What came of one trial, as soon as it is known."""
    if as_json:
        click.echo(json.dumps({"type": "trial", **report(outcome)}))
        return
    trial = outcome.trial
    wrong = ", ".join(f"{number} {name}" for name, number in counts(outcome).items() if number)
    _say(f"{trial.tool.name} {trial.mode.value} {trial.seed}: {outcome.written} written, {wrong or 'all is well'}")
    if outcome.trouble:
        _say(f"  {outcome.trouble}")
    told = {(found.promise, found.value or found.path): found for found in outcome.verdict.findings}
    for found in list(told.values())[:TOLD]:
        _say(f"  {found}")
    if len(told) > TOLD:
        _say(f"  … and {len(told) - TOLD} more")


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)
