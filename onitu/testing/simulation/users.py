"""Users: they do what the script says on a disk, as far as it can be done there, and write down what they did.

A path of the script may stand in another Unicode form on a disk: users take it for what they mean. In their record, and
in what the oracle sees of a disk, each path is its `key`, as it is for Onitu.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import msgspec

from onitu.model import paths
from onitu.model.versions import Kind
from onitu.testing.spec import History, Item, Tree, link_value, recognise, render
from onitu.testing.spec import Kind as ItemKind

from .disk import Disk, Thing
from .script import Step


class Users:
    """Everybody who uses the services; they share one record of their deeds.

    Attributes:
        history: what they did.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.history = History()
        self._now = now
        self._values = 0

    def act(self, replica: str, disk: Disk, step: Step, decomposed: bool = False) -> str:
        """Do one step. What came of it, in a few words; what cannot be done is left. `decomposed`: how they write what
        does not stand there yet."""
        do: Callable[[str, Disk, bytes, Step], None] = getattr(self, "_" + step.what)
        path, target = (spelled(disk, name, decomposed) for name in (step.path, step.target))
        before = len(self.history)
        try:
            do(replica, disk, path, msgspec.structs.replace(step, target=target.decode()))
        except OSError as error:
            return str(error.strerror).lower()
        return "; ".join(deed.words() for deed in list(self.history)[before:]) or "nothing to do"

    # --- what they can do ---------------------------------------------------------------------------------------

    def _write(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        """Write a file in place, or a new one."""
        self._make_parents(replica, disk, path)
        there, token = disk.find(path), self._token()
        data = render(token, step.size)
        if there is not None and there.kind is Kind.FILE:
            before = recognise(disk.write(path, data))[0]
            self.history.write(replica, known(path), token, before, at=self._now())
        elif there is None:
            disk.place(path, disk.make(Kind.FILE, data))
            self.history.write(replica, known(path), token, at=self._now())

    def _replace(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        """Write beside it and let both change places, as careful programs do."""
        there, token = disk.find(path), self._token()
        if there is None or there.kind is Kind.DIRECTORY:
            self._write(replica, disk, path, step)
            return
        out = disk.exchange(path, disk.make(Kind.FILE, render(token, step.size)))
        self.history.write(replica, known(path), token, value_of(out), at=self._now())

    def _link(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        target = f"to-{self._token()}"
        if disk.find(path) is None and self._make_parents(replica, disk, path):
            disk.place(path, disk.make(Kind.LINK, link=target.encode(), mode=0))
            self.history.write(replica, known(path), link_value(target), at=self._now())

    def _delete(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        thing = disk.find(path)
        if thing is not None and thing.kind is not Kind.DIRECTORY:
            disk.take(path)
            self.history.delete(replica, known(path), value_of(thing) or "", at=self._now())

    def _rmdir(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        """Remove a directory with all that is in it."""
        thing = disk.find(path)
        if thing is None or thing.kind is not Kind.DIRECTORY:
            return
        for inner, there in reversed(list(disk.walk(path))):
            if there.kind is Kind.DIRECTORY:
                disk.take(inner)
                self.history.rmdir(replica, known(inner), at=self._now())
            else:
                self._delete(replica, disk, inner, step)
        disk.take(path)
        self.history.rmdir(replica, known(path), at=self._now())

    def _mkdir(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        if disk.find(path) is None and self._make_parents(replica, disk, path):
            disk.place(path, disk.make(Kind.DIRECTORY, mode=0o755))
            self.history.mkdir(replica, known(path), at=self._now())

    def _rename(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        """Rename a thing to where nothing stands."""
        target = step.target.encode()
        if disk.find(path) is not None and disk.find(target) is None and not paths.within(target, path):
            self.rename(replica, disk, path, target)

    def rename(self, replica: str, disk: Disk, path: bytes, target: bytes) -> None:
        """Rename what stands at a path to where nothing does."""
        thing = disk.find(path)
        assert thing is not None
        self._make_parents(replica, disk, target)
        inside = list(disk.walk(path))
        disk.rename(path, target)
        self.history.rename(replica, known(path), known(target), value_of(thing), at=self._now())
        for inner, there in inside:
            moved = target + inner[len(path) :]
            self.history.rename(replica, known(inner), known(moved), value_of(there), at=self._now())

    def _swap(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        """Let a directory stand where a file does, or the other way round."""
        thing = disk.find(path)
        if thing is not None and thing.kind is Kind.DIRECTORY:
            self._rmdir(replica, disk, path, step)
            self._write(replica, disk, path, step)
        elif thing is not None:
            self._delete(replica, disk, path, step)
            self._mkdir(replica, disk, path, step)

    def _copy(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        """Copy a file, so that its content stands twice."""
        thing, target = disk.find(path), step.target.encode()
        if thing is not None and thing.kind is Kind.FILE and disk.find(target) is None:
            self._make_parents(replica, disk, target)
            disk.place(target, disk.make(Kind.FILE, thing.data))
            self.history.write(replica, known(target), value_of(thing) or "", at=self._now())

    def _touch(self, replica: str, disk: Disk, path: bytes, step: Step) -> None:
        thing = disk.find(path)
        if thing is not None and thing.kind is not Kind.LINK:
            mode = thing.mode ^ 0o010 if step.size % 3 == 0 else thing.mode
            disk.give(path, thing, mode, disk.stamp())
            self.history.touch(replica, known(path), at=self._now())

    def _make_parents(self, replica: str, disk: Disk, path: bytes) -> bool:
        """Whether the directories above stand now; ENOTDIR comes later."""
        for directory in reversed(paths.ancestors(path)):
            if disk.find(directory) is None:
                disk.place(directory, disk.make(Kind.DIRECTORY, mode=0o755))
                self.history.mkdir(replica, known(directory), at=self._now())
        return True

    def _token(self) -> str:
        self._values += 1
        return f"v{self._values}"

    def part(self, replica: str, disk: Disk) -> bool:
        """Give one of two things whose names differ in their Unicode form only another name. Whether there were any."""
        seen: set[bytes] = set()
        for path, _ in list(disk.walk()):
            if paths.key(path) in seen:
                self.rename(replica, disk, path, b"%b %b" % (path, self._token().encode()))
                return True
            seen.add(paths.key(path))
        return False


def spelled(disk: Disk, path: str, decomposed: bool = False) -> bytes:
    """The path as it stands on a disk, in whatever Unicode form; what does not stand there yet is written in one."""
    found = b""
    for name in path.split("/") if path else ():
        own = unicodedata.normalize("NFD" if decomposed else "NFC", name).encode()
        above = disk.find(found)
        there = above.entries if above is not None else {}
        others = sorted(other for other in there if paths.key(other) == paths.key(own))
        found = paths.join(found, others[0] if own not in there and others else own)
    return found


def known(path: bytes) -> str:
    """The path as everybody knows it."""
    return paths.key(path).decode()


def value_of(thing: Thing) -> str | None:
    """A file's or link's value; None for a directory."""
    match thing.kind:
        case Kind.FILE:
            return recognise(thing.data)[0]
        case Kind.LINK:
            return link_value(thing.link.decode())
        case _:
            return None


def tree_of(disk: Disk) -> Tree:
    """What stands on a disk, for the oracle."""
    found: dict[str, Item] = {}
    for path, thing in disk.walk():
        if thing.kind is Kind.DIRECTORY:
            found[known(path)] = Item(ItemKind.DIRECTORY)
        elif thing.kind is Kind.LINK:
            found[known(path)] = Item(ItemKind.LINK, value_of(thing))
        else:
            value, parts = recognise(thing.data)
            found[known(path)] = Item(ItemKind.FILE, value, parts)
    return found
