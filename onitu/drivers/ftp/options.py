"""What may be said of an FTP server, in a configuration, by a URL, or in ~/.netrc."""

from __future__ import annotations

import attrs

from onitu.plug.netrc import netrc_of
from onitu.plug.options import RemoteOptions, option
from onitu.plug.urls import Address, Url


@attrs.frozen(kw_only=True)
class FtpOptions(RemoteOptions):
    """The options of an FTP server."""

    host: str = option(help="the server's name or address")
    port: int = option(0, help="its port; 0: 21, or 990 where TLS is implicit")
    user: str = option("", help="who logs in; left out: whom ~/.netrc has for the host, else `anonymous`")
    password: str = option("", help="left out: as ~/.netrc has it for this host", secret=True)
    tls: str = option("no", help="no, explicit (AUTH TLS) or implicit")
    certificate: str = option("", help="a file of certificates that the server's is checked with; left out: ours")

    @property
    def shown(self) -> str:
        """The server, for people."""
        return f"{self.host}:{self.port}" if self.port else self.host

    @classmethod
    def from_url(cls, url: str) -> Address:
        """`ftp://USER@HOST:PORT/PATH`: below the directory that one logs in to; an absolute path has `//` before it."""
        parts = Url.parse(url)
        parts.no_query()
        options = parts.server()
        if parts.scheme == "ftps":
            options["tls"] = "implicit" if parts.port == 990 else "explicit"
        known = parts.password or not parts.user or netrc_of(parts.host, parts.user)[1]
        return Address(options, parts.path.removeprefix("/"), parts.host, () if known else ("password",))


@attrs.frozen(kw_only=True)
class FtpsOptions(FtpOptions):
    """The same with TLS."""

    tls: str = option("explicit", help="explicit (AUTH TLS) or implicit")
