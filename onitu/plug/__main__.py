"""`python -m onitu.plug`: the process of one driver. Its charter comes through standard input."""

from __future__ import annotations

from onitu.wire.lifeline import leave, run_child

from .run import main

if __name__ == "__main__":
    leave(run_child(main))
