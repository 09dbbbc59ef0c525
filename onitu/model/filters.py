"""Filters: which paths and which files of a folder are managed. Pure: no file is looked at.

A pattern is matched from the folder's root, in NFC, character by character, and case counts:

- `*` is any run of characters within one name, `?` one character, `[a-z]` and `[!a-z]` one of a set; `\\`
  takes the next character as it is; `**` as a whole name is any number of directories;
- without a slash (`*.bak`) it names things at any depth; with one at the start or in the middle (`/tmp`,
  `a/b`) only that place; a slash at the end (`Private/`) says that it must be a directory;
- what lies in a directory that matches, matches too.

The blacklist hides whatever it matches. A whitelist that is not empty hides files and links that it does not
match; directories always pass it, so that the way to a file is never hidden. Sizes and MIME types are asked
of files only. The MIME type comes from the name alone, by one fixed table, so that every host decides alike.
"""

from __future__ import annotations

import fnmatch
import functools
import mimetypes
import re
from collections.abc import Iterable

from . import paths
from .settings import Filter
from .sizes import show_size
from .versions import Kind, Version

UNKNOWN_TYPE = "application/octet-stream"
"""The MIME type of a name that tells nothing."""


def hides(hiding: Iterable[Filter], path: bytes, version: Version) -> str | None:
    """Why this version is not managed at this path, by the first of the filters that hides it; None: it is.

    A replica's own directory is hidden without one: that of a replica which lies, or once lay, in this one.
    """
    if paths.is_private(path):
        return "belongs to Onitu itself: to a replica that lies, or once lay, in this one"
    for one in hiding:
        reason = hides_path(one, path, version.kind) or hides_version(one, path, version)
        if reason is not None:
            return reason
    return None


def hides_path(filter: Filter, path: bytes, kind: Kind) -> str | None:
    """Why this path is not managed, as a sentence for people; None: it is, as far as the path tells.

    A tombstone (`Kind.NOTHING`) is judged as a file.
    """
    subject = _subject(path, kind)
    if filter.blacklist and _any(filter.blacklist).match(subject):
        pattern = next(pattern for pattern in filter.blacklist if _one(pattern).match(subject))
        return f"hidden by the pattern {pattern!r} of the blacklist"
    if filter.whitelist and kind is not Kind.DIRECTORY and not _any(filter.whitelist).match(subject):
        return "matches no pattern of the whitelist"
    return None


def hides_version(filter: Filter, path: bytes, version: Version) -> str | None:
    """Why this version is not managed at this path, by its size or MIME type; None: it is.

    Only files have either.
    """
    if version.kind is not Kind.FILE:
        return None
    if version.size < filter.size_min:
        return f"smaller than {show_size(filter.size_min)} ({show_size(version.size)})"
    if filter.size_max is not None and version.size > filter.size_max:
        return f"larger than {show_size(filter.size_max)} ({show_size(version.size)})"
    if not has_mime(filter.mimetypes, path):
        return f"its type {mime_type(path)} is not one of {', '.join(filter.mimetypes)}"
    return None


def matches(pattern: str, path: bytes, kind: Kind) -> bool:
    """Whether one pattern matches, or matches a directory that the path lies in. `/` matches everything."""
    return _one(pattern).match(_subject(path, kind)) is not None


def matches_prefix(pattern: str, path: bytes) -> bool:
    """Whether a rule's path (`/photos/`, or any pattern) matches, whatever kind of thing stands at `path`."""
    return matches(pattern, path, Kind.DIRECTORY)


def has_mime(types: tuple[str, ...], path: bytes) -> bool:
    """Whether the path's MIME type is one of these (`text/plain`, `text/*`, `*/ogg`, `text`); none: yes."""
    return not types or _types(types).match(mime_type(path)) is not None


def mime_type(path: bytes) -> str:
    """The MIME type that the path's last name tells, in lower case."""
    stem, _, extension = paths.name(path).rpartition(b".")
    if not stem:
        return UNKNOWN_TYPE
    return _type_of("." + extension.decode("ascii", "replace").lower())


def check_pattern(pattern: str) -> None:
    """Say what is wrong with a pattern.

    Raises:
        ValueError: it could never match, or means something else than its writer thinks.
    """
    if not pattern.strip():
        raise ValueError("an empty pattern matches nothing")
    if pattern.startswith("!"):
        raise ValueError(f"{pattern!r}: no pattern can be negated; use the whitelist (a name with '!' is '\\!…')")
    names = pattern.strip("/").split("/")
    if any(name in (".", "..") for name in names) or "" in names[1:-1]:
        raise ValueError(f"{pattern!r} can never match: paths have no '.', '..' or empty names")
    if "\0" in pattern:
        raise ValueError(f"{pattern!r} can never match: names have no NUL")


# --- patterns -----------------------------------------------------------------------------------------------


def _subject(path: bytes, kind: Kind) -> str:
    """What the expressions see: the path in NFC, with a slash at its end where a directory stands there."""
    text = paths.key(path).decode("utf-8", "surrogateescape")
    return text + "/" if kind is Kind.DIRECTORY else text


@functools.lru_cache(maxsize=1024)
def _any(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_expression(pattern) for pattern in patterns), re.DOTALL)


@functools.lru_cache(maxsize=1024)
def _one(pattern: str) -> re.Pattern[str]:
    return re.compile(_expression(pattern), re.DOTALL)


def _expression(pattern: str) -> str:
    """The regular expression of a pattern, for `match` on a subject.

    What stands between two `**` is looked for once, at the first place where it fits (an atomic group): a
    later place is never better where a `**` follows, and so no pattern can make the matching slow.
    """
    pattern = paths.key(pattern.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    names = [name for name in pattern.split("/") if name]
    if not names:
        return r".*\Z" if pattern else r"(?!)"
    if "/" not in pattern.rstrip("/"):
        names.insert(0, "**")
    first, *deep = _runs(names)
    expression = first + "".join(f"(?>(?:[^/]+/)*?{run})" for run in deep[:-1])
    if deep:
        expression += f"(?:[^/]+/)*{deep[-1]}" if deep[-1] else ".+/"
    # Each run ends with a slash; the last one's belongs to what lies below, or to a directory itself.
    expression = expression.removesuffix("/")
    return expression + (r"/.*\Z" if pattern.endswith("/") else r"(?:/.*)?\Z")


def _runs(names: list[str]) -> list[str]:
    """The expressions of what stands before, between and after the `**`, each name with a slash after it."""
    runs = [""]
    for name in names:
        if name != "**":
            runs[-1] += _name(name) + "/"
        elif runs[-1] or len(runs) == 1:
            runs.append("")
    return runs


def _name(pattern: str) -> str:
    """The expression for one name; between two stars there is one try only, as between two `**`."""
    runs = [""]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            if runs[-1] or len(runs) == 1:
                runs.append("")
        elif character == "?":
            runs[-1] += "[^/]"
        elif character == "[" and (end := _set_end(pattern, position)) > 0:
            runs[-1] += _set(pattern[position:end])
            position = end + 1
        elif character == "\\" and position < len(pattern):
            runs[-1] += re.escape(pattern[position])
            position += 1
        else:
            runs[-1] += re.escape(character)
    first, *starred = runs
    expression = "(?=[^/])" + first
    if starred:
        expression += "".join(f"(?>[^/]*?{run})" for run in starred[:-1]) + f"[^/]*{starred[-1]}"
    return expression


def _set_end(pattern: str, start: int) -> int:
    """Where the set that begins at `start` has its `]`; 0: nowhere, so its `[` is an ordinary character."""
    first = start + 1 if pattern[start : start + 1] in ("!", "^") else start
    # A `]` that comes first is a member.
    return max(pattern.find("]", first + 1), 0)


def _set(members: str) -> str:
    negated = members[0] in "!^"
    body = members[1:] if negated else members
    ranges = []
    while body:
        if len(body) >= 3 and body[1] == "-":
            low, high, body = body[0], body[2], body[3:]
            if low <= high:
                ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append(re.escape(body[0]))
            body = body[1:]
    if not ranges:
        return "[^/]" if negated else "(?!)"
    return f"[^/{''.join(ranges)}]" if negated else f"(?!/)[{''.join(ranges)}]"


# --- MIME types ---------------------------------------------------------------------------------------------

_COMMON = {
    ".7z": "application/x-7z-compressed",
    ".aac": "audio/aac",
    ".avif": "image/avif",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".epub": "application/epub+zip",
    ".flac": "audio/flac",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".ics": "text/calendar",
    ".jpg": "image/jpeg",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".odg": "application/vnd.oasis.opendocument.graphics",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/opus",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".rar": "application/vnd.rar",
    ".rtf": "application/rtf",
    ".toml": "application/toml",
    ".wav": "audio/x-wav",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
"""Types that not every Python's table has, or has the same."""

_COMPRESSED = {
    ".br": "application/x-brotli",
    ".bz2": "application/x-bzip2",
    ".gz": "application/gzip",
    ".lz4": "application/x-lz4",
    ".tgz": "application/gzip",
    ".txz": "application/x-xz",
    ".tbz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".z": "application/x-compress",
    ".zst": "application/zstd",
}


@functools.lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    # A fresh MimeTypes has Python's built-in table only; the module's functions would read the host's files.
    return {**mimetypes.MimeTypes().types_map[True], **_COMMON, **_COMPRESSED}


@functools.lru_cache(maxsize=4096)
def _type_of(extension: str) -> str:
    return _table().get(extension, UNKNOWN_TYPE)


@functools.lru_cache(maxsize=256)
def _types(types: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(whole_type(type)) for type in types))


def whole_type(type: str) -> str:
    """A MIME type or pattern in its full form: `Audio` and `audio/` mean `audio/*`."""
    type = type.strip().lower()
    if "/" not in type:
        type += "/"
    return type + "*" if type.endswith("/") else type
