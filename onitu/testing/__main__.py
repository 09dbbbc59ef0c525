"""`python -m onitu.testing`: tests of synchronisers from the command line."""

from __future__ import annotations

import click

from .trial import trial


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Test synchronisers: this one, and any other."""


cli.add_command(trial)

if __name__ == "__main__":
    cli(prog_name="python -m onitu.testing")
