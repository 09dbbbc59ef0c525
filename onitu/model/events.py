"""Events: what a driver tells the Referee, observations and the outcomes of orders alike.

The outcome of an order is an observation too ("this version now stands there"), so both are one class and go through
one ordered channel: what the Referee hears about a path is in the order in which it happened on the service. That is
what makes the Referee's own record of a service the true base of each change.
"""

from __future__ import annotations

import enum

import msgspec

from .versions import NOTHING, Version


class Seen(enum.IntEnum):
    """What was seen at a path."""

    STANDS = 1
    """`version` stands there, with `token`: a user wrote it, or the driver finds it for the first time."""
    GONE = 2
    """Nothing stands there: positive evidence only (a stat said so, on a root that proved its identity)."""
    MOVED = 3
    """`version` stands there with `token`, and came from `source`, where nothing stands now."""
    DONE = 4
    """An order was carried out: `version` stands there as ordered (or nothing, after a delete), with `token`."""
    FAILED = 5
    """An order was not carried out; `trouble` and `reason` say why; nothing was changed."""
    HIDDEN = 6
    """The path is outside the rules of this service now (`reason`): forgotten here, neither there nor absent."""


class Trouble(enum.IntEnum):
    """Why an order was not carried out, or a path is not managed. What the Referee does about it depends on it."""

    NONE = 0
    SOURCE_LOST = 1
    """No source had the version any more: plan again, from another source or after its event."""
    NOT_EMPTY = 2
    """A directory that should go still holds something that its deleter never saw."""
    NO_SPACE = 3
    DENIED = 4
    NAME_CLASH = 5
    """The service has another entry of that name in another case or Unicode form."""
    NAME_IMPOSSIBLE = 6
    """Too long, reserved, or with a character that the service cannot store."""
    IO = 7
    CORRUPT = 8
    """What arrived does not have the version's digest."""
    UNSUPPORTED = 9
    """The service cannot hold this kind of thing (links, say), or it is a socket, a device, a FIFO."""
    UNAVAILABLE = 10
    """The replica's root is not there, or is not the one that it was."""
    STOPPED = 11
    """The driver was asked to stop or to pause first."""


AGAIN = -1
"""The `order` of a DONE that an earlier life of the driver may have told already: it was found written down."""

BESIDE = -2
"""The `order` of a STANDS of a directory that the driver made because an order needed it above its path: nobody's
doing, so where it was deleted meanwhile it is no new one (S4)."""


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One observation of one path.

    Attributes:
        seen: what was seen.
        path: where, as the service spells it.
        version: what stands there (STANDS, MOVED), what was ordered (DONE); else a tombstone.
        token: the driver's proof of what stands there, for a later compare-and-swap; empty for nothing.
        source: MOVED and DONE of a move: the path that it came from, as the service spells it.
        order: the number of the order that this answers, 0 for none (or `AGAIN`, `BESIDE`). Of an order's events
            exactly one carries it, and that comes last: where a displaced value went is told before what took its
            place (S1). It frees the order's credit. A refused order is answered by STANDS or GONE: what was found.
        trouble: FAILED and HIDDEN: the class of the reason.
        reason: FAILED and HIDDEN: a sentence for people.
    """

    seen: Seen
    path: bytes
    version: Version = NOTHING
    token: bytes = b""
    source: bytes = b""
    order: int = 0
    trouble: Trouble = Trouble.NONE
    reason: str = ""
