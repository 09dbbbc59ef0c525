"""The values that both a folder and a replica may have: names, modes, conflict policies, filters."""

from __future__ import annotations

from collections.abc import Mapping

from onitu.model import filters, sizes
from onitu.model.settings import Filter

from . import document
from .document import Place

MODES = {"rw": "rw", "wr": "rw", "r": "r", "ro": "r", "w": "w", "wo": "w"}
FOLDER_KEYS = ("mode", "conflict", "blacklist", "whitelist", "mimetypes", "file_size")
OLD_KEYS = ("type", "min-size", "max-size")
LONGEST_NAME = 64


def check_name(text: str) -> str:
    """The text, if it can be the name of a configuration, a folder or a service.

    Such names become parts of file names (conflict copies), of keys in the store and of socket names.

    Raises:
        ValueError: it cannot.
    """
    if not text or text != text.strip() or not text.isprintable() or set(text) & set("/\\:{}*"):
        raise ValueError(f"{text!r} cannot be a name: no '/', '\\', ':', '{{', '}}', '*', and no blank at its ends")
    if text.startswith((".", "-")) or len(text.encode()) > LONGEST_NAME:
        raise ValueError(f"{text!r} cannot be a name: it begins with '.' or '-', or is over {LONGEST_NAME} bytes")
    return text


def read_mode(keys: Mapping[str, Place], default: str) -> str:
    """The `mode` among these keys."""
    return (keys["mode"].one_of(MODES) if "mode" in keys else None) or default


def read_conflict(keys: Mapping[str, Place]) -> str:
    """The `conflict` among these keys; empty: none. Whether a preferred service exists is checked later."""
    place = keys.get("conflict")
    if place is None or place.is_null:
        return ""
    if place.is_mapping:
        preferred = place.mapping(("prefer",)).get("prefer")
        return f"prefer:{preferred.text()}" if preferred is not None else ""
    return place.parsed(_conflict) or ""


def _conflict(text: str) -> str:
    word, _, service = text.partition(":")
    if word == "prefer" and service.strip():
        return f"prefer:{service.strip()}"
    if text not in ("newest", "first"):
        near = document.nearest(text, ("newest", "first", "prefer:"))
        raise ValueError(f"{text!r} is not allowed; allowed are newest, first, prefer:SERVICE{near}")
    return text


def read_filter(keys: Mapping[str, Place]) -> Filter:
    """The filter that stands among these keys."""
    types = keys.get("mimetypes") or keys.get("type")
    if "mimetypes" in keys and "type" in keys:
        keys["type"].problem("is the older name of `mimetypes`, which stands here too; say it once")
    bounds = dict(keys["file_size"].mapping(("min", "max"))) if "file_size" in keys else {}
    for key in ("min", "max"):
        older = keys.get(f"{key}-size")
        if older is not None and key in bounds:
            older.problem(f"is the older name of `file_size: {{{key}: …}}`, which stands here too; say it once")
        elif older is not None:
            bounds[key] = older
    smallest, largest = (_size(bounds.get(key)) for key in ("min", "max"))
    if smallest is not None and largest is not None and smallest > largest:
        bounds["min"].problem(f"{smallest} bytes at least and {largest} at most: no file has such a size")
    return Filter(
        blacklist=_patterns(keys.get("blacklist")),
        whitelist=_patterns(keys.get("whitelist")),
        mimetypes=_types(types),
        size_min=smallest or 0,
        size_max=largest,
    )


def _size(place: Place | None) -> int | None:
    return None if place is None or place.is_null else place.parsed(sizes.parse_size)


def _patterns(place: Place | None) -> tuple[str, ...]:
    found = [item.parsed(pattern) for item in place.items()] if place is not None else []
    return tuple(one for one in found if one is not None)


def pattern(text: str) -> str:
    """The text, if it is a pattern that can match. Raises ValueError."""
    filters.check_pattern(text)
    return text


def _types(place: Place | None) -> tuple[str, ...]:
    found = [item.parsed(_type) for item in place.items()] if place is not None else []
    return tuple(one for one in found if one is not None)


def _type(text: str) -> str:
    whole = filters.whole_type(text)
    if not text.strip("/ ") or whole.count("/") != 1 or " " in whole:
        raise ValueError(f"{text!r} is not a MIME type; write it like 'image/png', 'image/*' or 'image'")
    return whole
