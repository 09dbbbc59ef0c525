"""What was found out about a service by trying, from one life of a driver to the next.

It saves the start of a run that has nothing to do from trying it all again. It is believed for a day, by who asks for
the same root with the same options, and only until the first change: before that the service is tried again. From then
on nothing is kept until the driver ends in order, so that a life that was killed leaves nothing to rely on.
"""

from __future__ import annotations

import contextlib
import time

import msgspec
from blake3 import blake3

from onitu import __version__
from onitu.plug.options import Options, declared
from onitu.plug.sheet import FileSheet

KEPT = 24 * 3600.0
"""Seconds for which it is believed."""


class _Note(msgspec.Struct, frozen=True):
    """What stands in the file. `about`: of what it was found out; `at`: when, in seconds since 1970."""

    about: str
    at: float
    found: bytes


class Memory:
    """One replica's, in a file. `about`: what has to be the same for it to hold."""

    def __init__(self, path: str, about: str) -> None:
        self._sheet = FileSheet(path)
        self._about = about

    def recall(self) -> bytes:
        """What was found out; empty: nothing is known, or not any more."""
        try:
            note = msgspec.json.decode(self._sheet.read(), type=_Note)
        except msgspec.MsgspecError:
            return b""
        return note.found if note.about == self._about and 0 <= time.time() - note.at < KEPT else b""

    def keep(self, found: bytes, at: float) -> None:
        """Write it down, as far as that is possible: without it the next life only takes longer."""
        with contextlib.suppress(OSError):
            self._sheet.replace(msgspec.json.encode(_Note(self._about, at, found)))
        self._sheet.close()

    def forget(self) -> None:
        self._sheet.discard()


def about(service: str, root: str, options: Options) -> str:
    """What a memory is about, as a digest. What is secret is left out."""
    told = {option.name: getattr(options, option.name) for option in declared(type(options)) if not option.secret}
    return blake3(msgspec.json.encode([__version__, service, root, told])).hexdigest()
