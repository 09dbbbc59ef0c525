"""The tools that go on running, and what they are given to do: edits, a renamed folder, one small change, nothing.

`onitu sync --watch`, Syncthing (an instance for each replica), lsyncd (in one direction), and Unison, run again and
again (its `-repeat watch` needs a program that is rarely there): those that are installed. That a work is done is
seen on the replica itself, by names and sizes, or by inotify where it is one file; when it was, by the time of the last
change there; then all is compared byte by byte.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import inotify_simple

from onitu.testing.adapters.base import Adapter, Missing, end, kill, launch, output_of
from onitu.testing.adapters.onitu import Onitu
from onitu.testing.adapters.syncthing import Syncthing
from onitu.testing.adapters.unison import Unison

from . import processes
from .peers import LARGE, RENAMED, changed, compare, copied, edit, fill, inodes, sizes
from .results import ONITU, Failed, Figure, Results

LONGEST = 600.0
"""Seconds that a work may take."""
LOOK = 0.25
"""Seconds between two looks at a tree."""
FIRST = 0.5
"""Seconds before the first: a look takes a processor for a tenth of a second, as long as some works take."""
PAUSE = 0.6
"""Seconds of rest before a change: a user's, not a burst's."""
WARM = 3


class Lsyncd(Adapter):
    """One direction, by rsync, with a delay of a second, the least that it takes."""

    name = "lsyncd"
    settings = "-direct, -delay 1"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._process: subprocess.Popen[bytes] | None = None

    def version(self) -> str:
        return output_of(["lsyncd", "--version"], "lsyncd is not installed: apt-get install lsyncd")

    def sync(self, deadline: float) -> bool:
        raise NotImplementedError("it only goes on")

    def start(self) -> None:
        a, b = self.roots
        self._process = launch(["lsyncd", "-nodaemon", "-delay", "1", "-direct", a, b], self.home)

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            kill(self._process)
            self._process = None

    def settled(self, deadline: float) -> bool:
        a, b = self.roots
        return _comes(lambda: sizes(a) == sizes(b), deadline)


BOTH_WAYS: dict[str, type[Adapter]] = {"unison": Unison, "syncthing": Syncthing, ONITU: Onitu}
ADAPTERS: dict[str, type[Adapter]] = {"lsyncd": Lsyncd, **BOTH_WAYS}


def installed(place: Path) -> list[str]:
    """Those that can be had here."""
    found = []
    for name, adapter in ADAPTERS.items():
        with contextlib.suppress(Missing):
            adapter(place).version()
            found.append(name)
    return found


@attrs.define
class Live:
    """One tool that goes on, on trees of its own.

    Attributes:
        root: where they are made.
        name: who.
        results: where the figures go.
        files: in the tree; `changes`: small changes, of which the median counts; `idle`: seconds in which nothing is.
    """

    root: Path
    name: str
    results: Results
    files: int = 10_000
    changes: int = 20
    idle: float = 30.0

    def do(self) -> None:
        """Everything that is wanted of it."""
        if not self.results.wants("edits-live", "renamed-live", "change", "idle"):
            return
        place = self.root / "round"
        a, b, home = place / "a", place / "b", place / "home"
        for directory in (a, b, home):
            directory.mkdir(parents=True)
        fill(a, self.files, 4096)
        fill(a / "folder", RENAMED, LARGE)
        adapter = ADAPTERS[self.name](home)
        try:
            adapter.prepare((a, b))
            adapter.start()
            try:
                if not adapter.settled(LONGEST):
                    raise Failed("", "it is not done with the first sync")
                self._works(a, b)
            finally:
                adapter.stop()
        except Failed as error:
            self.results.failed(error.row, self.name, str(error))
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _works(self, a: Path, b: Path) -> None:
        wants = self.results.wants
        if wants("change"):
            self.results.add("change", self.name, self._change(a, b))
        if wants("renamed-live"):
            before = inodes(b / "folder")

            def rename() -> None:
                (a / "folder").rename(a / "renamed")

            figure = self._until_same("renamed-live", a, b, rename)
            figure.note = copied(before, b / "renamed")
            self.results.add("renamed-live", self.name, figure)
        if wants("edits-live") and self.name in BOTH_WAYS:
            figure = self._until_same("edits-live", a, b, lambda: edit(a, b, self.files))
            self.results.add("edits-live", self.name, figure)
        if wants("idle"):
            with measuring() as figure:
                time.sleep(self.idle)
            self.results.add("idle", self.name, figure)

    def _until_same(self, row: str, a: Path, b: Path, work: Callable[[], None]) -> Figure:
        """From the beginning of the work until the last change of trees that have the same names with the same sizes.
        When that was they tell themselves, more exactly than looks could that do not disturb."""
        with measuring() as figure:
            began = time.time()
            work()
            time.sleep(FIRST)
            if not _comes(lambda: sizes(a) == sizes(b), LONGEST):
                raise Failed(row, f"the trees are different after {LONGEST:g} s")
        figure.seconds = max(changed(a), changed(b)) - began
        time.sleep(2 * LOOK)
        compare(row, a, b)
        return figure

    def _change(self, a: Path, b: Path) -> Figure:
        """New files, one at a time, each after a rest: the median."""
        took = []
        with measuring() as figure:
            for number in range(WARM + self.changes):
                time.sleep(PAUSE)
                took.append(_arrival(a, b, f"change {number}", b"change %d" % number))
        compare("change", a, b)
        figure.seconds = statistics.median(took[WARM:])
        figure.processor /= len(took)
        return figure


def _arrival(a: Path, b: Path, name: str, content: bytes) -> float:
    """Seconds until a new file stands on the other side, whole."""
    flags = inotify_simple.flags
    with inotify_simple.INotify() as inotify:
        inotify.add_watch(str(b), flags.CREATE | flags.MOVED_TO | flags.CLOSE_WRITE)
        began = time.perf_counter()
        (a / name).write_bytes(content)
        while time.perf_counter() < began + LONGEST:
            with contextlib.suppress(FileNotFoundError):
                if (b / name).read_bytes() == content:
                    return time.perf_counter() - began
            inotify.read(timeout=500)
    raise Failed("change", f"it did not arrive within {LONGEST:g} s")


def _comes(condition: Callable[[], bool], deadline: float) -> bool:
    """Whether it comes true in time; a tree that changes while it is looked at is not it."""
    moment = time.monotonic() + deadline
    while time.monotonic() < moment:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if condition():
                return True
        time.sleep(LOOK)
    return False


@contextlib.contextmanager
def measuring() -> Iterator[Figure]:
    """What the block takes, and all processes below this one meanwhile (this one not)."""
    figure = Figure(0.0, 0.0, 0)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK):
            figure.memory = max(figure.memory, processes.together(processes.below(os.getpid())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, began = _processor(), time.perf_counter()
    try:
        yield figure
    finally:
        figure.seconds = time.perf_counter() - began
        figure.processor = _processor() - before
        over.set()
        watcher.join()


def _processor() -> float:
    """Seconds of processor time of all that is or was below this process."""
    over = resource.getrusage(resource.RUSAGE_CHILDREN)
    return over.ru_utime + over.ru_stime + processes.used(processes.below(os.getpid()))
