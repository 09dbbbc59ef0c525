"""URLs of replicas, taken apart for the drivers that know what their parts mean."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from onitu.model.errors import ConfigurationError

Value = str | int | float | bool
"""Of an option."""


@attrs.frozen
class Address:
    """What a URL means to a driver.

    Attributes:
        options: those of the driver that follow from it; the others have their defaults.
        root: the replica's path, as it would stand in a configuration.
        name: what the service may be called: the host, the bucket.
        asks: names of secret options that a person at a terminal is asked for, where nothing else told them.
    """

    options: dict[str, Value] = attrs.field(repr=False)
    root: str
    name: str
    asks: tuple[str, ...] = ()


@attrs.frozen
class Url:
    """`SCHEME://USER:PASSWORD@HOST:PORT/PATH?KEY=VALUE`, its parts percent-decoded; what is not there is empty, or 0.

    `path` has its leading slash. `shown` is the whole without the password.
    """

    scheme: str
    user: str
    password: str = attrs.field(repr=False)
    host: str
    port: int
    path: str
    query: dict[str, str]
    shown: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises `ConfigurationError`, without the password, where it is none."""
        shown = hide(text)
        try:
            parts = urlsplit(text)
            port, host = parts.port or 0, parts.hostname or ""
        except ValueError as error:
            raise ConfigurationError([f"{shown}: is no URL: {error}"]) from None
        if parts.fragment:
            raise ConfigurationError([f"{shown}: a '#' in a URL is written %23"])
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(parts.scheme.lower(), user, password, unquote(host), port, unquote(parts.path), query, shown)

    def server(self) -> dict[str, Value]:
        """The options `host`, `port`, `user` and `password`, as far as the URL tells them. Raises `ConfigurationError`
        where there is no host."""
        if not self.host:
            raise ConfigurationError([f"{self.shown}: the host is missing: {self.scheme}://USER@HOST/PATH"])
        told: dict[str, Value] = {"host": self.host, "port": self.port, "user": self.user, "password": self.password}
        return {name: value for name, value in told.items() if value}

    def no_query(self, *allowed: str) -> None:
        """Raise `ConfigurationError` where the URL says what nobody reads."""
        strange = self.query.keys() - set(allowed)
        if strange:
            known = f"; known are {', '.join(allowed)}" if allowed else ""
            raise ConfigurationError([f"{self.shown}: {', '.join(sorted(strange))} means nothing here{known}"])


def hide(text: str) -> str:
    """The URL without its password, for people and logs."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://[^/@:?#]*):[^/?#]*@", r"\1:***@", text)
