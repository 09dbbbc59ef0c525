"""The other end of a driver under test: a real server, its roots, and a user who writes there without Onitu."""

from __future__ import annotations

import abc
import contextlib
import enum
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from onitu.plug.options import Value


class Fault(enum.Enum):
    """What may go wrong at the other end, for as long as a `with` block lasts."""

    WRONG_PASSWORD = "the password is wrong"  # noqa: S105  # it is none
    HOST_KEY_CHANGED = "the host has another key"
    DOWN = "nobody answers"
    CUT = "each connection is cut after some hundred kilobytes"
    STALLED = "connections are held and nothing comes"
    BUSY = "the first answers are 429 or 503 with Retry-After: 1"
    DENIED = "nothing can be written in the directory `denied`"
    FULL = "there is no space for more than 100,000 bytes"
    CLOCK = "the server's clock is an hour ahead"


class Denied(Exception):
    """A user's call cannot be done by this server at all (a name that it cannot have, say)."""


class Root(abc.ABC):
    """One empty root, and a user there. Calls block; paths are bytes, as in a driver.

    Attributes:
        options: of a driver that uses it.
        path: the root, as it would stand in a configuration.
    """

    options: Mapping[str, Value]
    path: str

    @abc.abstractmethod
    def write(self, path: bytes, data: bytes) -> None:
        """Write a file at once, with the directories above it, whatever stands there. Raises `Denied`."""

    @abc.abstractmethod
    def delete(self, path: bytes) -> None:
        """Take away a file, or a directory with all that is in it."""

    @abc.abstractmethod
    def rename(self, path: bytes, target: bytes) -> None:
        """Rename, or copy and delete, a file."""

    @abc.abstractmethod
    def make_directory(self, path: bytes) -> None:
        """Make a directory, whose parent stands."""

    @abc.abstractmethod
    def tree(self) -> dict[bytes, bytes | None]:
        """Everything that stands, but `.onitu`: the content of files, None for directories."""


class Server(abc.ABC):
    """A server that runs for as long as the `with` block lasts: one for all tests."""

    faults: frozenset[Fault] = frozenset()
    """Those that it can have."""

    stalls: float = 120.0
    """Seconds within which a driver gives up a connection that stalls."""

    def __init__(self, place: Path) -> None:
        """`place`: an empty directory of this host for whatever it needs."""
        self.place = place

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    @abc.abstractmethod
    def empty(self, name: str) -> Root:
        """A new root; the name is nobody else's."""

    def fault(self, fault: Fault, root: Root) -> AbstractContextManager[Mapping[str, Value]]:
        """Have a fault; the options of a driver that meets it (the root's, mostly)."""
        raise NotImplementedError(fault)


class LocalRoot(Root):
    """A directory of this host. Where a server shows it under another name, that one goes into `path`."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = str(path)
        self.options = {}
        self._here = os.fsencode(path)
        self._spare = path.parent / f"{path.name}.spare"

    def at(self, path: bytes) -> bytes:
        """Where it is on this host."""
        return os.path.join(self._here, path)

    def write(self, path: bytes, data: bytes) -> None:
        self._spare.write_bytes(data)
        try:
            os.makedirs(os.path.dirname(self.at(path)), exist_ok=True)
            os.replace(self._spare, self.at(path))
        except OSError as error:
            raise Denied(str(error)) from error

    def delete(self, path: bytes) -> None:
        if os.path.isdir(self.at(path)) and not os.path.islink(self.at(path)):
            shutil.rmtree(self.at(path))
        else:
            os.unlink(self.at(path))

    def rename(self, path: bytes, target: bytes) -> None:
        os.rename(self.at(path), self.at(target))

    def make_directory(self, path: bytes) -> None:
        os.mkdir(self.at(path))

    def tree(self) -> dict[bytes, bytes | None]:
        found: dict[bytes, bytes | None] = {}
        for directory, inner, files in os.walk(self._here):
            if directory == self._here and b".onitu" in inner:
                inner.remove(b".onitu")
            relative = os.path.relpath(directory, self._here)
            for name in (*inner, *files):
                path = name if relative == b"." else relative + b"/" + name
                with contextlib.suppress(FileNotFoundError):  # renamed just now
                    found[path] = None if name in inner else Path(os.fsdecode(self.at(path))).read_bytes()
        return found


class LocalServer(Server):
    """Directories of this host, for the driver `local`, and for those of which a directory is the other side."""

    faults = frozenset({Fault.DOWN})

    def empty(self, name: str) -> LocalRoot:
        return LocalRoot(self.place / name)

    @contextlib.contextmanager
    def fault(self, fault: Fault, root: Root) -> Iterator[Mapping[str, Value]]:
        assert fault is Fault.DOWN
        away = Path(root.path).with_suffix(".away")
        os.rename(root.path, away)
        try:
            yield root.options
        finally:
            os.rename(away, root.path)
