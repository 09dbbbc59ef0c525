"""What a server that is not OpenSSH can do, found out with things of our own that are gone again at the end."""

from __future__ import annotations

import contextlib
import secrets
import stat

import msgspec
import trio

from onitu.model import paths

from . import wire

_MODE = 0o640
_LEAVING = 10.0
"""Seconds that it may take to clear up."""


class Able(msgspec.Struct, frozen=True):
    """Attributes:
    modes: permission bits are kept.
    links: there are symbolic links.
    controls: names with control characters are kept. rclone makes others of them, once it has forgotten them: that
        cannot be found out in a short time.
    """

    modes: bool = True
    links: bool = True
    controls: bool = True


OPENSSH = Able()
UNKNOWN = Able(False, False, False)
"""What is believed of a server on which nothing may be tried."""


async def tried(session: wire.Session, root: bytes) -> Able:
    """Try it, in Onitu's own directory, which goes again where it was not there. Raises `Cut`."""
    private = root.rstrip(b"/") + b"/" + paths.PRIVATE
    file = private + b"/probe-" + secrets.token_hex(6).encode()
    link = file + b".link"
    made = await _done(session.ask(wire.MKDIR, wire.string(private), wire.attributes(0o777)))
    try:
        modes = False
        with contextlib.suppress(wire.Status):
            session.close(await session.open(file, wire.TO_WRITE | wire.TO_CREATE, 0o600))
            await session.ask(wire.SETSTAT, wire.string(file), wire.attributes(_MODE)).wait(wire.STATUS)
            told = (await session.ask(wire.LSTAT, wire.string(file)).wait(wire.ATTRS)).stat()
            modes = stat.S_IMODE(told.mode) == _MODE
        links = await _done(session.ask(wire.SYMLINK, wire.string(b"nowhere"), wire.string(link)))
        return Able(modes, links, controls=False)
    finally:
        with trio.move_on_after(_LEAVING, shield=True), contextlib.suppress(wire.Cut):
            await _done(session.ask(wire.REMOVE, wire.string(file)))
            await _done(session.ask(wire.REMOVE, wire.string(link)))
            if made:
                await _done(session.ask(wire.RMDIR, wire.string(private)))


async def _done(asked: wire.Reply) -> bool:
    """Whether the server did what was asked."""
    try:
        await asked.wait(wire.STATUS)
    except wire.Status:
        return False
    return True
