"""Who one is on a host, as ~/.netrc says (or the file that $NETRC names)."""

from __future__ import annotations

import netrc
import os

from onitu.model.errors import Unavailable


def netrc_of(host: str, user: str = "") -> tuple[str, str]:
    """User and password for a host, those of this user where one is named; empty where there are none.

    Raises:
        Unavailable: the file is there, and cannot be read; or it is ~/.netrc, and others than its user can read the
            password.
    """
    named = os.environ.get("NETRC", "")
    path = named or os.path.expanduser("~/.netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
        st = os.stat(path)
    except FileNotFoundError:
        return "", ""
    except (OSError, UnicodeError, netrc.NetrcParseError) as error:
        raise Unavailable(f"{path} cannot be read for the password of {host}: {type(error).__name__}") from None
    if found is None or (user and found[0] != user):
        return "", ""
    if found[2] and not named and (st.st_uid != os.getuid() or st.st_mode & 0o077):
        raise Unavailable(f"{path} has the password of {host}, and others can read it: `chmod 600 {path}`, and own it")
    return found[0], found[2] or ""
