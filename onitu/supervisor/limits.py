"""How many files a run may have open: a process that comes to the limit fails wherever it is, and libzmq aborts it."""

from __future__ import annotations

import resource

from onitu.model.errors import OnituError

PLENTY = 4096
"""Open files that each process may have where the system lets it; shells allow 256 to 1,024 before."""
LEAST = 64
EACH = 8
"""Open files that the largest process, the supervisor, needs whatever it does, and for each service: pipes, a socket,
what tells of its end. 40 in all were seen with two services, 72 with eight."""


def allow_files(services: int) -> None:
    """Let this process, and all that it starts, have as many files open as a run with so many services needs.

    Raises:
        OnituError: the hard limit is below that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < PLENTY:
        most = PLENTY if hard == unlimited else min(hard, PLENTY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    needed = LEAST + EACH * services
    if soft != unlimited and soft < needed:
        raise OnituError(
            f"a process may have {soft} files open here, and a run with {services} services needs {needed}:"
            " `ulimit -Hn` tells the limit, which an administrator can raise"
        )
