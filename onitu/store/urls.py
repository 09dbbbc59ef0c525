"""The URL of a store: what is allowed in it, how it is shown, and the client that it makes.

redis-py is imported by what needs it: to load it takes 60 ms, and the supervisor only looks at URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from onitu.model.errors import ConfigurationError, StateError, StoreGone

if TYPE_CHECKING:
    import redis

SCHEMES = ("redis", "rediss", "unix")

_OPTIONS = {
    "redis": {"db", "username", "password"},
    "unix": {"db", "username", "password"},
    "rediss": {
        "db",
        "username",
        "password",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
    },
}

TIMEOUT = 20.0
"""Seconds that one answer of the server may take. The largest commit takes about one; a slow disk longer."""


def check_url(url: str) -> str:
    """The URL itself if a store can be reached by such a one.

    Allowed are `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` (TLS) and `unix://[USER:PASSWORD@]/PATH[?db=DB]`.

    Raises:
        ConfigurationError: with a sentence for each thing that is wrong; passwords are masked.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError([f"store {masked(url)!r}: {error}"]) from error
    if parts.scheme not in SCHEMES:
        allowed = ", ".join(f"{s}://" for s in SCHEMES)
        raise ConfigurationError([f"store {masked(url)!r}: it must start with one of {allowed}"])
    wrong = _wrong_place(parts.scheme, parts.hostname, port, unquote(parts.path))
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _OPTIONS[parts.scheme]:
            allowed = ", ".join(sorted(_OPTIONS[parts.scheme]))
            wrong.append(f"{name!r} is not an option of {parts.scheme}://; allowed are {allowed}")
        elif name == "db" and not re.fullmatch("[0-9]+", value):
            wrong.append(f"the database {value!r} is not a number")
    if parts.fragment:
        wrong.append("a '#' must be written %23")
    if wrong:
        raise ConfigurationError([f"store {masked(url)!r}: {sentence}" for sentence in wrong])
    return url


def masked(url: str) -> str:
    """The URL for display: whatever may be a secret is `***`, also in a URL that is not one."""
    head, separator, rest = url.partition("://")
    if not separator:
        return url.rpartition("@")[2] if "@" in url else url
    # A password may hold an unescaped '/', '?' or '#': everything before the last '@' is taken for it.
    secret, at, place = rest.rpartition("@")
    if at and not secret.startswith("/"):
        user = secret.partition(":")[0] if ":" in secret else ""
        rest = f"{user}:***@{place}"
    rest = re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&#]*", r"\1***", rest)
    return head + separator + rest


def client(url: str, *, timeout: float = TIMEOUT, attempts: int = 4) -> redis.Redis:
    """A client for a checked URL. A refused or lost connection is tried again within a second; an answer that does
    not come in `timeout` seconds is not waited for twice."""
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    from .packing import Packer

    retry = Retry(ExponentialBackoff(cap=0.4, base=0.05), attempts - 1, (redis.ConnectionError,))
    # The protocol is fixed: RESP3 gives other Python types for the same answers.
    return redis.Redis.from_url(
        url,
        protocol=2,
        command_packer=Packer(),
        decode_responses=False,
        retry=retry,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 5.0),
    )


def ask(client: redis.Redis, *words: bytes | str | int) -> Any:
    """One command, one answer. redis-py's typed methods cannot tell that answers are bytes here."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


@contextmanager
def telling(url: str) -> Iterator[None]:
    """Makes of the client's errors one that says what a person can do: `StoreGone` where time may do it,
    `ConfigurationError` where nothing but another URL helps, else `StateError`."""
    import redis

    try:
        yield
    except redis.AuthenticationError as error:
        raise ConfigurationError([f"the store {masked(url)} refuses the user or the password: {error}"]) from error
    except redis.exceptions.BusyLoadingError as error:
        raise StoreGone(f"the store {masked(url)} is still loading its data") from error
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        if distrust := _distrust(error):
            told = f"the store {masked(url)} has a certificate that is not trusted ({distrust}); see ssl_ca_certs"
            raise ConfigurationError([told]) from error
        raise StoreGone(f"the store {masked(url)} cannot be reached: {error}") from error
    except redis.RedisError as error:
        raise StateError(f"the store {masked(url)} refused: {error}") from error


def _distrust(error: BaseException | None) -> str:
    """What is wrong with the server's certificate; empty: that is not the trouble."""
    import ssl  # 10 ms, which a store of our own does not need

    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return ""


def _wrong_place(scheme: str, host: str | None, port: int | None, path: str) -> list[str]:
    if scheme == "unix":
        wrong = []
        if host or port:
            wrong.append("the path of the socket must be absolute: unix:///PATH")
        elif path in ("", "/"):
            wrong.append("the path of the socket is missing: unix:///PATH")
        return wrong
    wrong = [] if host else ["the host is missing"]
    if port == 0:
        wrong.append("the port must be from 1 to 65535")
    if path not in ("", "/") and not re.fullmatch("/[0-9]+", path):
        wrong.append(f"the database {path[1:]!r} is not a number")
    return wrong
