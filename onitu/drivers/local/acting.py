"""Carrying out orders, each one a compare-and-swap on the disk.

Nothing is ever overwritten or unlinked in place. A new thing takes its name with a rename that refuses to replace, or
changes places with what stands there; what came out is looked at in the limbo, and only dropped where it is what the
order expected. A refused order is answered with what was found, and has changed nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence

import msgspec

from onitu.model import paths
from onitu.model.events import BESIDE, Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import NOTHING, Kind, Same, same_content
from onitu.plug.driver import Refused

from . import reading, tokens
from .answers import done, failed, gone, stands
from .content import Contents
from .limbo import Found
from .meta import Given, give_meta, has_meta
from .putting import Putting
from .replica import Replica
from .staging import StagedFile
from .tree import Check, Place
from .troubles import sentence, trouble_of

_DOING = {
    Do.PUT: "write",
    Do.DELETE: "delete",
    Do.MOVE: "move",
    Do.META: "set the mode and time of",
    Do.FINGERPRINT: "read",
}


class Stopped(Exception):
    """Raised by a `check`: the rest of the batch is not begun."""


class Performer(Putting):
    """Carries out one batch of orders on one replica, in one worker thread."""

    @classmethod
    def of(
        cls,
        replica: Replica,
        staged: Mapping[int, StagedFile],
        local: Mapping[int, Sequence[tuple[str, bytes, bytes]]],
        check: Check = reading.never,
    ) -> Performer:
        return cls(replica, check, Contents(replica, staged, local))

    def perform(self, orders: Sequence[Order]) -> list[list[Event]]:
        """The events of each order, one after the other. Once `check` raised `Stopped`, the rest fails as STOPPED."""
        with self.contents:
            return [self._one(order) for order in orders]

    def _one(self, order: Order) -> list[Event]:
        self.made.clear()
        events = self._tried(order)
        return [*self._beside(), *events] if self.made else events

    def _beside(self) -> list[Event]:
        """The directories that were made for the order: no user's, which is told before a watcher tells of them."""
        found = []
        for path in self.made:
            with contextlib.suppress(OSError), self.replica.tree.place(path) as place:
                st = place.lstat()
                if st is not None and tokens.kind_of(st) is Kind.DIRECTORY:
                    found.append(Event(Seen.STANDS, path, tokens.version_of(st), tokens.DIRECTORY, order=BESIDE))
        return found

    def _tried(self, order: Order) -> list[Event]:
        try:
            self.check()
            match order.do:
                case Do.PUT:
                    return self.put(order)
                case Do.DELETE:
                    return self._delete(order)
                case Do.MOVE:
                    return self._move(order)
                case Do.META:
                    return self._meta(order)
                case Do.FINGERPRINT:
                    return self._fingerprint(order)
        except Stopped:
            return [failed(order, Trouble.STOPPED, "the service is stopping")]
        except Refused as refusal:
            return [failed(order, refusal.trouble, refusal.reason)]
        except OSError as error:
            in_the_way = error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST)
            events = self.in_the_way(order.target or order.path) if in_the_way else []
            trouble = Trouble.NAME_CLASH if events else trouble_of(error)
            return [*events, failed(order, trouble, sentence(_DOING[order.do], order.path, error))]

    # DELETE

    def _delete(self, order: Order) -> list[Event]:
        try:
            with self.replica.tree.place(order.path) as place:
                looked = self.look(order, place)
                if isinstance(looked, list):
                    return looked
                if looked is None:
                    return [done(order, b"")]
                if tokens.kind_of(looked) is not Kind.DIRECTORY:
                    return self._take_away(order, place)
                self.limbo.daring([place], lambda: os.rmdir(place.name, dir_fd=place.fd))
                return [done(order, b"")]
        except OSError as error:
            answer = self.gone_or(order, error)
            return answer if order.expect else [done(order, b"")]

    def _take_away(self, order: Order, place: Place) -> list[Event]:
        """A deletion is a rename into the limbo, with a look at what came out."""
        record = self.limbo.journal.begin(self.record(order, NOTHING))
        slot = self.limbo.slot(record)
        with self.held(order, place) as still:
            try:
                self.limbo.daring([place], lambda: self.limbo.rename_new(place, slot))
            except OSError:
                self.limbo.forget(record)
                raise
            out = os.stat(slot.name, dir_fd=slot.fd, follow_symlinks=False)
            still.look(out)
        expected = False
        if tokens.kind_of(out) is not Kind.DIRECTORY:
            record, expected = self.came_out(record, out, still)
        if expected:
            if order.keep:
                return [done(order, b""), *self.bring_back(order, record, out)]
            self.limbo.later(record, out if still.still else None)
            return [done(order, b"")]
        extra = self.bring_back(order, msgspec.structs.replace(record, keep=b""), out)
        return [*[event for event in extra if event.path != order.path], self.found(order, place)]

    # MOVE

    def _move(self, order: Order) -> list[Event]:
        try:
            with self.replica.tree.place(order.path) as old:
                looked = self.look(order, old)
                if isinstance(looked, list):
                    return looked
                if looked is None:
                    return [gone(order)]
                with self.place(order.target) as new:
                    return self._rename(order, old, new, looked)
        except OSError as error:
            return self.gone_or(order, error)

    def _rename(self, order: Order, old: Place, new: Place, st: os.stat_result) -> list[Event]:
        out: os.stat_result | None = None
        with self.held(order, old) as still:
            stood = self._renamed(order, old, new, st)
            if stood and (out := new.lstat()) is not None:
                still.look(out)
        if not stood:
            return [*self.also(new), self.found(order, old)]
        if tokens.kind_of(st) is Kind.DIRECTORY:
            with contextlib.suppress(OSError):  # a mode that cannot be given is no reason to call the move failed
                give_meta(new, order.version)
            return [done(order, tokens.DIRECTORY)]
        if out is None:
            return self._went(order, st)
        expected = tokens.Identity.of(out) == tokens.Identity.of(st)
        doubtful = tokens.is_dirty(order.expect) or still.is_doubtful
        if expected and doubtful and order.held is not None:
            moved = self.limbo.found(new)
            if moved is None and new.lstat() is None:
                return self._went(order, out)
            expected = moved is not None and same_content(moved.version, order.held) is Same.YES
        if expected:
            try:
                return self._with_meta(order, new, out)
            except FileNotFoundError:
                if new.lstat() is not None:
                    raise
                return self._went(order, out)
        with contextlib.suppress(OSError):  # where it cannot go back, what stands at both names is told all the same
            self.limbo.daring([old, new], lambda: self.limbo.rename_new(new, old))
        return [*self.also(new), self.found(order, old)]

    def _went(self, order: Order, st: os.stat_result) -> list[Event]:
        """It was renamed, and a user took it away before it was looked at: a deletion of what was there, to be told as
        one, or it would be brought again (S4)."""
        return [done(order, tokens.token_of(st)), Event(Seen.GONE, order.target)]

    def _renamed(self, order: Order, old: Place, new: Place, st: os.stat_result) -> bool:
        """Rename it; False: something stands at the new name."""
        with contextlib.ExitStack() as stack:
            places = [old, new]
            if tokens.kind_of(st) is Kind.DIRECTORY:  # its entry `..` changes, so it has to be writable itself
                itself = stack.enter_context(self.replica.tree.directory(order.path))
                places.append(Place(itself, b".", paths.join(order.path, b".")))
            try:
                self.limbo.daring(places, lambda: self._rename_new(old, new, st))
            except FileExistsError:
                return False
        return True

    def _rename_new(self, old: Place, new: Place, st: os.stat_result) -> None:
        there = new.lstat() if not self.replica.tree.case_sensitive else None
        if there is not None and (there.st_ino, there.st_dev) == (st.st_ino, st.st_dev):
            os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd)  # only another spelling of one name
        else:
            self.limbo.rename_new(old, new)

    # META and FINGERPRINT

    def _meta(self, order: Order) -> list[Event]:
        try:
            with self.replica.tree.place(order.path) as place:
                looked = self.look(order, place)
                if isinstance(looked, list):
                    return looked
                if looked is None:
                    return [gone(order)]
                return self._with_meta(order, place, looked)
        except OSError as error:
            return self.gone_or(order, error)

    def _with_meta(self, order: Order, place: Place, before: os.stat_result) -> list[Event]:
        """Give what stands there mode and mtime. If it could have been written meanwhile, its content is compared."""
        if has_meta(order.version, before):
            return [done(order, tokens.token_of(before))]
        given = give_meta(place, order.version, before)
        if given is Given.SURELY:
            st = place.lstat()
            if st is not None and (st.st_ino, st.st_size) == (before.st_ino, before.st_size):
                return [done(order, tokens.token_of(st))]
        found = self.settled(place)
        if given is Given.NOT or same_content(found.version, order.version) is Same.NO:
            return self._other(order, found)
        return [done(order, found.token)]

    def _other(self, order: Order, found: Found) -> list[Event]:
        if order.do is Do.MOVE:
            return [stands(found), gone(order)]
        return [stands(found, order.number)]

    def _fingerprint(self, order: Order) -> list[Event]:
        try:
            with self.replica.tree.place(order.path) as place:
                return [self.found(order, place)]
        except OSError as error:
            return self.gone_or(order, error)
