"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def where(function: F) -> F:
    """`-c` and `--state`: which run a command is about."""
    config = click.option(
        "-c",
        "--config",
        default="",
        metavar="FILE",
        help="The configuration.  [default: ./onitu.yaml, then $XDG_CONFIG_HOME/onitu/onitu.yaml]",
    )
    state = click.option(
        "--state",
        default="",
        metavar="DIR",
        help="The state directory.  [default: $XDG_STATE_HOME/onitu/NAME]",
    )
    return config(state(function))


as_json = click.option("--json", "json", is_flag=True, help="One JSON object a line on stdout.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Say more.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
folder = click.option("-f", "--folder", default=None, metavar="FOLDER", help="This folder only.")
