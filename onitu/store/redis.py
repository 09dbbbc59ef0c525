"""The store on a server that speaks the Redis protocol: one folder, one lease, group commit.

All that `commit` callers bring while a commit is under way becomes the next one: one script call, one thread hop, one
fsync, in the order in which they called. Blocking calls run in threads under a limiter of the folder's own; no thread
outlives `open_folder`.

What goes wrong with one commit goes wrong with all later ones: a later batch must never be acknowledged where an
earlier one is missing. The caller ends and opens the folder anew.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Self, TypeVar

import msgspec
import redis
import trio

from onitu.model.errors import Fenced, StateError

from . import schema, scripts, urls
from .folder import RedisReader
from .interface import Change, FolderStore
from .keys import Command, Keys, commands
from .lease import Lease, refusal, take

T = TypeVar("T")

WORDS = 200_000
"""Words of commands that are gathered into one script call; a single change may have more."""


class _Waiting(msgspec.Struct, eq=False):
    """One caller of `commit`, until its change is durable or refused."""

    words: list[Command]
    done: trio.Event = msgspec.field(default_factory=trio.Event)
    error: StateError | None = None


class RedisFolder(RedisReader):
    """One folder's state under our lease. Made by `RedisStore.open_folder`; reading is inherited."""

    def __init__(self, url: str, client: redis.Redis, lease: Lease, fresh: bool) -> None:
        super().__init__(url, client, lease.keys, fresh)
        self._lease = lease
        self._script = client.register_script(scripts.COMMIT)
        self._numbers = itertools.count(1)
        self._broken: StateError | None = None
        self._send, self._receive = trio.open_memory_channel[_Waiting](math.inf)

    async def commit(self, change: Change) -> None:
        """Write it durably and atomically, after all that was given to `commit` before.

        Cancelled, it may or may not have happened.

        Raises:
            ValueError, TypeError: the change itself cannot be stored; nothing was written, and others are not
                touched.
            Fenced: the folder is another Referee's, or the store was emptied.
            StateError: it could not be written, or nobody knows; every later commit fails too.
        """
        waiting = _Waiting(commands(self.keys, change))
        try:
            self._send.send_nowait(waiting)
        except trio.BrokenResourceError:
            waiting.error = self._closed()
        else:
            await waiting.done.wait()
        if waiting.error is not None:
            await trio.lowlevel.checkpoint()  # at an orderly end who commits is cancelled too, and that is no error
            raise type(waiting.error)(str(waiting.error)) from waiting.error

    async def committing(self) -> None:
        """The task that commits; one for each folder. Whoever waits when it ends is told that, and so is who comes
        later."""
        together: list[_Waiting] = []
        try:
            async for first in self._receive:
                together = self._gathered(first)
                if self._broken is None:
                    try:
                        await self.write([command for waiting in together for command in waiting.words])
                    except StateError as error:
                        self._broken = error
                for waiting in together:
                    waiting.error = self._broken
                    waiting.done.set()
        finally:
            while True:
                for waiting in together:
                    if not waiting.done.is_set():
                        waiting.error = self._closed()
                        waiting.done.set()
                try:
                    together = [self._receive.receive_nowait()]
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            self._receive.close()

    def _gathered(self, first: _Waiting) -> list[_Waiting]:
        """What becomes one commit: this change and those that wait behind it, up to a limit."""
        together, size = [first], _size(first.words)
        while size < WORDS:
            try:
                together.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
            size += _size(together[-1].words)
        return together

    async def write(self, words: list[Command]) -> None:
        """Run these commands under the fence, as one transaction."""
        # The id lets the script recognise a commit that is resent because its answer was lost.
        number = f"{self._lease.token} {next(self._numbers)}"
        await self.hop(partial(self._call, number, words))

    async def renewing(self) -> None:
        """The task that keeps the lease; it ends with an error when that cannot be done."""
        renewed = trio.current_time()
        while True:
            await trio.sleep(self._lease.ttl / 3)
            try:
                ours = await self.hop(partial(self._lease.renew, self.client))
            except StateError:
                # A store that restarts is back soon; if it is not, an idle Referee has to notice too.
                if trio.current_time() - renewed > self._lease.ttl:
                    raise
                continue
            if not ours:
                self._broken = self._fenced()
                raise self._fenced()
            renewed = trio.current_time()

    def _call(self, number: str, words: list[Command]) -> None:
        arguments: list[bytes | str | int] = [self._lease.token, number]
        for command in words:
            arguments.append(len(command))
            arguments += command
        try:
            self._script([self.keys.named("fence"), self.keys.named("meta")], arguments)
        except redis.ResponseError as error:
            if str(error).startswith("FENCED"):
                raise self._fenced() from error
            raise

    def _closed(self) -> StateError:
        """Why nothing is committed any more."""
        return self._broken or StateError(f"folder {self.folder!r} is not open any more")

    def _fenced(self) -> Fenced:
        return Fenced(
            f"another Onitu took over folder {self.folder!r} in the store {urls.masked(self.url)}, "
            "or the store was emptied; this one may not write any more"
        )


class RedisStore:
    """A server at a `redis://`, `rediss://` or `unix://` URL.

    Args:
        url: checked here (`ConfigurationError`).
        ttl: seconds after which the lease of a holder that does not renew it runs out.
        wait: seconds to wait for another's lease to run out.
        migrations: by version, how to go on from it.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float = 15.0,
        wait: float = 20.0,
        migrations: Mapping[int, schema.Migration] = schema.MIGRATIONS,
    ) -> None:
        self.url = urls.check_url(url)
        self.ttl = ttl
        self.wait = wait
        self.migrations = migrations

    async def __aenter__(self) -> Self:
        """The store, when its server answered. Connections belong to `open_folder`, so nothing is left to close."""
        await self.ping()
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def ping(self) -> None:
        """Come back when the server answers; `StateError` if it does not."""
        await trio.to_thread.run_sync(self._ping)

    @asynccontextmanager
    async def open_folder(self, folder: str) -> AsyncIterator[FolderStore]:
        """Take the folder's lease and keep it; it is given back at the end, however that comes.

        Raises:
            StateError: the server cannot be reached or may evict keys, the folder is held by another, or its state
                has an unknown schema. Also out of the body: `Fenced` when a renewal finds the folder taken, and
                StateError when the server does not come back; the body is cancelled then.
        """
        client = urls.client(self.url)
        keys = Keys(folder)
        try:
            await self._hop(partial(_refuse_eviction, client, self.url))
            lease = await self._taken(client, keys)
            try:
                with _unwrapped():
                    async with trio.open_nursery() as nursery:
                        opened = await self._opened(client, lease, nursery)
                        nursery.start_soon(opened.renewing)
                        yield opened
                        nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._release, lease)
        finally:
            client.close()

    async def _taken(self, client: redis.Redis, keys: Keys) -> Lease:
        deadline = trio.current_time() + self.wait
        while True:
            found = await self._hop(partial(take, client, keys, self.ttl))
            if isinstance(found, Lease):
                return found
            if trio.current_time() >= deadline:
                raise refusal(keys.folder, found)
            await trio.sleep(min(0.1, self.ttl / 10))

    async def _opened(self, client: redis.Redis, lease: Lease, nursery: trio.Nursery) -> RedisFolder:
        """The folder with its schema made ours, and its committing task started."""
        keys = lease.keys
        stored = await self._hop(partial(urls.ask, client, "HGET", keys.named("meta"), "schema"))
        version = schema.found(stored, keys.folder, self.migrations)
        opened = RedisFolder(self.url, client, lease, fresh=version is None)
        if version is None:
            leftovers = await self._hop(partial(_leftovers, client, keys))
            await opened.write([*leftovers, schema.written(keys)])
        else:
            batches = schema.steps(version, client, keys, self.migrations)
            while batch := await self._hop(partial(next, batches, None)):
                await opened.write(batch)
        nursery.start_soon(opened.committing)
        return opened

    async def _hop(self, function: Callable[[], T]) -> T:
        with urls.telling(self.url):
            return await trio.to_thread.run_sync(function)

    def _ping(self) -> None:
        client = urls.client(self.url, timeout=5.0, attempts=1)
        with urls.telling(self.url):
            client.ping()
        client.close()

    def _release(self, lease: Lease) -> None:
        # A server that is gone or hangs must not keep us: the lease runs out by itself.
        client = urls.client(self.url, timeout=2.0, attempts=1)
        try:
            lease.release(client)
        except redis.RedisError:
            return
        finally:
            client.close()


def _size(words: list[Command]) -> int:
    return sum(map(len, words))


def _refuse_eviction(client: redis.Redis, url: str) -> None:
    """A server that drops keys when it is full would make the state lie; refused where it tells its settings."""
    try:
        settings = client.config_get("maxmemory*")
    except (redis.ResponseError, redis.exceptions.NoPermissionError):
        return  # Managed servers forbid CONFIG; their documentation has to be trusted.
    policy = str(settings.get("maxmemory-policy", "noeviction"))
    if settings.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
        raise StateError(
            f"the store {urls.masked(url)} may drop keys when its memory is full (maxmemory-policy {policy}); "
            "set it to noeviction"
        )


def _leftovers(client: redis.Redis, keys: Keys) -> list[Command]:
    """What removes the remains of a state whose `meta` is gone: half a state must not pass for one."""
    gone = [keys.directory(directory) for directory in client.sscan_iter(keys.named("dirs"), count=1000)]
    services: list[bytes] = urls.ask(client, "HKEYS", keys.named("services"))
    gone += [keys.quarantine(name.decode()) for name in services]
    gone += map(keys.named, ("dirs", "todo", "services", "counts", "journal", "problems", "conflicts"))
    return [[b"UNLINK", *gone[start : start + 1000]] for start in range(0, len(gone), 1000)]


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Lets an error out of the nursery as itself: the nursery is not our caller's. Where the body and the renewal met
    the same trouble, one of their errors is enough."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = group.exceptions
        if len(errors) == 1 or any(all(isinstance(e, kind) for e in errors) for kind in (trio.Cancelled, StateError)):
            raise errors[0] from errors[0].__cause__
        raise
