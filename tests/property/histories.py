"""What is drawn for the fuzzing of the pure core: settings of a world, and what users do in it."""

from __future__ import annotations

import random

import attrs
from hypothesis import strategies as st

from onitu.model import paths
from onitu.model.settings import Filter, Folder, Replica, Rule
from onitu.model.versions import Kind
from onitu.referee.rules import Rules
from tests.world import World

PLAIN = (b"a", b"b", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"f")
"""Few names, so that they clash: as files and as directories, at several depths."""

UNICODE = ("\u00e9".encode(), "e\u0301".encode(), "\u00e9/a".encode(), "e\u0301/a".encode(), "d/\u00e9".encode())
"""One name in two Unicode forms, as a file and as a directory."""

CASE = (b"A", b"D", b"D/a", b"d/A", b"F")
"""Names that differ from the plain ones in case only."""

HIDDEN = (b"a.bak", b"d/a.bak", b"p", b"p/a")
"""Names that filters and rules speak of."""

NAMES = PLAIN + UNICODE + CASE + HIDDEN

DEEDS = ("write", "write", "write", "write", "delete", "delete", "rename", "rename", "mkdir", "touch", "move", "link")


@attrs.frozen
class Deed:
    """One thing that the user of a service does."""

    do: str
    who: int
    path: bytes
    target: bytes

    def act(self, world: World, service: str) -> None:
        act(world, self.do, service, self.path, self.target)


def act(world: World, do: str, service: str, path: bytes, target: bytes) -> None:
    """One thing that a user does, or an accident."""
    place = world.services[service]
    if do == "mkdir":
        above = [place.tree.get(directory) for directory in paths.ancestors(path)]
        if place.named(path) not in place.tree and all(t and t.version.kind is Kind.DIRECTORY for t in above):
            world.mkdir(service, path)
    elif do == "rename":
        world.rename(service, path, target)
    elif do == "move":
        world.rename_directory(service, path, target)
    elif do == "link":
        world.write(service, path, link=True)
    elif do == "lose_state":
        world.lose_state()
    else:
        getattr(world, do)(service, path)


@attrs.frozen
class Setting:
    """How a world is set up.

    Attributes:
        seed: of the order in which things happen.
        modes: one for each service.
        conflict: the policy.
        filtered: services with a filter of their own.
        banned: the service that a rule keeps from `p`; negative: there are no rules.
        md5: services that have another digest of what their users write.
        folds: services that cannot tell case.
    """

    seed: int
    modes: tuple[str, ...]
    conflict: str = "newest"
    filtered: frozenset[int] = frozenset()
    banned: int = -1
    md5: frozenset[int] = frozenset()
    folds: frozenset[int] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether every service shall hold everything."""
        return set(self.modes) == {"rw"} and not (self.filtered or self.folds) and self.banned < 0

    def world(self) -> World:
        names = [f"s{n}" for n in range(len(self.modes))]
        bak = Filter(blacklist=("*.bak",), size_max=2)
        replicas = {
            name: Replica("f", "/" + name, filter=bak if n in self.filtered else Filter(), mode=mode)
            for n, (name, mode) in enumerate(zip(names, self.modes, strict=True))
        }
        rules = None
        if 0 <= self.banned < len(names):
            rules = (Rule(path="/", sync=tuple(names)), Rule(path="/p/", ban=(names[self.banned],)))
        world = World(len(names), self.seed, Rules(Folder("f", conflict=self.conflict), replicas, rules))
        for n, name in enumerate(names):
            world.services[name].digest = "md5" if n in self.md5 else "blake3"
            world.services[name].folds = n in self.folds
        return world


def drawn(chance: random.Random) -> Setting:
    """A setting by chance."""
    number = chance.choice((2, 2, 3, 3, 4))

    def some(share: float) -> frozenset[int]:
        return frozenset(n for n in range(number) if chance.random() < share)

    modes = tuple(chance.choice(("rw", "rw", "rw", "r", "w")) for _ in range(number))
    ruled = chance.random() < 0.5
    return Setting(
        seed=chance.getrandbits(32),
        modes=modes if ruled else ("rw",) * number,
        conflict=chance.choice(("newest", "newest", "first", "prefer:s0", "prefer:s1")),
        filtered=some(0.3) if ruled else frozenset(),
        banned=chance.randrange(number) if ruled and chance.random() < 0.3 else -1,
        md5=some(0.15),
        folds=some(0.2) if ruled else frozenset(),
    )


def deeds(chance: random.Random, number: int, names: tuple[bytes, ...]) -> list[Deed]:
    """So many deeds by chance."""
    return [
        Deed(chance.choice(DEEDS), chance.randrange(4), chance.choice(names), chance.choice(names))
        for _ in range(number)
    ]


@st.composite
def settings_of_worlds(draw: st.DrawFn, plain: bool = False) -> Setting:
    number = draw(st.integers(2, 4))
    some = st.frozensets(st.integers(0, number - 1), max_size=2)
    conflict = draw(st.sampled_from(["newest", "first", "prefer:s0", "prefer:s1"]))
    seed = draw(st.integers(0, 2**32 - 1))
    if plain:
        return Setting(seed, ("rw",) * number, conflict)
    modes = draw(st.tuples(*[st.sampled_from(["rw", "r", "w"])] * number))
    return Setting(seed, modes, conflict, draw(some), draw(st.integers(-1, number - 1)), draw(some), draw(some))


def histories(names: tuple[bytes, ...], most: int = 20) -> st.SearchStrategy[list[Deed]]:
    deed = st.builds(Deed, st.sampled_from(DEEDS), st.integers(0, 3), st.sampled_from(names), st.sampled_from(names))
    return st.lists(deed, max_size=most)
