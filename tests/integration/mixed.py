"""A folder on four kinds of service: a disk, an sshd, a bucket and a WebDAV server, with users on all of them."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import botocore.exceptions

from onitu.testing import users
from onitu.testing.hands import Deed, Hands
from onitu.testing.spec import Item, Tree
from onitu.testing.spec.trees import Kind
from onitu.testing.users import Habit, User, tree
from onitu.testing.values import Values, name_of
from tests.servers.s3 import ACCESS, SECRET, Bucket, Ill, make_bucket, seaweedfs
from tests.servers.sftp import Proxy, carrying, proxied, sshd
from tests.servers.webdav import Served, apache

from .accounts import SEED

FILES = [f"f{n}" for n in range(12)]
PACE = 0.03
"""Seconds between two deeds of a user. (Apache's ETags are made of times and sizes: two files of one size that were
written within one tick of the kernel's clock have the same.)"""
TOLD = "412", "PreconditionFailed", "404", "NoSuchKey"

WHOLE: dict[Habit, float] = {users.save: 8.0, users.delete: 1.0, users.recreate: 1.0}


@attrs.define
class Putting:
    """What a user of a bucket can do, as `Hands`: each deed on the condition that what it saw still stands there, so
    that it is known what it replaced. `root`: names the replica."""

    user: str
    root: Path
    bucket: Bucket
    random: random.Random
    largest: int = 20_000
    deeds: list[Deed] = attrs.field(factory=list)
    values: Values = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.values = Values(self.user, self.random, self.largest)

    def close(self) -> None:
        """There is nothing to let go of."""

    def exchange(self, path: str) -> None:
        """Write a new value over what stands there. Raises `FileNotFoundError` where nothing does, and `OSError`
        (ESTALE) where it became something else meanwhile."""
        etag, old = self._look(path)
        value = self.values.frame()
        self._act("put_object", path, Body=value, IfMatch=etag)
        self._note("exchange", path, name_of(value), old)

    def create(self, path: str) -> None:
        """Write a new value where nothing stands. Raises `OSError` (ESTALE) where something does."""
        value = self.values.frame()
        self._act("put_object", path, Body=value, IfNoneMatch="*")
        self._note("create", path, name_of(value))

    def delete(self, path: str) -> None:
        """Delete what stands there. Raises as `exchange`."""
        etag, old = self._look(path)
        self._act("delete_object", path, IfMatch=etag)
        self._note("delete", path, None, old)

    def _look(self, path: str) -> tuple[str, str]:
        """Its ETag, and the name of its value."""
        found = self._act("get_object", path)
        return found["ETag"], name_of(found["Body"].read())

    def _act(self, what: str, path: str, **fields: object) -> dict[str, object]:
        key = f"{self.bucket.path}/{path}".partition("/")[2]
        try:
            act: Callable[..., dict[str, object]] = getattr(self.bucket.client, what)
            return act(Bucket=self.bucket.path.partition("/")[0], Key=key, **fields)
        except botocore.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in TOLD:
                raise
            number = errno.ENOENT if what == "get_object" else errno.ESTALE
            raise OSError(number, os.strerror(number), path) from error

    def _note(self, did: str, path: str, value: str | None, *replaced: str) -> None:
        self.deeds.append(Deed(self.user, len(self.deeds) + 1, did, path, value, replaced, at=time.monotonic()))


@attrs.define
class Owned(Hands):
    """Hands on a directory that another account serves: what they make is given to it."""

    served: Served | None = None

    def _scrap(self) -> tuple[Path, str]:
        scrap, value = super()._scrap()
        assert self.served is not None
        self.served.own(scrap)
        return scrap, value


@attrs.define
class Four:
    """The replicas of the folder: three directories, of which two are served, and the bucket.

    Attributes:
        place: where the state and the configuration are.
        here, nas, dav: the directories.
        cloud: the prefix in the bucket.
        served: who serves `dav`.
        proxies: by service, what Onitu's connections to it go through.
    """

    place: Path
    here: Path
    nas: Path
    dav: Path
    cloud: Bucket
    served: Served
    proxies: dict[str, Proxy]

    @property
    def state(self) -> Path:
        return self.place / "state"

    @property
    def configuration(self) -> Path:
        return self.place / "onitu.yml"

    def trees(self) -> dict[str, Tree]:
        """What stands on each of them."""
        bucket = self.cloud.tree()
        found = {
            os.fsdecode(path): Item(Kind.DIRECTORY) if data is None else Item(Kind.FILE, name_of(data) or "empty")
            for path, data in bucket.items()
        }
        # Directories carry no value: only those with something in them are compared.
        above = {str(parent) for path, item in found.items() if item.value for parent in Path(path).parents}
        told = {path: item for path, item in found.items() if item.value or path in above}
        return {**{root.name: tree(root) for root in (self.here, self.nas, self.dav)}, "cloud": told}

    def crowd(self, storm: str) -> tuple[list[User], User]:
        """The users who are always at work, and the one on the WebDAV server's disk."""
        seed = f"{storm} {SEED}"
        everything = dict(users.EVERYTHING)
        here = User.at(
            self.here, "here", FILES, seed=seed, habits=everything, own=["here's"], pace=PACE, largest=20_000
        )
        nas = User.at(self.nas, "nas", FILES, seed=seed, habits=WHOLE, own=["nas's"], pace=PACE, largest=20_000)
        chance = random.Random(f"{seed} cloud")
        putting = Putting("cloud", Path("cloud"), self.cloud, chance)
        cloud = User(putting, chance, FILES, WHOLE, pace=PACE, usual=users.USUAL | {errno.ESTALE})  # type: ignore[arg-type]
        scratch = self.dav.parent / ".dav-scratch"
        scratch.mkdir()
        chance = random.Random(f"{seed} dav")
        hands = Owned("dav", self.dav, scratch, chance, 20_000, served=self.served)
        return [here, nas, cloud], User(hands, chance, ["dav's", "dav's too"], WHOLE, pace=PACE)


@contextlib.contextmanager
def four_services(place: Path) -> Iterator[Four]:
    """The servers run for the block; everything of theirs and ours is below `place`, and so is the configuration."""
    (place / "store").mkdir()
    with (
        seaweedfs(place / "store") as store,
        sshd() as server,
        apache() as served,
        contextlib.ExitStack() as stack,
    ):
        make_bucket(store)
        ill = Ill(store)
        roots = [place / "here", server.root / "nas", served.root / "dav"]
        for root in roots:
            root.mkdir()
        served.own(roots[2])
        cloud = Bucket(store, ill, "bucket", "cloud")
        proxies = {
            "nas": stack.enter_context(proxied(server)),
            "cloud": stack.enter_context(carrying(urlsplit(store.url).port or 0)),
            "dav": stack.enter_context(carrying(served.port)),
        }
        ports = {name: proxy.port for name, proxy in proxies.items()}
        found = Four(place, *roots, cloud, served, proxies)
        secrets = place / "secret"
        secrets.write_text(SECRET)
        fast = "poll: 0.2, poll_most: 0.5"
        reached = (
            f"host: 127.0.0.1, port: {ports['nas']}, identity: {server.home}/key, known_hosts: {server.home}/known"
        )
        found.configuration.write_text(
            f"state: {found.state}\nfolders: {{docs: {{}}}}\nservices:\n"
            f"  here: {{driver: local, folders: {{docs: {found.here}}}}}\n"
            f"  nas: {{driver: sftp, options: {{{reached}, config: none, {fast}}}, folders: {{docs: {found.nas}}}}}\n"
            f"  cloud: {{driver: s3, options: {{endpoint: 'http://127.0.0.1:{ports['cloud']}', access_key: {ACCESS}, "
            f"secret_key: 'file:{secrets}', {fast}}}, folders: {{docs: bucket/cloud}}}}\n"
            f"  dav: {{driver: webdav, options: {{url: 'http://127.0.0.1:{ports['dav']}/open', {fast}}}, "
            f"folders: {{docs: dav}}}}\n"
        )
        yield found
        ill.close()
