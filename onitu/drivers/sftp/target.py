"""Where to connect to with the program `ssh`, and the command line for it. Nothing here needs Trio: a connection may be
begun before that is loaded (`ahead`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping

import attrs

from onitu.plug.options import Value, given

from .options import SftpOptions

FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
TOLD_WITHIN = 5.0
"""Seconds that `ssh` has to tell its configuration."""


@attrs.frozen(kw_only=True)
class Target:
    """Where to connect to, and as whom. Empty and 0: as `ssh` finds it in its configuration.

    Attributes:
        timeout: seconds without a sign of life after which a connection is given up.
    """

    host: str
    port: int = 0
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    identity: str = ""
    passphrase: str = attrs.field(default="", repr=False)
    known_hosts: str = ""
    accept_new: bool = False
    config: str = ""
    timeout: float = 30.0

    @classmethod
    def of(cls, options: SftpOptions) -> Target:
        """What the options of a service say."""
        return cls(**{field.name: getattr(options, field.name) for field in attrs.fields(cls)})

    @property
    def shown(self) -> str:
        return f"{self.host} port {self.port}" if self.port else self.host

    def command(self, ciphers: str = "") -> list[str]:
        """The command line. What is given here comes before what `~/.ssh/config` says. `ciphers`: in this order; empty:
        as `ssh` has them."""
        secret = bool(self.password or self.passphrase)
        said = {
            "BatchMode": "no" if secret else "yes",
            "NumberOfPasswordPrompts": "1",
            "StrictHostKeyChecking": "accept-new" if self.accept_new else "yes",
            "ConnectTimeout": str(max(1, round(self.timeout / 2))),
            "ServerAliveInterval": str(max(1, round(self.timeout / 3))),
            "ServerAliveCountMax": "3",
            "LogLevel": "INFO",  # what it says then is what `explained` reads
            "RemoteCommand": "none",
            "RequestTTY": "no",
            "PermitLocalCommand": "no",
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ControlMaster": "no",  # one that exists is used; this process is none for others
        }
        if self.known_hosts:
            said["UserKnownHostsFile"] = _quoted(self.known_hosts)
        if self.identity:
            said |= {"IdentityFile": _quoted(self.identity), "IdentitiesOnly": "yes"}
        if ciphers:
            said["Ciphers"] = ciphers
        line = ["ssh", *(f"-o{name}={value}" for name, value in said.items())]
        line += [f"-p{self.port}"] if self.port else []
        line += [f"-l{self.user}"] if self.user else []
        line += ["-F", os.path.expanduser(self.config)] if self.config else []
        return [*line, "-s", "--", self.host, "sftp"]

    def asking(self) -> list[str]:
        """The command line that has `ssh` tell how it would connect, and not do it."""
        command = self.command()
        return [command[0], "-G", *command[1:]]

    def by_hand(self) -> str:
        """How a person connects to it."""
        config = f"-F {self.config} " if self.config else ""
        known = f"-o UserKnownHostsFile={self.known_hosts} " if self.known_hosts else ""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {config}{known}{port}{self.user + '@' if self.user else ''}{self.host}"


def _quoted(path: str) -> str:
    """A path as the value of an option: as it is, whatever is in it."""
    path = os.path.expanduser(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{path}"'


def fast_first(ciphers: str) -> str:
    """The same ciphers, those first that a processor with instructions for AES does fastest; empty: they are already.

    `ssh` begins with ChaCha20, which is for processors without: here 500 MiB through AES-GCM take 2.1 s of processor
    time, and 3.1 s through ChaCha20, on either side of the connection (`ssh -oCiphers=… host 'cat > /dev/null'`).
    """
    given = ciphers.split(",")
    order = [*(name for name in FAST if name in given), *(name for name in given if name not in FAST)]
    return "" if order == given else ",".join(order)


def ciphers_told(told: str) -> str:
    """What `fast_first` says of the ciphers that `ssh` would offer, by what it tells (`Target.asking`): no other ones
    than the user's configuration and the system's allow. Empty: it cannot be told."""
    for line in told.splitlines():
        name, _, value = line.partition(" ")
        if name == "ciphers":
            return fast_first(value)
    return ""


def knows_aes() -> bool:
    """Whether the processor does AES itself."""
    if platform.machine() in ("arm64", "x86_64") and platform.system() == "Darwin":
        return True
    try:
        with open("/proc/cpuinfo") as file:
            return any("aes" in line.split() for line in file if line.startswith(("flags", "Features")))
    except OSError:
        return False


def ahead(options: Mapping[str, Value]) -> Callable[[], object] | None:
    """What a process is to do that is the first connection of a driver with these options, before the driver is there
    (`onitu.plug.catalogue.ahead`); None: none can be begun, as a secret is to be told, or there is no `ssh`."""
    target = Target.of(given(SftpOptions, options))
    if target.password or target.passphrase or shutil.which("ssh") is None:
        return None

    def become() -> None:
        ciphers = ""
        if knows_aes():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                told = subprocess.run(
                    target.asking(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    timeout=TOLD_WITHIN,
                    check=False,
                )
                ciphers = ciphers_told(told.stdout.decode(errors="replace"))
        os.execvp("ssh", target.command(ciphers))  # noqa: S606, S607 (no shell; the user's own ssh)

    return become
