"""What the machine may look at: the nodes at hand. Pure: what is not at hand is asked for by raising `Need`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onitu.model import paths
from onitu.model.nodes import Node


class Need(Exception):
    """A decision needs these nodes, or the children of these directories: load them and ask again."""

    def __init__(self, nodes: Iterable[bytes] = (), children: Iterable[bytes] = ()) -> None:
        super().__init__()
        self.nodes = tuple(nodes)
        self.children = tuple(children)


class View:
    """Nodes of one folder by path, those known not to exist among them (as empty nodes).

    The Referee is the only writer, so what is at hand stays true until the Referee itself changes it.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes = {node.path: node for node in nodes}
        self._children: dict[bytes, set[bytes]] = {}
        self._within: dict[bytes, set[bytes]] | None = None
        """The paths at hand by their directories; None until somebody asks for children, which is seldom."""

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: bytes) -> bool:
        return path in self._nodes

    def __getitem__(self, path: bytes) -> Node:
        try:
            return self._nodes[path]
        except KeyError:
            raise Need(nodes=(path,)) from None

    @property
    def nodes(self) -> Mapping[bytes, Node]:
        """All that is at hand, by path; never older than what the store has."""
        return self._nodes

    def children(self, directory: bytes) -> list[Node]:
        """Every node directly in the directory, by path."""
        try:
            known = self._children[directory]
        except KeyError:
            raise Need(children=(directory,)) from None
        return [self[path] for path in sorted(known)]

    def missing(self, wanted: Iterable[bytes]) -> list[bytes]:
        """Those of the paths that are not at hand."""
        return [path for path in wanted if path not in self._nodes]

    def load(self, wanted: Iterable[bytes], found: dict[bytes, Node]) -> None:
        """Take in what the store knows of these paths; what it does not know becomes an empty node."""
        for path in wanted:
            if path not in self._nodes:
                self._add(found.get(path) or Node(path))

    def take_in(self, found: Iterable[Node]) -> None:
        """Have these nodes of the store at hand, where they are not yet."""
        for node in found:
            if node.path not in self._nodes:
                self._add(node)

    def load_children(self, directory: bytes, found: Iterable[Node]) -> None:
        """Take in all that the store knows directly in the directory. A node at hand is newer than the store's."""
        self.take_in(found)
        if self._within is None:
            self._within = {}
            for path in self._nodes:
                self._within.setdefault(paths.parent(path), set()).add(path)
        known = self._within.get(directory, ())
        self._children[directory] = {path for path in known if not self._nodes[path].empty}

    def put(self, node: Node) -> None:
        """A node has changed."""
        if node.path in self._nodes:
            self._nodes[node.path] = node
        else:
            self._add(node)
        siblings = self._children.get(paths.parent(node.path)) if self._children else None
        if siblings is not None:
            (siblings.discard if node.empty else siblings.add)(node.path)

    def forget(self) -> None:
        """Drop everything that is at hand; it is loaded again when it is needed."""
        self._nodes.clear()
        self._children.clear()
        self._within = None

    def _add(self, node: Node) -> None:
        """One that was not at hand."""
        self._nodes[node.path] = node
        if self._within is not None:
            self._within.setdefault(paths.parent(node.path), set()).add(node.path)
