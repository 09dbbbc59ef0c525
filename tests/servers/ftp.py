"""A pyftpdlib of the tests' own, with and without TLS, and with faults; run as a program, it is that server."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from onitu.plug.options import Value
from onitu.testing.conformance import Denied, Fault, LocalServer, Root
from onitu.testing.conformance.server import LocalRoot

USER, PASSWORD = "me", "a password for tests"


class FtpRoot(LocalRoot):
    """A directory in the user's home, which the server shows as `/`: the driver's path is another than this host's."""

    def __init__(self, path: Path, options: Mapping[str, Value]) -> None:
        super().__init__(path)
        self.options, self.path = options, path.name

    def write(self, path: bytes, data: bytes) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            if "\n" not in path.decode():
                super().write(path, data)
                return
        raise Denied("the server shows another name")


class FtpServer(LocalServer):
    """Every root is a directory in the home of one user. `tls`: no, explicit or implicit; `folds`: two cases of a name
    are one name, as on a macOS or Windows host."""

    faults = frozenset({Fault.WRONG_PASSWORD, Fault.DOWN, Fault.CUT, Fault.BUSY, Fault.DENIED, Fault.FULL, Fault.CLOCK})
    tls = "no"
    folds = False

    def __enter__(self) -> FtpServer:
        self.home, self.control = self.place / "home", self.place / "fault"
        self.home.mkdir(mode=0o700)
        self.control.write_text("")
        certificate = self._certificate() if self.tls != "no" else ""
        command = [sys.executable, "-m", "tests.servers.ftp", self.home, self.control, certificate, self.tls]
        command += ["folds"] if self.folds else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())  # it ends, or it listens: there is always a line
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def _certificate(self) -> str:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.place / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(self.place / "server.pem")
        return str(self.place / "server.pem")

    @property
    def options(self) -> dict[str, Value]:
        found: dict[str, Value] = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        return found | ({} if self.tls == "no" else {"tls": self.tls, "certificate": str(self.place / "ca.pem")})

    def empty(self, name: str) -> LocalRoot:
        return FtpRoot(self.home / name, self.options)

    @contextlib.contextmanager
    def fault(self, fault: Fault, root: Root) -> Iterator[Mapping[str, Value]]:
        if fault is Fault.WRONG_PASSWORD:
            yield {**root.options, "password": "a password that is none"}
            return
        self.control.write_text(fault.name)
        try:
            yield root.options
        finally:
            self.control.write_text("")

    def stay_busy(self) -> None:
        """Answer so until the fault is over."""
        self.control.write_text("STAYS BUSY")

    @contextlib.contextmanager
    def listing(self, how: str) -> Iterator[None]:
        """For the block listings are `TRUNCATED`, as Pure-FTPd's are beyond its limit, or `HALF`: cut in an entry."""
        self.control.write_text(how)
        try:
            yield
        finally:
            self.control.write_text("")


class ExplicitServer(FtpServer):
    """With AUTH TLS."""

    tls = "explicit"


class ImplicitServer(FtpServer):
    """With TLS from the first byte."""

    tls = "implicit"


class FoldingServer(FtpServer):
    """On a file system that does not tell cases apart."""

    folds = True


def spelled(path: str) -> str:
    """The path as what stands there is called, whatever the case that was asked for."""
    found = Path("/")
    for name in Path(path).parts[1:]:
        there = os.listdir(found) if not (found / name).exists() and found.is_dir() else []
        found /= next((other for other in there if other.casefold() == name.casefold()), name)
    return str(found)


def main(home: str, control: str, certificate: str, tls: str, folds: str = "") -> None:
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.filesystems import AbstractedFS
    from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
    from pyftpdlib.servers import FTPServer

    refusals = 0

    def fault() -> str:
        return Path(control).read_text()

    class Files(AbstractedFS):
        def ftp2fs(self, ftppath: str) -> str:
            path = str(super().ftp2fs(ftppath))
            return spelled(path) if folds else path

        def getmtime(self, path: str) -> float:
            return super().getmtime(path) + (3600 if fault() == "CLOCK" else 0)

        def format_mlsx(self, basedir: str, listing: list[str], *more: object, **given: object) -> Iterator[bytes]:
            entries = list(super().format_mlsx(basedir, listing, *more, **given))
            if len(listing) > 1 and fault() == "TRUNCATED":
                entries = entries[:1]
            if len(listing) > 1 and fault() == "HALF":
                entries = [entries[0], entries[1][:-5]]
            yield from entries

        def stat(self, path: str) -> os.stat_result:
            found = super().stat(path)
            if fault() != "CLOCK":
                return found
            return os.stat_result([*found[:8], int(found.st_mtime) + 3600, found[9]])

    class Users(DummyAuthorizer):
        def has_perm(self, username: str, perm: str, path: str | None = None) -> bool:
            denied = fault() == "DENIED" and path is not None and "/denied" in path and perm in "adfmwMT"
            return not denied and super().has_perm(username, perm, path)

    base, transfers = (FTPHandler, DTPHandler) if tls == "no" else (TLS_FTPHandler, TLS_DTPHandler)

    class Transfers(transfers):
        def handle_read_event(self) -> None:
            super().handle_read_event()
            if fault() == "CUT" and self.tot_bytes_received > 300_000:
                self.cmd_channel.close()
                self.close()
            if fault() == "FULL" and not self._closed and self.receive and self.file_obj.tell() > 100_000:
                self._resp = ("452 No space left on device.", logging.info)
                self.close()

    class Handler(base):
        def handle(self) -> None:
            if tls == "implicit":
                self.secure_connection(self.get_ssl_context())
            if fault() == "DOWN":
                self.close()
            else:
                super().handle()

        def respond(self, resp: str, *more: object, **given: object) -> None:
            if fault() == "TRUNCATED" and resp.startswith("226"):
                resp = "226 Output truncated to 1 matches"
            super().respond(resp, *more, **given)

        def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
            nonlocal refusals
            refusals = refusals - 1 if fault() == "BUSY" else 3
            if fault() == "DOWN":
                self.close()
            elif fault() == "STAYS BUSY" or (fault() == "BUSY" and refusals > 0):
                self.respond("421 Too many users, come back later.")
                self.close_when_done()
            else:
                super().pre_process_command(line, cmd, arg)

    users = Users()
    users.add_user(USER, PASSWORD, home, perm="elradfmwMT")
    Handler.authorizer, Handler.abstracted_fs, Handler.dtp_handler = users, Files, Transfers
    Handler.permit_foreign_addresses, Handler.auth_failed_timeout = False, 0
    if tls != "no":
        Handler.certfile = certificate
        Handler.tls_control_required = Handler.tls_data_required = tls == "explicit"
    logging.disable()
    # Whoever started it is gone when its standard input ends: it goes too.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server = FTPServer(("127.0.0.1", 0), Handler)
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever(handle_exit=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
