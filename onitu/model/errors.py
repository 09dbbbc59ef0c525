"""The errors that a person can meet. Each says what is wrong, where, and what can be done about it."""

from __future__ import annotations


class OnituError(Exception):
    """The base of all errors that Onitu raises on purpose; its text is one for people, without a traceback."""


class ConfigurationError(OnituError):
    """The configuration cannot be used. `problems` has one sentence for each thing that is wrong in it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StateError(OnituError):
    """The stored state cannot be used: another schema version, another run that holds it, damage."""


class Unreadable(StateError):
    """The stored state is damaged, or of a version that this program cannot read: no restart helps, and the run ends
    with this."""


class StoreGone(StateError):
    """The store cannot be reached, or is still loading. It may come back; until then nothing can be asked or stored."""


class Fenced(StateError):
    """Another Referee took over the folder; this one may not write any more and must end."""


class Unavailable(OnituError):
    """A service or a replica's root cannot be reached, or is not the one that it was. Nothing may be concluded."""


class Anew(Unavailable):
    """What was found out about a service does not hold any more. Nothing was done; it is to be identified again."""


class ProtocolError(OnituError):
    """A message that no well-behaved peer sends. It is dropped and logged; the peer is not trusted further."""


class PeerGone(OnituError):
    """The process at the other end of a socket is not there any more, or does not answer. It may come back."""
