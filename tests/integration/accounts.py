"""What a storm of users is held against, and the figures of it that a long run adds up.

`ONITU_FIGURES` names a file to which every storm appends a line of JSON; `ONITU_SEED` is added to the seeds of all
storms, so that a long run repeats nothing and a failing seed can be given again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from onitu.testing import Verdict, judge
from onitu.testing.spec import Tree
from onitu.testing.users import User, history, tree

from .harness import wait_for

SEED = int(os.environ.get("ONITU_SEED", "0"))


def held_against(
    users: Sequence[User], roots: Sequence[Path], attack: str, faults: int = 0, trees: Mapping[str, Tree] | None = None
) -> Verdict:
    """Judge a storm that has come to rest, note its figures, and fail in words where a promise was broken.

    `roots`: of local replicas; `trees`: of all of them, where there are others too.

    Asked are loss, divergence and ghosts, and that nothing of ours is left in sight or out of sight. Resurrection is
    not: what a write in place passes through has no one writer who saw it.
    """
    deeds = history(users)
    verdict = judge(deeds, trees or {root.name: tree(root) for root in roots}, directories=False)
    figures = {
        "attack": attack,
        "seed": SEED,
        "histories": 1,
        "values": sum(user.written for user in users),
        "deeds": len(deeds),
        "faults": faults,
        "lost": len(verdict.lost),
        "diverged": len(verdict.diverged),
        "ghosts": len(verdict.ghosts),
        "files": sum(item.value is not None for item in tree(roots[0]).values()),
    }
    print(json.dumps(figures))
    if where := os.environ.get("ONITU_FIGURES"):
        with open(where, "a") as file:
            file.write(json.dumps(figures) + "\n")
    broken = *verdict.lost, *verdict.diverged, *verdict.ghosts
    assert not broken, f"ONITU_SEED={SEED}\n{verdict.explain()}"
    wait_for(lambda: not leftovers(roots), why="nothing is left in Onitu's own directories")
    return verdict


def leftovers(roots: Sequence[Path]) -> list[Path]:
    """What stands in Onitu's own directories that should not, once all is quiet. (The part of a large file whose
    transfer was cut off is kept for a while on purpose.)"""
    return [
        path
        for root in roots
        for place in ("tmp", "limbo")
        for path in (root / ".onitu" / place).iterdir()
        if path.name != "journal" and path.suffix != ".part"
    ]
