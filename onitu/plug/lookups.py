"""Questions to the Referee: what is this service known to hold in these directories?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import trio

from onitu.model.errors import ProtocolError
from onitu.wire.messages import Index, Known, Lookup


class _Open(msgspec.Struct):
    """A question without an answer yet. `rows`: what came of it so far, by directory."""

    message: Lookup
    sent: bool = False
    done: trio.Event = msgspec.field(default_factory=trio.Event)
    rows: list[list[Known]] = msgspec.field(default_factory=list)


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

    async def ask(
        self, folder: str, directories: Sequence[bytes], paths: Sequence[bytes] = ()
    ) -> Sequence[Sequence[Known]]:
        """The rows of each directory, in their order; then those at the paths, where there are such. Waits for as long
        as the Referee is away; cancelled, it is forgotten. Raises `ProtocolError` where the answer has another number
        of directories."""
        self.newest += 1
        question = _Open(Lookup(self.newest, folder, tuple(directories), tuple(paths)))
        self._open[self.newest] = question
        self._wake()
        try:
            await question.done.wait()
        finally:
            del self._open[question.message.request]
        if len(question.rows) != len(directories) + bool(paths):
            raise ProtocolError("an Index has not the directories that were asked for")
        return question.rows

    def take(self) -> Lookup | None:
        """The next question to send."""
        for question in self._open.values():
            if not question.sent:
                question.sent = True
                return question.message
        return None

    def answered(self, index: Index) -> None:
        """An answer came, or some of it. One that nobody waits for is forgotten."""
        question = self._open.get(index.request)
        if question is None or question.done.is_set():
            return
        question.rows = question.rows or [[] for _ in index.directories]
        if len(question.rows) != len(index.directories):
            question.rows = []
        for rows, more in zip(question.rows, index.directories, strict=False):
            rows += more
        if not (index.more and question.rows):
            question.done.set()

    def again(self) -> None:
        """A new Welcome: whatever has no whole answer is to be asked again, under another number, so that what is still
        to come of an old answer is not taken for a part of the new one."""
        waiting = [question for question in self._open.values() if not question.done.is_set()]
        self._open = {number: question for number, question in self._open.items() if question.done.is_set()}
        for question in waiting:
            self.newest += 1
            question.message = msgspec.structs.replace(question.message, request=self.newest)
            question.sent, question.rows = False, []
            self._open[self.newest] = question
        self._wake()
