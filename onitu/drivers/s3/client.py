"""Requests to S3: signed, sent over kept connections from worker threads, their answers and errors taken apart.

Each body goes with its MD5 and, where the connection is not encrypted, with its SHA-256 in the signature, so that one
that was damaged or cut does not become an object: of SeaweedFS, moto and `rclone serve s3` none looks at the SHA-256,
and SeaweedFS makes an empty object of a request that ends before its body, unless there is an MD5.

Source of the signature: "Signature Calculations for the Authorization Header" of the Amazon S3 API Reference.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import io
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import attrs
import msgspec
import trio

from onitu.model.errors import Unavailable
from onitu.plug.remote import in_lone_thread
from onitu.plug.remote.headers import date_of
from onitu.plug.urls import hide

CONNECT = 10.0
"""Seconds that a connection may take to come about."""
PIECE = 256 * 1024
"""Bytes that are handed to a connection at a time: one piece has to be gone within the time-out."""
SKEW = 120.0
"""Seconds by which the server's clock may differ before signatures follow it (S3 refuses more than 900)."""

now = time.time
"""The clock of this host, in seconds since 1970."""

EMPTY = hashlib.sha256(b"").hexdigest()
_SAFE = "-_.~"

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""Names in lower case with their values, or what makes them."""


@attrs.frozen
class Keys:
    """What requests are signed with."""

    access: str
    secret: str = attrs.field(repr=False)
    token: str = attrs.field(default="", repr=False)


class Answer(msgspec.Struct, frozen=True):
    """What the server said. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def etag(self) -> bytes:
        return self.headers.get("etag", "").strip('"').encode()

    def xml(self) -> ElementTree.Element:
        """The body, its names without their namespace. Raises `Broken`."""
        return parsed(self.body)


class Failed(Exception):
    """An answer that says no, with S3's code for why; empty: it gave none. `conditional`: whether the request had a
    condition, which may be what was not met."""

    def __init__(self, answer: Answer, conditional: bool = False) -> None:
        self.answer = answer
        self.conditional = conditional
        self.status = answer.status
        self.code, self.message = _error_in(answer.body)
        super().__init__(f"{self.status} {self.code} {self.message}".strip())


class Broken(Exception):
    """An answer that cannot be understood."""


def parsed(body: bytes) -> ElementTree.Element:
    """XML, its names without their namespace. Raises `Broken`."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 (no entity is fetched, and expat bounds their growth)
    except ElementTree.ParseError as error:
        raise Broken(f"the answer is no XML: {error}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _error_in(body: bytes) -> tuple[str, str]:
    with contextlib.suppress(Broken):
        root = parsed(body)
        return root.findtext("Code", ""), root.findtext("Message", "")
    return "", ""


def sign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    keys: Keys,
    region: str,
    when: datetime.datetime,
) -> dict[str, str]:
    """The headers with a signature of all of them (version 4). They have `host` and `x-amz-content-sha256` already;
    `path` and `query` are encoded, the latter sorted."""
    stamp = when.strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "x-amz-date": stamp}
    if keys.token:
        signed["x-amz-security-token"] = keys.token
    names = sorted(signed)
    shown = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in names)
    canonical = "\n".join([method, path, query, shown, ";".join(names), signed["x-amz-content-sha256"]])
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    wanted = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request", wanted):
        key = hmac.digest(key, part.encode(), "sha256")
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={';'.join(names)}, Signature={key.hex()}"
    )
    return signed


class Exchange:
    """One request under way, which can be cut from another thread."""

    def __init__(self) -> None:
        self.connection: http.client.HTTPConnection | None = None
        self.cut = False

    def interrupt(self) -> None:
        self.cut = True
        sock = self.connection.sock if self.connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's own, which the other thread is in


class Client:
    """One bucket. `keys` may block, and raises `Unavailable`. `region` is corrected by what the server tells."""

    def __init__(
        self,
        service: str,
        bucket: str,
        endpoint: str,
        region: str,
        keys: Callable[[], Keys],
        slots: int = 20,
        stalled: float = 30.0,
        ca: str = "",
        count: Callable[[str, int], None] = lambda name, amount: None,
    ) -> None:
        """`service`: its name, for sentences; `endpoint`: empty for Amazon's own; `stalled`: seconds after which a
        connection on which nothing moves is given up; `count`: told of `requests` and `received_bytes`. Raises
        `Unavailable` where the endpoint is no URL of a server.
        """
        self._count = count
        self.service = service
        self.bucket = bucket
        self.region = region
        self.slots = trio.CapacityLimiter(slots)
        self.ahead = 0.0
        """Seconds by which the server's clock is ahead of ours, as far as it matters."""
        self._keys = keys
        self._stalled = stalled
        self._connect = min(CONNECT, stalled)
        self._given = endpoint
        self._ca = ca
        self._idle: list[http.client.HTTPConnection] = []
        self._aim()

    def _aim(self) -> None:
        """Find host and path style: buckets of Amazon's own have names in the DNS, others are in the path."""
        own = not self._given
        named = own and "." not in self.bucket
        url = self._given or f"https://{f'{self.bucket}.' if named else ''}s3.{self.region}.amazonaws.com"
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unavailable(f"{self.service}: {hide(self._given)} is no URL of an S3 service")
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._named = parts.netloc.rpartition("@")[2]
        self._base = parts.path.rstrip("/") + ("" if named else "/" + quote(self.bucket, safe=_SAFE))
        self.shown = self._named

    def close(self) -> None:
        """Close what is kept open."""
        while self._idle:
            self._idle.pop().close()

    def move_to(self, region: str) -> None:
        """The bucket is in another region."""
        self.close()
        self.region = region
        self._aim()

    async def ask(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        headers: Headers | None = None,
        body: bytes = b"",
    ) -> Answer:
        """The answer to one request. Raises `Failed`, `Broken`, `OSError`, `http.client.HTTPException`, `Unavailable`.
        A cancelled one may have been carried out or not. Who knows the body's MD5 saves a pass over it with a header
        `content-md5`. `headers`: or what makes them, in the thread."""
        exchange = Exchange()
        self._count("requests", 1)
        answer = await in_lone_thread(
            lambda: self.ask_in_thread(exchange, method, key, query, headers() if callable(headers) else headers, body),
            self.slots,
            exchange.interrupt,
        )
        self._count("received_bytes", len(answer.body))
        return answer

    # --- in threads ---------------------------------------------------------------------------------------------

    def ask_in_thread(
        self,
        exchange: Exchange,
        method: str,
        key: str = "",
        asked: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """`ask`, blocking, for who is in a thread already and counts what comes of it. An answer to a change that S3
        would not give (of a proxy, a login page) is `Broken`: nobody knows whether the change was made."""
        path = f"{self._base}/{quote(key, safe=_SAFE + '/')}" if key else self._base or "/"
        query = "&".join(sorted(f"{quote(k, safe=_SAFE)}={quote(v, safe=_SAFE)}" for k, v in (asked or {}).items()))
        digest = "UNSIGNED-PAYLOAD" if self._tls else hashlib.sha256(body).hexdigest()
        plain = {"host": self._named, "x-amz-content-sha256": digest if body else EMPTY, **(headers or {})}
        if body and "content-md5" not in plain:
            plain["content-md5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        for again in (False, True):
            when = datetime.datetime.fromtimestamp(now() + self.ahead, datetime.UTC)
            signed = sign(method, path, query, plain, self._keys(), self.region, when)
            answer = self._exchange(exchange, method, f"{path}?{query}" if query else path, signed, body)
            if answer.status < 300:
                _check(method, plain, answer)
                return answer
            if again or answer.status not in (400, 403) or not self._follow_clock(answer):
                break
        raise Failed(answer, any(name.startswith(("if-", "x-amz-copy-source-if-")) for name in plain))

    def _follow_clock(self, answer: Answer) -> bool:
        """Whether the server's clock is so far from what was signed with that this may be the trouble."""
        theirs = date_of(answer.headers.get("date", ""))
        if theirs is None or abs(theirs - (now() + self.ahead)) < SKEW:
            return False
        self.ahead = theirs - now()
        return True

    def _exchange(
        self, exchange: Exchange, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        while True:
            connection = self._take()
            kept = connection.sock is not None
            exchange.connection = connection
            try:
                if exchange.cut:
                    raise ConnectionAbortedError("cut")
                answer, keep = _over(connection, method, target, headers, body, self._stalled)
            except (ConnectionError, http.client.RemoteDisconnected):
                connection.close()
                if kept and not exchange.cut:
                    continue  # the server had closed it meanwhile
                raise
            except BaseException:
                connection.close()
                raise
            if keep and not exchange.cut:
                self._idle.append(connection)
            else:
                connection.close()
            return answer

    def _take(self) -> http.client.HTTPConnection:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        connection = self._connection()
        connection.response_class = _Response
        return connection

    def _connection(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._connect)
        context = ssl.create_default_context(cafile=self._ca or None)
        proxy = urllib.request.getproxies().get("https", "")
        if not proxy or urllib.request.proxy_bypass(self._host):
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._connect, context=context)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 3128, timeout=self._connect, context=context
        )
        connection.set_tunnel(self._host, self._port, _proxy_login(parts.username, parts.password))
        return connection


def _proxy_login(user: str | None, password: str | None) -> dict[str, str]:
    if not user:
        return {}
    login = base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {login}"}


def _over(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    stalled: float,
) -> tuple[Answer, bool]:
    """The answer over one connection, and whether that can be used again."""
    if connection.sock is None:
        connection.connect()  # with TCP_NODELAY
        sock: Any = connection.sock
        sock.settimeout(stalled)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body or method in ("PUT", "POST"):
        connection.putheader("content-length", str(len(body)))
    refused = False
    if len(body) <= PIECE:
        connection.endheaders(body or None)
    else:
        connection.endheaders()
        try:
            for start in range(0, len(body), PIECE):
                connection.send(memoryview(body)[start : start + PIECE])
        except ConnectionError:  # an answer that came early may say why
            refused = True
    response = connection.getresponse()
    data = response.read()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, data), not (refused or response.will_close)


class _Response(http.client.HTTPResponse):
    """One whose headers came to their end: else what is missing of them would count as not told. (`http.client` takes
    the end of the connection for theirs.)"""

    def begin(self) -> None:
        lines = _Lines(self.fp)
        self.fp = lines  # type: ignore[assignment]  # all that is asked of it here is `readline` and `close`
        super().begin()
        if self.fp is not None:
            self.fp = lines.file
        if lines.last.strip():
            raise http.client.IncompleteRead(lines.last)


class _Lines:
    """A file that remembers the last line that was read."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file = file
        self.last = b"cut"

    def readline(self, most: int = -1) -> bytes:
        line = self.file.readline(most)
        self.last = line if line.endswith(b"\n") else b"cut"
        return line

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def _check(method: str, headers: Mapping[str, str], answer: Answer) -> None:
    """Raise `Broken` where a success is none that S3 tells."""
    if method in ("PUT", "POST", "DELETE") and answer.body.lstrip()[:14].lower().startswith(
        (b"<html", b"<!doctype html")
    ):
        raise Broken("the answer is a page for people, and none of an S3 endpoint")
    if method != "PUT":
        return
    copied = "x-amz-copy-source" in headers
    if not (b"<Error>" in answer.body[:512] or (b"Result" in answer.body[:512] if copied else answer.etag)):
        raise Broken("the answer does not say what was written: is that an S3 endpoint?")


def conditions(pairs: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """Conditional headers, `*` bare and ETags quoted; None: not that one."""
    return {
        name: value.decode() if value == b"*" else f'"{value.decode()}"' for name, value in pairs if value is not None
    }
