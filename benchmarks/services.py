"""Services in the network: a first copy to each of them, and once more with nothing to do, beside rclone.

    python -m benchmarks.services [--services sftp,s3,webdav] [--files 1000] [--large 500] [--rounds 3]

`onitu sync`, `rclone sync` and `rclone bisync`, each as its users have it without a setting, take turns on the same
servers on loopback: OpenSSH's sshd, SeaweedFS and Apache's mod_dav. (But for one, in rclone's favour: over SFTP it does
not run `md5sum` on the server for each file, which takes it many times as long.) Who begins changes with the round.
Every copy is compared with the original byte by byte; one that differs ends the benchmark. The result is Markdown on
standard output: medians, of which the ratios are what counts; in brackets the processor time of the command, all its
processes together, which a busy machine changes less. It needs a checkout, `pip install -e '.[test]'`, and the servers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from tests.servers import s3, sftp, webdav

from .processes import environment

KIBI, MEBI = 1 << 10, 1 << 20
SMALL = 64 * KIBI
"""Bytes of each of many files."""
IN_DIRECTORY = 50
ONITU, SYNC, BISYNC = "onitu sync", "rclone sync", "rclone bisync"
RCLONE = Path(sys.executable).parent / "rclone"
TREES = "many", "large"


@attrs.frozen
class Place:
    """Somewhere on a server.

    Attributes:
        url: as `onitu sync` takes it.
        remote: as rclone takes it.
        files: what stands there now, content by path.
    """

    url: str
    remote: str
    files: Callable[[], Iterator[tuple[str, bytes]]]


@attrs.frozen
class Service:
    """A server that runs. `rclone`: its section of rclone's configuration; `place`: makes a new, empty place."""

    rclone: Mapping[str, object]
    place: Callable[[str], Place]


def on_disk(root: Path) -> Iterator[tuple[str, bytes]]:
    """The files below a directory; Onitu's own do not count."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and name.parts[0] != ".onitu":
            yield str(name), path.read_bytes()


@contextlib.contextmanager
def by_sftp(place: Path) -> Iterator[Service]:
    with sftp.sshd() as server:
        keys = f"Host *\n  IdentityFile {server.home}/key\n  UserKnownHostsFile {server.home}/known\n"
        (server.home / "config").write_text(keys)

        def new(name: str) -> Place:
            root = server.root / name
            root.mkdir()
            url = f"sftp://127.0.0.1:{server.port}{root}?config={server.home}/config"
            return Place(url, f"there:{root}", lambda: on_disk(root))

        known: dict[str, object] = {"key_file": server.home / "key", "known_hosts_file": server.home / "known"}
        known |= {"disable_hashcheck": "true"}
        user = pwd.getpwuid(os.geteuid()).pw_name
        yield Service({"type": "sftp", "host": "127.0.0.1", "port": server.port, "user": user, **known}, new)


@contextlib.contextmanager
def by_s3(place: Path) -> Iterator[Service]:
    with s3.seaweedfs(place) as server:
        client = s3.user(server)

        def new(name: str) -> Place:
            client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="first", Body=b"for which SeaweedFS makes volumes, which takes time")
            client.delete_object(Bucket=name, Key="first")
            pages = client.get_paginator("list_objects_v2")

            def files() -> Iterator[tuple[str, bytes]]:
                found = [each["Key"] for page in pages.paginate(Bucket=name) for each in page.get("Contents", ())]
                for key in sorted(found):
                    if not key.endswith("/") and not key.startswith(".onitu/"):
                        yield key, client.get_object(Bucket=name, Key=key)["Body"].read()

            return Place(f"s3://{name}?endpoint={server.url}", f"there:{name}", files)

        keys = {"access_key_id": s3.ACCESS, "secret_access_key": s3.SECRET}
        yield Service({"type": "s3", "provider": "SeaweedFS", "endpoint": server.url, **keys}, new)


@contextlib.contextmanager
def by_webdav(place: Path) -> Iterator[Service]:
    with webdav.apache() as server:
        where = f"127.0.0.1:{server.port}/open"

        def new(name: str) -> Place:
            root = server.root / name
            root.mkdir()
            server.own(root)
            return Place(f"dav://{where}/{name}", f"there:{name}", lambda: on_disk(root))

        yield Service({"type": "webdav", "url": f"http://{where}", "vendor": "other"}, new)


SERVICES = {"sftp": by_sftp, "s3": by_s3, "webdav": by_webdav}


@attrs.define
class Contest:
    """The sources, and who took how long.

    Attributes:
        root: where everything is; the sources are its directories `many` and `large`.
        took: seconds, and those of processor time, by service, tree, whether it was the first time, and contestant: one
            pair for each round.
    """

    root: Path
    took: dict[tuple[str, str, bool, str], list[tuple[float, float]]] = attrs.field(factory=dict)

    def make(self, files: int, large: int) -> None:
        """The sources: so many small files; one of so many MiB."""
        chance = random.Random(1)  # noqa: S311 (the same each time)
        for number in range(files):
            path = self.root / "many" / f"part {number // IN_DIRECTORY:02}" / f"file {number:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(SMALL))
        (self.root / "large").mkdir()
        with (self.root / "large" / "file.bin").open("wb") as file:
            for _ in range(large):
                file.write(chance.randbytes(MEBI))

    def round(self, kind: str, number: int, trees: Sequence[str]) -> None:
        """Everybody once, on a new server."""
        for tree in trees:
            home = self.root / "server"
            home.mkdir()
            with SERVICES[kind](home) as service:
                for turn in range(3):
                    self._take_turn(kind, service, tree, (ONITU, SYNC, BISYNC)[(number + turn) % 3])
            shutil.rmtree(home)

    def _take_turn(self, kind: str, service: Service, tree: str, who: str) -> None:
        source, home = self.root / tree, self.root / "home"
        place = service.place(f"{who.replace(' ', '-')}-{tree}")
        home.mkdir()
        configuration = home / "rclone.conf"
        configuration.write_text("[there]\n" + "".join(f"{k} = {v}\n" for k, v in service.rclone.items()))
        rclone = [str(RCLONE), "--config", str(configuration), "--cache-dir", str(home), who.partition(" ")[2]]
        for first in (True, False):
            if who == ONITU:
                command = [
                    sys.executable,
                    "-m",
                    "onitu",
                    "sync",
                    str(source),
                    place.url,
                    "--state",
                    str(home / "state"),
                ]
            else:
                command = [*rclone, str(source), place.remote]
            if who == BISYNC:
                command += ["--workdir", str(home / "bisync"), *(["--resync"] if first else [])]
            os.sync()  # what the one before left to be written is not this one's time
            seconds, processor = timed(command)
            self.took.setdefault((kind, tree, first, who), []).append((seconds, processor))
            told = (
                f"{kind}, {tree}, {'first' if first else 'again'}: {who} {seconds:.2f} s, processor {processor:.2f} s"
            )
            print(told, file=sys.stderr, flush=True)
            check(source, place)
        shutil.rmtree(home)
        shutil.rmtree(source / ".onitu", ignore_errors=True)


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds that a command takes, which must be a success, and seconds of processor time of all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=environment(), check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check(source: Path, place: Place) -> None:
    """Compare a copy with the original, byte by byte."""
    missing = {name for name, _ in on_disk(source)}
    for name, content in place.files():
        if name not in missing or (source / name).read_bytes() != content:
            raise SystemExit(f"the copy is not the original: {name} at {place.remote}")
        missing.discard(name)
    if missing:
        raise SystemExit(f"the copy is not the original: {len(missing)} files are missing at {place.remote}")


def table(contest: Contest, words: Mapping[str, str]) -> list[str]:
    """The medians, and Onitu's beside the others'."""
    lines = [f"| | {ONITU}, s | {SYNC}, s | {BISYNC}, s | ÷ {SYNC} | ÷ {BISYNC} |", "| --- |" + " ---: |" * 5]
    for kind, tree, first, who in contest.took:
        if who != ONITU:
            continue
        medians = [
            [statistics.median(each) for each in zip(*contest.took[kind, tree, first, name], strict=True)]
            for name in (ONITU, SYNC, BISYNC)
        ]
        (ours, _), *theirs = medians
        seconds = " | ".join(f"{each:.2f} ({processor:.2f})" for each, processor in medians)
        ratios = " | ".join(f"{ours / each:.2f}" for each, _ in theirs)
        lines.append(f"| {kind}, {words[tree]}, {'first' if first else 'nothing to do'} | {seconds} | {ratios} |")
    return lines


def main() -> None:
    """Run it and print the result."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.services", description=__doc__.splitlines()[0])
    words.add_argument("--services", default=",".join(SERVICES), help="which (default: %(default)s)")
    words.add_argument("--trees", default=",".join(TREES), help="which (default: %(default)s)")
    words.add_argument("--files", type=int, default=1000, help="small files (default: %(default)s)")
    words.add_argument("--large", type=int, default=500, help="MiB of the large file (default: %(default)s)")
    words.add_argument("--rounds", type=int, default=3, help="turns of everybody (default: %(default)s)")
    words.add_argument("--directory", default=None, help="where everything is made (default: the temporary directory)")
    given = words.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": s3.ACCESS, "AWS_SECRET_ACCESS_KEY": s3.SECRET}
    with tempfile.TemporaryDirectory(prefix="onitu-bench-", dir=given.directory) as directory:
        contest = Contest(Path(directory))
        contest.make(given.files, given.large)
        for number in range(given.rounds):
            for kind in given.services.split(","):
                contest.round(kind, number, given.trees.split(","))
        named = {"many": f"{given.files:,} files of {SMALL // KIBI} KiB", "large": f"one file of {given.large} MiB"}
        print("\n".join(table(contest, named)))


if __name__ == "__main__":
    main()
