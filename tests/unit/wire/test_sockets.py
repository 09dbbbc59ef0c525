from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import logbook
import pytest
import trio
import trio.lowlevel
import zmq

from onitu.model.errors import OnituError
from onitu.wire.messages import Ack, Answer, Ask, Beat, Chunk, Message, News
from onitu.wire.sockets import Context, Kind, Options, PeerGone, Socket, ask, check_endpoint

QUICK = Options(heartbeat=0)


@pytest.fixture
def context() -> Iterator[Context]:
    with zmq.Context() as context:
        yield context


@pytest.fixture
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"ipc://{tmp_path_factory.mktemp('s')}/s"


@pytest.fixture
async def pair(context: Context, endpoint: str) -> AsyncIterator[tuple[Socket, Socket]]:
    """A ROUTER and a DEALER called `peer` that know each other."""
    async with Socket.bind(context, Kind.ROUTER, endpoint) as router:
        async with Socket.connect(context, Kind.DEALER, endpoint, options=Options(identity=b"peer")) as dealer:
            with trio.fail_after(5):
                await dealer.send(Beat("hello"))
                assert await router.receive() == (b"peer", Beat("hello"))
            yield router, dealer


async def send_on(router: Socket, message: Message | None = None) -> None:
    """Send to `peer` until that raises."""
    while True:
        await router.send(message or Beat(), to=b"peer")
        await trio.sleep(0.01)


def number(message: Message) -> int:
    assert isinstance(message, Ack)
    return message.number


async def test_messages_go_both_ways(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    with trio.fail_after(5):
        await router.send(Ack("docs", "e", 3), to=b"peer")
        assert await dealer.receive() == (b"", Ack("docs", "e", 3))


async def test_cancelled_receives_lose_nothing(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    count, got = 6000, []
    rng = random.Random(7)

    async def send_all() -> None:
        for i in range(count):
            await dealer.send(Ack("docs", "e", i))
            if i % 7 == 0:
                await trio.lowlevel.checkpoint()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all)
            while len(got) < count:
                with trio.move_on_after(rng.choice([0, 0, 1e-6, 1e-5, 1e-4])):
                    if rng.random() < 0.2:
                        got += [number(message) for _, message in await router.receive_many(20)]
                    else:
                        got.append(number((await router.receive())[1]))
    assert got == list(range(count))


async def test_cancelled_sends_send_all_or_nothing(context: Context, endpoint: str) -> None:
    rng = random.Random(11)
    sent, got = [], []
    narrow = Options(high_water=2)
    async with (
        Socket.bind(context, Kind.PULL, endpoint, options=narrow) as pull,
        Socket.connect(context, Kind.PUSH, endpoint, options=narrow) as push,
    ):

        async def receive_all() -> None:
            while True:
                message = (await pull.receive())[1]
                if isinstance(message, Beat):
                    nursery.cancel_scope.cancel()
                    return
                got.append(number(message))

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive_all)
                for i in range(3000):
                    with trio.CancelScope(deadline=trio.current_time() + rng.choice([0, 1e-5, 1e-4])) as scope:
                        await push.send(Ack("docs", "e", i))
                    if not scope.cancelled_caught:
                        sent.append(i)
                await push.send(Beat())
    assert got == sent
    assert 0 < len(sent) < 3000


async def test_one_task_sends_while_another_receives(pair: tuple[Socket, Socket]) -> None:
    """Both tasks wait on one descriptor at both ends; a swallowed edge would leave one asleep."""
    router, dealer = pair
    count = 5000
    seen: dict[str, list[int]] = {"router": [], "dealer": []}

    async def send(socket: Socket, to: bytes | None) -> None:
        for i in range(count):
            await socket.send(Ack("docs", "e", i), to=to)
            if i % 100 == 0:
                await trio.lowlevel.checkpoint()

    async def receive(socket: Socket, name: str) -> None:
        while len(seen[name]) < count:
            seen[name].append(number((await socket.receive())[1]))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, router, "router")
            nursery.start_soon(receive, dealer, "dealer")
            nursery.start_soon(send, router, b"peer")
            nursery.start_soon(send, dealer, None)
    assert seen["router"] == seen["dealer"] == list(range(count))


async def test_a_swallowed_edge_does_not_leave_the_other_task_asleep(pair: tuple[Socket, Socket]) -> None:
    """A message makes the descriptor readable; before Trio looks at it, a send takes that away."""
    router, dealer = pair
    with trio.fail_after(10):
        for i in range(20):
            got = []

            async def receive(got: list[tuple[bytes, Message]] = got) -> None:
                got.append(await dealer.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                router.send_nowait(Ack("docs", "e", i), to=b"peer")
                assert select.select([dealer._fd], [], [], 5)[0]  # blocks on purpose: Trio must not run meanwhile
                dealer.send_nowait(Beat())
            assert got == [(b"", Ack("docs", "e", i))]


async def test_questions_and_answers_in_lockstep_never_stall(pair: tuple[Socket, Socket]) -> None:
    """While the receiver waits for the answer, another task's send on the same socket swallows edges."""
    router, dealer = pair
    answers = 0

    async def serve() -> None:
        while True:
            identity, message = await router.receive()
            if isinstance(message, Ask):
                await router.send(Answer(message.request), to=identity)

    async def chatter() -> None:
        while True:
            await dealer.send(Beat())
            await trio.lowlevel.checkpoint()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(chatter)
            for i in range(1000):
                await dealer.send(Ask(i, "status"))
                _, message = await dealer.receive()
                assert message == Answer(i)
                answers += 1
            nursery.cancel_scope.cancel()
    assert answers == 1000


async def test_the_next_waiter_takes_over_when_the_watcher_is_cancelled(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    got = []

    async def receive() -> None:
        got.append(await router.receive())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as first:
                async with trio.open_nursery() as inner:
                    inner.start_soon(receive)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(receive)
                    await trio.testing.wait_all_tasks_blocked()
                    first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            await dealer.send(Beat("late"))
    assert got == [(b"peer", Beat("late"))]


async def test_sending_to_an_unknown_peer_raises(pair: tuple[Socket, Socket]) -> None:
    router, _ = pair
    with pytest.raises(PeerGone, match="nobody-here"):
        await router.send(Beat(), to=b"nobody-here")


async def test_sending_to_a_peer_that_left_raises(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    dealer.close()
    with trio.fail_after(5), pytest.raises(PeerGone):
        await send_on(router)


async def test_a_peer_that_takes_nothing_is_given_up_without_spinning(
    context: Context, endpoint: str, autojump_clock: trio.testing.MockClock
) -> None:
    narrow = Options(high_water=1, heartbeat=0)
    async with (
        Socket.bind(context, Kind.ROUTER, endpoint, options=narrow) as router,
        Socket.connect(
            context, Kind.DEALER, endpoint, options=Options(identity=b"peer", high_water=1, heartbeat=0)
        ) as dealer,
    ):
        await trio.to_thread.run_sync(dealer._socket.send, b"garbage")  # a blocking send: no time passes here
        await trio.to_thread.run_sync(router._socket.poll, 5000)
        big = Chunk(1, 0, bytes(1 << 20))
        began = trio.current_time()
        with pytest.raises(PeerGone, match="took nothing"):
            await send_on(router, big)
        assert trio.current_time() - began >= 5
    with pytest.raises(trio.ClosedResourceError):
        router.send_nowait(Beat(), to=b"peer")


async def test_send_nowait_says_that_there_is_no_room(context: Context, endpoint: str) -> None:
    async with Socket.connect(context, Kind.DEALER, endpoint) as dealer:
        with pytest.raises(trio.WouldBlock):
            dealer.send_nowait(Beat())


async def test_a_restarted_peer_takes_its_identity_over(context: Context, endpoint: str) -> None:
    options = Options(identity=b"peer")
    async with (
        Socket.bind(context, Kind.ROUTER, endpoint) as router,
        Socket.connect(context, Kind.DEALER, endpoint, options=options) as old,
    ):
        with trio.fail_after(5):
            await old.send(Beat("old"))
            assert await router.receive() == (b"peer", Beat("old"))
            async with Socket.connect(context, Kind.DEALER, endpoint, options=options) as new:
                await new.send(Beat("new"))
                assert await router.receive() == (b"peer", Beat("new"))
                await router.send(Beat("for you"), to=b"peer")
                assert await new.receive() == (b"", Beat("for you"))


async def test_garbage_is_dropped_and_counted(pair: tuple[Socket, Socket]) -> None:
    router, dealer = pair
    with logbook.TestHandler() as log, trio.fail_after(5):
        mistyped, unknown = b"\x92\xa4Beat\x01", b"\x91\xa6Nobody"
        for frames in ([b""], [b"\xc1"], [b"a", b"b", b"c"], [mistyped], [unknown], [os.urandom(500)]):
            await dealer.send_frames(frames)
        await dealer.send(Beat("good"))
        assert await router.receive() == (b"peer", Beat("good"))
    assert router.dropped == 6
    assert log.has_warnings


async def test_a_message_above_the_bound_is_not_taken(context: Context, endpoint: str) -> None:
    async with (
        Socket.bind(context, Kind.ROUTER, endpoint, options=Options(max_size=1000)) as router,
        Socket.connect(context, Kind.DEALER, endpoint) as dealer,
    ):
        with trio.fail_after(5):
            await dealer.send(Beat())
            await router.receive()
            await dealer.send(Beat(epoch="x" * 2000))
            with trio.move_on_after(0.3) as scope:
                await router.receive()
            assert scope.cancelled_caught


async def test_large_messages_arrive_whole(context: Context, endpoint: str) -> None:
    large = Options(large=True)
    chunk = Chunk(1, 0, os.urandom(1 << 20))
    async with (
        Socket.bind(context, Kind.ROUTER, endpoint, options=large) as router,
        Socket.connect(context, Kind.DEALER, endpoint, options=large) as dealer,
    ):
        with trio.fail_after(10):
            await dealer.send(chunk)
            identity, message = await router.receive()
            assert message == chunk
            await router.send(chunk, to=identity)
            assert await dealer.receive() == (b"", chunk)


async def test_news_are_chosen_by_topic(context: Context, endpoint: str) -> None:
    async with (
        Socket.bind(context, Kind.PUB, endpoint) as pub,
        Socket.connect(context, Kind.SUB, endpoint, options=Options(topics=("conflict",))) as sub,
    ):
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:

                async def tell() -> None:
                    while True:  # PUB drops until the subscription has arrived
                        await pub.send(News("state", "docs", {}))
                        await pub.send(News("conflict", "docs", {"path": "a"}))
                        await trio.sleep(0.01)

                nursery.start_soon(tell)
                assert await sub.receive() == (b"", News("conflict", "docs", {"path": "a"}))
                nursery.cancel_scope.cancel()


async def test_closing_wakes_whoever_waits(context: Context, endpoint: str) -> None:
    socket = Socket.bind(context, Kind.ROUTER, endpoint)
    woken = 0

    async def receive() -> None:
        nonlocal woken
        with pytest.raises(trio.ClosedResourceError):
            await socket.receive()
        woken += 1

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            socket.close()
            socket.close()
    assert woken == 3


def test_a_path_that_is_too_long_is_refused_clearly() -> None:
    check_endpoint("ipc://" + "x" * 103)
    with pytest.raises(OnituError, match="103 bytes"):
        check_endpoint("ipc://" + "x" * 104)
    with pytest.raises(OnituError, match="103 bytes"):
        check_endpoint("ipc:///" + "é" * 52)


def test_tcp_without_keys_is_refused(context: Context) -> None:
    with pytest.raises(OnituError, match="CURVE"):
        Socket.bind(context, Kind.ROUTER, "tcp://127.0.0.1:*")
    with pytest.raises(OnituError, match="not an endpoint"):
        Socket.bind(context, Kind.ROUTER, "udp://127.0.0.1:1")


def test_a_place_that_cannot_be_bound_is_named(context: Context, tmp_path: Path) -> None:
    with pytest.raises(OnituError, match="/missing/s"):
        Socket.bind(context, Kind.ROUTER, f"ipc://{tmp_path}/missing/s")


async def test_ask_returns_the_answer_or_raises_its_error(context: Context, endpoint: str) -> None:
    async with Socket.bind(context, Kind.ROUTER, endpoint) as router, trio.open_nursery() as nursery:

        async def serve() -> None:
            while True:
                identity, message = await router.receive()
                assert isinstance(message, Ask)
                if message.what in ("fail", "later"):
                    sentence = {"fail": "there is no folder docs", "later": "the store is away"}[message.what]
                    await router.send(Answer(message.request, {}, sentence, message.what == "later"), to=identity)
                else:
                    await router.send(Answer(message.request - 1, {"stale": True}), to=identity)
                    await router.send(Answer(message.request, message.arguments), to=identity)

        nursery.start_soon(serve)
        assert await ask(endpoint, "echo", {"a": [1]}) == {"a": [1]}
        assert await ask(endpoint, "echo", context=context) == {}
        with pytest.raises(OnituError, match="there is no folder docs"):
            await ask(endpoint, "fail")
        with pytest.raises(PeerGone, match="the store is away"):
            await ask(endpoint, "later")
        nursery.cancel_scope.cancel()


async def test_ask_says_when_nobody_answers(endpoint: str) -> None:
    with pytest.raises(PeerGone, match=r"nobody answered 'status' .* within 0\.1 s"):
        await ask(endpoint, "status", timeout=0.1)


async def test_heartbeats_see_a_stopped_peer(context: Context, endpoint: str) -> None:
    code = (
        "import sys, zmq\n"
        "s = zmq.Context().socket(zmq.DEALER); s.identity = b'peer'; s.connect(sys.argv[1])\n"
        "s.send(bytes.fromhex('92a442656174a0')); s.recv()\n"
    )
    async with Socket.bind(context, Kind.ROUTER, endpoint, options=Options(heartbeat=0.3)) as router:
        child = subprocess.Popen([sys.executable, "-c", code, endpoint])  # noqa: ASYNC220
        try:
            with trio.fail_after(20):
                assert await router.receive() == (b"peer", Beat())
            child.send_signal(signal.SIGSTOP)
            with trio.fail_after(5), pytest.raises(PeerGone):
                await send_on(router)
        finally:
            child.kill()
            child.wait()
