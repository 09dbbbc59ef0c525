"""Requests to one server: who asks, redirects, and what a refusal means.

httpx sends them. What it would do by itself is done here where a server must not be trusted: nothing leaves the origin
(scheme, host and port) that was configured, so that no other server is ever shown a password; no body of a refusal is
read beyond `SHOWN` bytes; no cookie is kept; nothing is unpacked.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol

import attrs
import msgspec
import trio

from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.plug.driver import Refused
from onitu.plug.remote import Busy, Changed, Lost, Missing, unreached
from onitu.plug.remote.headers import wait_of
from onitu.plug.remote.http import httpx

SHOWN = 1 << 16
"""Bytes that are read of the body of a refusal."""
HOPS = 5
"""Redirects that are followed, one after the other."""
CONNECT = 20.0
QUIET = 60.0
"""Seconds for a connection, and seconds in which not one byte may come or go."""
_CLOSING = 2.0
SLOW = 300.0
"""Seconds that a server may take to put together what it has: a large file, of its parts."""


class Body(Protocol):
    """What is sent. It is asked again from its start where the request is sent again."""

    @property
    def size(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Bytes(msgspec.Struct, frozen=True):
    """A body of a few bytes."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


class Answer(msgspec.Struct, frozen=True):
    """An answer whose body was read, as far as it is told to people."""

    status: int
    headers: httpx.Headers
    data: bytes = b""

    @property
    def tag(self) -> str:
        return str(self.headers.get("etag", "") or self.headers.get("oc-etag", ""))


class Bearer(httpx.Auth):
    """A token in a header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


@attrs.define
class Credentials:
    """Who asks, and how it is shown. `kind`: "basic", "digest", "bearer", or "auto": what the server asks for."""

    user: str = ""
    password: str = attrs.field(default="", repr=False)
    token: str = attrs.field(default="", repr=False)
    kind: str = "auto"
    _scheme: httpx.Auth = attrs.field(factory=httpx.Auth, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.token:
            self._scheme = Bearer(self.token)
        elif self.kind in ("basic", "digest"):
            self._use(self.kind)

    def flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The request, and again, as the answers want it."""
        return self._scheme.auth_flow(request)

    def challenged(self, response: httpx.Response) -> bool:
        """Whether a 401 tells how to ask, and nobody has yet."""
        if self.kind != "auto" or type(self._scheme) is not httpx.Auth or not self.user:
            return False
        offered = [value.strip().split(" ")[0].lower() for value in response.headers.get_list("www-authenticate", True)]
        kind = next((kind for kind in ("digest", "basic") if kind in offered), "")
        if kind:
            self._use(kind)
        return bool(kind)

    def _use(self, kind: str) -> None:
        auth = httpx.DigestAuth if kind == "digest" else httpx.BasicAuth
        self._scheme = auth(self.user, self.password)


class Client:
    """What all roots on one server share: a pool of connections, and who asks. `service`: its name, for people."""

    def __init__(
        self,
        service: str,
        credentials: Credentials,
        connections: int,
        verify: ssl.SSLContext | bool,
        count: Callable[[str, int], None] = lambda name, amount: None,
    ) -> None:
        """`count`: told of `requests` and `received_bytes`."""
        self._count = count
        self.service = service
        self.credentials = credentials
        self._http = httpx.AsyncClient(
            verify=verify,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": "Onitu", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(QUIET, connect=CONNECT, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    @contextlib.asynccontextmanager
    async def asking(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        seconds: float = 0.0,
    ) -> AsyncIterator[httpx.Response]:
        """An answer, whose body is the caller's to read; it is closed at the end. `seconds`: that it may take to come,
        where that is more than `QUIET`. Raises httpx's errors, `Busy` and `Unavailable`, and nothing for a status but
        401 and redirects."""
        response = await self._send(method, url, headers or {}, body, seconds)
        try:
            yield response
        finally:
            self._count("received_bytes", response.num_bytes_downloaded)
            with trio.move_on_after(_CLOSING, shield=True):
                await response.aclose()

    async def ask(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        seconds: float = 0.0,
    ) -> Answer:
        """As `asking`, where the body is only words for people."""
        async with self.asking(method, url, headers, body, seconds) as response:
            return await read_answer(response)

    async def _send(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], body: Body | None, seconds: float
    ) -> httpx.Response:
        for _ in range(HOPS):
            response = await self._authenticated(method, url, headers, body, seconds)
            if response.status_code == 401:
                asked = response.headers.get("www-authenticate", "").split(" ")[0]
                await response.aclose()
                raise Unavailable(self._unknown(url, asked))
            reads = method in ("GET", "HEAD", "PROPFIND")
            if response.status_code not in ((301, 302, 307, 308) if reads else (307, 308)):
                return response
            await response.aclose()
            target = url.join(response.headers.get("location", ""))
            if origin(target) != origin(url):
                shown = f"{target.scheme}://{target.netloc.decode('ascii', 'replace')}"
                raise Unavailable(
                    f"{self.service}: {shown_origin(url)} redirects to another server, {shown}, which is not asked:"
                    " if it is the right one, name it in `url`"
                )
            url = target
        raise Busy(f"the server redirects more than {HOPS} times")

    async def _authenticated(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], body: Body | None, seconds: float
    ) -> httpx.Response:
        response = await self._flow(method, url, headers, body, seconds)
        if response.status_code == 401 and self.credentials.challenged(response):
            await response.aclose()
            response = await self._flow(method, url, headers, body, seconds)
        return response

    async def _flow(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], body: Body | None, seconds: float
    ) -> httpx.Response:
        sent = dict(headers) | ({"Content-Length": str(body.size)} if body is not None else {})
        timeout = httpx.Timeout(QUIET, connect=CONNECT, read=max(seconds, QUIET), pool=None)
        request = self._http.build_request(method, url, headers=sent, content=body, timeout=timeout)
        request.headers.encoding = "utf-8"  # of a user's name, in the header of a digest
        flow = self.credentials.flow(request)
        request = next(flow)
        while True:
            self._count("requests", 1)
            response = await self._http.send(request, stream=True, auth=httpx.Auth())
            try:
                request = flow.send(response)
            except StopIteration:
                return response
            await response.aclose()

    def _unknown(self, url: httpx.URL, asked: str) -> str:
        who = self.credentials
        where = f"{self.service}: {shown_origin(url)}"
        if not (who.user or who.token):
            return f"{where} asks who you are ({asked or 'it does not say how'}): give user and password"
        shown = f"the password of {who.user}" if who.user else "the token"
        return f"{where} does not accept {shown}"


async def read_answer(response: httpx.Response) -> Answer:
    """The answer with the start of its body."""
    data = b""
    async for piece in response.aiter_raw(SHOWN):
        data += piece
        if len(data) >= SHOWN:
            break
    return Answer(response.status_code, response.headers, data[:SHOWN])


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """What one server is."""
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def shown_origin(url: httpx.URL) -> str:
    """The server, for people."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"


def refusal(answer: Answer) -> Exception:
    """What an answer that is not the hoped-for one means, as the interface has it."""
    status = answer.status
    if status in (404, 410, 409):
        return Missing()
    if status == 412:
        return Changed()
    if status == 423:
        return Busy(f"it is locked{_words(answer)}", wait_of(answer.headers.get("retry-after", "")))
    if status in (408, 425, 429) or (status >= 500 and status not in (501, 505, 507)):
        return Busy(f"the server answers {status}{_words(answer)}", wait_of(answer.headers.get("retry-after", "")))
    if status in (507, 413):
        reason = "there is no space left" if status == 507 else "the server takes no file of that size"
        return Refused(Trouble.NO_SPACE, f"{reason}{_words(answer)}")
    if status == 403:
        return Refused(Trouble.DENIED, f"permission denied{_words(answer)}")
    if status in (400, 414, 422):
        return Refused(Trouble.NAME_IMPOSSIBLE, f"the server does not take this name ({status}){_words(answer)}")
    if status in (405, 415, 501):
        return Refused(Trouble.UNSUPPORTED, f"the server does not do that ({status}){_words(answer)}")
    return Refused(Trouble.IO, f"the server answers {status}{_words(answer)}")


def _words(answer: Answer) -> str:
    """What sabre/dav's servers (Nextcloud, ownCloud) say, for people: ": Insufficient space in …"."""
    _, found, rest = answer.data.decode("utf-8", "replace").partition("<s:message>")
    words = " ".join(rest.partition("<")[0].split()) if found else ""
    return f": {''.join(c for c in words if c.isprintable())[:200]}" if words else ""


def translated(error: Exception, url: httpx.URL) -> Exception:
    """An error of httpx as one of the interface."""
    if isinstance(error, httpx.TransportError) and (found := unreached(error, shown_origin(url))) is not None:
        return found
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return Lost(f"{shown_origin(url)} is not reached: {_reason(error)}")
        case httpx.ReadTimeout() | httpx.WriteTimeout():
            return Busy(f"no byte came or went for {QUIET:g} s")
        case httpx.TransportError() | httpx.StreamError() | httpx.DecodingError():
            return Busy(f"the connection was cut: {_reason(error)}")
        case httpx.InvalidURL():
            return Refused(Trouble.NAME_IMPOSSIBLE, "the name does not fit into a URL")
    return error


def _reason(error: Exception) -> str:
    return str(error).strip().lower() or type(error).__name__
