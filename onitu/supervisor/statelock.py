"""The lock on a state directory: one run at a time.

The lock is a `flock` on `STATE/lock`, which also names the holder's pid for people. Every child inherits the open
file, so the kernel keeps the lock until the last process of a run is gone: after a SIGKILL of the supervisor a second
run waits for the children (they see their lifeline end) instead of starting beside them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from onitu.model.errors import StateError

PATIENCE = 5.0
"""Seconds to wait for the children of a dead run; they need 2 at most."""


@contextmanager
def held(state: str, *, patience: float = PATIENCE) -> Iterator[int]:
    """Hold the lock of the state directory `state`, which is made where it is missing; gives the file descriptor.

    Blocks for at most `patience` seconds, and only where the holder is dead and its children are still ending.

    Raises:
        StateError: another run holds it (its pid is named), or the directory cannot be used.
    """
    make_private(state)
    path = os.path.join(state, "lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateError(f"The lock file {path} cannot be opened: {error.strerror}.") from None
    try:
        _acquire(descriptor, state, time.monotonic() + patience)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise StateError(f"The state directory {state} cannot be written: {error.strerror}.") from None
        yield descriptor
        # The name of a holder that is gone would only mislead; the file itself stays, since a lock file that is
        # unlinked can be locked twice.
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(state: str) -> int | None:
    """The pid that the lock file names, or None: for messages only, it proves nothing."""
    try:
        with open(os.path.join(state, "lock"), "rb") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None


def user(state: str) -> int | None:
    """The pid of the run that uses the state directory; None: there is none, whatever the lock file names (after a
    power cut that may be somebody else's process by now)."""
    pid = holder(state)
    if pid is None or not _alive(pid):
        return None
    with _tolerated(errno.ENOENT), open(os.path.join(state, "lock"), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return pid
    return None


def make_private(directory: str) -> None:
    """Make `directory` (0700, with its parents), or see that the one that stands is ours and nobody else's to write.

    Raises:
        StateError: it cannot be made, or it belongs to somebody else, or others may write to it.
    """
    try:
        parent = os.path.dirname(os.path.abspath(directory))
        os.makedirs(parent, exist_ok=True)
        with _tolerated(errno.EEXIST):
            os.mkdir(directory, 0o700)
        found = os.stat(directory)
    except OSError as error:
        raise StateError(f"The state directory {directory} cannot be made: {error.strerror}.") from None
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"The state directory {directory} is not a directory.")
    if found.st_uid != os.geteuid():
        raise StateError(f"The state directory {directory} belongs to another user; choose another with --state.")
    if found.st_mode & 0o022:
        raise StateError(f"Others may write to the state directory {directory}; make it private (chmod 700) first.")


@contextmanager
def _tolerated(number: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


def _acquire(descriptor: int, state: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = holder(state)
            alive = pid is not None and _alive(pid)
            if not alive and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            raise StateError(_sentence(state, pid, alive)) from None
        else:
            return


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sentence(state: str, pid: int | None, alive: bool) -> str:
    if alive:
        return f"Another run, process {pid}, uses the state directory {state}; stop it first (onitu stop)."
    return (
        f"The state directory {state} is still in use by processes of a run that ended"
        f"{f' (it was process {pid})' if pid else ''}; wait for them to end."
    )
