"""The promises, and what an oracle says of a run that was held against them."""

from __future__ import annotations

import attrs

from .history import Value

PROMISES = {
    "S1": "No loss: a value that a user wrote, and that no user who could see it replaced or deleted, stands on every "
    "admitted replica once all is quiet.",
    "S2": "Convergence: when users stop, every admitted replica becomes the same tree, and then nothing "
    "moves any more.",
    "S3": "Nothing invented: every value at rest is one that a user wrote, whole; no torn and no temporary file is in "
    "sight.",
    "S4": "No resurrection: what was knowingly replaced or deleted does not stand again, unless someone concurrently "
    "gave it a name or wrote it.",
    "S5": "Modes and rules: a replica without `w` is never written, one without `r` is never a source, and a path that "
    "the rules hide on a replica is neither.",
    "S6": "Forgetting is safe: a memory that is lost or that lags behind may cost time, a conflict copy or the undoing "
    "of a deletion, never a value.",
}
"""The numbered sentences. The page `docs/explanation/specification.md` has the same ones, word for word."""


@attrs.frozen
class Finding:
    """One thing that is wrong.

    Attributes:
        promise: which sentence is broken: `S1` … `S6`.
        replica: where; empty: nowhere in particular.
        path: at which path; for a lost value the path at which a user let it stand.
        value: which value; None: not about one.
        why: in words, with the deeds that led to it.
    """

    promise: str
    replica: str
    path: str
    value: Value | None
    why: str

    def __str__(self) -> str:
        return f"{self.promise} {self.replica}:{self.path}: {self.why}"


@attrs.frozen
class Verdict:
    """What is wrong with a run, if anything.

    Attributes:
        lost: values that should stand on a replica and do not (S1, or S6 where a memory was lost).
        diverged: where replicas differ, or moved although all was quiet (S2).
        ghosts: what nobody wrote, torn and temporary files (S3).
        resurrected: what stands again, or still, although somebody knowingly destroyed it (S4).
        misplaced: what stands, or is missing, against modes and rules (S5).
    """

    lost: tuple[Finding, ...] = ()
    diverged: tuple[Finding, ...] = ()
    ghosts: tuple[Finding, ...] = ()
    resurrected: tuple[Finding, ...] = ()
    misplaced: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong."""
        return *self.lost, *self.diverged, *self.ghosts, *self.resurrected, *self.misplaced

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def explain(self, limit: int = 20) -> str:
        """In words: which promise is broken, where, and by whose doing; a finding a line, `limit` of them."""
        if self.ok:
            return "every promise is kept"
        counts = [f"{len(found)} {name}" for name, found in attrs.asdict(self, recurse=False).items() if found]
        lines = [", ".join(counts), *map(str, self.findings[:limit])]
        if len(self.findings) > limit:
            lines.append(f"… and {len(self.findings) - limit} more")
        return "\n".join(lines)
