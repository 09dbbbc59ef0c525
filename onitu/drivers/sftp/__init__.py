"""The driver `sftp`: any server that lets one in by SSH.

Keys and encryption are the program `ssh`'s, and the SFTP protocol is spoken here (`wire`). That is by measurement,
against sshd 9.2 on loopback, on a busy machine with two cores: 200 MB are read in 5.5 s where paramiko 5.1 needs 10.5 s
and asyncssh 2.24 7.8 s, and written in 4.8 s (6.2 s, 8.9 s); 1,000 files of 64 KiB are written in 3.7 s (4.1 s, 6.8 s),
with a third of the time in Python. Both libraries would need threads or a loop beside Trio, and know a part only of
what `~/.ssh/config` may say; `ssh` is there wherever anybody uses SFTP, and the system keeps it up to date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.plug.later import later

if TYPE_CHECKING:
    from .driver import SftpDriver
    from .options import SftpOptions

__all__ = ["SftpDriver", "SftpOptions"]

__getattr__ = later(__name__, {"SftpDriver": ".driver", "SftpOptions": ".options"})
