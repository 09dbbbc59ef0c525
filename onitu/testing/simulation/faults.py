"""Faults: what the script lets go wrong, and its end."""

from __future__ import annotations

import attrs

from .script import Step
from .users import Users
from .world import World


def strike(world: World, users: Users, step: Step) -> None:
    """Let one fault happen."""
    names = list(world.hosts)
    name = "referee" if step.who < 0 else names[step.who % len(names)]
    world.trace.line(f"fault: {step.what} {name}")


def end(world: World) -> None:
    """Let everything be well again."""


__all__ = ["attrs", "end", "strike"]
