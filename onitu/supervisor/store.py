"""The embedded store as a child: a lifeguard with the server below it, and the questions whether the server answers.

What the server is told stands in `onitu.store.embedded`; here is only its life. It is killed when it does not answer
for `SILENCE` seconds: longer than other children, since a slow disk can hold up a server that writes through.
"""

from __future__ import annotations

import contextlib
import os
import re

import logbook
import trio

from onitu.store.embedded import HZ, QUIET_HZ, Embedded
from onitu.supervisor.backoff import Policy
from onitu.supervisor.child import Child, Job, State
from onitu.supervisor.headstart import guarding

SILENCE = 30.0
"""Seconds without an answer after which the server is killed."""

LOOK = 10.0
"""Seconds between two questions whether it answers, at most."""

FIRST = 3.0
"""Seconds until the first one, at most, with which it is told that nobody waits for it any more."""

TRIES = 3
"""Deaths before its first answer after which the run is given up: somebody waits at a prompt."""

GROWN = 2_000_000
"""Bytes of the log of commands from which on it is worth a snapshot at the end of a run: ten million take some 0.2 s to
load (`store.log` tells), what has come of them an eighth of that. (The server does the same by itself from 64 MiB on,
whenever the log doubles.)"""

COMPACTING = 2.0
"""Seconds that a snapshot may take of somebody's time; after that the log is left as it is."""

_COMPACTS = re.compile(rb"aof_rewrite_(in_progress|scheduled):1")

_LAST_WORDS = 8192
"""Bytes at the end of the server's log that may say why it ended."""
_CHATTER = re.compile(rb"WARNING|Can't recover from AOF write error")
_FULL = re.compile(rb"Short write while writing to the AOF|No space left on device|Disk quota exceeded")

log = logbook.Logger("supervisor")


class EmbeddedStore:
    """The embedded store of a run.

    Attributes:
        server: its directories, its URL.
        job: how it is started.
    """

    def __init__(
        self, server: Embedded, lock: int, patience: float, policy: Policy, *, silence: float = SILENCE
    ) -> None:
        """`server` is prepared; `lock` is the descriptor of the state directory's lock, which the server holds too.

        Raises:
            StateError: there is no server for this platform.
        """
        self.server = server
        self._silence = silence
        self.job = Job(
            "store",
            tuple(guarding(server)),
            inherit=(lock,),
            silence=SILENCE,
            patience=patience,
            policy=policy,
        )

    async def ready(self, child: Child) -> bool:
        """Wait until the server answers and has loaded its data; False where it died `TRIES` times instead.

        However long it loads: it answers meanwhile, so a hung one is found by `watch`.
        """
        while child.state is not State.FAILED and child.restarts < TRIES:
            if await self._ask() == b"+PONG":
                return True
            await trio.sleep(0.01)
        return False

    async def answers(self) -> None:
        """Wait until the server answers and has loaded its data, however often it dies meanwhile."""
        while await self._ask() != b"+PONG":  # noqa: ASYNC110 (a server sets no events)
            await trio.sleep(0.02)

    def cause(self) -> str:
        """Why the server ended by itself, as far as its log says so: words for people, or nothing."""
        said = b""
        with contextlib.suppress(OSError), open(self.server.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST_WORDS))
            warnings = [line.partition(b" # ")[2] for line in file.read().splitlines()]
            said = next((line for line in reversed(warnings) if line and not _CHATTER.match(line)), b"")
        if _FULL.search(said):
            return f"there is no space left in {self.server.state}"
        return said.decode(errors="replace").strip()

    async def compact(self) -> None:
        """Replace a log of commands that has grown by a snapshot of what came of them, so that the next start has less
        to load. It is done once there is as much in the log as in the last snapshot, so that all of them together
        take no longer than the log. Whatever comes of this, nothing is lost: the old log is there until the new one
        is."""
        if not self._has_grown():
            return
        with trio.move_on_after(COMPACTING), contextlib.suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_unix_socket(self.server.socket) as stream:
                await _answer(stream, b"CONFIG SET hz %d" % HZ)  # it sees the end when it looks at itself
                await _answer(stream, b"BGREWRITEAOF")
                while _COMPACTS.search(await _answer(stream, b"INFO persistence")):  # noqa: ASYNC110 (it sets no events)
                    await trio.sleep(0.01)

    def _has_grown(self) -> bool:
        snapshot = grown = 0
        with contextlib.suppress(OSError), os.scandir(self.server.data) as files:
            for file in files:
                if file.name.endswith(".rdb"):
                    snapshot += file.stat().st_size
                elif file.name.endswith(".aof"):
                    grown += file.stat().st_size
        return grown >= max(GROWN, snapshot)

    async def hasten(self) -> None:
        """Ask a server that is to end anyway by a command: it looks for signals now and then only. Whatever
        comes of this, SIGTERM is on its way to it."""
        with trio.move_on_after(1.0), contextlib.suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_unix_socket(self.server.socket) as stream:
                await stream.send_all(b"SHUTDOWN\r\n")
                await stream.receive_some(1024)

    async def watch(self, child: Child) -> None:
        """Kill a server that is silent, until cancelled. The lifeguard's own signs of life say nothing about it."""
        silent, quiet = 0.0, None  # the process that was told to look at itself seldom
        pause = min(FIRST, self._silence / 3)
        while True:
            await trio.sleep(pause)
            if child.state is not State.RUNNING:
                silent = 0.0
                continue
            answer = b""
            with trio.move_on_after(1.0):
                pid = child.pid
                answer = await self._ask(b"PING" if quiet == pid else b"CONFIG SET hz %d" % QUIET_HZ)
                quiet = pid if answer == b"+OK" else quiet
            # Only due time counts, as in `Child`: a machine that slept proves nothing.
            silent = 0.0 if answer else silent + pause
            if silent >= self._silence:
                child.kill(f"the server gave no answer for {self._silence:g} s")
                silent = 0.0
            pause = min(LOOK, self._silence / 3) if quiet == pid else pause

    async def _ask(self, question: bytes = b"PING") -> bytes:
        """The first line of the answer (an error such as `-LOADING` is a sign of life too), or nothing."""
        try:
            async with await trio.open_unix_socket(self.server.socket) as stream:
                await stream.send_all(question + b"\r\n")
                answer = bytes(await stream.receive_some(1024))
        except (OSError, trio.BrokenResourceError):
            return b""
        return answer.partition(b"\r\n")[0]


async def _answer(stream: trio.SocketStream, command: bytes) -> bytes:
    """The server's answer to a command: a line, or a string with its length before it."""
    await stream.send_all(command + b"\r\n")
    answer = b""
    while True:
        some = await stream.receive_some(4096)
        if not some:
            raise trio.BrokenResourceError("the server is gone")
        answer += some
        first, end, rest = answer.partition(b"\r\n")
        if end and (not first.startswith(b"$") or len(rest) > int(first[1:])):
            return answer
