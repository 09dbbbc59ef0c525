"""Onitu, as a user has it: the command `onitu sync` on directories. It is asked nothing but its status."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from .base import Adapter, Broken, end, kill, launch, output_of

COMMAND = (sys.executable, "-m", "onitu")
NOT_RUNNING = 2
"""The exit code of a question to a run that is not there."""


class Onitu(Adapter):
    """With its defaults: the newer version keeps the name, the other one becomes a conflict copy."""

    name = "onitu"
    most = None
    ignored = (".onitu",)
    settings = "sync, --watch; defaults"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._process: subprocess.Popen[bytes] | None = None

    def version(self) -> str:
        return output_of([*COMMAND, "--version"], "onitu is not installed")

    def sync(self, deadline: float) -> bool:
        process = launch(self._command(), self.home)
        try:
            return process.wait(deadline) == 0
        except subprocess.TimeoutExpired:
            kill(process)
            return False

    def start(self) -> None:
        self._process = launch([*self._command(), "--watch"], self.home)

    def _command(self) -> list[str | Path]:
        return [*COMMAND, "sync", *self.roots, "--state", self.home / "state", "--quiet"]

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            kill(self._process)
            self._process = None

    def settled(self, deadline: float) -> bool:
        end_of_it = time.monotonic() + deadline
        code = NOT_RUNNING
        while code == NOT_RUNNING:  # which it may not be yet
            if self._process is None or self._process.poll() is not None:
                raise Broken("onitu sync --watch ended by itself, see tool.log")
            asked = launch([*COMMAND, "status", "--wait", "--state", self.home / "state"], self.home)
            try:
                code = asked.wait(max(0.0, end_of_it - time.monotonic()))
            except subprocess.TimeoutExpired:
                kill(asked)
                return False
        return code == 0
