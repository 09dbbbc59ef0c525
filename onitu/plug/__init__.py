"""What every driver process shares. `onitu.plug.driver` is all that a driver imports."""

from .driver import Capabilities, Driver, Entry, Hint, Identity, Listing, Option, Refused, Staged

__all__ = ["Capabilities", "Driver", "Entry", "Hint", "Identity", "Listing", "Option", "Refused", "Staged"]
