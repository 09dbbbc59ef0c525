"""`WebdavDriver`: the life of its client."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Mapping

import trio

from onitu.model.errors import Unavailable
from onitu.plug.netrc import netrc_of
from onitu.plug.remote import RemoteDriver
from onitu.plug.remote.http import httpx

from .client import Client, Credentials
from .collection import Collection
from .options import WebdavOptions
from .probing import Able
from .remote import WebdavRemote

KINDS = ("auto", "basic", "digest")


class WebdavDriver(RemoteDriver):
    """A WebDAV server: Nextcloud, ownCloud, Apache, rclone and others."""

    Options = WebdavOptions
    options: WebdavOptions
    schemes = ("dav", "davs")

    def __init__(self, service: str, options: Mapping[str, str | int | float | bool], roots: Mapping[str, str]) -> None:
        super().__init__(service, options, roots)
        self._client: Client | None = None
        self.known: dict[str, Able] = {}
        """What was found out about the roots, by their URLs: each is tried once in a life."""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            client, self._client = self._client, None
            if client is not None:
                with trio.move_on_after(5, shield=True):
                    await client.close()

    def remote(self, folder: str) -> WebdavRemote:
        base = self._base()
        if self._client is None:
            who, trusted = self._credentials(base), self._trusted(base)
            self._client = Client(self.service, who, self.connections, trusted, self.count)
        root = self.roots[folder].strip("/")
        collection = Collection(self._client, base)
        url = collection.at(os.fsencode(root), slash=True)
        return WebdavRemote(Collection(self._client, url), self.known, self.options.part, self.look_only)

    @property
    def connections(self) -> int:
        return self.options.connections or WebdavRemote.concurrency

    def _base(self) -> httpx.URL:
        try:
            url = httpx.URL(self.options.url)
        except httpx.InvalidURL as error:
            raise Unavailable(f"{self.service}: `url` is no URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
            raise Unavailable(f"{self.service}: `url` has to be as https://host/path")
        if url.userinfo:
            raise Unavailable(f"{self.service}: user and password do not belong into `url`, but beside it")
        return url.copy_with(raw_path=url.raw_path.rstrip(b"/") + b"/")

    def _credentials(self, url: httpx.URL) -> Credentials:
        asked = self.options
        if asked.authentication not in KINDS:
            raise Unavailable(f"{self.service}: `authentication` is one of {', '.join(KINDS)}")
        user, password = asked.user, asked.password
        if not (asked.token or password):
            found = netrc_of(url.host, user)
            user, password = found if found[0] else (user, password)
        return Credentials(user, password, asked.token, asked.authentication)

    def _trusted(self, url: httpx.URL) -> ssl.SSLContext | bool:
        if url.scheme == "http":
            return False
        try:
            return ssl.create_default_context(cafile=self.options.certificates or None)
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(f"{self.service}: {self.options.certificates} has no certificates: {error}") from None
