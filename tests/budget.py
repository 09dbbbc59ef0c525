"""How much the tests that try many seeds try: everything, or the part that `ONITU_BUDGET` says.

Mutation testing runs them for each of thousands of mutants, and lives with a fiftieth.
"""

from __future__ import annotations

import os

BUDGET = float(os.environ.get("ONITU_BUDGET", "1"))


def budgeted(number: int, least: int = 1) -> int:
    """The budget's part of a number of seeds or examples; not fewer than `least`, not more than all."""
    return min(number, max(least, round(number * BUDGET)))
