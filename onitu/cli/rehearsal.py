"""A rehearsal: what `onitu sync --dry-run` runs on.

A dry run is a whole run that gives no orders, and that decides and remembers like any other. So that the next real run
knows nothing of it, it works on a copy of the state, which goes with it; its drivers only look (`Driver.look_only`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import attrs

from onitu.model.errors import StateError
from onitu.model.settings import Settings


@contextlib.contextmanager
def copied(settings: Settings) -> Iterator[Settings]:
    """The settings with a copy of their state, for as long as the block lasts. A state that is not there is not made.

    Meanwhile no run can use the state itself: what a dry run says is about the state as it stays.

    Raises:
        StateError: a run uses the state, or it cannot be copied.
    """
    from onitu.supervisor import statelock

    with contextlib.ExitStack() as stack:
        store = os.path.join(settings.state, "store")
        if os.path.isdir(store):
            stack.enter_context(statelock.held(settings.state))
        try:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="onitu-dry-run-"))
            if os.path.isdir(store):
                shutil.copytree(store, os.path.join(place, "store"), ignore=shutil.ignore_patterns("lock", "*.log"))
        except (OSError, shutil.Error) as error:
            raise StateError(f"The state {settings.state} cannot be copied for a dry run: {error}") from None
        yield attrs.evolve(settings, state=place)
