"""The commonest events, decided in a few steps: a file that is new, changed or renamed, and an order that was carried
out.

A first copy of ten thousand files is twenty thousand of these, and what a user changes while nothing runs is hardly
anything else. What comes of them is what `onitu.referee.machine` comes to; who asks here first has it decide everything
that is not as plain as that (`tests/property/test_machine.py` has both decide the same events). Pure, as all of it.

What is plain, whatever the event: the paths are at hand; all that anybody is known to hold there was decided about, and
is neither hidden, unread nor held back; and no other move of the same content is under way.
"""

from __future__ import annotations

from collections.abc import Mapping

from onitu.model import paths
from onitu.model.events import Event, Seen
from onitu.model.nodes import Holding, Node
from onitu.model.versions import NOTHING, Kind, Same, Version, same_content

from .machine import Case, Decision, Line
from .rules import Rules

_STANDS, _MOVED, _DONE = Seen.STANDS, Seen.MOVED, Seen.DONE
_FILE, _LINK, _DIRECTORY = Kind.FILE, Kind.LINK, Kind.DIRECTORY
_UNKNOWN = Node(b"")
_CREATED, _CHANGED, _RENAMED, _WRITTEN = Case.CREATED, Case.FAST_FORWARD, Case.MOVED, Case.WRITTEN

Nodes = Mapping[bytes, Node]
"""Those at hand, by path; empty ones where nothing is known."""


def created(
    nodes: Nodes, rules: Rules, service: str, event: Event, path: bytes, version: Version, seq: int
) -> Node | None:
    """The node after a service was seen to have this version, of a file or a link, where nothing is known; `seq`
    becomes its head's. None: it is not as plain as that."""
    node = nodes.get(path)
    if node is None or node.head.kind or node.held or node.origin or node.heirs or not _is_known(version):
        return None
    if not _is_managed(nodes, rules, service, path, version):
        return None
    head = version.given(service, seq)
    return Node(path, head, {service: _holding(head, event, path)})


def brought(nodes: Nodes, service: str, event: Event, path: bytes) -> Node | None:
    """The node after a service has brought the head, a file or a link, where it held nothing, as it was ordered. None:
    it is not as plain as that."""
    node = nodes.get(path)
    if node is None or event.source or service in node.held or not _is_ordered(event, node):
        return None
    return node.holding({**node.held, service: _holding(node.head, event, path)})


def decide(nodes: Nodes, rules: Rules, service: str, event: Event, path: bytes, seq: int) -> Decision | None:
    """What comes of one event of a service.

    None: it is not as plain as that, or what it takes to tell is not among these nodes.

    Args:
        path: the event's, as the Referee knows it.
        seq: the highest sequence number given so far.
    """
    seen, node = event.seen, nodes.get(path)
    if node is None:
        return None
    if seen is _DONE:
        return _done(nodes, service, event, node, seq)
    if event.order:
        return None
    if seen is _MOVED:
        return _moved(nodes, rules, service, event, node, seq)
    if seen is not _STANDS:
        return None
    if node.held:
        return _changed(nodes, rules, service, event, node, seq)
    new = created(nodes, rules, service, event, path, event.version, seq + 1)
    return None if new is None else Decision({path: new}, (Line(path, _CREATED, "", service),), seq + 1)


def _changed(nodes: Nodes, rules: Rules, service: str, event: Event, node: Node, seq: int) -> Decision | None:
    """Another content stands where this service, as everybody, held the head."""
    head, version = node.head, event.version
    held = node.held.get(service)
    if held is None or not _is_everybodys(node) or not (_is_known(head) and _is_known(version)):
        return None
    if event.token == held.token or (held.name or node.path) != event.path:
        return None
    if version.kind is _FILE and head.kind is _FILE and not version.mode:
        version = version.with_mode(head.mode)  # 0: the service keeps no modes
    if same_content(version, head) is not Same.NO or not _is_managed(nodes, rules, service, node.path, version):
        return None
    new = version.given(service, seq + 1)
    node = Node(node.path, new, {**node.held, service: _holding(new, event, node.path)})
    return Decision({node.path: node}, (Line(node.path, _CHANGED, "", service),), seq + 1)


def _moved(nodes: Nodes, rules: Rules, service: str, event: Event, node: Node, seq: int) -> Decision | None:
    """What everybody holds under another name stands under this one, where nothing is known, and there no more."""
    came_from = paths.key(event.source)
    source = nodes.get(came_from)
    if source is None or came_from == node.path or not _is_everybodys(source):
        return None
    held, version = source.held.get(service), event.version
    if held is None or (held.name or came_from) != event.source:
        return None
    if same_content(held.version, version) is not Same.YES:
        return None
    mode, digests = version.mode or held.version.mode, held.version.digests
    if mode != version.mode:
        version = version.with_mode(mode)
    if digests != version.digests:
        version = version.with_digests({**digests, **version.digests})
    arrived = created(nodes, rules, service, event, node.path, version, seq + 1)
    if arrived is None:
        return None
    arrived = Node(arrived.path, arrived.head, arrived.held, came_from)
    others = {name: there for name, there in source.held.items() if name != service}
    left = Node(came_from, NOTHING.given(service, seq + 2), others, heirs=(node.path,))
    line = Line(node.path, _RENAMED, f"from {paths.show(came_from)}", service)
    return Decision({node.path: arrived, came_from: left}, (line,), seq + 2)


def _done(nodes: Nodes, service: str, event: Event, node: Node, seq: int) -> Decision | None:
    """The head, a file or a link, was brought here, as it was ordered: put, or renamed from a name that was deleted."""
    was = node.held.get(service)
    if not _is_ordered(event, node) or (was is not None and was.version.kind is _DIRECTORY):
        return None  # (of a directory the permission bits are counted too)
    done: dict[bytes, Node] = {}
    if event.source:
        came_from = paths.key(event.source)
        source = nodes.get(came_from)
        if source is None or source.head.kind or service not in source.held or was is not None:
            return None
        if source.heirs != (node.path,) or source.origin or not _is_decided(source):
            return None
        done[came_from] = source.holding({name: held for name, held in source.held.items() if name != service})
    done[node.path] = node.holding({**node.held, service: _holding(node.head, event, node.path)})
    return Decision(done, (Line(node.path, _WRITTEN, "", service),), seq)


def _holding(version: Version, event: Event, path: bytes) -> Holding:
    return Holding(version, event.token, event.path if event.path != path else b"")


def _is_ordered(event: Event, node: Node) -> bool:
    """Whether an order was carried out that was to bring the node's head, a file or a link."""
    # Its number tells that this state ordered it: nothing else has a head of the number.
    if event.order <= 0 or event.version != node.head:
        return False
    return not node.heirs and _is_known(node.head) and _is_decided(node)


def _is_known(version: Version) -> bool:
    """Whether it is a file of which a digest is known, or a link: it is the same as itself, and nobody has to read."""
    return bool(version.digests) if version.kind is _FILE else version.kind is _LINK


def _is_managed(nodes: Nodes, rules: Rules, service: str, path: bytes, version: Version) -> bool:
    """Whether the service may be a source of it, no rule hides it, and the directory in which it lives is there."""
    above = path.rpartition(b"/")[0]
    if above and nodes.get(above, _UNKNOWN).head.kind is not _DIRECTORY:
        return False
    return rules.readable(service) and rules.hides(service, path, version) is None


def _is_everybodys(node: Node) -> bool:
    """Whether all that anybody holds is the head, a file or a link, and no move of it is under way."""
    head = node.head
    if node.origin or node.heirs or not head.seq or not (head.kind is _FILE or head.kind is _LINK):
        return False
    return all(held.version is head and not (held.hidden or held.gone) for held in node.held.values())


def _is_decided(node: Node) -> bool:
    """Whether all that anybody holds was decided about, and is there."""
    for held in node.held.values():  # noqa: SIM110 (a generator would take longer than all else here)
        if not held.version.seq or held.hidden or held.gone:
            return False
    return True
