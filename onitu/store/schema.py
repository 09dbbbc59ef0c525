"""The schema of a folder's state: its version, and how an older one becomes this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import redis

from onitu.model.errors import Unreadable

from .keys import Command, Keys

SCHEMA = 1
"""The version that this code reads and writes."""

Migration = Callable[[redis.Redis, Keys], Iterator[list[Command]]]
"""From one version to the next: reads through the client (and never writes through it), and yields batches of
commands, each committed under the fence. It may be broken off between two batches and then starts from its beginning,
so each batch must be right to apply again. The last batch is committed together with the new version."""

MIGRATIONS: Mapping[int, Migration] = {}
"""By the version that a migration starts from. Version 1 is the first."""


def found(stored: bytes | None, folder: str, migrations: Mapping[int, Migration] = MIGRATIONS) -> int | None:
    """The stored version, if it is this one or can become it; None: there is no state yet.

    Raises:
        Unreadable: it is newer, unknown, or no number.
    """
    if stored is None:
        return None
    try:
        version = int(stored)
    except ValueError:
        raise Unreadable(f"the state of folder {folder!r} has the schema {stored!r}, which is none") from None
    if version > SCHEMA:
        raise Unreadable(
            f"the state of folder {folder!r} has schema {version}, written by a newer Onitu; "
            f"this one knows {SCHEMA} at most: update it, or use another state"
        )
    missing = [v for v in range(version, SCHEMA) if v not in migrations]
    if missing or version < 0:
        raise Unreadable(
            f"the state of folder {folder!r} has schema {version}, and there is no way from it to {SCHEMA}: "
            "use another state (nothing is lost, the replicas are compared anew)"
        )
    return version


def steps(
    version: int, client: redis.Redis, keys: Keys, migrations: Mapping[int, Migration] = MIGRATIONS
) -> Iterator[list[Command]]:
    """The batches that bring a state to `SCHEMA`; each has to be committed before the next is asked for."""
    for start in range(version, SCHEMA):
        held: list[Command] = []
        for batch in migrations[start](client, keys):
            if held:
                yield held
            held = batch
        yield [*held, written(keys, start + 1)]


def written(keys: Keys, version: int = SCHEMA) -> Command:
    """The command that stores the version."""
    return [b"HSET", keys.named("meta"), b"schema", b"%d" % version]
