"""What may be said of an SFTP server, in a configuration or by a URL."""

from __future__ import annotations

import re

import attrs

from onitu.plug.options import RemoteOptions, option
from onitu.plug.urls import Address, Url


@attrs.frozen(kw_only=True)
class SftpOptions(RemoteOptions):
    """What may be said of an SFTP server."""

    host: str = option(help="the server's name or address, or a Host of ~/.ssh/config")
    port: int = option(0, help="its port; 0: as ~/.ssh/config says, else 22")
    user: str = option("", help="whom to log in as; left out: as ~/.ssh/config says, else your name here")
    password: str = option("", help="the password; left out: keys and agent only", secret=True)
    identity: str = option("", help="the private key to use; left out: the agent's, and those that ssh finds")
    passphrase: str = option("", help="the private key's passphrase, where no agent has the key", secret=True)
    known_hosts: str = option("", help="the file of known host keys; left out: as ~/.ssh/config says")
    accept_new: bool = option(False, help="accept and remember the key of a host that was never seen")
    config: str = option("", help="a file in place of ~/.ssh/config; `none`: no file at all")
    timeout: float = option(30.0, help="seconds without an answer after which a connection is given up")
    sessions: int = option(3, help="SSH connections at the same time at most")

    @classmethod
    def from_url(cls, url: str) -> Address:
        """`sftp://USER@HOST:PORT/PATH`; `/~/PATH` begins at the home directory, and so does no path at all. HOST may be
        one of `~/.ssh/config`. `USER:@` asks for the password; keys and the agent need nothing. `?identity=FILE`,
        `known_hosts` and `config` are the options of these names."""
        parts = Url.parse(url)
        parts.no_query("identity", "known_hosts", "config")
        options = parts.server() | {name: value for name, value in parts.query.items() if value}
        root = parts.path.removeprefix("/") if parts.path.startswith("/~") else parts.path
        asks = ("password",) if not parts.password and re.match(r"\w+://[^/@]*:@", url) else ()
        return Address(options, root or "~", parts.host, asks)
