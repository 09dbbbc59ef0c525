from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onitu.cli.journal import FEW, Follower


class Journal:
    """As the Referee answers: newest first, at most as many as asked for."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.asked: list[int] = []
        self.answered = 0

    def add(self, count: int) -> None:
        for _ in range(count):
            number = len(self.entries)
            self.entries.append({"folder": "f", "id": f"{number}-0", "time": 1000.0 + number})

    async def ask(self, limit: int, after: Mapping[str, str]) -> list[dict[str, Any]]:
        self.asked.append(limit)
        last = int(after.get("f", "-1-0").rpartition("-")[0])
        answer = self.entries[:last:-1][:limit] if last >= 0 else self.entries[::-1][:limit]
        self.answered += len(answer)
        return answer


async def test_every_entry_is_given_once_and_in_order_also_after_a_burst() -> None:
    journal = Journal()
    follower = Follower(journal.ask)
    given = []
    for burst in (3, 0, FEW * 25, 1, FEW, 2):
        journal.add(burst)
        given += await follower.new()
    assert given == journal.entries


async def test_what_was_given_is_not_asked_for_again() -> None:
    journal = Journal()
    journal.add(1)
    follower = Follower(journal.ask)
    await follower.new()
    journal.answered = 0
    journal.add(FEW * 25)
    assert len(await follower.new()) == FEW * 25
    assert await follower.new() == []
    assert journal.answered == FEW + 10 * FEW + FEW * 25


async def test_what_is_older_than_the_beginning_is_not_given() -> None:
    journal = Journal()
    journal.add(FEW * 3)
    follower = Follower(journal.ask, since=1000.0 + FEW * 3 - 2)
    assert await follower.new() == journal.entries[-2:]
    assert journal.asked == [FEW], "what is older is not read either"


async def test_each_folder_has_a_journal_of_its_own() -> None:
    entries: list[dict[str, Any]] = []

    async def ask(limit: int, after: Mapping[str, str]) -> list[dict[str, Any]]:
        return entries[::-1][:limit]

    follower = Follower(ask)
    given = []
    for number, folder in ((7, "f"), (3, "g"), (8, "f"), (4, "g")):
        entries.append({"folder": folder, "id": f"{number}-1", "time": 1000.0 + len(entries)})
        given += await follower.new()
    assert given == entries
