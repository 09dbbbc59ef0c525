"""`onitu drivers`: what is installed, and which options each driver has."""

from __future__ import annotations

from typing import Any

import click

from onitu.model.errors import ConfigurationError

from . import options, registry
from .output import Output


@click.command()
@click.argument("name", required=False)
@options.as_json
def drivers(name: str | None, json: bool) -> None:
    """List the drivers that are installed, and their options.

    \b
    onitu drivers
    onitu drivers local_storage
    """
    installed = registry.installed()
    if name is not None and name not in installed:
        raise ConfigurationError([f"no driver {name!r} is installed; installed are {', '.join(installed)}"])
    out = Output(json=json)
    for known, target in sorted(installed.items()):
        if name in (None, known):
            described = _described(known, target)
            out.result(described, _lines(described))


def _described(name: str, target: str) -> dict[str, Any]:
    from onitu.plug.options import declared

    try:
        driver = registry.load(name)
    except ConfigurationError as error:
        return {"name": name, "class": target, "trouble": error.problems[0]}
    return {
        "name": name,
        "class": target,
        "about": (driver.__doc__ or "").strip().split("\n")[0],
        "schemes": _schemes(name) or list(driver.schemes),
        "options": [
            {
                "name": option.name,
                "type": option.type.__name__,
                "default": option.default,
                "help": option.help,
                "secret": option.secret,
                "choices": list(option.choices),
            }
            for option in declared(driver.Options)
        ],
    }


def _schemes(name: str) -> list[str]:
    from onitu.plug import catalogue

    return [scheme for known in catalogue.OWN if name in known.names for scheme in known.schemes]


def _lines(described: dict[str, Any]) -> list[str]:
    if "trouble" in described:
        return [f"{described['name']}: {described['trouble']}"]
    lines = [f"{described['name']}: {described['about']}"]
    if described["schemes"]:
        lines.append(f"  for `onitu sync`: {', '.join(f'{scheme}:' for scheme in described['schemes'])}")
    for option in described["options"]:
        default = "needed" if option["default"] is None else f"default {option['default']!r}"
        secret = ", secret" if option["secret"] else ""
        kind = " or ".join(option["choices"]) or option["type"]
        lines.append(f"  {option['name']} ({kind}, {default}{secret}): {option['help']}")
    return lines
