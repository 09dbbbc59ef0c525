"""What the tests of the supervisor need to know of processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import trio

from onitu.model.settings import Folder, Service, Settings
from onitu.supervisor.backoff import Policy

FAKE = os.path.join(os.path.dirname(__file__), "fake.py")
QUICK = Policy(first=0.01, longest=0.05, healthy=1000.0, limit=3, window=1000.0)


def fake(*how: str) -> tuple[str, ...]:
    """The command of a fake child."""
    return (sys.executable, "-I", "-S", FAKE, *how)


def lives(pid: int) -> bool:
    """Whether a process is there that is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> set[int]:
    """Every living process below `pid`."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: set[int] = set()
    ahead = [pid]
    while ahead:
        parent = ahead.pop()
        children = [one for one, its in parents.items() if its == parent and one not in found]
        found.update(children)
        ahead.extend(children)
    return {one for one in found if lives(one)}


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until `condition` holds, which is looked at often; `trio.TooSlowError` after `seconds`."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 (processes set no events)
            await trio.sleep(0.01)


def settings(state: str, *services: str, store: str = "") -> Settings:
    """Settings with one empty folder on `services`."""
    return Settings(
        name="test",
        folders={"docs": Folder("docs")},
        services={name: Service(name, "local_storage") for name in services},
        state=state,
        store=store,
    )
