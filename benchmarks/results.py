"""What was measured, as tables in Markdown and as a plot, which is written by hand: bars and words need no library."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

import attrs

ROWS = {
    "first": "first sync, {files:,} × 4 KiB",
    "nothing": "nothing to do, {files:,} files",
    "many": "nothing to do, {many:,} files",
    "few": "one change among {many:,} files",
    "edits": "{edits:,} edits on both sides of {files:,} files",
    "edits-live": "{edits:,} edits while it runs",
    "large": "one file of {large:,} MiB",
    "renamed": "a folder of 500 × 100 KiB renamed",
    "renamed-live": "the folder renamed while it runs",
    "change": "one small change while it runs",
    "idle": "{idle:g} idle seconds",
    "three": "three replicas, first sync, {files:,} × 4 KiB",
}
"""What is measured, by the word for it."""

UNTIMED = frozenset({"idle"})
"""Rows that are no work: of these only processor time and memory are told."""

ONITU = "onitu"
COLOURS = ("#8c8c8c", "#bcbd22", "#17becf", "#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#e377c2", "#ff7f0e")


class Failed(Exception):
    """A tool did not do a row's work."""

    def __init__(self, row: str, reason: str) -> None:
        super().__init__(reason)
        self.row = row


@attrs.define
class Figure:
    """What a piece of work took: seconds, seconds of processor time, bytes of all processes together at most."""

    seconds: float
    processor: float
    memory: int
    note: str = ""

    def then(self, other: Figure) -> Figure:
        """Both, one after the other."""
        return Figure(self.seconds + other.seconds, self.processor + other.processor, max(self.memory, other.memory))


@attrs.define
class Results:
    """All figures of a run of the benchmark.

    Attributes:
        rows: those that are wanted.
        sizes: what the names of the rows are filled in with.
        tell: says each figure as it comes.
        took: by row and tool, the figure of each round.
        failures: by row and tool, what went wrong.
    """

    rows: Sequence[str]
    sizes: dict[str, float]
    tell: Callable[[str], None]
    took: dict[tuple[str, str], list[Figure]] = attrs.field(factory=dict)
    failures: dict[tuple[str, str], str] = attrs.field(factory=dict)

    def wants(self, *rows: str) -> bool:
        """Whether one of the rows is wanted."""
        return not set(rows).isdisjoint(self.rows)

    def add(self, row: str, tool: str, figure: Figure) -> None:
        """Note a figure, where its row is wanted."""
        if row in self.rows:
            self.took.setdefault((row, tool), []).append(figure)
            self.tell(f"{tool}: {row}: {figure.seconds:.2f} s, processor {figure.processor:.2f} s")

    def failed(self, row: str, tool: str, reason: str) -> None:
        """Note that a tool failed in what the row (or its preparation, where it is empty) asks."""
        self.failures[row or "preparation", tool] = reason
        self.tell(f"{tool}: {row or 'preparation'}: FAILED: {reason}")

    @property
    def tools(self) -> list[str]:
        """All that took part; Onitu last."""
        found = list(dict.fromkeys(tool for _, tool in (*self.took, *self.failures)))
        return sorted(found, key=lambda name: name == ONITU)

    def name(self, row: str) -> str:
        return ROWS[row].format(**self.sizes)

    def medians(self, of: Callable[[Figure], float], rows: Sequence[str]) -> dict[str, dict[str, float]]:
        """By row and tool, the median of something."""
        found: dict[str, dict[str, float]] = {}
        for (row, tool), figures in self.took.items():
            if row in rows:
                found.setdefault(row, {})[tool] = statistics.median(map(of, figures))
        return {row: found[row] for row in ROWS if row in found}

    def table(self, of: Callable[[Figure], float], digits: int, rows: Sequence[str] = tuple(ROWS)) -> list[str]:
        """Medians; in brackets what Onitu took as a multiple of each; what failed, and what was copied in vain."""
        tools, medians = self.tools, self.medians(of, rows)
        lines = ["| work | " + " | ".join(tools) + " |", "| --- |" + " ---: |" * len(tools)]
        for row, found in medians.items():
            cells = [self._cell(row, tool, found.get(tool), found.get(ONITU), digits) for tool in tools]
            if of is _seconds:
                cells = [" ".join([cell, *self._notes(row, tool)]) for cell, tool in zip(cells, tools, strict=True)]
            lines.append(f"| {self.name(row)} | " + " | ".join(cells) + " |")
        return lines

    def _cell(self, row: str, tool: str, value: float | None, ours: float | None, digits: int) -> str:
        if (row, tool) in self.failures:
            return "failed"
        if value is None:
            return ""
        if tool == ONITU or ours is None or value <= 0:
            return f"{value:.{digits}f}"
        return f"{value:.{digits}f} ({ours / value:.2f})"

    def _notes(self, row: str, tool: str) -> list[str]:
        return sorted({figure.note for figure in self.took.get((row, tool), ()) if figure.note})

    def report(self) -> list[str]:
        """All of it, as Markdown."""
        timed = [row for row in ROWS if row not in UNTIMED]
        lines = ["Seconds, medians; in brackets what Onitu took as a multiple:", "", *self.table(_seconds, 2, timed)]
        lines += ["", "Processor time of all processes, in seconds:", "", *self.table(_processor, 2)]
        lines += ["", "Memory of all processes together at most, in MB (PSS):", "", *self.table(_memory, 0)]
        if self.failures:
            lines += ["", "What failed:", ""]
            lines += [f"- {tool}, {row}: {reason}" for (row, tool), reason in self.failures.items()]
        return lines

    def plot(self) -> str:
        """The seconds as bars, on a logarithmic scale: an SVG."""
        medians = self.medians(_seconds, [row for row in ROWS if row not in UNTIMED])
        colours = dict(zip(self.tools, COLOURS, strict=False))
        values = [value for found in medians.values() for value in found.values()]
        return _bars({self.name(row): found for row, found in medians.items()}, colours, values) if values else ""


def _seconds(figure: Figure) -> float:
    return figure.seconds


def _processor(figure: Figure) -> float:
    return figure.processor


def _memory(figure: Figure) -> float:
    return figure.memory / (1 << 20)


LEFT, WIDE, BAR, GAP = 330, 480, 13, 12


def _bars(groups: dict[str, dict[str, float]], colours: dict[str, str], values: Sequence[float]) -> str:
    low, high = math.floor(math.log10(max(min(values), 1e-3))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def along(value: float) -> float:
        return LEFT + WIDE * (math.log10(max(value, 10**low)) - low) / (high - low)

    parts: list[str] = []
    top = 20.0
    for name, found in groups.items():
        middle = top + BAR * len(found) / 2 + 4
        parts.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>')
        for tool in [tool for tool in colours if tool in found]:
            end = along(found[tool])
            parts.append(
                f'<rect x="{LEFT}" y="{top:.0f}" width="{end - LEFT:.1f}" height="{BAR - 2}" fill="{colours[tool]}">'
                f"<title>{escape(tool)}: {found[tool]:.3g} s</title></rect>"
                f'<text x="{end + 4:.1f}" y="{top + BAR - 3:.0f}" font-size="10">{found[tool]:.3g}</text>'
            )
            top += BAR
        top += GAP
    for power in range(low, high + 1):
        x = along(10.0**power)
        parts.append(f'<line x1="{x:.1f}" y1="14" x2="{x:.1f}" y2="{top:.0f}" stroke="#999" stroke-opacity="0.4"/>')
        parts.append(f'<text x="{x:.1f}" y="11" text-anchor="middle" font-size="10">{10.0**power:g} s</text>')
    for number, (tool, colour) in enumerate(colours.items()):
        x, y = 12 + number % 4 * 200, top + 14 + number // 4 * 18
        parts.append(f'<rect x="{x}" y="{y - 9:.0f}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="{y:.0f}">{escape(tool)}</text>')
    height = top + 22 + (len(colours) - 1) // 4 * 18
    size = f'width="{LEFT + WIDE + 50}" height="{height:.0f}" viewBox="0 0 {LEFT + WIDE + 50} {height:.0f}"'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    body = "\n".join(parts)
    words = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {words}>\n{ground}\n{body}\n</svg>\n'
