"""Processes that are forked from this one, with all that it has loaded, instead of started from nothing.

To load the code of a child takes 0.2 s of a processor and more; a fork takes some milliseconds, and the memory is
shared. What holds for a program that is started holds for a fork too, before `fork` comes back:

- it leads a session and a process group of its own, and SIGINT is ignored until it says otherwise;
- its standard streams are three pipes whose other ends only this process holds, and it has no other descriptor of
  ours but those in `keep`: at the end of this process its standard input reads EOF, whatever ended that;
- the directory where somebody started us is no place where it looks for modules.

It must be made where no other thread runs and no Trio does: `possible` tells of the threads, the caller knows the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Fork(msgspec.Struct):
    """A process that was forked, and our ends of its standard streams.

    Attributes:
        pid: its number. It stays a zombie until somebody reaps it.
        stdin: where its standard input is written.
        stdout: where its standard output is read.
        stderr: where its standard error is read.
    """

    pid: int
    stdin: int
    stdout: int
    stderr: int

    @property
    def streams(self) -> tuple[int, ...]:
        """Our ends of its standard streams; none once they were let go of."""
        return tuple(end for end in (self.stdin, self.stdout, self.stderr) if end >= 0)

    def let_go(self) -> None:
        """Close our ends: another process has them too."""
        for end in self.streams:
            os.close(end)
        self.stdin = self.stdout = self.stderr = -1

    def discard(self) -> None:
        """Kill it, and what it has started; come back when it is gone. For who does not hand it on to a `Child`."""
        self.let_go()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def possible() -> bool:
    """Whether this process may fork: Linux, where its own thread is the only one, also of those of no Python."""
    if not sys.platform.startswith("linux"):
        return False  # macOS has libraries that break in a fork
    try:
        os.close(os.pidfd_open(os.getpid()))
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def fork(name: str, main: Callable[[], object], keep: Sequence[int] = ()) -> Fork:
    """Fork a process that runs `main` and ends with it: with status 1, unless `main` ends the process itself.

    Args:
        name: what `ps` and `top` call it; the first 15 bytes count.
        main: what it does. An error goes to its standard error, with the traceback.
        keep: descriptors that it gets beside its standard streams, and whatever it starts.

    Raises:
        OSError: there can be no more processes, or no more descriptors.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.ExitStack() as waiting, contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        stdin, write = _pipe(theirs, ours)
        output, stdout = _pipe(ours, theirs)
        errors, stderr = _pipe(ours, theirs)
        born, _ = _pipe(waiting, theirs)
        # A Ctrl-C meanwhile is ours, and waits.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                _live(name, main, (stdin, stdout, stderr), keep, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        os.read(born, 1)  # EOF: it leads its group, and has let go of all that is not its own
        ours.pop_all()
    return Fork(pid, write, output, errors)


def _live(
    name: str, main: Callable[[], object], streams: Sequence[int], keep: Sequence[int], mask: set[int]
) -> NoReturn:
    """The life of the fork."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.setsid()
        for number, end in enumerate(streams):
            os.dup2(end, number)
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        _close_all_but(keep)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
            del sys.path[0]
        with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
            file.write(name)
        main()
    except BaseException:
        # The top of this process; what is above belongs to the one that it was forked from.
        traceback.print_exc()
    finally:
        os._exit(1)


def _close_all_but(keep: Sequence[int]) -> None:
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):  # the one that the list was read from
                os.close(descriptor)


def _pipe(reading: contextlib.ExitStack, writing: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe none of whose ends has the number of a standard stream, each end owned by a stack."""
    ends = []
    for end, owner in zip(os.pipe(), (reading, writing), strict=True):
        if end < 3:
            low, end = end, fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3)
            os.close(low)
        owner.callback(os.close, end)
        ends.append(end)
    return ends[0], ends[1]
