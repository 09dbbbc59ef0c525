"""The outbox: order, numbers, bounds, resending."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from onitu.model.events import Event, Seen
from onitu.plug import outbox as module
from onitu.plug.outbox import Outbox
from onitu.plug.told import Told
from onitu.wire.messages import Batch


def events(*names: str, order: int = 0) -> list[Event]:
    return [Event(Seen.GONE, name.encode(), order=order) for name in names]


def an_outbox() -> Outbox:
    return Outbox("docs", "epoch", Told(), lambda: None)


def taken(outbox: Outbox) -> list[Batch]:
    batches = []
    while (batch := outbox.take()) is not None:
        batches.append(batch)
    return batches


def test_events_leave_in_order_in_batches_that_are_numbered_from_one() -> None:
    outbox = an_outbox()
    outbox.put(events("a", "b"))
    (first,) = taken(outbox)
    outbox.put(events("c"))
    (second,) = taken(outbox)
    assert (first.number, second.number) == (1, 2)
    assert [e.path for e in first.events + second.events] == [b"a", b"b", b"c"]
    assert not outbox.unsent
    assert not outbox.empty


def test_no_more_batches_go_than_the_window_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 1)
    outbox = an_outbox()
    outbox.put(events(*(f"{n}" for n in range(40))))
    assert len(taken(outbox)) == module.WINDOW
    assert outbox.acknowledged("epoch", 3)
    assert [batch.number for batch in taken(outbox)] == [17, 18, 19]


def test_a_batch_has_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    outbox = an_outbox()
    outbox.put(events(*("x" * 400 + str(n) for n in range(10))))
    assert all(len(batch.events) <= 2 for batch in taken(outbox))


def test_what_was_not_acknowledged_is_sent_again_under_its_number() -> None:
    outbox = an_outbox()
    for name in "abc":
        outbox.put(events(name))
        taken(outbox)
    outbox.acknowledged("epoch", 1)
    outbox.rewind(1)
    assert [(b.number, b.events[0].path) for b in taken(outbox)] == [(2, b"b"), (3, b"c")]


def test_what_the_welcome_says_is_committed_is_not_sent_again() -> None:
    outbox = an_outbox()
    for name in "abc":
        outbox.put(events(name))
        taken(outbox)
    outbox.rewind(2)
    assert [b.number for b in taken(outbox)] == [3]


def test_the_numbers_go_on_from_a_state_that_went_back() -> None:
    outbox = an_outbox()
    for name in "abcd":
        outbox.put(events(name))
        taken(outbox)
    outbox.acknowledged("epoch", 2)
    outbox.rewind(0)
    assert [(b.number, b.events[0].path) for b in taken(outbox)] == [(1, b"c"), (2, b"d")]
    outbox.put(events("e"))
    assert [b.number for b in taken(outbox)] == [3]


def test_an_acknowledgement_of_another_epoch_is_none() -> None:
    outbox = an_outbox()
    outbox.put(events("a"))
    taken(outbox)
    assert not outbox.acknowledged("other", 1)
    assert not outbox.empty


def test_the_end_of_a_scan_ends_a_batch_even_an_empty_one() -> None:
    outbox = an_outbox()
    outbox.put(events("a"), scanned=True)
    outbox.put(events("b"))
    outbox.put((), scanned=True)
    outbox.put((), scanned=True)
    batches = taken(outbox)
    assert [(len(b.events), b.scanned) for b in batches] == [(1, True), (1, True), (0, True)]


def test_numbers_of_orders_mean_nothing_to_a_new_run() -> None:
    outbox = an_outbox()
    outbox.put(events("a", order=5))
    taken(outbox)
    outbox.put(events("b", order=6))
    outbox.forget_orders()
    outbox.rewind(0)
    assert [e.order for b in taken(outbox) for e in b.events] == [0, 0]


async def test_observers_wait_while_the_outbox_is_full_and_nothing_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ROOM", 10)
    monkeypatch.setattr(module, "MOST_EVENTS", 1)
    outbox = an_outbox()
    outbox.put(events(*(f"{n}" for n in range(30))))
    came = trio.Event()

    async def observer() -> None:
        await outbox.room()
        came.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer)
        seen = [e for batch in taken(outbox) for e in batch.events]
        await wait_all_tasks_blocked()
        assert not came.is_set()
        while not outbox.empty:
            outbox.acknowledged("epoch", 10_000)
            seen += [e for batch in taken(outbox) for e in batch.events]
        with trio.fail_after(5):
            await came.wait()
    assert len(seen) == 30
