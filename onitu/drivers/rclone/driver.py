"""`RcloneDriver`: how its remotes are made, and the life of the process behind them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator

import trio

from onitu.model.errors import Unavailable
from onitu.plug.remote import Remote, RemoteDriver

from . import rcd
from .listing import identity_of
from .options import RcloneOptions
from .remote import RcloneRemote


class RcloneDriver(RemoteDriver):
    """A remote of your rclone.conf: Dropbox, Google Drive, OneDrive, and some seventy more services."""

    Options = RcloneOptions
    options: RcloneOptions
    rcd: rcd.Rcd
    paces_files = False  # rclone limits itself

    schemes = ("rclone",)

    def remote(self, folder: str) -> Remote:
        remote, path = self.options.remote.removesuffix(":"), self.roots[folder]
        if "]" in remote + path:
            raise Unavailable(f"{path} cannot be read over rclone's interface: no path there may have a ]")
        # What follows a comma are options, and may be secret.
        return RcloneRemote(self.rcd, f"{remote}:{path}", f"{remote.partition(',')[0]}:{path}", self.options.hashes)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        directory = os.path.join(self.workspace, "rclone") if self.workspace else tempfile.mkdtemp(prefix="onitu-")
        environment = rcd.environment(self.options.config, self.options.config_password)
        self.rcd = rcd.Rcd(self.options.program, environment, directory, self.options.bandwidth, self.count)
        try:
            async with self.rcd.running():
                yield
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))

    def identity_of(self, token: bytes) -> bytes | None:
        return identity_of(token)
