"""The answers to orders: what stands at a path, told so that it can be believed."""

from __future__ import annotations

import contextlib
import errno
import os

import msgspec

from onitu.model import paths
from onitu.model.events import Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind, Same, same_content
from onitu.plug.driver import Refused

from . import reading, tokens
from .limbo import Found, Limbo
from .replica import Replica
from .tree import ABSENT, Check, Place, special

_TRIES = 3


def done(order: Order, token: bytes) -> Event:
    """The order was carried out."""
    if order.do is Do.MOVE:
        return Event(Seen.DONE, order.target, order.version, token, source=order.path, order=order.number)
    return Event(Seen.DONE, order.path, order.version, token, order=order.number)


def stands(found: Found, number: int = 0) -> Event:
    """Something else was found (as the answer of order `number`), or came out (0)."""
    return Event(Seen.STANDS, found.path, found.version, found.token, order=number)


def gone(order: Order) -> Event:
    """Nothing stands where the order expects something."""
    return Event(Seen.GONE, order.path, order=order.number)


def failed(order: Order, trouble: Trouble, reason: str) -> Event:
    """The order was not carried out."""
    return Event(Seen.FAILED, order.path, trouble=trouble, reason=reason, order=order.number)


class Looking(msgspec.Struct):
    """Looks before an order acts, and tells what it found where it must not."""

    replica: Replica
    check: Check

    @property
    def limbo(self) -> Limbo:
        return self.replica.limbo

    def look(self, order: Order, place: Place) -> os.stat_result | list[Event] | None:
        """What stands at the order's path, if it is what the order expects; else the answer that refuses.

        A file that is to stand where nothing does is not looked for: the rename that gives it its name refuses.
        """
        new_file = not order.expect and order.do is Do.PUT and order.version.kind is Kind.FILE
        if new_file and self.replica.tree.case_sensitive and self.replica.abilities.capabilities.create_only:
            return None
        st = place.lstat()
        if st is not None and not self.replica.tree.spelled(place):
            raise Refused(
                Trouble.NAME_CLASH,
                f"{paths.show(order.path)} cannot stand beside a name that differs only in case or Unicode form",
            )
        if st is None:
            return None if not order.expect else [gone(order)]
        if not order.expect or not tokens.matches(order.expect, st):
            return [self.found(order, place)]
        if tokens.is_dirty(order.expect) and order.held is not None and order.held.kind is Kind.FILE:
            found = self.settled(place, self.check)
            if same_content(found.version, order.held) is Same.NO:
                return [stands(found, order.number)]
        return st

    def found(self, order: Order, place: Place) -> Event:
        """The answer to an order that met something else."""
        try:
            return stands(self.settled(place, self.check), order.number)
        except FileNotFoundError:
            return gone(order)

    def settled(self, place: Place, check: Check = reading.never) -> Found:
        """What stands at a place, with its digest.

        Raises `FileNotFoundError`; `Refused` where it keeps changing, or cannot be synchronised.
        """
        for _ in range(_TRIES):
            st = place.lstat()
            if st is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            kind = tokens.kind_of(st)
            if kind is Kind.NOTHING:
                raise Refused(Trouble.UNSUPPORTED, special(place.path, st))
            with contextlib.suppress(FileNotFoundError):
                if kind is not Kind.FILE:
                    link = place.readlink() if kind is Kind.LINK else b""
                    return Found(place.path, tokens.version_of(st, link), tokens.token_of(st))
                read = reading.read_settled(place, check, self.replica.abilities.fine)
                if read is not None:
                    return Found(place.path, tokens.version_of(read[0], blake3=read[1]), read[2])
        raise Refused(Trouble.IO, f"{paths.show(place.path)} changes faster than it can be read")

    def also(self, place: Place) -> list[Event]:
        """What stands at another place, as an extra event, if that can be told now (else the watcher will tell)."""
        found = self.limbo.found(place)
        return [stands(found)] if found is not None and found.version.exists else []

    def gone_or(self, order: Order, error: OSError) -> list[Event]:
        """GONE, if the error came because nothing stands at the order's path; else the error is raised again."""
        if error.errno not in ABSENT:
            raise error
        try:
            with self.replica.tree.place(order.path) as place:
                if place.lstat() is not None:
                    raise error
        except OSError as proof:
            if proof is error or proof.errno not in ABSENT:
                raise error from None
        return [gone(order)]

    def in_the_way(self, path: bytes) -> list[Event]:
        """What stands above a path that is no directory: the Referee may not know it yet."""
        for ancestor in reversed(paths.ancestors(path)):
            with contextlib.suppress(OSError), self.replica.tree.place(ancestor) as place:
                st = place.lstat()
                if st is not None and tokens.kind_of(st) is not Kind.DIRECTORY:
                    return self.also(place)
        return []
