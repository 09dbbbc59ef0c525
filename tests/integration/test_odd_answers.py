"""Servers whose answers are altered at random, with the real command: nothing is lost, nothing breaks, and it heals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from onitu.testing.conformance import Root
from tests.servers import s3
from tests.servers.http_odd import Odd
from tests.servers.webdav import PASSWORD, USER, RcloneServer, WsgidavServer, _DavServer

from .harness import onitu

ROUNDS = 6
SEEDS = (1,)


@attrs.frozen
class Place:
    """A server behind the proxy. `environment`: with what a run finds its credentials."""

    odd: Odd
    root: Root
    url: str
    environment: dict[str, str]


@contextlib.contextmanager
def _webdav(kind: type[_DavServer], place: Path, seed: int) -> Iterator[Place]:
    with kind(place) as server:
        assert isinstance(server, _DavServer)
        odd = Odd(server.served.port, seed)
        netrc = place / "netrc"
        netrc.touch(0o600)
        netrc.write_text(f'machine 127.0.0.1 login "{USER}" password "{PASSWORD}"\n')
        root = server.empty("docs")
        url = str(root.options["url"]).removeprefix("http://").replace(str(server.ill.port), str(odd.port))
        yield Place(odd, root, f"dav://{url}/docs", {"NETRC": str(netrc)})
        odd.close()


@contextlib.contextmanager
def _bucket(kind: str, place: Path, seed: int) -> Iterator[Place]:
    with s3.SERVERS[kind](place) as server:
        s3.make_bucket(server)
        odd, ill = Odd(server.port, seed), s3.Ill(server)
        root = s3.Bucket(server, ill, "bucket", "docs")
        keys = {"AWS_ACCESS_KEY_ID": s3.ACCESS, "AWS_SECRET_ACCESS_KEY": s3.SECRET}
        yield Place(odd, root, f"s3://bucket/docs?endpoint=http://127.0.0.1:{odd.port}", keys)
        odd.close()
        ill.close()


PLACES: dict[str, Callable[[Path, int], contextlib.AbstractContextManager[Place]]] = {
    "wsgidav": lambda place, seed: _webdav(WsgidavServer, place, seed),
    "rclone-webdav": lambda place, seed: _webdav(RcloneServer, place, seed),
    "seaweedfs": lambda place, seed: _bucket("seaweedfs", place, seed),
    "moto": lambda place, seed: _bucket("moto", place, seed),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_a_server_answers_nothing_is_lost_and_nothing_breaks(name: str, seed: int, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    local, state = tmp_path / "here", tmp_path / "state"
    local.mkdir()
    with PLACES[name](tmp_path / "server", seed) as at:

        def here() -> dict[str, bytes]:
            files = (path for path in local.rglob("*") if path.is_file() and ".onitu" not in path.parts)
            return {str(path.relative_to(local)): path.read_bytes() for path in files}

        def there() -> dict[str, bytes]:
            return {os.fsdecode(path): data for path, data in at.root.tree().items() if data is not None}

        def sync() -> int:
            result = onitu("sync", local, at.url, "--state", state, timeout=240, **at.environment)
            assert result.code in (0, 1), result.err + result.out
            assert "Traceback" not in (state / "onitu.log").read_text() + result.err
            return result.code

        values: set[bytes] = set()
        for number in range(ROUNDS):
            for file in range(4):
                path = local / f"d{file % 2}" / f"f{(number + file) % 5}"
                path.parent.mkdir(exist_ok=True)
                if path.exists():
                    values.discard(path.read_bytes())
                path.write_bytes(f"ours {number} {file} ".encode() + os.urandom(300_000 if file == 3 else 8))
                values.add(path.read_bytes())
            theirs = f"theirs {number}".encode()
            at.root.write(f"t{number}".encode(), theirs)
            values.add(theirs)
            at.odd.share = (0.02, 0.1, 0.3)[number % 3]
            code = sync()
            ours, far = here(), there()
            assert values <= {*ours.values(), *far.values()}, "nothing is lost"
            assert code or ours == far, "in sync is what is the same"
        at.odd.share = 0.0
        assert 0 in (sync(), sync(), sync())
        assert here() == there()
        assert at.odd.altered > 5
