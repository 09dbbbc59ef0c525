"""Questions to the Referee: what is this service known to hold in these directories?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from onitu.model.errors import ProtocolError
from onitu.wire.messages import Index, Known, Lookup


@attrs.define
class _Open:
    """A question without an answer yet."""

    message: Lookup
    sent: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)
    answer: Index | None = None


class Lookups:
    """All open questions of a driver, of all its folders. Each is asked again after every new Welcome.

    Attributes:
        newest: the number of the last question.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.newest = 0
        self._wake = wake
        self._open: dict[int, _Open] = {}

    @property
    def oldest_open(self) -> int | None:
        """The first question without an answer; None: all have theirs."""
        return next(iter(self._open), None)

    async def ask(self, folder: str, directories: Sequence[bytes]) -> tuple[tuple[Known, ...], ...]:
        """The rows of each directory, in their order. Waits for as long as the Referee is away; cancelled, it is
        forgotten. Raises `ProtocolError` where the answer has another number of directories."""
        self.newest += 1
        question = _Open(Lookup(self.newest, folder, tuple(directories)))
        self._open[self.newest] = question
        self._wake()
        try:
            await question.done.wait()
        finally:
            del self._open[question.message.request]
        answer = question.answer
        if answer is None or len(answer.directories) != len(directories):
            raise ProtocolError("an Index has not the directories that were asked for")
        return answer.directories

    def take(self) -> Lookup | None:
        """The next question to send."""
        for question in self._open.values():
            if not question.sent:
                question.sent = True
                return question.message
        return None

    def answered(self, index: Index) -> None:
        """An answer came. One that nobody waits for is forgotten."""
        question = self._open.get(index.request)
        if question is not None and question.answer is None:
            question.answer = index
            question.done.set()

    def again(self) -> None:
        """A new Welcome: whatever has no answer is to be asked again."""
        for question in self._open.values():
            question.sent = False
        self._wake()
