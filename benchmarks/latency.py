"""How long one small change takes from one replica to another while nothing else happens.

    python benchmarks/latency.py [CHANGES]

A run of `onitu sync --watch` on two local directories. Each change begins when the one before stands on the other side
and everything is quiet; its end is seen by inotify there, so that measuring takes no processor time from what is
measured. Printed: milliseconds, the median, the 90th percentile and the longest, for a new file, an edit in place, a
save by rename, a rename and a deletion; and the processor time of all processes in ten idle seconds.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import inotify_simple

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.integration.harness import Daemon, watching

WARM = 10
PAUSE = 0.6
"""Seconds of rest between two changes: a user's, not a burst's."""


class Watched:
    """One directory, of which it is waited that a condition comes true."""

    def __init__(self, root: Path) -> None:
        flags = inotify_simple.flags
        self.inotify = inotify_simple.INotify()
        self.inotify.add_watch(
            str(root), flags.CREATE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.MODIFY
        )

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            self.inotify.read(timeout=500)
            if time.monotonic() > end:
                raise TimeoutError("it did not arrive within 10 s")


def holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def measure(name: str, count: int, change: Callable[[int], Callable[[], bool]], there: Watched) -> None:
    """`change(n)` makes a change and returns the condition that tells its end."""
    took: list[float] = []
    for number in range(WARM + count):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        there.until(change(number))
        took.append((time.perf_counter() - begin) * 1000)
    took = sorted(took[WARM:])
    ninety = took[int(len(took) * 0.9)]
    print(f"{name:16} median {statistics.median(took):6.1f}  90 % {ninety:6.1f}  longest {took[-1]:6.1f} ms")


def changes(a: Path, b: Path) -> dict[str, Callable[[int], Callable[[], bool]]]:
    def create(n: int) -> Callable[[], bool]:
        (a / f"new{n}").write_bytes(b"%d" % n)
        return lambda: (b / f"new{n}").exists()

    def edit(n: int) -> Callable[[], bool]:
        (a / "edited").write_bytes(b"edit %d" % n)
        return lambda: holds(b / "edited", b"edit %d" % n)

    def save(n: int) -> Callable[[], bool]:
        (a / ".saved.tmp").write_bytes(b"save %d" % n)
        os.replace(a / ".saved.tmp", a / "saved")
        return lambda: holds(b / "saved", b"save %d" % n)

    def rename(n: int) -> Callable[[], bool]:
        (a / f"new{n}").rename(a / f"renamed{n}")
        return lambda: (b / f"renamed{n}").exists()

    def delete(n: int) -> Callable[[], bool]:
        (a / f"renamed{n}").unlink()
        return lambda: not (b / f"renamed{n}").exists()

    return {"new file": create, "edit": edit, "save by rename": save, "rename": rename, "deletion": delete}


def processor(daemon: Daemon) -> float:
    """Seconds of processor time that all its processes have used."""
    total = 0
    for pid in {daemon.process.pid, *daemon.pids().values()}:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as directory:
        a, b = Path(directory) / "a", Path(directory) / "b"
        a.mkdir()
        b.mkdir()
        with watching(a, b, state=Path(directory) / "state") as daemon:
            there = Watched(b)
            for name, change in changes(a, b).items():
                measure(name, count, change, there)
            daemon.in_sync()
            time.sleep(2)
            before = processor(daemon)
            time.sleep(10)
            print(f"{'idle':16} {processor(daemon) - before:.2f} s of processor time in 10 s")


if __name__ == "__main__":
    main()
