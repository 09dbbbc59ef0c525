"""The arguments of `onitu sync`, each a directory of this host or a URL, and the names of the services they become.

A service is named after its directory, or its host or bucket, so that conflict copies and reports read well. No name
and no sentence has a password of a URL in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

import attrs

from onitu.model.errors import ConfigurationError

from . import registry, roots

if TYPE_CHECKING:
    from onitu.plug.options import Options
    from onitu.plug.urls import Address

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(rclone):")
_LONGEST = 40


@attrs.frozen(order=False)
class Target:
    """One replica.

    Attributes:
        argument: as it was typed, without a password.
        key: what it is the same as another by; no secret is in it.
        parts: what names are made of, the most telling last.
        path: of a directory of this host; None: it is elsewhere.
        driver: the driver's name.
        options: the driver's options.
        root: the replica's path for its driver.
        asks: secret options that a person is asked for.
    """

    argument: str
    key: str
    parts: tuple[str, ...]
    path: Path | None
    driver: str
    root: str
    options: dict[str, str | int | float | bool] = attrs.field(factory=dict, repr=False)
    asks: tuple[str, ...] = ()

    @classmethod
    def read(cls, argument: str) -> Target:
        """Raises `ConfigurationError` where the argument means none."""
        if is_elsewhere(argument):
            return _elsewhere(argument)
        path = roots.real(_local(argument), Path.cwd())
        return cls(argument, str(path), path.parts[1:], path, registry.LOCAL[0], str(path))


def is_elsewhere(argument: str) -> bool:
    """Whether it is a URL of something that is not on this host."""
    found = _SCHEME.match(argument)
    return found is not None and (found[1] or found[2]).lower() != "file"


def read_url(argument: str) -> tuple[str, type[Options], Address]:
    """The name of the driver that a URL means, its options, and what the URL tells it. Raises `ConfigurationError`."""
    from onitu.plug import catalogue
    from onitu.plug.urls import hide

    shown = hide(argument)
    found = _SCHEME.match(argument)
    scheme = (found[1] or found[2]).lower() if found else ""
    name = catalogue.of_scheme(scheme)
    if not name:
        from . import document  # with it comes a YAML parser, which the usual case does not need

        known = list(dict.fromkeys(catalogue.schemes()))
        near = document.nearest(scheme, known)
        allowed = ", ".join(f"{one}://" for one in known if one != "rclone")
        raise ConfigurationError(
            [f"{shown}: {scheme}:// is no kind of replica; allowed are a path, {allowed} and rclone:REMOTE:PATH{near}"]
        )
    try:
        options = registry.options(name)
    except ConfigurationError as error:
        raise ConfigurationError([f"{shown}: {problem}" for problem in error.problems]) from None
    return name, options, catalogue.address(name, argument)


def _elsewhere(argument: str) -> Target:
    """A URL, as its driver reads it."""
    from onitu.plug.options import declared, filled
    from onitu.plug.urls import hide

    shown = hide(argument)
    name, known, address = read_url(argument)
    options, missing = filled(known, address.options)
    missing = [option for option in missing if option not in address.asks]
    if missing:
        raise ConfigurationError(
            [f"{shown}: the driver {name!r} needs {', '.join(missing)}; use a configuration, and `onitu start`"]
        )
    secret = {option.name for option in declared(known) if option.secret}
    plain = sorted((key, value) for key, value in address.options.items() if key not in secret)
    parts = (*(part for part in address.root.split("/") if part), address.name)
    return Target(shown, f"{name} {plain} {address.root}", parts, None, name, address.root, options, address.asks)


def _local(argument: str) -> str:
    """The path that an argument means, or an error that says why it means none."""
    path = argument
    if _SCHEME.match(argument):
        url = urlsplit(argument)
        if url.netloc not in ("", "localhost") or not url.path:
            raise ConfigurationError([f"{argument}: a file:// URL has no host and an absolute path: file:///PATH"])
        path = os.fsdecode(unquote_to_bytes(url.path))
    if not path or "\0" in path:
        raise ConfigurationError([f"{argument!r} is not a path"])
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ConfigurationError([f"{shown}: the path of a replica must be UTF-8 (what is in it need not)"]) from None
    if re.match(r"[^/\s]+@?[^/\s]*:", path) and not os.path.lexists(path):
        raise ConfigurationError(
            [f"{path}: there is no such directory; a place on another host is a URL, like sftp://USER@HOST/PATH"]
        )
    return path


def overlapping(targets: Sequence[Target]) -> list[str]:
    """What is wrong with replicas that are elsewhere, and one place, or in each other."""
    problems = []
    for number, one in enumerate(targets):
        for other in targets[:number]:
            if one.path is not None or other.path is not None or one.driver != other.driver:
                continue
            if one.key[: -len(one.root) or None] != other.key[: -len(other.root) or None]:
                continue
            inner, outer = (f"{target.root.rstrip('/')}/" for target in (one, other))
            if inner.startswith(outer) or outer.startswith(inner):
                problems.append(
                    f"{one.argument} and {other.argument} are one place, or in each other; each replica needs its own"
                )
    return problems


def names(targets: Sequence[Target]) -> dict[str, str]:
    """A name for each target, by key: its own, with as much of what is above it as tells it from the others."""
    distinct = {target.key: target.parts for target in in_order(targets)}
    depth = dict.fromkeys(distinct, 1)
    while True:
        found = {key: _name(parts, depth[key]) for key, parts in distinct.items()}
        taken = list(found.values())
        clashing = [key for key in distinct if taken.count(found[key]) > 1]
        deeper = [key for key in clashing if depth[key] < len(distinct[key])]
        if not deeper:
            break
        for key in deeper:
            depth[key] += 1
    for number, key in enumerate(clashing, start=1):
        found[key] = f"{found[key]} {number}"
    return found


def in_order(targets: Sequence[Target]) -> list[Target]:
    """As directories are sorted, so that every order of the arguments leads to the same."""
    return sorted(targets, key=lambda target: target.key.split("/"))


def _name(parts: Sequence[str], depth: int) -> str:
    text = re.sub(r"[^\w.,+@=() -]+", "-", "-".join(parts[-depth:] or ("root",))).strip("-. ") or "replica"
    while len(text.encode()) > _LONGEST:
        text = text[1:].lstrip("-. ")
    return text or "replica"
