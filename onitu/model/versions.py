"""Versions: one content of one path, and the question whether two contents are the same."""

from __future__ import annotations

import enum

import msgspec

BLAKE3 = "blake3"
"""The digest of everything that Onitu reads itself."""


class Kind(enum.IntEnum):
    """What can stand at a path. `NOTHING` is the kind of a tombstone."""

    NOTHING = 0
    FILE = 1
    DIRECTORY = 2
    LINK = 3


class Same(enum.Enum):
    """Whether two versions have one content. `UNKNOWN`: they share no digest, so somebody has to read."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Version(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One content of one path.

    A driver fills in what it sees; `service` and `seq` are the Referee's, given when the version becomes a head.

    Attributes:
        kind: what stands there; `NOTHING` makes this a tombstone.
        size: bytes of a file; 0 for all else.
        digests: a file's digests by name (`blake3`, `md5`, …), raw bytes.
        mtime: a file's or link's modification time, nanoseconds since 1970, may be negative; 0 for all else.
        mode: the permission bits, `0o7777` at most, of a file or directory; 0 for a link and where unknown.
        link: a symbolic link's target, as it is.
        service: the service on which a user made it.
        seq: the number under which the Referee decided it; grows within a folder; 0 before that.
    """

    kind: Kind
    size: int = 0
    digests: dict[str, bytes] = {}
    mtime: int = 0
    mode: int = 0
    link: bytes = b""
    service: str = ""
    seq: int = 0

    @property
    def exists(self) -> bool:
        """Whether this is anything but a tombstone."""
        return self.kind is not Kind.NOTHING

    @property
    def carries_value(self) -> bool:
        """Whether a user would miss it: a file or a link; a directory has no content of its own."""
        return self.kind is Kind.FILE or self.kind is Kind.LINK

    def given(self, service: str, seq: int) -> Version:
        """The same, as a version that was made on this service and decided under this number."""
        if self.service == service and self.seq == seq:
            return self
        return Version(self.kind, self.size, self.digests, self.mtime, self.mode, self.link, service, seq)

    def with_digests(self, digests: dict[str, bytes]) -> Version:
        """The same, with these digests."""
        return Version(self.kind, self.size, digests, self.mtime, self.mode, self.link, self.service, self.seq)

    def with_mode(self, mode: int) -> Version:
        """The same, with these permission bits."""
        return Version(self.kind, self.size, self.digests, self.mtime, mode, self.link, self.service, self.seq)

    def meta_differs(self, other: Version) -> bool:
        """Whether mode or modification time differ, for two versions of one content.

        A directory's mtime is never compared: it changes with every entry. A mode of 0 for both kinds that have
        none (links) compares equal.
        """
        if self.kind is Kind.DIRECTORY:
            return self.mode != other.mode
        if self.kind is Kind.LINK:
            return self.mtime != other.mtime
        return self.mode != other.mode or self.mtime != other.mtime


NOTHING = Version(Kind.NOTHING)
"""What a path is before anybody wrote it."""


def same_content(a: Version, b: Version) -> Same:
    """Whether two versions have the same content; mode and time do not count.

    Files are equal where a digest that both have is equal, different where one differs or the sizes do, and
    unknown otherwise (then the Referee orders a fingerprint instead of guessing).
    """
    if a is b and a.digests:
        return Same.YES
    if a.kind is not b.kind:
        return Same.NO
    if a.kind is Kind.LINK:
        return Same.YES if a.link == b.link else Same.NO
    if a.kind is not Kind.FILE:
        return Same.YES
    if a.size != b.size:
        return Same.NO
    if a.digests == b.digests:  # nearly always
        return Same.YES if a.digests else Same.UNKNOWN
    shared = a.digests.keys() & b.digests.keys()
    if not shared:
        return Same.UNKNOWN
    return Same.YES if all(a.digests[name] == b.digests[name] for name in shared) else Same.NO
