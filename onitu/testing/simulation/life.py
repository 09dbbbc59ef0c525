"""Lives of processes: a simulated process runs, dies at any of its effects, and is started again.

What a process does to the world outside of it (a message, a call of the store or of a service, a deed written down) is
an *effect*, and is announced before it happens. Between two effects a death makes no difference, for memory is lost
with it; so a death at the n-th effect, for every n, is a death at every instant. A dead process's tasks still unwind,
but every further effect of theirs raises `Died` instead.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable

import attrs
import trio

from onitu.model.errors import StateError

CURRENT: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)
"""The life that the current task belongs to."""


class Died(BaseException):
    """The process is dead: nothing of it happens any more."""


@attrs.define(eq=False)
class Life:
    """One life of one process.

    Attributes:
        name: the process.
        last_words: called once when it dies, to take from the world what a dead process does not hold.
        dead: whether it is.
        effects: how many it had.
        until: the effect at which it dies; 0: none.
    """

    name: str
    last_words: Callable[[], None]
    dead: bool = False
    effects: int = 0
    until: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def effect(self) -> None:
        """Something is about to happen outside. Raises `Died`."""
        if self.dead:
            raise Died
        self.effects += 1
        if self.effects == self.until:
            self.die()
            raise Died

    def die_after(self, effects: int) -> None:
        """Let it die at the so-manieth effect from now."""
        self.until = self.effects + max(1, effects)

    def die(self) -> None:
        """It is killed now."""
        if not self.dead:
            self.dead = True
            self.last_words()
            self.scope.cancel()


def touch() -> None:
    """An effect of whoever runs now, as far as that is a process."""
    life = CURRENT.get()
    if life is not None:
        life.effect()


class Process:
    """A process that is started again whenever it ended.

    Attributes:
        life: the one that goes on.
        lives: how many there were.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[Life], Awaitable[None]],
        last_words: Callable[[], None],
        pause: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        """`begin` is a whole life; `pause`: seconds between two; `tell` hears what happens."""
        self.name = name
        self.lives = 0
        self._begin = begin
        self._last_words = last_words
        self._pause = pause
        self._tell = tell
        self.life = Life(name, last_words)

    async def run(self, nursery: trio.Nursery) -> None:
        """One life after the other, until cancelled. A dead one unwinds in the nursery while the next goes on."""
        while True:
            self.life = life = Life(self.name, self._last_words)
            self.lives += 1
            over = trio.Event()
            nursery.start_soon(self._live, life, over)
            await over.wait()
            await trio.sleep(self._pause())

    def stop(self) -> None:
        """Ask it to end in good order; then it is started again."""
        self._tell(f"{self.name} is stopped")
        self.life.scope.cancel()

    async def _live(self, life: Life, over: trio.Event) -> None:
        CURRENT.set(life)
        said, life.last_words = life.last_words, lambda: None

        def end() -> None:
            said()
            self._tell(f"{self.name} dies")
            over.set()

        life.last_words = end
        try:
            with life.scope:
                await self._begin(life)
        except BaseException as error:
            # Of the dead nothing counts any more.
            if not life.dead:
                if not _expected(error):
                    raise
                self._tell(f"{self.name} ends: {error!r}")
        finally:
            over.set()


def _expected(error: BaseException) -> bool:
    """Whether a process may end so, to be started again: another took over its state, or that was lost."""
    if isinstance(error, BaseExceptionGroup):
        return all(_expected(one) for one in error.exceptions)
    return isinstance(error, StateError)
