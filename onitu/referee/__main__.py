"""`python -m onitu.referee`: what the supervisor starts."""

from __future__ import annotations

from collections.abc import Callable

from onitu.store.redis import RedisStore
from onitu.wire.charter import Charter
from onitu.wire.lifeline import leave, run_child

from .service import RefereeService


async def main(charter: Charter, farewell: Callable[[], None]) -> None:
    """Serve until cancelled. Drivers may speak to it to its end."""
    await RefereeService(charter, RedisStore(charter.store)).run()


if __name__ == "__main__":
    leave(run_child(main))
