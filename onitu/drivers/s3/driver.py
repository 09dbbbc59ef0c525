"""`S3Driver`: its buckets, and the life of their clients."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from onitu.model.errors import Unavailable
from onitu.plug.remote import RemoteDriver

from .bucket import Bucket
from .client import Client, Keys
from .credentials import Credentials
from .options import S3Options
from .remote import S3Remote
from .uploads import AT_ONCE, Uploads


class S3Driver(RemoteDriver):
    """Amazon S3 and services that speak its language: a bucket, or a prefix in one."""

    Options = S3Options
    options: S3Options
    schemes = ("s3",)

    def __init__(self, service: str, options: Any, roots: Any) -> None:
        super().__init__(service, options, roots)
        self._remotes: dict[str, S3Remote] = {}
        keys = Keys(self.options.access_key, self.options.secret_key, self.options.session_token)
        self._credentials = Credentials(service, self.options.profile, keys)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for remote in self._remotes.values():
                remote.client.close()
            self._remotes.clear()

    def remote(self, folder: str) -> S3Remote:
        if folder not in self._remotes:
            self._remotes[folder] = self._make(folder)
        return self._remotes[folder]

    def identity_of(self, token: bytes) -> bytes | None:
        """An ETag is the content's own, or the object's."""
        return token if token[:1] == b"=" and len(token) > 32 else None

    def _make(self, folder: str) -> S3Remote:
        root = self.roots[folder].removeprefix("s3://").strip("/")
        bucket, prefix = (self.options.bucket, root) if self.options.bucket else _split(root)
        if not bucket:
            raise Unavailable(f"{self.service}: {self.roots[folder]!r} names no bucket")
        configured = self._credentials.configured()
        connections = self.options.connections or S3Remote.concurrency
        client = Client(
            self.service,
            bucket,
            self.options.endpoint or configured.endpoint,
            self.options.region or configured.region or "us-east-1",
            self._credentials.keys,
            connections + AT_ONCE,
            self.options.timeout,
            configured.ca,
            self.count,
        )
        notes = os.path.join(os.path.dirname(self._spooling().directory), "uploads")
        uploads = Uploads(client, notes)
        objects = Bucket(client, f"{prefix}/" if prefix else "")
        return S3Remote(objects, uploads, self.options.md5, self.look_only)


def _split(root: str) -> tuple[str, str]:
    bucket, _, prefix = root.partition("/")
    return bucket, prefix.strip("/")
