"""What every driver process shares. `onitu.plug.driver` is all that a driver imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .later import later

if TYPE_CHECKING:
    from .driver import Capabilities, Driver, Entry, Hint, Identity, Listing, Refused, Staged
    from .options import Options, option

__all__ = ["Capabilities", "Driver", "Entry", "Hint", "Identity", "Listing", "Options", "Refused", "Staged", "option"]

__getattr__ = later(__name__, dict.fromkeys(__all__, ".driver") | dict.fromkeys(("Options", "option"), ".options"))
