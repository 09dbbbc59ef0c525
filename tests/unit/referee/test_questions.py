"""What is asked of a folder, and what is no question."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from onitu.model.errors import OnituError
from onitu.model.events import Event, Seen, Trouble
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
