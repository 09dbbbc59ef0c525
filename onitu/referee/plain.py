"""The two commonest events, decided in a few steps: a file where nothing was known, and an order that was carried out.

A first copy of ten thousand files is twenty thousand of these. What comes of them is what `onitu.referee.machine` comes
to; it asks here first, and decides everything itself that is not as plain as that (`tests/property/test_machine.py` has
both decide the same events). Pure, as all of it.
"""

from __future__ import annotations

from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.nodes import Holding, Node
from onitu.model.versions import Kind, Same, same_content

from .rules import Rules
from .view import View


def created(view: View, rules: Rules, service: str, event: Event, seq: int) -> Node | None:
    """The node after a service was seen to have a file or a link where nothing is known; `seq` becomes the head's.

    None: it is not as plain as that.

    Raises:
        Need: something is not at hand.
    """
    version = event.version
    if event.seen is not Seen.STANDS or not (version.digests or version.kind is Kind.LINK):
        return None
    path = paths.key(event.path)
    node = view[path]
    if node.head.exists or node.held or node.origin or node.heirs:
        return None
    if rules.hides(service, path, version) is not None or not rules.readable(service):
        return None
    above = paths.parent(path)
    if above and view[above].head.kind is not Kind.DIRECTORY:
        return None  # what lives needs its directory
    head = version.given(service, seq)
    return Node(path, head, {service: Holding(head, event.token, event.path if event.path != path else b"")})


def written(view: View, service: str, event: Event) -> Node | None:
    """The node after a service has brought the head where it held nothing, as it was ordered by this state.

    None: it is not as plain as that.

    Raises:
        Need: something is not at hand.
    """
    version = event.version
    if event.seen is not Seen.DONE or event.order <= 0 or event.source or not version.exists:
        return None
    path = paths.key(event.path)
    node = view[path]
    head = node.head
    if service in node.held or node.heirs or not head.exists:
        return None
    if same_content(version, head) is not Same.YES or version.meta_differs(head):
        return None
    for held in node.held.values():
        if held.version is not head:
            return None  # something else waits for a decision, perhaps
    version = version.given(head.service, head.seq)
    if version == head:
        version = head  # one object for all who hold it
    name = event.path if event.path != path else b""
    return node.holding({**node.held, service: Holding(version, event.token, name)})
