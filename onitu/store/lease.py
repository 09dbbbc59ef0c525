"""The lease of a folder: who may write it.

Two keys make it. The *fence* holds the token of the last Referee that took the folder, never expires and is checked by
every commit: it alone keeps a second writer out. The *lease* says who that Referee is and expires when it does not
renew it: it only keeps others from taking a folder whose holder lives.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from typing import Any

import msgspec
import redis

from onitu.model.errors import StateError

from . import scripts, urls
from .keys import Keys


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lease.

    Attributes:
        pid: its process.
        host: its host's name, for people.
        place: where the pid means something: this boot of this kernel and this space of process ids.
        nonce: unique.
    """

    pid: int
    host: str
    place: str
    nonce: str

    @classmethod
    def this(cls) -> Holder:
        """This process, anew."""
        return cls(os.getpid(), socket.gethostname(), _place(), uuid.uuid4().hex)

    @property
    def dead(self) -> bool:
        """Whether the process is known to have ended. False where that cannot be known from here."""
        if not self.place or self.place != _place():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Lease(msgspec.Struct, frozen=True):
    """A lease that was taken. Its methods block."""

    keys: Keys
    holder: Holder
    token: str
    ttl: float

    def renew(self, client: redis.Redis) -> bool:
        """Keep it for another `ttl` seconds; False: the folder is another's, or the store was emptied."""
        return bool(_run(client, scripts.RENEW, self.keys, _packed(self.holder), _milliseconds(self.ttl), self.token))

    def release(self, client: redis.Redis) -> None:
        """Let the next one take it at once; nothing happens where it is another's already."""
        _run(client, scripts.RELEASE, self.keys, self.token)


def take(client: redis.Redis, keys: Keys, ttl: float) -> Lease | Holder:
    """The folder's lease, or who holds it. A holder whose process is known to have ended is not waited for."""
    mine, over = Holder.this(), b""
    while True:
        token, standing = _run(client, scripts.TAKE, keys, _packed(mine), _milliseconds(ttl), mine.nonce, over)
        if token:
            return Lease(keys, mine, token.decode(), ttl)
        holder = _unpacked(standing, keys.folder)
        if not holder.dead or standing == over:
            return holder
        over = standing


def refusal(folder: str, holder: Holder) -> StateError:
    """The error for a folder that another process holds."""
    return StateError(
        f"folder {folder!r} is held by another Onitu, process {holder.pid} on {holder.host}; "
        "stop that one first, or use another state"
    )


def _run(client: redis.Redis, script: str, keys: Keys, *arguments: bytes | str | int) -> Any:
    return urls.ask(client, "EVAL", script, 2, keys.named("lease"), keys.named("fence"), *arguments)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _packed(holder: Holder) -> bytes:
    return msgspec.json.encode(holder)


def _unpacked(data: bytes, folder: str) -> Holder:
    try:
        return msgspec.json.decode(data, type=Holder)
    except msgspec.MsgspecError as error:
        raise StateError(f"the lease of folder {folder!r} is damaged: {error}") from error


def _place() -> str:
    if sys.platform != "linux":
        return socket.gethostname()
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
