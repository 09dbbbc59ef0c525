"""From `onitu.yaml` to `Settings`: everything is checked before anything starts, and all errors are told at once.

The files of the first Onitu are taken as they are, with the older names of some keys (`type`, `min-size`, `max-size`,
`root`) and modes (`ro`, `wo`). What is relative in a file is relative to the directory that the file is in, so that it
does not matter where `onitu` is started. `${NAME}` in a value is replaced by the environment variable (`$${` is a plain
`${`). Values are YAML 1.2: `no`, `on` and `12:30` are texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import msgspec

from onitu.model.errors import ConfigurationError
from onitu.model.settings import Folder, Rule, Service, Settings

from . import document, roots
from .document import Place
from .replicas import read_services, without_overlaps
from .values import FOLDER_KEYS, OLD_KEYS, check_name, pattern, read_conflict, read_filter, read_mode

TOP_KEYS = ("name", "folders", "services", "rules", "store", "state")
FIRST_ONITU = {
    "entries": "is from before there were folders; name them under `folders`, and the drivers under `services`",
    "service": "was for the first Onitu's remote client; there is none, use `services` with a driver that is remote",
} | dict.fromkeys(
    ("requests_addr", "handlers_addr", "hb_addr"), "was for the first Onitu's remote client, and means nothing here"
)


class Configuration(msgspec.Struct, frozen=True):
    """What a file says, checked.

    Attributes:
        settings: ready to run.
        file: where it was read from.
        notes: sentences on what is right but may surprise; a person should see them.
    """

    settings: Settings
    file: Path
    notes: tuple[str, ...] = ()


def load(file: Path, state: str = "", variables: Mapping[str, str] | None = None) -> Configuration:
    """Read and check a configuration file.

    Args:
        file: the YAML file.
        state: a state directory that goes before the file's own `state`.
        variables: what `${NAME}` may name; None: the environment.

    Raises:
        ConfigurationError: with all that is wrong, each with file, line, key, what was found and what is allowed.
    """
    top = document.read(file, variables)
    base = Path(file).absolute().parent
    keys = top.mapping(TOP_KEYS, FIRST_ONITU)
    for key in keys.keys() & FIRST_ONITU.keys():
        keys.pop(key).problem(FIRST_ONITU[key])
    name = _name(keys["name"]) if "name" in keys else "onitu"
    folders = {} if "folders" not in keys else _folders(keys["folders"])
    services = read_services(keys["services"], base, folders) if "services" in keys else {}
    for key in ("folders", "services"):
        if key not in keys or keys[key].is_null or (keys[key].is_mapping and not keys[key].mapping()):
            keys.get(key, top).problem(f"there is no {key.removesuffix('s')}; `{key}` must name at least one")
    rules = _rules(keys["rules"], services) if "rules" in keys else None
    _check_preferred(top, folders, services)
    state_place = keys.get("state")
    if not state and state_place is not None:
        state = str(roots.real(state_place.text() or ".", base))
    state_path = roots.real(state, Path.cwd()) if state else roots.state_directory(name or "onitu")
    services = without_overlaps(services, folders, top, roots.Root("the state directory", state_path))
    store = _store(keys["store"]) if "store" in keys else ""
    top.problems.raise_any()
    settings = Settings(name or "onitu", folders, services, rules, store, str(state_path))
    return Configuration(settings, Path(file), (*top.problems.notes, *_notes(settings)))


def _name(place: Place) -> str | None:
    return "onitu" if place.is_null else place.parsed(check_name)


def _folders(place: Place) -> dict[str, Folder]:
    folders = {}
    for name, entry in place.mapping().items():
        try:
            check_name(name)
        except ValueError as error:
            entry.problem(str(error))
            continue
        keys = entry.mapping(FOLDER_KEYS, OLD_KEYS)
        folders[name] = Folder(name, read_filter(keys), read_mode(keys, "rw"), read_conflict(keys) or "newest")
    return folders


def _check_preferred(top: Place, folders: Mapping[str, Folder], services: Mapping[str, Service]) -> None:
    """A preferred service must hold the folder: else the policy would quietly never apply."""
    wanted: list[tuple[str, str, tuple[str, ...]]] = [
        (name, folder.conflict, ("folders", name)) for name, folder in folders.items()
    ]
    for service in services.values():
        for name, replica in service.replicas.items():
            wanted.append((name, replica.conflict, ("services", service.name, "folders", name)))
    for folder, conflict, way in wanted:
        preferred = conflict.partition(":")[2]
        holders = [name for name, service in services.items() if folder in service.replicas]
        if preferred and preferred not in holders:
            near = document.nearest(preferred, holders)
            top.below(*way, "conflict").problem(
                f"{preferred!r} is no service with this folder; those are {document.listed(holders)}{near}"
            )


def _rules(place: Place, services: Mapping[str, Service]) -> tuple[Rule, ...] | None:
    """The rules. Nothing, and an empty list, mean that there is no such section: every service holds
    everything.
    """
    if place.is_null:
        return None
    if not place.is_list:
        place.problem(f"{place.shown} stands here, but it must be a list of rules")
        return None
    rules = []
    for item in place.items():
        keys = item.mapping(("match", "sync", "ban"))
        match = keys["match"].mapping(("path", "mime", "mimetypes", "file_size")) if "match" in keys else {}
        if "mime" in match:
            match["mimetypes"] = match.pop("mime")
        path = match["path"].parsed(pattern) if "path" in match else ""
        limits = read_filter({key: match[key] for key in ("mimetypes", "file_size") if key in match})
        sync, ban = (_service_names(keys.get(key), services) for key in ("sync", "ban"))
        if item.is_mapping and not ("sync" in keys or "ban" in keys):
            item.problem("a rule without `sync` and `ban` does nothing; name services in one of them")
        rules.append(Rule(path or "", limits.mimetypes, attrs.evolve(limits, mimetypes=()), sync, ban))
    return tuple(rules) or None


def _service_names(place: Place | None, services: Mapping[str, Service]) -> tuple[str, ...]:
    found = [item.one_of({name: name for name in services}) for item in place.items()] if place is not None else []
    return tuple(name for name in found if name is not None)


# --- the store, notes -------------------------------------------------------------------------------------------


def _store(place: Place) -> str:
    from onitu.store.urls import check_url

    text = "" if place.is_null else place.text() or ""
    try:
        return check_url(text) if text else ""
    except ConfigurationError as error:
        for problem in error.problems:
            place.problem(problem.removeprefix("store "))
        return ""


def _notes(settings: Settings) -> list[str]:
    notes = []
    for folder in settings.folders:
        holders = [name for name, service in settings.services.items() if folder in service.replicas]
        modes = [settings.services[name].replicas[folder].mode for name in holders]
        if len(holders) < 2:
            notes.append(f"folder {folder!r} is on {document.listed(holders)} only: nothing to keep it the same with")
        elif not any("w" in mode for mode in modes) or not any("r" in mode for mode in modes):
            notes.append(f"folder {folder!r} has no service to read from or none to write to: nothing will move")
    return notes
