"""One open replica: its tree, its private directory, its limbo, and what its file system can do."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from collections.abc import Iterator

import msgspec
import trio

from onitu.model.errors import Unavailable

from .limbo import Limbo
from .mounts import Mounts
from .private import USUAL, Abilities, Private, probe
from .tree import Tree

_FEW = 16
"""Orders of one batch for which nobody waits: they are carried out in a moment."""
_BETWEEN = 0.02
"""Seconds in which a batch of orders follows another where there are many."""


class Replica(msgspec.Struct):
    """What `identify` opens and the driver's end closes. `acted`: set once many orders that are carried out now are;
    None: there were none yet."""

    tree: Tree
    private: Private
    abilities: Abilities
    limbo: Limbo
    umask: int
    mounts: Mounts
    acted: trio.Event | None = None
    _parts: set[str] = msgspec.field(default_factory=set)
    _left: dict[bytes, str] = msgspec.field(default_factory=dict)
    """By path, the partial content of the last version that was on its way to it and did not arrive."""
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _numbers: itertools.count[int] = msgspec.field(default_factory=itertools.count)

    @classmethod
    def meet(cls, root: str, service: str, small: int, create: bool = False) -> Replica:
        """As `open`; but where there is no marker, only look: it may be a mount point whose disk is missing, in which
        nothing is to be made before somebody said that it is a replica (`born` tells)."""
        if create:
            with contextlib.suppress(OSError):  # opening it then tells why
                os.makedirs(root, exist_ok=True)
        replica = cls.open(root, service, small, look_only=True)
        if not replica.private.identity.marker:
            return replica
        replica.close()
        return cls.open(root, service, small)

    @property
    def born(self) -> bool:
        """Whether it is open for more than a look."""
        return self.private.tmp >= 0

    @classmethod
    def open(cls, root: str, service: str, small: int, create: bool = False, look_only: bool = False) -> Replica:
        """Take the replica: lock, marker, what an earlier life left in `.onitu`. Raises `Unavailable`.

        `look_only`: nothing is made, swept or settled; the file system is taken for a usual one.
        """
        if create and not look_only:
            with contextlib.suppress(OSError):  # opening it then tells why
                os.makedirs(root, exist_ok=True)
        with contextlib.ExitStack() as undo:
            tree = Tree.open(root)
            undo.callback(tree.close)
            private = Private.looking(tree) if look_only else Private.open(tree)
            undo.callback(private.close)
            try:
                if not look_only:
                    private.sweep()
                abilities = USUAL if look_only else probe(private)
                tree.case_sensitive = abilities.capabilities.case_sensitive
                limbo = Limbo(private, service, abilities.fine, small)
                if not look_only:
                    limbo.open()
            except OSError as error:
                raise Unavailable(f"the replica {root} cannot be used: {(error.strerror or '').lower()}") from None
            undo.pop_all()
        return cls(tree, private, abilities, limbo, _umask(), Mounts(private))

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.tree.close)
            stack.callback(self.private.close)
            if self.private.limbo >= 0:
                stack.callback(self.limbo.close)

    @contextlib.contextmanager
    def acting(self, orders: int) -> Iterator[None]:
        """So many orders are carried out in this block."""
        acted = trio.Event()
        if orders > _FEW:
            self.acted = acted
        try:
            yield
        finally:
            acted.set()

    async def wait_acted(self, seconds: float) -> None:
        """Where many orders are carried out now, wait until they are, and no more come at once; for so long at most."""
        with trio.move_on_after(seconds):
            while self.acted is not None and not self.acted.is_set():
                await self.acted.wait()
                await trio.sleep(_BETWEEN)

    def scratch(self) -> bytes:
        """A new name in `.onitu/tmp`, of which nothing outlives this process."""
        return b"%d.new" % next(self._numbers)

    def take_part(self, stem: str) -> str:
        """A name for partial content, until `give_part` for one only: two orders may bring the same content."""
        with self._lock:
            names = itertools.chain([f"{stem}.part"], (f"{stem}.{n}.part" for n in itertools.count(2)))
            name = next(name for name in names if name not in self._parts)
            self._parts.add(name)
            return name

    def give_part(self, name: str) -> None:
        with self._lock:
            self._parts.discard(name)

    def leave_part(self, path: bytes, name: str) -> None:
        """It did not arrive, and may be gone on with. Empty: nothing is left for the path."""
        with self._lock:
            self._left.pop(path, None)
            if path and name:
                self._left[path] = name

    def outdated_part(self, path: bytes, name: str) -> str:
        """What is left of an earlier version, now that one with another name is on its way; empty: nothing. A file that
        is edited while it is sent, again and again, would fill the disk with what nobody will ask for any more."""
        with self._lock:
            left = self._left.pop(path, "")
            return left if left != name and left not in self._parts else ""


def _umask() -> int:
    """The process's umask, without the moment in which `os.umask` has changed it under the other threads."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        if found := re.search(r"^Umask:\s*([0-7]+)", file.read(), re.MULTILINE):
            return int(found[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
