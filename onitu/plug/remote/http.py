"""httpx, for drivers that speak HTTP, without the command line of its own.

httpx loads that with itself wherever what it needs is installed (rich among it, which Onitu's own command line needs),
and so a driver's start would take 85 ms longer: about a third of what is left of it.
"""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"

if _COMMAND_LINE not in sys.modules:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # who imports it is told that it is not there
    try:
        import httpx
    finally:
        del sys.modules[_COMMAND_LINE]
else:
    import httpx

__all__ = ["httpx"]
