"""Rules: which services shall hold a path. Pure.

The set starts with the services that hold the file already; each rule that matches, in order, adds its `sync` and takes
away its `ban`. Without a `rules` section every service of the folder is in the set. Last, a service drops out where
the filter of the folder or of its replica hides the path. To drop out never deletes anything: the file stays where it
is and is not managed there any more.
"""

from __future__ import annotations

import hashlib

import attrs

from onitu.model import filters
from onitu.model.settings import Filter, Folder, Replica, Rule, Settings
from onitu.model.versions import Kind, Version


@attrs.frozen
class Rules:
    """The rules of one folder.

    Attributes:
        folder: its settings.
        replicas: by service, the folder's replicas.
        rules: the rules in order; None: no section.
        velocity: by service, how fast it is as a source.
        takers: who takes whatever there is, where neither a rule nor a filter asks what it is; else None.
    """

    folder: Folder
    replicas: dict[str, Replica]
    rules: tuple[Rule, ...] | None = None
    velocity: dict[str, float] = attrs.field(factory=dict)
    _hiding: dict[str, tuple[Filter, ...]] = attrs.field(init=False, repr=False, eq=False)
    takers: tuple[str, ...] | None = attrs.field(init=False, repr=False, eq=False)

    @_hiding.default
    def _filters(self) -> dict[str, tuple[Filter, ...]]:
        """By service, the filters that can hide anything."""
        return {
            name: tuple(one for one in (self.folder.filter, replica.filter) if one != _NO_FILTER)
            for name, replica in self.replicas.items()
        }

    @takers.default
    def _takers(self) -> tuple[str, ...] | None:
        if self.rules is not None or any(self._hiding.values()):
            return None
        return tuple(name for name in self.replicas if self.writable(name))

    @classmethod
    def of(cls, settings: Settings, folder: str) -> Rules:
        """The rules of a folder of these settings."""
        services = {name: s for name, s in settings.services.items() if folder in s.replicas}
        return cls(
            folder=settings.folders[folder],
            replicas={name: s.replicas[folder] for name, s in services.items()},
            rules=settings.rules,
            velocity={name: s.velocity for name, s in services.items()},
        )

    def digest(self) -> str:
        """What tells these rules from others: where it changed, what is left has to be worked out anew."""
        return hashlib.blake2s(repr((self.folder, sorted(self.replicas.items()), self.rules)).encode()).hexdigest()

    def readable(self, service: str) -> bool:
        """Whether the service may be a source (S5)."""
        return service in self.replicas and "r" in self.replicas[service].mode

    def writable(self, service: str) -> bool:
        """Whether orders may change the service (S5)."""
        return service in self.replicas and "w" in self.replicas[service].mode

    def hides(self, service: str, path: bytes, version: Version) -> str | None:
        """Why the service does not manage this path with this version; None: it does."""
        hiding = self._hiding.get(service)
        if hiding is None:
            return "the service has no replica of this folder"
        return filters.hides(hiding, path, version)

    def admits(self, service: str, path: bytes, version: Version, holders: frozenset[str]) -> bool:
        """Whether the service shall hold this version of the path; `holders` are those that hold the path now."""
        if service not in self.replicas:
            return False
        if self.bans(service, path, version, holders):
            return False
        return self.hides(service, path, version) is None

    def bans(self, service: str, path: bytes, version: Version, holders: frozenset[str]) -> bool:
        """Whether the `rules` take this version of the path away from a service that holds it, one of `holders`."""
        return self.rules is not None and service not in self._ruled(path, version, holders)

    def _ruled(self, path: bytes, version: Version, holders: frozenset[str]) -> set[str]:
        services = set(holders)
        for rule in self.rules or ():
            if _matches(rule, path, version):
                services |= set(rule.sync)
                services -= set(rule.ban)
        return services

    def conflict(self, service: str) -> str:
        """The policy for a conflict that this service's change makes."""
        replica = self.replicas.get(service)
        return (replica.conflict if replica is not None else "") or self.folder.conflict


_NO_FILTER = Filter()


def _matches(rule: Rule, path: bytes, version: Version) -> bool:
    if rule.path and not filters.matches_prefix(rule.path, path):
        return False
    if not rule.mime and rule.filter == _NO_FILTER:
        return True
    # Only a file has a type and a size, as in filters: a rule that asks for them speaks of nothing else.
    if version.kind is not Kind.FILE or not filters.has_mime(rule.mime, path):
        return False
    return filters.hides_version(rule.filter, path, version) is None
