"""When a child that died may start again. Pure: time and chance are passed in.

Promises: the delay doubles from `first` to `longest` with every death, and falls back to `first` after a life of at
least `healthy` seconds; after `limit` restarts within `window` seconds there is no further one until a person asks.
"""

from __future__ import annotations

import msgspec


class Policy(msgspec.Struct, frozen=True):
    """The numbers of a back-off, all in seconds but `limit` and `jitter`.

    Attributes:
        first: the delay after the first death.
        longest: no delay grows beyond it (before jitter).
        jitter: a delay is stretched or shortened by up to this fraction, so that children that died together do not
            come back together.
        healthy: a child that lived this long starts from `first` again.
        limit: restarts within `window` before the child is given up.
        window: see `limit`.
    """

    first: float = 0.1
    longest: float = 10.0
    jitter: float = 0.25
    healthy: float = 10.0
    limit: int = 8
    window: float = 60.0


class Backoff(msgspec.Struct, frozen=True):
    """What is remembered of a child's deaths."""

    policy: Policy = Policy()
    streak: int = 0
    """Deaths in a row without a healthy life between them."""
    restarts: tuple[float, ...] = ()
    """When it was restarted, within the window."""

    def died(self, now: float, lived: float, chance: float) -> tuple[Backoff, float | None]:
        """What follows from a death at `now` after `lived` seconds: the new memory, and the delay before a restart.

        Args:
            now: a monotonic clock.
            lived: for how long the child ran.
            chance: a random number from 0 to 1, for the jitter.

        Returns:
            The delay is None where the limit is reached: the child has failed.
        """
        policy = self.policy
        recent = tuple(moment for moment in self.restarts if now - moment < policy.window)
        if len(recent) >= policy.limit:
            return msgspec.structs.replace(self, restarts=recent), None
        streak = 1 if lived >= policy.healthy else self.streak + 1
        # The exponent is bounded: 2.0 ** 2000 is an OverflowError.
        delay = min(policy.longest, policy.first * 2.0 ** min(streak - 1, 60))
        delay *= 1 + policy.jitter * (2 * chance - 1)
        return msgspec.structs.replace(self, streak=streak, restarts=(*recent, now)), delay

    def forgiven(self) -> Backoff:
        """As if it had never died: for a child that a person starts again."""
        return Backoff(self.policy)
