"""What a fork is to its `Child`. Each test forks from a program of its own: here other threads may run."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from .processes import lives

PROGRAM = """
import json, os, signal, sys, threading, time
from onitu.supervisor import forks

def told(forked):
    return json.loads(os.read(forked.stdout, 65536))

def life():
    descriptors = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{{name}}")]
    print(json.dumps({{
        "pid": os.getpid(), "session": os.getsid(0), "group": os.getpgrp(),
        "beyond": [one for one in descriptors if one > 2],
        "interruptible": signal.getsignal(signal.SIGINT) is not signal.SIG_IGN,
        "name": open("/proc/self/comm").read().strip(),
    }}), flush=True)
    while os.read(0, 4096):
        pass
    os._exit(7)

{body}
"""


def run(body: str) -> Any:
    """What the program prints, which is JSON."""
    program = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM.format(body=body)], stdout=subprocess.PIPE, timeout=30, check=True
    )
    return json.loads(program.stdout)


def test_a_fork_leads_its_group_and_has_what_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    child = run(
        f"""
kept, other = os.open({str(tmp_path)!r}, os.O_RDONLY), os.open({str(tmp_path)!r}, os.O_RDONLY)
before = forks.fork("before", life)
forked = forks.fork("a-name", life, keep=(kept,))
print(json.dumps({{**told(forked), "expected": forked.pid, "kept": kept}}))
"""
    )
    assert child["pid"] == child["session"] == child["group"] == child["expected"]
    assert child["beyond"] == [child["kept"]]
    assert not child["interruptible"]
    assert child["name"] == "a-name"


def test_a_fork_sees_its_lifeline_end_also_where_others_were_forked_after_it() -> None:
    status = run(
        """
forked = forks.fork("first", life)
later = forks.fork("later", life)
told(forked)
os.close(forked.stdin)
print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(forked.pid, 0)[1])))
"""
    )
    assert status == 7


def test_the_death_of_the_one_that_forked_is_the_end_of_the_lifeline() -> None:
    program = PROGRAM.format(
        body="""
forked = forks.fork("orphan", life)
print(json.dumps(forked.pid), flush=True)
time.sleep(1000)
"""
    )
    with subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        descriptor = os.pidfd_open(pid)
        assert lives(pid)
        process.kill()
        ended, _, _ = select.select([descriptor], [], [], 20)
        assert ended
        os.close(descriptor)


def test_an_error_of_a_fork_is_heard_and_is_its_end() -> None:
    heard = run(
        """
forked = forks.fork("wrong", lambda: 1 / 0)
words = open(forked.stderr).read()
print(json.dumps([words, os.waitstatus_to_exitcode(os.waitpid(forked.pid, 0)[1])]))
"""
    )
    assert "ZeroDivisionError" in heard[0]
    assert heard[1] == 1


def test_a_fork_that_nobody_took_is_gone_when_it_was_discarded() -> None:
    gone = run(
        """
forked = forks.fork("left", lambda: time.sleep(1000))
forked.discard()
print(json.dumps(os.path.exists(f"/proc/{forked.pid}")))
"""
    )
    assert gone is False


def test_nothing_is_forked_where_another_thread_runs() -> None:
    assert run(
        """
alone = forks.possible()
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
print(json.dumps([alone, forks.possible()]), flush=True)
os._exit(0)
"""
    ) == [True, False]
