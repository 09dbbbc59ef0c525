"""`onitu`, and `python -m onitu`: what a person types."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; ends the process with its exit code."""
    _fill_gaps()
    # What is loaded stays: to look for garbage among it is felt at each start. Whoever has loaded all that it needs
    # begins to look (`onitu.cli.asking.run`, `onitu.wire.lifeline.run_child`).
    gc.disable()
    gc.set_threshold(20_000, 20, 20)
    try:
        from onitu.cli.main import cli

        cli(prog_name="onitu")
    except KeyboardInterrupt:  # while the program is still being loaded: no traceback for an impatient user
        raise SystemExit(130) from None
    except OSError as error:  # of a command, its own handler tells; this is of its help, on a full disk
        from onitu.cli.failing import exit_code

        raise SystemExit(exit_code(error)) from None
    except SystemExit as ending:
        _leave(ending)
    raise SystemExit(0)


def _fill_gaps() -> None:
    """Have every standard stream open: else a lock or a socket would get its number, and be written to."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (for as long as we live)


def _leave(ending: SystemExit) -> None:
    """End this process now: all that it owned is closed, and the interpreter would take apart its modules for another
    20 ms and more, while somebody waits. Where something cannot be written any more, `ending` is raised, and the
    interpreter tells."""
    if not isinstance(ending.code, int):
        raise ending
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        raise ending from None
    os._exit(ending.code)


if __name__ == "__main__":
    main()
