"""The charter: everything that a child process is told at its start, through its standard input.

The supervisor writes one length-prefixed MessagePack frame and then keeps the pipe open: it is the child's *lifeline*.
When it reads EOF the supervisor is dead, also after SIGKILL, and the child ends. Nothing secret ever stands in argv or
in the environment of a child. The functions that write, read and hold it are in `onitu.wire.lifeline`.
"""

from __future__ import annotations

import msgspec

from onitu.model.settings import Settings

SPILL_SUFFIX = ".spill"
"""What the name of a file in the runtime directory ends with that holds log records which could not be sent."""


class Endpoints(msgspec.Struct, frozen=True):
    """ZeroMQ endpoints (`ipc://…`, or `tcp://…` with CURVE keys)."""

    events: str
    """ROUTER of the Referee: events, orders."""
    news: str
    """PUB of the Referee."""
    control: str
    """ROUTER of the supervisor, for the command line (which uses REQ)."""
    referee: str
    """ROUTER of the Referee, for questions that the supervisor passes on."""
    logs: str
    """ROUTER of the supervisor: log records, each acknowledged."""
    runtime: str
    """The 0700 directory where a driver puts its own sockets."""


class Charter(msgspec.Struct, frozen=True):
    """What a child is told.

    Attributes:
        process: its name in logs: `referee`, `driver laptop`.
        settings: the whole configuration (a driver uses its own service and the roots of its peers on this host).
        endpoints: where everybody is.
        service: the service that a driver runs; empty for the Referee.
        store: the URL of the store, for the Referee only; empty for drivers.
        log_level: Logbook's name of the lowest level that is sent.
        beat: seconds between two signs of life, single bytes on standard output; 0: none, it is used as usual.
    """

    process: str
    settings: Settings
    endpoints: Endpoints
    service: str = ""
    store: str = ""
    log_level: str = "INFO"
    beat: float = 0.0
