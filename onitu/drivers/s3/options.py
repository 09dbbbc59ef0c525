"""What may be said of a bucket, in a configuration or by a URL."""

from __future__ import annotations

import attrs

from onitu.model.errors import ConfigurationError
from onitu.plug.options import RemoteOptions, option
from onitu.plug.urls import Address, Url


@attrs.frozen(kw_only=True)
class S3Options(RemoteOptions):
    """What an S3 service needs to be told."""

    endpoint: str = option("", help="URL of the service; left out: Amazon's own, or AWS_ENDPOINT_URL")
    region: str = option("", help="the bucket's region; left out: AWS_REGION, the profile's, or what the service tells")
    bucket: str = option("", help="the bucket; left out: the replica's path begins with it")
    profile: str = option("", help="profile in ~/.aws/config and ~/.aws/credentials; left out: AWS_PROFILE, or default")
    access_key: str = option("", help="access key; left out: AWS_ACCESS_KEY_ID, the profile, or the machine's role")
    secret_key: str = option("", help="secret key that belongs to access_key", secret=True)
    session_token: str = option("", help="session token of temporary keys", secret=True)
    timeout: float = option(30.0, help="seconds after which a connection on which nothing moves is given up")
    md5: bool = option(True, help="whether ETags are MD5s where they look so; not with SSE-KMS or SSE-C of others")

    @classmethod
    def from_url(cls, url: str) -> Address:
        """`s3://BUCKET/PREFIX?endpoint=URL&region=NAME&profile=NAME`, with `ACCESS_KEY:SECRET_KEY@` before the bucket
        where the keys are in none of the usual places."""
        parts = Url.parse(url)
        parts.no_query("endpoint", "region", "profile")
        if not parts.host or parts.port:
            raise ConfigurationError([f"{parts.shown}: a bucket is missing: s3://BUCKET/PREFIX"])
        options: dict[str, str | int | float | bool] = {**parts.query}
        if parts.user:
            options["access_key"] = parts.user
            if parts.password:
                options["secret_key"] = parts.password
        asks = ("secret_key",) if parts.user and not parts.password else ()
        bucket = url.partition("://")[2].rpartition("@")[2] if "@" in url.partition("?")[0] else url.partition("://")[2]
        name = bucket.partition("/")[0].partition("?")[0]
        return Address(options, name + parts.path.rstrip("/"), name, asks)
