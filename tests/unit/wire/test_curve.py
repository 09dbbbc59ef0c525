from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import zmq

from onitu.model.errors import ConfigurationError, PeerGone
from onitu.wire.curve import Authenticator, Curve, Keys
from onitu.wire.messages import Answer, Ask, Beat
from onitu.wire.sockets import Context, Kind, Options, Socket, ask

SERVER, FRIEND, STRANGER = Keys.make(), Keys.make(), Keys.make()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Context, Authenticator, Socket]]:
    """A server on loopback that knows one client, and answers questions."""
    context: Context = zmq.Context()
    try:
        async with trio.open_nursery() as nursery:
            authenticator = Authenticator(context, [FRIEND.public])
            await nursery.start(authenticator.run)
            options = Options(max_size=64 << 20)
            async with Socket.bind(
                context, Kind.ROUTER, "tcp://127.0.0.1:*", options=options, curve=Curve(SERVER)
            ) as router:
                nursery.start_soon(answer, router)
                yield context, authenticator, router
                nursery.cancel_scope.cancel()
    finally:
        context.destroy(linger=0)


async def answer(router: Socket) -> None:
    while True:
        identity, message = await router.receive()
        assert isinstance(message, Ask)
        await router.send(Answer(message.request, message.arguments), to=identity)


async def test_a_known_key_is_accepted(server: tuple[Context, Authenticator, Socket]) -> None:
    _, authenticator, router = server
    curve = Curve(FRIEND, server=SERVER.public)
    assert await ask(router.endpoint, "echo", {"n": 1}, curve=curve) == {"n": 1}
    assert authenticator.refused == 0


async def test_an_unknown_key_is_refused(server: tuple[Context, Authenticator, Socket]) -> None:
    _, authenticator, router = server
    with pytest.raises(PeerGone):
        await ask(router.endpoint, "echo", timeout=0.5, curve=Curve(STRANGER, server=SERVER.public))
    assert authenticator.refused > 0


async def test_a_wrong_server_key_is_refused(server: tuple[Context, Authenticator, Socket]) -> None:
    with pytest.raises(PeerGone):
        await ask(server[2].endpoint, "echo", timeout=0.5, curve=Curve(FRIEND, server=STRANGER.public))


async def test_a_client_without_keys_is_refused(server: tuple[Context, Authenticator, Socket]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.setsockopt(zmq.LINGER, 0)
        plain.setsockopt(zmq.IMMEDIATE, 1)
        plain.connect(server[2].endpoint)
        with trio.move_on_after(0.5) as scope:
            await trio.to_thread.run_sync(plain.poll, 500, zmq.POLLOUT)
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught


async def test_without_an_authenticator_nobody_is_let_in() -> None:
    context: Context = zmq.Context()
    try:
        async with Socket.bind(context, Kind.ROUTER, "tcp://127.0.0.1:*", curve=Curve(SERVER)) as router:
            curve = Curve(FRIEND, server=SERVER.public)
            async with Socket.connect(context, Kind.DEALER, router.endpoint, curve=curve) as dealer:
                with trio.move_on_after(0.5) as scope:
                    await dealer.send(Beat())
                assert scope.cancelled_caught
    finally:
        context.destroy(linger=0)


def test_keys_survive_a_file_and_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    SERVER.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keys.load(path) == SERVER
    with pytest.raises(FileExistsError):
        FRIEND.save(path)


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    SERVER.save(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Keys.load(path)


@pytest.mark.parametrize("content", [b"", b"public x", b"public " + b"x" * 40, bytes(range(120, 200))])
def test_what_is_no_pair_of_keys_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no pair of CURVE keys"):
        Keys.load(path)


def test_keys_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    Keys(FRIEND.public, SERVER.secret).save(path)
    with pytest.raises(ConfigurationError) as caught:
        Keys.load(path)
    assert SERVER.secret.decode() not in str(caught.value)


def test_a_secret_is_not_in_the_repr() -> None:
    assert SERVER.secret.decode() not in repr(Curve(SERVER))
