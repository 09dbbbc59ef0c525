"""What goes wrong is told in a sentence with service, path and cause; other paths go on; and it heals by itself."""

from __future__ import annotations

import pytest
import trio

from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import Kind, Version

from .bench import FOLDER, SERVICE, answer
from .conftest import Faulty
from .server import Fault

BIG = bytes(range(256)) * 8192


@pytest.mark.parametrize("fault", [Fault.WRONG_PASSWORD, Fault.HOST_KEY_CHANGED, Fault.DOWN])
async def test_a_service_that_cannot_be_used_says_why_and_heals(faulty: Faulty, fault: Fault) -> None:
    with faulty.having(fault) as options:
        async with faulty.driver(options) as driver:
            with pytest.raises(Unavailable) as caught, trio.fail_after(120):
                await driver.identify(FOLDER)
            sentence = str(caught.value)
            assert SERVICE in sentence or faulty.root.path in sentence
            for value in options.values():
                assert not (isinstance(value, str) and "password" in value and value in sentence), "a secret is told"
    async with faulty.bench() as bench:
        assert answer(await bench.put(b"a", b"x")).seen is Seen.DONE


async def test_a_service_that_goes_away_concludes_nothing_and_heals(faulty: Faulty) -> None:
    async with faulty.bench() as bench:
        await bench.write(b"a", b"x")
        with faulty.having(Fault.DOWN), trio.fail_after(300):
            with pytest.raises(Unavailable):
                await bench.driver.scan(FOLDER, [paths.ROOT])
            with pytest.raises(Unavailable):
                await bench.driver.stat(FOLDER, [b"b"])
        await bench.driver.identify(FOLDER)
        assert set(await bench.listed()) == {b"a"}


async def test_a_cut_connection_is_got_over_or_told_and_a_later_try_goes_on(faulty: Faulty) -> None:
    async with faulty.bench() as bench:
        await bench.write(b"old", b"x")
        with faulty.having(Fault.CUT), trio.fail_after(600):
            event = answer(await bench.put(b"a", BIG))
            assert event.seen is Seen.DONE or _told(event.reason, b"a")
            assert (await bench.tree()).get(b"a", BIG) == BIG
        await bench.driver.identify(FOLDER)
        if event.seen is not Seen.DONE:
            assert answer(await bench.put(b"a", BIG)).seen is Seen.DONE
        assert await bench.tree() == {b"old": b"x", b"a": BIG}


async def test_a_stalled_connection_is_given_up(faulty: Faulty) -> None:
    async with faulty.bench() as bench:
        with faulty.having(Fault.STALLED), trio.fail_after(10 * faulty.server.stalls):
            reason = ""
            try:
                reason = answer(await bench.put(b"a", b"x" * 1000)).reason
            except Unavailable as error:
                reason = str(error)
            assert SERVICE in reason
        await bench.driver.identify(FOLDER)
        assert answer(await bench.put(b"b", b"x")).seen is Seen.DONE


async def test_a_busy_service_is_asked_again(faulty: Faulty) -> None:
    async with faulty.bench() as bench:
        with faulty.having(Fault.BUSY), trio.fail_after(300):
            assert answer(await bench.put(b"a", b"x" * 1000)).seen is Seen.DONE
            assert set(await bench.listed()) == {b"a"}


async def test_a_path_that_is_denied_is_told_and_the_others_go_on(faulty: Faulty) -> None:
    async with faulty.bench() as bench:
        await bench.write(b"denied/stands", b"x")
        with faulty.having(Fault.DENIED):
            event = answer(await bench.put(b"denied/a", b"x"))
            assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.DENIED)
            assert _told(event.reason, b"denied/a")
            order = Order(1, Do.PUT, b"denied/d", Version(Kind.DIRECTORY, mode=0o755))
            assert answer(await bench.carry_out(order)).trouble is Trouble.DENIED
            assert answer(await bench.put(b"free", b"x")).seen is Seen.DONE
        assert answer(await bench.put(b"denied/a", b"x")).seen is Seen.DONE


async def test_a_full_service_is_told_and_heals(faulty: Faulty) -> None:
    async with faulty.bench() as bench:
        with faulty.having(Fault.FULL):
            event = answer(await bench.put(b"big", BIG))
            assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.NO_SPACE)
            assert _told(event.reason, b"big")
            assert b"big" not in await bench.tree()
        assert answer(await bench.put(b"big", BIG)).seen is Seen.DONE


async def test_a_clock_that_is_an_hour_off_hides_no_edit(faulty: Faulty) -> None:
    with faulty.having(Fault.CLOCK):
        async with faulty.bench() as bench:
            assert answer(await bench.put(b"ours", b"x")).seen is Seen.DONE
            first = await bench.write(b"a", b"first")
            (read,) = await bench.driver.fingerprint(FOLDER, [first])
            assert read is not None
            again = await bench.write(b"a", b"other")
            assert again.token != read.token
            done = answer(await bench.put(b"a", b"third", read.token, b"first"))
            assert done.seen is Seen.STANDS
            assert (await bench.tree())[b"a"] == b"other"


def _told(sentence: str, path: bytes) -> bool:
    """Whether service and path are named."""
    return SERVICE in sentence and path.decode() in sentence
