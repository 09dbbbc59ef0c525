"""The driver interface: a small class with capabilities and a few coroutines. It never talks ZeroMQ or Redis.

A driver is asked to look (`scan`, `stat`, `fingerprint`, `watch`), to serve (`read`), and to act (`stage`, `perform`).
Every call works on a batch, because one hop to a thread or one request for each small file would cost more than the
work. All paths are relative bytes; the plug has checked them (`onitu.model.paths.checked`), but that a parent is no
link that leads out of the root only the driver can see, and it must.

Cancellation may hit any `await`; a driver leaves each path old or new, whole, and at most a staged file behind.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import ClassVar, Protocol

import trio

from onitu.model import filters, paths
from onitu.model.events import Event
from onitu.model.orders import Order
from onitu.model.settings import Filter
from onitu.model.tally import Tally
from onitu.model.versions import Kind, Version

from . import options as declaring
from .counters import Counters
from .urls import Address
from .words import Capabilities, Entry, Hint, HintKind, Identity, Listing, Refused

__all__ = [
    "Capabilities",
    "Driver",
    "Entry",
    "Hint",
    "HintKind",
    "Identity",
    "Listing",
    "Refused",
    "Staged",
]

COUNTED = 64
"""Directories that are listed together where everything is counted."""


class Staged(Protocol):
    """Content on its way to a path, in the driver's private place, named after its digest so that it can be resumed.

    An async context manager: leaving it without `perform` having used it keeps what was written for a later resume.
    """

    offset: int
    """Bytes that stand already, from an earlier try; they are hashed when the staging begins."""

    async def write(self, data: bytes | memoryview) -> None:
        """Append. Raises `Refused` (NO_SPACE, IO)."""

    async def clone(self, root: str, path: bytes, token: bytes) -> None:
        """Take all that is missing from a file under another local root on this host, in the kernel where it can.

        Raises `Refused`: SOURCE_LOST where that file is not what `token` names, before or after the copy.
        """

    async def finish(self) -> None:
        """Check the whole against the version's digest. Raises `Refused(CORRUPT)` and drops it where it differs."""

    async def __aenter__(self) -> Staged: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Driver(abc.ABC):
    """One service. `open` it once (an async context manager that owns its connection, its limiter, its locks)."""

    Options: ClassVar[type[declaring.Options]] = declaring.Options
    """What may stand under `options:` in the configuration."""

    options: declaring.Options
    """What stands there. A driver with options of its own annotates it with its own class."""

    schemes: ClassVar[tuple[str, ...]] = ()
    """Schemes of URLs that `onitu sync` takes for it, where it is not Onitu's own."""

    @classmethod
    def from_url(cls, url: str) -> Address:
        """What a URL of one of its schemes means (`onitu.plug.urls.Url` takes it apart). Raises `ConfigurationError`
        with a sentence that says what is wrong, without the password."""
        return cls.Options.from_url(url)

    small: ClassVar[int] = 128 * 1024
    """Files up to this many bytes may be put by `perform` itself from a `local` source, many to a batch."""

    takes_local: ClassVar[bool] = False
    """Whether `Staged.clone` and `perform` can read files of other replicas on this host themselves."""

    paces: ClassVar[bool] = False
    """Whether it keeps to `bandwidth` itself, where its bytes come and go. Otherwise the plug limits what it fetches
    from other services, and what they fetch from it."""

    workspace: str = ""
    """Set before `open`: a directory of this host that is this service's own, for what is on its way; not made yet.
    Empty: there is none."""

    counters: Counters
    """What it did since its start, by name, for `onitu status`: a driver adds to it (`requests`, `polls`)."""

    look_only: bool = False
    """Set before `open` for a dry run: nothing may be written to the service, not even where Onitu keeps its own
    things. `identify` makes nothing and settles nothing there, and what it cannot find out so is taken for usual.
    `mark`, `stage` and `perform` are not called."""

    on_settled: Callable[[], None] = staticmethod(lambda: None)
    """Set by the plug: to be called when what `unsettled` or `waits` says changed without an order."""

    def __init__(self, service: str, options: Mapping[str, str | int | float | bool], roots: Mapping[str, str]) -> None:
        """`options`: as checked against `Options`; `roots`: by folder, the replica's root as configured."""
        self.service = service
        self.counters = Counters()
        self.roots = dict(roots)
        self.options = declaring.given(self.Options, options)

    @abc.abstractmethod
    def open(self) -> AbstractAsyncContextManager[None]:
        """The driver's life."""

    @abc.abstractmethod
    def capabilities(self, folder: str) -> Capabilities:
        """What this replica can do; known after `identify`."""

    def identity_of(self, token: bytes) -> bytes | None:
        """What of a token stays the same when the thing is renamed (inode, size and mtime, say), so that a name that
        vanished and one that appeared may be a move: they are, where the whole token is the same, and else where the
        content is, when read. None: it cannot be told."""
        return None

    def unsettled(self, folder: str) -> int:
        """How many things that orders displaced may still turn out to be a user's value, and get a path again. Whoever
        waits for all to be in sync waits for them. One that did counts until its hint was sent."""
        return 0

    def waits(self, folder: str) -> str:
        """For what a call to the service waits that is to be tried again, in a few words for `onitu status`; empty:
        nothing does."""
        return ""

    async def at_rest(self, folder: str) -> bool:
        """Whether an `identify` that may write would find nothing that an earlier life left to be settled. Asked of a
        driver that only looks, after `identify`. False: it cannot be told, which is what a driver says that does not
        implement it; then every run does all that a run does. Raises `Unavailable`."""
        return False

    @abc.abstractmethod
    async def identify(self, folder: str) -> Identity:
        """Check that the root is there and usable, take its lock, and read its marker. Where there is no marker,
        nothing is made or changed: that comes with `mark`. Raises `Unavailable`."""

    @abc.abstractmethod
    async def mark(self, folder: str, identity: Identity) -> None:
        """Write the marker, atomically and durably; the first one makes the root a replica. Raises `Unavailable`."""

    @abc.abstractmethod
    async def scan(self, folder: str, directories: Sequence[bytes]) -> list[Listing]:
        """List these directories (`ROOT` is the replica's root), not recursively. Raises `Unavailable` where the root
        is not there, or its marker is not the one that `identify` read."""

    compares: ClassVar[bool] = False
    """Whether it implements `scan_familiar`."""

    async def scan_familiar(
        self, folder: str, directories: Sequence[bytes], tallies: Mapping[bytes, bytes]
    ) -> list[Listing]:
        """As `scan`; but where exactly that stands in a directory which the bytes of its tally say, only the
        directories in it need be listed, and the listing says so (`Listing.familiar`). To be overridden by a driver
        that can count faster than it lists."""
        return await self.scan(folder, directories)

    async def tally(self, folder: str, hiding: Sequence[Filter], since: int) -> Tally | None:
        """The tally of everything that stands there and is hidden by none of the filters; None: something cannot be
        looked at, or has surely changed after `since` (nanoseconds since 1970), so that the tally is another one. To be
        overridden by a driver that can count faster than it lists. Raises `Unavailable` as `scan`."""
        found = Tally()
        waiting = [paths.ROOT]
        while waiting:
            portion = sorted(waiting[-COUNTED:])
            del waiting[-COUNTED:]
            for listing in await self.scan(folder, portion):
                if listing.missing or not listing.complete:
                    return None
                for entry in listing.entries:
                    if filters.hides(hiding, entry.path, entry.version) is not None:
                        continue
                    if entry.trouble:
                        return None
                    found.see(entry.path, entry.kind, entry.token, entry.version.mode)
                    if entry.kind is Kind.DIRECTORY:
                        waiting.append(entry.path)
        return found

    @abc.abstractmethod
    async def stat(self, folder: str, paths: Sequence[bytes]) -> list[Entry | None]:
        """What stands at each path now; None: positively nothing. Raises `Unavailable` as `scan`."""

    @abc.abstractmethod
    async def fingerprint(self, folder: str, entries: Sequence[Entry]) -> list[Entry | None]:
        """The entries with their digests, read whole; None for each that is not what its token says any more, or that
        changed while it was read (it will be seen again); an Entry with `trouble` for what cannot be read."""

    @abc.abstractmethod
    async def watch(self, folder: str, hints: trio.MemorySendChannel[Hint], ready: trio.Event) -> None:
        """Send hints until cancelled. `ready` is set once nothing that happens afterwards can be missed. The channel is
        bounded: sending waits. A service that cannot push says POLL when it is to be scanned, or returns at once after
        `ready` (it is polled at a fixed pace)."""

    @abc.abstractmethod
    async def read(self, folder: str, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        """Bytes of what `token` names at `path`. Raises `Refused` (SOURCE_LOST, DENIED, IO)."""

    @abc.abstractmethod
    def stage(self, folder: str, version: Version, path: bytes = b"") -> Staged:
        """A place for the content of a file version. `path`: where it is to be put, if that is known."""

    @abc.abstractmethod
    async def perform(
        self,
        folder: str,
        orders: Sequence[Order],
        staged: Mapping[int, Staged],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
    ) -> list[list[Event]]:
        """Carry out the orders one after the other; for each, the events that tell its outcome.

        `staged`: by order number, the finished content of a PUT. `local`: by order number, for a small PUT without
        staged content, (root, path, token) of files on this host that have it, best first.

        Of each order's events exactly one carries its number: DONE, FAILED, or STANDS/GONE where the compare-and-swap
        found something else. More events tell what else came out (a displaced user's value that now stands under a
        conflict name), and the directories that had to be made above an order's path (STANDS with the order number
        `BESIDE`, before the answer). No error is raised for an order; `Unavailable` where the replica's root is gone,
        `Anew` where it is to be identified again first.
        """
