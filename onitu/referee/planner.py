"""The planner: what has to be done so that every admitted service holds the head. Pure.

Orders are derived from nodes at any time and never stored; a crash, a duplicate, a lost or refused order heals by
planning again.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.conflicts import conflict_name
from onitu.model.nodes import Holding, Node
from onitu.model.orders import Do, Order, Source
from onitu.model.versions import BLAKE3, Kind, Same, same_content

from .rules import Rules
from .view import View


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What one service needs at one path.

    Attributes:
        order: what to ask of it now; None: nothing, or nothing yet.
        left: whether the service is still to change here: in the end it shall hold something else than it does.
        why: where something is left but nothing can be ordered: what it waits for, for people.
    """

    order: Order | None = None
    left: bool = False
    why: str = ""


_NOTHING_LEFT = Plan()
_NOBODY: frozenset[str] = frozenset()


def holders(node: Node) -> frozenset[str]:
    """The services that hold something at the node, as far as they manage it."""
    return frozenset(s for s, h in node.held.items() if not h.hidden and not h.gone)


def plan(view: View, rules: Rules, service: str, path: bytes, sources: frozenset[str]) -> Plan:
    """What the service is to do at the path.

    Args:
        view: the nodes at hand; read only.
        rules: the folder's rules.
        service: for whom.
        path: the node's.
        sources: the services that can be read from at this moment.

    Raises:
        Need: something is not at hand.
    """
    node = view[path]
    held = node.held.get(service)
    if held is not None and (held.hidden or _is_head(node, held)):
        return _NOTHING_LEFT
    if held is not None and _is_asked_for(node, held):
        return Plan(Order(0, Do.FINGERPRINT, held.name or path, held.version, expect=held.token), left=True)
    if not rules.writable(service):
        return _NOTHING_LEFT
    if held is not None and held.gone:
        return Plan(left=True, why="a deletion is held back until it is approved")
    if not _admitted(rules, service, node):
        return _NOTHING_LEFT
    if not node.head.exists:
        return _clear(view, rules, service, node, held)
    if held is None:
        return _fill(view, rules, service, node, sources)
    return _update(view, rules, service, node, held, sources)


def left(view: View, rules: Rules, path: bytes) -> list[str]:
    """The services that are still to change at the path."""
    node, everyone = view[path], frozenset(rules.replicas)
    found = []
    for service in rules.replicas:
        if node.head.exists and service not in node.held:
            # Whatever is to be done about it, the head is still to come here: no need to find out what.
            some = rules.writable(service) and _admitted(rules, service, node)
        else:
            some = plan(view, rules, service, path, everyone).left
        if some:
            found.append(service)
    return found


def can_be_had(view: View, rules: Rules, path: bytes) -> bool:
    """Whether any service of the folder, if it were there, has what every one is to get at the path.

    Raises:
        Need: something is not at hand.
    """
    node = view[path]
    return node.head.kind is not Kind.FILE or bool(_sources(view, rules, node, frozenset(rules.replicas)))


def in_the_way(view: View, service: str, path: bytes) -> bytes:
    """The path of the file or link that the service holds above this one, where its directory is to be; empty: none.

    Raises:
        Need: something is not at hand.
    """
    above = path
    while above := paths.parent(above):
        node = view[above]
        if node.head.kind is not Kind.DIRECTORY:
            break
        held = node.held.get(service)
        if held is not None:
            return b"" if held.version.kind is Kind.DIRECTORY else above
    return b""


def _admitted(rules: Rules, service: str, node: Node) -> bool:
    """Whether the service is to change at the node. A tombstone has no size and no kind, so it counts what would go."""
    held = node.held.get(service)
    version = node.head if node.head.exists or held is None else held.version
    return rules.admits(service, node.path, version, holders(node) if rules.rules is not None else _NOBODY)


def tidy(view: View, rules: Rules, path: bytes) -> list[Node]:
    """What can be forgotten once nothing is left at a path: where its content came from, and where it went.

    The nodes that change.
    """
    node = view[path]
    if not node.origin and not node.heirs:
        return []
    if _is_to_come(view, rules, node):
        return []  # also where the rules want it nowhere, so that nothing is left: a conflict copy is not for them (S1)
    changed: dict[bytes, Node] = {}
    above = node.origin
    while above and above != path and above not in changed:
        origin = view[above]
        changed[above] = replace(origin, heirs=tuple(h for h in origin.heirs if h != path))
        above = origin.origin
    # An heir that still waits for what stands here has to hear when that is destroyed.
    heirs = tuple(heir for heir in node.heirs if view[heir].head.exists and view[heir].origin == path)
    changed[path] = replace(node, origin=node.origin if heirs else b"", heirs=heirs)
    return [node for node in changed.values() if node != view[node.path]]


def _clear(view: View, rules: Rules, service: str, node: Node, held: Holding | None) -> Plan:
    """The head is a tombstone: what the service holds goes, by a rename where it is wanted elsewhere."""
    if held is None or (held.version.seq == 0 and held.version.carries_value):
        return _NOTHING_LEFT  # S1: what nobody decided about is never deleted
    heir = _heir(view, rules, service, node, held)
    here = held.name or node.path
    if heir is not None:
        target = _spelled(view, service, heir)
        order = Order(0, Do.MOVE, here, heir.head, expect=held.token, held=held.version, target=target)
    elif any(_gives_way(view, rules, service, view[path], held) for path in node.heirs):
        return Plan(left=True, why="what stands where it is to be renamed to moves on first")
    elif _stands_nowhere_else(view, rules, node, held):
        return Plan(left=True, why="its content has to arrive under its new name first")
    else:
        order = Order(0, Do.DELETE, here, node.head, expect=held.token, held=held.version)
    return Plan(order, left=True)


def _fill(view: View, rules: Rules, service: str, node: Node, sources: frozenset[str]) -> Plan:
    """The service holds nothing here: it gets the head, by a rename from its origin where it has it there."""
    if node.origin and _comes_from_origin(view, rules, service, node):
        return Plan(left=True, why=f"it is renamed from {paths.show(node.origin)}")
    where = _sources(view, rules, node, sources)
    if node.head.kind is Kind.FILE and not where:
        return Plan(left=True, why="no service that has it can be reached")
    return Plan(Order(0, Do.PUT, _spelled(view, service, node), node.head, sources=where), left=True)


def _update(view: View, rules: Rules, service: str, node: Node, held: Holding, sources: frozenset[str]) -> Plan:
    """The service holds something here: the head, the head with another mode or time, or another version."""
    here = held.name or node.path
    match same_content(held.version, node.head):
        case Same.YES if not held.version.meta_differs(node.head) and held.version.seq >= node.since_when:
            return _NOTHING_LEFT
        case Same.YES:
            # Or it was deleted and made anew elsewhere: that it still stands here is to be heard once more, so that a
            # deletion from now on is one of what was made anew.
            return Plan(Order(0, Do.META, here, node.head, expect=held.token, held=held.version), left=True)
        case Same.UNKNOWN:
            return Plan(left=True, why="nobody knows yet whether it is the head: one of the two has to be read first")
    keep, old = b"", held.version
    if held.version.carries_value:
        heir = _heir(view, rules, service, node, held)
        if heir is not None and _moves_on(view, service, node):
            target = _spelled(view, service, heir)
            return Plan(Order(0, Do.MOVE, here, heir.head, held.token, held.version, target), left=True)
        if heir is not None:
            # Told under the number of the copy: who does not know that one does not know the copy (S6).
            keep, old = _spelled(view, service, heir), old.given(heir.head.service, heir.head.seq)
        elif _stands_nowhere_else(view, rules, node, held):
            return Plan(left=True, why="its content has to arrive under its conflict name first")
        elif held.version.seq == 0:
            # A value that nobody decided about (a service that is no source): it stays, beside the head (S1).
            keep = conflict_name(here, service, held.version.mtime)
    where = _sources(view, rules, node, sources)
    if node.head.kind is Kind.FILE and not where:
        return Plan(left=True, why="no service that has it can be reached")
    order = Order(0, Do.PUT, here, node.head, expect=held.token, held=old, keep=keep, sources=where)
    return Plan(order, left=True)


def _is_head(node: Node, held: Holding) -> bool:
    """Whether what is held is the head itself, read and all: the commonest case, of which no rule is asked."""
    version = held.version
    return (
        version is node.head
        and version.exists
        and not held.gone
        and (version.kind is not Kind.FILE or BLAKE3 in version.digests)
    )


def _is_asked_for(node: Node, held: Holding) -> bool:
    """Whether what is held here has to be read: it has no digest in common with the head, or it is the head, and
    another service's version has none in common with it. What has the digest of our own reading is never asked again.
    """
    if held.gone or held.version.kind is not Kind.FILE or BLAKE3 in held.version.digests:
        return False
    match same_content(held.version, node.head):
        case Same.UNKNOWN:
            return True
        case Same.YES:
            others = (h.version for h in node.held.values() if not h.hidden and not h.gone)
            return any(same_content(version, node.head) is Same.UNKNOWN for version in others)
    return False


def _heir(view: View, rules: Rules, service: str, node: Node, held: Holding) -> Node | None:
    """The node to which what the service holds here belongs now, and where it does not hold it yet.

    A value that is displaced by a conflict is kept for its heir whether the rules admit the heir or not: to make room
    is no reason to destroy it (S1). A value that is to be *moved* needs an admitted target, unless nobody has it or may
    get it.
    """
    for path in node.heirs:
        heir = view[path]
        if same_content(heir.head, held.version) is not Same.YES or service in heir.held:
            continue
        admitted = rules.admits(service, path, heir.head, holders(heir) | {service})
        if node.head.exists or admitted or _is_for_nobody(rules, heir):
            return heir
    return None


def _is_for_nobody(rules: Rules, node: Node) -> bool:
    """Whether nobody holds the node's head, and the rules let nobody get it: a conflict copy with such a name."""
    nobody = holders(node)
    everyone = (service for service in rules.replicas if rules.writable(service))
    return not nobody and not any(rules.admits(service, node.path, node.head, nobody) for service in everyone)


def _stands_nowhere_else(view: View, rules: Rules, node: Node, held: Holding) -> bool:
    """Whether what is held here belongs to an heir that nobody can be asked for yet: then it may not be displaced (S1).

    It happens where the service has something else under the heir's name, so that it cannot be renamed to it.
    """
    for path in node.heirs:
        heir = view[path]
        if same_content(heir.head, held.version) is Same.YES:
            there = [heir.held[service] for service in holders(heir) if rules.readable(service)]
            return not any(same_content(h.version, heir.head) is Same.YES for h in there)
    return False


def _moves_on(view: View, service: str, node: Node) -> bool:
    """Whether what is to stand here waits at a name that was deleted, to be renamed (a link in a chain of moves)."""
    for origin in _origins(view, node):
        held = origin.held.get(service)
        leaves = held is not None and not origin.head.exists and not (held.gone or held.hidden)
        if leaves and held is not None and same_content(held.version, node.head) is Same.YES:
            return True
    return False


def _gives_way(view: View, rules: Rules, service: str, heir: Node, held: Holding) -> bool:
    """Whether the heir of what is held is a name that the service will free by a move of its own."""
    there = heir.held.get(service)
    if there is None or there.gone or there.hidden or same_content(heir.head, held.version) is not Same.YES:
        return False
    if same_content(there.version, heir.head) is not Same.NO or not _moves_on(view, service, heir):
        return False
    return _heir(view, rules, service, heir, there) is not None


def _is_to_come(view: View, rules: Rules, node: Node) -> bool:
    """Whether the planning of one of the node's origins will bring the content here, on whatever service."""
    if _is_only_there(view, rules, node):
        return True
    return any(
        rules.writable(service) and _brings(view, rules, service, origin, node)
        for origin in _origins(view, node)
        for service in origin.held
    )


def _is_only_there(view: View, rules: Rules, node: Node) -> bool:
    """Whether the node's content is held at one of its origins alone, where another head may displace it later."""
    if not node.head.exists:
        return False
    if any(same_content(node.held[s].version, node.head) is Same.YES for s in holders(node) if s in rules.replicas):
        return False
    return any(
        service in rules.replicas and not held.gone and same_content(held.version, node.head) is Same.YES
        for origin in _origins(view, node)
        for service, held in origin.held.items()
    )


def _comes_from_origin(view: View, rules: Rules, service: str, node: Node) -> bool:
    """Whether the planning of one of the node's origins will bring the content here."""
    return any(_brings(view, rules, service, origin, node) for origin in _origins(view, node))


def _origins(view: View, node: Node) -> list[Node]:
    """Where the node's content stood before, the latest place first; a chain of moves has several. A place that has
    another content by now may be a link of the chain: it keeps the way to its earlier one's, for a copy of that."""
    found: list[Node] = []
    path = node.origin
    while path and path != node.path and all(path != o.path for o in found):
        found.append(view[path])
        path = found[-1].origin
    return found


def _brings(view: View, rules: Rules, service: str, origin: Node, node: Node) -> bool:
    held = origin.held.get(service)
    if held is None or held.gone or held.hidden or same_content(held.version, node.head) is not Same.YES:
        return False
    if origin.head.exists and same_content(held.version, origin.head) is Same.YES:
        return False
    if not _admitted(rules, service, origin):
        return False
    heir = _heir(view, rules, service, origin, held)
    return heir is not None and heir.path == node.path


def _sources(view: View, rules: Rules, node: Node, available: frozenset[str]) -> tuple[Source, ...]:
    """Where the head's content can be had, the fastest service first. Under another name a service can be its own."""
    if node.head.kind is not Kind.FILE:
        return ()
    found: list[tuple[float, str, Source]] = []
    for at in (node, *_origins(view, node)):
        for name, held in at.held.items():
            if name not in available or held.gone or held.hidden or not rules.readable(name):
                continue
            if same_content(held.version, node.head) is Same.YES:
                found.append((-rules.velocity.get(name, 1.0), name, Source(name, held.name or at.path, held.token)))
    if len(found) > 1:
        found.sort(key=lambda f: f[:2])
    return tuple(source for _, _, source in found)


def _spelled(view: View, service: str, node: Node) -> bytes:
    """The node's path as the service shall spell it: in its own spelling of the directory, by the name that the
    version's own service gave it (the bytes of a name are a user's, so they travel as they are)."""
    ours = node.held.get(service)
    if ours is not None:
        return ours.name or node.path
    if node.path.isascii():
        return node.path
    maker = node.held.get(node.head.service) or next(iter(node.held.values()), None)
    name = paths.name(maker.name if maker is not None and maker.name else node.path)
    directory = paths.parent(node.path)
    return paths.join(_spelled(view, service, view[directory]), name) if directory else name
