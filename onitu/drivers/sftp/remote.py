"""`SftpRemote`: the root of a replica on an SFTP server.

SFTP has no compare-and-swap, but renames that do not replace: the base lets what is replaced step aside and looks at it
there. OpenSSH's plain rename of a file is one `link`, and refuses where anything stands. For a link or a directory, and
on other servers, the target is looked at just before: what a user puts there during the one request in between may be
replaced.

No path is followed through a symbolic link: the server resolves the directory above each, at most a second before.
"""

from __future__ import annotations

import contextlib
import stat
from collections import deque
from collections.abc import Mapping, Sequence

import attrs
import msgspec
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import Kind, Version
from onitu.plug import Capabilities, Refused
from onitu.plug.remote import PIECE, Busy, Changed, Content, Missing, Remote, Thing

from . import wire
from .probe import OPENSSH, UNKNOWN, Able, tried
from .ssh import Pool
from .things import SECOND, meaning, name_of, thing_of

SOUND = 1.0
"""Seconds for which a directory is believed to be reached through no symbolic link."""
TMP = paths.PRIVATE + b"/tmp"
LIMBO = paths.PRIVATE + b"/limbo"
CONTROLS = bytes((*range(1, 32), 127))
AHEAD = 4
"""Pieces of a partial upload that are read back ahead."""
LSETSTAT = b"lsetstat@openssh.com"
HARDLINK = b"hardlink@openssh.com"
POSIX_RENAME = b"posix-rename@openssh.com"
FSYNC = b"fsync@openssh.com"
STATVFS = b"statvfs@openssh.com"


@attrs.define(eq=False)
class SftpRemote(Remote):
    """See the module.

    Attributes:
        root: as configured; relative to where the server puts whoever logs in.
        known: what was found out about servers, by root: each is tried once in a life of the driver.
        look_only: nothing may be written.
    """

    concurrency = 24

    pool: Pool
    root: str
    known: dict[str, Able] = attrs.field(factory=dict)
    look_only: bool = False
    _able: Able = OPENSSH
    _base: bytes = b""
    _refuses: bool = False
    """Whether a rename of a file refuses where something stands, at once."""
    _sound: dict[bytes, float] = attrs.field(factory=dict)
    _unsure: set[tuple[bytes, bytes]] = attrs.field(factory=set)
    """Renames whose answer did not come: they may have been done."""

    # --- what the server is -------------------------------------------------------------------------------------

    async def probe(self) -> Capabilities:
        session = await self.pool.session()
        where = self.root.removeprefix("~/") if self.root != "~" else "."
        resolved = session.ask(wire.REALPATH, wire.string(where.encode(errors="surrogateescape") or b"."))
        service, host = self.pool.service, self.pool.target.host
        there = f"{service}: there is no directory {self.root} on {host}"
        try:
            self._base = name_of(await resolved.wait(wire.NAME))
            found = (await session.ask(wire.STAT, wire.string(self._base)).wait(wire.ATTRS)).stat()
        except wire.Status as status:
            if status.code == wire.PERMISSION_DENIED:
                there = f"{service}: {self.root} on {host} may not be looked at: permission denied"
            raise Unavailable(there) from None
        if not stat.S_ISDIR(found.mode):
            raise Unavailable(there)
        self._refuses = b"limits@openssh.com" in session.extensions or LSETSTAT in session.extensions
        self._able = await self._learned(session)
        return Capabilities(
            compare_and_swap=False,
            create_only=True,
            links=self._able.links,
            modes=self._able.modes,
            mtimes=SECOND,
            racy=SECOND,
            watches=False,
        )

    async def _learned(self, session: wire.Session) -> Able:
        """What the server can do. OpenSSH, and who has its extensions, is known."""
        if self._refuses:
            return OPENSSH
        if self.root not in self.known and not self.look_only:
            self.known[self.root] = await tried(session, self._base)
        return self.known.get(self.root, UNKNOWN)

    def _at(self, path: bytes) -> bytes:
        """A path as a field of a request."""
        return wire.string(self._full(path))

    def _full(self, path: bytes) -> bytes:
        return self._base.rstrip(b"/") + b"/" + path if path else self._base

    def _thing(self, told: wire.Stat, link: bytes = b"") -> Thing:
        thing = thing_of(told, link)
        return thing if self._able.modes else msgspec.structs.replace(thing, mode=0)

    def translate(self, error: Exception) -> Exception:
        if isinstance(error, wire.Cut):
            return Busy(str(error))
        if not isinstance(error, wire.Status):
            return super().translate(error)
        return meaning(error)

    # --- looking ------------------------------------------------------------------------------------------------

    async def list(self, directory: bytes) -> Mapping[bytes, Thing]:
        session = await self.pool.session()
        checked = self._ask_sound(session, directory)
        listed = await session.listed(self._full(directory))
        await self._check_sound(session, directory, checked)
        names = [name for name, told in listed if stat.S_ISLNK(told.mode)]
        links = {name: session.ask(wire.READLINK, self._at(paths.join(directory, name))) for name in names}
        found: dict[bytes, Thing] = {}
        for name, told in listed:
            try:
                found[name] = self._thing(told, name_of(await links[name].wait(wire.NAME)) if name in links else b"")
            except wire.Status as status:
                if status.code != wire.NO_SUCH_FILE:  # it went meanwhile
                    raise
        return found

    async def stat(self, path: bytes) -> Thing | None:
        session = await self.pool.session()
        above = paths.parent(path)
        checked = self._ask_sound(session, above)
        asked = session.ask(wire.LSTAT, self._at(path))
        try:
            thing = await self._seen(session, path, asked)
            await self._check_sound(session, above, checked)
            return thing
        except (Missing, wire.Status) as error:
            if isinstance(error, wire.Status) and error.code != wire.NO_SUCH_FILE:
                raise
            return None

    async def _seen(self, session: wire.Session, path: bytes, asked: wire.Reply) -> Thing:
        """What the answer to an LSTAT tells, with a link's target."""
        told = (await asked.wait(wire.ATTRS)).stat()
        link = b""
        if stat.S_ISLNK(told.mode):
            link = name_of(await session.ask(wire.READLINK, self._at(path)).wait(wire.NAME))
        return self._thing(told, link)

    def _ask_sound(self, session: wire.Session, directory: bytes) -> wire.Reply | None:
        """Ask whether a directory is reached without a symbolic link, where that is not known."""
        known = not directory or directory.partition(b"/")[0] == paths.PRIVATE
        if known or self._sound.get(directory, 0.0) > trio.current_time() - SOUND:
            return None
        return session.ask(wire.REALPATH, self._at(directory))

    async def _check_sound(self, session: wire.Session, directory: bytes, asked: wire.Reply | None) -> None:
        """Raises `Missing` where a symbolic link is on the way."""
        if asked is None:
            return
        at = trio.current_time()
        if name_of(await asked.wait(wire.NAME)) != self._full(directory):  # a link, or a server with other spellings
            above = [session.ask(wire.LSTAT, self._at(path)) for path in (directory, *paths.ancestors(directory))]
            for reply in above:
                if stat.S_ISLNK((await reply.wait(wire.ATTRS)).stat().mode):
                    raise Missing
        if len(self._sound) > 4096:
            self._sound.clear()
        self._sound[directory] = at

    def check_name(self, path: bytes) -> None:
        """Raise `Refused` where something is to stand under a name of which the server may make another."""
        if not self._able.controls and (odd := bytes(sorted(set(path) & set(CONTROLS)))):
            raise Refused(Trouble.NAME_IMPOSSIBLE, f"this server may make another name of one with {paths.show(odd)}")

    async def _ready(self, *changed: bytes) -> wire.Session:
        """A session to change what stands at these paths. Raises `Missing` where a link leads to one of them."""
        session = await self.pool.session()
        above = {paths.parent(path): self._ask_sound(session, paths.parent(path)) for path in changed}
        for directory, reply in above.items():
            await self._check_sound(session, directory, reply)
        return session

    # --- contents -----------------------------------------------------------------------------------------------

    async def read(self, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        session = await self._ready(path)
        handle = await session.open(self._full(path), wire.TO_READ)
        try:
            asked = session.ask_read(handle, offset, length)
            after = session.ask(wire.FSTAT, wire.string(handle))
            data = await session.read(handle, asked)
            if thing_of((await after.wait(wire.ATTRS)).stat()).token != token:
                raise Changed
            return data
        finally:
            session.close(handle)

    async def put(self, path: bytes, content: Content, expect: bytes | None, prepared: object = None) -> Thing:
        self.check_name(path)
        session = await self._ready(path)
        name = self._full(path)
        handle, offset = await self._begun(session, name, content)
        try:
            try:
                written = await session.write(handle, content.pieces(offset), offset)
            except BaseException:
                session.close(handle)
                raise
            durable = not paths.within(path, TMP)
            return await self._finish(session, name, handle, content.version, written, durable)
        except (wire.Status, Busy) as error:
            # What is left of it would only take the space of others.
            session.ask(wire.REMOVE, wire.string(name))
            raise await self._why(session, error, content.size) from error

    async def _begun(self, session: wire.Session, name: bytes, content: Content) -> tuple[bytes, int]:
        """A handle to write the content to, and how many bytes of it stand there already."""
        mode = 0o600 if content.version.mode else 0o666
        there = await self._size_of(session, name) if content.size > PIECE else 0
        if there:
            flags = wire.TO_READ | wire.TO_WRITE | wire.TO_CREATE
            handle = await self._open_to_write(session, name, flags, mode)
            try:
                return handle, await self._standing(session, handle, content, there)
            except wire.Status:  # some (rclone's) do not let it be read or cut off while it is written: from the start
                session.close(handle)
            except BaseException:
                session.close(handle)
                raise
        # It has to be a new file: a request whose answer did not come may be carried out long after the next one, and
        # would empty what that has written. (Not every server knows the wish.)
        flags = wire.TO_WRITE | wire.TO_CREATE | wire.TO_MAKE_NEW | wire.TO_TRUNCATE
        return await self._open_to_write(session, name, flags, mode), 0

    async def _size_of(self, session: wire.Session, name: bytes) -> int:
        """Bytes of what an earlier try left; 0: nothing."""
        try:
            return max(0, (await session.ask(wire.LSTAT, wire.string(name)).wait(wire.ATTRS)).stat().size)
        except wire.Status:
            return 0

    async def _open_to_write(self, session: wire.Session, name: bytes, flags: int, mode: int) -> bytes:
        try:
            return await session.open(name, flags, mode)
        except wire.Status as status:
            if status.code not in (wire.FAILURE, wire.PERMISSION_DENIED):
                raise
            with contextlib.suppress(wire.Status):  # it is there, or read-only, from an earlier try
                await session.ask(wire.REMOVE, wire.string(name)).wait(wire.STATUS)
            return await session.open(name, flags, mode)

    async def _standing(self, session: wire.Session, handle: bytes, content: Content, there: int) -> int:
        """How much of the content is in the `there` bytes that an earlier try left; the rest of them is cut off.

        It is read back and compared: nobody else tells whether a packet in the middle failed, the source changed while
        it was read, or the server lost power. What comes in is mostly faster than what goes out."""
        offset = 0
        ahead = deque(
            session.ask_read(handle, at, min(PIECE, there - at)) for at in range(0, min(there, AHEAD * PIECE), PIECE)
        )
        while ahead:
            data = await session.read(handle, ahead.popleft())
            same = data and data == (await content.read(offset, len(data)) if offset < content.size else b"")
            if not same:
                break
            offset += len(data)
            further = offset + len(ahead) * PIECE
            if further < there:
                ahead.append(session.ask_read(handle, further, min(PIECE, there - further)))
        if offset < there:
            cut = wire.attributes(size=offset)
            await session.ask(wire.FSETSTAT, wire.string(handle), cut).wait(wire.STATUS)
        return offset

    async def _finish(
        self, session: wire.Session, name: bytes, handle: bytes, version: Version,
        written: Sequence[wire.Reply], durable: bool,
    ) -> Thing:  # fmt: skip
        """Mode, time, and what stands there then. `written`: answers to what was written last, which are waited for
        first; `durable`: also if the server loses power now."""
        wanted = wire.attributes(version.mode or -1, version.mtime // SECOND if version.mtime else -1)
        given = version.mode or version.mtime
        field = wire.string(handle)
        asked = [session.ask(wire.FSETSTAT, field, wanted)] if given else []
        if durable and FSYNC in session.extensions:
            asked.append(session.ask(wire.EXTENDED, wire.string(FSYNC), field))
        told, closed = session.ask(wire.FSTAT, field), session.ask(wire.CLOSE, field)
        for reply in written:
            await reply.wait(wire.STATUS)
        try:
            for reply in asked:
                await reply.wait(wire.STATUS)
            thing = self._thing((await told.wait(wire.ATTRS)).stat())
        except wire.Status as status:
            if status.code != wire.NO_SUCH_FILE:
                raise
            thing = None
        if thing is not None and thing.size == version.size:
            return thing
        await closed.wait(wire.STATUS)  # on some servers (rclone's) it is only there, or whole, from now on
        if given:
            await session.ask(wire.SETSTAT, wire.string(name), wanted).wait(wire.STATUS)
        thing = self._thing((await session.ask(wire.LSTAT, wire.string(name)).wait(wire.ATTRS)).stat())
        if thing.size != version.size:
            raise Busy(f"{thing.size} bytes arrived of {version.size}")
        return thing

    async def _why(self, session: wire.Session, error: wire.Status | Busy, wanted: int) -> Exception:
        """Why a write failed: a full disk is only "Failure" to the protocol."""
        if isinstance(error, Busy) or error.code != wire.FAILURE:
            return error
        found = meaning(error)
        if isinstance(found, Refused) and found.trouble is not Trouble.IO:
            return found
        if STATVFS in session.extensions:
            asked = session.ask(wire.EXTENDED, wire.string(STATVFS), wire.string(self._base))
            with contextlib.suppress(wire.Status):
                told = await asked.wait(wire.EXTENDED_REPLY)
                _, unit, _, _, available = (told.long() for _ in range(5))
                if unit * available < max(wanted, unit):
                    return Refused(Trouble.NO_SPACE, "no space is left")
        return Refused(Trouble.IO, f"the server says only {error.words!r}: perhaps a quota is used up")

    async def make_link(self, path: bytes, link: bytes, expect: bytes | None) -> Thing:
        self.check_name(path)
        session = await self._ready(path)
        for attempt in (1, 2):
            try:
                # The target comes first: so it is in OpenSSH, against the draft, and in who follows it.
                await session.ask(wire.SYMLINK, wire.string(link), self._at(path)).wait(wire.STATUS)
                break
            except wire.Status as status:
                if status.code != wire.FAILURE or attempt == 2 or not paths.within(path, TMP):
                    raise
                await session.ask(wire.REMOVE, self._at(path)).wait(wire.STATUS)  # from an earlier try
        return await self._seen(session, path, session.ask(wire.LSTAT, self._at(path)))

    # --- changes ------------------------------------------------------------------------------------------------

    async def delete(self, path: bytes, expect: bytes | None) -> None:
        session = await self._ready(path)
        await session.ask(wire.REMOVE, self._at(path)).wait(wire.STATUS)

    async def make_directory(self, path: bytes) -> None:
        self.check_name(path)
        session = await self._ready(path)
        try:
            await session.ask(wire.MKDIR, self._at(path), wire.attributes(0o777)).wait(wire.STATUS)
        except wire.Status:
            if await self.stat(path) is not None:
                raise Changed from None
            raise

    async def remove_directory(self, path: bytes) -> None:
        session = await self._ready(path)
        try:
            await session.ask(wire.RMDIR, self._at(path)).wait(wire.STATUS)
        except wire.Status as status:
            if status.code != wire.NO_SUCH_FILE and await session.listed(self._full(path)):
                raise Refused(Trouble.NOT_EMPTY, "there is something in it") from None
            raise

    async def rename(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        if not paths.within(path, paths.PRIVATE):  # what comes back from there may have a name that we would not give
            self.check_name(target)
        session = await self._ready(path, target)
        if (path, target) in self._unsure and (done := await self._was_renamed(path, target, expect)):
            return done
        step = wire.RENAME
        after: wire.Reply | None = None
        at_once = self._refused_at_once(path, target)
        if not at_once:
            looks = [session.ask(wire.LSTAT, self._at(place)) for place in (path, target)]
            told = (await looks[0].wait(wire.ATTRS)).stat()
            with contextlib.suppress(wire.Status):
                await looks[1].wait(wire.ATTRS)
                raise Changed
            if not self._refuses and stat.S_ISREG(told.mode) and HARDLINK in session.extensions:
                step = wire.EXTENDED
        try:
            if paths.within(target, LIMBO) and POSIX_RENAME in session.extensions:
                # In one step. OpenSSH's plain rename makes a second name and then takes away what has the first one by
                # then: a user's new file, maybe (S1). Here nothing can be replaced: the name is nobody else's.
                kind = wire.string(POSIX_RENAME)
                await session.ask(wire.EXTENDED, kind, self._at(path), self._at(target)).wait(wire.STATUS)
            elif step != wire.EXTENDED or not await self._linked(session, path, target):
                renamed = session.ask(wire.RENAME, self._at(path), self._at(target))
                after = session.ask(wire.LSTAT, self._at(target)) if at_once else None  # OpenSSH answers in sequence
                await renamed.wait(wire.STATUS)
        except (wire.Cut, trio.Cancelled):
            self._doubt(path, target)
            raise
        except wire.Status as status:
            if status.code != wire.NO_SUCH_FILE and await self.stat(target) is not None:
                raise Changed from None
            raise
        try:
            return await (self.stat(target) if after is None else self._seen(session, target, after))
        except wire.Status:
            return None  # it is gone again
        except wire.Cut:
            self._doubt(path, target)
            raise

    def _doubt(self, path: bytes, target: bytes) -> None:
        """Remember that a rename may have been done. Who lets something step aside sees to that itself."""
        if not paths.within(target, LIMBO):
            self._unsure.add((path, target))

    def _refused_at_once(self, path: bytes, target: bytes) -> bool:
        """Whether the server itself sees to it that nothing at the target is replaced (or nothing can be there)."""
        if paths.within(target, LIMBO):
            return True
        return self._refuses and paths.within(path, TMP) and not paths.name(path).startswith(b"link")

    async def _linked(self, session: wire.Session, path: bytes, target: bytes) -> bool:
        """Rename by a second name, which refuses where something stands; False: there are none here."""
        try:
            await session.ask(wire.EXTENDED, wire.string(HARDLINK), self._at(path), self._at(target)).wait(wire.STATUS)
        except wire.Status as status:
            if status.code == wire.NO_SUCH_FILE:
                raise
            if await self.stat(target) is not None:
                raise Changed from None
            return False
        await session.ask(wire.REMOVE, self._at(path)).wait(wire.STATUS)
        return True

    async def _was_renamed(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        """What stands at the target, where an earlier try whose answer did not come has brought it there."""
        there, old = await self.stat(target), await self.stat(path)
        self._unsure.discard((path, target))
        if there is None or old is not None:
            return None
        own = paths.within(path, paths.PRIVATE) or paths.within(target, paths.PRIVATE)
        return there if own or there.token == expect else None

    async def set_meta(self, path: bytes, version: Version, expect: bytes | None) -> Thing | None:
        session = await self._ready(path)
        thing = await self._seen(session, path, session.ask(wire.LSTAT, self._at(path)))
        if expect and thing.kind is not Kind.DIRECTORY and thing.token != expect:
            raise Changed
        mtime = version.mtime // SECOND if version.mtime and thing.kind is not Kind.DIRECTORY else -1
        wanted = wire.attributes(version.mode or -1 if thing.kind is not Kind.LINK else -1, mtime)
        given = None
        if LSETSTAT in session.extensions:
            given = session.ask(wire.EXTENDED, wire.string(LSETSTAT), self._at(path), wanted)
        elif thing.kind is not Kind.LINK:
            given = session.ask(wire.SETSTAT, self._at(path), wanted)
        if given is not None:
            await given.wait(wire.STATUS)
        return await self._seen(session, path, session.ask(wire.LSTAT, self._at(path)))
