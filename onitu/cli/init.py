"""`onitu init`: a few questions, and a configuration that works."""

from __future__ import annotations

import io
import os
import re
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
    if file.is_dir():
        raise ConfigurationError(
            [f"{file} is a directory: name the file that is to be written, as {file / 'onitu.yaml'}"]
        )
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
    """Ask for two or more directories or URLs, each on a service of its own."""
    from . import targets

    number = 0
    while True:
        number += 1
        question = f"Directory or URL {number} of {folder!r}" + (" (nothing ends)" if number > 2 else "")
        answer = str(click.prompt(question, default="" if number > 2 else None, show_default=False, err=True)).strip()
        if not answer:
            return
        service: dict[str, Any] = {"driver": "local_storage"}
        root, suggested = answer, f"place{number}"
        if targets.is_elsewhere(answer):
            try:
                service, root, suggested = _ask_options(answer)
            except ConfigurationError as error:
                click.echo("\n".join(error.problems), err=True)
                number -= 1
                continue
        else:
            _offer_to_make(base / os.path.expanduser(answer))
        name = _ask_name("Name of the service that this is on", suggested)
        services.setdefault(name, {**service, "folders": {}})["folders"][folder] = root


def _offer_to_make(directory: Path) -> None:
    if not directory.is_dir() and click.confirm(f"{directory} does not exist. Make it?", default=True, err=True):
        directory.mkdir(parents=True, exist_ok=True)


def _ask_options(url: str) -> tuple[dict[str, Any], str, str]:
    """What a URL means: driver and options, the root, a name. What it leaves open and the driver needs is asked for; a
    secret is never written, but the name of the variable that has it.

    Raises:
        ConfigurationError: it means nothing.
    """
    from onitu.plug.options import declared

    from . import targets

    driver, known, address = targets.read_url(url)
    options: dict[str, Any] = {}
    for option in declared(known):
        needed = option.default is None or option.name in address.asks
        if option.secret and (option.name in address.options or needed):
            variable = re.sub(r"\W", "_", f"{address.name}_{option.name}", flags=re.ASCII).upper()
            variable = f"ONITU_{variable}" if variable[0].isdigit() else variable
            question = f"Environment variable with the {option.name} ({option.help})"
            named = click.prompt(question, default=variable, err=True, value_proc=_variable)
            options[option.name] = f"${{{named}}}"
        elif option.name in address.options:
            options[option.name] = address.options[option.name]
        elif needed:
            kinds: dict[type, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, bool: click.BOOL}
            kind = click.Choice(option.choices) if option.choices else kinds.get(option.type, click.STRING)
            options[option.name] = click.prompt(f"{option.name} ({option.help})", type=kind, err=True)
    return {"driver": driver} | ({"options": options} if options else {}), address.root, address.name


def _variable(text: str) -> str:
    """The name of an environment variable. What is none may be the secret itself, so it is not shown."""
    if text in os.environ or re.fullmatch(r"[A-Z_][A-Z0-9_]*", text):
        return text
    raise click.BadParameter("that is no name of a variable, in capitals; the secret itself is not asked for")


def _yaml(document: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _check(text: str, file: Path) -> None:
    """Load it as `onitu start` would, before it takes anything's place."""
    import tempfile

    from . import configuration

    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "")  # they need not be there yet
    directory = next(parent for parent in file.absolute().parents if parent.is_dir())
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=directory, encoding="utf-8") as temporary:
        temporary.write(text)
        temporary.flush()
        try:
            configuration.load(Path(temporary.name), variables=variables | dict(os.environ))
        except ConfigurationError as error:
            raise ConfigurationError([p.replace(temporary.name, str(file)) for p in error.problems]) from None


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
