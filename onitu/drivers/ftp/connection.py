"""Connections to an FTP server, each used by one thread at a time."""

from __future__ import annotations

import contextlib
import ftplib
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

from onitu.model.errors import Unavailable
from onitu.plug.netrc import netrc_of
from onitu.plug.remote import in_thread

from .options import FtpOptions
from .replies import said

T = TypeVar("T")

QUIET = 30.0
"""Seconds without an answer, or without a byte of a transfer, after which a connection is given up."""


class Connection(ftplib.FTP_TLS):
    """One connection, for one thread at a time; `cut` may be called from another."""

    data: socket.socket | None = None

    def __init__(self, options: FtpOptions) -> None:
        context = ssl.create_default_context(cafile=options.certificate or None)
        super().__init__(timeout=QUIET, encoding="latin-1", context=context)
        self.options = options
        self.features: frozenset[str] = frozenset()
        self.home = ""
        """The directory that one logs in to; empty: it is not open yet."""

    def open(self) -> None:
        """Connect and log in. Raises what `ftplib` does."""
        options, implicit = self.options, self.options.tls == "implicit"
        self.host, self.port = options.host, options.port or (990 if implicit else ftplib.FTP_PORT)
        raw = socket.create_connection((self.host, self.port), QUIET)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.sock = self.context.wrap_socket(raw, server_hostname=self.host) if implicit else raw
        self.af, self.file = self.sock.family, self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        user, password = options.user, options.password
        if not password and user != "anonymous":
            known, password = netrc_of(options.host, user)
            user = user or known
        user = user or "anonymous"
        if options.tls == "explicit":
            self._secure()
        word = password or ("onitu@" if user == "anonymous" else "")
        ftplib.FTP.login(self, user, word)  # noqa: S321  # whether it is encrypted, people choose
        if options.tls != "no":
            self.prot_p()
        self.features = self._features()
        if "UTF8" in self.features:
            with contextlib.suppress(ftplib.Error):
                self.sendcmd("OPTS UTF8 ON")
        if "MLST" in self.features:
            with contextlib.suppress(ftplib.Error):  # some tell less than they could
                self.sendcmd("OPTS MLST type;size;modify;unique;")
        self.voidcmd("TYPE I")
        self.home = self.pwd()

    def _secure(self) -> None:
        """Speak TLS from here on. Raises `Unavailable` where the server has none."""
        try:
            self.auth()
        except ftplib.error_perm as error:
            where = self.options.shown
            raise Unavailable(f"{where} has no TLS ({said(error)}); ftp:// would send everything in clear") from error

    def _features(self) -> frozenset[str]:
        try:
            lines = self.sendcmd("FEAT").splitlines()
        except ftplib.error_perm:
            return frozenset()
        return frozenset(line.strip().partition(" ")[0].upper() for line in lines[1:-1])

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """With the TLS session of the control connection, which many servers insist on."""
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321  # likewise
        self.data = data
        if self.options.tls != "no":
            assert isinstance(self.sock, ssl.SSLSocket)
            self.data = data = self.context.wrap_socket(data, server_hostname=self.host, session=self.sock.session)
        return data, size

    def cut(self) -> None:
        """Make whatever goes on end."""
        for sock in (self.data, self.sock):
            if sock is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


@attrs.define(eq=False)
class Pool:
    """The connections to one server. `count`: told of `received_bytes`, those of listings."""

    options: FtpOptions = attrs.field(repr=False)
    limiter: trio.CapacityLimiter
    count: Callable[[str, int], None] = lambda name, amount: None
    _idle: list[Connection] = attrs.field(factory=list)

    async def use(self, act: Callable[[Connection], T], seconds: float = float("inf")) -> T:
        """The result of what is done with a connection, in a thread. One on which it failed is not used again."""
        connection = self._idle.pop() if self._idle else Connection(self.options)

        def work() -> T:
            if not connection.home:
                connection.open()
            return act(connection)

        whole = False
        try:
            result = await in_thread(work, self.limiter, seconds, connection.cut)
            whole = True
            return result
        except ftplib.error_perm:  # an answer like any other
            whole = bool(connection.home)
            raise
        except (EOFError, OSError, ftplib.error_temp):
            self.close()  # others that were idle as long are not there any more either
            raise
        finally:
            if whole:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
