"""A head start, in a program of its own: here other threads may run, and Trio does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import json, os, signal, sys
import attrs
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.supervisor.headstart import begun
from onitu.supervisor.statelock import held

root, state = sys.argv[1:]
for name in "ab":
    os.makedirs(os.path.join(root, name))
settings = Settings(
    name="test", folders={{"docs": Folder("docs")}}, state=state,
    services={{
        name: Service(name, "local_storage", replicas={{"docs": Replica("docs", os.path.join(root, name))}})
        for name in "ab"
    }},
)

def there(pids):
    return [pid for pid in pids if os.path.exists(f"/proc/{{pid}}")]

{body}
"""


def run(body: str, directory: Path) -> Any:
    """What the program prints, which is JSON."""
    command = [sys.executable, "-P", "-c", PROGRAM.format(body=body), str(directory / "root"), str(directory / "state")]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True).stdout)


def test_what_nobody_took_over_is_gone_and_the_lock_is_free(tmp_path: Path) -> None:
    names, left = run(
        """
with begun(settings) as head_start:
    forks = {name: fork.pid for name, fork in head_start.forks.items()}
    assert len(there(forks.values())) == 4
with held(state):
    print(json.dumps([list(forks), there(forks.values())]))
""",
        tmp_path,
    )
    assert names == ["store", "referee", "driver a", "driver b"]
    assert left == []


def test_the_forks_are_the_first_lives_of_the_children_and_the_command_starts_the_next(tmp_path: Path) -> None:
    first, running, commands = run(
        """
import trio
from onitu.supervisor.child import State
from onitu.supervisor.run import running

async def main(head_start):
    first = {name: fork.pid for name, fork in head_start.forks.items()}
    async with running(settings, head_start=head_start) as supervisor:
        await supervisor.started.wait()
        with trio.fail_after(30):
            for child in supervisor.children.values():
                await child.becomes(State.RUNNING)
            pids = {name: child.pid for name, child in supervisor.children.items()}
            commands = []
            for name in ("driver a", "referee"):
                child = supervisor.children[name]
                os.kill(child.pid, signal.SIGKILL)
                while child.restarts == 0 or child.state is not State.RUNNING:
                    await trio.sleep(0.01)
                commands.append(open(f"/proc/{child.pid}/cmdline").read().split("\\0")[-2])
        print(json.dumps([first, pids, commands]))

with begun(settings) as head_start:
    trio.run(main, head_start)
""",
        tmp_path,
    )
    assert first == running
    assert commands == ["onitu.plug", "onitu.referee"]


def test_the_supervisor_loads_neither_the_referee_nor_the_stores_client(tmp_path: Path) -> None:
    loaded = run(
        """
with begun(settings) as head_start:
    print(json.dumps([name for name in ("redis", "onitu.referee.service", "asyncio") if name in sys.modules]))
""",
        tmp_path,
    )
    assert loaded == []


def test_the_first_wait_for_a_socket_loads_nothing_more(tmp_path: Path) -> None:
    loaded = run(
        """
import socket
with begun(settings):
    before = set(sys.modules)
import anyio, trio

async def main():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        await anyio.wait_readable(ours)

trio.run(main)
print(json.dumps(sorted(name for name in set(sys.modules) - before if name.startswith("anyio"))))
""",
        tmp_path,
    )
    assert loaded == []
