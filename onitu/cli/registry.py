"""The drivers, as the command line knows them: `onitu.plug.catalogue`, with errors of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.model.errors import ConfigurationError, OnituError

if TYPE_CHECKING:
    from onitu.plug.driver import Driver
    from onitu.plug.options import Options


LOCAL = ("local_storage", "local")
"""The names of the driver whose replicas are directories of this host: the catalogue's, without its import."""


def installed() -> dict[str, str]:
    """Where each driver is, by name. None is imported by this."""
    from onitu.plug import catalogue

    return catalogue.installed()


def load(name: str) -> type[Driver]:
    """The class of a driver.

    Raises:
        ConfigurationError: there is none of that name, it cannot be imported, or it is no driver.
    """
    from onitu.plug import catalogue

    try:
        return catalogue.load(name)
    except OnituError as error:
        raise ConfigurationError([str(error)]) from error


def options(name: str) -> type[Options]:
    """What may be said of a driver. Raises as `load`; ours are not loaded for it."""
    from onitu.plug import catalogue

    try:
        return catalogue.options(name)
    except OnituError as error:
        raise ConfigurationError([str(error)]) from error
