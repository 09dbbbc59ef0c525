"""What a trial needs to know of a synchroniser: how to start it, how to tell that it is done, how to kill it.

An adapter is a subclass of `Adapter`, or of `Repeated` where the tool is a command that runs to its end. All of
its methods block; a trial calls them from one thread. A tool never sees anything but the roots and its home.
"""

from __future__ import annotations

import abc
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

BREATH = 0.02
"""Seconds between two looks at a tool."""

FAREWELL = 30.0
"""Seconds that a tool may take to end in order; then it is killed."""

LONGEST_RUN = 120.0
"""Seconds that one of many runs may take; then it is killed, and the next one begins."""


class Missing(Exception):
    """The tool is not installed; the message says how it could be."""


class Broken(Exception):
    """The tool cannot go on: it does not start, or needs a hand. The message is what it said."""


class Adapter(abc.ABC):
    """One synchroniser on one set of replicas, from `prepare` to `stop`.

    Attributes:
        name: what the tool is called.
        most: how many replicas it takes; None where it takes any number.
        ignored: patterns (`fnmatch`) of names in the tree that are the tool's own: markers, its own directories.
        temporary: patterns of the names that it gives to unfinished files; those left at the end are counted as litter.
        settings: how it is set, in a line for the report.
        helped: how often the adapter did what the tool asks a person to do, such as to take away the lock of a run that
            was killed.
    """

    name: ClassVar[str]
    most: ClassVar[int | None] = 2
    ignored: ClassVar[tuple[str, ...]] = ()
    temporary: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[str] = ""

    def __init__(self, home: Path) -> None:
        """A tool that keeps its state, configuration and logs in the existing directory `home`."""
        self.home = home
        self.roots: Sequence[Path] = ()
        self.helped = 0

    @abc.abstractmethod
    def version(self) -> str:
        """The version of the installed tool, in a few words.

        Raises:
            Missing: it is not installed.
        """

    def prepare(self, roots: Sequence[Path]) -> None:
        """Configure the tool for these existing, empty directories."""
        self.roots = roots

    @abc.abstractmethod
    def sync(self, deadline: float) -> bool:
        """Synchronise once while nobody writes, for at most `deadline` seconds; whether it is done and content."""

    @abc.abstractmethod
    def start(self) -> None:
        """Begin to synchronise continuously."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End in order what `start` began; nothing where nothing runs."""

    @abc.abstractmethod
    def kill(self) -> None:
        """SIGKILL all processes of the tool; afterwards `start` has to be possible."""

    @abc.abstractmethod
    def settled(self, deadline: float) -> bool:
        """Whether, within `deadline` seconds, it says of itself that everything is in sync. It runs, nobody writes."""


class Repeated(Adapter):
    """A tool that runs to its end: it is run once for each `sync`, and again and again between `start` and `stop`."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._running: subprocess.Popen[bytes] | None = None
        self._loop: threading.Thread | None = None
        self._enough = threading.Event()
        self._one = threading.Lock()

    @abc.abstractmethod
    def command(self) -> Sequence[str | Path]:
        """What one run is."""

    def environment(self) -> Mapping[str, str]:
        """What the command needs in its environment beside ours."""
        return {}

    def done(self, code: int) -> bool:
        """Whether a run that ended with this code did all that there was to do."""
        return code == 0

    def sync(self, deadline: float) -> bool:
        """One run. A run that outlives the deadline is killed."""
        with self._one:
            self._running = launch(self.command(), self.home, self.environment())
            try:
                return self.done(self._running.wait(deadline))
            except subprocess.TimeoutExpired:
                kill(self._running)
                return False

    def start(self) -> None:
        """Run it again and again, one run after the other."""
        self._enough.clear()
        self._loop = threading.Thread(target=self._again_and_again, daemon=True)
        self._loop.start()

    def _again_and_again(self) -> None:
        while not self._enough.is_set():
            self.sync(LONGEST_RUN)
            self._enough.wait(BREATH)

    def stop(self) -> None:
        """Wait for the last run."""
        if self._loop is not None:
            self._enough.set()
            self._loop.join()
            self._loop = None

    def kill(self) -> None:
        """SIGKILL the run that goes on now."""
        self._enough.set()
        if self._running is not None:
            kill(self._running)
        self.stop()

    def settled(self, deadline: float) -> bool:
        """Whether the next whole run does all that there is to do."""
        return self.sync(deadline)


def launch(
    command: Sequence[str | Path], home: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; what it says is appended to `tool.log` in `home`."""
    with open(home / "tool.log", "ab") as log:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and all that descend from it, and wait until the process is gone."""
    for pid in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """The pids below a process now, as far as /proc tells; nothing where there is none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found = list(children.get(pid, ()))
    for child in found:  # it grows while it is gone through
        found.extend(children.get(child, ()))
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL if that does not help in time."""
    process.terminate()
    try:
        process.wait(FAREWELL)
    except subprocess.TimeoutExpired:
        kill(process)


def output_of(command: Sequence[str], missing: str) -> str:
    """The first line that a command prints.

    Raises:
        Missing: with this message, where the command does not exist.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"{missing} ({error})") from None
    return done.stdout.partition("\n")[0].strip()
