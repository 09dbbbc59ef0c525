"""The `services` of a configuration: drivers, their options, and the replicas with their places on this
host.
"""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from onitu.model.errors import ConfigurationError
from onitu.model.settings import Filter, Folder, Replica, Service

from . import document, registry, roots
from .document import Place
from .roots import Overlap, Root
from .values import FOLDER_KEYS, OLD_KEYS, check_name, read_conflict, read_filter, read_mode

if TYPE_CHECKING:
    from onitu.plug.options import Option

SERVICE_KEYS = ("driver", "options", "velocity", "folders")
Value = str | int | float | bool

FROM_FILE = "file:"
"""What a secret begins with that stands in a file: `password: file:~/.secrets/nas`."""


def read_services(place: Place, base: Path, folders: Mapping[str, Folder]) -> dict[str, Service]:
    """The services, each with those of its replicas that are right; `base` is what relative paths are
    relative to.
    """
    services = {}
    for name, entry in place.mapping().items():
        try:
            check_name(name)
        except ValueError as error:
            entry.problem(str(error))
            continue
        services[name] = _service(name, entry, base, folders)
    return services


def _service(name: str, place: Place, base: Path, folders: Mapping[str, Folder]) -> Service:
    keys = place.mapping(SERVICE_KEYS, ("root",))
    if "driver" not in keys:
        place.problem(f"`driver` is missing; installed are {document.listed(registry.installed())}")
        driver = ""
    else:
        driver = keys["driver"].one_of({known: known for known in _drivers()}) or ""
    local = driver in registry.LOCAL
    options = keys["options"].mapping() if "options" in keys else {}
    named = _through_rclone(driver, keys, options)
    driver = "rclone" if named else driver
    root = keys.get("root") or (options.pop("root", None) if local else None)
    if root is not None and not local and driver:
        root.problem("only a local_storage has a `root`; give each folder its `path`")
    if root is not None and local:
        base = roots.real(root.text() or ".", base)
    entries = keys["folders"].mapping() if "folders" in keys else {}
    if not entries:
        place.problem("there is no folder here; `folders` must name at least one")
    replicas = {}
    for folder, entry in entries.items():
        if folder not in folders:
            near = document.nearest(folder, folders)
            entry.problem(f"folder {folder!r} is not defined; defined are {document.listed(folders)}{near}")
            continue
        replicas[folder] = _replica(folders[folder], entry, base if local else None, optional=root is not None)
    return Service(name, driver, named | _options(driver, options, keys, place, named), _velocity(keys), replicas)


def _replica(folder: Folder, place: Place, base: Path | None, optional: bool) -> Replica:
    """A replica; `base` is None for a service that is not on this host, whose paths are its driver's
    business.
    """
    plain = not (place.is_mapping or place.is_null)
    keys = {"path": place} if plain else place.mapping(("path", *FOLDER_KEYS), OLD_KEYS)
    path = keys.get("path")
    if path is None or path.is_null:
        text = "" if optional else None
        if text is None:
            (path or place).problem("the `path` of this folder on this service is missing (a lone ~ is nothing)")
    else:
        text = path.text()
    if base is not None and text is not None and path is not None:
        text = str(_directory(path, roots.real(text, base)))
    elif base is not None and text is not None:
        text = str(base)
    return Replica(
        folder.name,
        text or "",
        Filter() if plain else read_filter(keys),
        folder.mode if plain else read_mode(keys, folder.mode),
        "" if plain else read_conflict(keys),
    )


def _directory(place: Place, path: Path) -> Path:
    if path.exists() and not path.is_dir():
        place.problem(f"{str(path)!r} is not a directory")
    return path


def _velocity(keys: Mapping[str, Place]) -> float:
    place = keys.get("velocity")
    if place is None or place.is_null:
        return 1.0
    value = place.value()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        place.problem(f"{place.shown} is not allowed; it must be a number above 0")
        return 1.0
    return float(value)


# --- options ----------------------------------------------------------------------------------------------------


def _drivers() -> list[str]:
    from onitu.plug.catalogue import THROUGH_RCLONE

    return [*registry.installed(), *THROUGH_RCLONE]


def _through_rclone(driver: str, keys: Mapping[str, Place], options: Mapping[str, Place]) -> dict[str, Value]:
    """What a driver of the first Onitu that rclone reaches today means: the remote of its name; empty: it is none."""
    from onitu.plug.catalogue import THROUGH_RCLONE

    if driver not in THROUGH_RCLONE:
        return {}
    if "remote" not in options:
        place = keys["driver"]
        place.problems.notes.append(
            f"{place.keys}: {driver!r} means an rclone remote today, here the one that `rclone config` calls {driver};"
            " the option `remote` names another"
        )
    return {"remote": driver}


def _options(
    driver: str,
    given: Mapping[str, Place],
    keys: Mapping[str, Place],
    place: Place,
    named: Mapping[str, Value],
) -> dict[str, Value]:
    """The options, checked against what the driver declares; those that are not given have its defaults. `named` are
    given by the driver's name."""
    from onitu.plug.options import declared

    if not driver:
        return {}
    try:
        declares = {option.name: option for option in declared(registry.options(driver))}
    except ConfigurationError as error:
        keys["driver"].problem(error.problems[0])
        return {}
    options: dict[str, Value] = {
        name: option.default for name, option in declares.items() if option.default is not None
    }
    for name, entry in given.items():
        if name not in declares:
            near = document.nearest(name, declares)
            entry.problem(f"unknown option; those of {driver} are {document.listed(declares)}{near}")
            continue
        value = _option(declares[name], entry)
        if value is not None:
            options[name] = value
    for name, option in declares.items():
        if option.default is None and name not in given and name not in named:
            keys.get("options", place).problem(f"the option `{name}` of {driver} is missing: {option.help}")
    return options


def _from_file(name: str, place: Place) -> Value | None:
    """A secret that stands in a file of its own: its first line."""
    try:
        with open(Path(place.problems.file).parent / os.path.expanduser(name), encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        place.problem(f"the secret cannot be read from the file {name!r}: {reason}")
        return None


_TYPES: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _option(option: Option, place: Place) -> Value | None:
    value = place.text() if option.type is str else place.value()
    if value is None:
        return None
    if option.secret and isinstance(value, str) and value.startswith(FROM_FILE):
        return _from_file(value.removeprefix(FROM_FILE), place)
    if option.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not option.type:
        found = "a secret" if option.secret else place.shown
        place.problem(f"{found} stands here, but it must be {_TYPES.get(option.type, option.type.__name__)}")
        return None
    if option.choices and value not in option.choices:
        place.problem(f"{place.shown} stands here, but it must be one of {', '.join(option.choices)}")
        return None
    return value


# --- overlaps ---------------------------------------------------------------------------------------------------


def without_overlaps(
    services: Mapping[str, Service], folders: Mapping[str, Folder], top: Place, state: Root
) -> dict[str, Service]:
    """The services as they can run side by side on this host.

    Two replicas in each other would synchronise each other's insides for ever, so that is a problem, except where
    it is harmless: the outer one's blacklist hides the inner one; or the outer one is read-only and is of another
    folder (Onitu's own directory in the inner one is hidden everywhere); or they are one directory of one folder
    that both only read (then the first speaks for both).
    """
    found = [*_local_roots(services, folders), state]
    dropped: set[tuple[str, str]] = set()
    for overlap in roots.overlaps(found):
        inner, outer = overlap.inner, overlap.outer
        if not overlap.same and outer.folder and outer.hides(overlap.path):
            continue
        if overlap.same and inner.folder and inner.folder == outer.folder and inner.mode == outer.mode == "r":
            dropped.add((inner.service, inner.folder))
            top.problems.notes.append(f"{inner.label} and {outer.label} are one directory, read once for both")
        elif overlap.same or inner.folder == outer.folder or not inner.folder or outer.mode != "r":
            _refuse(overlap, top)
    _refuse_twins(services, top)
    return {
        name: attrs.evolve(
            service,
            replicas={folder: replica for folder, replica in service.replicas.items() if (name, folder) not in dropped},
        )
        for name, service in services.items()
    }


def _local_roots(services: Mapping[str, Service], folders: Mapping[str, Folder]) -> list[Root]:
    return [
        Root(
            f"services.{name}.folders.{folder}",
            Path(replica.path),
            folder,
            name,
            replica.mode,
            (folders[folder].filter, replica.filter),
        )
        for name, service in services.items()
        if service.driver in registry.LOCAL
        for folder, replica in service.replicas.items()
        if replica.path
    ]


def _refuse(overlap: Overlap, top: Place) -> None:
    inner, outer = overlap.inner, overlap.outer
    ours = inner if inner.folder else outer
    place = top.below("services", ours.service, "folders", ours.folder, "path")
    advice = "" if overlap.same or not outer.folder else f"; or hide it there: blacklist '/{os.fspath(overlap.path)}/'"
    if inner.folder and outer.folder:
        place.problem(f"{overlap.sentence}; each replica needs a directory of its own{advice}")
    else:
        state = top.below("state")
        (state if state is not top else place).problem(
            f"{'the state directory ' if not inner.folder else ''}{overlap.sentence}; `state` can name another{advice}"
        )


def _refuse_twins(services: Mapping[str, Service], top: Place) -> None:
    """Two replicas of services that are not on this host, but which are the same place or in each other."""
    seen: list[tuple[object, str, str]] = []
    for name, service in services.items():
        if service.driver in ("", *registry.LOCAL):
            continue
        account = (registry.installed().get(service.driver), sorted(service.options.items()))
        for folder, replica in service.replicas.items():
            path = posixpath.normpath("/" + replica.path) + "/"
            label = f"services.{name}.folders.{folder}"
            for other, taken, owner in seen:
                if other == account and (path.startswith(taken) or taken.startswith(path)):
                    top.below("services", name, "folders", folder, "path").problem(
                        f"{replica.path!r} is, or is in, the place of {owner}; each replica needs a place of its own"
                    )
            seen.append((account, path, label))
