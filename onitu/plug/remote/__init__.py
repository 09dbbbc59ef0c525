"""What makes a driver of a remote service small: implement `Remote`, derive from `RemoteDriver`."""

from .calls import in_lone_thread, in_thread
from .content import PIECE, Content
from .driver import RemoteDriver, RemoteOptions
from .interface import NOTHING_THERE, Busy, Changed, Lost, Missing, Remote, Thing, text

__all__ = [
    "NOTHING_THERE",
    "PIECE",
    "Busy",
    "Changed",
    "Content",
    "Lost",
    "Missing",
    "Remote",
    "RemoteDriver",
    "RemoteOptions",
    "Thing",
    "in_lone_thread",
    "in_thread",
    "text",
]
