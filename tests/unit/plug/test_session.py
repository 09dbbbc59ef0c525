"""The conversation with the Referee: greeting, marking, resending, restarts."""

from __future__ import annotations

import pytest
import trio

from onitu.model.events import Seen
from onitu.model.settings import Filter
from onitu.plug import replica, session
from onitu.plug.driver import Hint, HintKind, Identity
from onitu.plug.floor import Floor
from onitu.plug.observer import Observer
from onitu.wire.messages import Beat, Command, Expected, Welcome

from .kit import FOLDER, eventually, mkdir, stage


async def test_a_new_replica_is_marked_only_once_it_was_accepted_and_says_so(runtime: str) -> None:
    async with stage(runtime) as at:
        at.referee.welcomes = False
        at.start()
        await at.referee.until(lambda: at.referee.hellos)
        assert at.driver.marks == []
        assert at.referee.hellos[0].replicas[FOLDER].marker == ""
        at.referee.welcomes = True
        await at.referee.welcome()
        await at.referee.quiet()
        state = at.referee.hellos[-1].replicas[FOLDER]
        assert len(at.referee.hellos) == 2
        assert (state.marker, state.generation) == (at.driver.marker.marker, 1)
        assert state.pending > 1
        assert at.driver.marker == Identity(state.marker, state.pending, 0)


async def test_a_known_replica_has_its_pending_generation_written_before_the_hello(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.marker = Identity("m", 4, 0)
        await at.started()
        state = at.referee.hellos[0].replicas[FOLDER]
        assert state.generation == 4
        assert state.pending > 4
        assert at.driver.marks == [Identity("m", 4, state.pending), Identity("m", state.pending, 0)]


async def test_two_starts_from_one_marker_come_to_two_generations(runtime: str) -> None:
    pending = []
    for _ in range(2):  # the second one is of a replica that was put back to where it stood before the first
        async with stage(runtime) as at:
            at.driver.marker = Identity("m", 4, 0)
            await at.started()
            pending.append(at.referee.hellos[0].replicas[FOLDER].pending)
    assert pending[0] != pending[1]


async def test_a_late_welcome_does_not_undo_a_generation_that_is_pending(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.marker = Identity("m", 4, 0)
        await at.started()
        first = at.driver.marker.generation
        at.referee.welcomes = False
        await at.referee.send(Command("hello"))
        await at.referee.until(lambda: len(at.referee.hellos) == 2)
        pending = at.driver.marker.pending
        assert pending > first
        # The answer to an earlier Hello, which the driver cannot tell from that to the last one.
        await at.referee.send(Welcome(at.referee.run_id, {FOLDER: Expected(True, first, 0, at.referee.number)}))
        at.referee.busy.clear()
        await at.referee.quiet()
        assert at.driver.marker == Identity("m", first, pending)


async def test_where_something_happens_the_generation_moves_on_and_else_it_stays(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "ADVANCE", 0.01)
    async with stage(runtime) as at:
        at.driver.marker = Identity("m", 4, 0)
        await at.started()
        first = at.driver.marker
        for name in (b"a", b"b"):
            marks = len(at.driver.marks)
            at.driver.write(name, b"news")
            await at.hint(Hint(HintKind.CHANGED, name))
            await eventually(lambda marks=marks: len(at.driver.marks) >= marks + 2)
            pending, last = at.driver.marks[marks : marks + 2]
            assert pending == Identity("m", first.generation, pending.pending)
            assert last == Identity("m", pending.pending, 0)
            told = [batch.generation for batch in at.referee.batches if batch.generation]
            assert told[-1] == pending.pending > first.generation
            first = last
        assert len(at.driver.marks) == 6


async def test_a_pending_generation_that_was_not_confirmed_is_said_again(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.marker = Identity("m", 4, 5)
        await at.started()
        state = at.referee.hellos[0].replicas[FOLDER]
        assert (state.generation, state.pending) == (4, 5)
        assert at.driver.marks == [Identity("m", 5, 0)]


async def test_a_replica_that_was_refused_is_looked_at_again_until_it_is_another(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onitu.plug.replica.FIRST_RETRY", 0.01)
    async with stage(runtime) as at:
        at.referee.welcomes = False
        at.start()
        await at.referee.until(lambda: at.referee.hellos)
        await at.referee.send(Welcome("run1", {FOLDER: Expected(False, 0, 0, reason="the marker is gone")}))
        at.referee.welcomes = True
        with trio.fail_after(5):
            while at.driver.counts["identify"] < 3:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert at.driver.marks == []
        at.driver.marker = Identity("m", 4, 0)  # the disk is mounted again
        await at.referee.quiet()
        assert at.referee.hellos[-1].replicas[FOLDER].marker == "m"


async def test_a_root_that_is_not_there_is_said_with_its_reason_and_looked_for(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onitu.plug.replica.FIRST_RETRY", 0.01)
    async with stage(runtime) as at:
        at.driver.unavailable = "no such directory"
        at.start()
        await at.referee.until(lambda: at.referee.hellos)
        assert at.referee.hellos[0].replicas[FOLDER].trouble == "no such directory"
        at.driver.unavailable = ""
        await at.referee.quiet()


async def test_batches_without_acknowledgement_come_again_after_a_new_welcome(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        at.referee.acks = False
        await at.started()
        sent = len(at.referee.batches)
        at.referee.acks, at.referee.scan = True, False
        at.referee.restart()
        await at.referee.send(Command("hello"))
        await at.referee.until(lambda: at.referee.busy and at.referee.busy[-1] == 0)
        assert len(at.referee.batches) == sent  # all were committed, as the Welcome said
        assert [e.path for e in at.referee.events] == [b"a"]


async def test_a_referee_that_lost_a_batch_gets_it_again_and_applies_it_once(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        number, batches = at.referee.number, len(at.referee.batches)
        at.referee.number = -5  # it misses the next batch, as if it had died before the commit
        at.referee.acks = False
        at.driver.write(b"a", b"1")
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        await at.referee.until(lambda: len(at.referee.batches) > batches)
        at.referee.number, at.referee.acks, at.referee.scan = number, True, False
        at.referee.restart()
        await at.referee.send(Beat(at.referee.run_id))
        await at.referee.until(lambda: b"a" in at.referee.rows)
        assert at.referee.seen(Seen.STANDS) == [b"a"]


async def test_a_restarted_referee_is_greeted_anew_and_its_scan_request_followed(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        await at.started()
        at.referee.restart()
        await at.referee.send(Command("hello"))
        await at.referee.until(lambda: at.referee.scans == 2)
        assert len({hello.epoch for hello in at.referee.hellos}) == 1
        assert at.referee.seen(Seen.STANDS) == [b"a"]


async def test_a_question_without_answer_is_asked_again_after_a_restart(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        at.referee.rows = {b"a": at.driver.known(b"a")}
        at.referee.answers = False
        at.start()
        await at.referee.until(lambda: at.referee.lookups)
        at.referee.answers = True
        at.referee.restart()
        await at.referee.send(Command("hello"))
        await at.referee.quiet()
        assert at.referee.events == []


async def test_an_order_of_an_earlier_run_is_told_but_answers_nothing(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        at.referee.acks = False
        await at.referee.order(mkdir(9, b"d"))
        await at.referee.until(lambda: at.referee.answer(9))
        at.referee.events.clear()
        at.referee.number -= 1
        at.referee.acks, at.referee.scan = True, False
        at.referee.restart()
        await at.referee.send(Command("hello"))
        await at.referee.until(lambda: at.referee.seen(Seen.DONE))
        assert [e.order for e in at.referee.events if e.path == b"d"] == [0]


async def test_orders_that_came_right_after_the_welcome_are_carried_out(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.marker = Identity("m", 1, 0)
        at.referee.welcomes = False
        at.start()
        await at.referee.until(lambda: at.referee.hellos)
        await at.referee.welcome()
        await at.referee.order(mkdir(1, b"d"))
        await at.referee.until(lambda: at.referee.answer(1))
        assert b"d" in at.driver.things


async def test_what_a_driver_waits_for_is_told_when_it_changes(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(runtime) as at:
        at.driver.marker = Identity("m", 1, 0)
        await at.started()
        for now in ("too many requests, again in 20 s", ""):
            monkeypatch.setattr(at.driver, "waits", lambda folder, now=now: now)
            at.driver.on_settled()
            await at.referee.until(lambda now=now: at.referee.notes[-1] == now)
        assert at.referee.busy[-2:] == [0, 0]


async def test_a_second_welcome_while_what_was_done_is_told_again_begins_nothing_twice(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, begun = trio.Event(), 0
    retell, run = Floor.retell, Observer.run

    async def slow(floor: Floor) -> None:
        await told.wait()
        await retell(floor)

    async def counted(observer: Observer, watch: bool, scan: bool) -> None:
        nonlocal begun
        begun += 1
        await run(observer, watch, scan)

    monkeypatch.setattr(Floor, "retell", slow)
    monkeypatch.setattr(Observer, "run", counted)
    async with stage(runtime) as at:
        at.driver.marker = Identity("m", 1, 0)
        at.driver.write(b"a", b"1")
        at.start()
        await at.referee.until(lambda: at.referee.hellos)
        await at.referee.welcome()
        await at.referee.send(Command("hello"))
        await at.referee.until(lambda: len(at.referee.hellos) > 1)
        await eventually(lambda: at.driver.marker.generation == at.referee.hellos[-1].replicas[FOLDER].pending)
        told.set()
        await at.referee.until(lambda: at.referee.events)
        await at.referee.quiet()
        assert begun == 1


async def test_the_end_of_a_scan_is_marked_and_then_the_driver_is_quiet(runtime: str) -> None:
    async with stage(runtime, Filter(), watch=False) as at:
        for n in range(1200):
            at.driver.write(b"f%d" % n, b"x")
        await at.started()
        assert len(at.referee.batches) >= 3
        assert at.referee.batches[-1].scanned
        assert at.referee.busy[-1] == 0
        assert len(at.referee.events) == 1200


async def test_a_rescan_of_a_directory_looks_into_it(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/a", b"1")
        await at.started()
        at.driver.write(b"d/b", b"2")
        await at.referee.send(Command("rescan", FOLDER, (b"d",)))
        await at.referee.until(lambda: b"d/b" in at.referee.rows)
        assert at.referee.scans == 1


async def test_what_is_moved_is_told_sooner_than_the_next_sign_of_life(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "BEAT", 1000.0)
    monkeypatch.setattr(session, "PROGRESS", 0.05)
    async with stage(runtime) as at:
        await at.started()
        hellos = len(at.referee.hellos)
        for moved in (5, 7):
            at.driver.counters["transferred_bytes"] = moved
            await at.referee.until(
                lambda: at.referee.beats and at.referee.beats[-1].counters.get("transferred_bytes") == moved  # noqa: B023
            )
        assert len(at.referee.beats) <= 3, "nothing is told again while nothing moves"
        assert len(at.referee.hellos) == hellos, "it was told by a conversation that began anew"
