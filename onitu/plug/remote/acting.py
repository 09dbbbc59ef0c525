"""Carrying out orders on a service, each as much of a compare-and-swap as the service allows.

Three kinds of service, by their capabilities:

- with compare-and-swap, each change names the token that it replaces, and the service refuses where another stands;
- without, but with renames: what is replaced or deleted first steps aside into `.onitu/limbo`, and is looked at there.
  It is dropped where it is what the order expected; else it is a user's value that nobody had seen, and gets a conflict
  name (S1). What remains is a gap in which nothing stands at the path, and a program that goes on writing to a file
  that it had opened before;
- without both: the look is repeated immediately before the change. Between the two lies the window of one request in
  which a user's write is lost; the documentation of such a driver says so.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec
import trio
from msgspec.structs import replace

from onitu.model import paths
from onitu.model.conflicts import conflict_name
from onitu.model.errors import Unavailable
from onitu.model.events import BESIDE, Event, Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Same, Version, same_content
from onitu.plug.driver import Entry, Refused

from .content import Content
from .interface import NOTHING_THERE, Busy, Changed, Missing, Posting, Thing
from .limbo import UNDO, UNSURE, Limbo, by_content, by_token
from .replica import DIRECTORY, Replica, dirty_token_of, entry_of, is_dirty, matches, token_of
from .spool import Batch

T = TypeVar("T")

_TRIES = 3
READ = 128 * 1024
"""Bytes up to which a file is read before it is dropped, where its token proves little."""


class _InTheWay(Exception):
    """What stands above a path and is no directory."""

    def __init__(self, entry: Entry | None) -> None:
        self.entry = entry


class Brought(msgspec.Struct, frozen=True):
    """A content that is in `.onitu/tmp` of the service. `thing`: what was seen there; `taken`: the name that was taken
    for it (`Limbo.take_tmp`)."""

    path: bytes
    thing: Thing
    taken: bytes


class Acting(msgspec.Struct):
    """Carries out one order. `content`: of a PUT of a file; `prepared`: what the service has of it already."""

    replica: Replica
    limbo: Limbo
    service: str
    order: Order
    content: Content | None = None
    prepared: object = None
    batch: Batch = msgspec.field(default_factory=Batch)
    """Has the content of a small PUT without one."""
    used: bool = False
    """Whether what was brought ahead is used up."""
    _own: bytes = b""
    _made: dict[bytes, Thing] = msgspec.field(default_factory=dict)
    _asides: list[bytes] = msgspec.field(default_factory=list)
    """Where to something stepped aside."""
    _back: list[Event] = msgspec.field(default_factory=list)
    """What came back from where it had stepped aside."""

    async def carry_out(self) -> list[Event]:
        """The events that tell what became of it. Raises nothing."""
        try:
            events = await self._act()
        except _InTheWay as way:
            brought = paths.show(self.order.target or self.order.path)
            reason = f"{self.service}: a parent of {brought} is no directory"
            events = [*([_stands(way.entry)] if way.entry else []), self._failed(Trouble.NAME_CLASH, reason)]
        except Refused as refusal:
            events = [self._failed(refusal.trouble, refusal.reason)]
        except Unavailable as error:
            events = [self._failed(Trouble.UNAVAILABLE, str(error))]
        except (Missing, Changed):
            reason = f"{self.service}: {paths.show(self.order.path)} changes faster than it can be looked at"
            events = [self._failed(Trouble.IO, reason)]
        finally:
            self.limbo.leave(self._asides)
        if self.replica.folds:
            self._note_names(events)
        for directory in self.replica.remote.take_made():
            self._made.setdefault(directory, Thing(Kind.DIRECTORY))
        made = (Version(Kind.DIRECTORY, mode=thing.mode) for thing in self._made.values())
        beside = [
            Event(Seen.STANDS, path, version, DIRECTORY, order=BESIDE)
            for path, version in zip(self._made, made, strict=True)
        ]
        return [*beside, *self._back, *events]

    def _note_names(self, events: Sequence[Event]) -> None:
        """What was done is known of the names that stand there."""
        spelling = self.replica.spelling
        for event in (*self._back, *events):
            if event.seen is Seen.DONE and event.source:
                spelling.take(event.source)
            if event.seen is Seen.DONE and not event.version.exists:
                spelling.take(event.path)
            elif event.seen is Seen.DONE:
                spelling.put(event.path)
        for directory in self._made:
            spelling.put(directory)

    def may_post(self) -> bool:
        """Whether the order brings a file that a thread may put, if it is small."""
        replica, plain = self.replica, self.order.do is Do.PUT and self.prepared is None
        return plain and replica.remote.posts and not replica.calls.up.limits and self._swaps_at_once()

    def posting(self) -> Posting | None:
        """What puts it from a thread; None: it takes more than that."""
        try:
            return self.replica.remote.posting(self.order.path, self.order.version, self._expected())
        except Refused:
            return None

    def posted(self, thing: Thing) -> list[Event]:
        """The events, where that put it."""
        self.replica.calls.count("written_bytes", self.order.version.size)
        self.used = True
        return [self._done(thing)]

    def _expected(self) -> bytes:
        """The token of what a file replaces."""
        return self.order.expect[1:] if self.order.expect else NOTHING_THERE

    async def _act(self) -> list[Event]:
        order = self.order
        for path in filter(None, (order.path if order.do is Do.PUT else b"", order.target, order.keep)):
            try:
                self.replica.remote.check_name(path)  # later, what stands there would have stepped aside
            except Refused as error:
                sentence = f"{self.service}: cannot write {paths.show(path)}: {error.reason}"
                raise Refused(error.trouble, sentence) from error
        if self.replica.folds:
            await self._check_case()
        if self._swaps_at_once():
            return await self._swap()
        if self._creates_at_once():
            return await self._put(None)
        thing = await self.replica.stat(order.path)
        refused = await self._refused(thing)
        if order.do is Do.PUT and order.version.kind is Kind.DIRECTORY and not order.expect:
            return await self._put_directory(thing)
        if refused is not None:
            return refused
        match order.do:
            case Do.PUT:
                return await self._put(thing)
            case Do.DELETE:
                return await self._delete(thing)
            case Do.MOVE:
                return [self._gone()] if thing is None else await self._move(thing)
            case Do.META:
                return [self._gone()] if thing is None else [await self._give_meta(order.path, thing)]
            case Do.FINGERPRINT:
                return [await self._found(read=True)]

    def _swaps_at_once(self) -> bool:
        """Whether the service itself compares all that is to be compared, so that no look is needed before."""
        order = self.order
        files = order.version.kind is Kind.FILE and order.do is Do.PUT
        deletes = order.do is Do.DELETE and order.expect and order.held is not None and order.held.kind is Kind.FILE
        plain = not order.keep and order.expect != DIRECTORY and not is_dirty(order.expect)
        able = self.replica.capabilities
        proven = not (self._by_time and order.expect and order.held is not None and order.held.size <= READ)
        return bool(able.compare_and_swap and able.case_sensitive and plain and proven and (files or deletes))

    def _creates_at_once(self) -> bool:
        """Whether the service itself refuses where anything stands at the path of a new file, which is renamed into
        place, so that no look is needed before: only where it refuses is there one."""
        order, able = self.order, self.replica.capabilities
        new = order.do is Do.PUT and order.version.kind is Kind.FILE and not (order.expect or order.keep)
        return new and able.create_only and able.moves and able.case_sensitive

    async def _check_case(self) -> None:
        """Raise `Refused` where what the service takes for a path that the order brings something to is spelled in
        another way: it would be lost, or what is brought would be found under its name."""
        order = self.order
        for path in (order.path if order.do is Do.PUT else b"", order.target, order.keep):
            spelled, _ = await self.replica.spelling.find(path) if path else (path, False)
            if spelled not in (path, order.path if order.do is Do.MOVE else path):
                ways = (reversed([way, *paths.ancestors(way)]) for way in (path, spelled))
                asked, there = next(pair for pair in zip(*ways, strict=True) if pair[0] != pair[1])
                both = f"{paths.show(asked)} and {paths.show(there)}, which stands there"
                raise Refused(Trouble.NAME_CLASH, f"{self.service}: the service takes {both}, for one name")

    async def _swap(self) -> list[Event]:
        order, remote, token = self.order, self.replica.remote, self._expected()
        try:
            if order.do is Do.PUT:
                return [self._done(await self._with_parents(order.path, lambda: self._write(order.path, token)))]
            await self.replica.calls.call("delete", order.path, lambda: remote.delete(order.path, token))
        except Changed:
            return [await self._found()]
        except Missing:
            if not order.expect:
                raise
            return [await self._found()]
        return [self._done(None)]

    async def _refused(self, thing: Thing | None) -> list[Event] | None:
        """The answer where what stands is not what the order expects; None: it is."""
        order = self.order
        if thing is None:
            return [self._gone()] if order.expect else None
        if not order.expect or not matches(order.expect, thing):
            return [await self._found()]
        unread = is_dirty(order.expect) or (self.replica.capabilities.compare_and_swap and not self._is_proof(thing))
        if unread and not await self._as_held(order.path, thing):
            return [await self._found(read=True)]
        return None

    async def _as_held(self, path: bytes, thing: Thing) -> bool:
        """Whether a file has the content that the order expects, where that is known."""
        held = self.order.held
        if held is None or held.kind is not Kind.FILE or thing.kind is not Kind.FILE:
            return True
        read = await self.replica.settled(path, thing)
        return read is not None and same_content(read.version, held) is not Same.NO

    # --- PUT ----------------------------------------------------------------------------------------------------

    async def _put_directory(self, thing: Thing | None) -> list[Event]:
        if thing is None:
            try:
                await self._with_parents(self.order.path, self._make_directory)
                return [await self._give_meta(self.order.path, Thing(Kind.DIRECTORY))]
            except Changed:
                thing = await self.replica.stat(self.order.path)
        if thing is None or thing.kind is not Kind.DIRECTORY:
            return [await self._found()]
        return [await self._give_meta(self.order.path, thing)]

    async def _make_directory(self) -> None:
        path = self.order.path
        await self.replica.calls.call("make", path, lambda: self.replica.remote.make_directory(path))

    async def _put(self, thing: Thing | None) -> list[Event]:
        order, able = self.order, self.replica.capabilities
        if order.version.kind is Kind.LINK and not able.links:
            raise Refused(Trouble.UNSUPPORTED, f"{self.service} cannot hold symbolic links")
        if not (able.compare_and_swap or not able.moves or order.version.kind is Kind.DIRECTORY):
            await self.bring()  # before room is made, so that little can go wrong after that
        aside: list[Event] = []
        if thing is not None and (order.keep or thing.kind is Kind.DIRECTORY or order.version.kind is Kind.DIRECTORY):
            kept = await self._make_room(thing)
            if kept is None:
                return [await self._found()]
            aside, thing = kept, None
        try:
            if order.version.kind is Kind.DIRECTORY:
                return [*aside, *await self._put_directory(None)]
            if able.compare_and_swap or not able.moves:
                return [*aside, *await self._put_in_place(thing)]
            return [*aside, *await self._put_by_rename(thing)]
        except (Changed, Missing) as error:
            if isinstance(error, Missing) and not order.expect:
                raise
            return [*aside, await self._found()]
        except (Refused, Unavailable) as error:
            if not aside:
                raise
            trouble = error.trouble if isinstance(error, Refused) else Trouble.UNAVAILABLE
            return [*aside, self._failed(trouble, str(error))]

    async def _make_room(self, thing: Thing) -> list[Event] | None:
        """What is expected at the path leaves it, to where it is to be kept; None: it is not that any more."""
        order, calls, remote = self.order, self.replica.calls, self.replica.remote
        if order.keep:
            try:
                there = await self._move_to(order.keep, thing)
            except Changed:
                return None
            held = order.held or entry_of(order.keep, there).version
            return [Event(Seen.DONE, order.keep, held, token_of(there))]
        if thing.kind is Kind.DIRECTORY:
            await calls.call("remove", order.path, lambda: remote.remove_directory(order.path))
            return []
        events = await self._take_away(thing)
        return None if any(event.order == order.number for event in events) else events

    async def _put_in_place(self, thing: Thing | None) -> list[Event]:
        """In one request, which compares and swaps where the service can; else after another look."""
        expect = NOTHING_THERE if thing is None else thing.token
        look = None if self.replica.capabilities.compare_and_swap else partial(self._look_again, thing)
        write = partial(self._write, self.order.path, expect, look)
        return [self._done(await self._with_parents(self.order.path, write))]

    async def _look_again(self, thing: Thing | None) -> None:
        """Raise `Changed` where something else stands at the path than this. Part of each try of a call that cannot
        compare: a user may have written since the one before, whose answer did not come."""
        remote, again = self.replica.remote, None
        with trio.move_on_after(remote.quiet) as scope, contextlib.suppress(Missing):
            again = await remote.stat(self.order.path)
        if scope.cancelled_caught:
            raise Busy(f"no answer for {remote.quiet:g} s")
        known = None if thing is None else (thing.kind, thing.token)
        if known != (None if again is None else (again.kind, again.token)):
            raise Changed

    async def bring(self) -> Brought:
        """Where the content is in `.onitu/tmp`, where it may have been brought to already."""
        if not isinstance(self.prepared, Brought):
            ready = self.limbo.take_tmp(self.order.version, b"" if self.content is None else self.content.stamp)
            try:
                thing = await self.limbo.in_private(lambda: self._write(ready, None))
            except BaseException:
                self.limbo.give_tmp(ready)
                raise
            self._own = ready
            self.prepared = Brought(self.replica.remote.placed(ready), thing, ready)
        return self.prepared

    async def _put_by_rename(self, thing: Thing | None) -> list[Event]:
        """What stands there steps aside, and what is ready takes its name."""
        brought = await self.bring()
        path, ready, aside = self.order.path, brought.path, b""
        if thing is not None:
            aside = await self._take_aside(thing, delete=False, mark=self._mark(thing))
        looked = False
        try:
            if thing is not None:
                out = await self.replica.stat(aside)
                expected = out is None or (out.token == thing.token and await self._came_out_as_expected(aside, out))
                if out is not None and not expected:
                    self._back.append(await self._bring_back(aside, out))
                    aside = b""
            looked = True
            put = await self._with_parents(path, lambda: self._rename(ready, path, None))
        except BaseException as error:
            with trio.move_on_after(UNDO, shield=True):
                # What nobody has looked at may be a value that nobody has seen: the next life settles it (S1).
                if aside and not await self.limbo.put_back(aside, path) and looked:
                    await self.limbo.drop(aside)
                if self._own and isinstance(error, Changed):  # it is not asked for again
                    with contextlib.suppress(Unavailable):
                        await self.limbo.drop(ready)
            raise
        finally:
            self.limbo.give_tmp(self._own)
        self.used = True
        if aside:
            await self.limbo.drop(aside)
        # Whoever puts a file over ours before it was looked at there has seen it: theirs is another value.
        return [self._done(put) if _is_same(put, brought.thing) else await self._found(read=True)]

    async def _take_aside(self, thing: Thing, delete: bool, mark: bytes) -> bytes:
        aside = await self.limbo.take_aside(self.order.path, thing, delete, mark)
        self._asides.append(aside)
        return aside

    async def _came_out_as_expected(self, path: bytes, out: Thing) -> bool:
        return self._is_proof(out) or await self._as_held(path, out)

    def _is_proof(self, thing: Thing) -> bool:
        """Whether the token, which is the expected one, proves the content. One that is made of a time does not: a file
        that a user renamed may have the size and the time of the one that stood there. So a small one is read before it
        is dropped; of a large one that would cost as much as to send it."""
        weak = self._by_time and thing.kind is Kind.FILE and thing.size <= READ
        return not (weak or is_dirty(self.order.expect))

    @property
    def _by_time(self) -> bool:
        """Whether tokens are made of a time."""
        return self.replica.capabilities.racy > 0 or self.replica.remote.timed

    def _mark(self, thing: Thing) -> bytes:
        if self._is_proof(thing):
            return by_token(thing)
        held = self.order.held
        value = held.digests.get(BLAKE3) if held is not None and held.kind is Kind.FILE else None
        return UNSURE if value is None else by_content(value)

    async def _write(
        self, path: bytes, expect: bytes | None, look: Callable[[], Awaitable[None]] | None = None
    ) -> Thing:
        """`look`: what each try begins with."""
        version, remote, content = self.order.version, self.replica.remote, self.content
        call = self.replica.calls.call
        if version.kind is Kind.LINK:
            return await call("write", self.order.path, lambda: remote.make_link(path, version.link, expect))
        if content is None:
            data = await self.batch.take(self.order.number)
            self.content = content = self.replica.calls.paced(Content(version, data))
        prepared = None if isinstance(self.prepared, Brought) else self.prepared

        async def bring() -> Thing:
            if look is not None:
                await look()
            return await remote.put(path, content, expect, prepared)

        put = await call("write", self.order.path, bring, quiet=float("inf"))
        self.replica.named(path)
        self.replica.calls.count("written_bytes", content.size)
        self.used = self.used or prepared is not None or path == self.order.path
        return put

    # --- DELETE -------------------------------------------------------------------------------------------------

    async def _delete(self, thing: Thing | None) -> list[Event]:
        order, calls, remote = self.order, self.replica.calls, self.replica.remote
        if thing is None:
            return [self._done(None)]
        if thing.kind is Kind.DIRECTORY:
            try:
                await calls.call("remove", order.path, lambda: remote.remove_directory(order.path))
            except Missing:
                return [self._gone()]
            return [self._done(None)]
        if order.keep:
            kept = await self._make_room(thing)
            return [await self._found()] if kept is None else [*kept, self._done(None)]
        events = await self._take_away(thing)
        return events if any(event.order == order.number for event in events) else [*events, self._done(None)]

    async def _take_away(self, thing: Thing) -> list[Event]:
        """A file or link goes. With an answer among the events it did not: something else stood there."""
        order, able, path = self.order, self.replica.capabilities, self.order.path
        call, remote = self.replica.calls.call, self.replica.remote
        try:
            if able.compare_and_swap:
                await call("delete", path, lambda: remote.delete(path, thing.token))
                return []
            if not able.moves:

                async def delete() -> None:
                    await self._look_again(thing)
                    await remote.delete(path, thing.token)

                await call("delete", path, delete)
                return []
            aside = await self._take_aside(thing, delete=True, mark=self._mark(thing))
        except (Changed, Missing):
            return [await self._found()]
        out = await self.replica.stat(aside)
        if out is None or (out.token == thing.token and await self._came_out_as_expected(aside, out)):
            await self.limbo.drop(aside)
            return []
        back = await self._bring_back(aside, out, order.path)
        if back.path == order.path:
            return [replace(back, order=order.number)]
        return [back, await self._found()]

    async def _bring_back(self, aside: bytes, out: Thing, *first: bytes) -> Event:
        """A value that nobody had seen gets a name again: one of these, else a conflict name."""
        conflicts = (conflict_name(self.order.path, self.service, out.mtime, n) for n in itertools.count(1))
        for path in itertools.chain(first, conflicts):
            if await self.limbo.put_back(aside, path):
                entry = await self._look(path, read=True)
                return _stands(entry or entry_of(path, out))
        raise AssertionError("the numbers never end")

    # --- MOVE and META ------------------------------------------------------------------------------------------

    async def _move(self, thing: Thing) -> list[Event]:
        order = self.order
        try:
            moved = await self._move_to(order.target, thing)
        except Changed:
            return [*await self._also(order.target), await self._found()]
        except Missing:  # it, or what is above its target, again
            return [await self._found()]
        if thing.kind is Kind.DIRECTORY:
            return [self._done(moved)]
        answer = await self._give_meta(order.target, moved)
        if answer.seen is Seen.DONE:
            return [answer]
        return [replace(answer, order=0), self._gone()]

    async def _move_to(self, target: bytes, thing: Thing) -> Thing:
        """What stands at the order's path leaves it for another. Raises `Changed` where it is not what was expected, or
        something stands at the target: then nothing has changed."""
        path, replica = self.order.path, self.replica
        if await replica.stat(target) is not None:
            raise Changed
        if not replica.capabilities.moves:
            return await self._copy_to(target, thing)
        over = replica.folds or not replica.capabilities.compare_and_swap
        if over and thing.kind is not Kind.DIRECTORY:
            return await self._move_over_limbo(target, thing)
        moved = await self._with_parents(target, lambda: self._rename(path, target, thing.token))
        kept = moved.token == thing.token  # else whoever wrote over it there has seen it
        proven = self._came_out_as_expected if kept else self._as_held
        if thing.kind is Kind.DIRECTORY or await proven(target, moved):
            return moved
        await self._rename(target, path, None)
        raise Changed

    async def _move_over_limbo(self, target: bytes, thing: Thing) -> Thing:
        """It steps aside first, and is looked at there. A server may carry out a rename that does not replace as two
        steps, a second name and the end of the first, and would delete what a user puts there in between (S1)."""
        path = self.order.path
        # A new life must not drop what was on its way, whatever stands at its old path by then.
        aside = await self._take_aside(thing, delete=False, mark=UNSURE)
        try:
            out = await self._after(aside)
            same = out.token == thing.token and out.kind is thing.kind and await self._came_out_as_expected(aside, out)
            if same and await self._with_parents(target, lambda: self.limbo.put_back(aside, target)):
                return out
            self._back.append(await self._bring_back(aside, out, path))
        except BaseException:
            with trio.move_on_after(UNDO, shield=True), contextlib.suppress(Missing, Refused, Unavailable):
                await self.limbo.put_back(aside, path)  # else the next life does it
            raise
        raise Changed

    async def _copy_to(self, target: bytes, thing: Thing) -> Thing:
        """Where nothing can be renamed: a copy, and then the old one goes. In between both stand."""
        path, call, remote = self.order.path, self.replica.calls.call, self.replica.remote
        if thing.kind is not Kind.FILE:
            raise Refused(Trouble.UNSUPPORTED, f"{self.service} cannot rename {paths.show(path)}")

        async def copy() -> Thing:
            try:
                return await call("copy", path, lambda: remote.copy(path, target, thing.token), quiet=float("inf")) or (
                    await self._after(target)
                )
            except NotImplementedError:
                return await self.limbo.copy_here(path, target, thing)

        copied = await self._with_parents(target, copy)
        if not await self._came_out_as_expected(target, copied):
            await call("delete", target, lambda: remote.delete(target, copied.token))
            raise Changed
        events = await self._take_away(thing)
        if any(event.order == self.order.number for event in events):
            await call("delete", target, lambda: remote.delete(target, copied.token))
            raise Changed
        return copied

    async def _give_meta(self, path: bytes, thing: Thing) -> Event:
        """Mode and mtime, as far as the service keeps them."""
        version, able = self.order.version, self.replica.capabilities
        step = able.mtimes
        if able.modes and not (version.mode or thing.mode) and thing.kind is Kind.DIRECTORY:
            thing = await self.replica.stat(path) or thing  # it was made where no modes are kept
        right_time = not step or thing.kind is Kind.DIRECTORY or thing.mtime // step == version.mtime // step
        right_mode = not able.modes or not version.mode or thing.mode == version.mode
        if right_time and right_mode:
            return self._done(thing)
        remote = self.replica.remote
        try:
            given = await self.replica.calls.call(
                "set the time of", path, lambda: remote.set_meta(path, version, thing.token)
            )
        except (Changed, Missing):
            return await self._found(path)
        return self._done(given or thing)

    # --- what they have in common ---------------------------------------------------------------------------------

    async def _rename(self, path: bytes, target: bytes, expect: bytes | None) -> Thing:
        remote = self.replica.remote
        # What comes out of Onitu's own directory is the content of the order's path, and told as that.
        doing, shown = ("write", target) if paths.within(path, paths.PRIVATE) else ("rename", path)
        there = await self.replica.calls.call(doing, shown, lambda: remote.rename(path, target, expect))
        self.replica.named(target)
        return there or await self._after(target)

    async def _after(self, path: bytes) -> Thing:
        thing = await self.replica.answer(path)  # it stands there since a moment, so no listing is known to have it
        if thing is None:
            raise Missing
        return thing

    async def _with_parents(self, path: bytes, act: Callable[[], Awaitable[T]]) -> T:
        """Do it; where the directories above the path are missing, make them first."""
        try:
            return await act()
        except Missing:
            await self._make_parents(path)
        return await act()

    async def _make_parents(self, path: bytes) -> None:
        """Make those that are missing; another order may be about it too. Raises `_InTheWay`."""
        call, remote = self.replica.calls.call, self.replica.remote
        await self.replica.prove()  # or a root that went would be made anew
        for directory in reversed(paths.ancestors(path)):
            thing = await self.replica.stat(directory)
            if thing is not None and thing.kind is not Kind.DIRECTORY:
                raise _InTheWay(await self._look(directory, read=False))
            if thing is None:
                try:
                    await call("make", directory, partial(remote.make_directory, directory))
                except Changed:  # somebody else made it just now, maybe another order
                    thing = await self.replica.stat(directory)
                    if thing is None or thing.kind is not Kind.DIRECTORY:
                        raise
                    continue
                there = await self.replica.stat(directory) if self.replica.capabilities.modes else None
                self._made[directory] = there or Thing(Kind.DIRECTORY)

    # --- answers ------------------------------------------------------------------------------------------------

    def _done(self, thing: Thing | None) -> Event:
        order = self.order
        path, source = (order.target, order.path) if order.do is Do.MOVE else (order.path, b"")
        if thing is None:
            return Event(Seen.DONE, path, order.version, b"", order=order.number)
        version = order.version
        if thing.kind is Kind.DIRECTORY and not version.mode:
            version = version.with_mode(thing.mode)
        if thing.digests and version.kind is Kind.FILE:  # what the service calls the content from now on
            version = replace(version, digests={**thing.digests, **version.digests})
        put_just_now = thing.kind is Kind.FILE and self.replica.young(thing.mtime)
        if put_just_now and self.content is not None and (value := self.content.blake3) is not None:
            # It is read once more, for its token, and can be told for the same then.
            version = replace(version, digests={**version.digests, BLAKE3: value})
        token = dirty_token_of(thing) if put_just_now else token_of(thing)
        return Event(Seen.DONE, path, version, token, source=source, order=order.number)

    def _gone(self) -> Event:
        return Event(Seen.GONE, self.order.path, order=self.order.number)

    def _failed(self, trouble: Trouble, reason: str) -> Event:
        return Event(Seen.FAILED, self.order.path, trouble=trouble, reason=reason, order=self.order.number)

    async def _found(self, path: bytes = b"", read: bool = False) -> Event:
        """What stands there, as the order's answer."""
        entry = await self._look(path or self.order.path, read)
        if entry is not None:
            return _stands(entry, self.order.number)
        if self.order.do is Do.PUT and not self.order.expect:  # that would be no answer: nothing is what it expects
            shown = paths.show(self.order.path)
            reason = f"{self.service}: cannot write {shown}: something is said to stand there, and nothing is shown"
            return self._failed(Trouble.IO, reason)
        return self._gone()

    async def _also(self, path: bytes) -> list[Event]:
        """What stands at another path."""
        entry = await self._look(path, read=False)
        return [_stands(entry)] if entry is not None else []

    async def _look(self, path: bytes, read: bool) -> Entry | None:
        """What stands there with a digest: one of the service's where it has one and `read` does not ask for ours."""
        for _ in range(_TRIES):
            thing = await self.replica.stat(path)
            if thing is None:
                return None
            entry = entry_of(path, thing)
            if entry.trouble:
                raise Refused(entry.trouble, entry.reason)
            if thing.kind is not Kind.FILE or (thing.digests and not read):
                return entry
            settled = await self.replica.settled(path, thing)
            if settled is not None:
                return settled
        raise Refused(Trouble.IO, f"{paths.show(path)} changes faster than it can be read")


def _is_same(there: Thing, brought: Thing) -> bool:
    """Whether it is sure that what stands there is what was brought, by its token, or by its content where the service
    knows that and gives another token with another name."""
    known = brought.digests.keys() & there.digests.keys()
    same = bool(known) and all(brought.digests[name] == there.digests[name] for name in known)
    return there.kind is brought.kind and there.size == brought.size and (same or there.token == brought.token)


def _stands(entry: Entry, number: int = 0) -> Event:
    return Event(Seen.STANDS, entry.path, entry.version, entry.token, order=number)
