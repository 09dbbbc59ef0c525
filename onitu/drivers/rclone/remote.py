"""`RcloneRemote`: the root of one replica, as commands of `rclone rcd`."""

from __future__ import annotations

import calendar
import contextlib
import email.utils
import os
import secrets
import time
import unicodedata
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import msgspec
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import Kind, Version
from onitu.plug.driver import Capabilities, Refused
from onitu.plug.remote import Busy, Changed, Content, Missing, Remote, Thing, text

from .errors import Failed, meaning
from .listing import COMMON, NEVER, SECOND, Info, Items, One, odd, parsed, thing_of
from .names import decoded, encoded
from .rcd import Rcd

MARK = b".onitu-directory"
"""An empty file in a directory, where directories exist only by what is in them."""
SKEW = 26 * 3600 * SECOND
"""Nanoseconds that a clock may be off; what is more is no clock."""
SOUND = 1.0
"""Seconds for which a directory that was listed counts as one, and as no symbolic link."""

_HOLLOW = (
    ":crypt,remote='{}',filename_encryption=off,directory_name_encryption=false,suffix=none"
    ",password=qtM5cB063ll8HgG0kCOpOEkbknB4:"
)
"""A remote of files that have a size and a time, no digest, and that cannot be read: files full of holes, taken for
encrypted ones, whose first bytes are wrong (the password is no secret: nothing is ever encrypted with it)."""


@attrs.define(eq=False)
class RcloneRemote(Remote):
    """One remote and a path of it. `fs`: both, as rclone writes it, `name:path`; `shown`: for people."""

    longest_name = 143  # what an overlay that encrypts names makes 255 bytes of, which most services take

    unfinished = b".partial"

    rcd: Rcd
    fs: str
    shown: str
    use_hashes: bool = True
    info: Info = attrs.field(factory=Info)
    _told: dict[str, Any] = attrs.field(factory=dict)
    """What a listing is to tell."""
    _known: set[bytes] = attrs.field(factory=set)
    """Directories that are there, as far as we know."""
    _sound: dict[bytes, float] = attrs.field(factory=dict)
    """When directories were listed where they should be."""
    _piecewise: bool = False
    _ahead: int | None = None

    # --- asking -------------------------------------------------------------------------------------------------

    async def _ask(self, command: str, path: bytes, **given: Any) -> dict[str, Any]:
        name = encoded(text(path))
        try:
            return await self.rcd.ask(command, fs=self.fs, remote=name, _config=self._config, **given)
        except Failed as error:
            raise meaning(error, name, self.fs) from error

    async def _transfer(self, path: bytes, command: str, source: tuple[str, str], **config: Any) -> None:
        """Bring a file, by rclone's name of it and of where it is, to a path."""
        to = encoded(text(path))
        given = {"srcFs": source[0], "srcRemote": source[1], "dstFs": self.fs, "dstRemote": to}
        # Until it is whole rclone gives it another name, which it makes of the source: one that was cancelled may still
        # be on its way, and would take this one's away at its end.
        own = {"PartialSuffix": f".{secrets.token_hex(3)}{self.unfinished.decode()}"}
        try:
            await self.rcd.transfer(command, _config={**self._config, **own, **config}, **given)
        except Failed as error:
            raise meaning(error, to, *source, self.fs) from error

    @property
    def _config(self) -> dict[str, Any]:
        """Times that cost a request each are not asked for: the service's own will do."""
        return {"UseServerModTime": True} if self.info.features.slow_mod_time else {}

    async def probe(self) -> Capabilities:
        try:
            self.info = msgspec.convert(await self.rcd.ask("operations/fsinfo", fs=self.fs), Info)
            if not self.use_hashes:
                self.info.hashes = []
            proving = self.info.proving
            self._told = {"noMimeType": True, "showHash": bool(proving), "hashTypes": proving}
            await self._list(paths.ROOT)
        except Failed as error:
            raise await self._no_remote(error) or self._unusable(meaning(error, self.fs)) from error
        except (Missing, Refused) as error:
            raise self._unusable(error) from error
        able = self.info.features
        return Capabilities(
            compare_and_swap=False,
            create_only=False,
            moves=able.move,
            directories=True,
            links=False,
            modes=False,
            mtimes=self.info.precision if self.info.timed else 0,
            racy=0 if proving else max(SECOND, self.info.precision if self.info.precision < NEVER else 0),
            watches=False,
            case_sensitive=not able.case_insensitive,
            digests=tuple(name for name in proving if name in COMMON),
        )

    async def _no_remote(self, error: Failed) -> Unavailable | None:
        """Where rclone's configuration has no such remote; None: that is not the trouble."""
        if "didn't find section in config" not in error.cause:
            return None
        name, where = self.shown.partition(":")[0], "rclone's configuration"
        with contextlib.suppress(Failed, Busy):
            where = str((await self.rcd.ask("config/paths")).get("config") or where)
        return Unavailable(f"there is no remote {name} in {where}: `rclone config` makes one")

    def _unusable(self, error: Exception) -> Exception:
        if isinstance(error, Refused):
            return Unavailable(f"{self.shown} cannot be used: {error.reason}")
        return Unavailable(f"there is no directory {self.shown}") if isinstance(error, Missing | Changed) else error

    # --- looking ------------------------------------------------------------------------------------------------

    async def _list(self, directory: bytes, recurse: bool = False) -> dict[bytes, Thing]:
        """What is in a directory, by path, with our marks in it."""
        answer = await self._ask("operations/list", directory, opt={**self._told, "recurse": recurse})
        found: dict[bytes, Thing] = {}
        for item in msgspec.convert(answer, Items).entries or ():
            name = decoded(item.path)
            path = (item.path if name is None else name).encode()
            thing = thing_of(item, self.info) if name else odd(item, "rclone cannot be told its name again")
            found[path] = odd(item, "the service has several things of this name") if path in found else thing
        return found

    async def list(self, directory: bytes) -> Mapping[bytes, Thing]:
        found = await self._list(directory)
        if not found and directory and not self.info.features.can_have_empty_directories:
            raise Missing
        self._known.add(directory)
        return {paths.name(path): thing for path, thing in found.items() if paths.name(path) != MARK}

    def list_tree(self) -> AsyncIterator[tuple[bytes, Thing]] | None:
        return None if self._piecewise else self._list_all()

    async def _list_all(self) -> AsyncIterator[tuple[bytes, Thing]]:
        if self.info.features.dir_cache_flush:  # it remembers the ids of directories, which others may have moved
            await self.rcd.ask("fscache/clear")
        try:
            found = await self._list(paths.ROOT, recurse=True)
        except Refused as error:  # one directory that cannot be read must not hide the others: one by one, then
            self._piecewise = True
            raise Busy(error.reason, 0) from error
        self._known = {path for path, thing in found.items() if thing.kind is Kind.DIRECTORY}
        for path, thing in found.items():
            if paths.name(path) != MARK:
                yield path, thing

    async def stat(self, path: bytes) -> Thing | None:
        if self.info.features.duplicate_files and path:
            with contextlib.suppress(Missing):
                return (await self.list(paths.parent(path))).get(paths.name(path))
            return None
        if not await self._is_reached(paths.parent(path)):
            return None
        if path:
            with contextlib.suppress(Missing):
                answer = await self._ask("operations/stat", path, opt={**self._told, "filesOnly": True})
                if (item := msgspec.convert(answer, One).item) is not None:
                    return thing_of(item, self.info)
        return Thing(Kind.DIRECTORY) if await self._is_directory(path) else None

    async def _is_directory(self, path: bytes) -> bool:
        try:
            answer = await self._ask("operations/list", path, opt={"noMimeType": True, "noModTime": True})
        except (Missing, Changed):
            return False
        return bool(answer.get("list") or not path or self.info.features.can_have_empty_directories)

    async def _is_reached(self, directory: bytes) -> bool:
        """Whether a directory is listed where it should be, and each one above it. rclone follows a symbolic link in a
        path that it leaves out of a listing, to wherever it leads. Only asked where a remote may have links."""
        able, now = self.info.features, trio.current_time()
        if able.bucket_based or able.dir_cache_flush or directory.partition(b"/")[0] == paths.PRIVATE:
            return True
        for path in [*reversed(paths.ancestors(directory)), directory] if directory else ():
            if self._sound.get(path, float("-inf")) > now - SOUND:
                continue
            if not await self._is_listed(path):
                return False
            if len(self._sound) > 4096:
                self._sound.clear()
            self._sound[path] = now
        return True

    async def _is_listed(self, path: bytes) -> bool:
        """Whether it stands as a directory in the listing of the one above it."""
        above = paths.parent(path)
        told = {"noMimeType": True, "noModTime": True, "dirsOnly": True}
        try:
            answer = await self._ask("operations/list", above, opt=told)
        except (Missing, Changed):
            return False
        entries = msgspec.convert(answer, Items).entries or ()
        # A service may have its own spelling of a name; that is none of this one's business.
        return any(_folded(decoded(item.path) or item.path) == _folded(text(path)) for item in entries)

    async def _need_directory(self, path: bytes) -> None:
        """Raise `Missing` where it is not there: rclone would make it."""
        if not await self._is_reached(path):
            raise Missing
        if path and path not in self._known:
            if not await self._is_directory(path):
                raise Missing
            self._known.add(path)

    async def read(self, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        size, stamp = parsed(token)
        name = encoded(text(path))
        try:
            data, headers = await self.rcd.fetch(self.fs, name, offset, length)
        except Failed as error:
            raise meaning(error, name, self.fs) from error
        if headers.get("Content-Range", "").rpartition("/")[2] not in ("", str(size)):
            raise Changed
        modified = email.utils.parsedate(headers.get("Last-Modified", ""))
        if modified and stamp is not None and self.info.timed and calendar.timegm(modified) != stamp // SECOND:
            raise Changed
        if len(data) != min(length, size - offset):
            raise Busy("it could not be read to its end")
        return data

    # --- acting -------------------------------------------------------------------------------------------------

    async def put(self, path: bytes, content: Content, expect: bytes | None, prepared: object = None) -> Thing:
        await self._need_directory(paths.parent(path))
        where = await self._lend(content)
        try:
            # Without this, it takes the same size and time for proof that the content is there.
            await self._transfer(path, "operations/copyfile", os.path.split(where or content.path), IgnoreTimes=True)
            if not where:
                await content.verified()
        finally:
            if where:
                os.unlink(where)
        thing = await self.stat(path)
        if thing is None:
            raise Busy("what was written does not stand there yet")
        if not content.version.mtime and not self.info.proving:
            return msgspec.structs.replace(thing, mtime=await self._clock(thing.mtime))
        return thing

    async def _lend(self, content: Content) -> str:
        """A file of this host that holds the content and has its time; empty: the content's own does, and what comes of
        it is looked at before it is renamed into place."""
        mtime = content.version.mtime
        own = content.own and self._plain(content.path)
        if own and mtime:
            await trio.to_thread.run_sync(lambda: os.utime(content.path, ns=(mtime, mtime)))
        if own:
            return ""
        if self.info.features.move and self._plain(content.path):
            with contextlib.suppress(OSError):
                if (await trio.to_thread.run_sync(os.stat, content.path)).st_mtime_ns == mtime:
                    return ""
        where = os.path.join(self.rcd.directory, secrets.token_hex(8))
        try:
            async with await trio.open_file(where, "xb") as file:
                async for piece in content.pieces():
                    await file.write(piece)
            if mtime:
                os.utime(where, ns=(mtime, mtime))
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(where)
            if isinstance(error, OSError):
                raise Refused(Trouble.NO_SPACE, f"it cannot be kept on its way: {error.strerror}") from error
            raise
        return where

    def _plain(self, path: str) -> bool:
        """Whether rclone finds a file of this host by its path, as it is."""
        return bool(path) and path.isprintable() and not any(mark in path for mark in "‛／．␀␡")

    async def _clock(self, given: int) -> int:
        """What the service's clock says, by a directory that it makes; our own time where it tells none."""
        if self._ahead is None:
            path = paths.PRIVATE + b"/clock-" + secrets.token_hex(4).encode()
            await self._ask("operations/mkdir", path)
            try:
                made = (await self._list(paths.PRIVATE)).get(path)
                ahead = made.mtime - time.time_ns() if made is not None and made.mtime else 0
            finally:
                with trio.move_on_after(10, shield=True), contextlib.suppress(Missing, Refused, Busy):
                    await self._ask("operations/rmdir", path)
            self._ahead = ahead if abs(ahead) < SKEW else 0
        return time.time_ns() + self._ahead if given else 0

    async def delete(self, path: bytes, expect: bytes | None) -> None:
        if not await self._is_reached(paths.parent(path)):
            raise Missing
        await self._ask("operations/deletefile", path)

    async def make_directory(self, path: bytes) -> None:
        if await self.stat(path) is not None:
            raise Changed
        await self._need_directory(paths.parent(path))
        await self._ask("operations/mkdir", path)
        if not await self._is_reached(path) and self.info.features.can_have_empty_directories:
            reason = "it cannot be made: something that is not shown stands there, a symbolic link perhaps"
            raise Refused(Trouble.NAME_CLASH, reason)
        self._known.add(path)
        if not self.info.features.can_have_empty_directories:
            await self.put(paths.join(path, MARK), Content.of(b""), None)

    async def remove_directory(self, path: bytes) -> None:
        if not await self._is_reached(path):
            raise Missing
        found = await self._list(path)
        mark = paths.join(path, MARK)
        if found.keys() - {mark}:
            raise Refused(Trouble.NOT_EMPTY, "there is something in it")
        self._known.discard(path)
        if mark in found:
            await self._ask("operations/deletefile", mark)
        elif not self.info.features.can_have_empty_directories:
            raise Missing
        with contextlib.suppress(Missing):
            await self._ask("operations/rmdir", path)

    async def rename(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        await self._need_directory(paths.parent(target))
        if not await self._is_reached(paths.parent(path)):
            raise Missing
        if await self.stat(target) is not None:
            raise Changed
        try:
            await self._transfer(target, "operations/movefile", (self.fs, encoded(text(path))))
        except (Missing, Changed):
            if not await self._is_directory(path):
                raise Missing from None
            await self._rename_directory(path, target)
        return None

    async def _rename_directory(self, path: bytes, target: bytes) -> None:
        if not self.info.features.dir_move:
            raise Refused(Trouble.UNSUPPORTED, "the service cannot rename a directory")
        old, new = (self.fs + ("" if self.fs[-1] in ":/" else "/") + encoded(text(p)) for p in (path, target))
        try:
            await self.rcd.transfer("sync/move", srcFs=old, dstFs=new, createEmptySrcDirs=True, deleteEmptySrcDirs=True)
        except Failed as error:
            raise meaning(error, old, new) from error
        self._known = {known for known in self._known if known != path and not paths.within(known, path)}

    async def copy(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        if not self.info.features.copy:
            raise NotImplementedError
        await self._need_directory(paths.parent(target))
        await self._transfer(target, "operations/copyfile", (self.fs, encoded(text(path))), IgnoreTimes=True)
        return None

    async def set_meta(self, path: bytes, version: Version, expect: bytes | None) -> Thing | None:
        """rclone has no command that sets a time, but sets it where a copy finds that nothing else differs. What it is
        to copy here has size and time, and cannot be read: where more differs, nothing is copied."""
        if not self.info.timed or not version.mtime or version.kind is not Kind.FILE:
            return None
        if not await self._is_reached(paths.parent(path)):
            raise Missing
        where = os.path.join(self.rcd.directory, secrets.token_hex(8))
        blocks, rest = divmod(version.size, 65536)
        size = 32 + blocks * (65536 + 16) + (rest + 16 if rest else 0)  # https://rclone.org/crypt/#file-encryption
        try:
            await trio.to_thread.run_sync(_make_hollow, where, size, version.mtime)
            source = _HOLLOW.format(self.rcd.directory.replace("'", "''")), os.path.basename(where)
            await self._transfer(path, "operations/copyfile", source, RefreshTimes=True, MultiThreadStreams=0)
        except Refused:
            return None  # the service has no way to set it, or something else stands there now
        finally:
            with contextlib.suppress(OSError):
                os.unlink(where)
        return await self.stat(path)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _make_hollow(where: str, size: int, mtime: int) -> None:
    with open(where, "xb") as file:
        file.truncate(size)
    os.utime(where, ns=(mtime, mtime))
