"""The command `onitu` and the ones below it."""

from __future__ import annotations

import sys
from typing import Any

import click

from . import daemon, drivers, init, look, sync
from .failing import exit_code


class Commands(click.Group):
    """A group that turns every error into a message and an exit code; what a command returns is its exit
    code.
    """

    def invoke(self, ctx: click.Context) -> None:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except click.ClickException:
            # Click says these itself, with the usage of the command that they are about.
            raise
        except BaseException as error:
            code = exit_code(error)
        ctx.exit(code or 0)


def version() -> str:
    """The version of the installed package."""
    import importlib.metadata

    try:
        return importlib.metadata.version("onitu")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _say_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> Any:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"onitu {version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_say_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Keep folders the same on any number of places, and never lose a value that a user wrote.

    \b
    onitu sync ~/Docs /mnt/usb/Docs           make them the same, once
    onitu sync --watch ~/Docs /mnt/usb/Docs   and keep them the same
    onitu init                                write onitu.yaml, for several folders, services and rules
    onitu start                               run it
    onitu status                              how it stands

    Exit codes: 0 in sync, 1 some paths are blocked or failed, 2 usage or configuration, 3 an internal error,
    130 interrupted.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    eval "$(onitu completion bash)"                              in ~/.bashrc
    eval "$(onitu completion zsh)"                               in ~/.zshrc
    onitu completion fish > ~/.config/fish/completions/onitu.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "onitu", "_ONITU_COMPLETE").source())


for command in (
    sync.sync,
    *(daemon.start, daemon.stop, daemon.pause, daemon.resume, daemon.rescan, daemon.approve),
    *(look.status, look.conflicts, look.log, look.explain, look.check),
    init.init,
    drivers.drivers,
):
    cli.add_command(command)
