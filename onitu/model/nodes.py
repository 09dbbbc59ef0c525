"""Nodes: what the Referee knows of one path. Observations are kept here; orders are derived, never stored."""

from __future__ import annotations

import msgspec

from .versions import NOTHING, Version


class Holding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one service is known to hold at a path: the version that its next change replaces (the *base*).

    Attributes:
        version: what stands there.
        token: the driver's proof of it.
        name: the path as the service spells it, where that is not the node's; else empty.
        hidden: it is not managed now: the service's rules hide the path, or it is `unread`.
        gone: it was seen to be gone, but a guard holds the deletion back until someone approves it.
        unread: no rule hides it, but it cannot be read at the moment: what stands there may still be the version.
    """

    version: Version
    token: bytes
    name: bytes = b""
    hidden: bool = False
    gone: bool = False
    unread: bool = False

    @property
    def excluded(self) -> bool:
        """Whether a rule hides it: it is forgotten there, and its absence says nothing. What cannot be read for a
        moment, and is gone then, was deleted."""
        return self.hidden and not self.unread


class Node(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of one path in one folder.

    Attributes:
        path: its key (NFC).
        head: the version that every admitted service should hold; a tombstone if it was deleted.
        held: by service, what it is known to hold. A service that holds nothing here has no entry.
        origin: the path where the head's content stood before (a move, or the making of a conflict copy); services
            that still hold it there can rename it instead of fetching it. Empty: none.
        heirs: the nodes whose `origin` is this path.
        since: the number under which the head's content came to stand here, where the head's own is of a later change
            of its mode or time; else 0.
    """

    path: bytes
    head: Version = NOTHING
    held: dict[str, Holding] = {}
    origin: bytes = b""
    heirs: tuple[bytes, ...] = ()
    since: int = 0

    def holding(self, held: dict[str, Holding]) -> Node:
        """The same, with this being held."""
        return Node(self.path, self.head, held, self.origin, self.heirs, self.since)

    @property
    def since_when(self) -> int:
        """The number under which the head's content came to stand here."""
        return self.since or self.head.seq

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remember: deleted, and nobody holds anything."""
        return not self.head.exists and not self.held and not self.heirs
