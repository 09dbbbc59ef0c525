"""CURVE for `tcp://` endpoints: both sides prove who they are, nobody else can read along.

Every installation has one key pair, in a file that only its owner can read. A server takes only clients whose public
key it was told: libzmq asks `Authenticator`, over ZAP (ZeroMQ RFC 27), for each connection. CURVE alone lets every
client in that knows the server's public key, so a server's ZAP domain is enforced: while no authenticator runs in its
context, nobody is let in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import attrs
import logbook
import trio
import zmq
from zmq.utils import z85

from onitu.model.errors import ConfigurationError

from .sockets import Context, Kind, Options, Socket

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"onitu"

_log = logbook.Logger("onitu.wire")


def _is_key(instance: object, attribute: attrs.Attribute[bytes], value: bytes) -> None:
    if len(value) != 40:
        raise ValueError("a CURVE key has 40 characters (Z85)")
    z85.decode(value)


@attrs.frozen
class Keys:
    """A key pair, in Z85 (40 characters each)."""

    public: bytes = attrs.field(validator=_is_key)
    secret: bytes = attrs.field(validator=_is_key, repr=False)

    @classmethod
    def make(cls) -> Self:
        """A new pair."""
        return cls(*zmq.curve_keypair())

    @classmethod
    def load(cls, path: Path) -> Self:
        """The pair in a file: two lines, `public KEY` and `secret KEY`.

        Raises:
            ConfigurationError: it cannot be read, is no such file, or others than its owner may read it.
        """
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                words = file.read(1000).split()
        except OSError as error:
            raise ConfigurationError([f"{path}: the keys cannot be read: {error.strerror}"]) from None
        if mode & 0o077:
            raise ConfigurationError([f"{path}: others may read these keys (mode {mode:04o}): chmod 600 {path}"])
        try:
            found = dict(zip(words[::2], words[1::2], strict=True))
            keys = cls(found[b"public"], found[b"secret"])
            if zmq.curve_public(keys.secret) != keys.public:
                raise ValueError("the two keys do not belong together")
        except (KeyError, ValueError) as error:
            # The text of the error is left out: it might quote a piece of the secret.
            raise ConfigurationError([f"{path}: this is no pair of CURVE keys ({type(error).__name__})"]) from None
        return keys

    def save(self, path: Path) -> None:
        """Write the pair to a new file with mode 0600. Raises `FileExistsError`: keys are never overwritten."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(b"public %s\nsecret %s\n" % (self.public, self.secret))


@attrs.frozen
class Curve:
    """What a socket on `tcp://` is secured with (see `onitu.wire.sockets.Security`).

    Attributes:
        keys: our own.
        server: the server's public key; only for sockets that connect.
    """

    keys: Keys
    server: bytes = b""

    def secure(self, socket: zmq.Socket[bytes], *, server: bool) -> None:
        """Set the keys on a socket that is neither bound nor connected yet."""
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.keys.secret)
        if server:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        elif not self.server:
            raise ConfigurationError(["a connection over tcp:// needs the server's public key"])
        else:
            socket.setsockopt(zmq.CURVE_SERVERKEY, self.server)


class Authenticator:
    """Lets clients in whose public keys are known, and nobody else. It answers while `run` runs.

    One for each context, started before the first server socket of it is bound: a connection that comes while nobody
    answers is refused.

    Attributes:
        refused: how many connections were refused.
    """

    def __init__(self, context: Context, clients: Iterable[bytes]) -> None:
        """`clients`: the public keys, in Z85."""
        self.refused = 0
        self._clients = frozenset(z85.decode(key) for key in clients)
        self._socket = Socket.bind(context, Kind.ROUTER, ZAP_ENDPOINT, options=Options(heartbeat=0))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled. The socket is closed then: no connection is accepted any more."""
        async with self._socket:
            task_status.started()
            while True:
                request = [
                    frame if isinstance(frame, bytes) else frame.bytes for frame in await self._socket.receive_frames()
                ]
                await self._socket.send_frames(self._answer(request))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """The reply to [envelope…, "", version, id, domain, address, identity, mechanism, credentials…]."""
        begin = request.index(b"") + 1
        version, number, domain, address, _, mechanism, *credentials = request[begin:]
        good = domain == DOMAIN and mechanism == b"CURVE" and len(credentials) == 1 and credentials[0] in self._clients
        if not good:
            self.refused += 1
            _log.warning("refused a connection from {}: its key is unknown", address.decode(errors="replace"))
        status, text = (b"200", b"OK") if good else (b"400", b"unknown key")
        return [*request[:begin], version, number, status, text, b"client" if good else b"", b""]
