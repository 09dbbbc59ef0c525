"""Objects below a prefix of a bucket, by paths: names, listings, and requests with conditions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping

import msgspec
import trio

from onitu.model.events import Trouble
from onitu.plug.driver import Refused
from onitu.plug.remote import NOTHING_THERE, Changed, text

from .client import Answer, Client, Exchange, Failed, Headers, conditions
from .listing import Page, page
from .probe import Able

LONGEST = 1024
"""Bytes of the longest key."""
MOST = 1000
"""Keys in one page of a listing."""
PLACEHOLDER = ".onitu-directory"
"""The name of an object that marks a directory where the service takes no keys that end in `/`."""


class Bucket(msgspec.Struct, eq=False):
    """See the module. `prefix`: empty, or ends in `/`. `able`: what the server can, once that is known."""

    client: Client
    prefix: str
    able: Able = msgspec.field(default_factory=Able)

    # --- requests -----------------------------------------------------------------------------------------------

    async def head(self, key: str) -> Answer | None:
        try:
            return await self.client.ask("HEAD", key)
        except Failed as error:
            if error.status == 404:
                return None
            raise

    async def changing(self, method: str, path: bytes, headers: Headers, body: bytes = b"", key: str = "") -> Answer:
        """A request whose condition may not be met. Raises `Changed`."""
        with _condition():
            return _whole(await self.client.ask(method, key or self.key(path), None, headers, body))

    def change_in_thread(self, exchange: Exchange, key: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """As `changing`, a PUT, blocking, for who is in a thread already. `key`: of the object."""
        with _condition():
            return _whole(self.client.ask_in_thread(exchange, "PUT", key, None, headers, body))

    def only_where(self, expect: bytes | None) -> dict[str, str]:
        if expect is None:
            return {}
        if expect == NOTHING_THERE:
            return {"if-none-match": "*"} if self.able.creates else {}
        return conditions([("if-match", expect)]) if self.able.swaps else {}

    async def pages(self, prefix: str, delimiter: str = "") -> AsyncIterator[Page]:
        following = ""
        while True:
            listed = await self.page(prefix, delimiter, following)
            yield listed
            if not listed.following:
                return
            following = listed.following

    async def page(self, prefix: str, delimiter: str = "", following: str = "", most: int = 0) -> Page:
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        query |= {"delimiter": delimiter} if delimiter else {}
        query |= {"continuation-token": following} if following else {}
        query |= {"max-keys": str(most or MOST)}
        body = (await self.client.ask("GET", "", query)).body
        return await trio.to_thread.run_sync(page, body) if len(body) > 65536 else page(body)

    # --- names --------------------------------------------------------------------------------------------------

    def key(self, path: bytes) -> str:
        key = self.prefix + text(path)
        if "\\" in key and not self.able.backslashes:
            raise Refused(Trouble.NAME_IMPOSSIBLE, "this service takes a backslash for a slash")
        if len(key.encode()) > LONGEST:
            raise Refused(Trouble.NAME_IMPOSSIBLE, f"its key is longer than {LONGEST} bytes")
        return key

    def below(self, directory: bytes) -> str:
        return f"{self.key(directory)}/" if directory else self.prefix

    def marks(self, directory: bytes) -> tuple[str, str]:
        """The keys that mark a directory: what other tools use, and what stands in for it."""
        below = self.below(directory)
        return below, below + PLACEHOLDER


@contextlib.contextmanager
def _condition() -> Iterator[None]:
    try:
        yield
    except Failed as error:
        if error.status == 412 or (error.status == 404 and error.code == "NoSuchKey"):
            raise Changed from error
        raise


def _whole(answer: Answer) -> Answer:
    if answer.body[:512].find(b"<Error>") >= 0:  # the line was kept open with a 200 before it failed
        raise Failed(msgspec.structs.replace(answer, status=500))
    return answer
