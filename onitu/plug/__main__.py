"""`python -m onitu.plug`: the process of one driver. Its charter comes through standard input."""

from __future__ import annotations

import sys

from onitu.wire.lifeline import run_child

from .run import main

if __name__ == "__main__":
    sys.exit(run_child(main))
