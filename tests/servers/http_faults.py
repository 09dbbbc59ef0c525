"""A proxy before an HTTP server: it passes everything on until it has a fault."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator

from onitu.testing.conformance import Fault
from onitu.testing.ports import free_port


class Ill:
    """See the module.

    Attributes:
        fault: what it has now; None: nothing.
        answers: given instead of the next answers of the server; None: that one is the server's own.
        reads: given instead of the answers to GET, by the end of the path.
        requests: first lines of the requests that came in.
        cut: bytes after which `Fault.CUT` cuts a connection.
    """

    def __init__(self, behind: int) -> None:
        self.fault: Fault | None = None
        self.answers: list[bytes | None] = []
        self.reads: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut = 300_000
        self._behind = behind
        self._held: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port: int = self._listener.getsockname()[1]
        self._start()

    def close(self) -> None:
        """Nobody answers any more, and nobody is answered."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End every connection."""
        for held in list(self._held):
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def having(self, fault: Fault) -> Iterator[None]:
        """Have a fault for the block."""
        self.fault = fault
        if fault is Fault.BUSY:
            self.answers = [answer("503 Busy", "Retry-After: 1"), answer("429 Slow Down", "Retry-After: 1")]
        if fault is Fault.DOWN:
            self.close()
        try:
            yield
        finally:
            self.fault = None
            self.answers = []
            self.hang_up()  # what was held goes on nowhere
            if fault is Fault.DOWN:
                self._listener = socket.create_server(("127.0.0.1", self.port))
                self._start()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError), one, socket.create_connection(("127.0.0.1", self._behind)) as other:
            for end in (one, other):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._held |= {one, other}
            try:
                threading.Thread(target=self._back, args=(one, other), daemon=True).start()
                self._there(one, other)
            finally:
                self._held -= {one, other}
                with contextlib.suppress(OSError):
                    other.shutdown(socket.SHUT_RDWR)

    def _there(self, one: socket.socket, other: socket.socket) -> None:
        passed = 0
        incoming = one.makefile("rb")
        while head := _head(incoming):
            self.requests.append(head.partition(b"\r\n")[0].decode())
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            size = int(fields.get(b"content-length", b"0"))
            where = head.partition(b"\r\n")[0] + fields.get(b"destination", b"")
            if (told := self._told(size, where)) is not None:
                incoming.read(size)
                one.sendall(told)
                continue
            other.sendall(head + b"\r\n")
            while size:
                data = incoming.read1(min(size, 65536))
                passed, size = passed + len(data), size - len(data)
                if not data or (self.fault is Fault.CUT and passed > self.cut):
                    return
                self._hold()
                other.sendall(data)

    def _hold(self) -> None:
        while self.fault is Fault.STALLED:
            time.sleep(0.05)

    def _told(self, size: int, where: bytes) -> bytes | None:
        """What is answered instead of the server."""
        method, _, path = self.requests[-1].removesuffix(" HTTP/1.1").partition(" ")
        if self.answers:
            return self.answers.pop(0)
        if method == "GET" and (told := next((page for end, page in self.reads.items() if path.endswith(end)), None)):
            return told
        if self.fault is Fault.FULL and method == "PUT" and size > 100_000:
            return answer("507 Insufficient Storage")
        if self.fault is Fault.DENIED and method in ("PUT", "MKCOL", "MOVE", "COPY") and b"/denied/" in where:
            return answer("403 Forbidden")
        return None

    def _back(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := other.recv(65536):
                self._hold()
                one.sendall(data)
            one.shutdown(socket.SHUT_RDWR)


def _head(incoming: io.BufferedReader) -> bytes:
    """The lines of a request's head; empty: the connection has ended."""
    lines = []
    while (line := incoming.readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join(lines) if line else b""


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """An answer."""
    return ("\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]) + "\r\n\r\n").encode() + body
