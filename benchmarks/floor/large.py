"""One large file, stage by stage: it is read for its digest, copied in the kernel, and the copy is read for its digest.
Each stage is a loop of system calls and of BLAKE3 alone, as no change of ours makes them less."""

from __future__ import annotations

import os
from pathlib import Path

from onitu.drivers.local import reading
from onitu.drivers.local.staging import copy_piece

from .desk import Took, clocked

READ, COPIED, CHECKED = "read it for its digest", "copy it in the kernel", "read the copy for its digest"
STAGES = (READ, COPIED, CHECKED)
PIECE = 32 << 20


def make(path: Path, mebibytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(1 << 20))


def copied(source: Path, target: Path) -> Took:
    """Copy a file, one stage after the other."""
    took = Took(float)
    size = source.stat().st_size
    one, other = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT)
    with clocked(took, READ):
        before = reading.digest(one, size)
    with clocked(took, COPIED):
        offset = 0
        while count := copy_piece(one, other, offset, PIECE):
            offset += count
    with clocked(took, CHECKED):
        assert reading.digest(other, size) == before
    os.close(one)
    os.close(other)
    return took
