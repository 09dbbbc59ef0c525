"""The driver for a directory on this host. It replaces without a gap: `docs/explanation/local-driver.md` says
how and why.

In the order in which a file goes through: `inotify` (a hint), `tree` (what stands where), `reading` (its digest),
`staging` (content on its way), `acting` (orders), `limbo` (what orders displaced), with `private` (marker, lock and the
probing of the file system) and `syscalls` (what the `os` module lacks) below.
"""

from .driver import LocalDriver

__all__ = ["LocalDriver"]
