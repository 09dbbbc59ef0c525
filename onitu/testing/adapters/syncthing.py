"""Syncthing: one instance for each replica, on loopback, each with a home of its own.

Nothing is announced, relayed or reported; an instance knows the others by their address. Two things are quicker than
by default, so that a trial ends: changes are gathered for one second instead of ten, and a failed pull is tried again
after one second instead of sixty. Whether all is in sync is asked through its REST API, after a scan of everything.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from onitu.testing.ports import free_ports

from .base import BREATH, Adapter, Broken, end, kill, launch, output_of

KEY = "trial"
"""The API key of every instance; they listen on loopback only."""

MISSING = "syncthing is not installed: apt-get install syncthing"

START = 60.0
"""Seconds until an instance answers, at most."""


class Syncthing(Adapter):
    """With conflict copies without limit (`maxConflicts=-1`), as its default of ten may drop some."""

    name = "syncthing"
    most = None
    ignored = (".stfolder",)
    temporary = (".syncthing.*.tmp",)
    settings = "maxConflicts=-1, fsWatcherDelayS=1, pullerPauseS=1; loopback only"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._homes: list[Path] = []
        self._ports: list[int] = []
        self._running: list[subprocess.Popen[bytes]] = []

    def version(self) -> str:
        return " ".join(output_of(["syncthing", "--version"], MISSING).split()[:2])

    def prepare(self, roots: Sequence[Path]) -> None:
        super().prepare(roots)
        self._homes = [self.home / f"instance{number}" for number in range(len(roots))]
        self._ports = free_ports(2 * len(roots))
        devices = []
        for own in self._homes:
            output_of(["syncthing", "generate", "--home", str(own), "--no-default-folder"], MISSING)
            devices.append(output_of(["syncthing", "serve", "--device-id", "--home", str(own)], MISSING))
        for number, own in enumerate(self._homes):
            (own / "config.xml").write_text(self._configuration(number, devices))

    def _configuration(self, number: int, devices: Sequence[str]) -> str:
        peers, api = self._ports[::2], self._ports[1::2]
        members = "".join(f'<device id="{device}"/>' for device in devices)
        known = "".join(
            f'<device id="{device}" name="{device[:7]}"><address>tcp://127.0.0.1:{port}</address></device>'
            for device, port in zip(devices, peers, strict=True)
        )
        return f"""<configuration version="36">
<folder id="trial" path={quoteattr(str(self.roots[number]))} type="sendreceive" rescanIntervalS="3600"
    fsWatcherEnabled="true" fsWatcherDelayS="1">{members}
    <maxConflicts>-1</maxConflicts><pullerPauseS>1</pullerPauseS><minDiskFree unit="%">0</minDiskFree></folder>
{known}
<gui enabled="true" tls="false"><address>127.0.0.1:{api[number]}</address><apikey>{KEY}</apikey></gui>
<options><listenAddress>tcp://127.0.0.1:{peers[number]}</listenAddress>
    <globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
    <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser>
    <reconnectionIntervalS>1</reconnectionIntervalS><urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>
    <crashReportingEnabled>false</crashReportingEnabled></options>
</configuration>
"""

    def start(self) -> None:
        for own in self._homes:
            command = ["syncthing", "serve", "--home", str(own), "--no-browser", "--no-restart", "--no-upgrade"]
            self._running.append(launch(command, self.home))

    def _answers(self, number: int) -> None:
        moment = time.monotonic() + START
        while time.monotonic() < moment:
            try:
                self._ask(number, "system/ping")
                return
            except OSError:
                time.sleep(BREATH)
        raise Broken("syncthing does not answer, see tool.log")

    def stop(self) -> None:
        for process in self._running:
            end(process)
        self._running = []

    def kill(self) -> None:
        for process in self._running:
            kill(process)
        self._running = []

    def sync(self, deadline: float) -> bool:
        """Run until everything is in sync, then end."""
        self.start()
        try:
            return self.settled(deadline)
        finally:
            self.stop()

    def settled(self, deadline: float) -> bool:
        moment = time.monotonic() + deadline
        everyone = range(len(self._homes))
        for number in everyone:
            self._answers(number)
        try:
            for number in everyone:
                self._ask(number, "db/scan?folder=trial", data=b"", timeout=deadline)
            while not all(self._content(number) for number in everyone):
                if time.monotonic() > moment:
                    return False
                time.sleep(10 * BREATH)
        except (
            OSError
        ):  # it answers so where a scan met an error, and by then is no more content than one that is silent
            time.sleep(10 * BREATH)
            return False
        return True

    def _content(self, number: int) -> bool:
        """Whether an instance is connected to all others, idle, lacks nothing, and nobody lacks anything of it."""
        connections = self._ask(number, "system/connections")["connections"]
        status = self._ask(number, "db/status?folder=trial")
        if sum(peer["connected"] for peer in connections.values()) < len(self._homes) - 1:
            return False
        if status["state"] != "idle" or status["needTotalItems"] or status["pullErrors"]:
            return False
        return all(
            not (completion["needItems"] or completion["needDeletes"])
            for device, peer in connections.items()
            if peer["connected"]
            for completion in [self._ask(number, f"db/completion?folder=trial&device={device}")]
        )

    def _ask(self, number: int, what: str, data: bytes | None = None, timeout: float = 30.0) -> Any:
        url = f"http://127.0.0.1:{self._ports[2 * number + 1]}/rest/{what}"
        asked = urllib.request.Request(url, data=data, headers={"X-API-Key": KEY})
        with urllib.request.urlopen(asked, timeout=timeout) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")
