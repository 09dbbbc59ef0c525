"""A glance at a directory of this host: whether it is as it was when the last run ended with everything in sync.

It blocks, and needs no Trio: it is over before a driver would be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from onitu.model.settings import Filter
from onitu.model.tally import Sealed, Tally

from . import counting
from .mounts import Mounts
from .private import USUAL, Private
from .tree import Check, Tree


def unchanged(root: str, hiding: Sequence[Filter], sealed: Sealed, check: Check) -> bool:
    """Whether everything under a root is as it was, as far as none of the filters hides it.

    Nothing is made, written or settled there. `check` is called now and then: it raises to stop.

    Raises:
        Unavailable: the root is not there, cannot be used, or is another one by now.
    """
    tree = Tree.open(root)
    try:
        private = Private.looking(tree)
        try:
            identity = private.identity
            if not sealed.is_of(identity.marker, identity.generation, identity.pending) or not private.at_rest():
                return False
            private.prove()
            if Mounts(private).gone():
                return False
            seen, known = counting.tally(tree, sealed.time, check, hiding), Tally.read(sealed.tally)
            private.prove()  # a mount that went meanwhile must not look like an empty directory
            return seen is not None and known is not None and seen.agrees(known, USUAL.capabilities.modes)
        finally:
            private.close()
    finally:
        tree.close()
