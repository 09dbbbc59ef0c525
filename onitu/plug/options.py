"""A driver's options, declared once: an attrs class whose fields say type, default, whether they are secret, and help.

    @attrs.frozen(kw_only=True)
    class MyOptions(Options):
        host: str = option(help="the server's name or address")
        password: str = option("", help="left out: asked from the keyring", secret=True)

A field without a default has to be given. The types are `str`, `int`, `float` and `bool`. From the class come the check
of the configuration, `onitu drivers`, the questions of `onitu init` and the reference page; what is secret is never
shown, by nobody: the class's own `repr` leaves it out too.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs

from onitu.model.errors import ConfigurationError

from .urls import Address, Value, hide

__all__ = ["Option", "Options", "RemoteOptions", "Value", "declared", "filled", "given", "option"]

T = TypeVar("T", bound="Options")


def option(default: Any = attrs.NOTHING, *, help: str, secret: bool = False, choices: Sequence[str] = ()) -> Any:
    """One option, as the value of a field.

    Args:
        help: what it is, in a few words, without a capital or a full stop.
        choices: the only values that a `str` may have; none: any.
    """
    told = {"help": help, "secret": secret, "choices": tuple(choices)}
    return attrs.field(default=default, repr=not secret, metadata=told)


@attrs.frozen(kw_only=True)
class Options:
    """What every driver has."""

    bandwidth: int = option(0, help="bytes a second that are fetched from other services at most; 0: no limit")

    @classmethod
    def from_url(cls, url: str) -> Address:
        """What a URL says, for a driver whose own `from_url` does not. Raises as that."""
        raise ConfigurationError([f"{hide(url)}: this driver has no URLs; use a configuration, and `onitu start`"])


@attrs.frozen(kw_only=True)
class RemoteOptions(Options):
    """What every driver of a service in the network has (`onitu.plug.remote`)."""

    bandwidth: int = option(0, help="bytes a second to the service at most, and as many from it; 0: no limit")
    poll: float = option(5.0, help="seconds between two looks for changes at least, right after one was found")
    poll_most: float = option(60.0, help="seconds between two looks for changes at most, when nothing happens")
    connections: int = option(0, help="calls to the service at the same time; 0: as many as suit it")


def given(options: type[T], values: Mapping[str, Value]) -> T:
    """The options with these values, as they were checked; a name that is not declared is nothing to the driver."""
    known = {field.name for field in attrs.fields(options)}
    chosen: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    return options(**chosen)


def filled(options: type[Options], values: Mapping[str, Value]) -> tuple[dict[str, Value], list[str]]:
    """The values with the defaults of what is not among them, and the names of what has none and is needed."""
    defaults = {option.name: option.default for option in declared(options)}
    whole = {name: default for name, default in defaults.items() if default is not None} | dict(values)
    return whole, [name for name in defaults if name not in whole]


@attrs.frozen
class Option:
    """One option, as declared. `default`: None where there is none, so that it has to be given. `choices`: the only
    values that it may have; none: any."""

    name: str
    type: type
    default: Value | None
    help: str
    secret: bool = False
    choices: tuple[str, ...] = ()


def declared(options: type[Options]) -> tuple[Option, ...]:
    """The options that a class declares, its own before those of its bases."""
    hints = typing.get_type_hints(options)
    found = [
        Option(
            field.name,
            hints[field.name],
            None if field.default is attrs.NOTHING else field.default,
            str(field.metadata.get("help", "")),
            bool(field.metadata.get("secret", False)),
            tuple(field.metadata.get("choices", ())),
        )
        for field in attrs.fields(options)
    ]
    inherited = {field.name for base in options.__bases__ if attrs.has(base) for field in attrs.fields(base)}
    return tuple(sorted(found, key=lambda option: option.name in inherited))
