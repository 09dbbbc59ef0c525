"""`onitu init`: a few questions, and a configuration that works."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from onitu.model.errors import ConfigurationError

from . import asking
from .failing import IN_SYNC

HEADER = """\
# Onitu's configuration. `onitu start` runs it, `onitu status` tells how it stands.
# A folder may have: blacklist, whitelist, mimetypes, file_size: {min, max}, mode, conflict.
# A folder on a service may have the same, beside its path. Relative paths begin at this file's directory.

"""


@click.command()
@click.option("-c", "--config", default=asking.FILE, show_default=True, metavar="FILE", help="The file to write.")
@click.option("--force", is_flag=True, help="Write over a file that stands there.")
def init(config: str, force: bool) -> int:
    """Ask a few questions and write onitu.yaml.

    \b
    onitu init
    onitu init -c ~/.config/onitu/onitu.yaml
    """
    file = Path(config)
    if file.exists() and not force:
        raise ConfigurationError([f"{file}: stands there already; --force writes over it"])
    base = file.absolute().parent
    document: dict[str, Any] = {"name": _ask_name("Name of this configuration", base.name)}
    document |= {"folders": {}, "services": {}}
    while True:
        folder = _ask_name("Name of the folder to keep the same", "docs")
        document["folders"][folder] = None
        _ask_places(folder, document["services"], base)
        if not click.confirm("Another folder?", default=False, err=True):
            break
    text = HEADER + _yaml(document)
    _check(text, file)
    base.mkdir(parents=True, exist_ok=True)
    _replace(file, text)
    click.echo(f"{file} is written; `onitu start -c {file}` runs it", err=True)
    return IN_SYNC


def _ask_name(question: str, default: str) -> str:
    from .values import check_name

    while True:
        answer = str(click.prompt(question, default=default, err=True)).strip()
        try:
            return check_name(answer)
        except ValueError as error:
            click.echo(str(error), err=True)


def _ask_places(folder: str, services: dict[str, Any], base: Path) -> None:
    """Ask for two or more directories, each on a service of its own."""
    number = 0
    while True:
        number += 1
        question = f"Directory {number} of {folder!r}" + (" (nothing ends)" if number > 2 else "")
        answer = str(click.prompt(question, default="" if number > 2 else None, show_default=False, err=True)).strip()
        if not answer:
            return
        place = base / os.path.expanduser(answer)
        if not place.is_dir() and click.confirm(f"{place} does not exist. Make it?", default=True, err=True):
            place.mkdir(parents=True, exist_ok=True)
        name = _ask_name("Name of the service that this is on", f"place{number}")
        service = services.setdefault(name, {"driver": "local_storage", "folders": {}})
        service["folders"][folder] = answer


def _yaml(document: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _check(text: str, file: Path) -> None:
    """Load it as `onitu start` would, before it takes anything's place."""
    from . import configuration

    directory = next(parent for parent in file.absolute().parents if parent.is_dir())
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=directory, encoding="utf-8") as temporary:
        temporary.write(text)
        temporary.flush()
        try:
            configuration.load(Path(temporary.name))
        except ConfigurationError as error:
            raise ConfigurationError([p.replace(temporary.name, str(file)) for p in error.problems]) from None


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
