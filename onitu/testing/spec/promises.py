"""The cheap oracle: from what users did and what stands at rest it decides S1–S6, and says by whose doing.

It needs no hook in the synchroniser and no model of what it does, only users who know what they replaced. So it can be
asked in every test, and of every synchroniser. It accuses nobody wrongly: where a history does not tell whether two
deeds knew of each other, they count as concurrent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from .history import History
from .trees import Item, Tree
from .verdicts import PROMISES, Finding, Verdict

Admits: TypeAlias = Callable[[str, str, Item], bool]
"""(replica, path, item) → whether the rules let the replica hold it. Asked of files, links and directories."""


def judge(
    history: History,
    trees: Mapping[str, Tree],
    *,
    admits: Admits | None = None,
    modes: Mapping[str, str] | None = None,
    settled: bool = True,
    later: Mapping[str, Tree] | None = None,
    stood: Mapping[str, Tree] | None = None,
) -> Verdict:
    """Hold what stands on the replicas against what users did.

    Args:
        history: every deed of every user, with what they found in place of it. What stood before the run are deeds too.
        trees: what stands on each replica, as `read_tree` tells.
        admits: which replica may hold what; None: all hold everything.
        modes: `r`, `w` or `rw` for each replica; `rw` where it says nothing.
        settled: whether all is quiet. If not, only S3 and S5 are asked.
        later: the trees at a later moment of the same quiet; they must be the same (S2).
        stood: what stood on the replicas when the rules became what they are; it may stay where it is hidden now.
    """
    raise NotImplementedError


__all__ = ["PROMISES", "Admits", "Finding", "Verdict", "judge"]
