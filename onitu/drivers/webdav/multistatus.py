"""The answer to a PROPFIND (RFC 4918, 9.1 and 13), read as it comes.

A server is not trusted: a document type or an entity ends the reading, and what has to be kept at a time is bounded, so
that no answer blows the memory. `expat` is fed by hand for that; it resolves nothing by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

import msgspec

from onitu.plug.remote import Busy
from onitu.plug.remote.headers import date_of, size_of

DEEPEST = 32
"""Elements within each other; a multistatus needs seven."""
LONGEST = 1 << 18
"""Bytes of one value, or of one tag."""
LARGEST = 1 << 30
"""Bytes of a whole answer: some two million entries."""

_DAV = "DAV: "
_OC = "http://owncloud.org/ns "
_WANTED = {
    _DAV + "getetag": "etag",
    _DAV + "getcontentlength": "size",
    _DAV + "getlastmodified": "modified",
    _OC + "checksum": "checksums",
    _OC + "fileid": "fileid",
}


class NotXml(Busy):
    """The answer is none that can be understood; cut off, most likely."""


class Member(msgspec.Struct):
    """One resource that an answer tells of. `names`: of its path, decoded, as the server spells it; `status`: why
    nothing else is told (0: something is). What a server does not tell is empty."""

    names: list[bytes] = msgspec.field(default_factory=list)
    status: int = 0
    known: bool = False
    collection: bool = False
    values: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def tag(self) -> bytes:
        """The entity tag, without quotes, and without the mark of a weak one."""
        return opaque(self.values.get("etag", ""))

    @property
    def weak(self) -> bool:
        return self.values.get("etag", "").strip().startswith("W/")

    @property
    def size(self) -> int | None:
        """Of a file; None: not told."""
        return size_of(self.values.get("size", "").strip())

    @property
    def mtime(self) -> int:
        """Nanoseconds since 1970; 0: not told."""
        return seconds_of(self.values.get("modified", "")) * 1_000_000_000

    @property
    def digests(self) -> dict[str, bytes]:
        """What stands in ownCloud's `checksums`: `SHA1:… MD5:…`."""
        found = {}
        for word in self.values.get("checksums", "").split():
            name, _, value = word.partition(":")
            length = {"MD5": 32, "SHA1": 40, "SHA256": 64}.get(name.upper())
            if length == len(value):
                try:
                    found[name.lower()] = bytes.fromhex(value)
                except ValueError:
                    continue
        return found


def opaque(tag: str) -> bytes:
    """An entity tag, from a header or a property, as it is compared."""
    return tag.strip().removeprefix("W/").strip('"').encode()


def seconds_of(date: str) -> int:
    """A date as HTTP writes it, in seconds since 1970; 0 where it is none."""
    return int(date_of(date) or 0)


def names_of(href: str) -> list[bytes]:
    """The names of a path, decoded one by one, so that a `%2F` in one does not make two of it."""
    path = href.strip()
    if "://" in path.partition("/")[0] + "//" and not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return [unquote_to_bytes(name) for name in path.split("/") if name]


async def members(data: AsyncIterable[bytes], largest: int = LARGEST) -> AsyncIterator[Member]:
    """What an answer tells of, one by one. Raises `NotXml` where it is cut off, or is no multistatus."""
    reader = _Reader()
    total = 0
    async for piece in data:
        total += len(piece)
        if total > largest:
            raise NotXml(f"the answer of the server has more than {largest >> 20} MiB")
        for member in reader.feed(piece, total):
            yield member
    for member in reader.feed(b"", total, last=True):
        yield member


class _Reader:
    """Makes members of the parser's calls."""

    def __init__(self) -> None:
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = self._forbidden
        parser.ExternalEntityRefHandler = self._outside
        self._stack: list[str] = []
        self._value: list[str] = []
        self._length = 0
        self._member = Member()
        self._told = Member()
        self._ready: list[Member] = []

    def feed(self, data: bytes, total: int, last: bool = False) -> list[Member]:
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise NotXml(f"the answer of the server is not the XML that it should be: {error}") from None
        if total - max(self._parser.CurrentByteIndex, 0) > LONGEST + len(data) and not last:
            raise NotXml("the answer of the server has a tag without an end")
        ready, self._ready = self._ready, []
        return ready

    def _forbidden(self, *_: object) -> None:
        raise NotXml("the answer of the server has a document type or an entity, which is not read")

    def _outside(self, *_: str | None) -> int:
        self._forbidden()
        return 0

    def _start(self, name: str, attributes: object) -> None:
        if not self._stack and name != _DAV + "multistatus":
            raise NotXml("the answer of the server is no multistatus: it may not speak WebDAV here")
        self._stack.append(name)
        if len(self._stack) > DEEPEST:
            raise NotXml("the answer of the server has too many elements within each other")
        self._value, self._length = [], 0
        if name == _DAV + "response":
            self._member = Member()
        elif name == _DAV + "propstat":
            self._told = Member()
        elif name == _DAV + "collection":
            self._told.collection = True
        elif name == _DAV + "resourcetype":
            self._told.known = True

    def _text(self, data: str) -> None:
        self._length += len(data)
        if self._length > LONGEST:
            raise NotXml("the answer of the server has a value that is too long")
        self._value.append(data)

    def _end(self, name: str) -> None:
        self._stack.pop()
        value = "".join(self._value)
        self._value, self._length = [], 0
        above = self._stack[-1] if self._stack else ""
        if name == _DAV + "href" and above == _DAV + "response":
            self._member.names = names_of(value)
        elif name == _DAV + "status":
            status = _status(value)
            if above == _DAV + "response":
                self._member.status = status
            elif above == _DAV + "propstat":
                self._told.status = status
        elif name in _WANTED:
            known = self._told.values
            known[_WANTED[name]] = f"{known.get('checksums', '')} {value}" if name == _OC + "checksum" else value
        elif name == _DAV + "propstat" and self._told.status // 100 == 2:
            self._member.collection |= self._told.collection
            self._member.known |= self._told.known
            self._member.values.update(self._told.values)
        elif name == _DAV + "response":
            self._ready.append(self._member)


def _status(line: str) -> int:
    """The number in `HTTP/1.1 200 OK`."""
    words = line.split()
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() and len(words[1]) == 3 else 500
