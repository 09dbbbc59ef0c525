"""Who one is on a host, as ~/.netrc says (or the file that $NETRC names)."""

from __future__ import annotations

import netrc
import os

from onitu.model.errors import Unavailable


def netrc_of(host: str, user: str = "") -> tuple[str, str]:
    """User and password for a host, those of this user where one is named; empty where there are none.

    Raises:
        Unavailable: the file is there, and cannot be read.
    """
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        return "", ""
    except (OSError, netrc.NetrcParseError) as error:
        raise Unavailable(f"{path} cannot be read for the password of {host}: {type(error).__name__}") from None
    if found is None or (user and found[0] != user):
        return "", ""
    return found[0], found[2] or ""
