"""Directories of FTP servers, without and with TLS, by the standard library's `ftplib` in threads.

(aioftp, the other library that lives, is for asyncio alone; `ftplib` comes with Python and is kept with it.)

FTP cannot compare and swap. What is replaced steps aside first (`onitu.plug.remote.acting`), what is new is written
below `.onitu/tmp` and renamed. A server may replace what stands where something is renamed to, so the target is looked
at immediately before: a file that appears there in between is lost. A token is what `MLSD` tells: size, time (mostly
whole seconds) and the server's own number of the file, where it has one. Listings for people (`LIST`) prove nothing: a
server without `MLSD` is refused.

Names travel as bytes: `ftplib` is told that they are Latin-1, which has every byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onitu.plug.later import later

if TYPE_CHECKING:
    from .driver import FtpDriver, FtpsDriver
    from .options import FtpOptions, FtpsOptions

__all__ = ["FtpDriver", "FtpOptions", "FtpsDriver", "FtpsOptions"]

__getattr__ = later(
    __name__, {"FtpDriver": ".driver", "FtpsDriver": ".driver", "FtpOptions": ".options", "FtpsOptions": ".options"}
)
