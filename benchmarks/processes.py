"""Running a command and watching all its processes: time, processor time, memory."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

EVERY = 0.25
"""Seconds between two looks at the memory. To sum up a process's pages takes some milliseconds of the processor."""

MEBI = 1 << 20


@attrs.define
class Use:
    """What one process used.

    Attributes:
        resident: bytes of its resident set at most, as the kernel kept it (VmHWM).
        processor: seconds.
    """

    resident: int = 0
    processor: float = 0.0


@attrs.define
class Measured:
    """What a command used.

    Attributes:
        seconds: from its start to its end.
        proportional: bytes of all its processes together at most; a page that several share counts once (PSS).
        processor: seconds of all its processes: what the kernel told at the end, or where it goes on, of those that
            were seen.
        uses: of each process that was seen, by its role.
    """

    seconds: float = 0.0
    proportional: int = 0
    processor: float = 0.0
    uses: dict[str, Use] = attrs.field(factory=dict)

    @property
    def largest(self) -> int:
        """Bytes of the largest process."""
        return max((use.resident for use in self.uses.values()), default=0)


def run(command: Sequence[str | Path], fits: Sequence[int] = (0,)) -> Measured:
    """Run a command to its end, and measure it. `fits`: the exit codes that it may have."""
    words = [str(word) for word in command]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
    with watching(process.pid) as measured:
        _, errors = process.communicate()
        seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured.seconds = seconds
    measured.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode not in fits:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return measured


@contextlib.contextmanager
def watching(pid: int) -> Iterator[Measured]:
    """Measure a process and all below it for the block. The times are those of the processes' whole lives."""
    measured = Measured()
    over = threading.Event()
    began = time.perf_counter()
    watcher = threading.Thread(target=_watch, args=(pid, measured, over))
    watcher.start()
    try:
        yield measured
    finally:
        over.set()
        watcher.join()
        measured.seconds = time.perf_counter() - began
        measured.processor = sum(use.processor for use in measured.uses.values())


def environment() -> dict[str, str]:
    """The environment of what is measured: ours, but Python may keep the bytecode that it compiled, as it can for who
    installs Onitu. Where it may not, each process of each run compiles all modules anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _watch(pid: int, measured: Measured, over: threading.Event) -> None:
    while not over.wait(EVERY):
        together = 0
        for one in [pid, *below(pid)]:
            with contextlib.suppress(OSError, ValueError, LookupError):  # it ended while it was looked at
                together += _look(one, measured.uses)
        measured.proportional = max(measured.proportional, together)


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *below(child)]
    return found


def together(pids: Sequence[int]) -> int:
    """Bytes that processes have together now (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, LookupError):  # it ended while it was looked at
            total += _look(pid, {})
    return total


def used(pids: Sequence[int]) -> float:
    """Seconds of processor time that processes have used so far, with that of their children that have ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, times[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _look(pid: int, uses: dict[str, Use]) -> int:
    """Note what a process uses; its share of the memory in bytes."""
    about = Path(f"/proc/{pid}")
    use = uses.setdefault(_role(about), Use())
    status = dict(line.split(":", 1) for line in (about / "status").read_text().splitlines())
    use.resident = max(use.resident, int(status["VmHWM"].split()[0]) * 1024)
    times = (about / "stat").read_text().rpartition(")")[2].split()
    use.processor = max(use.processor, (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"))
    shares = dict(line.split(":", 1) for line in (about / "smaps_rollup").read_text().splitlines()[1:])
    return int(shares["Pss"].split()[0]) * 1024


def _role(about: Path) -> str:
    forked = (about / "comm").read_text().strip()
    if forked.startswith("onitu-"):
        role = forked.removeprefix("onitu-")
        return f"driver {about.name}" if role == "driver" else role
    words = (about / "cmdline").read_bytes().split(b"\0")
    if any(word.startswith(b"onitu-store") or word.endswith(b"valkey-server") for word in words[:1]):
        return "store"
    if b"onitu.referee" in words:
        return "referee"
    if b"onitu.plug" in words:
        return f"driver {about.name}"
    if any(word.endswith(b"lifeguard.py") for word in words):
        return "lifeguard"
    return Path(os.fsdecode(words[0])).name if b"sync" not in words else "supervisor"
