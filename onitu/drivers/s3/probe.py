"""What an S3 server can do, found out with an object of our own that is gone again at the end.

Servers differ most in conditional requests, and one that does not know a condition carries the request out. So it is
first tried with what cannot do harm: a deletion and a replacement of what is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
from collections.abc import Awaitable

import msgspec

from .client import Answer, Broken, Client, Failed
from .listing import page

CONTENT = b"Onitu looks what this service can do; it removes this at once.\n"
NOBODYS = '"00000000000000000000000000000000"'
UNMET = (404, 409, 412)
"""What says that a condition was not met."""
UNKNOWN = (400, 405, 411, 415, 501)
"""What says that it is not understood; or it is a proxy's, once: it is all tried again then, and only what is said then
is the server's own. Any other refusal says nothing of what the server can do."""


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


class _Odd(Exception):
    """An answer that few servers give there."""


async def probed(client: Client, stem: str) -> Able:
    """Find out, with objects whose keys begin with this. Raises as `Client.ask`, also where nothing may be written:
    nothing is known then."""
    try:
        return await _tried(client, stem, any_answer=False)
    except _Odd:
        return await _tried(client, stem, any_answer=True)


async def _tried(client: Client, stem: str, any_answer: bool) -> Able:
    made: list[tuple[str, Answer]] = []
    key, mark = f"{stem}.a\\b", f"{stem}.d/"

    async def put(where: str, body: bytes, **headers: str) -> Answer:
        conditions = {name.replace("_", "-"): value for name, value in headers.items()}
        made.append((where, await client.ask("PUT", where, None, conditions, body)))
        return made[-1][1]

    async def is_obeyed(request: Awaitable[Answer]) -> bool:
        """Whether it was refused as its condition does not hold. Else it was carried out, or is not understood."""
        try:
            await request
        except Failed as error:
            if error.status in UNMET:
                return True
            if error.status not in UNKNOWN:
                raise
            if not any_answer:
                raise _Odd from error
        return False

    try:
        deletes = await is_obeyed(client.ask("DELETE", key, None, {"if-match": NOBODYS}))
        swaps = await is_obeyed(put(key, CONTENT, if_match=NOBODYS))
        first = made[0][1] if made else await put(key, CONTENT)
        creates = await is_obeyed(put(key, CONTENT, if_none_match="*"))
        await is_obeyed(put(mark, b""))  # or such keys are refused
        listed = await _listed(client, stem)
        md5s = first.etag == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest().encode()
        return Able(swaps, creates, deletes, mark in listed, key in listed, md5s)
    finally:
        for where, answer in made:
            await _remove(client, where, answer)


async def _listed(client: Client, prefix: str) -> list[str]:
    answer = await client.ask("GET", "", {"list-type": "2", "prefix": prefix, "encoding-type": "url"})
    return [key for key, _, _, _ in page(answer.body).objects]


async def _remove(client: Client, key: str, answer: Answer) -> None:
    """Without a trace where the bucket keeps versions."""
    version = answer.headers.get("x-amz-version-id", "")
    with contextlib.suppress(Failed, Broken, OSError, http.client.HTTPException):
        await client.ask("DELETE", key, {"versionId": version} if version else None)
