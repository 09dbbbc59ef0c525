"""The two commonest events, decided in a few steps: a file where nothing was known, and an order that was carried out.

A first copy of ten thousand files is twenty thousand of these. What comes of them is what `onitu.referee.machine` comes
to; who asks here first has it decide everything that is not as plain as that (`tests/property/test_machine.py` has both
decide the same events). Pure, as all of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from onitu.model.events import Event, Seen
from onitu.model.nodes import Holding, Node
from onitu.model.versions import Kind, Version

from .rules import Rules

_STANDS, _DONE = Seen.STANDS, Seen.DONE
_FILE, _LINK, _DIRECTORY = Kind.FILE, Kind.LINK, Kind.DIRECTORY
_UNKNOWN = Node(b"")


def created(
    nodes: Mapping[bytes, Node], rules: Rules, service: str, event: Event, path: bytes, seq: int
) -> Node | None:
    """The node after a service was seen to have a file or a link where nothing is known; `seq` becomes the head's.

    None: it is not as plain as that, or what it takes to tell is not among these nodes.

    Args:
        nodes: those at hand, by path; empty ones where nothing is known.
        path: the event's, as the Referee knows it.
    """
    version, node = event.version, nodes.get(path)
    if event.seen is not _STANDS or event.order or node is None or node.head.kind or node.held:
        return None
    if node.origin or node.heirs or not _is_known(version):
        return None
    above = path.rpartition(b"/")[0]
    if above and nodes.get(above, _UNKNOWN).head.kind is not _DIRECTORY:
        return None  # what lives needs its directory
    if rules.hides(service, path, version) is not None or not rules.readable(service):
        return None
    head = version.given(service, seq)
    return Node(path, head, {service: Holding(head, event.token, event.path if event.path != path else b"")})


def written(nodes: Mapping[bytes, Node], service: str, event: Event, path: bytes) -> Node | None:
    """The node after a service has brought the head, a file or a link, where it held nothing, as it was ordered.

    None: it is not as plain as that, or the node is not at hand.
    """
    node = nodes.get(path)
    if event.seen is not _DONE or event.order <= 0 or event.source or node is None:
        return None
    head = node.head
    # Its number tells that this state ordered it: nothing else has a head of the number.
    if event.version != head or not _is_known(head) or service in node.held or node.heirs:
        return None
    for held in node.held.values():
        if held.version is not head:
            return None  # something else waits for a decision, perhaps
    name = event.path if event.path != path else b""
    return node.holding({**node.held, service: Holding(head, event.token, name)})


def _is_known(version: Version) -> bool:
    """Whether it is a file of which a digest is known, or a link: it is the same as itself, and nobody has to read."""
    return bool(version.digests) if version.kind is _FILE else version.kind is _LINK
