"""What may be said of a WebDAV server, in a configuration, by a URL, or in ~/.netrc."""

from __future__ import annotations

import attrs

from onitu.plug.netrc import netrc_of
from onitu.plug.options import RemoteOptions, Value, option
from onitu.plug.urls import Address, Url


@attrs.frozen(kw_only=True)
class WebdavOptions(RemoteOptions):
    """What may be said of a WebDAV server."""

    url: str = option(help="the server, as https://cloud.example/remote.php/dav/files/me; roots lie below it")
    user: str = option("", help="who you are there; left out: whom ~/.netrc has for the host")
    password: str = option("", help="the password, or an app password; left out: what ~/.netrc has", secret=True)
    token: str = option("", help="a bearer token, instead of user and password", secret=True)
    authentication: str = option("auto", help="how the password is shown: auto (as the server asks), basic or digest")
    certificates: str = option("", help="a file with the certificates to trust (PEM); left out: the system's")
    part: int = option(16 << 20, help="bytes of one part of a chunked upload (Nextcloud, ownCloud)")

    @classmethod
    def from_url(cls, url: str) -> Address:
        """`dav://host/path` is by HTTP, `davs://user@host/path` by HTTPS."""
        parts = Url.parse(url)
        parts.no_query()
        server = parts.server()
        scheme = "https" if parts.scheme == "davs" else "http"
        host = f"[{parts.host}]" if ":" in parts.host else parts.host
        options: dict[str, Value] = {"url": f"{scheme}://{host}{f':{parts.port}' if parts.port else ''}"}
        options |= {name: server[name] for name in ("user", "password") if name in server}
        known = parts.password or (parts.user and netrc_of(parts.host, parts.user)[1])
        return Address(options, parts.path, parts.host, asks=("password",) if parts.user and not known else ())
