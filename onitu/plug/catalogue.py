"""Which drivers there are, and where: Onitu's own in one table, and those of other packages by their entry points.

Looking costs no import of a driver. The names of the first Onitu (`local_storage`, `amazon_s3`…) are names here too.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from blake3 import blake3

from onitu.model.errors import OnituError

if TYPE_CHECKING:
    from onitu.model.settings import Filter, Settings
    from onitu.model.tally import Sealed

    from .driver import Driver
    from .options import Options, Value
    from .urls import Address

GROUP = "onitu.drivers"
"""The entry point group in which drivers of other packages are found."""


class Known(msgspec.Struct, frozen=True):
    """One driver of ours.

    Attributes:
        names: what may stand at `driver:`, the usual one first.
        where: `module:class`.
        extra: what to install it with: `pip install 'onitu[EXTRA]'`; empty: it needs nothing more.
        schemes: of the URLs that `onitu sync` takes for it.
        options: `module:class` that can be read without the driver; empty: what the driver declares.
        needs: the package that the driver loads first, of its extra.
        glance: `module:function` that glances at one of its replicas without the driver; empty: the driver does.
        ahead: `module:function` that begins its first connection before the driver is there (`ahead`); empty: it does.
    """

    names: tuple[str, ...]
    where: str
    extra: str = ""
    schemes: tuple[str, ...] = ()
    options: str = ""
    needs: str = ""
    glance: str = ""
    ahead: str = ""


OWN = (
    Known(
        ("local_storage", "local"),
        "onitu.drivers.local:LocalDriver",
        schemes=("file",),
        options="onitu.drivers.local.options:LocalOptions",
        glance="onitu.drivers.local.glance:unchanged",
    ),
    Known(
        ("sftp", "ssh"),
        "onitu.drivers.sftp:SftpDriver",
        "sftp",
        ("sftp", "ssh"),
        "onitu.drivers.sftp.options:SftpOptions",
        ahead="onitu.drivers.sftp.target:ahead",
    ),
    Known(("s3", "amazon_s3"), "onitu.drivers.s3:S3Driver", "s3", ("s3",), "onitu.drivers.s3.options:S3Options"),
    Known(
        ("webdav",),
        "onitu.drivers.webdav:WebdavDriver",
        "webdav",
        ("dav", "davs"),
        "onitu.drivers.webdav.options:WebdavOptions",
        "httpx",
    ),
    Known(("ftp",), "onitu.drivers.ftp:FtpDriver", "", ("ftp",), "onitu.drivers.ftp.options:FtpOptions"),
    Known(("ftps",), "onitu.drivers.ftp:FtpsDriver", "", ("ftps",), "onitu.drivers.ftp.options:FtpsOptions"),
    Known(
        ("rclone",),
        "onitu.drivers.rclone:RcloneDriver",
        "rclone",
        ("rclone",),
        "onitu.drivers.rclone.options:RcloneOptions",
        "httpx",
    ),
)

LOCAL = OWN[0].names
"""The names of the driver whose replicas are directories of this host."""

THROUGH_RCLONE = ("dropbox", "google_drive", "hubic")
"""Drivers of the first Onitu that mean a remote of rclone today, by default the one of that name."""

_BY_NAME = {name: known for known in OWN for name in known.names}


def installed() -> dict[str, str]:
    """Where each driver is, by name. Of two of one name, ours counts."""
    import importlib.metadata

    found = {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}
    own = {name: known.where for name, known in _BY_NAME.items()}
    return own | {name: where for name, where in found.items() if name not in own}


def load(name: str) -> type[Driver]:
    """The class of a driver. Raises `OnituError` where there is none of that name, or it cannot be loaded."""
    from .driver import Driver

    known = _BY_NAME.get(name)
    where = known.where if known is not None else installed().get(name)
    if where is None:
        raise OnituError(f"there is no driver {name!r}; there are {', '.join(sorted(installed()))}")
    try:
        loaded = _named(where)
    except (ImportError, AttributeError) as error:
        raise OnituError(_unloadable(name, known, error)) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Driver)):
        raise OnituError(f"the driver {name!r} is no driver: {where} is not a subclass of onitu.plug.driver.Driver")
    return loaded


def glance(name: str) -> Callable[[str, Sequence[Filter], Sealed, Callable[[], None]], bool] | None:
    """What glances at a replica of a driver, and blocks (`onitu.drivers.local.glance.unchanged`); None: nothing does,
    and the driver itself is asked (`onitu.plug.glance`)."""
    known = _BY_NAME.get(name)
    if known is None or not known.glance:
        return None
    found: Callable[[str, Sequence[Filter], Sealed, Callable[[], None]], bool] = _named(known.glance)
    return found


def ahead(name: str, options: Mapping[str, Value]) -> Callable[[], object] | None:
    """What a process is to do whose standard streams are the first connection of a driver with these options
    (`onitu.plug.ahead`), in a fork of this one; None: nothing.

    Raises:
        ImportError: of what it needs something is not installed.
    """
    known = _BY_NAME.get(name)
    if known is None or not known.ahead:
        return None
    found: Callable[[Mapping[str, Value]], Callable[[], object] | None] = _named(known.ahead)
    return found(options)


def options(name: str) -> type[Options]:
    """What may be said of a driver, with which ours are not loaded. Raises as `load`."""
    known = _BY_NAME.get(name)
    if known is None or not known.options or not _is_there(known.needs):
        return load(name).Options
    found: type[Options] = _named(known.options)
    return found


def address(name: str, url: str) -> Address:
    """What a URL means to a driver. Raises as `load`, and `ConfigurationError` as `Driver.from_url`."""
    known = _BY_NAME.get(name)
    if known is None or not known.options:
        return load(name).from_url(url)
    return options(name).from_url(url)


def made(settings: Settings, service: str) -> Driver:
    """The driver of a service, not open yet. Raises as `load`, and `ConfigurationError` for options that it has not."""
    configured = settings.services[service]
    roots = {folder: replica.path for folder, replica in configured.replicas.items()}
    driver = load(configured.driver)(service, configured.options, roots)
    if settings.state:
        name = blake3(service.encode(errors="surrogateescape")).hexdigest()[:16]
        driver.workspace = os.path.join(settings.state, "drivers", name)
    return driver


def of_scheme(scheme: str) -> str:
    """The name of the driver that URLs of a scheme mean; empty: none. Drivers of other packages are found where they
    are named after the scheme, or else loaded and asked."""
    for known in OWN:
        if scheme in known.schemes:
            return known.names[0]
    others = [name for name in installed() if name not in _BY_NAME]
    if scheme in others:
        return scheme
    for name in others:
        try:
            if scheme in load(name).schemes:
                return name
        except OnituError:  # it says so where it is named
            continue
    return ""


def schemes() -> list[str]:
    """The schemes that mean a replica: those of our own drivers, then what the drivers of other packages answer to."""
    found = [scheme for known in OWN for scheme in known.schemes]
    for name in installed():
        if name not in _BY_NAME:
            with contextlib.suppress(OnituError):  # it says so where it is named
                found += load(name).schemes or (name,)
    return found


def _named(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _is_there(package: str) -> bool:
    """Whether it could be loaded, as far as a look tells that does not load it."""
    return not package or importlib.util.find_spec(package) is not None


def _unloadable(name: str, known: Known | None, error: ImportError | AttributeError) -> str:
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if known is not None and known.extra and missing and not missing.startswith("onitu."):
        return f"the driver {name!r} needs {missing}, which is not installed: pip install 'onitu[{known.extra}]'"
    if known is not None and missing.startswith("onitu."):
        return f"the driver {name!r} is not part of this version of Onitu"
    return f"the driver {name!r} cannot be loaded: {error}"
