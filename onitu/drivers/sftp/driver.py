"""`SftpDriver`: the life of its connections."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import trio

from onitu.model.errors import Unavailable
from onitu.plug.options import Value
from onitu.plug.remote import Remote, RemoteDriver

from .options import SftpOptions
from .probe import Able
from .remote import SftpRemote
from .ssh import Pool
from .target import Target


class SftpDriver(RemoteDriver):
    """Files on a server that is reached by SSH (SFTP)."""

    Options = SftpOptions
    options: SftpOptions
    schemes = ("sftp", "ssh")
    _pool: Pool | None = None

    def __init__(self, service: str, options: Mapping[str, Value], roots: Mapping[str, str]) -> None:
        super().__init__(service, options, roots)
        self._known: dict[str, Able] = {}

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        options = self.options
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._pool = Pool(self.service, Target.of(options), options.sessions, nursery, self.workspace, self.count)
            try:
                yield
            except Exception as error:  # a nursery would wrap it
                failure = error
            finally:
                self._pool = None
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def remote(self, folder: str) -> Remote:
        if self._pool is None:
            raise Unavailable("the driver is not open")
        return SftpRemote(self._pool, self.roots[folder], self._known, self.look_only)
