"""Connections through the program `ssh`: it knows the user's keys, agent, `~/.ssh/config`, jump hosts and known hosts
as the user's other programs do, and is what the user keeps up to date. Each connection is one process with one SFTP
session on its standard streams; what it says on standard error becomes a sentence.

Nothing secret is in a command line: `ssh` asks a script for the password, which has it from the environment of that one
process.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator

import logbook
import msgspec
import trio

from onitu.model.errors import Unavailable
from onitu.plug.ahead import Begun, take
from onitu.plug.remote import Busy, Lost

from . import wire
from .target import TOLD_WITHIN, Target, ciphers_told, knows_aes

CROWDED = 12
"""Requests under way on each connection from which on another one is opened."""
PATIENCE = 0.2
"""Seconds for which all connections are crowded before another one is opened: that costs as much as some hundred small
requests, and a listing is over by then."""
RETREAT = 60.0
"""Seconds for which no further connection is tried where the server refused one."""
_PIPE = 1 << 20
_SAID = 1 << 14
_LAST_WORDS = 1.0
"""Seconds for which a process that is to end may still speak."""

_ASK = """#!/bin/sh
case "$1" in
*assphrase*) printf '%s\\n' "$ONITU_SSH_PASSPHRASE" ;;
*) printf '%s\\n' "$ONITU_SSH_PASSWORD" ;;
esac
"""

log = logbook.Logger("sftp")


async def ciphers_for(target: Target) -> str:
    """What `ciphers_told` says for the target; empty, too: this processor has no instructions for AES."""
    if not knows_aes():
        return ""
    with trio.move_on_after(TOLD_WITHIN), contextlib.suppress(OSError):
        told = await trio.run_process(
            target.asking(),
            capture_stdout=True,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            start_new_session=True,
        )
        return ciphers_told(told.stdout.decode(errors="replace"))
    return ""


def explained(said: str, target: Target) -> Exception:
    """What `ssh` said before it ended, as an error with a sentence."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "ssh ended without a word"
    where = target.shown
    if "HOST IDENTIFICATION HAS CHANGED" in said or "REVOKED HOST KEY" in said:
        found = re.search(r"SHA256:[\w+/]+", said)
        print_ = f" (now {found[0]})" if found else ""
        old = f"[{target.host}]:{target.port}" if target.port not in (0, 22) else target.host
        return Unavailable(
            f"THE HOST KEY OF {where} HAS CHANGED{print_}: somebody may be listening in between, so nothing is sent;"
            f' only if you know why it changed, run: ssh-keygen -R "{old}"'
            + (f" -f {target.known_hosts}" if target.known_hosts else "")
        )
    if "Host key verification failed" in said or "host key is known" in said:
        return Unavailable(
            f"the host key of {where} is not known: run `{target.by_hand()}` once, compare the fingerprint that it"
            " shows, and accept it"
        )
    if "Permission denied (" in said or "Too many authentication failures" in said:
        ways = re.search(r"Permission denied \(([^)]*)\)", said)
        takes = f"; it takes {ways[1].replace(',', ' or ')}" if ways else ""
        tried = "the password that was given" if target.password else "the keys that ssh found"
        who = f"{target.user}@{where}" if target.user else where
        return Unavailable(f"{who} lets nobody in with {tried}{takes}")
    if "subsystem request failed" in said:
        return Unavailable(f"{where} has no SFTP")
    if re.search(
        r"Bad configuration option|terminating, \d+ bad|[Uu]nknown (user|key)|no such identity|hostname contains", last
    ):
        return Unavailable(f"ssh cannot connect to {where}: {last}")
    return Lost(f"{where} is not reached: {last}")


class Pool:
    """The connections to one server. Its tasks live in a nursery that somebody else closes."""

    def __init__(
        self,
        service: str,
        target: Target,
        most: int,
        nursery: trio.Nursery,
        workspace: str,
        count: Callable[[str, int], None] = lambda name, amount: None,
    ) -> None:
        """`service`: whose they are, for sentences; `most`: connections at the same time; `count`: told of
        `received_bytes`."""
        self._count = count
        self.service = service
        self.target = target
        self._most = max(1, most)
        self._nursery = nursery
        self._workspace = workspace
        self._sessions: list[wire.Session] = []
        self._opening = trio.Lock()
        self._growing = False
        self._crowded = math.inf
        """Since when all connections have much to do."""
        self._not_before = 0.0
        self._ciphers: str | None = None

    async def session(self) -> wire.Session:
        """One that is little used; where all have had much to do for a while, another one is opened for those who come
        later. Raises `Unavailable`, `Lost`, `Busy`."""
        best = self._best()
        if best is None:
            async with self._opening:
                return self._best() or await self._first()
        if self._wanting(best) and not self._growing:
            self._growing = True
            self._nursery.start_soon(self._grow)
        return best

    def _best(self) -> wire.Session | None:
        self._sessions = [session for session in self._sessions if session.failure is None]
        return min(self._sessions, key=lambda session: session.load, default=None)

    def _wanting(self, best: wire.Session) -> bool:
        now = trio.current_time()
        if best.load < CROWDED:
            self._crowded = math.inf
            return False
        self._crowded = min(self._crowded, now)
        return len(self._sessions) < self._most and now >= max(self._crowded + PATIENCE, self._not_before)

    async def _first(self) -> wire.Session:
        try:
            return await self._connect()
        except Unavailable as error:
            raise Unavailable(f"{self.service}: {error}") from None

    async def _grow(self) -> None:
        """Open another connection beside those that there are. Raises nothing."""
        try:
            await self._connect()
        except (Unavailable, Busy) as error:
            log.info("no further connection: {}", error)
            self._not_before = trio.current_time() + RETREAT
        finally:
            self._growing = False
            self._crowded = math.inf

    async def _connect(self) -> wire.Session:
        if shutil.which("ssh") is None:
            raise Unavailable("the program ssh is not installed: it makes the connections (OpenSSH's client)")
        opened = _Opened(begun=take())
        if self._ciphers is None and opened.begun is None:
            self._ciphers = await ciphers_for(self.target)
        self._nursery.start_soon(self._live, opened)
        with trio.move_on_after(self.target.timeout):
            await opened.ready.wait()
        if opened.session is None or opened.error is not None:
            opened.scope.cancel()
            raise opened.error or Lost(f"{self.target.shown} is not reached: no answer for {self.target.timeout:g} s")
        self._sessions.append(opened.session)
        return opened.session

    async def _live(self, opened: _Opened) -> None:
        """One connection, from its beginning to its end. Raises nothing."""
        said = bytearray()
        with opened.scope:
            try:
                async with self._process(opened.begun) as process, trio.open_nursery() as nursery:
                    assert process.stdin is not None
                    assert process.stdout is not None
                    assert process.stderr is not None
                    session = wire.Session(process.stdout, process.stdin, self.target.timeout, self._count)
                    nursery.start_soon(self._greet, session, opened)
                    heard = trio.Event()
                    nursery.start_soon(_gather, process.stderr, said, heard)
                    await session.run()
                    with trio.move_on_after(_LAST_WORDS):
                        await heard.wait()
                    nursery.cancel_scope.cancel()
            except OSError as error:
                opened.error = Unavailable(f"the program ssh cannot be run: {error.strerror}")
        if not opened.ready.is_set():
            opened.error = opened.error or explained(said.decode(errors="replace"), self.target)
            opened.ready.set()

    async def _greet(self, session: wire.Session, opened: _Opened) -> None:
        try:
            await session.greet()
        except wire.Garbled as error:
            opened.error = Unavailable(f"{self.target.shown}: {error}")
        except (wire.Cut, wire.Status):
            pass  # what ssh says tells why
        else:
            opened.session = session
            opened.ready.set()

    @contextlib.asynccontextmanager
    async def _process(self, begun: Begun | None) -> AsyncIterator[trio.Process | Begun]:
        target = self.target
        if begun is not None:
            async with _ending(begun):
                yield begun
            return
        with contextlib.ExitStack() as stack:
            environment = dict(os.environ)
            if target.password or target.passphrase:
                environment["SSH_ASKPASS"] = stack.enter_context(_asker(self._workspace))
                environment["SSH_ASKPASS_REQUIRE"] = "force"
                environment |= {"ONITU_SSH_PASSWORD": target.password, "ONITU_SSH_PASSPHRASE": target.passphrase}
                environment.setdefault("DISPLAY", ":0")  # before OpenSSH 8.4 it asks a script only where this is set
            process = await trio.lowlevel.open_process(
                target.command(self._ciphers or ""),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # no terminal to ask on, and Ctrl-C is for Onitu
                env=environment,
            )
            async with _ending(process):
                yield process


@contextlib.asynccontextmanager
async def _ending(process: trio.Process | Begun) -> AsyncIterator[None]:
    try:
        _widen(process)
        yield
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


class _Opened(msgspec.Struct, eq=False):
    """A connection that is being made. `begun`: by whom else (`onitu.plug.ahead`); `ready`: it is there, or never will
    be: then `error` says why."""

    begun: Begun | None = None
    scope: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    ready: trio.Event = msgspec.field(default_factory=trio.Event)
    session: wire.Session | None = None
    error: Exception | None = None


async def _gather(stream: trio.abc.ReceiveStream, said: bytearray, heard: trio.Event) -> None:
    """The last of what the process says."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in stream:
            said += data
            del said[:-_SAID]
    heard.set()


async def _end(process: trio.Process | Begun) -> None:
    """Its input ends, so it ends; and if not, it is ended. With what it started, a ProxyCommand say."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            await stream.aclose()
    with trio.move_on_after(_LAST_WORDS):
        await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.stderr is not None:
        await process.stderr.aclose()


def _widen(process: trio.Process | Begun) -> None:
    """Let the pipes hold more, so that fewer turns are needed; where the system cannot, it works as well."""
    size = getattr(fcntl, "F_SETPIPE_SZ", None)
    for stream in (process.stdin, process.stdout):
        if size is not None and isinstance(stream, trio.lowlevel.FdStream):
            with contextlib.suppress(OSError):
                fcntl.fcntl(stream.fileno(), size, _PIPE)


@contextlib.contextmanager
def _asker(workspace: str) -> Iterator[str]:
    """The script that `ssh` asks, as long as it may; nobody else can read it, and there is nothing secret in it."""
    if workspace:
        os.makedirs(workspace, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ask-", dir=workspace or None) as directory:
        path = os.path.join(directory, "ask")
        with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o700)) as file:
            file.write(_ASK)
        yield path
