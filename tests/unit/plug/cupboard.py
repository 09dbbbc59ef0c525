"""A service in memory, as a driver of its own: what the base for remote services needs, in about a hundred lines.

It is three services in one: it can compare and swap, or only rename, or neither.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping

import attrs
import msgspec
import trio

from onitu.model import paths
from onitu.model.events import Trouble
from onitu.model.versions import Kind, Version
from onitu.plug import Capabilities, Refused, option
from onitu.plug.remote import Changed, Content, Missing, Remote, RemoteDriver, RemoteOptions, Thing
from onitu.plug.urls import Address, Url


@attrs.define
class Cupboard:
    """What is in it, and what happened to it. `fail` is called before each request, and may raise; `lose` once one was
    carried out, a rename: what it raises is heard in place of the answer."""

    things: dict[bytes, Thing] = attrs.field(factory=dict)
    data: dict[bytes, bytes] = attrs.field(factory=dict)
    fail: Callable[[str, bytes], object] = lambda call, path: None
    lose: Callable[[str, bytes], object] = lambda call, path: None
    asked: list[tuple[str, bytes]] = attrs.field(factory=list)
    numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))

    def write(self, path: bytes, data: bytes, mtime: int = 0, mode: int = 0) -> Thing:
        for directory in reversed(paths.ancestors(path)):
            self.things.setdefault(directory, Thing(Kind.DIRECTORY))
        digests = {"md5": hashlib.md5(data, usedforsecurity=False).digest()}
        token = b"%d" % next(self.numbers)
        self.things[path] = Thing(Kind.FILE, token, len(data), mtime or time.time_ns(), mode, digests=digests)
        self.data[path] = data
        return self.things[path]


@attrs.frozen(kw_only=True)
class CupboardOptions(RemoteOptions):
    """What may be said of a cupboard."""

    key: str = option(help="what opens it", secret=True)
    swaps: bool = option(True, help="whether it can compare and swap")
    renames: bool = option(True, help="whether it can rename")


CUPBOARDS: dict[str, Cupboard] = {}


class CupboardDriver(RemoteDriver):
    """Files in a cupboard in memory."""

    Options = CupboardOptions
    options: CupboardOptions

    schemes = ("cupboard",)

    @classmethod
    def from_url(cls, url: str) -> Address:
        parts = Url.parse(url)
        parts.no_query("swaps")
        options: dict[str, str | int | float | bool] = {"swaps": parts.query.get("swaps", "true") == "true"}
        if parts.password:
            options["key"] = parts.password
        return Address(options, f"{parts.host}{parts.path}", parts.host, () if parts.password else ("key",))

    def remote(self, folder: str) -> Remote:
        return CupboardRemote(CUPBOARDS[self.roots[folder]], self.options)


@attrs.define(eq=False)
class CupboardRemote(Remote):
    """One cupboard."""

    cupboard: Cupboard
    options: CupboardOptions

    async def ask(self, call: str, path: bytes) -> Thing | None:
        self.cupboard.asked.append((call, path))
        await trio.lowlevel.checkpoint()
        self.cupboard.fail(call, path)
        return self.cupboard.things.get(path)

    def check(self, thing: Thing | None, expect: bytes | None) -> None:
        if self.options.swaps and expect is not None and expect != (thing.token or b"/" if thing else b""):
            raise Changed

    async def probe(self) -> Capabilities:
        await self.ask("probe", b"")
        return Capabilities(
            compare_and_swap=self.options.swaps, moves=self.options.renames, links=False, modes=False, racy=0
        )

    async def list(self, directory: bytes) -> Mapping[bytes, Thing]:
        if await self.ask("list", directory) is None and directory:
            raise Missing
        inside = self.cupboard.things.items()
        return {paths.name(path): thing for path, thing in inside if paths.parent(path) == directory}

    async def list_all(self) -> AsyncIterator[tuple[bytes, Thing]]:
        await self.ask("list_tree", b"")
        for path, thing in list(self.cupboard.things.items()):
            yield path, thing

    def list_tree(self) -> AsyncIterator[tuple[bytes, Thing]] | None:
        return self.list_all() if self.options.swaps else None

    async def stat(self, path: bytes) -> Thing | None:
        return await self.ask("stat", path)

    async def read(self, path: bytes, token: bytes, offset: int, length: int) -> bytes:
        thing = await self.ask("read", path)
        if thing is None or thing.token != token:
            raise Changed
        return self.cupboard.data[path][offset : offset + length]

    async def put(self, path: bytes, content: Content, expect: bytes | None, prepared: object = None) -> Thing:
        data = b"".join([piece async for piece in content.pieces(length=1000)])
        thing = await self.ask("put", path)
        self.check(thing, expect)
        self.need_parent(path)
        return self.cupboard.write(path, data, content.version.mtime)

    def need_parent(self, path: bytes) -> None:
        parent = paths.parent(path)
        if parent and self.cupboard.things.get(parent, Thing(Kind.NOTHING)).kind is not Kind.DIRECTORY:
            raise Missing

    async def delete(self, path: bytes, expect: bytes | None) -> None:
        thing = await self.ask("delete", path)
        if thing is None:
            raise Missing
        self.check(thing, expect)
        del self.cupboard.things[path], self.cupboard.data[path]

    async def make_directory(self, path: bytes) -> None:
        if await self.ask("make_directory", path) is not None:
            raise Changed
        self.need_parent(path)
        self.cupboard.things[path] = Thing(Kind.DIRECTORY)

    async def remove_directory(self, path: bytes) -> None:
        if await self.ask("remove_directory", path) is None:
            raise Missing
        if any(paths.within(inner, path) for inner in self.cupboard.things):
            raise Refused(Trouble.NOT_EMPTY, "there is something in it")
        del self.cupboard.things[path]

    async def rename(self, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
        thing, cupboard = await self.ask("rename", path), self.cupboard
        if thing is None:
            raise Missing
        self.check(thing, expect if thing.kind is Kind.FILE else None)
        if target in cupboard.things:
            raise Changed
        self.need_parent(target)
        for old in [p for p in cupboard.things if p == path or paths.within(p, path)]:
            new = target + old[len(path) :]
            cupboard.things[new] = cupboard.things.pop(old)
            if old in cupboard.data:
                cupboard.data[new] = cupboard.data.pop(old)
        cupboard.lose("rename", path)
        return None

    async def set_meta(self, path: bytes, version: Version, expect: bytes | None) -> Thing | None:
        thing = await self.ask("set_meta", path)
        if thing is None:
            raise Missing
        self.check(thing, expect if thing.kind is Kind.FILE else None)
        self.cupboard.things[path] = msgspec.structs.replace(
            thing, token=b"%d" % next(self.cupboard.numbers), mtime=version.mtime
        )
        return self.cupboard.things[path]
