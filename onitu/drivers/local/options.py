"""What may be said of a service whose replicas are directories of this host."""

from __future__ import annotations

import attrs

from onitu.plug.options import Options, option


@attrs.frozen(kw_only=True)
class LocalOptions(Options):
    """What may be said of a service whose replicas are directories of this host."""

    create: bool = option(False, help="make the replica's root where it is missing")
    kernel_copy: bool = option(True, help="let the kernel copy between replicas on this host (false: over sockets)")
    durability: str = option(
        "full",
        choices=("full", "normal"),
        help="full: nothing is told before it is on the disk, so that no power cut harms",
    )
    poll: float = option(30.0, help="seconds between two scans where the system cannot watch every directory")
