"""What rclone tells of a remote and of what is on it, and the tokens that come of it."""

from __future__ import annotations

import functools
from datetime import datetime

import msgspec

from onitu.model.events import Trouble
from onitu.model.versions import Kind
from onitu.plug.remote import Thing

SECOND = 1_000_000_000
NEVER = 100 * 365 * 86400 * SECOND // 2
"""A precision of times from here on says that a service keeps none."""
COMMON = {"md5", "sha1", "sha256", "sha512", "blake3"}
"""Digests, as rclone calls them, that others know too."""
PROVING = COMMON | {"whirlpool", "xxh128", "dropbox", "hidrive", "mailru", "quickxor"}
"""Digests that tell contents apart."""


class Item(msgspec.Struct, rename="pascal"):
    """One entry of a listing."""

    path: str
    size: int
    is_dir: bool
    mod_time: str = ""
    hashes: dict[str, str] | None = None


class Items(msgspec.Struct):
    """The answer of `operations/list`."""

    entries: list[Item] | None = msgspec.field(default=None, name="list")


class One(msgspec.Struct):
    """The answer of `operations/stat`."""

    item: Item | None = None


class Features(msgspec.Struct, rename="pascal"):
    """What a remote can do, as far as it matters here (https://rclone.org/rc/#operations-fsinfo)."""

    can_have_empty_directories: bool = False
    case_insensitive: bool = False
    copy: bool = False
    dir_cache_flush: bool = False
    dir_move: bool = False
    duplicate_files: bool = False
    move: bool = False
    bucket_based: bool = False
    slow_hash: bool = False
    slow_mod_time: bool = False


class Info(msgspec.Struct, rename="pascal"):
    """The answer of `operations/fsinfo`. `precision`: of times, in nanoseconds."""

    features: Features = msgspec.field(default_factory=Features)
    precision: int = NEVER
    hashes: list[str] | None = None

    @property
    def timed(self) -> bool:
        """Whether files keep the times that they are given, and tell them in a listing."""
        return self.precision < NEVER and not self.features.slow_mod_time

    @property
    def proving(self) -> list[str]:
        """The digests that a listing tells for free."""
        return [name for name in self.hashes or () if name in PROVING and not self.features.slow_hash]


def thing_of(item: Item, info: Info) -> Thing:
    """What a listing tells of one thing."""
    if item.is_dir:
        return Thing(Kind.DIRECTORY, mtime=nanoseconds(item.mod_time))
    if item.size < 0:
        return odd(item, "its size is not known (it is a document of the service's own, perhaps)")
    hashes = {name: value for name, value in (item.hashes or {}).items() if value and name in PROVING}
    mtime = nanoseconds(item.mod_time)
    stamp = mtime if info.timed or not hashes else "-"
    token = " ".join([str(item.size), str(stamp), *(f"{name}={hashes[name]}" for name in sorted(hashes))])
    digests = {name: bytes.fromhex(value) for name, value in hashes.items() if name in COMMON}
    return Thing(Kind.FILE, token.encode(), item.size, mtime, digests=digests)


def odd(item: Item, reason: str) -> Thing:
    """What cannot be synchronised."""
    kind = Kind.DIRECTORY if item.is_dir else Kind.FILE
    return Thing(kind, b"-", max(item.size, 0), trouble=Trouble.UNSUPPORTED, reason=reason)


def parsed(token: bytes) -> tuple[int, int | None]:
    """Size and time in a token; None: the time is no part of it."""
    size, stamp, *_ = token.split(b" ")
    return int(size), None if stamp == b"-" else int(stamp)


def identity_of(token: bytes) -> bytes | None:
    """What of a token (`=…`) is proof of the content, wherever it stands; None: nothing."""
    size, *rest = token.split(b" ")
    return b" ".join([size, *rest[1:]]) if token.startswith(b"=") and len(rest) > 1 else None


def nanoseconds(stamp: str) -> int:
    """A time as rclone writes it (RFC 3339, with nanoseconds), since 1970; 0: none."""
    if not stamp:
        return 0
    date, dot, rest = stamp.partition(".")
    zone = rest.lstrip("0123456789")
    fraction = rest[: len(rest) - len(zone)]
    try:
        return _seconds(date + zone) * SECOND + (int(fraction[:9].ljust(9, "0")) if dot else 0)
    except ValueError:
        return 0


@functools.lru_cache(4096)
def _seconds(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp())
