"""The messages: one frozen class each, tagged, MessagePack, every one validated on arrival.

A message is the last frame of a ZeroMQ multipart; on a ROUTER the peer's identity goes before it. `encode` and
`decode` are the only ways to and from bytes. The classes of `onitu.model` travel inside as they are.

Who says what to whom:

- events and orders, one pair of sockets for each driver: `Hello` → `Welcome`; `Batch` → `Ack`; `Orders`; `Lookup` →
  `Index`; `Audit` → `Audited`…; `Command`; `Beat` both ways; `Busy`.
- chunks, between two drivers: `Fetch` → `Chunk`.
- news: `News`. control: `Ask` → `Answer`. logs: `Record`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from onitu.model.errors import ProtocolError
from onitu.model.events import Event, Trouble
from onitu.model.orders import Order
from onitu.model.versions import Version


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The base of all messages. The tag is the class's name and the first element of the array."""


# --- events and orders ------------------------------------------------------------------------------------------


class ReplicaState(msgspec.Struct, frozen=True, array_like=True):
    """How one replica of a driver stands.

    `marker` is the replica's identity (from its root), `generation` and `pending` the two generations that the marker
    names: a store that knows neither lags behind, or the replica was restored from a backup; then nothing that the
    store says of it counts (S6). `trouble` is empty where the replica can be used, else why it cannot.
    """

    marker: str = ""
    generation: int = 0
    pending: int = 0
    trouble: str = ""
    capabilities: dict[str, bool] = {}


class Hello(Message, frozen=True):
    """Driver → Referee, first and whenever a replica's state changes.

    `epoch` is new for each start of the driver process; `credit` is how many unanswered orders it takes; `chunks` the
    endpoint where it serves chunks; `pid` is for people.
    """

    service: str
    epoch: str
    credit: int
    chunks: str
    replicas: dict[str, ReplicaState]
    pid: int = 0


class Expected(msgspec.Struct, frozen=True, array_like=True):
    """What the Referee says of one replica: what its marker must say, and what to do first.

    `accepted`: the replica may be used. If not, `reason` says why, and the driver neither scans nor writes.
    `generation`: what the marker shall say from now on. `known`: about how many paths the store holds for it; 0 spares
    every `Lookup`. `number`: the last batch number of this epoch that was committed (0: none).
    `scan`: make a full scan now. `tally`: the bytes of the tally of what is known of it (`onitu.model.tally`).
    """

    accepted: bool
    generation: int
    known: int
    number: int = 0
    reason: str = ""
    scan: bool = True
    tally: bytes = b""


class Welcome(Message, frozen=True):
    """Referee → driver, the answer to `Hello`. `run` is new for each start of the Referee."""

    run: str
    replicas: dict[str, Expected]


class Batch(Message, frozen=True):
    """Driver → Referee: events of one folder in the order in which they happened.

    Numbered from 1 within (driver epoch, folder), resent until acknowledged, applied once. `scanned` marks the end of a
    full, error-free scan (`True` in its last batch). `generation`: the one that the replica's marker is about to have;
    it counts from the commit on. 0: it stays.
    """

    folder: str
    epoch: str
    number: int
    events: tuple[Event, ...]
    scanned: bool = False
    generation: int = 0


class Ack(Message, frozen=True):
    """Referee → driver: every batch of the folder up to `number` is committed. Sent after the commit, never before."""

    folder: str
    epoch: str
    number: int


class Orders(Message, frozen=True):
    """Referee → driver: orders of one folder, to be begun in this sequence."""

    folder: str
    orders: tuple[Order, ...]


class Lookup(Message, frozen=True):
    """Driver → Referee: what is this service known to hold directly in these directories, and at these paths?"""

    request: int
    folder: str
    directories: tuple[bytes, ...]
    paths: tuple[bytes, ...] = ()


class Known(msgspec.Struct, frozen=True, array_like=True):
    """One path that the service is known to hold, as it spells it."""

    path: bytes
    token: bytes
    version: Version
    hidden: bool = False
    gone: bool = False
    unread: bool = False

    @property
    def excluded(self) -> bool:
        """Whether a rule hides it, so that its absence says nothing."""
        return self.hidden and not self.unread


class Index(Message, frozen=True):
    """Referee → driver: the answer to `Lookup`, in the order of its directories; where it has paths, what is held at
    them comes last, like a directory's rows.

    A long one comes in several messages, as a socket takes none of any size: each has more rows of the directories, and
    all but the last say that there is `more`.
    """

    request: int
    directories: tuple[tuple[Known, ...], ...]
    more: bool = False


class Audit(Message, frozen=True):
    """Referee → driver: read the whole replica, and say where it is not what this service is known to hold.

    Nothing is changed, and nothing is concluded from it. An audit ends the one before; `number` 0 only ends that.
    """

    folder: str
    number: int


class Disagreement(msgspec.Struct, frozen=True, array_like=True):
    """A path, as the service spells it, and in what way it is not what is known; a sentence for people."""

    path: bytes
    what: str


class Audited(Message, frozen=True):
    """Driver → Referee: how far the audit `number` is, and what was found since the last such message.

    `checked` paths were compared and `read` bytes of content read since the beginning. `reading`: bytes that are going
    to be read before the next message. `done` is set in the last one; `trouble` says there why it is not complete.
    """

    folder: str
    number: int
    checked: int = 0
    read: int = 0
    reading: int = 0
    found: tuple[Disagreement, ...] = ()
    done: bool = False
    trouble: str = ""


class Command(Message, frozen=True):
    """Referee → driver: `rescan` (directories, or everything where there are none), `pause`, `resume`."""

    what: str
    folder: str = ""
    directories: tuple[bytes, ...] = ()


class Busy(Message, frozen=True):
    """Driver → Referee, whenever it changes: how much this driver still has to look at before it is quiet.

    `looking` counts paths seen but not yet reported, and scans; 0 means quiet. It goes through the same ordered
    channel as the batches, so quiet means: everything that was seen before is in batches before this message.
    """

    folder: str
    looking: int
    note: str = ""


class Beat(Message, frozen=True):
    """Either way, every few seconds: alive. A peer that was silent for `DEAD_AFTER` seconds is taken for dead.

    `counters`, from a driver: what it moved since its start (`transferred_bytes` came over sockets, `cloned_bytes` by
    the kernel, `resumed_bytes` stood already, `served_bytes` went to other drivers, `files`; and its driver's own).

    `sent`: how many messages its sender has sent since its `Hello` (or `Welcome`), so that the other side sees whether
    a connection that broke, and was back in a moment, took something with it: then a new `Hello` is due. -1: it does
    not count.
    """

    epoch: str = ""
    counters: dict[str, int] = {}
    sent: int = -1


# --- chunks -----------------------------------------------------------------------------------------------------


class Fetch(Message, frozen=True):
    """Driver → driver: `length` bytes from `offset` of what `token` names at `path`; at most `MAX_CHUNK`."""

    request: int
    folder: str
    path: bytes
    token: bytes
    offset: int
    length: int


class Chunk(Message, frozen=True):
    """The answer to `Fetch`. `digest` is the BLAKE3 of `data`. `trouble` tells why there is none."""

    request: int
    offset: int
    data: bytes
    digest: bytes = b""
    trouble: Trouble = Trouble.NONE
    reason: str = ""


MAX_CHUNK = 1 << 20
"""Bytes of content in one `Chunk` at most."""

BEAT = 10.0
"""Seconds between two signs of life, on every channel that has some: each is a wake-up of two processes."""

DEAD_AFTER = 30.0
"""Seconds of silence after which a peer on the events channel is taken for dead. (One that died is told at once.)"""


# --- news, control, logs ----------------------------------------------------------------------------------------


class News(Message, frozen=True):
    """Referee → anyone: something changed. Lossy; nothing may depend on it.

    `topic` is `decision`, `decided`, `trouble`, `progress`; `data` is JSON-like. A `decision` holds all the `decisions`
    of one round, `decided` how many they were.
    """

    topic: str
    folder: str
    data: dict[str, Any]


class Ask(Message, frozen=True):
    """A question on a control channel; `what` names it, `arguments` are JSON-like values."""

    request: int
    what: str
    arguments: dict[str, Any] = {}


class Answer(Message, frozen=True):
    """Its answer. `error` is a sentence for people, empty where all went well; `gone`: it is that something behind who
    answers is not there at the moment, so the same question may be answered later."""

    request: int
    data: dict[str, Any] = {}
    error: str = ""
    gone: bool = False


class Record(Message, frozen=True):
    """A Logbook record as its `to_dict(json_safe=True)` gives it, from `process` (`referee`, `driver laptop`, …).

    `number` counts the records of a process from 1: the receiver says `Answer(number)`, and takes each once.
    0: it is not to be answered.
    """

    process: str
    record: dict[str, Any]
    number: int = 0


AnyMessage = (
    Hello
    | Welcome
    | Batch
    | Ack
    | Orders
    | Lookup
    | Index
    | Audit
    | Audited
    | Command
    | Busy
    | Beat
    | Fetch
    | Chunk
    | News
    | Ask
    | Answer
    | Record
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyMessage)

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | memoryview) -> Message:
    """The message in `data`.

    Raises:
        ProtocolError: `data` is not one of the messages above, field by field.
    """
    try:
        message: Message = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a message of ours ({error})") from None
    return message
