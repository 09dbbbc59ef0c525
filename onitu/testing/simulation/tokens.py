"""The tokens of simulated services: what a look at a thing tells, and whether it can be told apart from a change."""

from __future__ import annotations

from onitu.model.versions import Kind

from .disk import Thing

DIRECTORY = b"directory"
"""The token of every directory: any will do."""


def token_of(thing: Thing) -> bytes:
    """What names the thing as it is now."""
    if thing.kind is Kind.DIRECTORY:
        return DIRECTORY
    return _identity(thing) + b":%d" % thing.ctime


def dirty_token_of(thing: Thing) -> bytes:
    """A token that no later look equals: who is to replace what it names has to compare the content."""
    return _identity(thing) + b":dirty"


def read_token(thing: Thing, since: int, racy: int) -> bytes:
    """The token of a file that was read from the time `since` on: dirty where one more change might not have shown."""
    young = racy and (abs(since - thing.ctime) < racy or abs(since - thing.mtime) < racy)
    return dirty_token_of(thing) if young else token_of(thing)


def is_dirty(token: bytes) -> bool:
    return token.endswith(b":dirty")


def matches(token: bytes, thing: Thing) -> bool:
    """Whether the token names the thing; a dirty one, as far as it can tell."""
    if is_dirty(token):
        return thing.kind is not Kind.DIRECTORY and token == dirty_token_of(thing)
    return token == token_of(thing)


def identity_of(token: bytes) -> bytes | None:
    """What of a token stays the same when the thing is renamed."""
    return token.rpartition(b":")[0] or None


def _identity(thing: Thing) -> bytes:
    return b"%d:%d:%d" % (thing.inode, len(thing.data), thing.mtime)
