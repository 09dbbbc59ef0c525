"""`FtpDriver` and `FtpsDriver`: the connections' life."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from onitu.model.errors import Unavailable
from onitu.plug.remote import Remote, RemoteDriver

from .connection import Pool
from .options import FtpOptions, FtpsOptions
from .remote import FtpRemote

TLS = ("no", "explicit", "implicit")


class FtpDriver(RemoteDriver):
    """A directory of an FTP server. Nothing is encrypted; prefer ftps, or sftp."""

    Options = FtpOptions
    options: FtpOptions
    schemes = ("ftp",)
    pool: Pool

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
