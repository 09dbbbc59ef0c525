"""A process as its `Child` sees it: a number, three streams, an end."""

from __future__ import annotations

import os

import trio

from .forks import Fork


class ForkedProcess:
    """A fork, with what `Child` uses of a `trio.Process`. The pipes belong to it from now on.

    Attributes:
        pid: its number; it belongs to this process until `wait` came back.
        stdin, stdout, stderr: our ends of its standard streams.
    """

    def __init__(self, fork: Fork) -> None:
        self.pid = fork.pid
        self.stdin = trio.lowlevel.FdStream(fork.stdin)
        self.stdout = trio.lowlevel.FdStream(fork.stdout)
        self.stderr = trio.lowlevel.FdStream(fork.stderr)
        self._status: int | None = None

    async def wait(self) -> int:
        """Wait until it is dead, and reap it: its exit status, or the number of the signal that killed it, negative.
        Cancelled, it is not reaped."""
        if self._status is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
            _, status = os.waitpid(self.pid, 0)  # noqa: ASYNC222 (it is dead: there is nothing to wait for)
            self._status = os.waitstatus_to_exitcode(status)
        return self._status
