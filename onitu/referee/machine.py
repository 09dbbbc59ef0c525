"""The state machine: what an event means. Pure: no I/O, no clock, no randomness.

Theory of operation. A *node* says what is known of one path: its *head*, the version that every admitted service should
hold, and for each service what it is known to *hold* there, with the driver's token. Events come in one serial order;
each is decided once, here, and the decision is in the nodes that come out. What has to be done follows from the nodes
at any time (`onitu.referee.planner`) and is never stored.

What a service held before its event is the *base*: the value that its user replaced. All cases come down to two
questions: is what stands there now the head's content, and was the base the head's content?

    now        base       case
    = head     any        adopted: the service holds the head; nobody transfers anything
    ≠ head     = head     fast-forward: the user saw the head and replaced it; a new head
    ≠ head     = now      nothing new: it was touched, or seen again; the head is on its way there
    ≠ head     else       concurrent: both are kept; the policy only chooses which keeps the name
    unknown    ≠ head     no digest in common: it waits undecided until one of the two is read
    gone       = head     deleted: a tombstone
    gone       else       an edit beats a delete: the head comes back
    file against directory: the directory keeps the name, the file becomes a conflict copy

Everything that affects a decision is in this file (`onitu.referee.plain` is a shortcut to what it comes to). Every rule
of it exists to keep S1–S6, named where it does.
"""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.conflicts import conflict_name
from onitu.model.events import AGAIN, BESIDE, Event, Seen, Trouble
from onitu.model.nodes import Holding, Node
from onitu.model.versions import BLAKE3, NOTHING, Kind, Same, Version, same_content

from .planner import holders
from .rules import Rules
from .view import View

ERA_BITS = 40
"""A sequence number's low bits count; what stands above them is the *era*, drawn when a folder's state begins.

So a version that was ordered from a state that is lost (FLUSHALL, an old backup) is told from one of this state.
"""
LEAP = 1 << 20
"""Sequence numbers that a new run of the Referee leaves out at least: more than any run gives in the seconds of commits
that a store can lose. Chance adds some, so that two runs that begin at the same loss begin at different numbers."""


def era(seq: int) -> int:
    """The era of a sequence number."""
    return seq >> ERA_BITS


class Doubts(msgspec.Struct, frozen=True):
    """By which numbers an order was given from a memory that is not that of this state (S6).

    Attributes:
        gaps: (a, b), ascending: the state has given no number above `a` and up to `b`. Who knows one was told it by a
            run of the Referee whose last commits are lost.
        forgotten: the last number before what was known of a replica was forgotten. What was decided by then may have
            been withdrawn with it; 0: that never happened.
    """

    gaps: tuple[tuple[int, int], ...] = ()
    forgotten: int = 0

    def given(self, seq: int, last: int) -> bool:
        """Whether this state has given a version this number; `last` is the last one that it gave."""
        if seq == 0 or seq > last or era(seq) != era(last):
            return False
        after = bisect.bisect_left(self.gaps, (seq, 0))  # the first gap that begins with it or after it
        return not after or seq > self.gaps[after - 1][1]


NO_DOUBTS = Doubts()


class Case(enum.StrEnum):
    """What an event turned out to be; the journal's and the documentation's word for it."""

    CREATED = "created"
    ADOPTED = "adopted"
    FAST_FORWARD = "fast-forward"
    META = "metadata changed"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    DIRECTORY_WINS = "directory keeps the name"
    DELETED = "deleted"
    ALREADY_DELETED = "already deleted"
    EDIT_WINS = "edit beats delete"
    RESTORED = "restored"
    MOVED = "moved"
    HIDDEN = "hidden"
    FOREIGN = "not a source"
    CLASH = "name clash"
    HELD_BACK = "deletion held back"
    REVIVED = "directory comes back"
    WRITTEN = "written"
    FAILED = "failed"
    UNREAD = "not read yet"
    WITHDRAWN = "withdrawn"


QUIET = frozenset({Case.UNCHANGED, Case.WRITTEN, Case.ALREADY_DELETED})
"""Cases that decide nothing; they are not worth a line in the journal."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One decision, for the journal: of a path, about what a service has there."""

    path: bytes
    case: Case
    outcome: str
    service: str


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What came of one event.

    Attributes:
        nodes: the nodes that changed, by path.
        lines: what was decided, the event's own case first.
        seq: the highest sequence number given.
        copies: conflict copies that were made: copy → the path whose loser it is.
    """

    nodes: dict[bytes, Node]
    lines: tuple[Line, ...]
    seq: int
    copies: dict[bytes, bytes] = {}

    @property
    def case(self) -> Case:
        return self.lines[0].case


def observe(
    view: View,
    rules: Rules,
    service: str,
    event: Event,
    seq: int,
    hold_back: bool = False,
    doubts: Doubts = NO_DOUBTS,
) -> Decision:
    """Decide one event of a service.

    Args:
        view: the nodes at hand; read only.
        rules: the folder's rules.
        service: who saw it.
        event: what was seen; its paths are checked.
        seq: the highest sequence number given so far in this folder.
        hold_back: a guard wants deletions of this service to wait for a yes.
        doubts: which outcomes of orders are not to be believed.

    Raises:
        Need: something is not at hand; load it and ask again. Nothing has changed.
    """
    return Deciding(view, rules, service, seq, doubts).decide(event, hold_back)


class Deciding:
    """One decision in the making: changes pile up here and become visible only when it is whole."""

    def __init__(self, view: View, rules: Rules, service: str, seq: int, doubts: Doubts) -> None:
        self.view = view
        self.rules = rules
        self.service = service
        self.seq = seq
        self.doubts = doubts
        self.changed: dict[bytes, Node] = {}
        self.lines: list[Line] = []
        self.copies: dict[bytes, bytes] = {}
        self.displaced: Holding | None = None
        """What this service holds no more, as something stands there that is never synchronised (a pipe, say)."""

    def decide(self, event: Event, hold_back: bool) -> Decision:
        path = paths.key(event.path)
        match event.seen:
            case Seen.STANDS:
                self._stands(path, event)
            case Seen.MOVED:
                self._moved(path, event)
            case Seen.GONE:
                self._gone(path, event, hold_back)
            case Seen.DONE:
                self._done(path, event)
            case Seen.HIDDEN:
                self._hidden(path, event.reason, event)
            case Seen.FAILED:
                self._failed(path, event)
        self._rescue()
        self._catch_up()
        return Decision(self.changed, tuple(self.lines), self.seq, self.copies)

    # --- small things -------------------------------------------------------------------------------------------

    def node(self, path: bytes) -> Node:
        return self.changed.get(path) or self.view[path]

    def put(self, node: Node) -> None:
        self.changed[node.path] = node

    def say(self, path: bytes, case: Case, outcome: str = "") -> None:
        self.lines.append(Line(path, case, outcome, self.service))

    def next(self) -> int:
        self.seq += 1
        return self.seq

    def hold(self, node: Node, version: Version, event: Event) -> Node:
        """The node with this service holding the version, as it spells the path."""
        name = event.path if event.path != node.path else b""
        if version == node.head:
            version = node.head  # one object for all who hold the head
        return node.holding({**node.held, self.service: Holding(version, event.token, name)})

    def drop(self, node: Node) -> Node:
        """The node with this service holding nothing."""
        return node.holding({s: h for s, h in node.held.items() if s != self.service})

    def crown(self, node: Node, version: Version, event: Event | None = None) -> Node:
        """The node with a new head, which this service made (and holds, where the event shows it).

        An earlier origin does not count any more: it belonged to the earlier head's content; but to a copy that was
        made of that it is still the way.
        """
        head = version.given(self.service, self.next())
        same = node.head.exists and same_content(node.head, head) is Same.YES
        since = node.since or node.head.seq if same else 0
        self._disinherit(node)
        kept = node.origin and any(self.node(heir).origin == node.path for heir in node.heirs)
        origin = node.origin if kept else b""
        node = Node(node.path, head, node.held, origin, node.heirs, since)
        return self.hold(node, head, event) if event is not None else node

    def _disinherit(self, node: Node) -> None:
        """The node's content is no heir of its origins any more."""
        for origin in self._origins(node):
            if node.path in origin.heirs:
                self.put(replace(origin, heirs=tuple(h for h in origin.heirs if h != node.path)))

    def _origins(self, node: Node) -> Iterator[Node]:
        """Where the node's content came from, and where that came from, and so on."""
        seen = {node.path}
        while node.origin and node.origin not in seen:
            seen.add(node.origin)
            node = self.node(node.origin)
            yield node

    # --- something stands there ---------------------------------------------------------------------------------

    def _stands(self, path: bytes, event: Event) -> None:
        node = self.node(path)
        held = node.held.get(self.service)
        version = event.version.given("", 0)
        if held is not None and _spelling(held, path) != event.path and not (held.gone or held.hidden):
            self.say(path, Case.CLASH, "this service has another entry of that name in another Unicode form")
            return
        if (reason := self.rules.hides(self.service, path, version)) is not None:
            self._hidden(path, reason, event)
            return
        if not self.rules.readable(self.service):
            self._foreign(node, version, event)
            return
        if version.kind is Kind.DIRECTORY:
            self._directory_stands(node, held, version, event)
        else:
            self._value_stands(node, held, version, event)
        if self.node(path).head.exists:
            self._raise_parents(path, event.path)

    def _directory_stands(self, node: Node, held: Holding | None, version: Version, event: Event) -> None:
        if node.head.kind is Kind.DIRECTORY and not node.head.mode and version.mode:
            node = _with_mode(node, version.mode)
        head = node.head
        if head.kind is Kind.DIRECTORY:
            version = replace(version, mode=version.mode or head.mode)  # 0: the service keeps no modes
            based = held is not None and held.version.kind is Kind.DIRECTORY and held.version.mode == head.mode
            if based and version.mode != head.mode:
                self.put(self.crown(node, version, event))
                self.say(node.path, Case.META, "its mode becomes everyone's")
            else:
                case = Case.UNCHANGED if held is not None and held.version.kind is Kind.DIRECTORY else Case.ADOPTED
                self.put(self.hold(node, version.given(head.service, head.seq), event))
                self.say(node.path, case)
            return
        known = held is not None and held.version.kind is Kind.DIRECTORY and not _forgotten(node, held)
        if head.exists and held is not None and same_content(held.version, head) is Same.YES:
            self.put(self.crown(node, version, event))
            self.say(node.path, Case.FAST_FORWARD, "a directory replaces the file")
        elif known or event.order == BESIDE or self._holds_below(node.path):
            # Deleted or replaced elsewhere and not yet here: to be seen again, made by an order on its way, or there
            # only by what is still in it (in a bucket) is no edit (S4).
            if held is not None and known:
                version = replace(version, seq=held.version.seq)
            self.put(self.hold(node, version, event))
            self.say(node.path, Case.UNCHANGED)
        elif not head.exists:
            self.put(self.crown(node, version, event))
            self.say(node.path, Case.CREATED)
        else:
            self._make_copy(node, head)
            self.put(self.crown(self.node(node.path), version, event))
            self.say(node.path, Case.DIRECTORY_WINS, "the file becomes a conflict copy")

    def _value_stands(self, node: Node, held: Holding | None, version: Version, event: Event) -> None:
        head = node.head
        if not version.mode and version.kind is Kind.FILE and head.kind is Kind.FILE:
            version = replace(version, mode=head.mode)  # 0: the service keeps no modes
        if held is not None and event.token and held.token == event.token and held.version.kind is version.kind:
            # One token, one content: what was read of it before is still known of it.
            version = replace(version, digests={**held.version.digests, **version.digests})
        if held is not None and _same_again(held, version, event.token):
            self.say(node.path, Case.UNCHANGED)
            return
        if not head.exists:
            self._value_over_nothing(node, held, version, event)
        elif head.kind is Kind.DIRECTORY:
            self._value_over_directory(node, held, version, event)
        else:
            self._value_over_value(node, held, version, event)

    def _value_over_nothing(self, node: Node, held: Holding | None, version: Version, event: Event) -> None:
        if held is not None and not _forgotten(node, held) and _touched(held, version):
            # The head was deleted elsewhere and the order is on its way; a touched file is not an edit (S4).
            # What a rule hid is met like something new: while it was forgotten here, its head may have been withdrawn
            # because a rule hid it from everybody, and that a filter changed is no reason to delete anything (S1).
            kept = version.given(held.version.service, held.version.seq)
            self.put(self.hold(node, kept, event))
            self.say(node.path, Case.UNCHANGED)
            return
        self.put(self.crown(node, version, event))
        self.say(node.path, Case.CREATED if held is None or _forgotten(node, held) else Case.EDIT_WINS)

    def _value_over_directory(self, node: Node, held: Holding | None, version: Version, event: Event) -> None:
        if held is not None and not _forgotten(node, held) and _touched(held, version):
            # Replaced by the directory, which is on its way; a touched file is not an edit (S4).
            self.put(self.hold(node, version.given(held.version.service, held.version.seq), event))
            self.say(node.path, Case.UNCHANGED)
            return
        knew = held is not None and held.version.kind is Kind.DIRECTORY
        if knew and not self._lives_below(node.path):
            self.put(self.crown(node, version, event))
            self.say(node.path, Case.FAST_FORWARD, "a file replaces the empty directory")
            return
        if held is not None and knew and all(self._is_held_back(child) for child in self._living_below(node.path)):
            # All that was in it is gone here, which a guard does not believe yet. So is the directory; once that is
            # believed, whoever tells of this value is asked once more.
            self._hold_back(node, held)
            return
        # Something below was never seen by whoever put the file here: the directory keeps the name (S1).
        loser = self._lose(node, version, event)
        self._make_copy(self.node(node.path), loser)
        self.say(node.path, Case.DIRECTORY_WINS, "the file becomes a conflict copy")

    def _value_over_value(self, node: Node, held: Holding | None, version: Version, event: Event) -> None:
        head = node.head
        now = same_content(version, head)
        base = held.version if held is not None else None
        if now is Same.UNKNOWN and base is not None and same_content(base, head) is Same.YES:
            now = same_content(version, base)  # which has the digests of both, perhaps
        if now is Same.YES:
            self._value_equals_head(node, base, version, event)
        elif base is not None and same_content(base, head) is Same.YES and base.seq >= node.since_when:
            # Even if it was not read: who made it saw the head; that it may be the same again costs a read at most. (A
            # head that went and came back since was not seen, though it is the same: S1.)
            self.put(self.crown(node, version, event))
            self.say(node.path, Case.FAST_FORWARD)
        elif held is not None and _touched(held, version):
            # Replaced by the head already, so it is no edit, whether it can be compared with the head or not (S4).
            self.put(self.hold(node, version.given(held.version.service, held.version.seq), event))
            self.say(node.path, Case.UNCHANGED, "the head is on its way here")
        elif now is Same.UNKNOWN:
            # No digest in common: somebody has to read before anything is concluded.
            self.put(self.hold(node, version, event))
            self.say(node.path, Case.UNREAD)
        else:
            self._concurrent(node, version, event)

    def _value_equals_head(self, node: Node, base: Version | None, version: Version, event: Event) -> None:
        version = replace(version, digests={**node.head.digests, **version.digests})
        if version.digests != node.head.digests:  # somebody has read it: from now on others can be compared with it
            node = replace(node, head=replace(node.head, digests=version.digests))
        head = node.head
        if base is not None and base.seq == head.seq and version.meta_differs(base) and version.meta_differs(head):
            origin = node.origin
            self.put(replace(self.crown(node, version, event), origin=origin))
            self._leave_to(origin, node.path)
            self.say(node.path, Case.META, "its mode and time become everyone's")
            return
        case = Case.UNCHANGED if base is not None and base.seq == head.seq else Case.ADOPTED
        self.put(self.hold(node, version.given(head.service, head.seq), event))
        self.say(node.path, case, "it has the content already")

    def _foreign(self, node: Node, version: Version, event: Event) -> None:
        """A service that is no source has something of its own: nobody gets it, nobody destroys it (S1, S5)."""
        if node.head.exists and same_content(version, node.head) is Same.YES:
            self.put(self.hold(node, version.given(node.head.service, node.head.seq), event))
            self.say(node.path, Case.ADOPTED)
        elif node.head.exists:
            self.put(self.hold(node, version, event))
            self.say(
                node.path,
                Case.FOREIGN,
                "the head comes back here; this stays beside it, under a conflict name",
            )
        else:
            # What it held of ours is gone; to delete that is not asked for again (S2).
            self.put(self.drop(node))
            self.say(node.path, Case.FOREIGN, "the service may not be read from: this stays where it is, unmanaged")

    # --- conflicts ----------------------------------------------------------------------------------------------

    def _concurrent(self, node: Node, version: Version, event: Event) -> None:
        head = node.head
        if self._newcomer_wins(head, version):
            self._make_copy(node, head)
            self.put(self.crown(self.node(node.path), version, event))
            self.say(
                node.path,
                Case.CONFLICT,
                f"the change of {self.service} keeps the name, that of {head.service} becomes a copy",
            )
        else:
            loser = self._lose(node, version, event)
            self._make_copy(self.node(node.path), loser)
            self.say(
                node.path,
                Case.CONFLICT,
                f"the change of {head.service} keeps the name, that of {self.service} becomes a copy",
            )

    def _newcomer_wins(self, head: Version, version: Version) -> bool:
        """A total order for one decision; it is never applied to the same two versions again (S2)."""
        policy = self.rules.conflict(self.service)
        if policy.startswith("prefer:"):
            preferred = policy.removeprefix("prefer:")
            if preferred == self.service:
                return True
            if preferred == head.service:
                return False
        elif policy == "first":
            return False
        return version.mtime > head.mtime

    def _lose(self, node: Node, version: Version, event: Event) -> Version:
        """This service holds a value that does not get the name; it is a version all the same."""
        loser = version.given(self.service, self.next())
        self.put(self.hold(node, loser, event))
        return loser

    def _make_copy(self, node: Node, loser: Version) -> None:
        """Give the loser a name of its own beside the node; whoever holds it under the node's name can rename it."""
        if not loser.carries_value:
            return
        if any(self._keeps(self.node(heir), loser) for heir in node.heirs):
            return  # the same content lost its name here before
        attempt = 1
        while True:
            path = conflict_name(node.path, loser.service, loser.mtime, attempt)
            attempt += 1
            if path == node.path:
                continue  # it is a conflict copy itself, and its own name is the one that is contested
            copy = self.node(path)
            if self._keeps(copy, loser):
                if not copy.origin:
                    self.put(replace(copy, origin=node.path))
                break
            if not copy.head.exists and not copy.held:
                # Whoever holds it where the node's content itself came from shall find it here (S1).
                above = node.origin if same_content(loser, node.head) is Same.YES else b""
                copy = replace(copy, head=replace(loser, seq=self.next()), origin=node.path, since=0)
                self.put(copy)
                self._leave_to(above, path)
                break
        if copy.path not in node.heirs:
            self.put(replace(self.node(node.path), heirs=(*node.heirs, copy.path)))
        self.copies[copy.path] = node.path

    def _keeps(self, heir: Node, loser: Version) -> bool:
        """Whether the heir is a copy of what loses its name. Not where it stood on the service whose user made this
        version: it may have been renamed from there, and be gone as soon as that is told (S1)."""
        there = heir.held.get(loser.service)
        stood = there is not None and not there.gone and same_content(there.version, loser) is not Same.NO
        return not stood and heir.head.exists and same_content(heir.head, loser) is Same.YES

    # --- nothing stands there -----------------------------------------------------------------------------------

    def _gone(self, path: bytes, event: Event, hold_back: bool) -> None:
        node = self.node(path)
        held = node.held.get(self.service)
        if held is None or _spelling(held, path) != event.path:
            self.say(path, Case.ALREADY_DELETED)
        elif held.excluded:
            self.put(self.drop(node))
            self.say(path, Case.HIDDEN, "forgotten here: what a rule hides is never deleted elsewhere")
        elif self.rules.bans(self.service, path, held.version, holders(node)):
            self.put(self.drop(node))
            self.say(path, Case.HIDDEN, "forgotten here: what a rule takes away is never deleted elsewhere")
        elif not self.rules.readable(self.service):
            self.put(self.drop(node))
            self.say(path, Case.RESTORED, "the service is no source: it gets the head again")
        elif not node.head.exists:
            self.put(self.drop(node))
            self.say(path, Case.ALREADY_DELETED)
        elif same_content(held.version, node.head) is not Same.YES or held.version.seq < node.since_when:
            # Also where it stands here anew, deleted and made again elsewhere: that was not seen by its deleter (S1).
            self.put(self.drop(node))
            self.say(path, Case.EDIT_WINS, f"the newer version of {node.head.service} comes back")
        elif node.head.kind is Kind.DIRECTORY and not hold_back and self._lives_below(path):
            self.put(self.drop(node))
            self.say(path, Case.EDIT_WINS, "it holds something that its deleter never saw")
        elif hold_back:
            self._hold_back(node, held)
        else:
            back = self._went_back(node)
            # Its origin stays: whoever holds the content there still can take it on to where it was moved from here.
            self.put(replace(self.crown(self.drop(node), NOTHING), origin=node.origin))
            self.say(path, Case.DELETED)
            if back is not None:
                self.put(replace(self.crown(self.node(node.origin), back.version, back), since=0))
                self.say(node.origin, Case.CREATED, f"from {paths.show(path)}")

    def _went_back(self, node: Node) -> Event | None:
        """What stands where the node's content was moved from, and waits to be moved here: as this service has it no
        longer here, its user may have renamed it back, of which only the one half was told (S1). If it is gone there
        too, that will be told."""
        origin = self.node(node.origin) if node.origin else node
        held = origin.held.get(self.service)
        if held is None or held.gone or held.hidden or origin.head.exists:
            return None
        if not held.version.carries_value or same_content(held.version, node.head) is not Same.YES:
            return None
        return Event(Seen.STANDS, _spelling(held, node.origin), held.version, held.token)

    def _hold_back(self, node: Node, held: Holding) -> None:
        """What this service held there is gone, but nobody concludes anything from that until it is approved."""
        if not held.gone:
            gone = replace(held, gone=True, hidden=False, unread=False)
            self.put(replace(node, held={**node.held, self.service: gone}))
        self.say(node.path, Case.HELD_BACK)

    def _is_held_back(self, node: Node) -> bool:
        held = node.held.get(self.service)
        return held is not None and held.gone

    def _lives_below(self, directory: bytes) -> bool:
        return any(True for _ in self._living_below(directory))

    def _holds_below(self, directory: bytes) -> bool:
        """Whether the service is known to hold something directly in a directory, of which nothing is to stay."""
        nodes = [self.changed.get(child.path, child) for child in self.view.children(directory)]
        if self._lives_below(directory):
            return False
        return any((held := node.held.get(self.service)) and not held.gone for node in nodes)

    def _living_below(self, directory: bytes) -> Iterator[Node]:
        """What stands directly in a directory."""
        changed = {path for path in self.changed if paths.parent(path) == directory}
        yield from (self.changed[path] for path in changed if self.changed[path].head.exists)
        yield from (child for child in self.view.children(directory) if child.path not in changed and child.head.exists)

    # --- moves --------------------------------------------------------------------------------------------------

    def _moved(self, path: bytes, event: Event) -> None:
        came_from = paths.key(event.source)
        source = self.node(came_from)
        held = source.held.get(self.service)
        if came_from == path:
            if held is not None:
                self.put(self.drop(source))
                self.put(
                    replace(
                        self.node(path),
                        held={**source.held, self.service: replace(held, name=event.path)},
                    )
                )
            self._stands(path, event)
            return
        version = event.version
        managed, anew = held is not None and same_content(held.version, version) is Same.YES, False
        if managed and held is not None:
            mode = version.mode or held.version.mode
            version = replace(version, digests={**held.version.digests, **version.digests}, mode=mode)
            target = self.node(path)
            if self.service in target.held and not target.head.exists:
                # What waited to be deleted there is gone, and this was put in its place (S1).
                self.put(self.drop(target))
            # (What was renamed so elsewhere already is the same rename.)
            stood = self.service in target.held or not source.head.exists
            anew = not stood and same_content(version, target.head) is Same.YES
        self._stands(path, replace(event, version=version))
        if anew:
            # Who deletes what stood there with this content before has not seen that it was put there anew (S1).
            self.put(replace(self.crown(self.node(path), version, event), since=0))
        arrived = self.node(path)
        # The old name is free now, and nothing was lost with it: a move is no deletion that a guard counts.
        self._gone(came_from, replace(event, path=event.source), hold_back=False)
        left = self.node(came_from)
        made_head = arrived.head.service == self.service and same_content(arrived.head, version) is Same.YES
        if managed and made_head and not left.head.exists and path in self.changed and not arrived.origin:
            self.put(replace(arrived, origin=came_from))
            self._leave_to(came_from, path)
            halves = (path, Case.CREATED), (came_from, Case.DELETED)
            others = [line for line in self.lines if (line.path, line.case) not in halves]
            self.lines = [Line(path, Case.MOVED, f"from {paths.show(came_from)}", self.service), *others]

    def _leave_to(self, source: bytes, heir: bytes) -> None:
        """Make the path an heir of the source, and of where the source itself came from (a chain of moves)."""
        seen = {heir}
        while source and source not in seen:
            seen.add(source)
            node = self.node(source)
            if heir not in node.heirs:
                self.put(replace(node, heirs=(*node.heirs, heir)))
            source = node.origin

    # --- what became of orders ----------------------------------------------------------------------------------

    def _done(self, path: bytes, event: Event) -> None:
        version = event.version
        if event.order == AGAIN and self._known_already(self.node(path), version):
            self.say(path, Case.WRITTEN)
            return
        if event.source:
            source = self.node(paths.key(event.source))
            self.put(self.drop(source))
        node = self.node(path)
        if version.kind is Kind.DIRECTORY and version.mode and node.head == version.with_mode(0):
            if self.rules.readable(self.service):
                node = _with_mode(node, version.mode)
            else:  # what it made of it is nobody else's
                version = node.head
        if not version.exists:
            self.put(self.drop(node))
            self.say(path, Case.WRITTEN)
        elif not self.doubts.given(version.seq, self.seq):
            # Ordered from a memory that this Referee does not have (S6): an observation like any other.
            self._stands(path, event)
        elif node.head.exists and same_content(version, node.head) is Same.YES and not version.meta_differs(node.head):
            self.put(self.hold(node, version.given(node.head.service, node.head.seq), event))
            self.say(path, Case.WRITTEN)
        elif version.seq <= self.doubts.forgotten and (event.order <= 0 or node.head == NOTHING):
            # What is known here now does not follow from what was ordered: it was withdrawn, perhaps (S6).
            self._stands(path, event)
        elif event.order == 0 and version.carries_value and not (node.head.exists or node.head.service):
            # A user's value that was kept here, of which nothing was known any more, as it could not be read (S1).
            self._stands(path, event)
        else:
            self.put(self.hold(node, version, event))
            self.say(path, Case.WRITTEN)

    def _known_already(self, node: Node, version: Version) -> bool:
        """Whether something at least as new was told of the service since: then this was told before it."""
        held = node.held.get(self.service)
        return held is not None and era(held.version.seq) == era(version.seq) and held.version.seq >= version.seq

    def _hidden(self, path: bytes, reason: str, event: Event) -> None:
        node = self.node(path)
        if node.head.exists and self.service not in node.held and event.version.exists:
            # It is in the way of the head, which would be asked for again and again if it were not remembered (S2).
            node = self.hold(node, event.version.given("", 0), event)
        held = node.held.get(self.service)
        unread = event.trouble is not Trouble.NONE
        # An entry of that name in another Unicode form may be hidden where this one is not.
        if held is not None and _spelling(held, path) == event.path and not (held.hidden and held.unread <= unread):
            now = replace(held, hidden=True, gone=False, unread=unread)
            if event.trouble is Trouble.UNSUPPORTED:
                self.displaced = now
            self.put(replace(node, held={**node.held, self.service: now}))
        self.say(path, Case.HIDDEN, reason)

    def _failed(self, path: bytes, event: Event) -> None:
        self.say(path, Case.FAILED, event.reason)
        if event.trouble is not Trouble.NOT_EMPTY:
            return
        node = self.node(path)
        held = node.held.get(self.service)
        if held is None or held.version.kind is not Kind.DIRECTORY or node.head.kind is Kind.DIRECTORY:
            return
        if self._lives_below(path):
            self._revive(node, held.version)

    # --- directories on the way ---------------------------------------------------------------------------------

    def _raise_parents(self, path: bytes, seen: bytes) -> None:
        """What lives needs its directories (S1): one that was deleted, or replaced by a file, comes back."""
        for directory, spelled in zip(paths.ancestors(path), paths.ancestors(seen), strict=True):
            node = self.node(directory)
            if node.head.kind is Kind.DIRECTORY:
                return
            held = node.held.get(self.service)
            like = held.version if held is not None and held.version.kind is Kind.DIRECTORY else None
            # Whoever holds the file that is the head, and now something below it, has replaced it knowingly; but in
            # another Unicode form the directory stands beside the file (S1).
            knew = held is not None and same_content(held.version, node.head) is Same.YES
            knew = knew and held is not None and _spelling(held, directory) == spelled
            self._revive(node, like, keep=not knew)

    def _revive(self, node: Node, like: Version | None, keep: bool = True) -> None:
        if node.head.exists and keep:
            self._make_copy(node, node.head)
        mode = like.mode if like is not None and like.mode else 0o755
        self.put(self.crown(self.node(node.path), Version(Kind.DIRECTORY, mode=mode)))
        self.say(node.path, Case.REVIVED, "it holds something that is to stay")

    # --- what waits to be compared ----------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Decide what waited to be read, once it can be compared with the head or the head is no file any more (S1).

        What a service that is no source has of its own never becomes a version, so it stays undecided.
        """
        while (waiting := self._comparable()) is not None:
            path, self.service, held = waiting
            self._stands(path, Event(Seen.STANDS, _spelling(held, path), held.version, held.token))

    def _comparable(self) -> tuple[bytes, str, Holding] | None:
        for path, node in self.changed.items():
            for service, held in node.held.items():
                if held.version.seq or held.hidden or held.gone or not held.version.carries_value:
                    continue  # nearly all are decided
                known = same_content(held.version, node.head) is not Same.UNKNOWN
                if known and self.rules.readable(service):
                    return path, service, held
        return None

    # --- heads that nobody holds ------------------------------------------------------------------------------------

    def _rescue(self) -> None:
        """A head whose only holder replaced or hid it before anybody else got it can never be had again.

        Its own user destroyed it knowingly, or a rule hides it, so nothing is lost (S1); but nobody may wait for it for
        ever (S2): what the services hold there becomes the head again, or nothing. Where it comes to light again, no
        later head was made over it, so nobody has decided about it any more (S1).

        What only cannot be read is waited for: it was made knowing what it replaced, and when it can be read again, or
        is gone, that still counts (S4).
        """
        affected = dict.fromkeys(self.changed)
        for path in list(affected):
            affected.update(dict.fromkeys(self.changed[path].heirs))
        for path in affected:
            node = self.node(path)
            if node.head.kind is Kind.FILE and not self._held_anywhere(node):
                there = self._there(node)
                kept = [h.version for h in there if h.version.exists and h.version.seq and not h.hidden]
                best = max(kept, key=lambda version: version.seq, default=NOTHING)
                for above in self._origins(node):  # it may be hidden there, and has no copy any more
                    found = {s: _undecided(h, node.head) for s, h in above.held.items()}
                    if found != above.held:
                        self.put(replace(above, held=found))
                self._disinherit(node)
                held = {s: _undecided(h, node.head) for s, h in node.held.items()}
                self.put(replace(node, head=replace(best, seq=self.next()), held=held, origin=b"", since=best.seq))
                self.say(path, Case.WITHDRAWN, "nobody holds it any more")

    def _held_anywhere(self, node: Node) -> bool:
        places = [node, *self._origins(node)]
        held = (h for place in places for h in self._there(place) if h.unread or not h.hidden)
        return any(_may_be(h.version, node.head) for h in held if h is not self.displaced)

    def _there(self, node: Node) -> list[Holding]:
        """What is held by services from which it can be had: one that is not configured any more is remembered, too."""
        return [held for service, held in node.held.items() if service in self.rules.replicas]


def _same_again(held: Holding, version: Version, token: bytes) -> bool:
    """Whether the service was seen to hold just what it is known to hold."""
    if held.gone or held.hidden or not token or held.token != token or not held.version.seq:
        return False
    if not version.digests.keys() <= held.version.digests.keys():
        return False
    return same_content(held.version, version) is Same.YES and not held.version.meta_differs(version)


def _may_be(version: Version, head: Version) -> bool:
    """Whether this is the head's content, or a reading of it can still tell."""
    same = same_content(version, head)
    if same is not Same.UNKNOWN:
        return same is Same.YES
    return BLAKE3 in head.digests and BLAKE3 not in version.digests


def _undecided(held: Holding, withdrawn: Version) -> Holding:
    """The holding as if nothing was ever decided about it, where it is hidden and is what was withdrawn."""
    if not held.hidden or same_content(held.version, withdrawn) is Same.NO:
        return held
    return replace(held, version=held.version.given("", 0))


def _forgotten(node: Node, held: Holding) -> bool:
    """Whether nothing follows from what is known to be held: a rule hides it, or hid it when its head was withdrawn.
    What only could not be read is still known, where a user elsewhere deleted it, or replaced it (S4): then the head
    has a maker."""
    return held.hidden and not (held.unread and node.head.service)


def _with_mode(node: Node, mode: int) -> Node:
    """A directory that was made where no modes are kept gets the mode that the first service gave it which keeps them:
    it is nobody's change, and who holds the directory holds it so."""
    head = node.head.with_mode(mode)
    held = {name: replace(h, version=head) if h.version == node.head else h for name, h in node.held.items()}
    return replace(node, head=head, held=held)


def _touched(held: Holding, version: Version) -> bool:
    """Whether what stands there now is the version that was decided about, with another mode or time at most."""
    return held.version.seq > 0 and same_content(held.version, version) is Same.YES


def _spelling(held: Holding, path: bytes) -> bytes:
    return held.name or path
