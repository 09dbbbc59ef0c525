"""What an S3 server can do, found out with an object of our own that is gone again at the end.

Servers differ most in conditional requests, and one that does not know a condition carries the request out. So it is
first tried with what cannot do harm: a deletion and a replacement of what is not there.
"""

from __future__ import annotations

import contextlib
import hashlib

import msgspec

from .client import Answer, Client, Failed
from .listing import page

CONTENT = b"Onitu looks what this service can do; it removes this at once.\n"
NOBODYS = '"00000000000000000000000000000000"'
UNMET = (404, 409, 412)
"""What says that a condition was not met; any other refusal says that it is not understood."""
PASSING = (408, 425, 429, 502, 503, 504)
"""But these, which say nothing of what the server can do."""


class Able(msgspec.Struct, frozen=True):
    """Attributes:
    swaps: `If-Match` of a replacement is obeyed.
    creates: `If-None-Match: *` is obeyed.
    deletes: `If-Match` of a deletion is obeyed.
    marks: keys that end in `/` are kept as they are.
    backslashes: so are those with a backslash.
    md5s: the ETag of what is put in one request is its MD5.
    """

    swaps: bool = False
    creates: bool = False
    deletes: bool = False
    marks: bool = True
    backslashes: bool = True
    md5s: bool = True


async def probed(client: Client, stem: str) -> Able:
    """Find out, with objects whose keys begin with this. Who may not write is told nothing but that. Raises as
    `Client.ask`."""
    made: list[tuple[str, Answer]] = []
    key, mark = f"{stem}.a\\b", f"{stem}.d/"

    async def put(where: str, body: bytes, **headers: str) -> bool | None:
        """Whether it was carried out; None: it was refused for a reason that is no condition."""
        try:
            conditions = {name.replace("_", "-"): value for name, value in headers.items()}
            made.append((where, await client.ask("PUT", where, None, conditions, body)))
        except Failed as error:
            if error.status == 403 or error.status in PASSING:
                raise
            return False if error.status in UNMET else None
        return True

    try:
        try:
            deletes = not await _deleted(client, key)
            swaps = await put(key, CONTENT, if_match=NOBODYS) is False
            if not made and not await put(key, CONTENT):
                return Able()
            creates = await put(key, CONTENT, if_none_match="*") is False
            md5s = made[0][1].etag == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest().encode()
            await put(mark, b"")
            listed = await _listed(client, stem)
        except Failed as error:
            if error.status != 403:
                raise
            return Able()
        return Able(swaps, creates, deletes, mark in listed, key in listed, md5s)
    finally:
        for where, answer in made:
            await _remove(client, where, answer)


async def _deleted(client: Client, key: str) -> bool:
    try:
        await client.ask("DELETE", key, None, {"if-match": NOBODYS})
    except Failed as error:
        if error.status == 403 or error.status in PASSING:
            raise
        return error.status not in UNMET
    return True


async def _listed(client: Client, prefix: str) -> list[str]:
    answer = await client.ask("GET", "", {"list-type": "2", "prefix": prefix, "encoding-type": "url"})
    return [key for key, _, _, _ in page(answer.body).objects]


async def _remove(client: Client, key: str, answer: Answer) -> None:
    """Without a trace where the bucket keeps versions."""
    version = answer.headers.get("x-amz-version-id", "")
    with contextlib.suppress(Failed):
        await client.ask("DELETE", key, {"versionId": version} if version else None)
