"""Users who wait for the moment at which a synchroniser acts, and act then.

A user who acts at random seldom meets the microseconds in which a file is replaced. A lurker watches its replica: when
something took its name there, or when a *sign* says that something is about to (a temporary file in a directory of the
synchroniser's own), it does one of its habits to that very path at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import inotify_simple

from .users import User

Sign = Callable[[str], str | None]
"""What a name that appeared tells: the path that is about to change; None: nothing."""

_F = inotify_simple.flags
_ARRIVAL = _F.CREATE | _F.MOVED_TO


@attrs.define(eq=False)
class Lurker(User):
    """A user that acts on arrivals among its files; when none comes for a while, it acts as any other.

    What its own deeds bring is not taken for an arrival; nor is, now and then, what comes during them.

    Attributes:
        signs: what appears in a directory, read by a function.
        patience: seconds without an arrival after which it does something else.
        met: arrivals and signs that it acted on.
        lurks: it watches by now.
    """

    signs: Mapping[Path, Sign] = attrs.field(factory=dict)
    patience: float = 0.005
    met: int = 0
    lurks: bool = False

    def run(self) -> None:
        """Lurk until it is enough; then let go of all files."""
        try:
            with inotify_simple.INotify() as eyes:
                signs: dict[int, Sign] = {eyes.add_watch(self.hands.root, _ARRIVAL): lambda name: name}
                signs.update({eyes.add_watch(place, _ARRIVAL): sign for place, sign in self.signs.items()})
                self.lurks = True
                while self._goes_on():
                    path = next(self._arrivals(eyes, signs), None)
                    self.act(path)
                    eyes.read(timeout=0)  # what it did itself
                    self.met += path is not None
        except BaseException as error:
            self.error = error
        finally:
            self.hands.close()

    def _arrivals(self, eyes: inotify_simple.INotify, signs: Mapping[int, Sign]) -> Iterator[str]:
        for event in eyes.read(timeout=self.patience * 1000):
            path = signs[event.wd](event.name) if event.wd in signs else None
            if path is not None and path in self.files:
                yield path
