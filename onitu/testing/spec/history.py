"""What users did: an append-only record of their deeds, from which the oracle knows what a synchroniser must keep.

A *value* is a token (`str`) for one whole content, never a part of one: whatever `trees.recognise` says of the bytes
(the token that `trees.render` was given, else a digest), or `link:TARGET` for a symbolic link. Users of a test write
each value once, and whoever replaces or deletes something tells what it was. They can know it: they use an atomic
exchange (`renameat2(RENAME_EXCHANGE)`) or a rename to a place of their own, and look at what came out. `None` says that
nothing stood there; "I do not know" cannot be said, because S1 could not be decided then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias, TypeVar

import attrs

Value: TypeAlias = str
"""One whole content."""


@attrs.frozen
class Deed:
    """Something that happened at a time `at` (any clock that grows; the order of the record counts where it is equal).

    A deed of a user names the replica on which it was done.
    """

    at: float = attrs.field(kw_only=True)

    @property
    def replica(self) -> str:
        """Where it was done; empty: nowhere in particular."""
        return ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that it changed."""
        return ()

    @property
    def destroyed(self) -> tuple[str, Value] | None:
        """The path and the value that the user knowingly replaced or deleted there."""
        return None

    def words(self) -> str:
        """What was done, as the middle of a sentence."""
        return type(self).__name__


@attrs.frozen
class Write(Deed):
    """A user let a value (a file's content, or a link) stand at a path, and saw what it replaced there."""

    replica: str
    path: str
    value: Value
    replaced: Value | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def destroyed(self) -> tuple[str, Value] | None:
        return None if self.replaced in (None, self.value) else (self.path, str(self.replaced))

    def words(self) -> str:
        return f"{self.value} written at {self.path} on {self.replica} over {self.replaced or 'nothing'}"


@attrs.frozen
class Delete(Deed):
    """A user deleted a file or a link, and saw what it was."""

    replica: str
    path: str
    replaced: Value

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def destroyed(self) -> tuple[str, Value] | None:
        return self.path, self.replaced

    def words(self) -> str:
        return f"{self.replaced} deleted at {self.path} on {self.replica}"


@attrs.frozen
class Rename(Deed):
    """A user renamed a file or a link (`value`), or a directory (`value` is None).

    For a directory one is recorded for itself and one for each thing in it. `replaced` stood at the target.
    """

    replica: str
    source: str
    target: str
    value: Value | None
    replaced: Value | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        return self.source, self.target

    @property
    def destroyed(self) -> tuple[str, Value] | None:
        return None if self.replaced in (None, self.value) else (self.target, str(self.replaced))

    def words(self) -> str:
        over = f" over {self.replaced}" if self.replaced else ""
        return f"{self.value or 'a directory'} renamed from {self.source} to {self.target} on {self.replica}{over}"


@attrs.frozen
class MakeDirectory(Deed):
    """A user made a directory where nothing stood."""

    replica: str
    path: str

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def words(self) -> str:
        return f"directory {self.path} made on {self.replica}"


@attrs.frozen
class RemoveDirectory(Deed):
    """A user removed a directory that was empty (what stood in it was deleted before, one by one)."""

    replica: str
    path: str

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def words(self) -> str:
        return f"directory {self.path} removed on {self.replica}"


@attrs.frozen
class Touch(Deed):
    """A user changed the time or the mode of what stands at a path, and not its content. It is no edit."""

    replica: str
    path: str

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def words(self) -> str:
        return f"{self.path} touched on {self.replica}"


@attrs.frozen
class Look(Deed):
    """A user looked and saw a value (None: nothing) at a path. It changes nothing; `explain` tells where a lost value
    was last seen, and what nobody wrote is a ghost even if it is gone in the end."""

    replica: str
    path: str
    value: Value | None

    def words(self) -> str:
        return f"{self.value or 'nothing'} seen at {self.path} on {self.replica}"


@attrs.frozen
class Forget(Deed):
    """The synchroniser's memory was lost, or put back to an older one (S6); `what` says which part, in words.

    A deletion that was not carried out everywhere at that time may be undone: it costs no value.
    """

    what: str = "the state"

    def words(self) -> str:
        return f"{self.what} was lost"


@attrs.frozen
class Rest(Deed):
    """All was quiet, and `judge` found nothing wrong: everything before was seen by everybody.

    What is done on two replicas is concurrent for the oracle where no `Rest` stands between. So the more often a test
    comes to rest and says so, the sharper S4 is.
    """

    def words(self) -> str:
        return "all was at rest"


DEEDS: dict[str, type[Deed]] = {
    kind.__name__: kind for kind in (Write, Delete, Rename, MakeDirectory, RemoveDirectory, Touch, Look, Forget, Rest)
}
"""Every kind of deed, by the name that it has in JSON."""

D = TypeVar("D", bound=Deed)


class History:
    """An append-only record of deeds, in the order in which they were done.

    `at` defaults to the number of the deed. Appending is one `list.append`: users in several threads may share one.
    """

    def __init__(self) -> None:
        self._deeds: list[Deed] = []

    def __len__(self) -> int:
        return len(self._deeds)

    def __iter__(self) -> Iterator[Deed]:
        return iter(self._deeds)

    def __getitem__(self, number: int) -> Deed:
        return self._deeds[number]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._deeds == other._deeds

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<History of {len(self)} deeds>"

    def add(self, deed: D) -> D:
        """Append a deed and give it back."""
        self._deeds.append(deed)
        return deed

    def _at(self, at: float | None) -> float:
        return float(len(self._deeds)) if at is None else at

    # What users do

    def write(
        self, replica: str, path: str, value: Value, replaced: Value | None = None, at: float | None = None
    ) -> Write:
        """A user wrote `value` at `path`, where `replaced` stood (None: nothing)."""
        return self.add(Write(replica, path, value, replaced, at=self._at(at)))

    def delete(self, replica: str, path: str, replaced: Value, at: float | None = None) -> Delete:
        """A user deleted `replaced` at `path`."""
        return self.add(Delete(replica, path, replaced, at=self._at(at)))

    def rename(
        self,
        replica: str,
        source: str,
        target: str,
        value: Value | None,
        replaced: Value | None = None,
        at: float | None = None,
    ) -> Rename:
        """A user renamed `value` (None: a directory) from `source` to `target`, where `replaced` stood."""
        return self.add(Rename(replica, source, target, value, replaced, at=self._at(at)))

    def mkdir(self, replica: str, path: str, at: float | None = None) -> MakeDirectory:
        """A user made a directory."""
        return self.add(MakeDirectory(replica, path, at=self._at(at)))

    def rmdir(self, replica: str, path: str, at: float | None = None) -> RemoveDirectory:
        """A user removed an empty directory."""
        return self.add(RemoveDirectory(replica, path, at=self._at(at)))

    def touch(self, replica: str, path: str, at: float | None = None) -> Touch:
        """A user changed time or mode of what stands at `path`."""
        return self.add(Touch(replica, path, at=self._at(at)))

    def look(self, replica: str, path: str, value: Value | None, at: float | None = None) -> Look:
        """A user saw `value` at `path`."""
        return self.add(Look(replica, path, value, at=self._at(at)))

    # What happens to them

    def forget(self, what: str = "the state", at: float | None = None) -> Forget:
        """The synchroniser lost its memory, or got an older one."""
        return self.add(Forget(what, at=self._at(at)))

    def rest(self, at: float | None = None) -> Rest:
        """All was quiet and found to be right."""
        return self.add(Rest(at=self._at(at)))

    # What a value went through

    def of(self, value: Value) -> list[Deed]:
        """Every deed that a value took part in, in order."""
        return [
            deed
            for deed in self
            if getattr(deed, "value", None) == value or (deed.destroyed is not None and deed.destroyed[1] == value)
        ]

    # For replays

    def to_json(self) -> str:
        """One deed a line; `from_json` makes the same history of it. Names that are not UTF-8 survive."""
        return "".join(json.dumps({"deed": type(deed).__name__, **attrs.asdict(deed)}) + "\n" for deed in self._deeds)

    @classmethod
    def from_json(cls, text: str) -> History:
        """The history that `to_json` told. `ValueError`: a line is none, or names an unknown deed."""
        history = cls()
        for number, line in enumerate(text.splitlines(), 1):
            try:
                fields: dict[str, Any] = json.loads(line)
                history.add(DEEDS[fields.pop("deed")](**fields))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"line {number} is no deed: {error!r}") from None
        return history
