"""A proxy before an HTTP server that alters answers at random: no server gives such ones, and no client may break.

An answer loses a header, or has nonsense in one or in an element; it is cut, or has another status; elements of its
document come twice, or are missing. Nonsense, not lies: whoever tells of another size under the same tag is believed.
What is asked for goes through as it is.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
import socket
import threading
from collections.abc import Callable

import attrs

from onitu.testing.ports import free_port

STATUSES = (
    200,
    201,
    204,
    206,
    207,
    226,
    300,
    302,
    304,
    400,
    401,
    403,
    404,
    405,
    409,
    410,
    412,
    413,
    416,
    423,
    429,
    500,
    503,
    507,
    999,
)
NONSENSE = (
    *(
        b"",
        b"0",
        b"-1",
        b"inf",
        b"nan",
        b"1e999",
        b"9" * 40,
        b"a" * 3000,
        b"\xff\xfe",
        b'"',
        b"W/",
        b"..",
        b"%2e%2e",
        b"%00",
    ),
    *(b'"653e999999999"', b"Mon, 01 Jan 0001 00:00:00 GMT", b"Fri, 31 Dec 9999 23:59:59 GMT", b"Thu, 99 Foo 20xx"),
)
ADDED = b"Retry-After", b"Content-Encoding", b"Content-Range", b"ETag", b"Last-Modified", b"Location"
_LEAF = re.compile(rb"<([A-Za-z:]+)[^<>]*>([^<>]*)</\1>")
_ELEMENT = re.compile(rb"<([A-Za-z:]+)[^<>]*>.*?</\1>", re.DOTALL)


@attrs.define
class Answer:
    """One answer on its way. `length`: what is told of its body; `last`: whether the connection ends after it."""

    lines: list[bytes]
    body: bytes
    length: bytes
    last: bool

    def resize(self, body: bytes) -> None:
        self.body, self.length = body, b"%d" % len(body)


class Odd:
    """See the module.

    Attributes:
        share: of the answers that are altered.
        altered: how many were.
    """

    def __init__(self, behind: int, seed: int) -> None:
        self.share = 0.0
        self.altered = 0
        self._behind = behind
        self._chance = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Nobody answers any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError), one, socket.create_connection(("127.0.0.1", self._behind)) as other:
            for end in (one, other):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.settimeout(120)
            asked, answered = one.makefile("rb"), other.makefile("rb")
            while request := _head(asked):
                if b"expect" in _fields(request):
                    one.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request = [line for line in request if not line.lower().startswith(b"expect:")]
                other.sendall(b"\r\n".join(request) + b"\r\n\r\n" + _body(asked, _fields(request), as_sent=True))
                lines = _head(answered)
                if not lines:
                    return
                answer = self._altered(_answer(request[0].split(b" ")[0], lines, answered))
                head = b"\r\n".join([*answer.lines, b"Content-Length: " + answer.length])
                one.sendall(head + b"\r\n\r\n" + answer.body)
                if answer.last:
                    return

    def _altered(self, answer: Answer) -> Answer:
        if self._chance.random() < self.share:
            self.altered += 1
            self._chance.choice(ALTER)(self._chance, answer)
        return answer


def _other_status(chance: random.Random, answer: Answer) -> None:
    answer.lines[0] = b"HTTP/1.1 %d Odd" % chance.choice(STATUSES)


def _nonsense_in_a_header(chance: random.Random, answer: Answer) -> None:
    which = chance.randrange(1, len(answer.lines))
    answer.lines[which] = answer.lines[which].partition(b":")[0] + b": " + chance.choice(NONSENSE)


def _a_header_less(chance: random.Random, answer: Answer) -> None:
    del answer.lines[chance.randrange(1, len(answer.lines))]


def _a_header_more(chance: random.Random, answer: Answer) -> None:
    answer.lines.append(chance.choice(ADDED) + b": " + chance.choice(NONSENSE))


def _nonsense_in_an_element(chance: random.Random, answer: Answer) -> None:
    if leaves := list(_LEAF.finditer(answer.body)):
        start, end = chance.choice(leaves).span(2)
        answer.resize(answer.body[:start] + chance.choice(NONSENSE) + answer.body[end:])


def _an_element_less(chance: random.Random, answer: Answer) -> None:
    if leaves := list(_LEAF.finditer(answer.body)):
        start, end = chance.choice(leaves).span()
        answer.resize(answer.body[:start] + answer.body[end:])


def _an_element_twice(chance: random.Random, answer: Answer) -> None:
    if elements := list(_ELEMENT.finditer(answer.body)):
        start, end = chance.choice(elements).span()
        answer.resize(answer.body[:end] + answer.body[start:])


def _shorter(chance: random.Random, answer: Answer) -> None:
    answer.resize(answer.body[: chance.randrange(len(answer.body) + 1)])


def _cut(chance: random.Random, answer: Answer) -> None:
    answer.body, answer.last = answer.body[: chance.randrange(len(answer.body) + 1)], True


ALTER: tuple[Callable[[random.Random, Answer], None], ...] = (
    _other_status,
    _nonsense_in_a_header,
    _a_header_less,
    _a_header_more,
    _nonsense_in_an_element,
    _an_element_less,
    _an_element_twice,
    _shorter,
    _cut,
)


def _head(incoming: io.BufferedReader) -> list[bytes]:
    """The lines of a head; none: the connection has ended."""
    lines = []
    while (line := incoming.readline()) not in (b"", b"\r\n"):
        lines.append(line.rstrip(b"\r\n"))
    return lines if line else []


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in lines[1:])
    return {name.lower(): value.strip().lower() for name, _, value in pairs}


def _body(incoming: io.BufferedReader, fields: dict[bytes, bytes], as_sent: bool = False) -> bytes:
    """What follows a head; `as_sent`: with the marks of its chunks."""
    if fields.get(b"transfer-encoding") != b"chunked":
        return incoming.read(int(fields.get(b"content-length", b"0")))
    body = b""
    while True:
        line = incoming.readline()
        size = int(line.split(b";")[0], 16)
        chunk = incoming.read(size + 2)
        body += line + chunk if as_sent else chunk[:size]
        if size == 0:
            return body


def _answer(method: bytes, lines: list[bytes], incoming: io.BufferedReader) -> Answer:
    fields = _fields(lines)
    empty = method == b"HEAD" or lines[0].split(b" ")[1] in (b"204", b"304")
    body = b"" if empty else _body(incoming, fields)
    length = fields.get(b"content-length", b"0") if method == b"HEAD" else b"%d" % len(body)
    kept = [line for line in lines if not line.lower().startswith((b"transfer-encoding:", b"content-length:"))]
    return Answer(kept, body, length, fields.get(b"connection") == b"close")
