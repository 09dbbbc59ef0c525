"""The script of one history: what users do and what fails, when. A value, drawn from a seed, that can be edited,
written to a file and played again."""

from __future__ import annotations

import random

import msgspec

NAMES = ("a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a")
"""Few names, so that they clash: as files and as directories, at several depths."""
SIZES = (0, 8, 8, 8, 30, 60, 300, 900, 3000)
"""Bytes of what is written; equal ones are frequent, so that a change hides from whoever looks at sizes."""
WRITES = ("write", "write", "write", "replace")
USERS = (*WRITES, "delete", "delete", "rename", "rename", "mkdir", "rmdir", "touch", "swap", "copy", "link")
"""What users do, as often as it stands here."""
FAULTS = (
    "crash", "crash", "stop", "cut", "fail", "full", "denied", "away", "forget", "overflow", "late", "jump", "clock",
    "flush", "backup", "restore", "snapshot", "return",
)  # fmt: skip
LAG = "lag"
"""The power fails, and the store has lost its last seconds: in a quarter of the histories, drawn on its own."""
CLOSED = "closed"
"""Onitu, but no user, is kept out of a directory, or from reading a file: as `LAG`."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happens.

    Attributes:
        gap: seconds after the step before.
        what: one of `USERS` or `FAULTS`, `LAG` or `CLOSED`.
        who: the number of the service; -1: the Referee.
        path, target: where.
        size: bytes; for a crash, the effects until it happens.
        seconds: how long a fault lasts, or by how much a clock jumps.
    """

    gap: float
    what: str
    who: int = 0
    path: str = ""
    target: str = ""
    size: int = 0
    seconds: float = 0.0


class Kind(msgspec.Struct, frozen=True, omit_defaults=True):
    """What kind of service it is: see `driver.Flavour`. `decomposed`: its users write é as two characters (NFD)."""

    grain: int = 0
    watches: bool = True
    kernel: bool = False
    skew: float = 0.0
    decomposed: bool = False


class Script(msgspec.Struct, frozen=True, omit_defaults=True):
    """A history before it happens.

    Attributes:
        seed: decides all that is not written here: the order of tasks, and delays.
        services: of what kind they are.
        steps: in order.
        latency: seconds that a message takes at most.
    """

    seed: int
    services: tuple[Kind, ...]
    steps: tuple[Step, ...]
    latency: float = 0.0

    @property
    def operations(self) -> int:
        """How many of the steps are users'."""
        return sum(step.what in USERS for step in self.steps)


def draw(seed: int, services: int = 3, operations: int = 100, faults: bool = True) -> Script:
    """The script of a seed."""
    chance = random.Random(f"script {seed}")  # noqa: S311 (nobody is to be kept from guessing it)
    kinds = tuple(_kind(chance) for _ in range(services))
    hurry = chance.choice((0.01, 0.05, 0.2, 0.5))
    kinds_of_faults = chance.sample(sorted(set(FAULTS)), chance.randint(0, 6)) if faults else []
    rate = chance.choice((0.02, 0.05, 0.15)) if kinds_of_faults else 0.0
    steps: list[Step] = []
    for _ in range(operations):
        steps.append(_operation(chance, services, hurry))
        if chance.random() < rate:
            steps.append(_fault(chance, services, hurry, chance.choice(kinds_of_faults)))
    latency = chance.choice((0.0, 0.0, 0.002, 0.05, 0.5))
    if faults:
        _lags(steps, seed)
        _closures(steps, seed, services)
    kinds = _accents(steps, kinds, seed)
    return Script(seed, kinds, tuple(steps), latency)


def _kind(chance: random.Random) -> Kind:
    grain = chance.choice((0, 0, 10_000_000, 2_000_000_000))
    skew = chance.choice((0.0, 0.0, -3.0, 40.0))
    return Kind(grain, chance.random() < 0.8, chance.random() < 0.4, skew)


def _operation(chance: random.Random, services: int, hurry: float) -> Step:
    gap = 0.0 if chance.random() < 0.4 else round(chance.expovariate(1 / hurry), 4)
    what, who = chance.choice(USERS), chance.randrange(services)
    return Step(gap, what, who, chance.choice(NAMES), chance.choice(NAMES), chance.choice(SIZES))


def _fault(chance: random.Random, services: int, hurry: float, what: str) -> Step:
    who = chance.randrange(-1, services) if what in ("crash", "stop") else chance.randrange(services)
    gap = round(chance.expovariate(1 / hurry), 4)
    seconds = round(chance.choice((0.1, 0.5, 2.0, 15.0)) * chance.random(), 3)
    return Step(gap, what, who, chance.choice(("", "d", "f")), size=chance.randint(1, 60), seconds=seconds)


def _lags(steps: list[Step], seed: int) -> None:
    chance = random.Random(f"lags {seed}")  # noqa: S311 (nobody is to be kept from guessing it)
    if chance.random() < 0.25:
        for _ in range(chance.randint(1, 3)):
            seconds = round(chance.choice((0.1, 0.5, 2.0, 8.0)) * chance.random(), 3)
            steps.insert(chance.randrange(len(steps) + 1), Step(0.0, LAG, seconds=seconds))


def _closures(steps: list[Step], seed: int, services: int) -> None:
    chance = random.Random(f"closures {seed}")  # noqa: S311 (nobody is to be kept from guessing it)
    if chance.random() < 0.25:
        for _ in range(chance.randint(1, 4)):
            seconds = round(chance.choice((0.1, 0.5, 2.0, 8.0)) * chance.random(), 3)
            step = Step(
                0.0,
                CLOSED,
                chance.randrange(services),
                chance.choice(("d", "d", "d/e", "f", "a", "d/a")),
                seconds=seconds,
            )
            steps.insert(chance.randrange(len(steps) + 1), step)


def _accents(steps: list[Step], kinds: tuple[Kind, ...], seed: int) -> tuple[Kind, ...]:
    """In a quarter of the histories each name has an accent, and some services have users who write it in another way
    than the others do."""
    chance = random.Random(f"accents {seed}")  # noqa: S311 (nobody is to be kept from guessing it)
    if chance.random() >= 0.25:
        return kinds
    steps[:] = [msgspec.structs.replace(s, path=_accented(s.path), target=_accented(s.target)) for s in steps]
    return tuple(msgspec.structs.replace(kind, decomposed=chance.random() < 0.5) for kind in kinds)


def _accented(path: str) -> str:
    return "/".join(name + "é" for name in path.split("/")) if path else ""


def encode(script: Script) -> bytes:
    """The script as JSON."""
    return msgspec.json.encode(script)


def decode(data: bytes) -> Script:
    """The script in JSON. Raises `msgspec.ValidationError` where it is none."""
    return msgspec.json.decode(data, type=Script)
