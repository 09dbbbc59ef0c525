"""What rclone's errors mean. It tells them as texts alone: those of some seventy services, and its own."""

from __future__ import annotations

import re

from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.plug.driver import Refused
from onitu.plug.remote import Busy, Changed, Lost, Missing


class Failed(Exception):
    """A command that rclone did not carry out. `cause`: its text."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def _status(*codes: int) -> str:
    """An HTTP status, as the libraries in rclone write it."""
    numbers = "|".join(map(str, codes))
    return rf"(?:error|status|code|http)[ a-z:=(]{{0,12}}(?:{numbers})\b|\b(?:{numbers}) [a-z]|\((?:{numbers})\)"


_OWN = re.compile(r"(?:^|: )(?:object|directory) not found$")
"""What rclone says itself, without a name."""
_MISSING = re.compile(r"not found$|no such file or directory|: not a directory")
_CHANGED = re.compile(r"is a directory|file exists|directory already exists")
_LOST = re.compile(
    r"connection refused|no such host|network is unreachable|no route to host|name resolution|server misbehaving"
)
_BUSY = re.compile(
    r"too many requests|too_many_|rate.?limit|slow ?down|try again|timed? ?out|deadline exceeded|connection reset"
    r"|broken pipe|unexpected eof|: eof|^eof|context canceled|use of closed|temporar|"
    + _status(429, 500, 502, 503, 504)
)
_NO_SPACE = re.compile(r"no space left|quota|insufficient.?(?:storage|space)|storage.{0,20}full|" + _status(507))
_DENIED = re.compile(
    r"permission denied|access ?denied|forbidden|read-only file system|operation not permitted|" + _status(403)
)
_NAME = re.compile(r"name too long|malformed_path|disallowed_name|invalid (?:file ?)?name|invalid argument")
_SETUP = re.compile(
    r"didn't find section in config|config file is encrypted|couldn't decrypt|password required|didn't find backend"
    r"|invalid_grant|expired_access_token|empty token|token (?:has )?expired|couldn't fetch token|refresh token"
    r"|unable to decrypt|failed to load config|unable to authenticate|authentication fail|couldn't connect ssh"
    r"|knownhosts|failed to log ?in|login fail"
    r"|invalid.?(?:credential|access.?key)|signaturedoesnotmatch|unauthorized|user (?:or password )?incorrect"
    r"|no such ?bucket|bucket.{0,20}not.{0,10}exist|" + _status(401)
)
_REFUSED = {_NO_SPACE: Trouble.NO_SPACE, _DENIED: Trouble.DENIED, _NAME: Trouble.NAME_IMPOSSIBLE}
_PREFIX = re.compile(
    r"^(?:error in ListJSON: |panic received: |fatal error: |failed to (?:find object|open source object|copy): )+"
)


def meaning(error: Failed, *about: str) -> Exception:
    """The error as the interface has it. `about`: the names in question, whose words mean nothing."""
    cause = _PREFIX.sub("", error.cause)[:500].strip() or "rclone says only that it failed"
    words = error.cause.lower()
    for name in sorted(filter(None, about), key=len, reverse=True):
        words = re.sub(rf"(?<!\w){re.escape(name.lower())}(?!\w)", "", words)
    if _OWN.search(error.cause) or _MISSING.search(words):
        return Missing()
    if "source file is being updated" in words:
        return Refused(Trouble.SOURCE_LOST, "the file changed while it was read")
    if _SETUP.search(words):
        return Unavailable(cause)
    if "directory not empty" in words:
        return Refused(Trouble.NOT_EMPTY, "there is something in it")
    for pattern, trouble in (
        (_NO_SPACE, Trouble.NO_SPACE),
        (_DENIED, Trouble.DENIED),
        (_NAME, Trouble.NAME_IMPOSSIBLE),
    ):
        if pattern.search(words):
            return Refused(trouble, cause)
    if _LOST.search(words):
        return Lost(cause)
    if _BUSY.search(words):
        return Busy(cause)
    return Changed() if _CHANGED.search(words) else Refused(Trouble.IO, cause)
