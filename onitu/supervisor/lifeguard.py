"""The tiny parent of a server that knows no lifeline: `lifeguard.py LOCK COMMAND ARGUMENT…`.

It starts the command, proves with a byte a second on its standard output that it lives, forwards SIGTERM and SIGINT,
and ends with the command. When its standard input reads EOF the supervisor is dead: the command gets SIGTERM, and
after `GRACE` seconds everything in this process group gets SIGKILL. When this process itself is killed, the kernel
kills the command (`PR_SET_PDEATHSIG`, which is reliable here: this process has one thread, and that one starts the
command). macOS has no such call: there the supervisor kills the process group, and only the SIGKILL of both at once
leaves the server behind.

LOCK is locked before the command starts, and the command inherits it: however the last server ended, the next one waits
until that one, and what it forked, have let go of their files.

It is started as a script, by its path, with `python -I -S`: only the standard library, and little of that, so that it
is up in little more than the time of an empty interpreter. It must not import anything of ours.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # spelled out: importing `typing` would cost a quarter of the start
if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 1.0
"""Seconds from the end of the lifeline to SIGKILL."""

BEAT = 10.0
"""Seconds between two signs of life."""

_PR_SET_PDEATHSIG = 1
_CANNOT_START = 127


def main(arguments: list[str]) -> int:
    """Guard `arguments[1:]` under the lock `arguments[0]`; the exit status is the command's (128 + a signal)."""
    lock, command = arguments[0], arguments[1:]
    wakeup, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(wakeup, False)
    os.set_blocking(1, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, _noted)
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    poll.register(0, select.POLLIN | select.POLLHUP)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    told = False
    while not _locked(descriptor):
        # Another server still holds its files. The lifeline counts meanwhile, and so does a signal to end.
        if not told:
            told = True
            os.write(2, b"waiting for an earlier server to let go of its files\n")
        if any(fd == wakeup or _ended(fd) for fd, _ in poll.poll(20)):
            return 128 + signal.SIGTERM
        _beat()
    return _guard(_started(command, descriptor), poll, wakeup)


def _guard(child: int, poll: select.poll, wakeup: int) -> int:
    orphaned: float | None = None
    next_beat = 0.0
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if orphaned is not None:
                _end_group()
            return _exit_status(status)
        now = time.monotonic()
        if orphaned is not None and now >= orphaned + GRACE:
            _end_group()
            os.kill(child, signal.SIGKILL)
        if now >= next_beat:
            _beat()
            next_beat = now + BEAT
        limit = next_beat if orphaned is None else min(next_beat, orphaned + GRACE)
        for fd, _ in poll.poll(max(1, int((limit - now) * 1000))):
            if fd == wakeup:
                _forward(os.read(wakeup, 64), child)
            elif _ended(fd):
                poll.unregister(0)
                orphaned = time.monotonic()
                os.kill(child, signal.SIGTERM)


def _forward(received: bytes, child: int) -> None:
    if signal.SIGTERM in received or signal.SIGINT in received:
        os.kill(child, signal.SIGTERM)


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor carries the signal; a handler must stand there for it to be written."""


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ended(descriptor: int) -> bool:
    """Whether the lifeline is at its end. What is written to it (a charter) is not for us."""
    return descriptor == 0 and not os.read(0, 65536)


def _beat() -> None:
    try:
        os.write(1, b".")
    except (BlockingIOError, BrokenPipeError):
        # Nobody reads: that is the supervisor's affair, and its death shows on the lifeline.
        return


def _started(command: list[str], lock: int) -> int:
    die_with_parent = _die_with_parent()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        die_with_parent()
        if os.getppid() != parent:  # it died before the call above could promise anything
            os._exit(_CANNOT_START)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.set_inheritable(lock, True)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)  # the server's words are for the log; a byte on standard output would be a sign of *our* life
        os.execv(command[0], command)  # noqa: S606 (no shell is what we want)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode(errors="surrogateescape"))
    finally:
        os._exit(_CANNOT_START)


def _die_with_parent() -> Callable[[], None]:
    """What a child calls between fork and exec; loaded before the fork, as an import is no business of a fork."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def call() -> None:
        if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl failed")

    return call


def _end_group() -> None:
    """End all that is left of this process group, this process too; a no-op where the group is not our own."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def _exit_status(status: int) -> int:
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
