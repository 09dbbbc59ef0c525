"""One replica on a service: its calls, its marker, what was listed of it, and how its tokens are read.

A token is what the service tells. A *dirty* one names what was changed so lately that one more change could leave the
service's token as it is (`Capabilities.racy`): it never equals the token of a later look, and who is to replace what it
names compares the content first.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence

import attrs
import logbook
import msgspec
import trio
from blake3 import blake3
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Capabilities, Entry, Identity, Listing, Refused

from .calls import Calls
from .content import Content, Hasher
from .interface import Changed, Missing, Remote, Thing
from .spelling import Spelling

DIRECTORY = b"directory"
"""The token of every directory: any directory will do."""

DIRTY = b"?"
"""What a dirty token begins with; others begin with `=`."""

MARKER = paths.PRIVATE + b"/marker"
MARKER_IN_CAPITALS = paths.PRIVATE + b"/MARKER"
MARKER_NEW = paths.PRIVATE + b"/marker.new"
TMP = paths.PRIVATE + b"/tmp"
LIMBO = paths.PRIVATE + b"/limbo"

FRESH = 300.0
"""Seconds for which a listing of the whole tree stands in for those of its directories."""
PROVEN = 5.0
"""Seconds for which orders are carried out on a root whose marker was seen."""
MANY = 16
"""Paths of one directory from which on they are looked at by listing it."""
SKEW = 26 * 3600 * 1_000_000_000
"""Nanoseconds by which a service's clock may be off, time zones and all, as long as nothing is known of it."""
LOOKS = 5
"""Looks at a marker until one finds what is read then."""
CHUNK = 4 << 20
"""Bytes that are read at a time where a whole file is read for its digest."""

log = logbook.Logger("remote")


class Replica(msgspec.Struct, eq=False):
    """See the module. `shown`: its root as a person wrote it."""

    calls: Calls
    shown: str
    capabilities: Capabilities = msgspec.field(default_factory=Capabilities)
    identity: Identity = msgspec.field(default_factory=Identity)
    sights: bytes = b""
    """A digest of the last whole listing, which tells whether a poll found anything new."""
    ahead: int | None = None
    """Nanoseconds by which the service's clock is ahead of ours; None: not known."""
    looked: float = float("-inf")
    """When something was listed last."""
    took: float = 0.0
    """Seconds that the last scan took, up to the last listing."""
    scanned: trio.Event = msgspec.field(default_factory=trio.Event)
    """Set, and replaced, when something was listed."""
    _spelling: Spelling | None = None
    _proven: float = float("-inf")
    _token: bytes = b""
    """Of the marker, as it was read last; empty: not known."""
    _marking: trio.Lock = msgspec.field(default_factory=trio.Lock)
    """Held while the marker is written or looked at: half of what is written is no other marker."""
    _looks: int = 0
    _sound: int = 0
    """Looks at the marker that began so far, and the last one that found it."""
    _tree: dict[bytes, dict[bytes, Thing]] = msgspec.field(default_factory=dict)
    _listed: float = float("-inf")
    _began: float = float("-inf")
    _seeing: Hasher = msgspec.field(default_factory=blake3)
    _before: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def remote(self) -> Remote:
        return self.calls.remote

    # --- the marker ---------------------------------------------------------------------------------------------

    async def read_marker(self) -> Identity:
        """The marker as it stands; empty: there is none. Raises `Unavailable` where it cannot be understood."""
        for path in (MARKER, MARKER_NEW):  # the second where a life ended while it put the first in place
            data = await self._read_small(path)
            if data is not None:
                try:
                    fields = json.loads(data)
                    return Identity(str(fields["marker"]), int(fields["generation"]), int(fields["pending"]))
                except (ValueError, KeyError, TypeError):
                    raise Unavailable(
                        f"the marker {self.shown}/.onitu/marker is damaged; if this replica is the one that it was,"
                        " delete the marker: the next run then compares everything"
                    ) from None
        return Identity()

    async def _read_small(self, path: bytes) -> bytes | None:
        try:
            for _ in range(LOOKS):
                thing = await self.calls.call("read", path, lambda: self.remote.stat(path))
                if thing is None:
                    return None
                with contextlib.suppress(Changed):  # by another hand, just now
                    data = await self._read_whole(path, thing)
                    self._token = thing.token if path == MARKER else b""
                    return data
        except Missing:
            return None
        except Refused as error:
            raise Unavailable(f"the marker of {self.shown} cannot be read: {error.reason}") from error
        raise Unavailable(f"the marker of {self.shown} cannot be read: it is another one at each look")

    async def _read_whole(self, path: bytes, thing: Thing) -> bytes:
        if not thing.size:
            return b""
        size = min(thing.size, 65536)
        return await self.calls.call("read", path, lambda: self.remote.read(path, thing.token, 0, size))

    async def write_marker(self, identity: Identity) -> None:
        """Atomically, as far as the service can; nobody looks at it meanwhile. Raises `Unavailable`."""
        async with self._marking:
            await self._write_marker(identity)

    async def _write_marker(self, identity: Identity) -> None:
        text = json.dumps({"marker": identity.marker, "generation": identity.generation, "pending": identity.pending})
        content = Content.of(text.encode() + b"\n")
        self._token = b""
        at_once = self.capabilities.compare_and_swap or not self.capabilities.moves
        new = b""

        async def write() -> Thing:
            nonlocal new  # each try has another: one that is carried out late would spoil what the next has written
            new = MARKER if at_once else MARKER_NEW + (b"-" + secrets.token_hex(4).encode() if new else b"")
            return await self.remote.put(new, content, None)

        try:
            if not self.identity.marker:
                await self.make_private(paths.PRIVATE)
            put = await self.calls.call("write", MARKER, write)
            if put.mtime:  # the service has stamped it just now
                self.ahead = put.mtime - time.time_ns()
            if not at_once:
                with contextlib.suppress(Missing):
                    await self.calls.call("write", MARKER, lambda: self.remote.delete(MARKER, None))
                await self.calls.call("write", MARKER, lambda: self.remote.rename(new, MARKER, None))
        except (Refused, Missing, Changed) as error:
            cause = error.reason if isinstance(error, Refused) else "something else writes there"
            raise Unavailable(f"the marker of {self.shown} cannot be written: {cause}") from error
        self.identity = identity
        self._proven = trio.current_time()

    async def make_private(self, directory: bytes) -> None:
        """Make a directory of Onitu's own, where it is not there. Raises `Refused`, `Unavailable`."""
        with contextlib.suppress(Changed):
            await self.calls.call("make", directory, lambda: self.remote.make_directory(directory))

    async def prove(self, within: float = 0.0) -> None:
        """Raise `Unavailable` unless the marker is the one that was read, or was so `within` seconds ago."""
        if trio.current_time() - self._proven < within:
            return
        looks = self._looks
        async with self._marking:
            if self._sound > looks:
                return  # another look, which began after this call, found it
            self._looks += 1
            if await self.read_marker() != self.identity:
                raise Unavailable(f"the replica {self.shown} lost its marker, or has got another one")
            self._sound = self._looks
            self._proven = trio.current_time()

    async def prove_after(self) -> None:
        """As `prove`, after something was done, which counts only where the root is still the one that it was before:
        what is done may have made it anew, where a disk or a directory of the server's went (S1). A look at the marker
        will do where it has not changed."""
        try:
            thing = await self.calls.call("look at", MARKER, lambda: self.remote.stat(MARKER))
        except (Missing, Refused):
            thing = None
        if thing is None or not self._token or thing.token != self._token:
            await self.prove()

    # --- looking ------------------------------------------------------------------------------------------------

    async def stat(self, path: bytes) -> Thing | None:
        """What stands there, spelled so. Raises `Refused`, `Unavailable`."""
        if self.folds and not paths.within(path, paths.PRIVATE) and not await self.spelling.stands(path):
            return None
        return await self.answer(path)

    @property
    def folds(self) -> bool:
        """Whether the service takes two cases of a name for one."""
        return not self.capabilities.case_sensitive

    @property
    def spelling(self) -> Spelling:
        """How names are spelled on a service that folds them."""
        if self._spelling is None:
            self._spelling = Spelling(self._names)
        return self._spelling

    def named(self, path: bytes) -> None:
        """We have just made something stand there."""
        if self.folds:
            self.spelling.put(path)

    async def _names(self, directory: bytes) -> Iterable[bytes]:
        try:
            return await self.calls.call("list", directory, lambda: self.remote.list(directory))
        except Missing:
            return ()
        except Refused:
            thing = await self.answer(directory)
            if thing is None or thing.kind is not Kind.DIRECTORY:
                return ()  # a file has nothing in it
            raise

    async def learn_case(self) -> None:
        """Find out, by the marker, whether the service takes two cases of a name for one. Raises `Unavailable`."""
        if not (self.remote.exact_names or self.folds):
            with contextlib.suppress(Refused):
                folds = await self.answer(MARKER_IN_CAPITALS) is not None
                self.capabilities = attrs.evolve(self.capabilities, case_sensitive=not folds)

    async def answer(self, path: bytes) -> Thing | None:
        """What the service says that stands there. Raises `Refused`, `Unavailable`."""
        try:
            return await self.calls.call("look at", path, lambda: self.remote.stat(path))
        except Missing:
            return None

    def begin_scan(self) -> None:
        """Everything is to be listed from here on."""
        self._tree, self._listed = {}, float("-inf")
        self._began, self._seeing = trio.current_time(), blake3()
        self._before = dict(self.calls.counters)

    def note(self, listings: Sequence[Listing]) -> None:
        """These were listed."""
        for listing in listings:
            for entry in listing.entries:
                self._seeing.update(b"%b\0%b\0" % (entry.path, entry.token))
        self.sights = self._seeing.digest()
        self.looked = trio.current_time()
        self.took = self.looked - self._began
        for counted, told in (("requests", "poll_requests"), ("received_bytes", "poll_bytes")):
            if counted in self.calls.counters:
                self.calls.counters[told] = self.calls.counters[counted] - self._before.get(counted, 0)
        self.scanned.set()
        self.scanned = trio.Event()

    async def rested(self, seconds: float) -> None:
        """Wait until nothing was listed for so long."""
        while trio.current_time() < self.looked + seconds:  # noqa: ASYNC110  # it moves on while we sleep
            await trio.sleep_until(self.looked + seconds)

    @property
    def listed_at_once(self) -> bool:
        """Whether a listing of the whole tree stands in for those of its directories."""
        return bool(self._tree)

    async def list(self, directory: bytes) -> Listing:
        """One directory, from the service, or from the listing of everything that was made for the same scan."""
        if directory in self._tree and trio.current_time() - self._listed < FRESH:
            return self._listing(directory, self._tree.pop(directory))
        return await self.list_now(directory)

    async def list_now(self, directory: bytes) -> Listing:
        """One directory, from the service."""
        try:
            found = await self.calls.call("list", directory, lambda: self.remote.list(directory))
        except Missing:
            return Listing(directory, (), missing=True)
        except Refused as error:
            return Listing(directory, (), complete=False, reason=error.reason)
        return self._listing(directory, found)

    def _listing(self, directory: bytes, things: Mapping[bytes, Thing]) -> Listing:
        found = ((paths.join(directory, name), thing) for name, thing in sorted(things.items()) if b"/" not in name)
        return Listing(directory, tuple(entry_of(path, thing) for path, thing in found if self._usable(path)))

    def _usable(self, path: bytes) -> bool:
        """Whether a listed path is one that a folder may hold; Onitu's own are not."""
        if paths.is_private(path):
            return False
        try:
            paths.checked(path)
        except paths.BadPath as error:
            log.warning("{}: {}: it is left out", self.shown, error)
            return False
        return True

    async def list_tree(self) -> None:
        """List everything at once, where the service can, for the scan that begins. Raises `Unavailable`."""
        if self.remote.list_tree() is None:
            return

        async def gather() -> dict[bytes, dict[bytes, Thing]]:
            tree: dict[bytes, dict[bytes, Thing]] = {paths.ROOT: {}}
            listing = self.remote.list_tree()
            if listing is None:  # the try before found out that it cannot
                return {}
            async for path, thing in listing:
                if not self._usable(path):
                    continue
                if thing.kind is Kind.DIRECTORY:
                    tree.setdefault(path, {})
                tree.setdefault(paths.parent(path), {})[paths.name(path)] = thing
            for path in list(tree):
                for inner in [path, *paths.ancestors(path)] if path else ():
                    siblings = tree.setdefault(paths.parent(inner), {})
                    siblings.setdefault(paths.name(inner), Thing(Kind.DIRECTORY))
            return tree

        try:
            self._tree = await self.calls.call("list", paths.ROOT, gather, quiet=float("inf"))
        except (Refused, Missing) as error:
            raise Unavailable(f"{self.shown} cannot be listed: {error}") from error
        self._listed = trio.current_time()

    # --- contents -----------------------------------------------------------------------------------------------

    async def digest(self, path: bytes, thing: Thing) -> bytes | None:
        """The BLAKE3 of a file, read whole; None where it is not what it was any more."""
        hasher = blake3()
        offset = 0
        while offset < thing.size:
            data = await self._read(path, thing, offset)
            if not data:
                return None
            hasher.update(await self.calls.came(data))
            offset += len(data)
        return hasher.digest()

    async def _read(self, path: bytes, thing: Thing, offset: int) -> bytes:
        length = min(CHUNK, thing.size - offset)
        try:
            return await self.calls.call("read", path, lambda: self.remote.read(path, thing.token, offset, length))
        except (Missing, Changed):
            return b""

    async def settled(self, path: bytes, thing: Thing) -> Entry | None:
        """The file with its BLAKE3, and a token that is dirty where it has to be; None where it changed meanwhile."""
        young = self.young(thing.mtime)
        value = await self.digest(path, thing)
        if value is None:
            return None
        after = thing if self.capabilities.compare_and_swap else await self.stat(path)
        if after is None or after.token != thing.token or after.kind is not thing.kind:
            return None
        entry = entry_of(path, after)
        version = replace(entry.version, digests={**entry.version.digests, BLAKE3: value})
        return Entry(path, version, dirty_token_of(after) if young else entry.token)

    def young(self, mtime: int) -> bool:
        """Whether one more change could leave the service's token of a file as it is: it has a time stamp that the
        service's clock may still give."""
        if not self.capabilities.racy or not mtime:
            return False
        if self.ahead is None:
            return abs(time.time_ns() - mtime) < SKEW
        return abs(time.time_ns() + self.ahead - mtime) < self.capabilities.racy + 1_000_000_000


def token_of(thing: Thing) -> bytes:
    """The token of what was seen."""
    return DIRECTORY if thing.kind is Kind.DIRECTORY else b"=" + thing.token


def dirty_token_of(thing: Thing) -> bytes:
    """A token that no later look will equal."""
    return DIRTY + thing.token


def is_dirty(token: bytes) -> bool:
    return token.startswith(DIRTY)


def matches(token: bytes, thing: Thing) -> bool:
    """Whether the token names this (a dirty one: as far as it can tell)."""
    if thing.kind is Kind.DIRECTORY:
        return token == DIRECTORY
    return token[:1] in (b"=", DIRTY) and token[1:] == thing.token


def entry_of(path: bytes, thing: Thing) -> Entry:
    """What was seen, as the plug has it."""
    match thing.kind:
        case Kind.FILE:
            version = Version(Kind.FILE, thing.size, dict(thing.digests), thing.mtime, thing.mode)
        case Kind.LINK:
            version = Version(Kind.LINK, mtime=thing.mtime, link=thing.link)
        case Kind.DIRECTORY:
            version = Version(Kind.DIRECTORY, mode=thing.mode)
        case _:
            return Entry(path, Version(Kind.NOTHING), b"", thing.trouble or Trouble.UNSUPPORTED, thing.reason)
    return Entry(path, version, token_of(thing), thing.trouble, thing.reason)
