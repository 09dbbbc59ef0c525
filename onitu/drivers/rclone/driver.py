"""`RcloneDriver`: how its remotes are made, and the life of the process behind them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator

import attrs
import trio

from onitu.model.errors import ConfigurationError, Unavailable
from onitu.plug import option
from onitu.plug.remote import Remote, RemoteDriver, RemoteOptions
from onitu.plug.urls import Address

from . import rcd
from .listing import identity_of
from .remote import RcloneRemote


@attrs.frozen(kw_only=True)
class RcloneOptions(RemoteOptions):
    """The options of a service that rclone reaches."""

    remote: str = option(help="the remote, as `rclone config` calls it; a folder's path is below it")
    config: str = option("", help="the rclone.conf; left out: rclone's own (RCLONE_CONFIG, or ~/.config/rclone)")
    config_password: str = option(
        "", help="what an encrypted rclone.conf is opened with; left out: RCLONE_CONFIG_PASS", secret=True
    )
    program: str = option("", help="the rclone binary; left out: the one on PATH, else the one of onitu[rclone]")
    hashes: bool = option(
        True, help="whether to know contents by the remote's hashes; no for one that is asked for each (pCloud)"
    )


class RcloneDriver(RemoteDriver):
    """A remote of your rclone.conf: Dropbox, Google Drive, OneDrive, and some seventy more services."""

    Options = RcloneOptions
    options: RcloneOptions
    rcd: rcd.Rcd
    paces_files = False  # rclone limits itself

    schemes = ("rclone",)

    @classmethod
    def from_url(cls, url: str) -> Address:
        """`rclone:REMOTE:PATH`, as rclone writes it after the first colon."""
        remote, colon, path = url.partition(":")[2].partition(":")
        if not colon or not remote or "/" in remote:
            raise ConfigurationError([f"{url}: a remote of your rclone.conf is written rclone:REMOTE:PATH"])
        return Address({"remote": remote}, path, remote.partition(",")[0])

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
