"""Settings: the whole configuration as checked values. `onitu.cli.configuration` makes them from YAML or from URLs."""

from __future__ import annotations

import enum

import attrs


class Mode(enum.Flag):
    """What may be done with a replica: read (it is a source of versions), write (orders may change it)."""

    READ = enum.auto()
    WRITE = enum.auto()


@attrs.frozen
class Filter:
    """Which paths of a folder are managed. The functions that apply it stand in `onitu.model.filters`.

    Attributes:
        blacklist: patterns of paths that are hidden.
        whitelist: patterns of which a file's path must match one; empty: all do.
        mimetypes: MIME types (`text/plain`, `text/*`) of which a file must have one; empty: all do.
        size_min: bytes, inclusive.
        size_max: bytes, inclusive; None: no limit.
    """

    blacklist: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    mimetypes: tuple[str, ...] = ()
    size_min: int = 0
    size_max: int | None = None


@attrs.frozen
class Folder:
    """A named tree that is kept the same on several services.

    Attributes:
        name: its name, also the hash tag of its keys in the store.
        filter: what holds for every service.
        mode: `r`, `w` or `rw`, for replicas that say nothing else.
        conflict: who keeps the name: `newest`, `first`, or `prefer:SERVICE`.
    """

    name: str
    filter: Filter = Filter()
    mode: str = "rw"
    conflict: str = "newest"


@attrs.frozen
class Replica:
    """A folder on a service.

    Attributes:
        folder: the folder's name.
        path: the root on the service, as its driver understands it (absolute for `local_storage`).
        filter: what holds on this service, beside the folder's own filter: a path must pass both.
        mode: `r` (a source only), `w` (a target only), `rw`.
        conflict: who keeps the name when this service's change meets another's; empty: as the folder says.
    """

    folder: str
    path: str
    filter: Filter = Filter()
    mode: str = "rw"
    conflict: str = ""


@attrs.frozen
class Service:
    """A configured driver.

    Attributes:
        name: its name.
        driver: the driver's name, as in the entry point group `onitu.drivers`.
        options: the driver's options, checked against what it declares; secrets among them, so they are never shown.
        velocity: how fast it is as a source, above 0; the source with the highest is asked first.
        replicas: by folder name.
    """

    name: str
    driver: str
    options: dict[str, str | int | float | bool] = attrs.field(factory=dict, repr=False)
    velocity: float = 1.0
    replicas: dict[str, Replica] = attrs.field(factory=dict)


@attrs.frozen
class Rule:
    """One rule, applied in order to the set of services that shall hold a file.

    Attributes:
        path: a prefix of the path with a leading slash (`/photos/`), or a pattern; empty: every path.
        mime: MIME types of which the file must have one; empty: all.
        filter: limits of size, beside.
        sync: services to add.
        ban: services to take away.
    """

    path: str = ""
    mime: tuple[str, ...] = ()
    filter: Filter = Filter()
    sync: tuple[str, ...] = ()
    ban: tuple[str, ...] = ()


@attrs.frozen
class Settings:
    """Everything that a run needs to know.

    Attributes:
        name: the name of the whole, for the state directory and the logs.
        folders: by name.
        services: by name.
        rules: in order; None: no `rules` section, so every service of a folder holds every path.
        store: the URL of an external store; empty: the embedded one.
        state: the state directory, absolute.
        watch: whether the services are watched after the first scan (False for a single `sync`).
        dry_run: decide, journal and report, but send no order.
    """

    name: str
    folders: dict[str, Folder]
    services: dict[str, Service]
    rules: tuple[Rule, ...] | None = None
    store: str = ""
    state: str = ""
    watch: bool = True
    dry_run: bool = False
