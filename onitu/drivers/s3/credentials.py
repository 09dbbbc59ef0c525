"""Keys, region and endpoint, from where every tool of Amazon's finds them.

botocore knows those places, but takes longer to load than the rest of a run that has nothing to do: where there is
nothing but the environment, it is not asked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from onitu.model.errors import Unavailable

from .client import Keys

if TYPE_CHECKING:
    import botocore.session

_FILES = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))


class Configured(msgspec.Struct, frozen=True):
    """What is configured outside of Onitu; empty: nothing. `ca`: a file with certificates that are trusted."""

    endpoint: str = ""
    region: str = ""
    ca: str = ""


class Credentials(msgspec.Struct):
    """Those of one service. `profile`, `given`: from its options; empty: none."""

    service: str
    profile: str
    given: Keys
    _session: botocore.session.Session | None = None
    _found: Any = None

    def configured(self) -> Configured:
        """Raises `Unavailable`."""
        ask = os.environ.get
        endpoint, region = ask("AWS_ENDPOINT_URL_S3") or ask("AWS_ENDPOINT_URL", ""), ask("AWS_REGION", "")
        if self._only_environment():
            return Configured(endpoint, region or ask("AWS_DEFAULT_REGION", ""), ask("AWS_CA_BUNDLE", ""))
        from botocore.exceptions import BotoCoreError

        try:
            session = self._sessions()
            return Configured(
                endpoint or str(session.get_scoped_config().get("endpoint_url", "")),
                region or session.get_config_variable("region") or "",
                session.get_config_variable("ca_bundle") or "",
            )
        except BotoCoreError as error:
            raise Unavailable(f"{self.service}: {error}") from error

    def keys(self) -> Keys:
        """What requests are signed with now: temporary keys are renewed. Blocks. Raises `Unavailable`."""
        if self.given.access:
            return self.given
        access, secret = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        if access and secret and self._only_environment():
            return Keys(access, secret, os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN", ""))
        from botocore.exceptions import BotoCoreError

        try:
            if self._found is None:
                self._found = self._sessions().get_credentials()
            if self._found is None:
                raise Unavailable(
                    f"{self.service}: there are no credentials: neither in the configuration (access_key, secret_key),"
                    " nor in AWS_ACCESS_KEY_ID, nor in ~/.aws/credentials"
                )
            frozen = self._found.get_frozen_credentials()
        except BotoCoreError as error:
            raise Unavailable(f"{self.service}: {error}") from error
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or "")

    def _only_environment(self) -> bool:
        """Whether there is no profile, and no file that could have one."""
        if self.profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE"):
            return False
        files = (os.environ.get(variable) or usual for variable, usual in _FILES)
        return not any(os.path.exists(os.path.expanduser(file)) for file in files)

    def _sessions(self) -> botocore.session.Session:
        if self._session is None:
            import botocore.session

            self._session = botocore.session.Session(profile=self.profile or None)
        return self._session
