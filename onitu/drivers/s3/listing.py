"""What S3 tells of objects: pages of listings, and the headers in which times, modes and digests are kept.

The names are those of other tools where there are any: `x-amz-meta-mtime` (seconds with a fraction) and
`x-amz-meta-mode` (octal) are what rclone writes and reads; s3fs has them too, its mode in decimal.

A BLAKE3 in the metadata is somebody's word, which a tool that edits objects may carry over to other content: so it
names the size, the mtime and, of an object put in one piece, the MD5 that it was told with, and counts only where these
are what the object has.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import stat
from urllib.parse import unquote_plus

import msgspec

from onitu.model.versions import BLAKE3, Kind, Version
from onitu.plug.remote import Thing
from onitu.plug.remote.headers import date_of, size_of

from .client import Answer, Broken, parsed

MTIME = "x-amz-meta-mtime"
MODE = "x-amz-meta-mode"
TOLD = "x-amz-meta-onitu-blake3"

ENCRYPTED = ("x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-aws-kms-key-id")
"""Headers of objects whose ETag is no MD5."""


class Page(msgspec.Struct, frozen=True):
    """One page of a listing: objects (key, ETag, size, last modified in nanoseconds), the prefixes that stand for what
    is below them, and what the next page is asked for with (empty: this was the last)."""

    objects: list[tuple[str, bytes, int, int]]
    prefixes: list[str]
    following: str


def page(body: bytes) -> Page:
    """Raises `Broken`."""
    root = parsed(body)
    if root.tag != "ListBucketResult":  # a page for people, say: nothing is concluded from what is not in it
        raise Broken(f"the answer is no listing of a bucket, but <{root.tag[:50]}>: is that an S3 endpoint?")
    encoded = root.findtext("EncodingType") == "url"
    objects, prefixes = [], []
    for element in root:
        if element.tag == "Contents":
            fields = {field.tag: field.text or "" for field in element}
            key = fields.get("Key", "")
            etag = fields.get("ETag", "").strip('"').encode()
            objects.append(
                (
                    unquote_plus(key) if encoded else key,
                    etag,
                    _size(fields.get("Size", "")),
                    _nanoseconds(fields.get("LastModified", "")),
                )
            )
        elif element.tag == "CommonPrefixes":
            prefix = element.findtext("Prefix", "")
            prefixes.append(unquote_plus(prefix) if encoded else prefix)
    following = root.findtext("NextContinuationToken", "") if root.findtext("IsTruncated") == "true" else ""
    if root.findtext("IsTruncated") == "true" and not following:
        raise Broken("a listing is cut, without a way to go on")
    return Page(objects, prefixes, following)


def _size(text: str) -> int:
    size = size_of(text)
    if size is None:
        raise Broken(f"a listing tells a size that is none: {text[:50]!r}")
    return size


def _nanoseconds(text: str) -> int:
    try:
        return int(datetime.datetime.fromisoformat(text).timestamp()) * 1_000_000_000  # a look tells no fractions
    except (ValueError, OverflowError):
        return 0


def is_md5(etag: bytes) -> bool:
    """Whether an ETag looks like the MD5 of an object put in one piece."""
    return len(etag) == 32 and all(c in b"0123456789abcdef" for c in etag)


def md5_of(etag: bytes) -> dict[str, bytes]:
    """The digest that an ETag is, by name."""
    return {"md5": bytes.fromhex(etag.decode())} if is_md5(etag) else {}


def headers_of(version: Version, md5: str) -> dict[str, str]:
    """The headers that keep what of a version is no content. `md5`: in hexadecimal; empty: the ETag will be none."""
    headers = {}
    if version.mtime:
        headers[MTIME] = seconds(version.mtime)
    if version.mode:
        headers[MODE] = f"{stat.S_IFREG | version.mode:06o}"
    if BLAKE3 in version.digests:
        headers[TOLD] = " ".join(
            [version.digests[BLAKE3].hex(), str(version.size), headers.get(MTIME, "-"), md5 or "-"]
        )
    return headers


def seconds(ns: int) -> str:
    """Nanoseconds as rclone writes them: seconds with nine digits of a fraction."""
    return f"{'-' if ns < 0 else ''}{abs(ns) // 1_000_000_000}.{abs(ns) % 1_000_000_000:09d}"


def thing_of(answer: Answer, md5s: bool) -> Thing:
    """What an answer to HEAD tells. `md5s`: whether ETags are MD5s here. Raises `Broken`."""
    headers, etag = answer.headers, answer.etag
    size = size_of(headers.get("content-length", ""))
    if not etag or size is None:
        raise Broken("the answer does not tell an object's size and ETag: is that an S3 endpoint?")
    modified = date_of(headers.get("last-modified", ""))
    own = md5s and not any(name in headers for name in ENCRYPTED)
    mtime = _mtime(headers.get(MTIME, "")) or int((modified or 0) * 1_000_000_000)
    digests = {**(md5_of(etag) if own else {}), **_told(headers, size, etag)}
    return Thing(Kind.FILE, etag, size, mtime, _mode(headers), digests=digests)


def _told(headers: dict[str, str], size: int, etag: bytes) -> dict[str, bytes]:
    value, *bound = headers.get(TOLD, "").split()[:4] or [""]
    if len(bound) != 3 or bound[0] != str(size) or bound[1] != headers.get(MTIME, "-"):
        return {}
    if bound[2] not in ("-", etag.decode()) and is_md5(etag):
        return {}
    with contextlib.suppress(ValueError):
        digest = bytes.fromhex(value)
        if len(digest) == 32:
            return {BLAKE3: digest}
    return {}


def _mtime(text: str) -> int:
    """What `seconds` wrote, or another tool; 0: nothing, or nonsense."""
    whole, _, fraction = text.strip().partition(".")
    try:
        ns = abs(int(whole or 0)) * 1_000_000_000 + int((fraction[:9] or "0").ljust(9, "0"))
    except ValueError:
        return 0
    return -ns if whole.startswith("-") else ns


def _mode(headers: dict[str, str]) -> int:
    """Permission bits: octal, as rclone writes them, or decimal, as s3fs does; 0: none."""
    text = headers.get(MODE, "")
    with contextlib.suppress(ValueError):
        octal = len(text) == 6 and set(text) <= set("01234567")
        return stat.S_IMODE(int(text, 8 if octal else 10))
    return 0


def md5(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
