"""Servers that are not reached: every driver that opens sockets says so with the same words."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from onitu.drivers.ftp import FtpDriver, FtpsDriver
from onitu.drivers.s3 import S3Driver
from onitu.drivers.webdav import WebdavDriver
from onitu.model.errors import Unavailable
from onitu.plug.driver import Driver

NAS = "127.0.0.1"


def s3(scheme: str, port: int) -> Driver[Any]:
    options = {"endpoint": f"{scheme}://{NAS}:{port}", "access_key": "a", "secret_key": "s"}
    return S3Driver("nas", options, {"docs": "bucket"})


def webdav(scheme: str, port: int) -> Driver[Any]:
    return WebdavDriver("nas", {"url": f"{scheme}://{NAS}:{port}"}, {"docs": "docs"})


def ftp(scheme: str, port: int) -> Driver[Any]:
    if scheme == "http":
        return FtpDriver("nas", {"host": NAS, "port": port}, {"docs": "docs"})
    return FtpsDriver("nas", {"host": NAS, "port": port, "tls": "implicit"}, {"docs": "docs"})


async def told(driver: Driver[Any], workspace: Path) -> str:
    driver.workspace = str(workspace)
    with trio.fail_after(60):
        async with driver.open():
            with pytest.raises(Unavailable) as caught:
                await driver.identify("docs")
    return str(caught.value)


@pytest.mark.parametrize("made", [s3, webdav, ftp])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_port_where_nothing_listens(made: Any, scheme: str, tmp_path: Path) -> None:
    with socket.socket() as bound:  # so that nobody else listens there meanwhile
        bound.bind((NAS, 0))
        port = bound.getsockname()[1]
        assert f"{NAS}:{port}" in (said := await told(made(scheme, port), tmp_path))
    assert "cannot use the root: nothing listens at " in said


@pytest.mark.parametrize("made", [s3, webdav, ftp])
async def test_a_server_that_speaks_no_tls(made: Any, tmp_path: Path) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # who understands nothing hangs up
            async with stream:
                await stream.receive_some(1)
                await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                async for _ in stream:
                    pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, host=NAS), plain, 0)
        port = listeners[0].socket.getsockname()[1]
        assert (await told(made("https", port), tmp_path)).endswith(f"{NAS}:{port} does not speak TLS there")
        nursery.cancel_scope.cancel()
