"""`FtpDriver` and `FtpsDriver`: URLs, and the connections' life."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import trio

from onitu.model.errors import ConfigurationError, Unavailable
from onitu.plug.remote import (
    Remote,
    RemoteDriver,
)
from onitu.plug.urls import Address, Url

from .connection import Pool, from_netrc
from .options import FtpOptions, FtpsOptions
from .remote import FtpRemote

TLS = ("no", "explicit", "implicit")


class FtpDriver(RemoteDriver):
    """A directory of an FTP server. Nothing is encrypted; prefer ftps, or sftp."""

    Options = FtpOptions
    options: FtpOptions
    schemes = ("ftp",)
    pool: Pool

    @classmethod
    def from_url(cls, url: str) -> Address:
        """`ftp://USER@HOST:PORT/PATH`: below the directory that one logs in to; an absolute path has `//` before it."""
        parts = Url.parse(url)
        parts.no_query()
        if not parts.host:
            raise ConfigurationError([f"{parts.shown}: the host is missing"])
        given: dict[str, Any] = {"host": parts.host, "port": parts.port, "user": parts.user, "password": parts.password}
        options = {name: value for name, value in given.items() if value}
        if parts.scheme == "ftps":
            options["tls"] = "implicit" if parts.port == 990 else "explicit"
        known = parts.password or not parts.user or from_netrc(parts.host)
        return Address(options, parts.path.removeprefix("/"), parts.host, () if known else ("password",))

    def remote(self, folder: str) -> Remote:
        if self.options.tls not in TLS or (isinstance(self.options, FtpsOptions) and self.options.tls == "no"):
            raise Unavailable(f"tls: {self.options.tls} is not allowed; it must be explicit or implicit")
        return FtpRemote(self.pool, self.roots[folder].encode(errors="surrogateescape"))

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        limiter = trio.CapacityLimiter(max(2, self.options.connections or FtpRemote.concurrency))
        self.pool = Pool(self.options, limiter, self.count)
        try:
            yield
        finally:
            self.pool.close()


class FtpsDriver(FtpDriver):
    """A directory of an FTP server, over TLS."""

    Options = FtpsOptions
    options: FtpsOptions
    schemes = ("ftps",)
