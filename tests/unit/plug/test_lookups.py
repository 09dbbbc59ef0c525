"""Questions to the Referee: answered whole, in however many messages, and by whom it is now."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from onitu.model.errors import ProtocolError
from onitu.model.versions import NOTHING
from onitu.plug.lookups import Lookups
from onitu.wire.messages import Index, Known

DIRECTORIES = (b"one", b"two")


def rows(*names: bytes) -> tuple[Known, ...]:
    return tuple(Known(name, b"", NOTHING) for name in names)


class Asking:
    """One question that is asked, and what came of it."""

    def __init__(self) -> None:
        self.lookups = Lookups(lambda: None)
        self.found: list[list[bytes]] | None = None

    async def ask(self) -> None:
        answer = await self.lookups.ask("f", DIRECTORIES)
        self.found = [[row.path for row in each] for each in answer]

    async def asked(self) -> int:
        """The number under which it is asked now."""
        await trio.testing.wait_all_tasks_blocked()
        message = self.lookups.take()
        assert message is not None
        return message.request


async def test_an_answer_in_several_messages_is_put_together(autojump_clock: trio.testing.MockClock) -> None:
    asking = Asking()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.ask)
        number = await asking.asked()
        asking.lookups.answered(Index(number, (rows(b"a", b"b"), ()), more=True))
        asking.lookups.answered(Index(number, (rows(b"c"), rows(b"d")), more=True))
        await trio.testing.wait_all_tasks_blocked()
        assert asking.found is None
        asking.lookups.answered(Index(number, ((), rows(b"e"))))
    assert asking.found == [[b"a", b"b", b"c"], [b"d", b"e"]]
    assert asking.lookups.oldest_open is None


async def test_what_is_left_of_an_old_answer_is_no_part_of_the_new_one(autojump_clock: trio.testing.MockClock) -> None:
    asking = Asking()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.ask)
        old = await asking.asked()
        asking.lookups.answered(Index(old, (rows(b"old"), ()), more=True))
        asking.lookups.again()
        new = await asking.asked()
        assert asking.lookups.oldest_open == new == asking.lookups.newest
        asking.lookups.answered(Index(old, (rows(b"old"), rows(b"old"))))
        asking.lookups.answered(Index(new, (rows(b"new"), ())))
    assert asking.found == [[b"new"], []]


async def test_what_was_answered_is_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    asking = Asking()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.ask)
        number = await asking.asked()
        asking.lookups.answered(Index(number, (rows(b"a"), ())))
        asking.lookups.again()
        assert asking.lookups.take() is None
    assert asking.found == [[b"a"], []]


@pytest.mark.parametrize("more", [False, True])
async def test_an_answer_of_other_directories_is_an_error(autojump_clock: trio.testing.MockClock, more: bool) -> None:
    asking, refused = Asking(), False

    async def ask() -> None:
        nonlocal refused
        try:
            await asking.ask()
        except ProtocolError:
            refused = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        number = await asking.asked()
        if more:
            asking.lookups.answered(Index(number, (rows(b"a"), ()), more=True))
        asking.lookups.answered(Index(number, (rows(b"a"),), more=more))
    assert refused


@pytest.mark.parametrize("answer", [(rows(b"one", b"two"),), (rows(b"one"), rows(b"two")), ()])
async def test_an_answer_to_paths_is_one_list(
    autojump_clock: trio.testing.MockClock, answer: tuple[tuple[Known, ...], ...]
) -> None:
    lookups = Lookups(lambda: None)
    found: list[list[list[bytes]] | None] = []

    async def ask() -> None:
        try:
            told = await lookups.ask("f", (), DIRECTORIES)
            found.append([[row.path for row in each] for each in told])
        except ProtocolError:
            found.append(None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        message = lookups.take()
        assert message is not None
        assert (message.directories, message.paths) == ((), DIRECTORIES)
        lookups.answered(Index(message.request, answer))
    assert found == [[[b"one", b"two"]] if len(answer) == 1 else None]
