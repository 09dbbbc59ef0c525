"""What one poll of a large bucket costs: requests, seconds, and memory of the driver.

    python -m benchmarks.bucket [KEYS]

A server of its own, in another process, has the keys (100,000 of them, in a hundred directories) sorted in its memory
and lists them a thousand at a time, as Amazon's does; nothing is uploaded. The driver identifies the root, and lists
all of it twice, as a poll does. Printed for each: the requests that the server got, of which there should be one for
each thousand keys and a few that prove the root, and none for a file; and by how much this process grew.
"""

from __future__ import annotations

import bisect
import hashlib
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, quote_plus, unquote, urlsplit

import trio

from onitu.drivers.s3 import S3Driver
from onitu.model import paths
from onitu.model.versions import Kind
from onitu.plug.driver import Identity

FOLDER, BUCKET = "docs", "bucket"
DIRECTORIES = 100
_PAGE = (
    "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{cut}</IsTruncated>"
    "<NextContinuationToken>{following}</NextContinuationToken>{contents}</ListBucketResult>"
)
_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
    '<ETag>"{etag}"</ETag><Size>{size}</Size></Contents>'
)


class Shelf(BaseHTTPRequestHandler):
    """As much of S3 as a listing needs, and the root's marker. `objects`, and their keys in order, are the class's."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    keys: list[str]
    requests = 0

    def log_message(self, *_: object) -> None:
        return

    def _answer(self, status: int, body: bytes = b"", etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").removeprefix("/")

    def do_GET(self) -> None:
        type(self).requests += 1
        if not self._key:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            self._answer(200, self._listed(asked).encode())
        elif self._key in self.objects:
            self._answer(200, self.objects[self._key], _etag(self.objects[self._key]))
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        type(self).requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._key not in self.objects:
            bisect.insort(self.keys, self._key)
        self.objects[self._key] = body
        self._answer(200, etag=_etag(body))

    def do_DELETE(self) -> None:
        type(self).requests += 1
        if self.objects.pop(self._key, None) is not None:
            self.keys.remove(self._key)
        self._answer(204)

    def _listed(self, asked: dict[str, str]) -> str:
        prefix, most = asked.get("prefix", ""), int(asked.get("max-keys", "1000"))
        token = asked.get("continuation-token", "")
        at = bisect.bisect_right(self.keys, token) if token else bisect.bisect_left(self.keys, prefix)
        found = [key for key in self.keys[at : at + most] if key.startswith(prefix)]
        cut = len(found) == most and at + most < len(self.keys)
        entries = (
            _ENTRY.format(key=quote_plus(key), etag=_etag(self.objects[key]), size=len(self.objects[key]))
            for key in found
        )
        following = found[-1] if cut else ""
        return _PAGE.format(cut=str(cut).lower(), following=following, contents="".join(entries))


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def serve(keys: int, parent: Connection) -> None:
    """A process that has so many keys; whatever it is sent it answers with the number of requests so far."""
    Shelf.objects = {f"docs/directory {n % DIRECTORIES}/file {n}": b"%d" % n for n in range(keys)}
    Shelf.keys = sorted(Shelf.objects)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent.send(server.server_address[1])
    while parent.recv():
        parent.send(Shelf.requests)


@contextmanager
def bucket(keys: int) -> Iterator[tuple[int, Connection]]:
    """The server for the block: its port, and where it tells its requests."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(keys, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.kill()
        process.join()


async def listed(driver: S3Driver) -> int:
    """List all of it, directory by directory, as a scan does; how many files there are."""
    files, waiting = 0, [paths.ROOT]
    while waiting:
        listings = await driver.scan(FOLDER, waiting)
        assert all(listing.complete and not listing.missing for listing in listings)
        entries = [entry for listing in listings for entry in listing.entries]
        files += sum(entry.kind is Kind.FILE for entry in entries)
        waiting = [entry.path for entry in entries if entry.kind is Kind.DIRECTORY]
    return files


async def measure(keys: int, port: int, server: Connection) -> None:
    options = {"endpoint": f"http://127.0.0.1:{port}", "access_key": "key", "secret_key": "secret"}
    driver = S3Driver("bucket", options, {FOLDER: f"{BUCKET}/docs"})
    with tempfile.TemporaryDirectory() as workspace:
        driver.workspace = workspace
        async with driver.open():
            await driver.identify(FOLDER)
            await driver.mark(FOLDER, Identity("benchmark", 1, 0))
            for what in ("first", "second"):
                requests, before, began = asked(server), grown(), time.monotonic()
                files = await listed(driver)
                took, more = time.monotonic() - began, asked(server) - requests
                assert files == keys
                print(f"{what} listing: {files:,} files, {more} requests, {took:.1f} s, {grown() - before:.0f} MB more")


def asked(server: Connection) -> int:
    """Requests that the server got so far."""
    server.send("requests")
    return int(server.recv())


def grown() -> float:
    """Megabytes that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with bucket(keys) as (port, server):
        trio.run(measure, keys, port, server)


if __name__ == "__main__":
    main()
