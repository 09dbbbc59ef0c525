"""S3 servers on loopback: SeaweedFS, which obeys every condition; moto, which obeys those of puts and deletions; and
`rclone serve s3`, which obeys none and serves a directory of this host. And a proxy that makes a server ill.

Each runs as a child process in a directory of its own and is ended by its pid. All come from PyPI: where one is missing
its tests are skipped, except in CI, where they fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest
import trio

DEADLINE = 60.0
ACCESS, SECRET = "AKIATESTTEST", "a-secret/with+signs"


@attrs.frozen
class S3Server:
    """One that runs. `kind`: `seaweedfs`, `moto`, `rclone`; `place`: what it serves, for rclone."""

    kind: str
    port: int
    place: Path
    swaps: bool

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_ports(count: int, spare: int = 0) -> list[int]:
    """Ports of loopback that nobody has now, nor the ones `spare` above them."""
    found: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(found) < count:
            one = socket.create_server(("127.0.0.1", 0))
            held.append(one)
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                if spare:
                    held.append(socket.create_server(("127.0.0.1", port + spare)))
                found.append(port)
    finally:
        for one in held:
            one.close()
    return found


def program(name: str) -> str:
    """The path of a server's program; where there is none the test is skipped, or fails in CI."""
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        reason = f"{name} is not installed: pip install 'onitu[test]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@contextlib.contextmanager
def _running(command: Sequence[str], place: Path, ready: Callable[[], bool], **environment: str) -> Iterator[None]:
    log = place / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=place,
            env={**os.environ, **environment},
        )
    try:
        end = time.monotonic() + DEADLINE
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{command[0]} is not ready:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)  # between two looks at a condition
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


@contextlib.contextmanager
def seaweedfs(place: Path) -> Iterator[S3Server]:
    s3, master, volume, filer = free_ports(4, 10_000)
    identity = {"credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "name": "tester"}
    reader = {"credentials": [{"accessKey": "READER", "secretKey": SECRET}], "name": "reader"}
    rights = {"actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (place / "s3.json").write_text(
        json.dumps({"identities": [{**identity, **rights}, {**reader, "actions": ["Read", "List"]}]})
    )
    (place / "data").mkdir()
    command = [program("weed"), "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += ["-s3.config=s3.json", "-s3.iam=false", "-master.telemetry=false", "-volume.max=50"]
    command += ["-master.volumeSizeLimitMB=64", f"-s3.port={s3}", f"-master.port={master}"]
    command += [f"-volume.port={volume}", f"-filer.port={filer}"]
    server = S3Server("seaweedfs", s3, place, True)
    with _running(command, place, lambda: _answers(server.url) and _answers(f"http://127.0.0.1:{filer}/")):
        yield server


@contextlib.contextmanager
def moto(place: Path) -> Iterator[S3Server]:
    (port,) = free_ports(1)
    server = S3Server("moto", port, place, True)
    command = [program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, place, lambda: _answers(server.url)):
        yield server


@contextlib.contextmanager
def rclone(place: Path) -> Iterator[S3Server]:
    (port,) = free_ports(1)
    (place / "data").mkdir()
    server = S3Server("rclone", port, place / "data", False)
    command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", str(place / "none")]
    with _running([*command, "data"], place, lambda: _answers(server.url), RCLONE_AUTH_KEY=f'"{ACCESS},{SECRET}"'):
        yield server


SERVERS = {"seaweedfs": seaweedfs, "moto": moto, "rclone": rclone}


@attrs.define
class Ill:
    """A proxy before a server, which passes everything on until it is told otherwise.

    Attributes:
        answers: given instead of the next answers of the server, one to a connection.
        cut: bytes of a request after which its connection is cut; 0: none. Counts down over one connection.
        stalls: nothing is passed on any more, in either direction.
        requests: first lines that came in.
    """

    port: int = 0
    answers: list[bytes] = attrs.field(factory=list)
    cut: int = 0
    stalls: bool = False
    requests: list[str] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def ill(server: S3Server) -> AsyncIterator[Ill]:
    """The proxy, for the block."""
    proxy = Ill()

    async def serve(client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream("127.0.0.1", server.port) as behind:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async with trio.open_nursery(strict_exception_groups=False) as nursery:
                    nursery.start_soon(there, client, behind, nursery.cancel_scope)
                    nursery.start_soon(back, client, behind, nursery.cancel_scope)

    async def there(client: trio.SocketStream, behind: trio.SocketStream, scope: trio.CancelScope) -> None:
        sent = 0
        async for data in client:
            if data[:4] in (b"GET ", b"PUT ", b"POST", b"HEAD", b"DELE"):
                proxy.requests.append(data.partition(b"\r\n")[0].decode())
                if proxy.answers:
                    await client.send_all(proxy.answers.pop(0))
                    scope.cancel()
                    return
            sent += len(data)
            if proxy.cut and sent > proxy.cut:
                proxy.cut = 0
                scope.cancel()
                return
            if proxy.stalls:
                await trio.sleep_forever()
            await behind.send_all(data)
        scope.cancel()

    async def back(client: trio.SocketStream, behind: trio.SocketStream, scope: trio.CancelScope) -> None:
        async for data in behind:
            if proxy.stalls:
                await trio.sleep_forever()
            await client.send_all(data)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        proxy.port = listeners[0].socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()


def answer(status: str, code: str = "", **headers: str) -> bytes:
    """An answer that says no."""
    body = f"<Error><Code>{code}</Code><Message></Message></Error>" if code else ""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
