"""The executable specification of a synchroniser: the promises S1–S6, and oracles that decide them.

It knows nothing of Onitu's insides and shares no code with it: it imports the standard library and attrs only.
`docs/explanation/specification.md` says the same in words and formulas.
"""

from __future__ import annotations

from .history import (
    Deed,
    Delete,
    Forget,
    History,
    Look,
    MakeDirectory,
    RemoveDirectory,
    Rename,
    Rest,
    Touch,
    Value,
    Write,
)
from .promises import PROMISES, Finding, Verdict, judge
from .trees import DIRECTORY, Item, Kind, Tree, file, link, link_value, read_tree, recognise, render

__all__ = [
    "DIRECTORY",
    "PROMISES",
    "Deed",
    "Delete",
    "Finding",
    "Forget",
    "History",
    "Item",
    "Kind",
    "Look",
    "MakeDirectory",
    "RemoveDirectory",
    "Rename",
    "Rest",
    "Touch",
    "Tree",
    "Value",
    "Verdict",
    "Write",
    "file",
    "judge",
    "link",
    "link_value",
    "read_tree",
    "recognise",
    "render",
]
