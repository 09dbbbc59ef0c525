"""What an FTP server answers: its errors, and its facts."""

from __future__ import annotations

import ftplib
import re
from datetime import UTC, datetime, timedelta

from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.model.versions import Kind
from onitu.plug import Refused
from onitu.plug.remote import Busy, Thing, unsized
from onitu.plug.remote.headers import size_of

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def meaning(error: ftplib.Error) -> Exception:
    """What a reply of a server means (RFC 959, section 4.2)."""
    number, cause = code(error), said(error)
    words = cause.lower()
    if number in ("530", "532", "331", "332", "430", "534", "521", "522"):
        return Unavailable(f"the server refuses the login: {cause}")
    if number in ("452", "552") or "no space" in words or "quota" in words:
        return Refused(Trouble.NO_SPACE, cause)
    if number == "421" or not isinstance(error, ftplib.error_perm):
        return Busy(cause)
    if number == "553" or "name too long" in words or (number == "501" and "utf" in words):
        return Refused(Trouble.NAME_IMPOSSIBLE, cause)
    return Refused(Trouble.DENIED if number == "550" else Trouble.IO, cause)


def thing_of(facts: str, itself: bool = False) -> Thing | None:
    """What MLSD tells of one thing (RFC 3659, section 7); None: it is the directory itself, or the one above.
    `itself`: it is asked for by its name, so that the directory itself will do."""
    pairs = (fact.partition("=") for fact in facts.split(";"))
    known = {name.lower(): value for name, _, value in pairs}
    match known.get("type", "file").lower():
        case "dir":
            return Thing(Kind.DIRECTORY)
        case "cdir" | "pdir":
            return Thing(Kind.DIRECTORY) if itself else None
        case "file":
            size, stamp = size_of(known.get("size", "")), known.get("modify", "")
            if size is None:
                return unsized()
            return Thing(Kind.FILE, f"{size} {stamp} {known.get('unique', '')}".encode(), size, nanoseconds(stamp))
        case other:
            return Thing(
                Kind.FILE, b"-", trouble=Trouble.UNSUPPORTED, reason=f"it is neither a file nor a directory: {other}"
            )


def number_of(facts: str) -> str:
    """The server's number of the thing (`unique`); empty: it tells none."""
    pairs = (fact.partition("=") for fact in facts.split(";"))
    return next((value for name, _, value in pairs if name.lower() == "unique"), "")


def nanoseconds(stamp: str) -> int:
    """`YYYYMMDDHHMMSS.sss`, in UTC, since 1970; 0: none."""
    found = re.fullmatch(r"(\d{14})(?:\.(\d+))?", stamp)
    if not found:
        return 0
    try:
        when = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return (when - EPOCH) // timedelta(seconds=1) * SECOND + int((found[2] or "0")[:9].ljust(9, "0"))


def code(error: ftplib.Error) -> str:
    return str(error)[:3]


def said(error: ftplib.Error) -> str:
    return str(error)[3:].strip(" -.") or str(error)
