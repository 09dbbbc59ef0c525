"""What may be said of a remote of rclone's, in a configuration or by a URL."""

from __future__ import annotations

import attrs

from onitu.model.errors import ConfigurationError
from onitu.plug.options import RemoteOptions, option
from onitu.plug.urls import Address


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

    @classmethod
    def from_url(cls, url: str) -> Address:
        """`rclone:REMOTE:PATH`, as rclone writes it after the first colon."""
        remote, colon, path = url.partition(":")[2].partition(":")
        if not colon or not remote or "/" in remote:
            raise ConfigurationError([f"{url}: a remote of your rclone.conf is written rclone:REMOTE:PATH"])
        return Address({"remote": remote}, path, remote.partition(",")[0])
