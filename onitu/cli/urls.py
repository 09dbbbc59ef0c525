"""From the arguments of `onitu sync` to `Settings`: replicas named by path or URL.

Names, and the default state directory, follow from the set of replicas alone: the order of the arguments does not
matter, and a second run with the same replicas goes on from what the first one knew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from onitu.model.errors import ConfigurationError
from onitu.model.settings import Folder, Replica, Service, Settings

from . import roots, targets
from .roots import Root
from .targets import Target

FOLDER = "sync"
"""The name of the one folder."""

_LONGEST = 40


class Plan(msgspec.Struct, frozen=True):
    """What a `sync` is going to do.

    Attributes:
        settings: ready to run, once `missing` has been made.
        missing: directories that do not exist yet, but whose parents do.
    """

    settings: Settings
    missing: tuple[Path, ...] = ()


def plan(
    arguments: Sequence[str],
    *,
    prefer: str = "",
    state: str = "",
    watch: bool = False,
    dry_run: bool = False,
    ask: Callable[[str], str] | None = None,
) -> Plan:
    """The settings that keep these replicas the same. Nothing is made on disk.

    Args:
        arguments: two or more paths or URLs.
        prefer: the replica (as it stands among the arguments, or its service's name) that keeps the name in a
            conflict; empty: the newest does.
        state: the state directory; empty: the one that belongs to this set of replicas.
        watch: go on watching after the first synchronisation.
        dry_run: decide and report only.
        ask: asks a person for a secret; None: there is nobody to ask.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    problems: list[str] = []
    found: list[Target] = []
    for argument in arguments:
        try:
            found.append(Target.read(argument))
        except ConfigurationError as error:
            problems += error.problems
    if len(arguments) < 2:
        problems.append("name at least two replicas: onitu sync REPLICA REPLICA …")
    _refuse(problems)
    names = targets.names(found)
    state_root = Root("the state directory", _state(found, names, state))
    local = [(target.argument, target.path, names[target.key]) for target in found if target.path is not None]
    for overlap in roots.overlaps([*(Root(a, path, FOLDER, name) for a, path, name in local), state_root]):
        problems.append(_overlap(overlap))
    problems += targets.overlapping(found)
    places = [path for _, path, _ in local]
    missing = tuple(place for place in places if not place.exists())
    problems += _unusable(places, missing, dry_run, known=_has_run(state_root.path), alone=len(places) == len(found))
    conflict = _preferred(prefer, found, names, problems) if prefer else "newest"
    _refuse(problems)
    settings = Settings(
        name=FOLDER,
        folders={FOLDER: Folder(FOLDER, conflict=conflict)},
        services={names[target.key]: _service(target, names[target.key], ask) for target in _distinct(found)},
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


# --- what is wrong ----------------------------------------------------------------------------------------------


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


def _unusable(places: Sequence[Path], missing: Sequence[Path], dry_run: bool, known: bool, alone: bool) -> list[str]:
    """What is wrong with the directories of this host; `alone`: there is no other replica."""
    problems = [f"{place}: is not a directory" for place in places if place.exists() and not place.is_dir()]
    for place in missing:
        if not place.parent.is_dir():
            problems.append(f"{place}: neither this directory nor the one above it exists")
        elif known:
            # An empty directory in the place of a disk that is not mounted would look like a replica.
            problems.append(f"{place}: is gone since the last run; mount it, or make it if it shall start anew")
        elif dry_run:
            problems.append(f"{place}: does not exist, and a dry run makes nothing")
    if alone and len(missing) == len(places):
        problems.append("none of the replicas exists: there is nothing to synchronise")
    return problems


def _preferred(prefer: str, found: Sequence[Target], names: dict[str, str], problems: list[str]) -> str:
    if prefer in names.values():
        return f"prefer:{prefer}"
    arguments = {target.argument: target for target in found}
    chosen = arguments.get(prefer)
    if chosen is None:
        path = roots.real(prefer.removeprefix("file://"), Path.cwd())
        chosen = next((target for target in found if target.path == path), None)
    if chosen is not None:
        return f"prefer:{names[chosen.key]}"
    from . import document

    known = [*arguments, *names.values()]
    problems.append(
        f"--prefer {prefer}: is none of the replicas {document.listed(arguments)}{document.nearest(prefer, known)}"
    )
    return "newest"


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))


# --- services ---------------------------------------------------------------------------------------------------


def _service(target: Target, name: str, ask: Callable[[str], str] | None) -> Service:
    options = dict(target.options)
    for secret in target.asks:
        if ask is None:
            raise ConfigurationError(
                [f"{target.argument}: its {secret} is needed, and there is no terminal to ask for it"]
            )
        options[secret] = ask(f"{secret} of {target.argument}")
    return Service(name, target.driver, options, replicas={FOLDER: Replica(FOLDER, target.root)})


def _distinct(found: Sequence[Target]) -> list[Target]:
    return list({target.key: target for target in targets.in_order(found)}.values())


def _state(found: Sequence[Target], names: dict[str, str], given: str) -> Path:
    if given:
        return roots.real(given, Path.cwd())
    distinct = [target.key for target in _distinct(found)]
    digest = hashlib.blake2s("\0".join(distinct).encode(), digest_size=5).hexdigest()
    return roots.state_directory(f"{'-'.join(names[key] for key in distinct)[:_LONGEST]}-{digest}")
