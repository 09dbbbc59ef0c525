"""From the arguments of `onitu sync` to `Settings`: replicas named by path or URL.

A service is named after its directory, so that conflict copies and reports read well. Names, and the default state
directory, follow from the set of replicas alone: the order of the arguments does not matter, and a second run
with the same replicas goes on from what the first one knew.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import attrs

from onitu.model.errors import ConfigurationError
from onitu.model.settings import Folder, Replica, Service, Settings

from . import registry, roots
from .roots import Root

FOLDER = "sync"
"""The name of the one folder."""

DRIVERS = {
    "s3": "s3",
    "sftp": "sftp",
    "dav": "webdav",
    "davs": "webdav",
    "ftp": "ftp",
    "ftps": "ftp",
    "rclone": "rclone",
}
"""Which driver a URL's scheme asks for."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(rclone):")
_LONGEST = 40


@attrs.frozen
class Plan:
    """What a `sync` is going to do.

    Attributes:
        settings: ready to run, once `missing` has been made.
        missing: directories that do not exist yet, but whose parents do.
    """

    settings: Settings
    missing: tuple[Path, ...] = ()


def plan(
    arguments: Sequence[str], *, prefer: str = "", state: str = "", watch: bool = False, dry_run: bool = False
) -> Plan:
    """The settings that keep these replicas the same. Nothing is made on disk.

    Args:
        arguments: two or more paths or URLs.
        prefer: the replica (as it stands among the arguments, or its service's name) that keeps the name in a
            conflict; empty: the newest does.
        state: the state directory; empty: the one that belongs to this set of replicas.
        watch: go on watching after the first synchronisation.
        dry_run: decide and report only.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    problems: list[str] = []
    places: list[Path] = []
    for argument in arguments:
        try:
            places.append(roots.real(_local(argument), Path.cwd()))
        except ConfigurationError as error:
            problems += error.problems
    if len(arguments) < 2:
        problems.append("name at least two replicas: onitu sync REPLICA REPLICA …")
    _refuse(problems)
    names = _names(places)
    state_root = Root("the state directory", _state(places, names, state))
    found = [Root(argument, place, FOLDER, names[place]) for argument, place in zip(arguments, places, strict=True)]
    for overlap in roots.overlaps([*found, state_root]):
        problems.append(_overlap(overlap))
    missing = tuple(place for place in places if not place.exists())
    problems += _unusable(places, missing, dry_run, known=_has_run(state_root.path))
    conflict = _preferred(prefer, dict(zip(arguments, places, strict=True)), names, problems) if prefer else "newest"
    _refuse(problems)
    services = {
        name: Service(name, registry.LOCAL[0], replicas={FOLDER: Replica(FOLDER, str(place))})
        for place, name in names.items()
    }
    settings = Settings(
        name=FOLDER,
        folders={FOLDER: Folder(FOLDER, conflict=conflict)},
        services=services,
        state=str(state_root.path),
        watch=watch,
        dry_run=dry_run,
    )
    return Plan(settings, missing)


def make_missing(directories: Sequence[Path]) -> None:
    """Make the directories; their parents exist.

    Raises:
        ConfigurationError: one cannot be made.
    """
    for directory in directories:
        try:
            directory.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigurationError([f"{directory}: cannot be made: {error.strerror}"]) from error


# --- arguments --------------------------------------------------------------------------------------------------


def _local(argument: str) -> str:
    """The path that an argument means, or an error that says why it means none."""
    found = _SCHEME.match(argument)
    scheme = (found[1] or found[2]).lower() if found else ""
    if scheme and scheme != "file":
        raise ConfigurationError([_unsupported(argument, scheme)])
    path = argument
    if scheme == "file":
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


def _unsupported(argument: str, scheme: str) -> str:
    from . import document  # with it comes a YAML parser, which the usual case does not need

    installed = document.listed(registry.installed())
    driver = DRIVERS.get(scheme)
    if driver is None:
        near = document.nearest(scheme, ("file", *DRIVERS))
        return f"{argument}: {scheme}:// is no kind of replica; allowed are a path and file://{near}"
    if driver in registry.installed():
        return f"{argument}: give the driver {driver!r} its options in a configuration, and use `onitu start`"
    return f"{argument}: this needs the driver {driver!r}, which is not installed; installed are {installed}"


def _overlap(overlap: roots.Overlap) -> str:
    if not overlap.inner.folder or not overlap.outer.folder:
        state = "the state directory " if not overlap.inner.folder else ""
        return f"{state}{overlap.sentence}; name another with --state"
    return f"{overlap.sentence}; each replica needs a directory of its own"


def _has_run(state: Path) -> bool:
    try:
        return any(state.iterdir())
    except OSError:
        return False


def _unusable(places: Sequence[Path], missing: Sequence[Path], dry_run: bool, known: bool) -> list[str]:
    problems = [f"{place}: is not a directory" for place in places if place.exists() and not place.is_dir()]
    for place in missing:
        if not place.parent.is_dir():
            problems.append(f"{place}: neither this directory nor the one above it exists")
        elif known:
            # An empty directory in the place of a disk that is not mounted would look like a replica.
            problems.append(f"{place}: is gone since the last run; mount it, or make it if it shall start anew")
        elif dry_run:
            problems.append(f"{place}: does not exist, and a dry run makes nothing")
    if len(missing) == len(places):
        problems.append("none of the replicas exists: there is nothing to synchronise")
    return problems


def _preferred(prefer: str, places: dict[str, Path], names: dict[Path, str], problems: list[str]) -> str:
    if prefer in names.values():
        return f"prefer:{prefer}"
    path = places.get(prefer) or roots.real(prefer.removeprefix("file://"), Path.cwd())
    if path in names:
        return f"prefer:{names[path]}"
    from . import document

    known = [*places, *names.values()]
    problems.append(
        f"--prefer {prefer}: is none of the replicas {document.listed(places)}{document.nearest(prefer, known)}"
    )
    return "newest"


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))


# --- names ------------------------------------------------------------------------------------------------------


def _names(places: Sequence[Path]) -> dict[Path, str]:
    """A name for each directory: its own, with as many of those above it as tell it from the others."""
    distinct = sorted(set(places))
    depth = dict.fromkeys(distinct, 1)
    while True:
        names = {place: _name(place, depth[place]) for place in distinct}
        taken = list(names.values())
        clashing = [place for place in distinct if taken.count(names[place]) > 1]
        deeper = [place for place in clashing if depth[place] < len(place.parts)]
        if not deeper:
            break
        for place in deeper:
            depth[place] += 1
    for number, place in enumerate(clashing, start=1):
        names[place] = f"{names[place]} {number}"
    return names


def _name(place: Path, depth: int) -> str:
    parts = place.parts[1:][-depth:] or ("root",)
    text = re.sub(r"[^\w.,+@=() -]+", "-", "-".join(parts)).strip("-. ") or "replica"
    while len(text.encode()) > _LONGEST:
        text = text[1:].lstrip("-. ")
    return text or "replica"


def _state(places: Sequence[Path], names: dict[Path, str], given: str) -> Path:
    if given:
        return roots.real(given, Path.cwd())
    distinct = sorted(set(places))
    digest = hashlib.blake2s("\0".join(map(str, distinct)).encode(), digest_size=5).hexdigest()
    return roots.state_directory(f"{'-'.join(names[place] for place in distinct)[:_LONGEST]}-{digest}")
