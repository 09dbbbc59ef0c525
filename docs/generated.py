"""The parts of the reference that are made from the code: the command line, and the drivers with their options.

A line `<!-- generated: NAME -->` in a page is replaced by what the function of that name returns, in Markdown, whenever
the pages are built. So these parts cannot go stale.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import click

from onitu.cli import registry
from onitu.cli.main import cli
from onitu.model.errors import ConfigurationError
from onitu.plug.driver import Driver
from onitu.plug.options import declared

_PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def commands() -> str:
    """Every command: its usage, what it says of itself, its options."""
    context = cli.make_context("onitu", ["status"])
    return "\n".join(line for name in cli.list_commands(context) for line in _command(context, name))


def _command(context: click.Context, name: str) -> Iterator[str]:
    command = cli.get_command(context, name)
    assert command is not None
    own = click.Context(command, info_name=name, parent=context, **command.context_settings)
    usage = " ".join([own.command_path, *command.collect_usage_pieces(own)])
    yield from (f"## {name}", "", "```text", usage, "```", "")
    yield from _help(command.help or "")
    options = [parameter for parameter in command.get_params(own) if isinstance(parameter, click.Option)]
    rows = [found for option in options if (found := option.get_help_record(own)) is not None]
    yield from ("| option | |", "| --- | --- |")
    yield from (f"| {_code(option)} | {_cell(text)} |" for option, text in rows)
    yield ""


def _help(text: str) -> Iterator[str]:
    """A docstring as Markdown: what Click keeps as it is (after a backspace) is a block of code."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        kept = paragraph.lstrip("\n").startswith("\b")
        lines = paragraph.removeprefix("\b").strip("\n").splitlines()
        yield from ("```sh", *lines, "```", "") if kept else (*lines, "")


def drivers() -> str:
    """Every driver that is installed with Onitu: what it is for, and a table of its options."""
    names: dict[type[Driver], list[str]] = {}
    for name in registry.installed():
        try:
            driver = registry.load(name)
        except ConfigurationError:  # a driver whose library is not installed here
            continue
        if driver.__module__.startswith("onitu."):
            names.setdefault(driver, []).append(name)
    return "\n".join(line for driver, known in names.items() for line in _driver(driver, known))


def _driver(driver: type[Driver], names: list[str]) -> Iterator[str]:
    yield from ("## " + ", ".join(names), "", inspect.cleandoc(driver.__doc__ or "").split("\n\n")[0], "")
    yield from ("| option | type | default | |", "| --- | --- | --- | --- |")
    for option in declared(driver.Options):
        default = "needed" if option.default is None else _code(_yaml(option.default))
        kind = " or ".join(option.choices) or option.type.__name__
        yield f"| {_code(option.name)} | {kind} | {default} | {_cell(option.help)} |"
    yield ""


def _yaml(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("$", "\\$")


def fill(text: str) -> str:
    """The page with its generated parts."""
    return _PLACE.sub(lambda found: {"commands": commands, "drivers": drivers}[found[1]](), text)


def _read(_app: object, _page: str, source: list[str]) -> None:
    source[0] = fill(source[0])


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
