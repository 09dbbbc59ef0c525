"""What may be said of an FTP server."""

from __future__ import annotations

import attrs

from onitu.plug import option
from onitu.plug.remote import (
    RemoteOptions,
)


@attrs.frozen(kw_only=True)
class FtpOptions(RemoteOptions):
    """The options of an FTP server."""

    host: str = option(help="the server's name or address")
    port: int = option(0, help="its port; 0: 21, or 990 where TLS is implicit")
    user: str = option("anonymous", help="who logs in")
    password: str = option("", help="left out: as ~/.netrc has it for this host", secret=True)
    tls: str = option("no", help="no, explicit (AUTH TLS) or implicit")
    certificate: str = option("", help="a file of certificates that the server's is checked with; left out: ours")


@attrs.frozen(kw_only=True)
class FtpsOptions(FtpOptions):
    """The same with TLS."""

    tls: str = option("explicit", help="explicit (AUTH TLS) or implicit")
