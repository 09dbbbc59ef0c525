"""The drivers that are installed: entry points of the group `onitu.drivers`, and the ones that Onitu brings
along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.model.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from onitu.plug.driver import Driver

GROUP = "onitu.drivers"

LOCAL = ("local_storage", "local")
"""The names of the driver whose replicas are directories of this host."""

_OWN = dict.fromkeys(LOCAL, "onitu.drivers.local:LocalDriver")
"""Known also where Onitu runs from its sources, without being installed."""


def installed() -> dict[str, EntryPoint]:
    """The drivers by name. None is imported by this."""
    import importlib.metadata
    from importlib.metadata import EntryPoint

    own = {name: EntryPoint(name, target, GROUP) for name, target in _OWN.items()}
    return own | {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def load(name: str) -> type[Driver]:
    """The class of a driver.

    Raises:
        ConfigurationError: there is none of that name, it cannot be imported, or it is no driver.
    """
    from onitu.plug.driver import Driver

    point = installed().get(name)
    if point is None:
        raise ConfigurationError([f"no driver {name!r} is installed"])
    try:
        driver = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError([f"the driver {name!r} cannot be loaded: {error}"]) from error
    if not (isinstance(driver, type) and issubclass(driver, Driver)):
        raise ConfigurationError([f"{point.value}, the driver {name!r}, is not a subclass of onitu.plug.driver.Driver"])
    return driver
