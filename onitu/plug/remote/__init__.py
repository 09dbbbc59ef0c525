"""What makes a driver of a remote service small: implement `Remote`, derive from `RemoteDriver`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.plug.later import later

if TYPE_CHECKING:
    from onitu.plug.options import RemoteOptions

    from .calls import in_lone_thread, in_thread
    from .content import PIECE, Content
    from .driver import RemoteDriver
    from .interface import DENYING, NOTHING_THERE, Busy, Changed, Lost, Missing, Posting, Remote, Thing, text, unsized
    from .reaching import unreached

__all__ = [
    "DENYING",
    "NOTHING_THERE",
    "PIECE",
    "Busy",
    "Changed",
    "Content",
    "Lost",
    "Missing",
    "Posting",
    "Remote",
    "RemoteDriver",
    "RemoteOptions",
    "Thing",
    "in_lone_thread",
    "in_thread",
    "text",
    "unreached",
    "unsized",
]

__getattr__ = later(
    __name__,
    dict.fromkeys(__all__, ".interface")
    | dict.fromkeys(("in_lone_thread", "in_thread"), ".calls")
    | dict.fromkeys(("PIECE", "Content"), ".content")
    | {"unreached": ".reaching", "RemoteDriver": ".driver", "RemoteOptions": "onitu.plug.options"},
)
