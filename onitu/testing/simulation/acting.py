"""Carrying out orders on a simulated disk, each a compare-and-swap, as the local driver does it.

The driver looks, and then acts; in between users may do something. A new thing takes its name only where nothing
stands; what is replaced comes out in the same instant and is looked at: a value that the order did not expect gets a
conflict name, and is told.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from blake3 import blake3

from onitu.model import paths
from onitu.model.conflicts import conflict_name
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind, Same, Version, same_content
from onitu.plug.driver import Refused

from .disk import Disk, Thing
from .tokens import DIRECTORY, dirty_token_of, identity_of, is_dirty, matches, read_token, token_of

if TYPE_CHECKING:
    from .driver import SimulatedDriver, StagedContent

Local = Sequence[tuple[str, bytes, bytes]]

_TROUBLES = {
    errno.ENOSPC: Trouble.NO_SPACE,
    errno.EACCES: Trouble.DENIED,
    errno.ENOTEMPTY: Trouble.NOT_EMPTY,
    errno.ENOTDIR: Trouble.NAME_CLASH,
    errno.EEXIST: Trouble.NAME_CLASH,
}


async def carry_out(driver: SimulatedDriver, order: Order, content: StagedContent | None, local: Local) -> list[Event]:
    """The events that tell what became of an order."""
    one = _One(driver, order, content, local)
    try:
        if driver.fails():
            raise Refused(Trouble.IO, "an input/output error")
        return await one.act()
    except Refused as refusal:
        return [Event(Seen.FAILED, order.path, trouble=refusal.trouble, reason=refusal.reason, order=order.number)]
    except OSError as error:
        trouble = _TROUBLES.get(error.errno or 0, Trouble.IO)
        failed = Event(Seen.FAILED, order.path, trouble=trouble, reason=str(error.strerror), order=order.number)
        return [*one.in_the_way(), failed]


@attrs.define
class _One:
    """One order."""

    driver: SimulatedDriver
    order: Order
    content: StagedContent | None
    local: Local

    @property
    def disk(self) -> Disk:
        return self.driver.host.disk

    async def act(self) -> list[Event]:
        self.enter()
        thing = self.disk.find(self.order.path)
        refused = self.refused(thing)
        await self.driver.pause()
        self.enter()
        if self.order.do is Do.PUT:
            if refused is not None:
                adopted = thing is not None and self.order.version.kind is Kind.DIRECTORY and not self.order.expect
                if thing is not None and adopted and thing.kind is Kind.DIRECTORY:
                    return self.give_directory(thing)
                return refused
            return self.put(thing)
        if refused is not None:
            return refused
        match self.order.do:
            case Do.DELETE:
                return self.delete(thing)
            case Do.MOVE:
                return self.move(thing)
            case Do.META:
                return self.meta(thing)
            case _:
                return [self.found()]

    def enter(self) -> None:
        """Raise EACCES where a directory may not be entered, or what is to be compared may not be read."""
        host, order = self.driver.host, self.order
        if any(host.out_of_reach(path) for path in (order.path, order.target, order.keep) if path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if self.order.do is Do.FINGERPRINT and host.unreadable(order.path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def refused(self, thing: Thing | None) -> list[Event] | None:
        """The answer where what stands is not what the order expects; None: it is."""
        order = self.order
        if thing is None:
            return [self.gone()] if order.expect else None
        if not order.expect or not matches(order.expect, thing):
            return [self.found()]
        if is_dirty(order.expect) and order.held is not None and order.held.kind is Kind.FILE:
            return [self.found()] if same_content(whole(thing), order.held) is Same.NO else None
        return None

    # --- PUT ----------------------------------------------------------------------------------------------------

    def put(self, thing: Thing | None) -> list[Event]:
        order, disk = self.order, self.disk
        if order.version.kind is Kind.DIRECTORY and thing is None:
            self.make_parents(order.path)
            try:
                disk.place(order.path, disk.make(Kind.DIRECTORY, mode=order.version.mode))
            except FileExistsError:
                there = disk.find(order.path)
                if there is None or there.kind is not Kind.DIRECTORY:
                    return [self.found()]
                return self.give_directory(there)
            return [self.done(DIRECTORY)]
        made = self.make()
        if thing is None:
            return self.place_new(made)
        if thing.kind is Kind.DIRECTORY:
            return self.replace_directory(made)
        return self.replace(made)

    def make(self) -> Thing:
        """What the order wants to stand, ready, beside the tree. Raises `Refused`."""
        version, disk = self.order.version, self.disk
        data = self.data() if version.kind is Kind.FILE else b""
        made = disk.make(version.kind, data, version.link, version.mode)
        if version.kind is not Kind.DIRECTORY:
            disk.give(b"", made, version.mode, version.mtime)
        return made

    def data(self) -> bytes:
        if self.content is not None:
            return bytes(self.content.data)
        for root, path, token in self.local:
            host = self.driver.hosts[root]
            thing = None if host.unreadable(path) else host.disk.find(path)
            as_told = thing is not None and thing.kind is Kind.FILE and matches(token, thing)
            if thing is not None and as_told and same_content(whole(thing), self.order.version) is Same.YES:
                return thing.data
        if self.order.version.size == 0:
            return b""
        raise Refused(Trouble.SOURCE_LOST, "no file on this host has it any more")

    def place_new(self, made: Thing) -> list[Event]:
        self.make_parents(self.order.path)
        try:
            self.disk.place(self.order.path, made)
        except FileExistsError:
            return [self.found()]
        self.taken()
        return [self.done(self.token_after(made))]

    def replace_directory(self, made: Thing) -> list[Event]:
        order, disk = self.order, self.disk
        if not order.keep:
            try:
                disk.remove_directory(order.path)
            except NotADirectoryError:
                return [self.found()]
            return self.place_new(made)
        self.make_parents(order.keep)
        disk.rename(order.path, order.keep)
        kept = Event(Seen.DONE, order.keep, order.held or Version(Kind.DIRECTORY), DIRECTORY)
        return [kept, *self.place_new(made)]

    def replace(self, made: Thing) -> list[Event]:
        order, disk = self.order, self.disk
        try:
            out = disk.exchange(order.path, made)
        except FileNotFoundError:
            return [self.gone()]
        if out.kind is Kind.DIRECTORY:
            disk.exchange(order.path, out)
            return [self.found()]
        self.taken()
        done = self.done(self.token_after(made))
        if not order.keep and (self.expected(out) or same_content(whole(out), order.version) is Same.YES):
            return [done]
        return [done, self.bring_back(out)]

    def expected(self, out: Thing) -> bool:
        """Whether what came out is what the order expected."""
        held = self.order.held
        if held is None or (held.kind is Kind.FILE and not held.digests):
            return identity_of(self.order.expect) == identity_of(token_of(out))
        return same_content(whole(out), held) is Same.YES

    def bring_back(self, out: Thing) -> Event:
        """Give what came out a name again: the one that the order has for it, else a conflict name."""
        order, host = self.order, self.driver.host
        own = [] if order.do is Do.PUT else [order.path]
        names = (conflict_name(order.path, host.name, out.mtime, n) for n in itertools.count(1))
        for path in itertools.chain([order.keep] if order.keep else own, names):
            try:
                self.make_parents(path)
                self.disk.place(path, out)
            except FileExistsError:
                continue
            if path == order.keep and self.expected(out) and order.held is not None:
                if not is_dirty(order.expect):
                    return Event(Seen.DONE, path, order.held, token_of(out))
                if order.held.digests:  # by which it was found to be what was expected
                    return Event(Seen.DONE, path, order.held, read_token(out, host.clock(), host.racy))
            return self.stands(path, out)
        raise AssertionError("the numbers never end")

    # --- DELETE, MOVE, META -------------------------------------------------------------------------------------

    def delete(self, thing: Thing | None) -> list[Event]:
        if thing is None:
            return [self.done(b"")]
        if thing.kind is Kind.DIRECTORY:
            try:
                self.disk.remove_directory(self.order.path)
            except NotADirectoryError:
                return [self.found()]
            return [self.done(b"")]
        try:
            out = self.disk.take(self.order.path)
        except FileNotFoundError:
            return [self.gone()]
        if self.expected(out):
            return [self.done(b"")] if not self.order.keep else [self.done(b""), self.bring_back(out)]
        back = self.bring_back(out)
        return [self.found()] if back.path == self.order.path else [back, self.found()]

    def move(self, thing: Thing | None) -> list[Event]:
        order, disk = self.order, self.disk
        if thing is None:
            return [self.gone()]
        before = identity_of(order.expect)  # not of the thing: a user may have written to it since it was looked at
        self.make_parents(order.target)
        try:
            disk.rename(order.path, order.target)
        except FileExistsError:
            there = disk.find(order.target)
            also = [self.stands(order.target, there)] if there is not None else []
            return [*also, self.found()]
        except FileNotFoundError:
            return [self.gone()]
        moved = disk.find(order.target)
        assert moved is not None
        if moved.kind is Kind.DIRECTORY:
            return [self.done(DIRECTORY)]
        as_held = order.held is None or same_content(whole(moved), order.held) is Same.YES
        if identity_of(token_of(moved)) != before or (is_dirty(order.expect) and not as_held):
            disk.rename(order.target, order.path)
            return [self.found()]
        disk.give(order.target, moved, order.version.mode, order.version.mtime)
        return [self.done(self.token_after(moved))]

    def meta(self, thing: Thing | None) -> list[Event]:
        there = self.disk.find(self.order.path)
        if there is None or thing is None:
            return [self.gone()]
        if there is not thing or (thing.kind is Kind.FILE and self.refused(thing) is not None):
            return [self.found()]
        self.disk.give(self.order.path, thing, self.order.version.mode, self.order.version.mtime)
        return [self.done(self.token_after(thing))]

    def give_directory(self, thing: Thing) -> list[Event]:
        self.disk.give(self.order.path, thing, self.order.version.mode, 0)
        return [self.done(DIRECTORY)]

    # --- answers ------------------------------------------------------------------------------------------------

    def done(self, token: bytes) -> Event:
        order = self.order
        self.driver.host.counts[order.do.name.lower()] += 1
        if order.do is Do.MOVE:
            return Event(Seen.DONE, order.target, order.version, token, source=order.path, order=order.number)
        return Event(Seen.DONE, order.path, order.version, token, order=order.number)

    def gone(self) -> Event:
        return Event(Seen.GONE, self.order.path, order=self.order.number)

    def found(self) -> Event:
        """What stands at the order's path, as its answer."""
        thing = self.disk.find(self.order.path)
        return self.gone() if thing is None else self.stands(self.order.path, thing, self.order.number)

    def stands(self, path: bytes, thing: Thing, number: int = 0) -> Event:
        host = self.driver.host
        return Event(Seen.STANDS, path, whole(thing), read_token(thing, host.clock(), host.racy), order=number)

    def in_the_way(self) -> list[Event]:
        """What stands above the order's path and is no directory: the Referee may not know it yet."""
        for ancestor in reversed(paths.ancestors(self.order.target or self.order.path)):
            thing = self.disk.find(ancestor)
            if thing is not None and thing.kind is not Kind.DIRECTORY:
                return [self.stands(ancestor, thing)]
        return []

    def token_after(self, thing: Thing) -> bytes:
        """The token of what was just written here."""
        host = self.driver.host
        if thing.kind is Kind.FILE and host.racy and abs(host.clock() - thing.mtime) < host.racy:
            return dirty_token_of(thing)
        return token_of(thing)

    def taken(self) -> None:
        if self.content is not None:
            self.driver.host.staged.pop(self.order.version.digests["blake3"], None)

    def make_parents(self, path: bytes) -> None:
        for ancestor in reversed(paths.ancestors(path)):
            if self.disk.find(ancestor) is None:
                self.disk.place(ancestor, self.disk.make(Kind.DIRECTORY, mode=0o755))


def whole(thing: Thing) -> Version:
    """The version of a thing, with its digest, as one look tells it (no time passes)."""
    match thing.kind:
        case Kind.FILE:
            return Version(Kind.FILE, len(thing.data), {"blake3": blake3(thing.data).digest()}, thing.mtime, thing.mode)
        case Kind.LINK:
            return Version(Kind.LINK, mtime=thing.mtime, link=thing.link)
        case _:
            return Version(Kind.DIRECTORY, mode=thing.mode)
