"""Starting the daemon, and telling it what to do: `start`, `stop`, `pause`, `resume`, `rescan`, `approve`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from . import asking, options, output
from .failing import IN_SYNC, INTERRUPTED, NOT_IN_SYNC
from .output import Output

if TYPE_CHECKING:
    from onitu.supervisor.headstart import HeadStart

STOPPING = 30.0
"""Seconds that a daemon has to end: its children's deadlines together, and some more."""


@click.command()
@options.where
@options.verbose
@options.quiet
def start(config: str, state: str, verbose: bool, quiet: bool) -> int:
    """Run the daemon in the foreground, until it is stopped.

    \b
    onitu start
    onitu start -c ~/sync/onitu.yaml
    """
    from . import configuration, session

    found = configuration.load(asking.configuration_file(config), state)
    out = Output(quiet=quiet, verbose=verbose)
    for note in found.notes:
        out.say(f"note: {note}")

    async def main(head_start: HeadStart) -> int:
        import trio

        async with session.session(found.settings, head_start, verbose=verbose, quiet=quiet) as supervisor:
            await supervisor.started.wait()
            names = ", ".join(found.settings.services)
            out.say(f"onitu {found.settings.name}: {names}; Ctrl-C or `onitu stop` ends it")
            await trio.sleep_forever()
        return INTERRUPTED if supervisor.interrupted is signal.SIGINT else IN_SYNC

    return session.run(found.settings, main)


@click.command()
@options.where
@options.quiet
def stop(config: str, state: str, quiet: bool) -> int:
    """Stop the daemon: what is under way is finished, or left to go on from there."""
    found = asking.state_of(config, state)
    pid = asking.pid_of(found)

    async def main() -> bool:
        import trio

        await asking.ask(found, "stop")
        with trio.move_on_after(STOPPING):
            while asking.pid_of(found) == pid:  # noqa: ASYNC110
                await trio.sleep(0.05)  # another process's end: there is nothing to wait on
            return True
        return False

    if asking.run(main):
        Output(quiet=quiet).say("stopped")
        return IN_SYNC
    Output().complain(f"process {pid} has not ended after {STOPPING:g} s")
    return NOT_IN_SYNC


def _each(services: tuple[str, ...], config: str, state: str, what: str, **more: Any) -> list[dict[str, Any]]:
    """Ask the same for each service; for all of them at once where none is named."""
    return [asking.ask_now(config, state, what, service=name, **more) for name in services or (None,)]


def _named(answers: list[dict[str, Any]], services: tuple[str, ...]) -> str:
    found = [name for answer in answers for name in answer.get("services", [])]
    return ", ".join(dict.fromkeys(found or services)) or "all services"


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]…")
@options.folder
@options.where
@options.quiet
def pause(services: tuple[str, ...], folder: str | None, config: str, state: str, quiet: bool) -> None:
    """Write nothing more to these services, or to any, until `onitu resume`; also after a restart.

    \b
    onitu pause
    onitu pause nas
    """
    answers = _each(services, config, state, "pause", folder=folder)
    Output(quiet=quiet).say(f"paused: {_named(answers, services)}")


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]…")
@options.folder
@options.where
@options.quiet
def resume(services: tuple[str, ...], folder: str | None, config: str, state: str, quiet: bool) -> None:
    """Go on after a pause, and start again what had failed too often.

    \b
    onitu resume
    onitu resume nas
    """
    answers = _each(services, config, state, "resume", folder=folder)
    Output(quiet=quiet).say(f"resumed: {_named(answers, services)}")


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]…")
@options.folder
@options.where
@options.quiet
def rescan(services: tuple[str, ...], folder: str | None, config: str, state: str, quiet: bool) -> None:
    """Have these services, or all, look at everything again. Never needed, but it can do no harm.

    \b
    onitu rescan
    onitu rescan nas --folder docs
    """
    answers = _each(services, config, state, "rescan", folder=folder)
    Output(quiet=quiet).say(f"looking again: {_named(answers, services)}")


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]…")
@click.option("--restore", is_flag=True, help="Bring the files back instead.")
@options.folder
@options.where
@options.as_json
@options.quiet
def approve(
    services: tuple[str, ...], restore: bool, folder: str | None, config: str, state: str, json: bool, quiet: bool
) -> None:
    """Let deletions through that were held back, as there were too many at once; accept a replica that was refused.

    \b
    onitu approve laptop             they were meant: delete everywhere
    onitu approve laptop --restore   they were not: bring the files back
    """
    answers = _each(services, config, state, "approve", folder=folder, restore=restore)
    paths = sum(int(answer.get("paths", 0)) for answer in answers)
    accepted = [name for answer in answers for name in answer.get("accepted", [])]
    out = Output(json=json, quiet=quiet)
    if json:
        output.emit({"paths": paths, "accepted": accepted})
    if accepted:
        out.say(f"accepted as it is now: {', '.join(accepted)}")
    if paths or not accepted:
        out.say(f"{output.count(paths, 'path')} {'brought back' if restore else 'approved'}")
