"""What it costs that everything is on the disk before it is told.

    python -m benchmarks.durability [DIRECTORY]

A first synchronisation of 2,000 files of 4 KiB in ten directories, with `durability: full`, with `normal`, and by
`cp -a` followed by `sync`, in turns, on the disk of the directory. Printed: seconds, medians of three, and ratios. It
needs a checkout and `pip install -e '.[test]'`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.integration.harness import started

FILES, SIZE, DIRECTORIES, TIMES = 2_000, 4096, 10, 3
CP = shutil.which("cp") or "cp"


def make(tree: Path) -> None:
    for number in range(DIRECTORIES):
        (tree / f"d{number}").mkdir(parents=True)
    for number in range(FILES):
        (tree / f"d{number % DIRECTORIES}" / f"f{number}").write_bytes(os.urandom(SIZE))
    os.sync()


def by_cp(place: Path) -> None:
    subprocess.run([CP, "-a", place / "tree", place / "copy"], check=True)
    os.sync()


def by_onitu(place: Path, durability: str) -> None:
    service = f"{{driver: local_storage, options: {{durability: {durability}}}, folders: {{docs: {place}/%s}}}}"
    services = "".join(f"  {name}: {service % name}\n" for name in ("tree", "copy"))
    (place / "copy").mkdir()
    configuration = place / "onitu.yaml"
    configuration.write_text(f"name: disk\nstate: {place}/state\nfolders: {{docs: {{}}}}\nservices:\n{services}")
    with started(configuration, place / "state"):
        pass


def measure(place: Path) -> None:
    ways: dict[str, Callable[[Path], None]] = {
        "cp -a, sync": by_cp,
        "onitu, normal": lambda there: by_onitu(there, "normal"),
        "onitu, full": lambda there: by_onitu(there, "full"),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TIMES):
        for name, way in ways.items():
            there = place / "run"
            make(there / "tree")
            begin = time.perf_counter()
            way(there)
            took[name].append(time.perf_counter() - begin)
            shutil.rmtree(there)
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    for name, seconds in medians.items():
        print(f"{name:14} {seconds:6.2f} s  {seconds / medians['onitu, normal']:5.2f} × normal")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        measure(Path(directory))
