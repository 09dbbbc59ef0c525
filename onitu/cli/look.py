"""Looking at a running daemon: `status`, `conflicts`, `log`, `explain`, `check`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from onitu.model.sizes import show_size

from . import asking, options, output
from .failing import IN_SYNC, NOT_IN_SYNC
from .journal import Follower
from .output import Output

WAITING = 30.0
"""Seconds that one question to wait for may take; then it is asked again."""

CHECKING = 24 * 3600.0
"""Seconds that a full comparison may take."""

FOLLOWING = 0.5
"""Seconds between two looks at the journal."""


@click.command()
@click.option("--wait", is_flag=True, help="Answer only when nothing moves any more.")
@options.where
@options.as_json
@options.verbose
def status(wait: bool, config: str, state: str, json: bool, verbose: bool) -> int:
    """Say how services and folders stand: what is left to do, blocked, or in conflict.

    The exit code is 1 where paths are blocked, deletions held back, or services in trouble; with --wait also
    where it is not in sync for another reason.

    \b
    onitu status
    onitu status --wait && echo "in sync"
    onitu status --json | jq .folders
    """
    found = asking.state_of(config, state)
    out = Output(json=json, verbose=verbose)

    async def main() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        seen = await asking.ask(found, "status")
        with out.progress() as bar:
            while wait and not output.is_settled(seen):
                await asking.ask(found, "settled", WAITING + 10, timeout=1.0 if bar.visible else WAITING)
                seen = await asking.ask(found, "status")
                bar.show(seen)
        problems = []
        if not seen.get("referee") and (verbose or _troubled(seen)):
            problems = (await asking.ask(found, "problems", limit=1000))["problems"]
        return seen, problems

    seen, problems = asking.run(main)
    kinds = problems if verbose else [problem for problem in problems if problem.get("kind") == "blocked"]
    out.result(
        {**seen, "problems": kinds} if kinds or verbose else seen,
        [*output.status_lines(seen, verbose), *(f"  {line}" for line in output.problem_lines(kinds))],
    )
    if wait:
        return IN_SYNC if output.is_in_sync(seen) else NOT_IN_SYNC
    return NOT_IN_SYNC if _troubled(seen) else IN_SYNC


def _troubled(status: dict[str, Any]) -> bool:
    folders = status.get("folders", {}).values()
    return bool(status.get("referee")) or any(
        folder.get("blocked")
        or any(folder.get("quarantined", {}).values())
        or any(service.get("trouble") for service in folder.get("services", {}).values())
        for folder in folders
    )


@click.command()
@options.folder
@options.where
@options.as_json
def conflicts(folder: str | None, config: str, state: str, json: bool) -> None:
    """List the conflict copies that stand. To resolve one: keep what you want under the name, delete the
    copy.
    """
    found = asking.ask_now(config, state, "conflicts", folder=folder)["conflicts"]
    out = Output(json=json)
    for conflict in found:
        out.result(conflict, [f"{conflict.get('folder')}: {conflict.get('path')}  (of {conflict.get('of')})"])
    if not json:
        out.say("" if found else "no conflicts")


@click.command()
@click.option("-n", "--lines", default=50, show_default=True, metavar="N", type=click.IntRange(min=1), help="How many.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until interrupted.")
@options.folder
@options.where
@options.as_json
def log(lines: int, follow: bool, folder: str | None, config: str, state: str, json: bool) -> None:
    """Show the newest decisions, oldest first: which case it was, and what came of it.

    \b
    onitu log -n 100
    onitu log --follow
    """
    found = asking.state_of(config, state)
    out = Output(json=json)
    given: dict[str, Any] = {"folder": folder} if folder is not None else {}

    async def entries(limit: int, after: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = await asking.ask(found, "log", limit=limit, after=dict(after), **given)
        newest: list[dict[str, Any]] = answer["entries"]
        return newest

    async def main() -> None:
        import trio

        newest = await entries(lines, {})
        for entry in reversed(newest):
            out.result(entry, [output.entry_line(entry)])
        follower = Follower(entries, since=float(newest[0]["time"]) if newest else 0.0)
        follower.known(newest)
        while follow:
            for entry in await follower.new():
                out.result(entry, [output.entry_line(entry)])
            await trio.sleep(FOLLOWING)

    asking.run(main)


@click.command()
@click.argument("path")
@options.folder
@options.where
@options.as_json
def explain(path: str, folder: str | None, config: str, state: str, json: bool) -> None:
    """Say what is known of a path, what each service holds there and why, and what was decided.

    PATH is as it stands in the folder, or on this host within a replica.

    \b
    onitu explain photos/2024/beach.jpg
    onitu explain ~/Docs/report.odt
    """
    name = os.fsencode(_within_replica(path, config, state))  # which need not be text
    found = asking.ask_now(config, state, "explain", path=name, folder=folder)
    lines = []
    nodes = found.get("nodes") or ({"": found["node"]} if found.get("node") else {})
    for name, node in nodes.items():
        head = node.get("head", {})
        lines.append(f"{name + ': ' if name else ''}{node.get('path', path)}: {_described(head)}")
    lines += [f"  {name}: {sentence}" for name, sentence in found.get("services", {}).items()]
    lines += [f"  {output.entry_line(entry)}" for entry in reversed(found.get("entries", []))]
    Output(json=json).result(found, lines)


def _described(head: dict[str, Any]) -> str:
    kind = head.get("kind", "nothing")
    if kind == "nothing":
        return "deleted" if head.get("service") else "nothing"
    size = f" of {output.count(int(head['size']), 'byte')}" if kind == "file" and "size" in head else ""
    return f"a {kind}{size}, from {head['service']}" if head.get("service") else f"a {kind}{size}"


def _within_replica(path: str, config: str, state: str) -> str:
    """The path within its folder, where a place on this host was named that lies in a replica."""
    from pathlib import Path

    from . import configuration, registry

    if (state and not config) or not (path.startswith(("/", "~", "./", "../"))):
        return path
    settings = configuration.load(asking.configuration_file(config)).settings
    place = Path(os.path.expanduser(path))
    # The last name is not resolved: a link is a thing of its own in a replica.
    whole = Path(os.path.realpath(place.parent)) / place.name
    for service in settings.services.values():
        for replica in service.replicas.values():
            if service.driver in registry.LOCAL and whole.is_relative_to(os.path.realpath(replica.path)):
                return str(whole.relative_to(os.path.realpath(replica.path)))
    return path


@click.command()
@options.where
@options.as_json
@options.quiet
def check(config: str, state: str, json: bool, quiet: bool) -> int:
    """Read every replica again and compare: names, contents, modes. Nothing is changed by the comparison.

    Without a daemon one is run for as long as it takes. The exit code is 1 where replicas disagree.

    \b
    onitu check
    onitu check -c ~/sync/onitu.yaml --json
    """
    from . import configuration

    found = asking.state_of(config, state)
    out = Output(json=json, quiet=quiet)

    async def main() -> dict[str, Any]:
        if asking.pid_of(found) is not None:
            return await asking.ask(found, "check", CHECKING, timeout=CHECKING)
        from .session import answer, session, settled

        settings = configuration.load(asking.configuration_file(config), state).settings
        report: dict[str, Any] = {}
        async with session(settings) as supervisor:
            with out.progress() as bar:
                await settled(supervisor, bar.show)
            report = await answer(supervisor, "check", timeout=CHECKING)
        if supervisor.interrupted:
            raise KeyboardInterrupt
        return report

    report = asking.run(main)
    disagreements = report.get("disagreements", [])
    for one in disagreements:
        out.result(one, [_disagreement(one)])
    number = len(disagreements) + int(report.get("more", 0))
    if json:
        counted = {name: int(report.get(name, 0)) for name in ("checked", "bytes")}
        output.emit({"type": "summary", **counted, "disagreements": number})
    elif number > len(disagreements):
        out.say(f"… and {number - len(disagreements):,} more")
    checked, read = output.count(int(report.get("checked", 0)), "path"), show_size(int(report.get("bytes", 0)))
    out.say(f"{checked} compared, {read} read, {output.count(number, 'disagreement')}")
    return NOT_IN_SYNC if disagreements else IN_SYNC


def _disagreement(one: dict[str, Any]) -> str:
    """What a check found, for people."""
    where = f"{one.get('path')} on {one.get('service')}" if one.get("path") else str(one.get("service"))
    return f"{one.get('folder')}: {where}: {one.get('what')}"
