"""S3 servers on loopback: SeaweedFS, which obeys every condition; moto, which obeys those of puts and deletions; and
`rclone serve s3`, which obeys none and serves a directory of this host. And a proxy that makes a server ill.

Each runs as a child process in a directory of its own and is ended by its pid. All come from PyPI: where one is missing
its tests are skipped, except in CI, where they fail.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import botocore.exceptions
import botocore.session
import pytest
from botocore.config import Config

from onitu.drivers.s3 import client
from onitu.model import paths
from onitu.plug.options import Value
from onitu.testing.conformance import Denied, Fault, Root, Server
from onitu.testing.ports import free_port, free_ports

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
        process.kill()  # it serves nobody else, and nothing of it is kept
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
    s3, master, volume, filer, iceberg, lance = free_ports(6, 10_000)
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
    command += [f"-s3.port.iceberg={iceberg}", f"-s3.port.lance={lance}"]
    server = S3Server("seaweedfs", s3, place, True)
    with _running(command, place, lambda: _answers(server.url) and _answers(f"http://127.0.0.1:{filer}/")):
        yield server


@contextlib.contextmanager
def moto(place: Path) -> Iterator[S3Server]:
    port = free_port()
    server = S3Server("moto", port, place, True)
    command = [program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, place, lambda: _answers(server.url)):
        yield server


@contextlib.contextmanager
def rclone(place: Path) -> Iterator[S3Server]:
    port = free_port()
    (place / "data").mkdir()
    server = S3Server("rclone", port, place / "data", False)
    command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", str(place / "none")]
    with _running([*command, "data"], place, lambda: _answers(server.url), RCLONE_AUTH_KEY=f'"{ACCESS},{SECRET}"'):
        yield server


SERVERS = {"seaweedfs": seaweedfs, "moto": moto, "rclone": rclone}


class Ill:
    """A proxy before a server. It passes everything on until it has a fault.

    Attributes:
        fault: what it has now; None: nothing.
        answers: given instead of the next answers of the server; None: that one is the server's own.
        told: likewise, for requests that have this in their first line. One that ends within its headers is cut there.
        requests: first lines of the requests that came in.
        cut: bytes after which `Fault.CUT` cuts a connection.
        cuts: a request that has this in its first line is cut within its body; empty: none.
    """

    def __init__(self, server: S3Server) -> None:
        self.fault: Fault | None = None
        self.answers: list[bytes | None] = []
        self.told: dict[str, list[bytes]] = {}
        self.requests: list[str] = []
        self.cut = 300_000
        self.cuts = ""
        self._behind = server.port
        self._held: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port: int = self._listener.getsockname()[1]
        self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Nobody answers any more, and nobody is answered."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for held in list(self._held):
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def having(self, fault: Fault) -> Iterator[None]:
        """Have a fault for the block."""
        self.fault = fault
        if fault is Fault.BUSY:
            self.answers = [answer("503 Slow Down", "SlowDown", retry_after="1") for _ in range(3)]
        if fault is Fault.DOWN:
            self.close()
        try:
            yield
        finally:
            self.fault = None
            self.answers = []
            for held in list(self._held):  # what was held goes on nowhere
                with contextlib.suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)
            if fault is Fault.DOWN:
                self._listener = socket.create_server(("127.0.0.1", self.port))
                self._start()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError), one, socket.create_connection(("127.0.0.1", self._behind)) as other:
            self._held |= {one, other}
            for end in (one, other):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer of two pieces takes 40 ms
            try:
                threading.Thread(target=self._back, args=(one, other), daemon=True).start()
                self._there(one, other)
            finally:
                self._held -= {one, other}
                with contextlib.suppress(OSError):
                    other.shutdown(socket.SHUT_RDWR)

    def _there(self, one: socket.socket, other: socket.socket) -> None:
        passed = 0
        incoming = one.makefile("rb")
        while head := _head(incoming):
            self.requests.append(head.partition(b"\r\n")[0].decode())
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            size = int(fields.get(b"content-length", b"0"))
            if (told := self._told(size)) is not None:
                incoming.read(size)
                one.sendall(told)
                if b"\r\n\r\n" not in told:
                    return  # it is cut within its headers
                continue
            other.sendall(head + b"\r\n")
            if self.cuts and self.cuts in self.requests[-1]:
                return
            while size:
                data = incoming.read1(min(size, 65536))
                passed, size = passed + len(data), size - len(data)
                if not data or (self.fault is Fault.CUT and passed > self.cut):
                    return
                if self.fault is Fault.STALLED:
                    one.recv(1, socket.MSG_PEEK)
                    while self.fault is Fault.STALLED:
                        time.sleep(0.05)
                    return
                other.sendall(data)

    def _told(self, size: int) -> bytes | None:
        """What is answered instead of the server."""
        method, target, _ = self.requests[-1].split()
        if self.answers:
            return self.answers.pop(0)
        for what, answers in self.told.items():
            if what in self.requests[-1] and answers:
                return answers.pop(0)
        if self.fault is Fault.DENIED and method in ("PUT", "POST") and "/denied/" in target:
            return answer("403 Forbidden", "AccessDenied")
        if self.fault is Fault.FULL and size > 100_000:
            return answer("507 Insufficient Storage", "QuotaExceeded")
        return None

    def _back(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := other.recv(65536):
                while self.fault is Fault.STALLED:
                    time.sleep(0.05)
                one.sendall(data)
            one.shutdown(socket.SHUT_RDWR)


def _head(incoming: io.BufferedReader) -> bytes:
    """The lines of a request's head; empty: the connection has ended."""
    lines = []
    while (line := incoming.readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join(lines) if line else b""


def answer(status: str, code: str = "", **headers: str) -> bytes:
    """An answer that says no."""
    body = f"<Error><Code>{code}</Code><Message></Message></Error>" if code else ""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Bucket(Root):
    """A prefix in a bucket, and a user with a client of Amazon's own."""

    def __init__(self, server: S3Server, ill: Ill, bucket: str, name: str) -> None:
        self.options = {"endpoint": ill.url, "access_key": ACCESS, "secret_key": SECRET, "timeout": 2.0}
        self.path = f"{bucket}/{name}"
        self.client = user(server)
        self._bucket, self._prefix = bucket, f"{name}/"
        self._told = server.kind == "rclone"

    def _key(self, path: bytes) -> str:
        try:
            return self._prefix + path.decode()
        except UnicodeDecodeError as error:
            raise Denied("keys are UTF-8") from error

    def write(self, path: bytes, data: bytes) -> None:
        key = self._key(path)
        try:
            # Without a time of its own, `rclone serve s3` rounds it in a listing, and cuts it in a look.
            told = {"mtime": str(int(time.time()))} if self._told else {}
            self.client.put_object(Bucket=self._bucket, Key=key, Body=data, Metadata=told)
            self.client.head_object(Bucket=self._bucket, Key=key)
        except botocore.exceptions.ClientError as error:
            raise Denied(str(error)) from error
        if key not in self._keys():
            raise Denied("the server gave it another key")

    def delete(self, path: bytes) -> None:
        for key in self._keys():
            if key == self._key(path) or key.startswith(f"{self._key(path)}/"):
                self.client.delete_object(Bucket=self._bucket, Key=key)

    def rename(self, path: bytes, target: bytes) -> None:
        source = {"Bucket": self._bucket, "Key": self._key(path)}
        self.client.copy_object(Bucket=self._bucket, Key=self._key(target), CopySource=source)
        self.client.delete_object(**source)

    def make_directory(self, path: bytes) -> None:
        self.client.put_object(Bucket=self._bucket, Key=f"{self._key(path)}/", Body=b"")

    def tree(self) -> dict[bytes, bytes | None]:
        found: dict[bytes, bytes | None] = {}
        for key in self._keys():
            path = key.removeprefix(self._prefix).encode()
            if path.startswith(b".onitu/"):
                continue
            found.update(dict.fromkeys(paths.ancestors(path.rstrip(b"/"))))
            if key.endswith("/"):
                found[path.rstrip(b"/")] = None
            elif not key.endswith("/.onitu-directory"):
                found[path] = self.client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return found

    def _keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]


def user(server: S3Server) -> Any:
    """Amazon's own client."""
    session = botocore.session.Session()
    return session.create_client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


def make_bucket(server: S3Server) -> None:
    """Make the bucket `bucket`, and wait until it takes objects: for the first one SeaweedFS makes volumes, which may
    take longer on a busy host than a driver waits."""
    at = user(server)
    at.create_bucket(Bucket="bucket")
    at.put_object(Bucket="bucket", Key="first", Body=b"first")
    at.delete_object(Bucket="bucket", Key="first")


class _S3(Server):
    """One of them as the suite of every driver wants it."""

    kind = ""
    faults = frozenset(
        {Fault.WRONG_PASSWORD, Fault.DOWN, Fault.CUT, Fault.STALLED, Fault.BUSY, Fault.DENIED, Fault.FULL, Fault.CLOCK}
    )
    stalls = 30.0

    def __enter__(self) -> Server:
        self._stack = contextlib.ExitStack()
        self.server = self._stack.enter_context(SERVERS[self.kind](self.place))
        self.ill = Ill(self.server)
        self._stack.callback(self.ill.close)
        make_bucket(self.server)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def empty(self, name: str) -> Root:
        return Bucket(self.server, self.ill, "bucket", name)

    def stay_busy(self) -> None:
        """Answer so until the fault is over."""
        self.ill.answers *= 10_000

    @contextlib.contextmanager
    def fault(self, fault: Fault, root: Root) -> Iterator[Mapping[str, Value]]:
        if fault is Fault.WRONG_PASSWORD:
            yield {**root.options, "secret_key": "a wrong password"}
        elif fault is Fault.CLOCK:
            with pytest.MonkeyPatch.context() as patch:  # for this side it makes no difference whose is wrong
                patch.setattr(client, "now", lambda: time.time() - 3600)
                yield root.options
        else:
            with self.ill.having(fault):
                yield root.options


class SeaweedServer(_S3):
    kind = "seaweedfs"


class MotoServer(_S3):
    kind = "moto"
    faults = _S3.faults - {Fault.WRONG_PASSWORD}  # it believes every signature


class RcloneServer(_S3):
    kind = "rclone"
