"""What is asked of a folder, and what is no question."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from onitu.model.errors import OnituError
from onitu.model.events import Event, Seen, Trouble
from onitu.model.settings import Filter, Folder, Replica, Service, Settings
from onitu.referee import questions
from tests.unit.referee.desk import desk, settings, stands


@pytest.mark.parametrize("after", [{"f": "nonsense"}, {"f": 7}, "text", 5, {"f": "1-" + 30 * "9"}, {"f": "1-0\n"}])
def test_what_is_no_line_of_the_journal_is_told(after: Any) -> None:
    with pytest.raises(OnituError, match="is no number of a line of the journal"):
        questions._after({"after": after}, "f")


@pytest.mark.parametrize(("after", "expected"), [({}, ""), (None, ""), ({"g": "1-0"}, ""), ({"f": "17-3"}, "17-3")])
def test_each_folder_has_lines_of_its_own(after: Any, expected: str) -> None:
    assert questions._after({"after": after}, "f") == expected


async def test_what_is_left_is_told_where_no_problem_is(autojump_clock: trio.testing.MockClock) -> None:
    """A service says again and again that it found nothing where nothing is expected, and that nothing came of it."""
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"), stands(b"y", "v1"))
        orders = {order.path: order for order in d.orders("b")}
        failed = Event(Seen.FAILED, b"y", order=orders[b"y"].number, trouble=Trouble.DENIED, reason="no")
        await d.say("b", Event(Seen.GONE, b"x", order=orders[b"x"].number), failed)
        told = await questions._remaining(d.folder, 10)
        assert [(row["path"], row["service"], row["kind"]) for row in told] == [("x", "b", "left")]
        assert told[0]["reason"] == "waits for its turn: put"
        assert await questions._remaining(d.folder, 0) == []


async def test_a_version_that_the_rules_keep_from_a_service_is_not_said_to_be_held_there() -> None:
    replicas = {"a": Replica("f", "/a"), "b": Replica("f", "/b", filter=Filter(size_max=3))}
    services = {name: Service(name, "local", replicas={"f": replica}) for name, replica in replicas.items()}
    async with desk(given=Settings("t", {"f": Folder("f")}, services)) as d:
        await d.say("a", stands(b"x", "old"))
        (order,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"x", order.version, b"t", order=order.number))
        await d.say("a", stands(b"x", "larger"))
        assert await questions._next(d.folder, "b", b"x") == "not managed here: larger than 3 bytes (6 bytes)"


async def test_a_problem_ends_where_nothing_is_left_though_another_service_is_late() -> None:
    async with desk() as d:
        await d.say("a", stands(b"x", "v1"))
        (put,), (late,) = d.orders("b"), d.orders("c")
        await d.say("c", Event(Seen.DONE, b"x", late.version, b"t", order=late.number))
        await d.say("b", Event(Seen.FAILED, b"x", order=put.number, trouble=Trouble.DENIED, reason="no"))
        assert ("b", b"x") in d.folder.troubled
        await d.say("a", Event(Seen.GONE, b"x"))
        assert d.orders("c")  # which is not carried out yet
        assert not d.folder.troubled
