"""How many files a run may have open, in processes of their own: the limit is the whole process's."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from onitu.supervisor.limits import PLENTY

NOFILE = resource.RLIMIT_NOFILE


def limited(soft: int, hard: int, *command: str) -> subprocess.CompletedProcess[str]:
    """A command that may have so many files open."""

    def lower() -> None:
        resource.setrlimit(NOFILE, (soft, hard))

    return subprocess.run(
        [sys.executable, *command], preexec_fn=lower, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(("soft", "allowed"), [(100, PLENTY), (PLENTY, PLENTY), (PLENTY + 10, PLENTY + 10)])
def test_the_limit_is_raised_where_it_may_be(soft: int, allowed: int) -> None:
    ask = "import resource; from onitu.supervisor.limits import allow_files; allow_files(2);"
    done = limited(soft, PLENTY + 10, "-c", ask + "print(resource.getrlimit(resource.RLIMIT_NOFILE))")
    assert done.stdout.strip() == str((allowed, PLENTY + 10)), done.stderr


def test_a_run_that_would_fail_in_the_middle_does_not_begin(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    sync = ("-m", "onitu", "sync", str(tmp_path / "a"), str(tmp_path / "b"), "--state", str(tmp_path / "state"))
    done = limited(40, 40, *sync)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("onitu: a process may have 40 files open here, and a run with 2 services needs 80: ")
    assert limited(40, 80, *sync).returncode == 0
