"""A child that behaves as its first argument says: `beat`, `crash`, `mute`, `fatal`, `deaf`, `slow`, `once FILE`,
`note FILE NAME`, `part FILE NAME`.
`charter HOW…` is as HOW once it has its charter, as real children are.

Only the standard library, so that it starts fast. It ends with its lifeline, as every child does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time


def lifeline() -> None:
    while os.read(0, 65536):
        pass
    os._exit(0)


def beat_for_ever() -> None:
    while True:
        os.write(1, b".")
        time.sleep(0.05)


def main(how: str, *more: str) -> None:
    if how == "charter":
        if os.read(0, 65536):
            main(*more)
        return
    print(f"I am {how}", file=sys.stderr, flush=True)
    threading.Thread(target=lifeline, daemon=True).start()
    if how == "crash":
        sys.exit(3)
    if how == "fatal":
        print("the schema is of another world", file=sys.stderr, flush=True)
        sys.exit(78)
    if how == "once" and not os.path.exists(more[0]):
        sys.exit(4)  # as long as FILE is not there
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how == "note":
        # Writes its name to FILE when it is asked to end.
        def ended(*_: object) -> None:
            with open(more[0], "a") as file:
                file.write(f"{more[1]}\n")
            time.sleep(0.1)
            os._exit(0)

        signal.signal(signal.SIGTERM, ended)
    if how == "part":
        # Says farewell when it is asked to end, and is at its end only when somebody else has noted his.
        def parted(*_: object) -> None:
            os.write(1, b"!")
            while not os.path.exists(more[0]):
                time.sleep(0.01)
            with open(more[0], "a") as file:
                file.write(f"{more[1]}\n")
            os._exit(0)

        signal.signal(signal.SIGTERM, parted)
    if how == "parent":
        # Starts a child of its own that knows no lifeline.
        import subprocess

        grandchild = subprocess.Popen(["sleep", "1000"])
        with open(more[0], "w") as file:
            file.write(str(grandchild.pid))
    if how == "mute":
        time.sleep(1000)
    beat_for_ever()


if __name__ == "__main__":
    main(*sys.argv[1:])
