"""The suite of every driver, for SFTP on two servers; and one that is not OpenSSH: rclone's."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from blake3 import blake3

from onitu.model.events import Seen
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.driver import Identity
from onitu.plug.remote import Changed
from tests.integration.test_conformance import conform
from tests.servers.sftp import PASSWORD, rclone
from tests.unit.drivers.sftp_stage import FOLDER, MINE, NEW, answer, file_version, opened


@pytest.mark.parametrize("server", ["Sftp", "Rclone"])
def test_the_driver_conforms(server: str, tmp_path: Path) -> None:
    options = ("--driver", "onitu.drivers.sftp:SftpDriver", "--server", f"tests.servers.sftp:{server}Server")
    said = conform(tmp_path, *options, "--largest", "20000000")
    assert said.endswith("exit 0"), said


async def test_a_server_that_is_not_openssh_takes_a_password_and_keeps_the_same_promises() -> None:
    with rclone("me", PASSWORD) as server:
        options = {"user": "me", "password": PASSWORD, "identity": ""}
        async with opened(server, server.root / "docs", root="docs", **options) as stage:
            assert await stage.driver.identify(FOLDER) == Identity("me", 1, 2)
            big = random.Random(1).randbytes(3_000_000)
            put = answer(await stage.put(b"some where/big", big))
            assert put.seen is Seen.DONE
            assert await stage.content(b"some where/big", len(big)) == big
            held = file_version(big)
            again = answer(await stage.put(b"some where/big", NEW, expect=put.token, held=held))
            assert (again.seen, stage.visible()) == (Seen.DONE, {"some where/big": NEW})
            (stage.there / "mine").write_bytes(MINE)
            for path, target in ((b"some where/big", b"mine"), (b"some where", b"mine")):
                with pytest.raises(Changed):
                    await stage.remote.rename(path, target, None)
            refused = answer(await stage.put(b"mine", NEW))
            assert (refused.seen, refused.version.digests[BLAKE3]) == (Seen.STANDS, blake3(MINE).digest())
            token = await stage.token(b"some where/big")
            move = Order(1, Do.MOVE, b"some where/big", file_version(NEW), token, file_version(NEW), b"else/where")
            assert answer((await stage.do(move))[0]).seen is Seen.DONE
            token = await stage.token(b"mine")
            delete = Order(2, Do.DELETE, b"mine", Version(Kind.NOTHING), token, file_version(MINE))
            assert answer((await stage.do(delete))[0]).seen is Seen.DONE
            assert stage.visible() == {"else/where": NEW}
            assert stage.hidden() == []
