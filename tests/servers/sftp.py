"""OpenSSH's sshd as a child process on loopback, with keys of its own, and a proxy that cuts and stalls connections.

The one who logs in is whoever runs the tests: nothing of the system's own sshd, keys or known hosts is used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

READY = 20.0

_CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host
AuthorizedKeysFile {home}/authorized
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication {password}
KbdInteractiveAuthentication no
PidFile none
MaxStartups 100
{subsystem}
"""


@attrs.define
class Sshd:
    """A server that runs. `root`: a directory that is for the test to use; `process`: whose children serve."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def root(self) -> Path:
        return self.home / "served"

    @property
    def host_key(self) -> Path:
        return self.home / "host"

    def options(self, **more: Any) -> dict[str, Any]:
        """What a driver needs to get in."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "identity": str(self.home / "key"),
            "known_hosts": str(self.home / "known"),
            "config": "none",
            "timeout": 20.0,
            **more,
        }

    def know(self, port: int, key: Path | None = None) -> None:
        """Let the key be the known one of the host at a port."""
        kind, text = (key or self.host_key).with_suffix(".pub").read_text().split()[:2]
        (self.home / "known").write_text(f"[127.0.0.1]:{port} {kind} {text}\n")


@contextlib.contextmanager
def sshd(subsystem: str = "Subsystem sftp internal-sftp", password: bool = False) -> Iterator[Sshd]:
    """A server for the block."""
    binary = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if binary is None or shutil.which("ssh") is None:
        missing("OpenSSH's sshd is not installed (Debian: openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd locks itself in; it is always there
    home = Path(tempfile.mkdtemp(prefix="onitu-sshd-"))
    try:
        (home / "served").mkdir()
        make_key(home / "host")
        make_key(home / "key")
        shutil.copy(home / "key.pub", home / "authorized")
        port = free_port()
        configuration = home / "sshd_config"
        text = _CONFIGURATION.format(port=port, home=home, subsystem=subsystem, password="yes" if password else "no")
        configuration.write_text(text)
        with open(home / "log", "wb") as log:
            process = subprocess.Popen([binary, "-D", "-e", "-f", str(configuration)], stdout=log, stderr=log)
        try:
            wait_for_port(port, process, home / "log")
            server = Sshd(home, port, process)
            server.know(port)
            yield server
        finally:
            process.terminate()
            process.wait(READY)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def agent(key: Path) -> Iterator[str]:
    """An ssh-agent that has a key; the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="onitu-agent-") as directory:
        where = os.path.join(directory, "agent")
        process = subprocess.Popen(["ssh-agent", "-D", "-a", where], stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + READY
            while not os.path.exists(where):
                assert time.monotonic() < end
                time.sleep(0.005)  # between two looks at a condition
            environment = {**os.environ, "SSH_AUTH_SOCK": where}
            subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True)
            yield where
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(READY)


def make_key(path: Path, passphrase: str = "") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, f"no answer at port {port} within {READY:g} s"
        time.sleep(0.005)  # between two looks at a condition


def missing(why: str) -> None:
    """Skip, and say why; in CI a server that is missing is a failure."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@attrs.define(eq=False)
class Proxy:
    """Stands between a client and a server.

    Attributes:
        upstream: bytes that clients sent.
        cut_at: the connections are cut, once, when so many were sent.
        stalled: while it is set, nothing is carried, and nothing is refused.
    """

    target: int
    port: int = 0
    upstream: int = 0
    cut_at: float = float("inf")
    stalled: bool = False
    connections: int = 0
    _streams: set[trio.SocketStream] = attrs.field(factory=set)
    _goes: trio.Event = attrs.field(factory=trio.Event)

    async def cut(self) -> None:
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    def stall(self) -> None:
        self.stalled, self._goes = True, trio.Event()

    def go_on(self) -> None:
        self.stalled = False
        self._goes.set()

    async def serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        server = await trio.open_tcp_stream("127.0.0.1", self.target)
        self._streams |= {client, server}
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, client, server, True)
            await self._carry(server, client, False)
            nursery.cancel_scope.cancel()
        self._streams -= {client, server}

    async def _carry(self, source: trio.SocketStream, sink: trio.SocketStream, up: bool) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65536):
                if self.stalled:
                    await self._goes.wait()
                if up:
                    self.upstream += len(data)
                    if self.upstream >= self.cut_at:
                        self.cut_at = float("inf")
                        await self.cut()
                        return
                await sink.send_all(data)
            await sink.send_eof()


@contextlib.asynccontextmanager
async def proxied(server: Sshd) -> AsyncIterator[Proxy]:
    """A proxy before a server, known by the server's key."""
    proxy = Proxy(server.port)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        server.know(proxy.port)
        try:
            yield proxy
        finally:
            server.know(server.port)
            nursery.cancel_scope.cancel()
