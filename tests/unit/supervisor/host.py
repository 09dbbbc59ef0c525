"""A supervisor in a process of its own, with fake children: `python -m tests.unit.supervisor.host STATE COMMAND…`.

`COMMAND` is that of the drivers `a` and `b`, the Referee beats.
"""

from __future__ import annotations

import signal
import sys

import trio

from onitu.model.errors import OnituError
from onitu.supervisor import control
from onitu.supervisor.run import Plan, supervise

from .processes import fake, settings

control.STATUS_TIMEOUT = 0.1  # the fake Referee never answers


async def main(state: str, *driver: str) -> int:
    try:
        return await supervise(settings(state, "a", "b"), plan=Plan(referee=fake("beat"), driver=driver))
    except OnituError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests with nohup has it ignored
    sys.exit(trio.run(main, *sys.argv[1:]))
