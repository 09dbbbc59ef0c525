"""What the errors of S3 mean, as those of a remote."""

from __future__ import annotations

import http.client
import ssl

from onitu.model.errors import Unavailable
from onitu.model.events import Trouble
from onitu.plug.driver import Refused
from onitu.plug.remote import Busy, Changed, Lost, Missing, unreached
from onitu.plug.remote.headers import wait_of

from .client import Broken, Client, Failed

LOGIN = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token has to be renewed",
    "AccountProblem": "there is a problem with the account",
    "AllAccessDisabled": "all access to it is disabled",
    "RequestTimeTooSkewed": "the clocks of this host and of the service differ too much",
}
"""Codes that say that nothing can be done with these credentials."""
FULL = ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge", "StorageLimitExceeded")
AGAIN = ("SlowDown", "RequestTimeout", "InternalError", "OperationAborted", "ConditionalRequestConflict", "Throttling")
DAMAGED = ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody")


def meaning(error: Exception, client: Client) -> Exception | None:
    """None: nothing that is S3's."""
    match error:
        case Failed():
            return _refusal(error, client)
        case Broken():
            return Busy(str(error))
        case TimeoutError():
            return Busy(f"{client.shown} does not answer")
        case OSError() | http.client.HTTPException():
            if (found := unreached(error, client.shown)) is not None:
                return found
            if isinstance(error, ConnectionError | ssl.SSLEOFError | http.client.HTTPException):
                return Busy(f"{client.shown} closed the connection")
            return Lost(f"{client.shown} is not reached: {error.strerror or error}")
        case _:
            return None


def _refusal(error: Failed, client: Client) -> Exception:
    code, status = error.code, error.status
    bucket = f"{client.service}: the bucket {client.bucket} on {client.shown}"
    if code in LOGIN:
        return Unavailable(f"{bucket} cannot be used: {LOGIN[code]}")
    if code == "NoSuchBucket":
        return Unavailable(f"{client.service}: there is no bucket {client.bucket} on {client.shown}")
    if status in (301, 307) or code == "AuthorizationHeaderMalformed":
        region = error.answer.headers.get("x-amz-bucket-region", "another one")
        return Unavailable(f"{bucket} is not in the region {client.region}, but in {region}")
    if code in FULL or status == 507:
        return Refused(Trouble.NO_SPACE, "the service has no room for it")
    if code in AGAIN or status in (429, 500, 502, 503, 504):
        slow = code in ("SlowDown", "Throttling") or status in (429, 503)
        said = error.message or ("the service asks to slow down" if slow else _said(error))
        return Busy(said, wait_of(error.answer.headers.get("retry-after", "")))
    if code in DAMAGED:
        return Busy("it was damaged on its way")
    if code == "KeyTooLongError":
        return Refused(Trouble.NAME_IMPOSSIBLE, "its key is too long")
    if code == "InvalidObjectState":
        return Refused(Trouble.DENIED, "it is archived, and has to be restored there first")
    if status == 404:
        return Missing()
    if status in (409, 412):
        return Changed() if error.conditional else Busy(_said(error))
    if status == 401 or (status == 403 and code not in ("", "AccessDenied")):
        return Unavailable(f"{bucket} cannot be used: {_said(error)}")
    if status == 403:
        return Refused(Trouble.DENIED, "permission denied")
    return Refused(Trouble.IO, _said(error))


def _said(error: Failed) -> str:
    return error.message or error.code or f"the answer was {error.status}"
