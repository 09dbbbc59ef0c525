"""What was begun for a driver before its own process was: a process whose standard streams are its first connection, as
`ssh` is for SFTP. It is a child of the process that the driver's was forked from, which reaps it; the driver has the
streams.
"""

from __future__ import annotations

import contextlib
import os

import msgspec
import trio


class Begun(msgspec.Struct):
    """A process that was begun ahead, with our ends of its standard streams. It is used like a `trio.Process`, but
    nobody here can tell how it ended."""

    pid: int
    stdin: trio.lowlevel.FdStream
    stdout: trio.lowlevel.FdStream
    stderr: trio.lowlevel.FdStream
    returncode: int | None = None

    async def wait(self) -> int:
        """Wait until it has ended."""
        with contextlib.suppress(ProcessLookupError):  # it was reaped
            fd = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(fd)
            finally:
                os.close(fd)
        self.returncode = 0
        return 0


_given: list[tuple[int, int, int, int]] = []


def give(pid: int, stdin: int, stdout: int, stderr: int) -> None:
    """Have it for the driver that will be in this process. The descriptors are its own from now on."""
    for fd in (stdin, stdout, stderr):
        os.set_inheritable(fd, False)
    _given.append((pid, stdin, stdout, stderr))


def take() -> Begun | None:
    """For a driver, within Trio: what was begun for it, once; None: nothing, or it was taken."""
    if not _given:
        return None
    pid, stdin, stdout, stderr = _given.pop()
    stream = trio.lowlevel.FdStream
    return Begun(pid, stream(stdin), stream(stdout), stream(stderr))
