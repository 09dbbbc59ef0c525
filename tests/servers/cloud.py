"""A cloud in memory: a double of what Nextcloud documents of its WebDAV, as far as the driver relies on it.

It has an entity tag for each file and folder, a folder's changes with everything below it; `If-Match`,
`If-None-Match: *`, `If` with a tagged list and `Overwrite` as sabre/dav takes them, before all else; X-OC-Mtime;
PROPPATCH of `lastmodified`; `oc:checksums`; chunked upload, version 2; `Depth: infinity` taken for 1; a quota; locks;
basic and bearer authentication. It is no Nextcloud: what is tested with it alone is tested against our reading of its
manual.
"""

from __future__ import annotations

import base64
import itertools
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import attrs

from onitu.model import paths
from onitu.plug.options import Value
from onitu.testing.conformance import Denied, Fault, Root, Server

from .http_faults import Ill
from .webdav import patient

FILES, UPLOADS = b"remote.php/dav/files/me", b"remote.php/dav/uploads/me"
USER, PASSWORD, TOKEN = "me", "pass", "a-token"


@attrs.define
class Node:
    """A file, or a folder (`data` is None)."""

    data: bytes | None
    tag: str
    mtime: float
    checksum: str = ""


class Cloud:
    """What is in it, and what happened. `ahead`: seconds by which its clock is; `before`: called before a request."""

    obeys = True
    """Whether it obeys `If-Match` and its like; MOVE with `Overwrite: F` it always does."""
    weak = False
    """Whether its entity tags are weak ones, so that no condition on one of them holds."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.numbers = itertools.count(1)
        self.nodes: dict[bytes, Node] = {}
        self.asked: list[tuple[str, bytes]] = []
        self.before: Callable[[str, bytes], object] = lambda method, path: None
        self.ahead = 0.0
        self.quota = 1 << 30
        self.locked: set[bytes] = set()
        for path in (FILES, UPLOADS):
            for inner in [*reversed(paths.ancestors(path)), path]:
                self.nodes.setdefault(inner, Node(None, self.tag(), self.now()))

    def tag(self) -> str:
        return f"tag{next(self.numbers)}"

    def now(self) -> float:
        return time.time() + self.ahead

    def touch(self, path: bytes) -> None:
        """What is above a path has other tags from now on."""
        for above in paths.ancestors(path):
            if above in self.nodes:
                self.nodes[above].tag = self.tag()

    def write(self, path: bytes, data: bytes | None, mtime: float = 0, checksum: str = "") -> Node:
        self.nodes[path] = Node(data, self.tag(), mtime or self.now(), checksum)
        self.touch(path)
        return self.nodes[path]

    def below(self, path: bytes) -> list[bytes]:
        return [inner for inner in self.nodes if inner == path or paths.within(inner, path)]

    def delete(self, path: bytes) -> None:
        for inner in self.below(path):
            del self.nodes[inner]
        self.touch(path)

    def move(self, path: bytes, target: bytes, copy: bool = False) -> None:
        moved = {target + inner[len(path) :]: self.nodes[inner] for inner in self.below(path)}
        if not copy:
            self.delete(path)
        self.nodes.update({inner: attrs.evolve(node) for inner, node in moved.items()})
        self.touch(target)

    def children(self, path: bytes) -> list[bytes]:
        return sorted(inner for inner in self.nodes if inner and paths.parent(inner) == path and inner != path)


class _No(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer of two pieces takes 40 ms
    cloud: Cloud

    def log_message(self, format: str, *arguments: Any) -> None:
        return

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return
        with self.cloud.lock:
            path = self._path(self.path)
            self.cloud.asked.append((self.command, path))
            try:
                self.cloud.before(self.command, path)
                self._authorised()
                self._conditions(path)
                getattr(self, f"_{self.command.lower()}")(path, body)
            except _No as no:
                self._answer(no.status)
            except ConnectionError:  # a test's
                self.close_connection = True

    do_GET = do_PUT = do_DELETE = do_MKCOL = do_MOVE = do_COPY = do_PROPFIND = do_PROPPATCH = _serve

    @staticmethod
    def _path(url: str) -> bytes:
        return unquote_to_bytes(urlsplit(url).path.strip("/"))

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="cloud", Basic realm="cloud"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _authorised(self) -> None:
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") not in (basic, f"Bearer {TOKEN}"):
            raise _No(401)

    def _conditions(self, path: bytes) -> None:
        if not self.cloud.obeys:
            return
        node = self.cloud.nodes.get(path)
        tag = f'"{node.tag}"' if node is not None and node.data is not None else ""
        if (wanted := self.headers.get("If-Match")) and (tag != wanted or self.cloud.weak):
            raise _No(412)
        if self.headers.get("If-None-Match") == "*" and node is not None:
            raise _No(412)
        if condition := self.headers.get("If"):
            url, _, rest = condition.removeprefix("<").partition(">")
            there = self.cloud.nodes.get(self._path(url))
            holds = there is not None and there.data is not None and f'(["{there.tag}"])' == rest.strip()
            if not holds or self.cloud.weak:
                raise _No(412)
        target = self._path(self.headers["Destination"]) if self.command in ("MOVE", "COPY") else path
        if self.command not in ("GET", "PROPFIND") and {path, target} & self.cloud.locked:
            raise _No(423)

    def _need(self, path: bytes) -> Node:
        if path not in self.cloud.nodes:
            raise _No(404)
        return self.cloud.nodes[path]

    def _parent(self, path: bytes) -> None:
        parent = self.cloud.nodes.get(paths.parent(path))
        if parent is None or parent.data is not None:
            raise _No(409)

    def _get(self, path: bytes, body: bytes) -> None:
        node = self._need(path)
        if node.data is None:
            raise _No(405)
        first, _, last = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        if first and int(first) >= len(node.data):
            raise _No(416)
        data = node.data[int(first) : int(last) + 1] if first else node.data
        self._answer(206 if first else 200, data, ETag=f'"{node.tag}"')

    def _put(self, path: bytes, body: bytes) -> None:
        self._parent(path)
        there = self.cloud.nodes.get(path)
        if there is not None and there.data is None:
            raise _No(409)
        used = sum(len(node.data or b"") for node in self.cloud.nodes.values())
        if used + len(body) > self.cloud.quota:
            raise _No(507)
        self._write(path, body, there is None)

    def _write(self, path: bytes, data: bytes, new: bool) -> None:
        mtime = float(self.headers.get("X-OC-Mtime") or 0)
        node = self.cloud.write(path, data, mtime, self.headers.get("OC-Checksum", ""))
        accepted = {"X_OC_MTime": "accepted"} if mtime else {}
        self._answer(201 if new else 204, ETag=f'"{node.tag}"', OC_ETag=f'"{node.tag}"', **accepted)

    def _delete(self, path: bytes, body: bytes) -> None:
        self._need(path)
        self.cloud.delete(path)
        self._answer(204)

    def _mkcol(self, path: bytes, body: bytes) -> None:
        if path in self.cloud.nodes:
            raise _No(405)
        self._parent(path)
        self.cloud.write(path, None)
        self._answer(201)

    def _move(self, path: bytes, body: bytes, copy: bool = False) -> None:
        target = self._path(self.headers["Destination"])
        there = self.cloud.nodes.get(target)
        if paths.within(path, UPLOADS) and path.endswith(b"/.file"):
            self._need(paths.parent(path))
        else:
            self._need(path)
        self._parent(target)
        if there is not None and self.headers.get("Overwrite") == "F":
            raise _No(412)
        if paths.within(path, UPLOADS):
            self._assemble(paths.parent(path), target, there is None)
            return
        if there is not None:
            self.cloud.delete(target)
        self.cloud.move(path, target, copy)
        self._answer(201 if there is None else 204)

    def _copy(self, path: bytes, body: bytes) -> None:
        self._move(path, body, copy=True)

    def _assemble(self, where: bytes, target: bytes, new: bool) -> None:
        parts = sorted(self.cloud.children(where), key=lambda part: int(paths.name(part)))
        data = b"".join(self.cloud.nodes[part].data or b"" for part in parts)
        if len(data) != int(self.headers["OC-Total-Length"]):
            raise _No(400)
        if any(len(self.cloud.nodes[part].data or b"") < 5 << 20 for part in parts[:-1]):
            raise _No(400)
        self.cloud.delete(where)
        self._write(target, data, new)

    def _proppatch(self, path: bytes, body: bytes) -> None:
        node = self._need(path)
        for told in ET.fromstring(body).iter("{DAV:}lastmodified"):
            node.mtime, node.tag = float(told.text or 0), self.cloud.tag()
            self.cloud.touch(path)
        self._answer(207, b'<d:multistatus xmlns:d="DAV:"/>')

    def _propfind(self, path: bytes, body: bytes) -> None:
        self._need(path)
        wanted = [path] if self.headers.get("Depth") == "0" else [path, *self.cloud.children(path)]
        told = "".join(self._told(inner, body) for inner in wanted)
        names = 'xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"'
        self._answer(207, f'<?xml version="1.0"?><d:multistatus {names}>{told}</d:multistatus>'.encode())

    def _told(self, path: bytes, body: bytes) -> str:
        node = self.cloud.nodes[path]
        folder = node.data is None
        tag = f'{"W/" if self.cloud.weak and not folder else ""}"{node.tag}"'
        props = f"<d:getetag>{tag}</d:getetag><d:resourcetype>{'<d:collection/>' if folder else ''}"
        props += f"</d:resourcetype><d:getlastmodified>{formatdate(node.mtime, usegmt=True)}</d:getlastmodified>"
        if node.data is not None:
            props += f"<d:getcontentlength>{len(node.data)}</d:getcontentlength>"
        if b"fileid" in body:
            props += "<oc:fileid>17</oc:fileid>"
        if b"checksums" in body and node.checksum:
            props += f"<oc:checksums><oc:checksum>{node.checksum}</oc:checksum></oc:checksums>"
        href = "/" + quote(path, safe="/") + ("/" if folder else "")
        good = f"<d:propstat><d:prop>{props}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>"
        return f"<d:response><d:href>{href}</d:href>{good}</d:response>"


@contextmanager
def running() -> Iterator[tuple[Cloud, ThreadingHTTPServer]]:
    """A cloud, and what listens for it."""
    cloud = Cloud()
    handler = type("Handler", (_Handler,), {"cloud": cloud})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield cloud, server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class CloudRoot(Root):
    """A folder in the cloud; the user writes without HTTP."""

    def __init__(self, cloud: Cloud, port: int, name: str) -> None:
        self.cloud = cloud
        self.path = name
        self.options: Mapping[str, Value] = {
            "url": f"http://127.0.0.1:{port}/{FILES.decode()}",
            "user": USER,
            "password": PASSWORD,
        }
        cloud.write(self._at(b""), None)

    def _at(self, path: bytes) -> bytes:
        return paths.join(FILES + b"/" + self.path.encode(), path) if path else FILES + b"/" + self.path.encode()

    def write(self, path: bytes, data: bytes) -> None:
        with self.cloud.lock:
            try:
                path.decode()
            except UnicodeDecodeError as error:
                raise Denied(str(error)) from error
            for above in reversed(paths.ancestors(path)):
                if self._at(above) not in self.cloud.nodes:
                    self.cloud.write(self._at(above), None)
            self.cloud.write(self._at(path), data)

    def delete(self, path: bytes) -> None:
        with self.cloud.lock:
            self.cloud.delete(self._at(path))

    def rename(self, path: bytes, target: bytes) -> None:
        with self.cloud.lock:
            self.cloud.move(self._at(path), self._at(target))

    def make_directory(self, path: bytes) -> None:
        with self.cloud.lock:
            self.cloud.write(self._at(path), None)

    def tree(self) -> dict[bytes, bytes | None]:
        with self.cloud.lock:
            root = self._at(b"") + b"/"
            found = {p[len(root) :]: n.data for p, n in self.cloud.nodes.items() if p.startswith(root)}
        return {p: data for p, data in found.items() if p.split(b"/")[0] != paths.PRIVATE}


class CloudServer(Server):
    """The cloud, behind a proxy that can have faults."""

    faults = frozenset(
        {Fault.DOWN, Fault.CUT, Fault.STALLED, Fault.BUSY, Fault.FULL, Fault.DENIED, Fault.WRONG_PASSWORD, Fault.CLOCK}
    )

    def __enter__(self) -> Server:
        self._running = running()
        self.cloud, self.http = self._running.__enter__()
        self.ill = Ill(self.http.server_address[1])
        return self

    def __exit__(self, *raised: object) -> None:
        self.ill.close()
        self._running.__exit__(None, None, None)

    def empty(self, name: str) -> Root:
        return CloudRoot(self.cloud, self.ill.port, name)

    @contextmanager
    def fault(self, fault: Fault, root: Root) -> Iterator[Mapping[str, Value]]:
        if fault is Fault.WRONG_PASSWORD:
            yield {**root.options, "password": "a wrong password"}
        elif fault is Fault.CLOCK:
            self.cloud.ahead = 3600.0
            yield root.options
            self.cloud.ahead = 0.0
        else:
            with self.ill.having(fault), patient(fault):
                yield root.options
