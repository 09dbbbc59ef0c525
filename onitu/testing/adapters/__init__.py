"""Adapters for trials, one file for each tool.

`find` takes the name of one of these, or `module:Class` for one of yours.
"""

from __future__ import annotations

import importlib

from .base import Adapter, Broken, Missing, Repeated

__all__ = ["OURS", "Adapter", "Broken", "Missing", "Repeated", "find"]

OURS = {
    "onitu": "onitu.testing.adapters.onitu:Onitu",
    "unison": "onitu.testing.adapters.unison:Unison",
    "unison-thorough": "onitu.testing.adapters.unison:Thorough",
    "rclone": "onitu.testing.adapters.rclone:Rclone",
    "syncthing": "onitu.testing.adapters.syncthing:Syncthing",
}
"""The adapters that are here, by name."""


def find(name: str) -> type[Adapter]:
    """The adapter of that name, or at `module:Class`.

    Raises:
        ValueError: there is none; the message says what is there.
    """
    module, _, cls = OURS.get(name, name).partition(":")
    if not cls:
        raise ValueError(f"{name}: no such tool; known are {', '.join(OURS)}, and MODULE:CLASS")
    try:
        found = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise ValueError(f"{name} is no subclass of onitu.testing.adapters.Adapter")
    return found
