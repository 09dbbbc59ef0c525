"""The benchmark: Onitu beside the tools that it is compared with, row by row.

    python -m benchmarks                                      # everything, three rounds: an hour and more
    python -m benchmarks --rows first,nothing --rounds 1
    python -m benchmarks --tools "unison,rclone bisync" --files 2000
    python -m benchmarks --write                              # the table and the plot go into the documentation

All that are installed take turns on the same trees and the same edits, so that a slow moment of the machine hits all of
them. After each run the trees are compared byte by byte; a run that left them different has failed, and so has the
benchmark then. The result is Markdown on standard output; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import live, peers
from .peers import EDITS, Cold
from .results import ONITU, ROWS, Results

PAGE = Path(__file__).parent.parent / "docs/explanation/performance.md"
PLOT = PAGE.with_suffix(".svg")
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"


def main(words: Sequence[str] | None = None) -> None:
    """Run it and print the result."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    asked.add_argument("--rows", default=",".join(ROWS), help="which (default: %(default)s)")
    asked.add_argument("--tools", default="", help="which beside Onitu, with commas between (default: all)")
    asked.add_argument("--files", type=int, default=10_000, help="in the small tree (default: %(default)s)")
    asked.add_argument("--many", type=int, default=100_000, help="in the large tree (default: %(default)s)")
    asked.add_argument("--large", type=int, default=1024, help="MiB of the large file (default: %(default)s)")
    asked.add_argument("--changes", type=int, default=20, help="small changes while it runs (default: %(default)s)")
    asked.add_argument("--idle", type=float, default=30.0, help="idle seconds (default: %(default)s)")
    asked.add_argument("--rounds", type=int, default=3, help="turns of everybody (default: %(default)s)")
    asked.add_argument("--directory", default=None, help="where the trees are made (default: the temporary directory)")
    asked.add_argument("--write", action="store_true", help=f"put the result into {PAGE.name} and {PLOT.name}")
    given = asked.parse_args(words)
    rows = [row.strip() for row in given.rows.split(",")]
    if unknown := set(rows) - set(ROWS):
        asked.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if given.files < peers.IN_DIRECTORY:
        asked.error(f"--files: at least {peers.IN_DIRECTORY}")
    edits = min(EDITS, given.files // 10)
    sizes = {name: getattr(given, name) for name in ("files", "many", "large", "idle")} | {"edits": edits}
    results = Results(rows, sizes, lambda line: print(line, file=sys.stderr, flush=True))
    with tempfile.TemporaryDirectory(prefix="onitu-bench-", dir=given.directory) as directory:
        run(given, results, Path(directory))
    conditions = f"`python -m benchmarks {' '.join(words if words is not None else sys.argv[1:])}`, {machine()}:"
    report = [conditions, "", *results.report()]
    print("\n".join(report))
    if given.write:
        write(report, results.plot())
    if results.failures:
        raise SystemExit(1)


def run(given: argparse.Namespace, results: Results, root: Path) -> None:
    """All rounds."""
    wanted = [name.strip() for name in given.tools.split(",") if name.strip()]
    tools = [tool for tool in peers.installed() if not wanted or tool.name in wanted or tool.name == ONITU]
    names = [name for name in live.installed(root) if not wanted or name in wanted or name == ONITU]
    warm = Results(("first",), results.sizes, lambda line: None)
    Cold(root, peers.TOOLS[-1], warm, 100).do()  # leaves Python's bytecode behind, as an installation does
    for _ in range(given.rounds):
        for tool in tools:
            Cold(root, tool, results, given.files, given.many, given.large).do()
        for name in names:
            live.Live(root, name, results, given.files, given.changes, given.idle).do()


def machine() -> str:
    """On what it was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    load = "/".join(f"{each:.0f}" for each in os.getloadavg())
    return (
        f"{time.strftime('%B %Y')}, {os.cpu_count()} processors, {memory} GiB, {platform.system()}"
        f" {platform.release().split('-')[0]}, Python {platform.python_version()}, load at the end {load}"
    )


def write(report: Sequence[str], plot: str) -> None:
    """Put the result into the documentation, between its markers."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise SystemExit(f"{PAGE} has not the markers {BEGIN.strip()} and {END.strip()}")
    picture = f"\n![Seconds of each work, by tool]({PLOT.name})\n" if plot else ""
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(report) + "\n" + picture + "\n" + END + after)
    if plot:
        PLOT.write_text(plot)


if __name__ == "__main__":
    main()
