"""The conversation with the Referee: one DEALER, greeted, heard, and replaced when it falls silent.

Everything that matters is in the outboxes and in the replicas; a session can be lost at any instant. On each connection
the first word is `Hello`; batches, lookups and `Busy` follow only after the `Welcome` that answers it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import logbook
import trio

from onitu.wire.channel import Channel
from onitu.wire.messages import (
    BEAT,
    DEAD_AFTER,
    Ack,
    Audit,
    Beat,
    Busy,
    Command,
    Hello,
    Index,
    Message,
    Orders,
    Welcome,
)

from .bell import Bell
from .counters import Counters
from .inbox import CREDIT
from .lookups import Lookups
from .replica import Replica

PROGRESS = 1.0
"""Seconds between two signs of life while something is counted, of which a sign of life tells how much."""
PATIENCE = 5.0
"""Seconds after which a `Hello` without answer is said again."""

log = logbook.Logger("plug")


class Session:
    """See the module.

    Attributes:
        run_id: the run of the Referee that said `Welcome` last.
        welcomed: whether the last `Hello` was answered.
    """

    def __init__(
        self, service: str, epoch: str, connect: Callable[[], Channel], chunks: str, wake: Bell,
        lookups: Lookups, counters: Counters, pid: int = 0,
    ) -> None:  # fmt: skip
        """`connect`: a new DEALER to the Referee; `wake` rings when there may be something to send."""
        self.run_id = ""
        self.welcomed = False
        self.replicas: Mapping[str, Replica] = {}
        self._service = service
        self._epoch = epoch
        self._connect = connect
        self._chunks = chunks
        self._wake = wake
        self._lookups = lookups
        self._counters = counters
        self._pid = pid
        self._sent = 0
        self._received = 0
        self._said: dict[str, tuple[bool, str]] = {}
        self._counted: dict[str, int] = {}
        self._greet = True
        self._unanswered = 0
        self._greeted = 0.0
        self._patience = trio.CancelScope()
        self._started = 0.0
        self._committed = trio.Event()

    async def run(self) -> None:
        """Talk until cancelled."""
        self._started = trio.current_time()
        while True:
            async with self._connect() as socket:
                self._greet, self.welcomed, self._unanswered = True, False, 0
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive, socket)
                    nursery.start_soon(self._send, socket)
                    nursery.start_soon(self._beat, socket)
                    await self._silence()
                    nursery.cancel_scope.cancel()
            log.warning("the Referee is silent: connecting anew")

    async def flushed(self) -> None:
        """Until everything is committed at the Referee; at once where nobody hears us."""
        while self.welcomed and any(not replica.outbox.empty for replica in self.replicas.values()):
            self._committed = trio.Event()
            await self._committed.wait()

    # --- to the Referee -----------------------------------------------------------------------------------------

    async def _send(self, socket: Channel) -> None:
        while True:
            if self._due() and (self._all_looked_at() or trio.current_time() >= self._started + PATIENCE):
                await self._hello(socket)
            if self.welcomed:
                await self._say(socket)
            with trio.move_on_after(float("inf") if self.welcomed else PATIENCE):
                await self._wake.wait()

    def _all_looked_at(self) -> bool:
        """Whether every replica can say how it stands. One that hangs holds the others back for a moment only."""
        return all(replica.state is not None for replica in self.replicas.values())

    def _due(self) -> bool:
        late = self._unanswered > 0 and trio.current_time() >= self._greeted + PATIENCE
        return self._greet or late or any(replica.greet for replica in self.replicas.values())

    async def _hello(self, socket: Channel) -> None:
        late = trio.current_time() >= self._greeted + PATIENCE
        self._unanswered = 1 if late else self._unanswered + 1
        self._greet, self.welcomed = False, False
        for replica in self.replicas.values():
            replica.greet = False
            await replica.prepare()
        states = {name: replica.state for name, replica in self.replicas.items() if replica.state is not None}
        self._greeted = trio.current_time()
        await self._put(socket, Hello(self._service, self._epoch, CREDIT, self._chunks, states, self._pid))

    async def _say(self, socket: Channel) -> None:
        """Everything that there is to say; `Busy` after the batches that it speaks of."""
        for name, replica in self.replicas.items():
            while self.welcomed and (batch := replica.outbox.take()) is not None:
                if self._counters != self._counted:
                    self._say_alive(socket)
                await self._put(socket, batch)
            while self.welcomed and (report := replica.auditor.take()) is not None:
                await self._put(socket, report)
            looking, waits = replica.looking, replica.waits
            if self.welcomed and self._said.get(name) != (looking > 0, waits):
                self._said[name] = looking > 0, waits
                await self._put(socket, Busy(name, looking, waits))
        while self.welcomed and (lookup := self._lookups.take()) is not None:
            await self._put(socket, lookup)

    async def _put(self, socket: Channel, message: Message) -> None:
        """Send, and count it: there is no checkpoint between the two."""
        await socket.send(message)
        self._sent = 0 if isinstance(message, Hello) else self._sent + 1

    def _say_alive(self, socket: Channel) -> None:
        """A beat, also before the batch that tells of a transfer, so that whoever hears that all is done sees what it
        took. At once, so that what it says of the messages before it is true; not where that would mean to wait."""
        with contextlib.suppress(trio.WouldBlock):
            socket.send_nowait(Beat(self._epoch, dict(self._counters), self._sent))
            self._sent += 1
            self._counted = dict(self._counters)

    async def _beat(self, socket: Channel) -> None:
        while True:
            said = trio.current_time()
            if self.welcomed:
                self._say_alive(socket)
            with trio.move_on_after(BEAT):
                await self._counters.changed.wait()
            await trio.sleep_until(said + PROGRESS)

    # --- from the Referee ---------------------------------------------------------------------------------------

    async def _silence(self) -> None:
        """Until nothing was heard for too long."""
        with trio.CancelScope(deadline=trio.current_time() + DEAD_AFTER) as self._patience:
            await trio.sleep_forever()

    async def _receive(self, socket: Channel) -> None:
        while True:
            _, message = await socket.receive()
            self._patience.deadline = trio.current_time() + DEAD_AFTER
            self._hear(message)
            self._received = 0 if isinstance(message, Welcome) else self._received + 1

    def _hear(self, message: Message) -> None:
        match message:
            case Welcome():
                self._welcome(message)
            case Beat():
                other = message.epoch and message.epoch != self.run_id
                if self.welcomed and (other or message.sent not in (-1, self._received)):
                    self._again()
            case Index():
                self._lookups.answered(message)
            case Ack() if message.folder in self.replicas:
                self.replicas[message.folder].acknowledged(message.epoch, message.number)
                self._committed.set()
                self._wake.ring()
            case Orders() if message.folder in self.replicas:
                self.replicas[message.folder].orders(message.orders)
            case Audit() if message.folder in self.replicas:
                self.replicas[message.folder].auditor.ask(message.number)
            case Command():
                self._command(message)
            case _:
                log.warning("{} from the Referee, of no use here: dropped", type(message).__name__)

    def _welcome(self, welcome: Welcome) -> None:
        self._unanswered = max(0, self._unanswered - 1)
        if self._unanswered:
            return  # it answers a Hello that was followed by another
        new_run, self.run_id = welcome.run != self.run_id, welcome.run
        self.welcomed = True
        self._said.clear()
        self._lookups.again()
        for name, expected in welcome.replicas.items():
            if name in self.replicas:
                self.replicas[name].welcome(expected, new_run)
        self._wake.ring()

    def _command(self, command: Command) -> None:
        if command.what == "hello":
            self._again()
            return
        for name, replica in self.replicas.items():
            if command.folder in ("", name):
                replica.command(command)
        self._wake.ring()

    def _again(self) -> None:
        """The Referee does not know us, or something that it said was lost. (A Hello that is under way tells it; if
        that is lost, it is said again.)"""
        if self._unanswered:
            return
        self._greet, self.welcomed, self._unanswered = True, False, 0
        self._wake.ring()
