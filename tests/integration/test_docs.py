"""The documentation, run: the tutorial from its first command to its last, every configuration, words of the reference.

What a page shows as output is compared with what is really printed, but for times, process numbers and paths. In a
block of `console` a line that begins with `$` is typed, and what follows is its output; a block of `sh` is typed as it
stands.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from onitu.cli import configuration
from onitu.referee.machine import QUIET, Case

from .harness import alike, wait_for

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_VARYING = (
    (r"\(\d+\.\d s\)", "(N s)"),
    (r"\d{4}-\d\d-\d\d \d\d([:.])\d\d[:.]\d\d", "DATE"),
    (r"process \d+", "process N"),
    (r"-[0-9a-f]{10}\b", "-DIGEST"),
)


def blocks(page: Path, language: str) -> list[str]:
    """The page's blocks of this language, in order."""
    return [text for found, text in _BLOCK.findall(page.read_text()) if found == language]


def tutorial(page: str) -> list[tuple[str, str]]:
    """All blocks of a page of the tutorial, with their languages."""
    return _BLOCK.findall((ROOT / "docs" / "tutorial" / f"{page}.md").read_text())


def steps(console: str) -> list[tuple[str, list[str]]]:
    """What is typed in a block of `console`, each with the lines that are to come of it."""
    found: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


@attrs.define
class Terminal:
    """Somebody who works through the tutorial, in a home directory of their own."""

    home: Path

    @property
    def here(self) -> Path:
        """Where they are: from the first page on in the directory `tutorial`."""
        place = self.home / "tutorial"
        return place if place.is_dir() else self.home

    @property
    def environment(self) -> dict[str, str]:
        bin = str(Path(sys.executable).parent)
        given = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
        return given | {"HOME": str(self.home), "PATH": bin + os.pathsep + os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    def type(self, command: str) -> list[str]:
        """Run a command of the shell to its end; what it printed."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.here,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return self.told(done.stdout)

    @contextlib.contextmanager
    def going_on(self, command: str) -> Iterator[Callable[[], list[str]]]:
        """A command that goes on in another terminal for the block, ended by Ctrl-C; gives what it printed so far."""
        log = self.home / "terminal.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command.split(), cwd=self.here, env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
        try:
            yield lambda: self.told(log.read_text())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(2)
            process.wait(30)

    def settle(self) -> None:
        """Wait until nothing moves in the one run of `onitu sync` that there is."""
        (state,) = (self.home / ".local" / "state" / "onitu").glob("laptop-stick-*")
        self.type(f"onitu status --wait --state {state}")

    def told(self, text: str) -> list[str]:
        """Lines without what is another each time, and without those of the log."""
        lines = text.replace(str(self.home), "/home/me").splitlines()
        return [plain(line) for line in lines if not line.startswith(("WARNING: ", "ERROR: "))]

    def follow(self, block: tuple[str, str]) -> None:
        """Do what a block says, and see what it says that comes of it."""
        language, text = block
        if language == "sh":
            assert self.type(text) == []
        elif language == "yaml":
            (self.here / "onitu.yaml").write_text(text)
        else:
            for command, expected in steps(text):
                assert self.type(command) == [plain(line) for line in expected], command


def plain(line: str) -> str:
    """A line without times, process numbers and digests of paths."""
    for pattern, word in _VARYING:
        line = re.sub(pattern, word, line)
    return line


def test_the_tutorial_happens_as_it_is_told(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path.resolve())
    for block in tutorial("first-sync"):
        terminal.follow(block)
    assert terminal.type("onitu sync laptop stick")[0].startswith("in sync: ")  # its last sentence says so
    watch(terminal)
    for page in ("conflict", "deletion"):
        for block in tutorial(page):
            terminal.follow(block)
    run_the_daemon(terminal)


def watch(terminal: Terminal) -> None:
    """The page on watching: a terminal that tells, and another in which things are done."""
    (_, started), (_, done), (_, told), refused = tutorial("watching")
    ((command, expected),) = steps(started)
    here = terminal.here
    with terminal.going_on(command) as printed:
        wait_for(lambda: len(printed()) == len(expected), why="watching")
        assert printed() == [plain(line) for line in expected]
        for line in done.splitlines():
            terminal.type(line)
            wait_for(lambda: alike(here / "laptop", here / "stick"), why=line)
            terminal.settle()  # what was written is known to be there, so that a rename of it is one
        decisions = [plain(line) for line in told.splitlines()]
        wait_for(lambda: len(printed()) >= len(expected) + len(decisions), why="the decisions are told")
        assert printed()[len(expected) :] == decisions
        terminal.follow(refused)


def run_the_daemon(terminal: Terminal) -> None:
    """The page on the daemon."""
    made, configured, (_, started), (_, asked), (_, changed), (_, ended) = tutorial("daemon")
    terminal.follow(made)
    terminal.follow(configured)
    ((command, expected),) = steps(started)
    with terminal.going_on(command) as printed:
        wait_for(lambda: printed() == [plain(line) for line in expected], why="started")
        terminal.follow(("console", asked))
        compare_with_the_reference(terminal)
        for command, lines in steps(changed):
            if command.startswith("onitu"):
                wait_for(lambda: (terminal.here / "nas" / "bob.txt").exists(), why="bob.txt on nas")
                terminal.type("onitu status --wait")
            assert terminal.type(command) == [plain(line) for line in lines], command
        terminal.follow(("console", ended))


def compare_with_the_reference(terminal: Terminal) -> None:
    """The keys of what `status` and `explain` say in JSON are those that the reference shows."""
    shown = [json.loads(text) for text in blocks(ROOT / "docs" / "reference" / "json.md", "json")]
    for command, key in (("status", "folders"), ("explain shopping.txt", "nodes")):
        (example,) = (one for one in shown if key in one and "type" not in one)
        (real,) = (json.loads(line) for line in terminal.type(f"onitu {command} --json"))
        assert keys(real) == keys(example), command


def keys(value: Any, above: str = "") -> set[str]:
    """The keys at every depth; names of services and counters, which are data, are left out."""
    if isinstance(value, list):
        return set().union(*(keys(item, above) for item in value))
    if not isinstance(value, dict) or above in ("counters", "entries"):
        return set()
    named = above in ("services", "held")
    own = set() if named else {f"{above}.{key}" for key in value}
    return own.union(*(keys(item, "*" if named else key) for key, item in value.items() if key != "entries"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_configuration_that_is_shown_is_one(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        file = tmp_path / "onitu.yaml"
        file.write_text(text)
        settings = configuration.load(file, variables={"ONITU_PASSWORD": "secret"}).settings
        assert settings.folders
        assert settings.services


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_every_link_of_the_first_pages_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_the_readme_shows_the_conflict_of_the_tutorial() -> None:
    (shown,) = re.findall(
        r"((?:^    .*\n)+)\nThe newer one keeps the name", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    lines = [line.strip() for line in shown.splitlines()]
    assert "\n".join(lines) in blocks(ROOT / "docs" / "tutorial" / "conflict.md", "console")[0]


def test_the_journal_page_has_every_case() -> None:
    page = (ROOT / "docs" / "reference" / "journal.md").read_text()
    assert set(re.findall(r"^\| `([a-z -]+)` \|", page, re.MULTILINE)) == set(Case) - QUIET
