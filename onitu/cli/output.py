"""What is said to people and to programs: results on stdout, everything else on stderr.

With `--json` stdout has one JSON object a line and nothing else. The progress bar is drawn only where stderr is a
terminal. Paths are shown with their control characters escaped, so that no file name can play with a terminal.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click
import msgspec

from onitu.model.sizes import show_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Data = Mapping[str, Any]


class Output(msgspec.Struct, frozen=True):
    """Where a command's words go.

    Attributes:
        json: results are JSON objects, one a line.
        quiet: only errors go to stderr.
        verbose: more detail.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def result(self, data: Data, lines: Iterable[str]) -> None:
        """A result: the object for programs, or the lines for people; both on stdout."""
        if self.json:
            emit(data)
            return
        for line in lines:
            click.echo(line)

    def say(self, sentence: str) -> None:
        """Something for people that is no result."""
        if not self.quiet:
            click.echo(sentence, err=True)

    def complain(self, sentence: str) -> None:
        """Something that went wrong; said in any case."""
        click.echo(sentence, err=True)

    def progress(self) -> Bar:
        """A progress bar, or nothing where nobody would see one."""
        return Bar(shown=sys.stderr.isatty() and not (self.quiet or self.json))


def emit(data: Data) -> None:
    """One JSON object on a line of stdout, at once."""
    click.echo(json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str))


class Bar(AbstractContextManager["Bar"]):
    """A progress bar on stderr that is fed with statuses, and takes itself away at the end."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._most = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[files]}  {task.fields[bytes]}  {task.fields[rate]}/s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._progress.add_task("looking", total=None, files="", bytes="", rate="0 bytes")
            self._progress.start()
            self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def visible(self) -> bool:
        """Whether somebody sees it."""
        return self._progress is not None

    def show(self, status: Data) -> None:
        """Draw how things stand now."""
        if self._progress is None or self._task is None:
            return
        sums = totals(status)
        left, moved = sums["left"], sums["transferred_bytes"]
        looking = any(service.get("looking", 0) for _, service in services_of(status))
        self._most = max(self._most, left)
        elapsed = max(time.monotonic() - self._began, 0.001)
        self._progress.update(
            self._task,
            description="looking" if looking else "synchronising",
            total=self._most or None,
            completed=self._most - left,
            files=count(sums["files"], "file"),
            bytes=show_size(moved),
            rate=show_size(int(moved / elapsed)),
        )


# --- statuses in words ------------------------------------------------------------------------------------------

MOVED = (
    "transferred_bytes",
    "copied_bytes",
    "resumed_bytes",
    "puts",
    "deletes",
    "moves",
    "metas",
    "adopted",
)
"""Numbers of a folder that speak of one run only."""
SUMS = ("files", "bytes", "left", "conflicts", "blocked", "hidden", *MOVED)
"""Those that are added up."""


def totals(status: Data) -> dict[str, int]:
    """The numbers of all folders of a status, added up."""
    folders = status.get("folders", {}).values()
    return {key: sum(int(folder.get(key, 0)) for folder in folders) for key in SUMS}


def services_of(status: Data) -> list[tuple[str, dict[str, Any]]]:
    """Every (service, its state) of a status, in each folder."""
    return [
        (name, service)
        for folder in status.get("folders", {}).values()
        for name, service in folder.get("services", {}).items()
    ]


def is_settled(status: Data) -> bool:
    """Whether nothing moves any more in any folder."""
    folders = status.get("folders", {})
    return bool(folders) and all(folder.get("settled") for folder in folders.values())


def is_in_sync(status: Data) -> bool:
    """Whether all folders are in sync, with nothing blocked and nothing held back."""
    folders = status.get("folders", {})
    return bool(folders) and all(folder.get("in_sync") for folder in folders.values())


def did_something(status: Data) -> bool:
    """Whether any service was changed in this run."""
    sums = totals(status)
    return any(sums[key] for key in ("puts", "deletes", "moves", "metas", "transferred_bytes"))


def at_rest(status: Data) -> dict[str, Any]:
    """The status of a later run that has nothing to do: what is there is the same, and nothing was moved."""
    folders: dict[str, Any] = {}
    for name, folder in status.get("folders", {}).items():
        services = {who: {**service, "counters": {}} for who, service in folder.get("services", {}).items()}
        folders[name] = {**folder, **dict.fromkeys((*MOVED, "sent_bytes"), 0), "services": services}
    return {**status, "folders": folders}


def summary(status: Data, seconds: float) -> str:
    """One line on a finished synchronisation."""
    sums = totals(status)
    replicas = len({name for name, _ in services_of(status)})
    files, took = count(sums["files"], "file"), f"({seconds:.1f} s)"
    good = is_in_sync(status)
    if good and not did_something(status):
        return f"nothing to do: 0 bytes transferred; {replicas} replicas, {files} {took}"
    changed = sum(sums[key] for key in ("puts", "deletes", "moves", "metas"))
    return (
        f"{'in sync' if good else 'not in sync'}: {replicas} replicas, {files}; {changed:,} changed, "
        f"{count(sums['transferred_bytes'], 'byte')} transferred, {count(sums['conflicts'], 'conflict')} {took}"
    )


def count(number: int, noun: str) -> str:
    """`1 file`, `12,345 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def status_lines(status: Data, verbose: bool = False) -> list[str]:
    """A status for people."""
    run = status.get("run", {})
    lines = [f"{run.get('name')}: {run.get('phase')}, process {run.get('pid')}"] if run else []
    if status.get("referee"):
        lines.append(str(status["referee"]))
    for name, folder in status.get("folders", {}).items():
        state = (
            "in sync" if folder.get("in_sync") else "settled, not in sync" if folder.get("settled") else "synchronising"
        )
        parts = [count(folder.get("files", 0), "file"), show_size(folder.get("bytes", 0))]
        parts += [
            f"{folder[key]:,} {word}" for key, word in (("left", "left"), ("blocked", "blocked")) if folder.get(key)
        ]
        if folder.get("conflicts"):
            parts.append(count(folder["conflicts"], "conflict"))
        if folder.get("hidden"):
            parts.append(f"{folder['hidden']:,} outside the rules")
        lines.append(f"{name}: {state}; {', '.join(parts)}")
        for service, found in folder.get("services", {}).items():
            lines.append(f"  {service}: {_service(found)}")
            if verbose and (cost := _cost(found.get("counters", {}))):
                lines.append(f"    {cost}")
        for service, held in folder.get("quarantined", {}).items():
            if held:
                lines.append(
                    f"  {service}: {count(held, 'deletion')} held back; `onitu approve {service}` lets them through, "
                    f"`onitu approve {service} --restore` brings the files back"
                )
    for process in status.get("processes", []):
        if verbose or process.get("state") == "failed":
            lines.append(f"process {_process(process)}")
    return lines


def _service(found: Data) -> str:
    words = str(found.get("state", "unknown"))
    for key, word in (("looking", "to look at"), ("in_flight", "under way")):
        if found.get(key):
            words += f", {found[key]:,} {word}"
    words += f" ({found['note']})" if found.get("note") else ""
    return f"{words}: {found['trouble']}" if found.get("trouble") else words


def _cost(counters: Mapping[str, int]) -> str:
    """What a service in the network was asked since its driver started, and what its last poll cost; empty: nothing."""
    if not counters.get("requests"):
        return ""
    last = count(counters.get("poll_requests", 0), "request")
    if counters.get("poll_bytes"):
        last += f", {show_size(counters['poll_bytes'])}"
    words = f"{count(counters['requests'], 'request')}; {count(counters.get('scans', 0), 'poll')}, the last of {last}"
    for key, word in (("read_bytes", "read"), ("written_bytes", "written")):
        if counters.get(key):
            words += f"; {show_size(counters[key])} {word}"
    return words


def _process(process: Data) -> str:
    words = f"{process.get('name')}: {process.get('state')}"
    if process.get("pid"):
        words += f", {process['pid']}"
    if process.get("rss"):
        words += f", {show_size(process['rss'])}"
    if process.get("restarts"):
        words += f", {count(process['restarts'], 'restart')}"
    if process.get("reason"):
        words += f" ({process['reason']})"
    if process.get("state") == "failed":
        words += "; `onitu resume` starts it again"
    return words


def problem_lines(problems: Sequence[Data]) -> list[str]:
    """What is not in sync, and why: one line for each path."""
    return [
        f"{problem.get('path', '')}: {problem.get('reason') or problem.get('kind', '')}"
        + (f" (on {problem['service']})" if problem.get("service") else "")
        for problem in problems
    ]


def entry_line(entry: Data) -> str:
    """One decision of the journal."""
    moment = entry.get("time", "")
    if isinstance(moment, int | float):
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    who = f" on {entry['service']}" if entry.get("service") else ""
    case, detail = entry.get("case", ""), entry.get("detail")
    outcome = f" → {entry['outcome']}" if entry.get("outcome") else ""
    if case == "moved" and isinstance(detail, Mapping):
        detail = {name: value for name, value in detail.items() if name != "source"}  # which is what came of it
    return f"{moment}  {entry.get('path', '')}{who}: {case}{outcome}{_detail(detail)}"


def _detail(detail: object) -> str:
    """The evidence, as far as it says something to people."""
    if not isinstance(detail, Mapping):
        return f" ({detail})" if detail else ""
    parts = []
    if detail.get("kind"):
        parts.append(str(detail["kind"]))
    if detail.get("kind") == "file" and "size" in detail:
        parts.append(count(int(detail["size"]), "byte"))
    if detail.get("source"):
        parts.append(f"from {detail['source']}")
    return f" ({', '.join(parts)})" if parts else ""


def news_line(topic: str, data: Data) -> str:
    """Something that just happened."""
    where = f"{data.get('path', '')} on {data.get('service', '')}" if data.get("path") else data.get("service", "")
    what = (
        data.get("reason")
        or data.get("case")
        or ", ".join(f"{key} {value}" for key, value in data.items() if key not in ("path", "service"))
    )
    return f"{where}: {what}" if where else f"{topic}: {what}"
