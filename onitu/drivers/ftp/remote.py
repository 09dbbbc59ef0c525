"""`FtpRemote`: one directory of an FTP server, as commands."""

from __future__ import annotations

import contextlib
import ftplib
import secrets
import ssl
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import Kind, Version
from onitu.plug import Capabilities, Refused
from onitu.plug.remote import (
    Busy,
    Changed,
    Content,
    Lost,
    Missing,
    Remote,
    Thing,
    text,
    unreached,
)

from .connection import QUIET, Connection, Pool
from .replies import EPOCH, SECOND, code, meaning, number_of, said, thing_of

T = TypeVar("T")

PIECE = 256 * 1024
FRESH = 1.0
"""Seconds for which a listing counts for what is not in it."""
LOOKS = 5
"""Looks at a path until the directories above it stay, or stay away, for the time of one."""
_TMP = paths.PRIVATE + b"/tmp"
UNSEEN = ("550", "501")
"""Replies that may mean that nothing is there."""


@attrs.define(eq=False)
class FtpRemote(Remote):
    """One directory of a server, as it is configured. `root`: its absolute path, known after `probe`."""

    pool: Pool
    configured: bytes
    root: bytes = b""

    concurrency = 4
    cut_unseen = True

    _timed: bool = False
    _utf8: bool = False
    _lately: dict[bytes, tuple[float, frozenset[bytes]]] = attrs.field(factory=dict)
    """When a directory was listed, and the names in it, for `FRESH`."""
    _numbers: dict[bytes, str] = attrs.field(factory=dict)
    """The server's numbers of the directories that were seen."""
    _left: dict[bytes, bytes] = attrs.field(factory=dict)
    """By the path below `.onitu/tmp` that it was to have, where the last try has put what it wrote."""

    def _at(self, path: bytes) -> str:
        """The argument of a command."""
        if b"\r" in path or b"\n" in path:
            raise Refused(Trouble.NAME_IMPOSSIBLE, "FTP cannot tell a name with a line break")
        if self._utf8:
            text(path)
        return (paths.join(self.root.rstrip(b"/"), path) if path else self.root or b"/").decode("latin-1")

    async def _command(self, command: str, path: bytes) -> str:
        line = f"{command} {self._at(path)}"
        return await self.pool.use(lambda connection: connection.sendcmd(line))

    async def probe(self) -> Capabilities:
        def look(connection: Connection) -> tuple[frozenset[str], str]:
            connection.cwd(connection.home)  # where an earlier look may have left
            try:
                connection.cwd(self.configured.decode("latin-1") or ".")
            except ftplib.error_perm as error:
                shown = paths.show(self.configured)
                raise Unavailable(f"there is no directory {shown} on {self.pool.options.host}: {said(error)}") from None
            return connection.features, connection.pwd()

        features, where = await self.pool.use(look)
        if not {"MLSD", "MLST"} & features:
            raise Unavailable(
                f"{self.pool.options.host} has no MLSD, the listings of FTP that programs can rely on: use sftp,"
                " or another server"
            )
        self.root = where.encode("latin-1")
        self._timed, self._utf8 = "MFMT" in features, "UTF8" in features
        await self._facts(paths.ROOT)
        return Capabilities(
            compare_and_swap=False,
            create_only=False,
            moves=True,
            links=False,
            modes=False,
            mtimes=SECOND if self._timed else 0,
            racy=SECOND,
            watches=False,
        )

    # --- looking ------------------------------------------------------------------------------------------------

    async def list(self, directory: bytes) -> Mapping[bytes, Thing]:
        try:
            return await self._entries(directory)
        except ftplib.error_perm as error:
            if directory and code(error) in UNSEEN and await self.stat(directory) is None:
                raise Missing from error
            raise

    async def _entries(self, directory: bytes) -> dict[bytes, Thing]:
        lines = await self.pool.use(partial(_listing, line=f"MLSD {self._at(directory)}"))
        self.pool.count("received_bytes", sum(map(len, lines)))
        found = {}
        for entry in filter(None, lines):
            facts, _, name = entry.partition(" ")
            if "=" not in facts or not name:  # where a name has a line break, it is not known where it ends
                raise Refused(Trouble.NAME_IMPOSSIBLE, f"the server lists what is no entry: {entry[:100]!r}")
            raw = name.encode("latin-1")
            thing = thing_of(facts)
            if thing is not None:
                found[raw] = self._no_loop(paths.join(directory, raw), thing, facts)
        return found

    def _no_loop(self, path: bytes, thing: Thing, facts: str) -> Thing:
        """The thing; a directory that is one of those above it once more is none. Servers follow symbolic links, and no
        fact tells: without this a link to what is above it would be copied again and again."""
        if thing.kind is not Kind.DIRECTORY or not (number := number_of(facts)):
            return thing
        self._numbers[path] = number
        above = [*paths.ancestors(path), paths.ROOT] if path else []
        if number in (self._numbers.get(directory) for directory in above):
            reason = "it is a directory above it once more: the server follows a link"
            return Thing(Kind.FILE, b"-", trouble=Trouble.UNSUPPORTED, reason=reason)
        return thing

    async def stat(self, path: bytes) -> Thing | None:
        for _ in range(LOOKS):
            thing = await self._facts(path)
            if thing is not None or not path:
                return thing
            # It is not there, or may not be seen: the listing of the nearest directory that can be seen tells.
            below = path
            for directory in [*paths.ancestors(path), paths.ROOT]:
                there = await self._facts(directory)
                if there is not None:
                    break
                below = directory
            if there is None or there.kind is not Kind.DIRECTORY:
                return None
            found = await self._listed(directory, paths.name(below))
            if found is None or below == path:
                return found
            if await self._facts(below) is None:
                raise Refused(Trouble.DENIED, "the server does not show it")
            # It was made between the two looks.
        raise Busy("the directories above it come and go")

    async def _listed(self, directory: bytes, name: bytes) -> Thing | None:
        """What a listing tells of a name that the server does not show, which hardly ever is in it: one counts for a
        moment, as many new files go into one directory."""
        now = trio.current_time()
        self._lately = {path: known for path, known in self._lately.items() if now - known[0] < FRESH}
        if directory in self._lately and name not in self._lately[directory][1]:
            return None
        entries = await self._entries(directory)
        self._lately[directory] = now, frozenset(entries)
        return entries.get(name)

    async def _facts(self, path: bytes) -> Thing | None:
        """What the server tells of one path; None: nothing."""
        try:
            answer = await self._command("MLST", path)
        except ftplib.error_perm as error:
            if code(error) in UNSEEN:
                return None
            raise
        for line in answer.split("\n")[1:]:  # a name may have what Python takes for the end of a line
            facts = line.strip().partition(" ")[0]
            if "=" in facts and (thing := thing_of(facts, itself=True)):
                return self._no_loop(path, thing, facts)
        raise Refused(Trouble.IO, f"the server tells nothing of it: {answer[:100]!r}")

    async def read(self, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        there = await self.stat(path)
        if there is None or there.token != token:
            raise Changed
        return await self.pool.use(partial(_read, line=f"RETR {self._at(path)}", offset=offset, length=length))

    # --- acting -------------------------------------------------------------------------------------------------

    async def put(self, path: bytes, content: Content, expect: bytes | None, prepared: object = None) -> Thing:
        where, have = await self._begun(path, content) if paths.within(path, _TMP) else (path, 0)
        at = self._at(where)
        sending = False

        def send(connection: Connection) -> None:
            nonlocal sending
            if have == content.size > 0:
                return
            sending = True
            file = content.file()
            file.seek(have)
            try:
                connection.storbinary(f"{'APPE' if have else 'STOR'} {at}", file, PIECE)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.voidresp()  # the server ended the transfer, and tells here why (452: no space)
                raise

        if have:
            await content.verified()
        if paths.within(path, _TMP):
            self._left[path] = where
        try:
            await self._explained(where, self.pool.use(send))
        except ftplib.Error as error:
            found = meaning(error)
            if isinstance(found, Refused) and found.trouble is Trouble.NO_SPACE:
                await self._remove(where)  # it would only take the space of others
            raise
        except (EOFError, ConnectionError, ssl.SSLEOFError) as error:
            if sending:  # whether the server is gone for all, the next try tells
                raise Busy("the connection was cut") from error
            raise
        if content.version.mtime:
            await self._set_time(where, content.version.mtime)
        thing = await self.stat(where)
        if thing is None or thing.size != content.size:
            await self._remove(where)  # so that nobody goes on with it
            raise Busy("what was written does not have the size that it should have")
        return thing

    def placed(self, path: bytes) -> bytes:
        return self._left.pop(path, path)

    async def _begun(self, path: bytes, content: Content) -> tuple[bytes, int]:
        """Where a file is to be written, and how many of its bytes are there.

        A command whose answer did not come may be carried out long after the next one, and would empty what that has
        written, or write into its middle: each try has a name of its own, and what an earlier one left is renamed to
        it. It is read back and compared: nobody else tells whether the server lost power, or the source changed while
        it was read.
        """
        earlier = self._left.get(path, path)
        there = await self.stat(earlier)
        if there is None and path not in self._left:
            return path, 0
        where = b"%b-%b" % (path, secrets.token_hex(4).encode())
        if there is None or there.kind is not Kind.FILE:
            return where, 0
        with contextlib.suppress(Missing):
            await self._renamed(earlier, where)
            self._left[path] = where
            if 0 < there.size <= content.size:
                compare = partial(_same, line=f"RETR {self._at(where)}", content=content, size=there.size)
                if await self.pool.use(compare):
                    return where, there.size
            await self._remove(where)
        return where, 0

    async def _remove(self, path: bytes) -> None:
        with contextlib.suppress(ftplib.Error):
            await self._command("DELE", path)

    async def _set_time(self, path: bytes, mtime: int) -> None:
        if self._timed:
            stamp = (EPOCH + timedelta(seconds=mtime // SECOND)).strftime("%Y%m%d%H%M%S")
            with contextlib.suppress(ftplib.error_perm):  # not every server lets everybody
                await self._command(f"MFMT {stamp}", path)

    async def _explained(self, path: bytes, act: Any, target: bytes | None = None) -> Any:
        """What it returns; a 550 or 553, which may mean anything, as what it means here."""
        try:
            return await act
        except ftplib.error_perm as error:
            if code(error) not in ("550", "553", "501"):
                raise
            where = path if target is None else target
            above = paths.parent(where)
            if above and await self.stat(above) is None:
                raise Missing from error
            if target is not None and await self.stat(path) is None:
                raise Missing from error
            if "no such file" in said(error).lower():  # above it, until another order made that just now
                raise Missing from error
            raise

    async def delete(self, path: bytes, expect: bytes | None) -> None:
        try:
            await self._command("DELE", path)
        except ftplib.error_perm as error:
            if await self.stat(path) is None:
                raise Missing from error
            raise

    async def make_directory(self, path: bytes) -> None:
        try:
            await self._explained(path, self._command("MKD", path))
        except ftplib.error_perm as error:
            if await self.stat(path) is not None:
                raise Changed from error
            raise

    async def remove_directory(self, path: bytes) -> None:
        if await self.list(path):
            raise Refused(Trouble.NOT_EMPTY, "there is something in it")
        await self._command("RMD", path)

    async def rename(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        if await self.stat(target) is not None:
            raise Changed
        await self._renamed(path, target)
        return None

    async def _renamed(self, path: bytes, target: bytes) -> None:
        rename = partial(Connection.rename, fromname=self._at(path), toname=self._at(target))
        await self._explained(path, self.pool.use(rename), target)

    async def set_meta(self, path: bytes, version: Version, expect: bytes | None) -> Thing | None:
        if not self._timed or not version.mtime or version.kind is not Kind.FILE:
            return None
        there = await self.stat(path)
        if there is None:
            raise Missing
        if expect is not None and there.token != expect:
            raise Changed
        await self._set_time(path, version.mtime)
        return await self.stat(path)

    def translate(self, error: Exception) -> Exception:
        found = self._meaning(error)
        if isinstance(found, Unavailable):
            shown = paths.show(self.configured) or "the root"
            return Unavailable(f"{shown} on {self.pool.options.host} cannot be used: {found}")
        return found

    def _meaning(self, error: Exception) -> Exception:
        if isinstance(error, ftplib.Error):
            return meaning(error)
        if isinstance(error, TimeoutError | trio.TooSlowError):
            return Busy(f"no answer for {QUIET:g} s")
        if isinstance(error, EOFError | ssl.SSLEOFError):
            return Lost("the server closed the connection")
        if isinstance(error, OSError):
            where = self.pool.options.shown
            return unreached(error, where) or Lost(f"{where} is not reached: {error.strerror or error}")
        return super().translate(error)


def _listing(connection: Connection, line: str) -> list[str]:
    """The lines of a listing. (`ftplib.retrlines` would leave the connection in ASCII mode, in which no part of a file
    can be had.)"""
    data = connection.transfercmd(line)
    parts: list[bytes] = []
    with data:
        while piece := data.recv(PIECE):
            parts.append(piece)
    reply = connection.voidresp()
    if "truncated" in reply.lower():  # Pure-FTPd's: what it leaves out would be taken for deleted
        raise Refused(Trouble.IO, f"the server lists a part of the directory only: {reply}; raise its limit")
    listing = b"".join(parts)
    if listing and not listing.endswith(b"\n"):  # each entry ends so (RFC 3659, section 7.2)
        raise Busy("the listing was cut")
    return listing.decode("latin-1").replace("\r\n", "\n").removesuffix("\n").split("\n")


def _read(connection: Connection, line: str, offset: int, length: int) -> bytes:
    """A part of a file. The transfer is ended where the part ends."""
    data = connection.transfercmd(line, str(offset) if offset else None)
    parts: list[bytes] = []
    with data:
        while length and (piece := data.recv(min(length, PIECE))):
            parts.append(piece)
            length -= len(piece)
    with contextlib.suppress(ftplib.error_temp):  # 426, 451: that is what ending it is called
        connection.voidresp()
    return b"".join(parts)


def _same(connection: Connection, line: str, content: Content, size: int) -> bool:
    """Whether a file of the server's is the first `size` bytes of a content."""
    data = connection.transfercmd(line)
    offset = 0
    with data:
        while piece := data.recv(PIECE):
            if piece != content.pread(offset, len(piece)):
                break
            offset += len(piece)
    with contextlib.suppress(ftplib.error_temp):
        connection.voidresp()
    return offset == size
