"""inotify, on Trio: hints of everything that happens in a tree, renames paired, new directories watched as they come.

A watch descriptor belongs to a directory, not to a path, so the watched directories are kept as a tree of nodes: a
renamed directory is one node hung elsewhere, and all below it have their new paths at once.

The disk is ahead of the events that were read: what an event names may have been renamed since, and another directory
may have its name. So nothing is concluded from a path alone. Before anybody looks into a node's directory, its watch
descriptor shows whether it is that one which stands at the node's path; if it is not, the node is *unfinished*, and is
looked into once the events that explain it were taken.

What can go wrong is only ever a missed change, and a missed change only ever costs a scan: whenever the tree of nodes
may differ from the disk (overflow, limits, a race of renames), everything below is watched anew and a hint says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from types import TracebackType

import inotify_simple
import msgspec
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.plug.driver import Hint, HintKind

from . import syscalls
from .replica import Replica
from .tree import ABSENT

_F = inotify_simple.flags
_MASK = (
    _F.CREATE
    | _F.DELETE
    | _F.MODIFY
    | _F.CLOSE_WRITE
    | _F.ATTRIB
    | _F.MOVED_FROM
    | _F.MOVED_TO
    | _F.DELETE_SELF
    | _F.MOVE_SELF
    | _F.ONLYDIR
    | _F.EXCL_UNLINK
)
_LIMITS = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_PAIRING = 0.005  # both halves of a rename are queued by one system call; a read may only fall between them
_WRITING = 0.25  # of a file that is held open, a hint at most so often; its closing is told at once
_PROOF = 10.0  # a root that was unmounted or removed while it is held open sends no event: look now and then
_ACTING = 0.25
"""Seconds that orders have to be done before what they do is read: nothing can be told of it meanwhile, and each look
would keep them from the interpreter, which both need."""
_BUFFER = 64 * 1024
_LONGEST = 16 + 256  # bytes of an event with the longest name: after a read with room for it there is no more


class Node(msgspec.Struct, eq=False):
    """A watched directory."""

    wd: int
    name: bytes
    parent: Node | None
    children: dict[bytes, Node] = msgspec.field(default_factory=dict)

    @property
    def path(self) -> bytes:
        names: list[bytes] = []
        node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return b"/".join(reversed(names))

    def all(self) -> Iterator[Node]:
        """The node and all below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            yield node

    def detach(self) -> None:
        if self.parent is not None and self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]

    def attach(self, parent: Node, name: bytes) -> None:
        self.detach()
        self.parent, self.name = parent, name
        parent.children[name] = self


class Inotify:
    """Watches one tree; a context manager that owns the inotify descriptor. Raises `OSError` where there is none left.

    `limited` is set once the system allows no more watches.
    """

    def __init__(self, replica: Replica, hints: trio.MemorySendChannel[Hint]) -> None:
        self.limited = trio.Event()
        self._replica = replica
        self._tree = replica.tree
        self._hints = hints
        self._inotify = inotify_simple.INotify(nonblocking=True)
        self._nodes: dict[int, Node] = {}
        self._root: Node | None = None
        self._out: list[Hint] = []
        self._told: set[tuple[bytes, bool]] = set()
        self._unfinished: set[Node] = set()
        """Nodes whose directories did not stand at their paths when they were to be looked into."""
        self._writing: dict[bytes, float] = {}
        self._full = False
        self._lost = False

    def __enter__(self) -> Inotify:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inotify.close()

    async def run(self, ready: trio.Event) -> None:
        """Send hints until cancelled, or until the root is lost. `ready` is set once every directory is watched."""
        await self._in_thread(self._watch_all)
        await self._tell()
        ready.set()
        proof = trio.current_time() + _PROOF
        while not self._lost:
            await self._readable(min(self._writing.values(), default=proof), proof)
            await self._replica.wait_acted(_ACTING)
            events = self._read()
            if _half_a_rename(events):
                await self._readable(trio.current_time() + _PAIRING)
                events += self._read()
            now = trio.current_time()
            if self._unfinished or any(self._is_of_directory(event) for event in events):
                await self._in_thread(lambda events=events, now=now: self._take(events, now))  # type: ignore[misc]
            else:
                self._take(events, now)
            if now >= proof:
                await self._in_thread(self._prove)
                proof = trio.current_time() + _PROOF
            await self._tell()

    async def _readable(self, *until: float) -> None:
        with trio.move_on_at(min(until)):
            await trio.lowlevel.wait_readable(self._inotify.fileno())

    def _prove(self) -> None:
        try:
            self._tree.prove()
        except Unavailable:
            self._lose()

    async def _in_thread(self, act: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(act)

    async def _tell(self) -> None:
        if self._full:
            self.limited.set()
        out, self._out = self._out, []
        self._told.clear()
        for hint in out:
            try:
                self._hints.send_nowait(hint)  # together, so that they are looked at together
            except trio.WouldBlock:
                await self._hints.send(hint)

    def _read(self) -> list[inotify_simple.Event]:
        """All events that are there: who waited reads them at once, or the kernel would have no room for more."""
        pieces: list[bytes] = []
        try:
            while len(piece := os.read(self._inotify.fileno(), _BUFFER)) > _BUFFER - _LONGEST:
                pieces.append(piece)
            pieces.append(piece)
        except BlockingIOError:
            pass
        return [event for piece in pieces for event in inotify_simple.parse_events(piece)]

    # Events

    def _is_of_directory(self, event: inotify_simple.Event) -> bool:
        """Whether an event may mean that directories are to be watched."""
        if event.mask & _F.Q_OVERFLOW:
            return True
        if event.mask & _F.ISDIR:
            return bool(event.mask & (_F.CREATE | _F.MOVED_TO | _F.MOVED_FROM | _F.ATTRIB))
        node = self._nodes.get(event.wd) if event.mask & _F.MOVED_FROM else None
        return node is not None and os.fsencode(event.name) in node.children

    def _take(self, events: list[inotify_simple.Event], now: float) -> None:
        """Turn events into hints, in their order, and follow what they say about directories."""
        froms = {event.cookie: event for event in events if event.mask & _F.MOVED_FROM}
        tos = {event.cookie: event.wd for event in events if event.mask & _F.MOVED_TO}
        closed = {(event.wd, event.name) for event in events if event.mask & _F.CLOSE_WRITE}
        for event in events:
            if event.mask & _F.Q_OVERFLOW:
                self._watch_all()
                self._out.append(Hint(HintKind.OVERFLOW))
                continue
            node = self._nodes.get(event.wd)
            if node is None:
                continue
            name = os.fsencode(event.name)
            if not name:
                self._self(event, node)
            elif node is self._root and name == paths.PRIVATE:
                if event.mask & (_F.DELETE | _F.MOVED_FROM):
                    self._lose()  # whoever removes the root, which is held open, removes this with it
            elif event.mask & (_F.MOVED_FROM | _F.MOVED_TO):
                self._moved(event, node, name, froms, tos)
            else:
                self._named(event, node, name, now, (event.wd, event.name) in closed)
        self._finish()
        for path in [path for path, when in self._writing.items() if when <= now]:
            del self._writing[path]
            self._changed(path, writing=True)

    def _named(self, event: inotify_simple.Event, node: Node, name: bytes, now: float, closes: bool) -> None:
        """Something happened to a name. `closes`: these events also tell that a writer has closed it."""
        path, mask, directory = paths.join(node.path, name), event.mask, bool(event.mask & _F.ISDIR)
        if directory and (mask & _F.CREATE or (mask & _F.ATTRIB and name not in node.children)):
            self._watch_below(node, name)  # or of a directory that may be read only now
            self._changed(path, deep=True, directory=True)
        elif mask & _F.MODIFY or (mask & _F.CREATE and (closes or self._begun(path))):
            self._writing.setdefault(path, now + _WRITING)
        else:
            if mask & (_F.CLOSE_WRITE | _F.DELETE):
                self._writing.pop(path, None)
            self._changed(path, directory=directory)

    def _begun(self, path: bytes) -> bool:
        """Whether a new name is a file that somebody has only begun to write, and not a link."""
        try:
            with self._tree.place(path) as place:
                st = place.lstat()
        except OSError:
            return False
        return st is not None and stat.S_ISREG(st.st_mode) and st.st_nlink == 1

    def _moved(
        self,
        event: inotify_simple.Event,
        node: Node,
        name: bytes,
        froms: dict[int, inotify_simple.Event],
        tos: dict[int, int],
    ) -> None:
        path, directory = paths.join(node.path, name), bool(event.mask & _F.ISDIR)
        if event.mask & _F.MOVED_TO:
            self._moved_to(node, name, path, directory, froms.get(event.cookie))
        elif tos.get(event.cookie) not in self._nodes:  # it left the tree, or went where nobody watches any more
            if directory or name in node.children:
                self._left(node, name)
            self._changed(path, directory=directory)

    def _left(self, node: Node, name: bytes) -> None:
        """What stood at a name was renamed. A directory that stands there now may have come in exchange for it, and
        before it went."""
        known, there = node.children.get(name), self._look_for(node, name)
        if known is not None and known is not there:
            self._forget(known)
        if there is not None and there is not known:
            self._descend(there)
            self._changed(paths.join(node.path, name), deep=True, directory=True)

    def _moved_to(
        self, node: Node, name: bytes, path: bytes, directory: bool, before: inotify_simple.Event | None
    ) -> None:
        origin = self._nodes.get(before.wd) if before is not None else None
        old = os.fsencode(before.name) if before is not None else b""
        if origin is None or (origin is self._root and old == paths.PRIVATE):
            if directory:
                self._watch_below(node, name)
            self._changed(path, deep=directory, directory=directory)
            return
        source = paths.join(origin.path, old)
        self._told.clear()  # what was told of a name before it was moved is not what is to be told of it now
        self._out.append(Hint(HintKind.MOVED, path, source, directory=directory))
        if not directory:
            return
        moved = origin.children.get(old)
        replaced = node.children.get(name)
        if replaced is not None and replaced is not moved:
            self._forget(replaced)
        if moved is not None and not _below(node, moved):
            moved.attach(node, name)
        # Is the node that hangs there now the directory that stands there? A name can be used again before we look.
        there = self._look_for(node, name)
        if moved is None or (there is not None and there is not moved):
            if there is not None:
                self._descend(there)
            self._changed(path, deep=True, directory=True)
        self._left(origin, old)

    def _self(self, event: inotify_simple.Event, node: Node) -> None:
        """Something happened to a watched directory itself."""
        mask = event.mask
        if node is self._root:
            if mask & (_F.DELETE_SELF | _F.MOVE_SELF | _F.UNMOUNT | _F.IGNORED):
                self._lose()
        elif mask & (_F.UNMOUNT | _F.IGNORED):
            if mask & _F.UNMOUNT:
                self._changed(node.path, deep=True, directory=True)
            if self._nodes.get(event.wd) is node:
                del self._nodes[event.wd]
                node.detach()

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._out.append(Hint(HintKind.LOST))

    def _changed(self, path: bytes, deep: bool = False, directory: bool = False, writing: bool = False) -> None:
        """Tell once, until the next rename or the next read."""
        if (path, True) in self._told or (path, deep) in self._told:
            return
        self._told.add((path, deep))
        self._out.append(Hint(HintKind.CHANGED, path, deep=deep, directory=directory, writing=writing))

    # Watches

    def _watch_all(self) -> None:
        """Watch every directory of the tree; those that are watched stay so."""
        wd = self._add(self._tree.fd)
        if wd is None:
            if not self._full:
                self._lose()
            return
        if self._root is None or self._root.wd != wd:
            self._nodes.clear()
            self._root = self._nodes[wd] = Node(wd, b"", None)
        self._descend(self._root)

    def _watch_below(self, parent: Node, name: bytes) -> None:
        """Watch a directory that came, and all below it."""
        node = self._look_for(parent, name)
        if node is not None:
            self._descend(node)

    def _finish(self) -> None:
        """Look into the directories that did not stand where the events up to then had them. What was missed in them
        is told; those that still stand elsewhere wait for the next events."""
        unfinished, self._unfinished = self._unfinished, set()
        for node in unfinished:
            if self._nodes.get(node.wd) is node:
                self._descend(node)
                if node not in self._unfinished:
                    self._changed(node.path, deep=True, directory=True)

    def _descend(self, top: Node) -> None:
        """Watch everything below. A watch comes before the look at what it watches, so that nothing is missed."""
        stack = [top]
        while stack:
            trio.from_thread.check_cancelled()
            node = stack.pop()
            with self._opened(node) as fd:
                if fd is not None:
                    below = (self._hang(node, name, fd) for name in _directories(fd, node is self._root))
                    stack += [child for child in below if child is not None]

    def _look_for(self, parent: Node, name: bytes) -> Node | None:
        """Watch the directory that stands at a name; None where none does, or where its parent is unfinished."""
        with self._opened(parent) as fd:
            return self._hang(parent, name, fd) if fd is not None else None

    @contextlib.contextmanager
    def _opened(self, node: Node) -> Iterator[int | None]:
        """A node's directory, open for reading; None where it does not stand at the node's path, or cannot be read."""
        try:
            fd = syscalls.open_beneath(self._tree.fd, node.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in ABSENT:
                self._unfinished.add(node)
            else:
                self._bear(error)
            yield None
            return
        try:
            if self._add(fd) == node.wd:
                yield fd
            else:
                self._unfinished.add(node)
                yield None
        finally:
            os.close(fd)

    def _hang(self, parent: Node, name: bytes, directory: int) -> Node | None:
        """Watch what stands at a name in its parent's open directory; None where that is no directory (any more), or no
        watch is to be had."""
        try:
            fd = os.open(name, syscalls.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            self._bear(error)
            return None
        try:
            wd = self._add(fd)
        finally:
            os.close(fd)
        if wd is None:
            return None
        there, node = parent.children.get(name), self._nodes.get(wd)
        if there is not None and there is not node:
            self._forget(there)
        if node is None:
            node = self._nodes[wd] = Node(wd, name, parent)
            parent.children[name] = node
        elif node is not there and not _below(parent, node):
            node.attach(parent, name)
        return node

    def _add(self, fd: int) -> int | None:
        """Watch the directory of a descriptor, so that no link in its path can lead the watch out of the root. None
        where no watch is to be had."""
        try:
            wd: int = self._inotify.add_watch(syscalls.by_descriptor(fd), _MASK)
        except OSError as error:
            self._bear(error)
            return None
        return wd

    def _bear(self, error: OSError) -> None:
        """Go on after an error that only means that a directory cannot be watched; raise any other."""
        if error.errno in _LIMITS:
            self._full = True
        elif error.errno not in ABSENT and error.errno != errno.EACCES:
            raise error

    def _forget(self, node: Node) -> None:
        """Unwatch a directory that left the tree, and all below it."""
        node.detach()
        for gone in list(node.all()):
            if self._nodes.get(gone.wd) is gone:
                del self._nodes[gone.wd]
                with contextlib.suppress(OSError):  # it was deleted, so its watch went by itself
                    self._inotify.rm_watch(gone.wd)


def _directories(fd: int, root: bool) -> list[bytes]:
    """The names of the directories in an open one. `root`: it is the replica's own, in which one is ours."""
    with os.scandir(fd) as listing:
        names = [os.fsencode(item.name) for item in listing if item.is_dir(follow_symlinks=False)]
    return [name for name in names if not root or name != paths.PRIVATE]


def _below(node: Node, other: Node) -> bool:
    """Whether `node` is `other` or hangs below it: hanging `other` there would make a ring."""
    up: Node | None = node
    while up is not None:
        if up is other:
            return True
        up = up.parent
    return False


def _half_a_rename(events: list[inotify_simple.Event]) -> bool:
    """Whether a read ended between the halves of a rename (nearer to the start, the other half lies elsewhere)."""
    events = events[-16:]
    tos = {event.cookie for event in events if event.mask & _F.MOVED_TO}
    return any(event.mask & _F.MOVED_FROM and event.cookie not in tos for event in events)
