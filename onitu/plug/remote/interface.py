"""`Remote`: the few things that a service has to be able to do, below the root of one replica.

A driver for a service in the network implements this class (and a `RemoteDriver` that makes it); all that the plug
asks of a driver is built on it. Paths are relative bytes, already checked: none leaves the root, `b""` is the root
itself. What lies below `.onitu` is Onitu's own (`marker`, `tmp`, `limbo`): a service treats it as any other path.

Errors that may be raised by every call:

- `Missing`: nothing stands there, or its directory does not.
- `Changed`: what stands there is not what was expected; nothing was changed.
- `Busy`: it may work in a moment (429, 503, a cut connection, a time-out): it is tried again, a few times.
- `Lost`: as `Busy`, but the whole service is not reached; at last the replica is `Unavailable`.
- `onitu.plug.driver.Refused`: this path cannot be done, and why: it is told to people, and tried again later.
- `onitu.model.errors.Unavailable`: the whole replica cannot be used (wrong password, host key changed, no such bucket).

Any other exception goes through `Remote.translate` first, so that a library's own errors need be known in one place.
Cancellation may hit every `await`: what stands under a path outside `.onitu` is then old or new, whole.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import ClassVar

import msgspec
import trio

from onitu.model import paths
from onitu.model.events import Trouble
from onitu.model.versions import Kind, Version
from onitu.plug.driver import Capabilities, Refused

from .content import Content

NOTHING_THERE = b""
"""The `expect` of a call that must find nothing at its path. `None` expects nothing in particular."""


_LATEST = 2**63 - 1
"""Nanoseconds since 1970 that a version can hold: of the year 2262."""


class Missing(Exception):
    """Nothing stands there, or the directory above it does not."""


class Changed(Exception):
    """What stands there is not what the call expected; nothing was changed."""


class Busy(Exception):
    """The call failed and may work in a moment. `after`: seconds that the service asks to wait (`Retry-After`)."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Lost(Busy):
    """The service is not reached at all."""


class Thing(msgspec.Struct, frozen=True):
    """What a service tells of one path, without reading content.

    Attributes:
        kind: file, directory or link.
        token: proof of what stands there: ETag, version id, size and mtime…; never empty for a file or a link. Where a
            change within `Capabilities.racy` may leave it the same, that is what `racy` is for. A directory's is not
            looked at.
        size: bytes of a file.
        mtime: nanoseconds since 1970; 0: unknown. What 64 bits cannot hold (1601, 3000) becomes what is next to it.
        mode: permission bits; 0: unknown.
        link: a link's target.
        digests: what the service knows of the content without a read, by name (`md5`, `sha256`, `blake3`…), raw bytes.
        trouble: set for what cannot be synchronised (a socket, a name…), with `reason`, a sentence.
    """

    kind: Kind
    token: bytes = b""
    size: int = 0
    mtime: int = 0
    mode: int = 0
    link: bytes = b""
    digests: dict[str, bytes] = msgspec.field(default_factory=dict)
    trouble: Trouble = Trouble.NONE
    reason: str = ""

    def __post_init__(self) -> None:
        if not -_LATEST <= self.mtime <= _LATEST:
            msgspec.structs.force_setattr(self, "mtime", max(-_LATEST, min(self.mtime, _LATEST)))


def unsized() -> Thing:
    """What is to be told of a file whose size the service does not tell: what it was taken for once would be believed
    for as long as its token is the same."""
    return Thing(Kind.NOTHING, trouble=Trouble.IO, reason="the server does not tell its size")


class Posting(abc.ABC):
    """One small file on its way (`Remote.posting`).

    Attributes:
        requests, received: how many requests were sent, and the bytes of their answers, for the counters.
    """

    requests = 0
    received = 0

    @abc.abstractmethod
    def put(self, data: bytes) -> Thing:
        """`Remote.put`, blocking, in any thread. Whatever it raises, the order is carried out once more."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """From another thread: `put`, which may not have begun yet, is to end soon."""


DENYING = frozenset({Trouble.DENIED, Trouble.NO_SPACE})
"""Why a service may refuse what `probe` tries, and tell nothing of what it can do (`Remote.denied`)."""


class Remote(abc.ABC):
    """See the module. Calls may come from several tasks at a time, `concurrency` of them at most."""

    concurrency: ClassVar[int] = 8
    """Calls that are under way at the same time, so the size of a connection pool."""

    rich_stat: ClassVar[bool] = False
    """Whether `stat` tells more than a listing (S3: its user metadata), so that it is asked for every path. Otherwise
    many paths of one directory are looked at by listing it. Both tell the same tokens."""

    quiet: ClassVar[float] = 60.0
    """Seconds after which a call that moves little (all but `put`, `prepare`, `copy`, `list_tree`) counts as stalled
    and is cancelled. The others bound the time without progress themselves."""

    counts_requests: ClassVar[bool] = False
    """Whether its client counts requests itself (`RemoteDriver.count`). Otherwise each call counts as one."""

    posts: ClassVar[bool] = False
    """Whether small files can be put by threads (`posting`), as its library blocks and a put is one request. Only used
    where the service compares and swaps."""

    longest_name: ClassVar[int] = 255
    """Bytes of a name that the service takes, whatever is above it. Onitu's own names have no more."""

    unfinished: ClassVar[bytes] = b""
    """What the names of uploads that were cut end in, where no later one goes on with them: they go with the next
    start. Empty: each may be gone on with, and goes after a week."""

    cut_unseen: ClassVar[bool] = False
    """Whether a listing that was cut may look like a whole one: what is missing in it is looked at by itself then."""

    exact_names: ClassVar[bool] = False
    """Whether two cases of a name are two names on every such service, so that it need not be tried."""

    denied: Refused | None = None
    """Why nothing may be written now (no right, no space), as `probe` was told when it tried what the service can do,
    and found out nothing. Orders are refused with it, and before the next ones `probe` is called again: a change is
    never made without the conditions that the service may well understand. Known after `probe`."""

    timed = False
    """Whether a token is made of size and time alone, though each change has another time: a file that was renamed may
    have the token of the one that stood there. Known after `probe`."""

    @abc.abstractmethod
    async def probe(self) -> Capabilities:
        """Connect, check that the root is there and is a directory (a bucket, a collection), and find out what the
        server can do. Called by `identify`, so again after each loss. It leaves nothing behind: what can only be found
        out by trying is tried below `.onitu`, with things that are gone when it returns. In a dry run
        (`Driver.look_only`) it writes nothing at all. Raises `Unavailable` with a sentence that names the root:
        "there is no directory /srv/docs on nas"."""

    def memory(self) -> bytes:
        """What `probe` found out by trying, for `recall` in a later life; empty: nothing that is worth it."""
        return b""

    def recall(self, memory: bytes) -> bool:
        """Believe what `memory` gave in an earlier life: the next `probe` tries nothing, and those after it do again.
        False: it cannot be understood."""
        return False

    def check_name(self, path: bytes) -> None:  # noqa: B027  # most take every name
        """Raise `Refused(NAME_IMPOSSIBLE)` where the service would make another name of this one: asked before anything
        else is done to bring something there. What comes back from `.onitu` to where it was is not to be refused so."""

    @abc.abstractmethod
    async def list(self, directory: bytes) -> Mapping[bytes, Thing]:
        """What stands directly in a directory, by name, complete. Raises `Missing`; `Refused` where it cannot be
        listed whole (then nothing is concluded from it)."""

    def list_tree(self) -> AsyncIterator[tuple[bytes, Thing]] | None:
        """Everything below the root in one go, by path, in any order, where that is cheaper than to list each
        directory; None: it is not. Directories above what is listed need not be listed themselves. A cut listing
        raises; the caller then begins anew."""
        return None

    @abc.abstractmethod
    async def stat(self, path: bytes) -> Thing | None:
        """What stands there; None: positively nothing (also where its directory is missing)."""

    @abc.abstractmethod
    async def read(self, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        """Bytes of what `token` names; shorter only at its end. Raises `Changed` where something else stands there, as
        far as the service can tell; `Missing`. `offset` is smaller than the file's size."""

    async def prepare(self, path: bytes, content: Content) -> object:
        """Bring a large content to the service, ahead of the `put` at this path and invisibly (the parts of a multipart
        upload, say), several at a time. A later try goes on where this one stopped, as far as the service lets it.
        What is returned comes with the `put`, which may never come. None: `put` brings it.

        A service that can rename and has no compare-and-swap need not implement it: there the content is `put` in
        `.onitu/tmp` by this time, and renamed."""
        return None

    @abc.abstractmethod
    async def put(self, path: bytes, content: Content, expect: bytes | None, prepared: object = None) -> Thing:
        """Make a file stand there, and tell what stands there then.

        It gets the mtime and the mode of `content.version` as far as the service keeps them (0: whatever the service
        gives). `expect`: the token of what it replaces, `NOTHING_THERE`, or None: whatever stands there. Raises
        `Changed` where the service can compare and swap (or create only), and something else stands there, a directory
        too; nobody may have looked before. A service that cannot ignores it: the caller has looked just before.
        `Missing` where the directory is.

        A service without compare-and-swap that can rename is only asked for paths below `.onitu/tmp`: there a later
        try may go on with what an earlier one left, as the path has the digest of the content in it."""

    def placed(self, path: bytes) -> bytes:
        """Where the last `put` to this path below `.onitu/tmp` has put it: asked once. Another path is for a service
        that may carry a request out long after its answer was given up, and could so spoil what a later try wrote."""
        return path

    def posting(self, path: bytes, version: Version, expect: bytes) -> Posting | None:
        """What does a `put` of a small file for a thread that puts many; None: something is to be asked before, `put`
        does it. Only called where `posts` says so."""
        return None

    @abc.abstractmethod
    async def delete(self, path: bytes, expect: bytes | None) -> None:
        """Take away a file or link. Raises `Changed` (as `put`), `Missing`."""

    @abc.abstractmethod
    async def make_directory(self, path: bytes) -> None:
        """Raises `Changed` where something stands there, `Missing` where its parent does not. Where directories exist
        only by what is in them, the mark that other tools of the service use is made."""

    def take_made(self) -> Sequence[bytes]:
        """The directories that were made since the last call of this though nobody asked for them, as something needed
        them: they are told as nobody's doing."""
        return ()

    @abc.abstractmethod
    async def remove_directory(self, path: bytes) -> None:
        """Raises `Refused(NOT_EMPTY)`, `Missing`. It must not take anything along: a service that would, lists it
        first and says so in its documentation."""

    async def rename(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        """Give a file, link or directory another path, without a transfer, where nothing stands: `Capabilities.moves`
        says whether it is there. What stands at the target then, if that is known for free. After `Busy` it
        may be asked for again, but never twice to the same name below `.onitu/limbo`. Raises `Changed` where
        something stands at the target, or (as far as the service can tell) what is renamed is not what `expect` names;
        `Missing`."""
        raise NotImplementedError

    async def copy(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        """As `rename`, but the file stays, and copied by the service itself. Where it is not implemented, the content
        makes its way over this host."""
        raise NotImplementedError

    async def make_link(self, path: bytes, link: bytes, expect: bytes | None) -> Thing:
        """Make a symbolic link stand there: `Capabilities.links` says whether it is there. As `put`."""
        raise NotImplementedError

    async def set_meta(self, path: bytes, version: Version, expect: bytes | None) -> Thing | None:
        """Give what stands there the mtime and mode of `version`, as far as the service keeps them, and tell what
        stands there then. None: it keeps neither. Raises `Changed`, `Missing`."""
        return None

    def translate(self, error: Exception) -> Exception:
        """The error of a library as one of those above; what is returned is raised. The default knows `TimeoutError`,
        `trio.TooSlowError`, `ConnectionError` and `EOFError` as `Busy`, and leaves the rest as it is: a bug, told as
        such."""
        if isinstance(error, TimeoutError | trio.TooSlowError | ConnectionError | EOFError):
            return Busy(str(error) or type(error).__name__)
        return error


def text(path: bytes) -> str:
    """The path for a service whose names are texts. Raises `Refused(NAME_IMPOSSIBLE)` where it is not UTF-8."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise Refused(
            Trouble.NAME_IMPOSSIBLE, f"{paths.show(path)} is not UTF-8, and this service has no other names"
        ) from None
