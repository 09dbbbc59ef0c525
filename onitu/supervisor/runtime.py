"""Where the sockets of a run are: a short, private directory that follows from the state directory alone.

`BASE/HASH` belongs to the state directory; `control` in it is the supervisor's socket. Everything else stands in
`BASE/HASH/RUN`, a directory of this run's own: libzmq unlinks a socket's path when it closes, so a straggler of a dead
run would otherwise take away the socket of its successor.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from onitu.model.errors import StateError
from onitu.wire.charter import SPILL_SUFFIX, Endpoints

LONGEST_SOCKET = 103
"""Bytes in the path of an `ipc://` socket at most (macOS; Linux has 107)."""

LONGEST_NAME = 40
"""Bytes that are kept free in it for the name of a driver's socket."""

_RUN = 6
_HASH = 12


def runtime_directory(state: str) -> str:
    """The directory of the sockets that belong to the state directory `state`; nothing is looked at or made but
    `$XDG_RUNTIME_DIR`, which counts where it is a directory of ours and its path is short enough."""
    digest = hashlib.blake2s(os.fsencode(os.path.realpath(state))).hexdigest()[:_HASH]
    return os.path.join(_base(), digest)


def control_endpoint(state: str) -> str:
    """Where the supervisor of `state` answers: as its run wrote it down, else as it follows from the path."""
    try:
        with open(os.path.join(state, "control"), encoding="utf-8") as file:
            written = file.read().strip()
    except (OSError, UnicodeError):
        written = ""
    return written or _ipc(runtime_directory(state), "control")


@contextmanager
def prepared(state: str) -> Iterator[Endpoints]:
    """Make the directories for one run, give its endpoints, and take everything away at the end.

    The caller holds the lock of `state`: whatever stands there is a leftover of a dead run, and goes.

    Raises:
        StateError: a directory belongs to somebody else, is a link, or is open to others.
    """
    directory = runtime_directory(state)
    if os.path.basename(os.path.dirname(directory)) == "onitu":
        _private(os.path.dirname(directory))  # below $XDG_RUNTIME_DIR
    else:
        _private(_base())
    _private(directory)
    leftovers = [entry.path for entry in os.scandir(directory)]
    run = os.path.join(directory, secrets.token_hex(_RUN // 2))
    _private(run)
    for path in leftovers:
        _clear(path, run)
    endpoints = Endpoints(
        events=_ipc(run, "events"),
        news=_ipc(run, "news"),
        control=_ipc(directory, "control"),
        referee=_ipc(run, "referee"),
        logs=_ipc(run, "logs"),
        runtime=run,
    )
    note = os.path.join(state, "control")
    _write(note, endpoints.control + "\n")
    try:
        yield endpoints
    finally:
        _unlink(note)
        shutil.rmtree(directory, ignore_errors=True)


def _base() -> str:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    longest = LONGEST_SOCKET - LONGEST_NAME - _HASH - _RUN - len("/onitu///")
    if os.path.isabs(given) and len(os.fsencode(given)) <= longest:
        try:
            found = os.stat(given)
        except OSError:
            found = None
        if found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            return os.path.join(given, "onitu")
    # Not $TMPDIR: on macOS its path is too long for a socket, and the command line has to find the same place.
    return f"/tmp/onitu-{os.geteuid()}"  # noqa: S108 (made 0700, and refused where it is not ours)


def _private(directory: str) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise StateError(f"The directory {directory} for sockets cannot be made: {error.strerror}.") from None
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"{directory} should be a directory for sockets, and is a link or a file; remove it.")
    if found.st_uid != os.geteuid():
        raise StateError(f"The directory {directory} for sockets belongs to another user; it is not used.")
    if found.st_mode & 0o077:
        raise StateError(f"The directory {directory} for sockets is open to others; remove it, or chmod 700.")


def _clear(path: str, run: str) -> None:
    """Take away what a dead run left, but for the log records that it could not deliver: this run takes them."""
    if os.path.isdir(path) and not os.path.islink(path):
        for entry in os.scandir(path):
            if entry.name.endswith(SPILL_SUFFIX) and entry.is_file(follow_symlinks=False):
                os.replace(entry.path, os.path.join(run, entry.name))
        shutil.rmtree(path, ignore_errors=True)
    else:
        _unlink(path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _write(path: str, text: str) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _ipc(directory: str, name: str) -> str:
    return f"ipc://{directory}/{name}"
