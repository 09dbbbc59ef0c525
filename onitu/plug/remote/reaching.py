"""Why a service in the network is not reached, as a sentence: the same words in every driver that opens sockets."""

from __future__ import annotations

import socket
import ssl

from onitu.model.errors import Unavailable

from .interface import Lost

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE")
"""What OpenSSL calls an answer that is none of TLS's."""


def unreached(error: BaseException, where: str) -> Unavailable | Lost | None:
    """What kept a connection from being opened, as the interface has it; None: something else.

    Args:
        error: what a socket raised, or a library because of it.
        where: host and port, for people.
    """
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                reason = cause.verify_message or "nobody known vouches for it"
                return Unavailable(f"the certificate of {where} is not trusted: {reason}")
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                return None  # a connection that was cut
            case ssl.SSLError() if cause.reason in _NO_TLS:
                return Lost(f"{where} does not speak TLS there")
            case ssl.SSLError():
                return Lost(f"{where} does not speak TLS as it should: {cause.reason or cause}")
            case socket.gaierror():
                return Lost(f"the host of {where} is not known: {cause.strerror}")
            case ConnectionRefusedError():
                return Lost(f"nothing listens at {where}")
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it came of, outermost first; of several at once the first."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        if isinstance(following, BaseExceptionGroup):
            following = following.exceptions[0]
        else:
            following = following.__cause__ or following.__context__
    return found
