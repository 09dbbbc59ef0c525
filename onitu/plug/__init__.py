"""What every driver process shares. `onitu.plug.driver` is all that a driver imports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .driver import Capabilities, Driver, Entry, Hint, Identity, Listing, Refused, Staged
    from .options import Options, option

__all__ = ["Capabilities", "Driver", "Entry", "Hint", "Identity", "Listing", "Options", "Refused", "Staged", "option"]


def __getattr__(name: str) -> Any:
    """Each name when it is first asked for: a glance at a directory is over before Trio would be loaded."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    where = ".options" if name in ("Options", "option") else ".driver"
    return getattr(importlib.import_module(where, __name__), name)
