"""The embedded server starts from its own configuration, private and durable, whatever its directory is called."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
import trio

from onitu.model.errors import ConfigurationError, StateError
from onitu.store import urls
from onitu.store.embedded import Embedded, binary, wait_ready
from onitu.store.interface import Change
from onitu.store.redis import RedisStore
from tests.conftest import READY, Server

from .values import a_file


def test_the_binary_is_there_and_runs() -> None:
    said = subprocess.run([binary(), "--version"], capture_output=True, check=True)
    assert b"Valkey server" in said.stdout


def test_the_settings_are_durable_and_private(valkey: str) -> None:
    client = urls.client(valkey)
    settings = client.config_get("*")
    client.close()
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-load-truncated": "yes",
        "save": "",
        "port": "0",
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "unixsocketperm": "700",
    }
    assert {name: settings[name] for name in wanted} == wanted
    path = settings["unixsocket"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


ODD = [b"a \"quoted' \\x41 one", b"new\nline # 100%?", "é \U0001f600".encode()]


@pytest.mark.parametrize("name", ODD)
async def test_directories_may_have_any_name(own_directory: Path, name: bytes) -> None:
    await starts(Server(own_directory / os.fsdecode(name)))


async def test_a_state_directory_need_not_be_utf8(own_directory: Path) -> None:
    server = Server(own_directory)
    server.embedded = Embedded(str(own_directory / os.fsdecode(b"by\xfftes")), str(own_directory / "run"))
    await starts(server)


def test_a_runtime_directory_has_to_be_utf8(own_directory: Path) -> None:
    with pytest.raises(StateError, match="is not UTF-8"):
        Embedded(str(own_directory), str(own_directory / os.fsdecode(b"by\xfftes"))).prepare()


async def starts(server: Server) -> None:
    server.start()
    try:
        await wait_ready(server.url, READY)
        assert await trio.Path(server.embedded.socket).exists()
        assert await trio.Path(server.embedded.state, "appendonlydir").is_dir()
        assert await trio.Path(server.embedded.log).exists()
    finally:
        server.kill()


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="longer than 103 bytes"):
        Embedded(str(tmp_path), "/tmp/" + "x" * 100).prepare()


def test_a_state_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match="cannot be prepared"):
        Embedded(str(tmp_path / "file" / "state"), "/tmp/none").prepare()


async def test_waiting_for_a_server_that_never_comes_ends_with_an_error(own_directory: Path) -> None:
    with trio.fail_after(5), pytest.raises(StateError, match="cannot be reached"):
        await wait_ready(f"unix://{own_directory}/none.sock", 0.1)


async def test_waiting_refuses_a_wrong_url_at_once() -> None:
    with pytest.raises(ConfigurationError):
        await wait_ready("http://localhost", 5)


async def test_waiting_ends_at_once_when_the_server_refuses_us(own_server: Server) -> None:
    own_server.start(b"requirepass secret\n")
    with trio.fail_after(READY):
        good = own_server.url.replace("unix://", "unix://:secret@")
        await wait_ready(good, READY)
        for url in (own_server.url, own_server.url.replace("unix://", "unix://:hunter2@")):
            with pytest.raises(ConfigurationError, match=r"refuse") as caught:
                await wait_ready(url, 1000)
            assert "hunter2" not in str(caught.value)


async def test_small_directories_are_packed(valkey: str) -> None:
    async with RedisStore(valkey).open_folder("home") as folder:
        for n in range(256):
            await folder.commit(Change(nodes={b"d/%d" % n: a_file(b"d/%d" % n)}))
    client = urls.client(valkey)
    assert client.object("encoding", b"onitu:{home}:d:d") == b"listpack"
    client.close()


async def test_a_million_files_fit_in_300_megabytes(valkey: str) -> None:
    client = urls.client(valkey)
    before = client.info("memory")["used_memory"]
    names = [b"projects/some-name/dir%05d/IMG_%06d.JPG" % (n // 20, n) for n in range(20_000)]
    async with RedisStore(valkey).open_folder("home") as folder:
        await folder.commit(Change(nodes={p: a_file(p, n) for n, p in enumerate(names)}))
        used = client.info("memory")["used_memory"] - before
    client.close()
    assert used / len(names) < 250
