"""The driver interface: a small class with capabilities and a few coroutines. It never talks ZeroMQ or Redis.

A driver is asked to look (`scan`, `stat`, `fingerprint`, `watch`), to serve (`read`), and to act (`stage`, `perform`).
Every call works on a batch, because one hop to a thread or one request for each small file would cost more than the
work. All paths are relative bytes; the plug has checked them (`onitu.model.paths.checked`), but that a parent is no
link that leads out of the root only the driver can see, and it must.

Cancellation may hit any `await`; a driver leaves each path old or new, whole, and at most a staged file behind.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import ClassVar, Protocol

import attrs
import msgspec
import trio
from msgspec.structs import replace

from onitu.model import filters, paths
from onitu.model.errors import ConfigurationError
from onitu.model.events import Event, Trouble
from onitu.model.orders import Order
from onitu.model.settings import Filter
from onitu.model.tally import Tally
from onitu.model.versions import Kind, Same, Version, same_content

from . import options as declaring
from .counters import Counters
from .urls import Address, hide

COUNTED = 64
"""Directories that are listed together where everything is counted."""


@attrs.frozen
class Capabilities:
    """What a service can do. Probed at start where servers differ; the driver tells the Referee in its `Hello`.

    Attributes:
        compare_and_swap: replacing is atomic and sees what it displaced.
        create_only: creating fails where something stands already.
        moves: a rename costs no transfer.
        directories: empty directories exist.
        links: symbolic links exist.
        modes: permission bits are kept.
        mtimes: modification times are kept, to this many nanoseconds; 0: not at all.
        racy: nanoseconds after a change within which one more may get the same token. A younger file is not read before
            they have passed; 0: every change shows at once.
        watches: changes are pushed; else the service is polled.
        case_sensitive: `A` and `a` are two names.
        digests: the digests that the service knows without a read.
    """

    compare_and_swap: bool = True
    create_only: bool = True
    moves: bool = True
    directories: bool = True
    links: bool = True
    modes: bool = True
    mtimes: int = 1
    racy: int = 20_000_000
    watches: bool = True
    case_sensitive: bool = True
    digests: tuple[str, ...] = ()

    def as_known(self, seen: Version, known: Version) -> Version:
        """A version that was seen, with what the service does not tell of mode and time (no bits, whole seconds only)
        as it is known of the same content; else it would be taken for a change of these, and given to everyone."""
        if seen.kind is not Kind.FILE or same_content(seen, known) is not Same.YES:
            return seen
        step = self.mtimes
        same_time = not step or seen.mtime // step == known.mtime // step
        mode = seen.mode if self.modes and seen.mode else known.mode
        return replace(seen, mode=mode, mtime=known.mtime if same_time else seen.mtime)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One thing in a listing, as `stat` sees it: no content was read.

    `version` has no digest of a file yet (unless the service tells one for free). `trouble` is set for what cannot be
    synchronised (a socket, an unreadable directory…): it is reported, and blocks the deletion of its directory.
    """

    path: bytes
    version: Version
    token: bytes
    trouble: Trouble = Trouble.NONE
    reason: str = ""

    @property
    def kind(self) -> Kind:
        return self.version.kind


class Listing(msgspec.Struct, frozen=True, gc=False):
    """What stands directly in one directory. `complete` is False where it could not be read to its end: then nothing
    may be concluded from what is absent in it. `missing`: the directory itself is not there."""

    directory: bytes
    entries: tuple[Entry, ...]
    complete: bool = True
    missing: bool = False
    reason: str = ""


class HintKind(enum.Enum):
    CHANGED = "changed"
    """Something happened at `path`: look at it (and below it, where it is a directory that is `deep`)."""
    MOVED = "moved"
    """What stood at `source` was renamed to `path`, a file or a whole directory."""
    OVERFLOW = "overflow"
    """Changes were missed: scan everything."""
    POLL = "poll"
    """It is time to scan everything: nothing was pushed, and nothing is known to be missed."""
    LOST = "lost"
    """The root went away."""


class Hint(msgspec.Struct, frozen=True, gc=False):
    """A watcher's word: never the truth, only where to look for it.

    Attributes:
        kind: see `HintKind`.
        path: where.
        source: for MOVED.
        deep: whether everything below is to be looked at too (a new directory, say).
        directory: whether the thing is known to be a directory.
        writing: a file that somebody has written to and still holds open; its closing will be told.
    """

    kind: HintKind
    path: bytes = b""
    source: bytes = b""
    deep: bool = False
    directory: bool = False
    writing: bool = False


@attrs.frozen
class Identity:
    """Which replica this is, from its marker. `marker` is empty where there is no marker yet (a new replica).

    `generation`: the generation that the marker confirms; `pending`: one that was begun, and may be in the store.
    """

    marker: str = ""
    generation: int = 0
    pending: int = 0


class Refused(Exception):
    """An operation that was not carried out, with the class of its reason and a sentence for people."""

    def __init__(self, trouble: Trouble, reason: str) -> None:
        super().__init__(reason)
        self.trouble = trouble
        self.reason = reason


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
        raise ConfigurationError([f"{hide(url)}: this driver has no URLs; use a configuration, and `onitu start`"])

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
    """Set by the plug: to be called when what `unsettled` says changed without an order."""

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
                    if hiding and filters.hides(hiding, entry.path, entry.version) is not None:
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
        `BESIDE`, before the answer). No error is raised for an order; `Unavailable` where the replica's root is gone.
        """
