"""The seal of a state: what the last run knew when it ended with everything in sync.

It stands in `STATE/seal` from the end of such a run until the next one begins to work. As long as the settings, the
store and what stands on every service are what they were, there is nothing to do, and `onitu.supervisor.glances` can
tell so. A seal that is damaged, or speaks of something else, is none: then a run does all that a run does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import Any

import msgspec

import onitu
from onitu.model.errors import StateError
from onitu.model.settings import Settings
from onitu.model.tally import Sealed
from onitu.store.embedded import DATA

NAME = "seal"

_MOST = 1 << 20
"""Bytes of a seal at most."""
_SUM = 16
"""Bytes of its checksum, with which it begins."""


class Stamp(msgspec.Struct, frozen=True):
    """A file of the store: every commit changes its size and time."""

    name: str
    size: int
    mtime: int
    inode: int


class Seal(msgspec.Struct, frozen=True):
    """See the module.

    Attributes:
        version: of Onitu; another one may look with other eyes.
        settings: the digest of what decides which paths are managed where.
        store: the files of the embedded store, by name.
        replicas: by service and folder.
        status: the status of the run at its end, for who asks what is in sync.
    """

    version: str
    settings: str
    store: tuple[Stamp, ...]
    replicas: dict[str, dict[str, Sealed]]
    status: dict[str, Any]


def load(settings: Settings) -> Seal | None:
    """The seal of the settings' state; None where there is none that fits. The caller holds the state's lock."""
    try:
        with open(os.path.join(settings.state, NAME), "rb") as file:
            data = file.read(_MOST)
        if data[:_SUM] != _sum(data[_SUM:]):
            return None  # damaged, or changed by somebody's hand
        seal = msgspec.msgpack.decode(data[_SUM:], type=Seal)
    except (OSError, msgspec.MsgspecError):
        return None
    fits = (
        seal.version == onitu.__version__
        and seal.settings == _digest(settings)
        and seal.store == _stamps(settings)
        and all(name in seal.replicas for name in settings.services)
    )
    return seal if fits and seal.store else None


def put(settings: Settings, sealed: dict[str, dict[str, dict[str, Any]]], status: dict[str, Any]) -> None:
    """Seal a state whose run has ended: its store is at rest, and the caller holds its lock. Where it cannot be
    written, it is not: the next run then takes longer.

    Args:
        settings: of the run.
        sealed: what the Referee answered to `sealed`: by folder and service.
        status: its last status.
    """
    now = time.time_ns()
    replicas: dict[str, dict[str, Sealed]] = {name: {} for name in settings.services}
    for folder, services in sealed.items():
        for name, known in services.items():
            tally = bytes.fromhex(known["tally"])
            replicas[name][folder] = Sealed(known["marker"], known["generation"], tally, now)
    seal = Seal(onitu.__version__, _digest(settings), _stamps(settings), replicas, status)
    path = os.path.join(settings.state, NAME)
    with contextlib.suppress(OSError, UnicodeEncodeError):  # the second: a name that is not UTF-8
        data = msgspec.msgpack.encode(seal)
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(_sum(data) + data)
        os.rename(f"{path}.new", path)


def take_off(state: str) -> None:
    """Something may change from now on: what is sealed may be so no more. Raises `StateError` where it stays."""
    path = os.path.join(state, NAME)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        raise StateError(f"The seal {path} of the last run cannot be taken off: {error.strerror}.") from None


def _sum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SUM).digest()


def _digest(settings: Settings) -> str:
    """Of all that decides what is managed where. A service's options are left out: there may be secrets in them, and
    whose replica they lead to is told by its marker."""
    services = {name: (service.driver, service.replicas) for name, service in settings.services.items()}
    data = repr((settings.folders, services, settings.rules)).encode(errors="backslashreplace")
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _stamps(settings: Settings) -> tuple[Stamp, ...]:
    """The files in which the embedded store has its data."""
    stamps = []
    directory = os.path.join(settings.state, "store", DATA)
    with contextlib.suppress(OSError), os.scandir(directory) as files:
        for file in files:
            st = file.stat(follow_symlinks=False)
            stamps.append(Stamp(file.name, st.st_size, st.st_mtime_ns, st.st_ino))
    return tuple(sorted(stamps, key=lambda stamp: stamp.name))
