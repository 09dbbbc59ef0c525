"""A YAML file whose every value knows where it stands, so that each error names the line and the key.

The file is composed to nodes and read from those: a dictionary would have lost the lines, and the second of two equal
keys. Reading never raises for what stands in the file: it records a problem and goes on with nothing, so that a
person sees all errors at once.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from onitu.model.errors import ConfigurationError

T = TypeVar("T")

_TAG = "tag:yaml.org,2002:"
_CORE = {"str", "int", "float", "bool", "null", "map", "seq", "timestamp"}
_VARIABLE = re.compile(r"\$(\$?)\{([^}]*)\}")


class Problems(msgspec.Struct):
    """What was found to be wrong, and what a person should know without its being wrong."""

    file: str
    found: list[tuple[int, str]] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)

    def add(self, line: int, keys: str, sentence: str) -> None:
        where = f"{self.file}:{line}"
        self.found.append((line, f"{where}: {keys}: {sentence}" if keys else f"{where}: {sentence}"))

    def raise_any(self) -> None:
        """Raise all of them as one `ConfigurationError`, in the order of lines."""
        if self.found:
            ordered = sorted(self.found, key=lambda problem: problem[0])
            raise ConfigurationError(list(dict.fromkeys(text for _, text in ordered)))


@attrs.frozen
class Place:
    """One value in the file.

    Attributes:
        node: what the YAML parser made of it.
        keys: the way to it, as it is shown: `services.nas.folders.docs.mode`.
        line: where it stands, or where its key does; from 1.
        problems: where wrong things are told.
        variables: what `${NAME}` may name.
    """

    node: Node
    keys: str
    line: int
    problems: Problems = attrs.field(repr=False)
    variables: Mapping[str, str] = attrs.field(repr=False)

    def problem(self, sentence: str) -> None:
        """Record that something is wrong here."""
        self.problems.add(self.line, self.keys, sentence)

    @property
    def is_null(self) -> bool:
        """Whether nothing stands here (an empty value, `null` or a lone `~`)."""
        return _tag(self.node) == "null"

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, SequenceNode)

    @property
    def shown(self) -> str:
        """What was found, for a message."""
        if self.is_mapping:
            return "a mapping"
        if self.is_list:
            return "a list"
        return "nothing" if self.is_null else repr(str(self.node.value))

    def mapping(self, allowed: Iterable[str] | None = None, old: Iterable[str] = ()) -> dict[str, Place]:
        """The values by key; those whose key is not `allowed` are problems, and left out. Nothing: empty.

        Keys that are `old` are given too, but not offered.
        """
        if self.is_null:
            return {}
        if not isinstance(self.node, MappingNode):
            self.problem(f"{self.shown} stands here, but it must be a mapping (key: value)")
            return {}
        entries = self._entries(self.node, {id(self.node)}, report=True)
        if allowed is None:
            return entries
        known = list(allowed)
        taken = {*known, *old}
        for key in entries.keys() - taken:
            entries[key].problem(f"unknown key; allowed are {listed(known)}{nearest(key, known)}")
        return {key: entries[key] for key in entries if key in taken}

    def below(self, *keys: str) -> Place:
        """The value at the end of this way of keys; where it ends early, the last that there is."""
        place = self
        for key in keys:
            place = place.mapping().get(key, place) if place.is_mapping else place
        return place

    def items(self) -> list[Place]:
        """The values of a list; a lone value counts as a list of one. Nothing: empty."""
        if self.is_null:
            return []
        if not isinstance(self.node, SequenceNode):
            return [self]
        return [
            attrs.evolve(self, node=node, keys=f"{self.keys}[{number}]", line=node.start_mark.line + 1)
            for number, node in enumerate(self.node.value)
        ]

    def text(self) -> str | None:
        """A string, with its `${NAME}` replaced; numbers and such are taken as they are written."""
        if not isinstance(self.node, ScalarNode) or self.is_null:
            self.problem(f"{self.shown} stands here, but it must be a text")
            return None
        if _tag(self.node) not in _CORE:
            self.problem(f"the tag {self.node.tag} means nothing here")
            return None
        text = self._expanded(self.node.value)
        if "\0" in text:
            self.problem("a NUL character stands here, which no name and no option can have")
            return None
        return text

    def value(self) -> str | int | float | bool | None:
        """A scalar, of the type that YAML 1.2 gives it."""
        text = self.text()
        if text is None:
            return None
        tag = _tag(self.node)
        if tag == "bool":
            return text.lower() == "true"
        try:
            if tag == "int":
                return int(text, 0 if re.match(r"[+-]?0[xo]", text) else 10)
            if tag == "float":
                return float(text)
        except ValueError:
            return text
        return text

    def parsed(self, parse: Callable[[str], T]) -> T | None:
        """What `parse` makes of the text here; its ValueError becomes a problem."""
        text = self.text()
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.problem(str(error))
            return None

    def one_of(self, choices: Mapping[str, T]) -> T | None:
        """The choice that the text here names."""
        text = self.text()
        if text is None:
            return None
        if text not in choices:
            self.problem(f"{text!r} is not allowed; allowed are {listed(choices)}{nearest(text, choices)}")
            return None
        return choices[text]

    def _entries(self, node: MappingNode, merged: set[int], report: bool) -> dict[str, Place]:
        entries: dict[str, Place] = {}
        inherited: dict[str, Place] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if _tag(key) == "merge":
                for base in value.value if isinstance(value, SequenceNode) else [value]:
                    if isinstance(base, MappingNode) and id(base) not in merged:
                        inherited = self._entries(base, merged | {id(base)}, report=False) | inherited
                continue
            if not isinstance(key, ScalarNode):
                self.problems.add(line, self.keys, "a key must be a text, not a list or a mapping")
                continue
            name = str(key.value)
            place = attrs.evolve(self, node=value, keys=f"{self.keys}.{name}" if self.keys else name, line=line)
            if name in entries and report:
                place.problem(f"this key stands here twice, first in line {entries[name].line}")
                continue
            entries[name] = place
        return inherited | entries

    def _expanded(self, text: str) -> str:
        def replaced(found: re.Match[str]) -> str:
            escape, name = found.groups()
            if escape:
                return f"${{{name}}}"
            if name not in self.variables:
                self.problem(f"the environment variable {name!r} is not set")
            return self.variables.get(name, "")

        return _VARIABLE.sub(replaced, text)


def read(file: Path, variables: Mapping[str, str] | None = None) -> Place:
    """The whole of a YAML file.

    Raises:
        ConfigurationError: it cannot be read, or is not YAML.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError([f"{file}: there is no such file; `onitu init` writes one"]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError([f"{file}:{line}: this is not UTF-8"]) from None
    except OSError as error:
        raise ConfigurationError([f"{file}: cannot be read: {error.strerror}"]) from None
    line, trouble = 1, "the file is empty; `services` and `folders` are needed"
    try:
        node = YAML(typ="rt").compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, trouble = mark.line + 1 if mark else 1, f"this is not YAML: {error.problem or error.context}"
    except YAMLError as error:
        position = getattr(error, "position", None)
        line = text[:position].count("\n") + 1 if isinstance(position, int) else 1
        trouble = "this is not YAML: a character that may not stand in it"
    except RecursionError:
        trouble = "this is no configuration: it is nested too deeply"
    else:
        if isinstance(node, MappingNode):
            return Place(node, "", 1, Problems(str(file)), os.environ if variables is None else variables)
        if node is not None:
            line, trouble = node.start_mark.line + 1, "this must be a mapping with `services` and `folders`"
    raise ConfigurationError([f"{file}:{line}: {trouble}"])


def listed(names: Iterable[str]) -> str:
    """Names for a message: `a, b, c`."""
    return ", ".join(names) or "none"


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one of the names is near, else nothing."""
    found: Sequence[str] = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _tag(node: Node) -> str:
    return str(node.tag).removeprefix(_TAG)
