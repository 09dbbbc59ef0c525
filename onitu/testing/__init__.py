"""Public: what a synchroniser can be tested with, Onitu or another one.

`spec` is the executable specification: what users did, what must then stand where, and three oracles that decide it.
"""

from __future__ import annotations

from .spec import History, Item, Tree, Verdict, judge, read_tree, recognise, render

__all__ = ["History", "Item", "Tree", "Verdict", "judge", "read_tree", "recognise", "render"]
