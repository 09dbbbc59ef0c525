"""Packages whose names are loaded when they are first asked for.

What may be said of a service is read without its driver, and a glance at a directory is over before Trio would be
loaded: so what `import` runs of these packages has to be next to nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def later(package: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package. `where`: the module that has it, by name."""

    def found(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(where[name], package), name)

    return found
