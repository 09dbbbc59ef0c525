"""One history: the script is played, then faults end, all comes to rest, and the oracle judges."""

from __future__ import annotations

import gc
from collections import Counter

import attrs
import logbook
import trio
import trio.testing

from onitu.referee.questions import QUESTIONS
from onitu.testing.spec import Finding, Verdict, judge

from . import faults
from .script import USERS, Script
from .users import Users, tree_of
from .world import FOLDER, World

PATIENCE = 900.0
"""Seconds of simulated time within which all has to come to rest once faults have ended."""
CHANGES = ("put", "delete", "move", "meta")


@attrs.frozen
class Outcome:
    """What became of a script.

    Attributes:
        verdict: the oracle's word.
        digest: of the trace.
        lines: the trace.
        counts: of all hosts together, what drivers were asked and did.
        idle: of those, what a rescan of everything at rest did.
        messages: how many went over the network.
        seconds: of simulated time.
    """

    script: Script
    verdict: Verdict
    digest: str
    lines: tuple[str, ...]
    counts: dict[str, int]
    idle: dict[str, int]
    messages: int
    seconds: float

    @property
    def ok(self) -> bool:
        return self.verdict.ok


def simulate(script: Script) -> Outcome:
    """Play a script. The same script has the same outcome, trace and all, in every process.

    Trio shuffles the tasks of each round with a random generator of its own; seeded, and with the tasks sorted before,
    the order is the seed's (`trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING`, which Hypothesis's plugin sets too).
    """
    from trio._core import _run as scheduler

    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r.seed(script.seed)
    collecting = gc.isenabled()
    gc.disable()  # it would finalise things at moments of its own
    try:
        with logbook.NullHandler().applicationbound():
            return trio.run(_play, script, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # type: ignore[misc]
        scheduler._r.setstate(before[1])
        if collecting:
            gc.enable()


async def _play(script: Script) -> Outcome:
    world = World(script)
    users = Users(trio.current_time)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        await _act(script, world, users)
        faults.end(world)
        verdict, idle = await _judge(world, users)
        world.trace.line(verdict.explain())
        counts = _counts(world)
        seconds = trio.current_time()
        nursery.cancel_scope.cancel()
    trace = world.trace
    return Outcome(script, verdict, trace.digest(), tuple(trace.lines), counts, idle, trace.messages, seconds)


async def _act(script: Script, world: World, users: Users) -> None:
    names = list(world.hosts)
    for step in script.steps:
        if step.gap:
            await trio.sleep(step.gap)
        else:
            await trio.lowlevel.checkpoint()
        faults.pass_by(world, trio.current_time())
        if step.what in USERS:
            number = step.who % len(names)
            name, kind = names[number], script.services[number]
            told = users.act(name, world.hosts[name].disk, step, kind.decomposed)
            world.trace.line(f"user of {name}: {step.what} {step.path}: {told}")
        else:
            faults.strike(world, users, step)


async def _judge(world: World, users: Users) -> tuple[Verdict, dict[str, int]]:
    """Rest; a rescan, which finds what no notification told; rest; one more, which must find nothing (S2)."""
    try:
        with trio.fail_after(PATIENCE):
            await rescan(world)
            while [name for name, host in world.hosts.items() if users.part(name, host.disk)]:
                await rescan(world)  # of two names that are one to Onitu only users can make two
            trees = {name: tree_of(host.disk) for name, host in world.hosts.items()}
            before = _counts(world)
            await rescan(world)
    except trio.TooSlowError:
        trees = {name: tree_of(host.disk) for name, host in world.hosts.items()}
        why = f"it does not come to rest within {PATIENCE:g} s: {await _state(world)}"
        return Verdict(diverged=(Finding("S2", "", "", None, why),)), {}
    after = _counts(world)
    idle = {name: number - before.get(name, 0) for name, number in after.items() if number > before.get(name, 0)}
    later = {name: tree_of(host.disk) for name, host in world.hosts.items()}
    verdict = judge(users.history, trees, later=later, directories=False)
    moved = [name for name in CHANGES if idle.get(name)]
    if moved:
        why = f"a rescan at rest led to {', '.join(f'{idle[name]} {name}' for name in moved)}"
        verdict = attrs.evolve(verdict, diverged=(*verdict.diverged, Finding("S2", "", "", None, why)))
    return verdict, idle


async def settled(world: World) -> None:
    """Until every part is there, and nothing moves any more. What guards hold back is approved."""
    while True:
        referee = world.referee
        folder = referee.folders.get(FOLDER) if referee is not None else None
        alive = not world.processes["referee"].life.dead
        if referee is not None and folder is not None and alive:
            if any(link.guard.quarantined or link.refused for link in folder.links.values()):
                await _ask(world, "approve")
            well = all(link.connected and link.quiet and not link.trouble for link in folder.links.values())
            if folder.settled.is_set() and well and not await folder.store.todo_count():
                return
        await trio.sleep(0.25)


async def rescan(world: World) -> None:
    """Once all is settled, have every service look at everything again, until all is settled again."""
    while True:
        await settled(world)
        if await _ask(world, "rescan"):
            break
    await settled(world)


async def _ask(world: World, what: str) -> bool:
    """Ask the Referee something; False where it ended before it answered."""
    if world.referee is None:
        return False
    with trio.move_on_after(5.0) as waiting:
        await QUESTIONS[what](world.referee, {})
    return not waiting.cancelled_caught


async def _state(world: World) -> str:
    if world.referee is None or FOLDER not in world.referee.folders:
        return "there is no Referee"
    folder = world.referee.folders[FOLDER]
    links = [
        f"{link.service} connected={link.connected} trouble={link.trouble!r} scanned={link.scanned} "
        f"looking={link.looking} in_flight={len(link.in_flight)} ready={len(link.ready)} retry={len(link.retry)} "
        f"behind={link.behind} refused={link.refused} guard={link.guard.holding}/{link.guard.quarantined}"
        for link in folder.links.values()
    ]
    problems = [f"{p.service}:{p.path!r} {p.kind} {p.reason}" for p in await folder.store.problems(None, 10)]
    return "; ".join(
        [f"settled={folder.settled.is_set()}", *links, f"left {await folder.store.todo((0, b''), 10)}", *problems]
    )


def _counts(world: World) -> dict[str, int]:
    total: Counter[str] = Counter()
    for host in world.hosts.values():
        total.update(host.counts)
    return dict(sorted(total.items()))
