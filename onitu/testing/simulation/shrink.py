"""Shrinking: the fewest steps of a script that still break a promise.

Delta debugging by Zeller and Hildebrandt ("Simplifying and Isolating Failure-Inducing Input", 2002), only its
complements: parts of the list are left out, large ones first, as long as what is left still fails.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .script import Script


def shrink(script: Script, fails: Callable[[Script], bool], tries: int = 300) -> Script:
    """The smallest script found that still `fails`, with at most so many tries."""
    size = max(1, len(script.steps) // 2)
    while tries > 0:
        start, smaller = 0, False
        while start < len(script.steps) and tries > 0:
            tries -= 1
            less = msgspec.structs.replace(script, steps=script.steps[:start] + script.steps[start + size :])
            if fails(less):
                script, smaller = less, True
            else:
                start += size
        if size > 1:
            size = size // 2
        elif not smaller:
            break
    return script
