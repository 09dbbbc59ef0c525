"""How a command fails: one message on stderr, and an exit code that tells what kind of failure it was.

0 in sync · 1 some paths are blocked or failed · 2 usage or configuration · 3 an internal error · 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator

import click

from onitu.model.errors import ConfigurationError, OnituError, PeerGone, ProtocolError, StateError

from .asking import GivenUp, NotRunning

IN_SYNC = 0
NOT_IN_SYNC = 1
USAGE = 2
INTERNAL = 3
INTERRUPTED = 130

_SHORT = {
    errno.ENOSPC: "",
    errno.EDQUOT: "",
    errno.ENOMEM: "",
    errno.EMFILE: ": `ulimit -n` says how many this process may have",
    errno.ENFILE: "",
}
"""What the host may be short of, which is nobody's bug, and what can be done about it."""


_SHOWN = 100
"""Characters of a path that are shown where its length is the trouble."""


def exit_code(error: BaseException) -> int:
    """Say on stderr what went wrong, and give the exit code for it."""
    causes = list(_causes(error))
    for kind, report in (
        (click.exceptions.Exit, _nothing),
        (BrokenPipeError, _close_stdout),
        (KeyboardInterrupt, _interrupted),
        (click.Abort, _interrupted),
    ):
        if found := next((cause for cause in causes if isinstance(cause, kind)), None):
            return report(found)
    if short := next((cause for cause in causes if isinstance(cause, OSError) and cause.errno in _SHORT), None):
        return _short(short)
    if long := next((one for one in causes if isinstance(one, OSError) and one.errno == errno.ENAMETOOLONG), None):
        path = os.fsdecode(long.filename or "")
        shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
        click.echo(f"onitu: {shown}: file name too long", err=True)
        return USAGE
    unknown = [cause for cause in causes if not isinstance(cause, OnituError | click.ClickException)]
    if unknown:
        return _internal(error)
    return max(_told(cause) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in an exception group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


def _told(error: BaseException) -> int:
    if isinstance(error, click.ClickException):
        error.show()
        return USAGE
    if isinstance(error, ConfigurationError):
        for problem in error.problems:
            click.echo(f"onitu: {problem}", err=True)
        return USAGE
    click.echo(f"onitu: {error}", err=True)
    if isinstance(error, NotRunning | StateError):
        return USAGE
    if isinstance(error, PeerGone | ProtocolError | GivenUp):
        click.echo("onitu: `onitu.log` in the state directory tells what led to it", err=True)
        return INTERNAL
    return NOT_IN_SYNC


def _internal(error: BaseException) -> int:
    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo(
        "onitu: this is a bug in Onitu. What led to it is in `onitu.log` in the state directory.",
        err=True,
    )
    return INTERNAL


def _short(error: OSError) -> int:
    click.echo(f"onitu: {(error.strerror or str(error)).lower()}{_SHORT[error.errno or 0]}", err=True)
    return _close_stdout(error)  # on which it may have been


def _nothing(error: BaseException) -> int:
    return error.exit_code if isinstance(error, click.exceptions.Exit) else 0


def _interrupted(_error: BaseException) -> int:
    click.echo("onitu: interrupted", err=True)
    return INTERRUPTED


def _close_stdout(_error: BaseException) -> int:
    # Who read us has gone. Python would write what is left at its end, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NOT_IN_SYNC
