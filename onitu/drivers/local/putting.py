"""PUT: a file, a directory or a link takes its name, without a gap and without treading on anything."""

from __future__ import annotations

import contextlib
import os
import time
from contextlib import AbstractContextManager

import msgspec

from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Order
from onitu.model.versions import Kind, Same, Version, same_content
from onitu.plug.driver import Refused

from . import syscalls, tokens
from .answers import Looking, done, gone
from .content import Contents
from .holding import Held, held
from .journal import Record
from .meta import give_meta
from .tree import OpenPlace, Place


class Putting(Looking):
    """Carries out PUTs. `contents`: where the batch's content comes from."""

    contents: Contents
    made: list[bytes] = msgspec.field(default_factory=list)
    """Directories that the order under way needed above its paths."""

    def put(self, order: Order) -> list[Event]:
        if not order.expect:
            with self.place(order.path) as place:
                return self._put(order, place)
        try:
            with self.replica.tree.place(order.path) as place:
                return self._put(order, place)
        except OSError as error:
            return self.gone_or(order, error)

    def place(self, path: bytes) -> OpenPlace:
        """The place of a path; the directories above it are made where they are missing."""
        try:
            return self.replica.tree.place(path)
        except FileNotFoundError:
            self.made += self.limbo.make_parents(path)
            return self.replica.tree.place(path)

    def _put(self, order: Order, place: Place) -> list[Event]:
        looked = self.look(order, place)
        if isinstance(looked, list):
            return self._adopted(order, place) or looked
        if order.version.kind is Kind.DIRECTORY:
            return self._put_directory(order, place, looked)
        if order.version.kind is Kind.LINK and not self.replica.abilities.capabilities.links:
            raise Refused(Trouble.UNSUPPORTED, f"{self.replica.tree.root} cannot hold symbolic links")
        with self.contents.prepared(order, looked) as (source, mine):
            if looked is None:
                return self._place_new(order, place, source, mine)
            if tokens.kind_of(looked) is Kind.DIRECTORY:
                return self._replace_directory(order, place, source, mine)
            return self._replace(order, place, source, mine)

    # Directories

    def _adopted(self, order: Order, place: Place) -> list[Event]:
        """A directory that stands already where one is to be made."""
        st = place.lstat() if order.version.kind is Kind.DIRECTORY and not order.expect else None
        if st is None or tokens.kind_of(st) is not Kind.DIRECTORY:
            return []
        return self._directory_done(order, place)

    def _put_directory(self, order: Order, place: Place, st: os.stat_result | None) -> list[Event]:
        if st is not None and tokens.kind_of(st) is not Kind.DIRECTORY:
            return self._directory_over_file(order, place)
        if st is None:
            try:
                self.limbo.daring([place], lambda: os.mkdir(place.name, 0o777, dir_fd=place.fd))
            except FileExistsError:
                return self._adopted(order, place) or [self.found(order, place)]
        return self._directory_done(order, place)

    def _directory_done(self, order: Order, place: Place) -> list[Event]:
        give_meta(place, order.version)
        st = None if order.version.mode else place.lstat()
        event = done(order, tokens.DIRECTORY)
        if st is not None:  # it was made where no modes are kept
            event = msgspec.structs.replace(event, version=order.version.with_mode(st.st_mode & tokens.MODES))
        return [event]

    def _directory_over_file(self, order: Order, place: Place) -> list[Event]:
        tmp = self.replica.private.tmp
        source = Place(tmp, self.replica.scratch(), place.path)
        os.mkdir(source.name, 0o777, dir_fd=tmp)
        try:
            give_meta(source, order.version)
            return self._replace(order, place, source, os.stat(source.name, dir_fd=tmp))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(source.name, dir_fd=tmp)

    def _replace_directory(self, order: Order, place: Place, source: Place, mine: os.stat_result) -> list[Event]:
        """A file or link where a directory stands. `rmdir` is itself the compare-and-swap: it takes nothing along."""
        if not order.keep:
            self.limbo.daring([place], lambda: os.rmdir(place.name, dir_fd=place.fd))
            return self._place_new(order, place, source, mine)
        with self.place(order.keep) as target:
            self.limbo.daring([place, target], lambda: self.limbo.rename_new(place, target))
        kept = Event(Seen.DONE, order.keep, order.held or Version(Kind.DIRECTORY), tokens.DIRECTORY)
        return [kept, *self._place_new(order, place, source, mine)]

    # Files and links

    def _place_new(self, order: Order, place: Place, source: Place, mine: os.stat_result) -> list[Event]:
        """Let the prepared thing stand where nothing does."""
        try:
            self.limbo.daring([place], lambda: self.limbo.rename_new(source, place))
        except FileExistsError:
            return [self.found(order, place)]
        self.contents.taken(order)
        return [done(order, self._token(place, mine))]

    def _replace(self, order: Order, place: Place, source: Place, mine: os.stat_result) -> list[Event]:
        """Let the prepared thing change places with what stands there, and look at what came out."""
        record = self.limbo.journal.begin(self.record(order, order.version))
        slot = self.limbo.slot(record)
        os.rename(source.name, slot.name, src_dir_fd=source.fd, dst_dir_fd=slot.fd)
        failure: OSError | None = None
        with self.held(order, place) as still:
            try:
                self.limbo.daring([place], lambda: self._exchange(record, slot, place))
            except OSError as error:
                failure = error
            else:
                self.contents.taken(order)
                out = os.stat(slot.name, dir_fd=slot.fd, follow_symlinks=False)
                still.look(out)
        if failure is not None:
            os.rename(slot.name, source.name, src_dir_fd=slot.fd, dst_dir_fd=source.fd)
            self.limbo.forget(record)
            return self._not_exchanged(order, place, failure)
        if tokens.kind_of(out) is Kind.DIRECTORY:
            return self._undo(order, record, place)
        return [done(order, self._token(place, mine)), *self._displaced(order, record, out, still)]

    def _not_exchanged(self, order: Order, place: Place, error: OSError) -> list[Event]:
        if isinstance(error, FileNotFoundError):
            return [gone(order)]
        if isinstance(error, FileExistsError):
            return [self.found(order, place)]
        raise error

    def _exchange(self, record: Record, slot: Place, place: Place) -> None:
        if self.replica.abilities.exchange:
            syscalls.exchange(slot.fd, slot.name, place.fd, place.name)
            return
        # No such call here: the old thing steps aside first, so that at least nothing can be lost.
        aside = Place(slot.fd, slot.name + b".old", slot.path)
        os.rename(place.name, aside.name, src_dir_fd=place.fd, dst_dir_fd=aside.fd)
        try:
            self.limbo.rename_new(slot, place)
        except OSError:
            try:
                self.limbo.rename_new(aside, place)
            except OSError:
                self.limbo.later(msgspec.structs.replace(record, slot=record.slot + ".old"))
            raise
        os.rename(aside.name, slot.name, src_dir_fd=aside.fd, dst_dir_fd=slot.fd)

    def _undo(self, order: Order, record: Record, place: Place) -> list[Event]:
        """A directory came out where a file was expected: a user made it just now. It goes back. What then is in the
        slot is ours and superfluous, unless somebody was very quick: the look at the limbo tells."""
        try:
            slot = self.limbo.slot(record)
            self.limbo.daring([place], lambda: self._exchange(record, slot, place))
        finally:
            self.limbo.later(record)
        return [self.found(order, place)]

    def _displaced(self, order: Order, record: Record, out: os.stat_result, still: Held) -> list[Event]:
        """What came out is dropped (later, after a second look), kept as ordered, or a user's value that nobody had
        seen: a conflict copy (later, where somebody is still writing it)."""
        record, expected = self.came_out(record, out, still)
        if not order.keep and (expected or self.limbo.written(record)):
            self.limbo.later(record, out if still.still else None)
            return []
        return self.bring_back(order, record, out)

    def held(self, order: Order, place: Place) -> AbstractContextManager[Held]:
        """What the order found right, held still until the block's end, as far as it can be."""
        return held(place, order.expect, self.replica.abilities.leases)

    def record(self, order: Order, version: Version) -> Record:
        """What is to be known of what the order displaces."""
        expected = tokens.Identity.named(order.expect)
        return Record("", order.path, expected, order.held, version, order.keep, tokens.is_dirty(order.expect))

    def came_out(self, record: Record, out: os.stat_result, still: Held) -> tuple[Record, bool]:
        """Whether what came out is what was expected; the record as it is after that look. Where the file could be
        written meanwhile, only its content tells."""
        if still.still:
            return record, True
        if still.is_doubtful:
            record = msgspec.structs.replace(record, dirty=True)
        return record, self.limbo.expected(record, out)

    def bring_back(self, order: Order, record: Record, out: os.stat_result) -> list[Event]:
        """Give what came out a path again, and tell which."""
        try:
            path = self.limbo.bring_back(record, out)
        except OSError:
            self.limbo.later(record)  # it is tried again; a hint of the watcher then tells
            return []
        with self.replica.tree.place(path) as place:
            st = place.lstat()
            unchanged = st is not None and tokens.Identity.of(st) == record.expected and not record.dirty
            if path == order.keep and unchanged and st is not None and order.held is not None:
                return [Event(Seen.DONE, path, order.held, tokens.token_of(st))]
            also = self.also(place)
            if path == order.keep and order.held is not None:  # what a token does not prove, its content may
                same = (event for event in also if same_content(event.version, order.held) is Same.YES)
                also = [Event(Seen.DONE, path, order.held, event.token) for event in same] or also
            return also

    def _token(self, place: Place, mine: os.stat_result) -> bytes:
        """The token of what was just put, as it is now; dirty where it is already something else."""
        if tokens.kind_of(mine) is Kind.DIRECTORY:
            return tokens.DIRECTORY
        st = place.lstat()
        if st is None or not tokens.same_thing(st, mine):
            return tokens.dirty_token_of(mine)
        if not self.replica.abilities.fine and abs(time.time_ns() - st.st_mtime_ns) < tokens.TICK:
            return tokens.dirty_token_of(st)
        return tokens.token_of(st)
