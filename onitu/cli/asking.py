"""Finding the run that a command is about, and asking it.

A running daemon is found by its state directory: from `--state`, or from the configuration (`-c`, else `./onitu.yaml`,
else `$XDG_CONFIG_HOME/onitu/onitu.yaml`).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from onitu.model.errors import ConfigurationError, OnituError, PeerGone

T = TypeVar("T")

FILE = "onitu.yaml"

AGAIN = 0.2
"""Seconds until somebody who was not there is asked again."""


class NotRunning(OnituError):
    """There is no run to ask."""


class GivenUp(OnituError):
    """A process of the run died too often to be started again."""


def configuration_file(given: str) -> Path:
    """The configuration file that is meant.

    Raises:
        ConfigurationError: none was named, and none stands in the usual places.
    """
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~/.config"))
    places = [Path(FILE), home / "onitu" / FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ConfigurationError(
            [f"there is no {places[0]} here and no {places[1]}; name one with -c, or write one with `onitu init`"]
        )
    return found


def state_of(config: str, state: str) -> str:
    """The state directory of the run that a command is about."""
    from . import configuration, roots

    if state:
        return str(roots.real(state, Path.cwd()))
    return configuration.load(configuration_file(config)).settings.state


def pid_of(state: str) -> int | None:
    """The pid of the run that uses this state directory; None: there is none."""
    from onitu.supervisor import statelock

    return statelock.user(state)


async def ask(state: str, what: str, wait: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """Ask the daemon that uses this state directory; `wait` is in seconds. While one of its processes is being started
    again, it is asked again: everything that can be asked may be asked twice.

    Raises:
        NotRunning: there is none.
        PeerGone: it does not answer in time.
        OnituError: its answer is an error.
    """
    import trio

    from onitu.supervisor import runtime
    from onitu.wire import sockets

    end = trio.current_time() + wait
    while True:
        if pid_of(state) is None:
            raise NotRunning(f"no daemon is running on {state}; start one with `onitu start`")
        try:
            return await sockets.ask(runtime.control_endpoint(state), what, arguments, end - trio.current_time())
        except PeerGone:
            if trio.current_time() + AGAIN >= end:
                raise
        await trio.sleep(AGAIN)


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end. Errors of its nurseries come out as they were raised in them."""
    import trio

    gc.enable()  # `onitu.__main__` has it off while the program is loaded
    return trio.run(main, strict_exception_groups=True)


def ask_now(config: str, state: str, what: str, wait: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """Find the daemon, ask it, and return its answer. Arguments that are None are left out."""
    found = state_of(config, state)
    given = {key: value for key, value in arguments.items() if value is not None}

    async def main() -> dict[str, Any]:
        return await ask(found, what, wait, **given)

    return run(main)
