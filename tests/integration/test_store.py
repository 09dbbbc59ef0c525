"""A store of one's own: a server somewhere else, by Unix socket, by TCP with a password, by TLS."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from onitu.store.embedded import wait_ready
from onitu.testing.ports import free_port
from tests.conftest import Server

from .harness import assert_same, onitu, started

PASSWORD = "a word that nobody is to see"


@pytest.fixture
def port(own_server: Server) -> int:
    """A server on TCP, with a password."""
    port = free_port()
    own_server.start(f'port {port}\nbind 127.0.0.1\nrequirepass "{PASSWORD}"\n'.encode())
    trio.run(wait_ready, f"redis://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}", 20.0)
    return port


@contextmanager
def tls(authority: trustme.CA, port: int) -> Iterator[int]:
    """A port of 127.0.0.1 where TLS is taken off what goes to and comes from another port there."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listening, started = threading.Event(), []

    async def one(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True)
        try:
            async with secure, await trio.open_tcp_stream("127.0.0.1", port) as plain, trio.open_nursery() as nursery:
                nursery.start_soon(pump, secure, plain, nursery.cancel_scope)
                nursery.start_soon(pump, plain, secure, nursery.cancel_scope)
        except* (trio.BrokenResourceError, OSError):
            pass  # one of the two has gone, or the client does not trust us

    async def pump(source: trio.abc.Stream, target: trio.abc.Stream, both: trio.CancelScope) -> None:
        while data := await source.receive_some(65536):
            await target.send_all(data)
        both.cancel()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, one, 0, host="127.0.0.1"))
            started.extend([listener.socket.getsockname()[1], trio.lowlevel.current_trio_token(), nursery])
            listening.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert listening.wait(20)
    try:
        yield started[0]
    finally:
        started[1].run_sync_soon(started[2].cancel_scope.cancel)
        thread.join()


def configuration(directory: Path, state: Path, roots: list[Path], url: str) -> Path:
    path = directory / "onitu.yaml"
    services = "".join(f"  {root.name}: {{driver: local, folders: {{docs: {root}}}}}\n" for root in roots)
    path.write_text(f"name: t\nstate: {state}\nstore: {url}\nfolders: {{docs: {{}}}}\nservices:\n{services}")
    return path


def test_a_server_on_a_unix_socket(roots: list[Path], state: Path, own_server: Server, tmp_path: Path) -> None:
    a, b, _ = roots
    own_server.start()
    (a / "x").write_text("x")
    with started(configuration(tmp_path, state, [a, b], own_server.url), state) as daemon:
        assert_same(a, b)
        assert "store" not in daemon.pids()


def test_a_password_comes_from_the_environment_and_is_shown_nowhere(
    roots: list[Path], state: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = roots
    (a / "x").write_text("x")
    monkeypatch.setenv("STORE_PASSWORD", PASSWORD.replace(" ", "%20"))
    path = configuration(tmp_path, state, [a, b], f"redis://:${{STORE_PASSWORD}}@127.0.0.1:{port}/0")
    with started(path, state) as daemon:
        assert_same(a, b)
        told = str(daemon.status())
        told += "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in daemon.pids().values())
        told += subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    told += daemon.log.read_text() + (state / "onitu.log").read_text()
    for secret in (PASSWORD, PASSWORD.replace(" ", "%20")):
        assert secret not in told


def test_a_server_behind_tls_is_used_if_its_certificate_is_trusted(
    roots: list[Path], state: Path, port: int, tmp_path: Path
) -> None:
    a, b, _ = roots
    (a / "x").write_text("x")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with tls(authority, port) as secured:
        url = f"rediss://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{secured}/0"
        with started(configuration(tmp_path, state, [a, b], f"{url}?ssl_ca_certs={tmp_path}/ca.pem"), state):
            assert_same(a, b)
        stranger = onitu("start", "-c", configuration(tmp_path, state, [a, b], url))
    assert stranger.code == 2
    assert "certificate" in stranger.err.lower()
    assert "Traceback" not in stranger.err


def test_a_wrong_password_ends_the_run_and_says_so(roots: list[Path], state: Path, port: int, tmp_path: Path) -> None:
    refused = onitu("start", "-c", configuration(tmp_path, state, roots[:2], f"redis://:wrong@127.0.0.1:{port}/0"))
    assert refused.code == 2
    assert "refuses the user or the password" in refused.err.splitlines()[-1]
    assert "wrong@" not in refused.err
    assert "Traceback" not in refused.err
