"""The driver for a directory on this host. It replaces without a gap: `docs/explanation/local-driver.md` says
how and why.

In the order in which a file goes through: `inotify` (a hint), `tree` (what stands where), `reading` (its digest),
`staging` (content on its way), `acting` (orders), `limbo` (what orders displaced), with `private` (marker, lock and the
probing of the file system) and `syscalls` (what the `os` module lacks) below. `glance` looks if there is anything to do
at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.plug.later import later

if TYPE_CHECKING:
    from .driver import LocalDriver
    from .options import LocalOptions

__all__ = ["LocalDriver", "LocalOptions"]

__getattr__ = later(__name__, {"LocalDriver": ".driver", "LocalOptions": ".options"})
