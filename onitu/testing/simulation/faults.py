"""Faults: what the script lets go wrong, and its end.

All of it is what may happen to Onitu where it runs: a process dies or is stopped, a connection breaks, a disk fails, is
full, is not there, forbids; notifications are late or lost; clocks jump; a store is emptied or put back to a backup; a
replica is put back to one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import trio
import trio.testing

from onitu.model.versions import Kind
from onitu.plug.driver import Hint, HintKind

from .disk import Disk, Thing
from .driver import Host
from .script import Step
from .users import Users, spelled, tree_of
from .world import World


def strike(world: World, users: Users, step: Step) -> None:
    """Let one fault happen."""
    names = list(world.hosts)
    name = "referee" if step.who < 0 else names[step.who % len(names)]
    world.trace.line(f"fault: {step.what} {name} {step.size} {step.seconds:g}")
    _Fault(world, users, name, step).strike()


def pass_by(world: World, now: float) -> None:
    """End what has lasted long enough."""
    over = [end for when, end in world.until if when <= now]
    world.until = [(when, end) for when, end in world.until if when > now]
    for end in over:
        end()


def end(world: World) -> None:
    """Let everything be well again."""
    pass_by(world, float("inf"))
    world.latency = min(world.latency, 0.01)
    for process in world.processes.values():
        process.life.until = 0
    for host in world.hosts.values():
        host.failing = 0


class _Fault:
    """One fault."""

    def __init__(self, world: World, users: Users, name: str, step: Step) -> None:
        self.world = world
        self.users = users
        self.name = name
        self.step = step

    def strike(self) -> None:
        do: Callable[[], None] = getattr(self, "_" + self.step.what)
        do()

    @property
    def host(self) -> Host:
        return self.world.hosts[self.name]

    def _later(self, end: Callable[[], None]) -> None:
        self.world.until.append((trio.current_time() + self.step.seconds, end))

    # --- processes and connections ------------------------------------------------------------------------------

    def _crash(self) -> None:
        self.world.processes[self.name].life.die_after(self.step.size)

    def _stop(self) -> None:
        self.world.processes[self.name].stop()

    def _cut(self) -> None:
        self.world.network.cut(self.name, self.step.seconds)

    # --- services -----------------------------------------------------------------------------------------------

    def _fail(self) -> None:
        self.host.failing += 1 + self.step.size % 5

    def _full(self) -> None:
        disk = self.host.disk
        disk.space = disk.used() + self.step.size

        def end() -> None:
            disk.space = float("inf")

        self._later(end)

    def _denied(self) -> None:
        disk, path = self.host.disk, spelled(self.host.disk, self.step.path)
        disk.denied.add(path)
        self._later(lambda: disk.denied.discard(path))

    def _closed(self) -> None:
        """Rights are taken away, and given again; both is seen by who watches."""
        host, path = self.host, spelled(self.host.disk, self.step.path)
        thing = host.disk.find(path)
        if thing is None:
            return
        host.closed[thing.inode] += 1
        host.disk.touched(path)

        def end() -> None:
            host.closed[thing.inode] -= 1
            for where, there in host.disk.walk():
                if there is thing:
                    host.disk.touched(where)
                    return

        self._later(end)

    def _away(self) -> None:
        host = self.host
        host.away = "the disk is not mounted"
        if host.watcher is not None:
            host.watcher.send_nowait(Hint(HintKind.LOST))

        def end() -> None:
            host.away = ""

        self._later(end)

    # --- notifications ------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        host = self.host
        host.forgetting = True

        def end() -> None:
            host.forgetting = False

        self._later(end)

    def _late(self) -> None:
        host = self.host
        host.lateness = self.step.seconds / 5

        def end() -> None:
            host.lateness = 0.0

        self._later(end)

    def _overflow(self) -> None:
        self.host.overflow()

    # --- time ---------------------------------------------------------------------------------------------------

    def _jump(self) -> None:
        """Everything stands still for a while, as in a suspended machine."""
        cast(trio.testing.MockClock, trio.lowlevel.current_clock()).jump(self.step.seconds * 5)

    def _clock(self) -> None:
        self.world.ahead += self.step.seconds * (100 if self.step.size % 2 else -100)

    # --- memory -------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self.world.store.flush()
        self.users.history.forget("the state", at=trio.current_time())

    def _backup(self) -> None:
        self.world.backup = self.world.store.backup()

    def _restore(self) -> None:
        if self.world.backup is not None:
            self.world.store.restore(self.world.backup)
            self.users.history.forget("the newer state", at=trio.current_time())

    def _lag(self) -> None:
        """In some seconds the power fails everywhere, and what the store was told from now on is gone then."""
        world, backup = self.world, self.world.store.backup()

        def end() -> None:
            world.trace.line("the power fails")
            for process in world.processes.values():
                process.life.die()
            world.store.restore(backup)
            self.users.history.forget("the newer state", at=trio.current_time())

        self._later(end)

    def _snapshot(self) -> None:
        host = self.host
        host.snapshot = copy.deepcopy(host.disk.root), host.identity

    def _return(self) -> None:
        """The replica is put back to its snapshot, while its driver is not there.

        What stands nowhere else is destroyed with that, by whoever does it; what stands elsewhere nobody gave up. What
        comes back is written anew by him, but not what somebody replaced or deleted elsewhere: it is the same value,
        and there it may be told later that it went than here that it is back. Not to a moment of the same generation
        (or of one that is pending and that it has got since), less than `onitu.plug.replica.ADVANCE` before a change:
        the marker cannot tell that, so what was made since would be taken for deleted. That window is known.
        """
        host = self.host
        if host.snapshot is None or not host.snapshot[1].generation:
            return
        if host.identity.generation in (host.snapshot[1].generation, host.snapshot[1].pending):
            return
        self.world.processes[self.name].life.die()
        before = tree_of(host.disk)
        elsewhere = {
            item.value
            for other in self.world.hosts.values()
            if other is not host
            for item in tree_of(other.disk).values()
        }
        root, host.identity = copy.deepcopy(host.snapshot)
        _renew(host.disk, root)
        host.disk.root = root
        after = tree_of(host.disk)
        now, history = trio.current_time(), self.users.history
        kept = {item.value for item in after.values()}
        for path, item in before.items():
            if item.value is not None and item.value not in kept and item.value not in elsewhere:
                history.delete(host.name, path, item.value, at=now)
        given_up = {deed.destroyed[1] for deed in history if deed.destroyed and deed.replica != host.name}
        for path, item in after.items():
            if item.value is not None and before.get(path) != item and item.value not in given_up:
                history.write(host.name, path, item.value, at=now)
        history.forget(f"what happened on {host.name}", at=now)


def _renew(disk: Disk, thing: Thing) -> None:
    """What comes out of a backup has the old times, and inodes of its own."""
    thing.inode, thing.ctime = disk.make(Kind.FILE).inode, disk.stamp()
    for inner in thing.entries.values():
        _renew(disk, inner)
