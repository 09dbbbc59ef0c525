"""What every driver process shares. `onitu.plug.driver` is all that a driver imports."""

from .driver import Capabilities, Driver, Entry, Hint, Identity, Listing, Refused, Staged
from .options import Options, option

__all__ = ["Capabilities", "Driver", "Entry", "Hint", "Identity", "Listing", "Options", "Refused", "Staged", "option"]
