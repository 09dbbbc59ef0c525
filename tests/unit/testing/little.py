"""A tiny correct synchroniser of flat folders, and a dozen ways to break it: what the oracles are tried on."""

from __future__ import annotations

import random

import attrs

from onitu.testing.spec import History, Item, Kind, Verdict, file, judge

PATHS = ("a", "b")
HIDDEN = "s1"
"""With rules, this replica may not hold `b`."""


@attrs.define
class Little:
    """Replicas around one table of heads. `bug` names what is broken; empty: nothing."""

    bug: str = ""
    modes: dict[str, str] = attrs.field(factory=lambda: {"s0": "rw", "s1": "rw", "s2": "rw"})
    rules: bool = False
    history: History = attrs.field(factory=History)
    trees: dict[str, dict[str, str]] = attrs.field(factory=dict)
    bases: dict[tuple[str, str], str | None] = attrs.field(factory=dict)
    heads: dict[str, str | None] = attrs.field(factory=dict)
    values: int = 0

    def __attrs_post_init__(self) -> None:
        self.trees = {name: {} for name in self.modes}

    # Users

    def write(self, replica: str, path: str) -> None:
        self.values += 1
        value = f"v{self.values}"
        self.history.write(replica, path, value, self.trees[replica].get(path))
        self.trees[replica][path] = value

    def delete(self, replica: str, path: str) -> None:
        if path in self.trees[replica]:
            self.history.delete(replica, path, self.trees[replica].pop(path))

    def rename(self, replica: str, path: str, target: str) -> None:
        tree = self.trees[replica]
        if path in tree and path != target:
            value = tree.pop(path)
            self.history.rename(replica, path, target, value, tree.get(target))
            tree[target] = value

    # The synchroniser

    def admits(self, replica: str, path: str, value: str | None) -> bool:
        return not (self.rules and replica == HIDDEN and path.startswith("b"))

    def sync(self, replica: str, path: str) -> None:
        """Bring one path of one replica and the head together."""
        tree, base, head = self.trees[replica], self.bases.get((replica, path)), self.heads.get(path)
        local, mode = tree.get(path), self.modes[replica]
        if not self.admits(replica, path, None) and self.bug != "hidden_delivered":
            if self.bug == "hidden_is_absent" and local is None:
                self.heads[path] = None
            return
        if self.bug == "diverge" and replica == "s1":
            return
        if "r" not in mode and self.bug != "read_unreadable":
            if local is not None and local != base:
                self.set_aside(replica, path, local, head)
                return
            base = local
        if local == head:
            self.bases[replica, path] = head
        elif local == base or (self.bug == "clobber_dirty" and head is not None):
            if "w" in mode or self.bug == "write_read_only":
                self.put(replica, path, head)
        elif base == head or self.bug == "stale_overwrite":
            if self.bug == "resurrect" and local is None:
                self.put(replica, path, head)
            else:
                self.heads[path] = self.bases[replica, path] = local
        elif "w" in mode:
            self.conflict(replica, path, local, head)
        else:
            self.hear(replica, path, local, head)

    def set_aside(self, replica: str, path: str, local: str, head: str | None) -> None:
        """A replica that is no source has something of its own: nobody gets it, nobody destroys it."""
        if head is not None:
            self.trees[replica][f"{path} (conflict {local})"] = local
            self.put(replica, path, head)

    def hear(self, replica: str, path: str, local: str | None, head: str | None) -> None:
        """A replica that is never written has something new, and so has another: its value goes to the others."""
        self.bases[replica, path] = local
        if local is not None:
            self.heads[path if head is None else f"{path} (conflict {local})"] = local

    def conflict(self, replica: str, path: str, local: str | None, head: str | None) -> None:
        if local is None or (head is None and self.bug == "delete_beats_edit"):
            self.put(replica, path, head)
        elif head is None:
            self.heads[path] = self.bases[replica, path] = local
        else:
            if self.bug != "drop_copy":
                copy = f"{path} (conflict {local})"
                self.trees[replica][copy] = self.heads[copy] = self.bases[replica, copy] = local
            self.put(replica, path, head)

    def put(self, replica: str, path: str, value: str | None) -> None:
        self.bases[replica, path] = value
        if value is None:
            self.trees[replica].pop(path, None)
            return
        if self.bug == "invent":
            value = "sha256:0"
        if self.bug == "temporary":
            self.trees[replica][f".{path}.tmp"] = value
        self.trees[replica][path] = value

    def step(self, chance: random.Random) -> None:
        self.sync(chance.choice(list(self.trees)), chance.choice([*PATHS, *sorted(self.heads)]))

    def settle(self) -> None:
        for _ in range(8):
            for path in dict.fromkeys([*PATHS, *sorted(self.heads), *(p for t in self.trees.values() for p in t)]):
                if path.endswith(".tmp"):
                    continue
                for replica in self.trees:
                    self.sync(replica, path)

    # The oracle

    def seen(self) -> dict[str, dict[str, Item]]:
        trees = {name: {path: file(value) for path, value in tree.items()} for name, tree in self.trees.items()}
        if self.bug == "torn":
            for tree in trees.values():
                for path, item in tree.items():
                    tree[path] = Item(Kind.FILE, "sha256:1", (str(item.value), "v0"))
        return trees

    def verdict(self) -> Verdict:
        seen = self.seen()
        later = {name: dict(tree) for name, tree in seen.items()}
        if self.bug == "restless":
            later["s0"].clear()
        return judge(self.history, seen, admits=self.admits, modes=self.modes, later=later)


def live(little: Little, seed: int, deeds: int = 8) -> Verdict:
    """A random history on it, until all is quiet, and what the oracle says."""
    chance = random.Random(seed)
    for _ in range(deeds):
        replica, path = chance.choice(list(little.trees)), chance.choice(PATHS)
        match chance.choice("wwwddr"):
            case "w":
                little.write(replica, path)
            case "d":
                little.delete(replica, path)
            case "r":
                little.rename(replica, path, chance.choice(PATHS))
        for _ in range(chance.choice((0, 0, 2, 12))):
            little.step(chance)
    little.settle()
    return little.verdict()
