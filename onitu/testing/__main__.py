"""`python -m onitu.testing`: tests of synchronisers from the command line. A subcommand is loaded when it is used."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "simulate": "simulate:command",
    "trial": "trial:trial",
}
"""By name, where in this package a subcommand is."""


class Commands(click.Group):
    """The subcommands, each imported only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(f"onitu.testing.{module}"), name)
        return found if isinstance(found, click.Command) else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Test synchronisers: this one, and any other."""


if __name__ == "__main__":
    cli(prog_name="python -m onitu.testing")
