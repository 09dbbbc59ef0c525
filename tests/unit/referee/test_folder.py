"""One folder's referee over a store in memory: what is committed, acknowledged, ordered, held back."""

from __future__ import annotations

from functools import partial

import attrs
import msgspec
import pytest
import trio

from onitu.model.errors import Fenced
from onitu.model.events import AGAIN, BESIDE, Event, Seen, Trouble
from onitu.model.orders import Do
from onitu.model.settings import Folder, Replica, Service, Settings
from onitu.model.versions import Kind, Version
from onitu.referee import folder as folder_module
from onitu.referee import link as link_module
from onitu.referee import questions
from onitu.referee.guard import QUIET
from onitu.store import memory as memory_module
from onitu.store.interface import Change
from onitu.store.memory import MemoryStore
from onitu.wire.messages import (
    Ack,
    Batch,
    Command,
    Index,
    Lookup,
    ReplicaState,
    encode,
)
from tests.unit.referee.desk import NAMES, Desk, desk, file, settings, stands


async def test_a_new_file_is_ordered_on_every_other_service() -> None:
    async with desk() as d:
        await d.say("a", stands(b"x", "v1"))
        for service in ("b", "c"):
            (order,) = d.orders(service)
            assert (order.do, order.path, order.expect) == (Do.PUT, b"x", b"")
            assert order.sources[0].service == "a"
        assert not d.orders("a")


async def test_a_batch_is_acknowledged_only_after_its_commit() -> None:
    store = MemoryStore()
    async with desk(store) as d:
        d.sent.clear()
        acknowledged: list[list[Ack]] = []
        store.hook = lambda call: acknowledged.append(d.of(Ack)) if call.operation == "commit" and call.done else None
        await d.say("a", stands(b"x", "v1"))
        assert acknowledged[0] == []
        assert [ack.number for ack in d.of(Ack)] == [2]


async def test_what_has_come_in_meanwhile_is_decided_and_committed_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "ROUND", 16)
    store = MemoryStore()
    async with desk(store) as d:
        known: list[int] = []

        def note(call: memory_module.Call) -> None:
            if call.done and call.operation == "commit":
                known.append(d.folder.counts["files"])

        store.hook = note
        go_on = trio.Event()
        await d.folder.post(go_on.wait)
        for number in range(10):
            files = [stands(b"%d-%d" % (number, n), "v") for n in range(8)]
            await d.folder.post(partial(d.folder.batch, "a", Batch("f", "e", 2 + number, tuple(files))))
        go_on.set()
        await d.settle()
        assert known == [16, 32, 48, 64, 80]


async def test_a_batch_that_comes_twice_is_applied_once() -> None:
    async with desk() as d:
        await d.say("a", stands(b"x", "v1"))
        await d.say("b", Event(Seen.DONE, b"x", d.orders("b")[0].version, b"tb", order=1))
        await d.say("a", Event(Seen.GONE, b"x"))
        before = d.folder.seq
        await d.say("a", stands(b"x", "v1"), number=2)
        assert not (await d.folder.store.nodes([b"x"]))[b"x"].head.exists
        assert d.folder.seq == before + 1
        assert d.of(Ack)[-1].number == 3


async def test_a_batch_after_a_gap_waits_for_its_turn() -> None:
    async with desk() as d:
        await d.say("a", stands(b"x", "v1"), number=9)
        assert not d.orders("b")
        assert not await d.folder.store.nodes([b"x"])


async def test_a_batch_of_a_dead_driver_is_not_applied() -> None:
    async with desk() as d:
        await d.say("a", stands(b"x", "v1"), epoch="an earlier one")
        assert not d.orders("b")


async def test_no_order_goes_to_a_service_before_its_first_scan_is_over() -> None:
    async with desk(meet=False) as d:
        await d.meet("a")
        await d.meet("b", scanned=False)
        await d.say("a", stands(b"x", "v1"))
        assert not d.orders("b")
        await d.say("b", stands(b"x", "v1", b"tb"), scanned=True)
        assert not d.orders("b")


async def test_what_a_restarted_referee_finds_left_is_ordered_again() -> None:
    store = MemoryStore()
    async with desk(store) as d:
        await d.say("a", stands(b"x", "v1"))
        assert d.orders("b")
    async with desk(store, meet=False) as d:
        for name in NAMES:
            await d.meet(name, ReplicaState(f"marker {name}", 1, 0))
        assert [order.path for order in d.orders("b")] == [b"x"]


async def test_a_service_that_is_added_later_gets_everything() -> None:
    store = MemoryStore()
    async with desk(store, settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        (order,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"x", order.version, b"tb", order=order.number))
        assert await d.folder.store.todo_count() == 0
    async with desk(store) as d:
        assert [order.path for order in d.orders("c")] == [b"x"]


async def test_what_nothing_is_left_of_does_not_stay_in_the_index_for_ever() -> None:
    """As after a flipped byte in the store's log: the line of another path, which nobody ever works off."""
    store = MemoryStore()
    async with desk(store) as at:
        await at.say("a", stands(b"x", "one"))
        await at.folder.store.commit(Change(todo={b"ghost": 7}))
    async with desk(store, meet=False) as at:
        assert await at.folder.store.todo_count() == 2
        for link in at.folder.links.values():
            link.trouble = "away"
        await at.settle()
        assert at.folder.settled.is_set()
        assert [path for _, path in await at.folder.store.todo((0, b""), 10)] == [b"x"]


async def test_an_emptied_store_ends_the_referee() -> None:
    store = MemoryStore()
    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012
        async with desk(store) as d:
            store.flush()
            await d.say("a", stands(b"x", "v1"))
    assert caught.group_contains(Fenced)


async def test_a_mass_deletion_is_held_back_until_it_is_approved() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", *(stands(b"f%d" % n, f"v{n}") for n in range(120)))
        await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(120)))
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        assert not d.orders("b")
        await d.say("a", stands(b"new", "new"))
        assert [order.path for order in d.orders("b")] == [b"new"]
        assert await d.folder.ask(lambda: d.folder.approve("a")) == 120
        await d.settle()
        assert len(d.orders("b")) == 99  # what b takes at once, beside the new file


async def test_deletions_that_were_held_back_and_are_forgotten_wait_for_nobody() -> None:
    """Else the next ordinary deletion would be held back, too."""
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", *(stands(b"f%d" % n, f"v{n}") for n in range(120)))
        for _ in range(2):
            await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(120)))
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        assert d.folder.record("a").awaits
        await d.folder.ask(lambda: d.folder.forget("a"))
        assert not d.folder.links["a"].guard.quarantined
        assert not (await d.folder.store.meta()).services["a"].awaits


async def test_what_is_told_gone_once_more_while_it_is_held_back_stays_held_back() -> None:
    """Also a directory, in which something lives still as far as anybody else knows."""
    async with desk(given=settings(("a", "b"))) as d:
        directory = Event(Seen.STANDS, b"d", Version(Kind.DIRECTORY, mode=0o755), b"t")
        await d.say("a", directory, *(stands(b"d/f%d" % n, f"v{n}") for n in range(120)))
        for _ in range(3):
            await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        gone = [*(Event(Seen.GONE, b"d/f%d" % n) for n in range(120)), Event(Seen.GONE, b"d")]
        for _ in range(2):
            await d.say("a", *gone)
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        assert not d.orders("a")
        assert not d.orders("b")
        assert await d.folder.ask(lambda: d.folder.approve("a")) == 121


async def _left_alone(store: MemoryStore, files: int) -> None:
    """Both hold so many files, and everybody ends."""
    async with desk(store, settings(("a", "b"))) as d:
        await d.say("a", *(stands(b"f%d" % n, f"v{n}") for n in range(files)))
        while orders := d.orders("b"):
            await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in orders))


@pytest.mark.parametrize(("gone", "believed"), [(80, True), (120, False), (200, False)])
async def test_deletions_that_the_first_scan_finds_are_judged_at_its_end(gone: int, believed: bool) -> None:
    store = MemoryStore()
    await _left_alone(store, 200)
    async with desk(store, settings(("a", "b")), meet=False) as d:
        await d.meet("b")
        await d.meet("a", scanned=False)
        began = trio.current_time()
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(gone)))
        assert not d.orders("b")
        await d.say("a", scanned=True)
        await d.settle()
        assert d.folder.links["a"].guard.quarantined is not believed
        assert len(d.orders("b")) == (gone if believed else 0)
        assert trio.current_time() - began < QUIET / 2


async def test_a_burst_that_goes_on_after_the_first_scan_is_one_with_what_it_found() -> None:
    store = MemoryStore()
    await _left_alone(store, 200)
    async with desk(store, settings(("a", "b")), meet=False) as d:
        await d.meet("b")
        await d.meet("a", scanned=False)
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(80)), scanned=True)
        await d.settle()
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(80, 140)))
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        assert len(d.orders("b")) == 80


async def test_a_smaller_burst_does_not_answer_for_one_that_waits_for_approval() -> None:
    store = MemoryStore()
    await _left_alone(store, 300)
    async with desk(store, settings(("a", "b"))) as d:
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(200)))
        guard = d.folder.links["a"].guard
        await d.until(lambda: guard.quarantined)
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(200, 260)))
        assert guard.holding
        await d.until(lambda: not guard.holding)
        assert guard.quarantined
        assert not d.orders("b")


async def test_a_mass_deletion_of_what_could_not_be_read_is_held_back_too() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", *(stands(b"f%d" % n, f"v{n}") for n in range(120)))
        for _ in range(2):
            await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        await d.say("a", *(Event(Seen.HIDDEN, b"f%d" % n, trouble=Trouble.IO, reason="error") for n in range(120)))
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(120)))
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        assert await d.folder.ask(lambda: d.folder.approve("a")) == 120


async def test_what_other_rules_ask_for_is_not_left_any_more_once_they_are_gone() -> None:
    """The rules change twice before anything was ordered; what only the second ones asked for has no other change."""
    store = MemoryStore()
    only_read = attrs.evolve(settings(("a", "b")).services["b"], replicas={"f": Replica("f", "/b", mode="r")})
    both = settings(("a", "b"))
    one = attrs.evolve(both, services={**both.services, "b": only_read})
    for given, left in ((one, []), (both, [b"x"]), (one, [])):
        async with desk(store, given, meet=given is one and not left) as d:
            if d.folder.counts.get("files", 0) == 0:
                await d.say("a", stands(b"x", "v1"))
            assert [path for _, path in await d.folder.store.todo((0, b""), 10)] == left


async def test_what_was_ordered_by_a_run_whose_commits_are_lost_is_a_value_like_any_other() -> None:
    """The store is put back by one commit; the next run comes to no number that the lost one has given (S6)."""
    store = MemoryStore()
    async with desk(store, settings(("a", "b"))) as d:
        await d.say("a", stands(b"w", "v0"))
        backup = store.backup()
        await d.say("a", stands(b"x", "v1"))
        (order,) = [order for order in d.orders("b") if order.path == b"x"]
    store.restore(backup)
    async with desk(store, settings(("a", "b"))) as d:
        assert d.folder.seq > order.version.seq
        await d.say("a", *(stands(b"y%d" % n, f"other {n}") for n in range(8)))
        await d.say("b", Event(Seen.DONE, b"x", order.version, b"tb", order=AGAIN))
        assert not [one for one in d.orders("b") if one.path == b"x"], "it is not taken for something old that is to go"
        assert [(one.do, one.path) for one in d.orders("a")] == [(Do.PUT, b"x")]


async def test_a_deletion_that_was_ordered_and_is_seen_again_is_no_part_of_a_burst() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        (order,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"x", order.version, b"tb", order=order.number))
        await d.say("a", Event(Seen.GONE, b"x"))
        (order,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"x", order.version, order=order.number), Event(Seen.GONE, b"x"))
        await d.say("b", *(stands(b"f%d" % n, f"v{n}") for n in range(10)))
        assert d.folder.links["b"].guard.last == float("-inf")


async def test_deletions_that_were_held_back_can_be_taken_back() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", *(stands(b"f%d" % n, f"v{n}") for n in range(10)))
        await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(10)))
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        d.sent.clear()
        assert await d.folder.ask(lambda: d.folder.approve("a", restore=True)) == 10
        await d.settle()
        assert [order.do for order in d.orders("a")] == [Do.PUT] * 10


async def test_what_waits_for_a_yes_waits_for_it_beyond_a_restart_whatever_was_made_since() -> None:
    store, given = MemoryStore(), settings(("a", "b"))
    async with desk(store, given) as d:
        await d.say("a", *(stands(b"f%d" % n, f"v{n}") for n in range(120)))
        for _ in range(3):
            await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(70)))
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        held_back = len(await d.folder.store.quarantined("a", 1000))
        await d.say("b", *(stands(b"new%d" % n, f"n{n}") for n in range(300)))
    async with desk(store, given) as d:
        await trio.sleep(2 * QUIET)  # a burst would be over by then
        await d.settle()
        assert d.folder.links["a"].guard.quarantined
        assert len(await d.folder.store.quarantined("a", 1000)) == held_back
        assert await d.folder.ask(lambda: d.folder.approve("a")) == held_back
    async with desk(store, given) as d:
        assert not d.folder.links["a"].guard.quarantined


async def test_what_a_user_brings_back_himself_waits_for_no_yes_any_more() -> None:
    store, given = MemoryStore(), settings(("a", "b"))
    async with desk(store, given) as d:
        files = [stands(b"f%d" % n, f"v{n}") for n in range(10)]
        await d.say("a", *files)
        await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in d.orders("b")))
        await d.say("a", *(Event(Seen.GONE, b"f%d" % n) for n in range(10)))
        await d.until(lambda: d.folder.links["a"].guard.quarantined)
        await d.say("a", *files[:-1])
        assert d.folder.links["a"].guard.quarantined
        await d.say("a", files[-1])
        assert not d.folder.links["a"].guard.quarantined
        await d.say("a", Event(Seen.GONE, b"f0"))
        assert [order.path for order in d.orders("b")] == [b"f0"]
    async with desk(store, given) as d:
        assert not d.folder.links["a"].guard.quarantined


async def test_problems_of_a_service_that_is_no_more_are_over() -> None:
    store = MemoryStore()
    async with desk(store) as d:
        await d.say("c", Event(Seen.HIDDEN, b"pipe", reason="it is a pipe"))
        assert d.folder.troubled
    async with desk(store, settings(("a", "b"))) as d:
        assert not d.folder.troubled
        assert not await d.folder.store.problems(None, 10)


async def test_what_cannot_be_managed_and_goes_while_nobody_looks_is_over_after_the_next_scan() -> None:
    store = MemoryStore()
    denied = Event(Seen.HIDDEN, b"denied", reason="it may not be read", trouble=Trouble.DENIED)
    pipes = [Event(Seen.HIDDEN, b"pipe %d" % n, reason="it is a pipe") for n in range(2)]
    hidden = Event(Seen.HIDDEN, b"known", reason="it may not be read any more", trouble=Trouble.DENIED)
    async with desk(store) as d:
        await d.say("c", denied, *pipes, stands(b"known", "v"), hidden, scanned=True)
        assert {path for _, path in d.folder.troubled} == {b"denied", b"pipe 0", b"pipe 1", b"known"}
    async with desk(store, meet=False) as d:
        await d.meet("c", epoch="later", scanned=False)
        await d.say("c", pipes[0], epoch="later", scanned=True)
        assert {path for _, path in d.folder.troubled} == {b"pipe 0", b"known"}
        assert {problem.path for problem in await d.folder.store.problems(None, 10)} == {b"pipe 0", b"known"}


async def test_nobody_waits_for_what_only_a_service_has_that_is_no_more_and_it_loses_nothing_when_it_is_back() -> None:
    store = MemoryStore()
    async with desk(store) as d:
        await d.say("a", stands(b"x", "v1"))
        for service in "bc":
            (order,) = d.orders(service)
            await d.say(service, Event(Seen.DONE, b"x", order.version, b"v1", order=order.number))
        for service in "ab":
            d.folder.links[service].paused = True
        await d.say("c", stands(b"x", "v2"), stands(b"new", "v3"))
        assert {path for _, path in await d.folder.store.todo((0, b""), 10)} == {b"x", b"new"}
    async with desk(store, settings(("a", "b"))) as d:
        assert not await d.folder.store.todo((0, b""), 10)
        assert not [*d.orders("a"), *d.orders("b")]
        await d.say("a", stands(b"x", "v4"))
        assert [(order.path, order.do) for order in d.orders("b")] == [(b"x", Do.PUT)]
    async with desk(store, meet=False) as d:
        await d.meet("a")
        await d.meet("b")
        await d.meet("c", scanned=False)
        await d.say("c", stands(b"x", "v2"), stands(b"new", "v3"), scanned=True)
        orders = d.orders("c")
        assert [(order.do, order.path) for order in orders if order.path == b"x" and not order.keep] == []
        nodes = [node async for page in d.folder.store.walk() for node in page]
        heads = {node.head.digests.get("blake3") for node in nodes if node.head.exists}
        assert {stands(b"x", value).version.digests["blake3"] for value in ("v2", "v3", "v4")} <= heads


async def test_what_nobody_can_be_asked_for_any_more_is_not_being_tried() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        (order,) = d.orders("b")
        lost = Event(Seen.FAILED, b"x", order=order.number, trouble=Trouble.SOURCE_LOST, reason="it changed")
        await d.say("b", lost)
        link = d.folder.links["b"]
        assert link.hopes_for(b"x")
        d.folder.links["a"].connected = False
        link.retry[b"x"] = msgspec.structs.replace(link.retry[b"x"], when=trio.current_time())
        await d.until(lambda: not link.hopes_for(b"x"))
        assert not d.orders("b")


async def test_a_failure_is_told_once_and_over_when_it_works() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        (order,) = d.orders("b")
        failed = Event(Seen.FAILED, b"x", order=order.number, trouble=Trouble.NO_SPACE, reason="no space left")
        await d.say("b", failed)
        (problem,) = await d.folder.store.problems(None, 10)
        assert (problem.service, problem.path, problem.reason) == ("b", b"x", "no space left")
        again = await d.until(lambda: d.orders("b"))
        await d.say("b", Event(Seen.DONE, b"x", again[0].version, b"tb", order=again[0].number))
        assert not await d.folder.store.problems(None, 10)


async def test_a_lost_source_is_looked_at_after_some_tries() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"d/x", "v1"))
        for _ in range(3):
            for order in await d.until(lambda: d.orders("b")):
                await d.say(
                    "b", Event(Seen.FAILED, order.path, order=order.number, trouble=Trouble.SOURCE_LOST, reason="?")
                )
        assert Command("rescan", "f", (b"d",)) in d.of(Command)


async def test_a_directory_that_cannot_be_removed_is_looked_into_after_some_tries_and_then_more_seldom(
    autojump_clock: trio.testing.MockClock,
) -> None:
    directory = Event(Seen.STANDS, b"d", Version(Kind.DIRECTORY, mode=0o755), b"t")
    looks = []
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", directory)
        (made,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"d", made.version, b"t", order=made.number))
        await d.say("a", Event(Seen.GONE, b"d"))
        for times in range(1, 9):
            (order,) = await d.until(lambda: d.orders("b"))
            assert order.do is Do.DELETE
            failed = Event(Seen.FAILED, b"d", order=order.number, trouble=Trouble.NOT_EMPTY, reason="?")
            d.sent.clear()
            await d.say("b", failed)
            looks += [times for message in d.of(Command) if message == Command("rescan", "f", (b"d",))]
        assert ("b", b"d") in d.folder.troubled
        await d.say("b", directory)  # what the look finds at the directory itself is no news
        assert ("b", b"d") in d.folder.troubled
    assert looks == [3, 6]


async def test_what_is_told_again_of_a_full_directory_and_managed_by_nobody_makes_no_try_come_sooner() -> None:
    """The look that follows the third failure finds it: it had the next try come at once, and so for ever."""
    replicas = {"a": Replica("f", "/a"), "b": Replica("f", "/b", mode="w")}
    services = {name: Service(name, "local", replicas={"f": replica}) for name, replica in replicas.items()}
    async with desk(given=Settings("t", {"f": Folder("f")}, services)) as d:
        await d.say("a", stands(b"d", "v"))
        await d.say("b", Event(Seen.STANDS, b"d", Version(Kind.DIRECTORY), b"t"), stands(b"d/mine", "mine"))
        link = d.folder.links["b"]
        (order,) = d.orders("b")
        link.failed(b"d", trio.current_time(), passing=False, full=True)
        before = link.retry[b"d"]
        await d.say("b", stands(b"d/mine", "mine"))
        assert link.retry[b"d"] == before
        failed = Event(Seen.FAILED, b"d", order=order.number, trouble=Trouble.NOT_EMPTY, reason="?")
        await d.say("b", failed)
        assert link.retry[b"d"].times == 2


async def test_no_directory_is_removed_while_something_is_on_its_way_into_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A bucket's directory would come back with it, as if a user had made it."""
    directories = [Event(Seen.STANDS, path, Version(Kind.DIRECTORY), b"t") for path in (b"d", b"d/e", b"other")]
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("b", *directories)
        await d.say("a", *directories, stands(b"d/e/x", "v1"))
        (put,) = (order for order in d.orders("b") if order.path == b"d/e/x")
        assert put.do is Do.PUT
        await d.say("a", *(Event(Seen.GONE, path) for path in (b"d/e/x", b"d/e", b"d", b"other")))
        await trio.sleep(10)
        assert [(order.do, order.path) for order in d.orders("b")] == [(Do.DELETE, b"other")]
        assert d.folder.links["b"].hopes  # to wait is no failure: no run ends for it
        await d.say("b", Event(Seen.DONE, b"d/e/x", put.version, b"t", order=put.number))
        gone: list[bytes] = []
        while len(gone) < 3:
            for order in await d.until(lambda: d.orders("b")):
                assert order.do is Do.DELETE
                gone.append(order.path)
                await d.say("b", Event(Seen.DONE, order.path, order=order.number))
        assert gone == [b"d/e/x", b"d/e", b"d"]


async def test_a_tree_of_directories_that_could_not_be_removed_goes_as_soon_as_it_can(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What is in the innermost one goes only when each rests for as long as it may, the inner ones the longer."""
    paths = [b"/".join([b"d"] * depth) for depth in range(1, 9)]
    async with desk(given=settings(("a", "b"))) as d:
        found = [Event(Seen.STANDS, path, Version(Kind.DIRECTORY), b"t") for path in paths]
        await d.say("b", *found)
        await d.say("a", *found)
        d.sent.clear()
        standing = {*paths, paths[-1] + b"/unknown"}

        async def act() -> None:
            for order in reversed(await d.until(lambda: d.orders("b"))):
                await trio.sleep(0.05)
                if any(inner.startswith(order.path + b"/") for inner in standing):
                    trouble = Trouble.NOT_EMPTY
                    await d.say("b", Event(Seen.FAILED, order.path, order=order.number, trouble=trouble, reason="?"))
                else:
                    standing.remove(order.path)
                    await d.say("b", Event(Seen.DONE, order.path, order=order.number))

        await d.say("a", *(Event(Seen.GONE, path) for path in reversed(paths)))
        while trio.current_time() < 12:
            await act()
        standing.remove(paths[-1] + b"/unknown")
        while standing:
            await act()
        assert trio.current_time() < 12 + 5 + 8 * 0.5


async def test_a_lookup_tells_what_a_service_holds_as_it_spells_it() -> None:
    async with desk() as d:
        await d.say("a", stands("e\u0301".encode(), "v1", b"ta"))
        await d.folder.post(lambda: d.folder.lookup("a", Lookup(7, "f", (b"",))))
        await d.settle()
        (index,) = d.of(Index)
        assert index.request == 7
        ((row,),) = index.directories
        assert (row.path, row.token) == ("e\u0301".encode(), b"ta")


async def test_a_lookup_in_a_directory_tells_what_is_held_there_however_it_is_spelled() -> None:
    composed, decomposed = "\u00e9".encode(), "e\u0301".encode()
    async with desk() as d:
        await d.say("a", Event(Seen.STANDS, decomposed, Version(Kind.DIRECTORY), b"t"), stands(decomposed + b"/x", "v"))
        for number, asked in enumerate((composed, decomposed)):
            await d.folder.post(lambda n=number, asked=asked: d.folder.lookup("a", Lookup(n, "f", (asked,))))
        await d.settle()
        assert [row.path for index in d.of(Index) for (row,) in index.directories] == [decomposed + b"/x"] * 2


async def test_an_entry_of_a_name_that_is_held_in_another_form_is_told_once_that_is_free() -> None:
    composed, decomposed = "\u00e9".encode(), "e\u0301".encode()
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(composed, "v1"), stands(decomposed, "v2"), scanned=True)
        assert d.folder.troubled == {("a", composed): "clash"}
        await d.say("a", stands(b"other", "v"))
        assert not d.of(Command)
        await d.say("a", Event(Seen.GONE, composed))
        assert d.of(Command) == [Command("rescan", "f")]
        assert not d.folder.links["a"].quiet
        await d.say("a", stands(decomposed, "v2"), scanned=True)
        assert d.folder.view[composed].held["a"].name == decomposed
        assert not d.folder.troubled


async def test_an_entry_of_a_name_that_is_held_in_another_form_is_over_where_a_scan_finds_it_no_more() -> None:
    composed, decomposed = "\u00e9".encode(), "e\u0301".encode()
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(composed, "v1"), stands(decomposed, "v2"), scanned=True)
        await d.say("a", stands(decomposed, "v2"), scanned=True)
        await d.say("a", stands(composed, "v3", b"edited"))
        assert d.folder.troubled == {("a", composed): "clash"}
        await d.say("b", scanned=True)
        assert d.folder.troubled
        await d.say("a", scanned=True)
        assert not d.folder.troubled
        assert not await d.folder.store.problem_counts()


async def test_a_lookup_of_paths_tells_what_is_held_there_and_nothing_beside() -> None:
    async with desk() as d:
        composed, decomposed = "\u00e9".encode(), "e\u0301".encode()
        await d.say("a", stands(b"d/one", "v1", b"t1"), stands(b"d/two", "v2", b"t2"), stands(decomposed, "v3", b"t3"))
        wanted = (b"d/two", b"none", decomposed, composed, b"d/two/below")
        await d.folder.post(lambda: d.folder.lookup("a", Lookup(7, "f", (b"d",), wanted)))
        await d.folder.post(lambda: d.folder.lookup("b", Lookup(8, "f", (), wanted)))
        await d.settle()
        at_a, at_b = d.of(Index)
        assert [[row.path for row in rows] for rows in at_a.directories] == [
            [b"d/one", b"d/two"],
            [b"d/two", decomposed],
        ]
        assert at_b.directories == ((),)


async def test_a_long_index_comes_in_messages_that_a_socket_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "INDEX_BYTES", 2_000)
    paths = [b"%s/file %03d" % (directory, number) for directory in (b"one", b"two") for number in range(100)]
    async with desk() as d:
        await d.say("a", *(stands(path, "v", b"token %d" % number) for number, path in enumerate(paths)))
        await d.folder.post(lambda: d.folder.lookup("a", Lookup(7, "f", (b"one", b"none", b"two"))))
        await d.settle()
        messages = d.of(Index)
        assert len(messages) > 5
        assert [message.more for message in messages] == [True] * (len(messages) - 1) + [False]
        assert all(message.request == 7 and len(encode(message)) < 4_000 for message in messages)
        found = [[row.path for message in messages for row in message.directories[place]] for place in range(3)]
        assert [sorted(each) for each in found] == [paths[:100], [], paths[100:]]


async def test_a_replica_without_its_marker_is_refused() -> None:
    async with desk() as d:
        answer = await d.meet("a", ReplicaState("", 0, 0))
        assert not answer.accepted
        assert "marker" in answer.reason
        assert not d.folder.links["a"].usable


async def test_a_replica_of_another_time_is_met_like_a_new_one() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        (order,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"x", order.version, b"tb", order=order.number))
        answer = await d.meet("b", ReplicaState("marker b", 77, 0), epoch="f", scanned=False)
        assert answer.accepted
        assert answer.known == 0
        await d.say("b", stands(b"x", "an old one", b"t2", mtime=-9), scanned=True, epoch="f")
        (order,) = d.orders("b")
        assert order.keep.startswith(b"x (conflict b")


async def test_nobody_waits_for_a_head_that_went_with_the_time_that_was_forgotten() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        for service in ("a", "b"):
            await d.meet(service, ReplicaState(f"marker {service}", 77, 0), epoch="f", scanned=False)
            await d.say(service, scanned=True, epoch="f")
        assert d.folder.counts["files"] == 0
        (page,) = [page async for page in d.folder.store.walk()] or [[]]
        assert not any(node.head.exists for node in page)


async def test_a_replica_that_is_put_back_to_an_earlier_generation_of_the_same_life_deletes_nothing() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        (order,) = d.orders("b")
        done = Event(Seen.DONE, b"x", order.version, b"tb", order=order.number)
        number = d.numbers["b"] = d.numbers["b"] + 1
        await d.folder.post(lambda: d.folder.batch("b", Batch("f", "e", number, (done,), generation=7)))
        await d.settle()
        assert d.folder.record("b").generation == 7
        assert (await d.folder.store.meta()).services["b"].generation == 7
        answer = await d.meet("b", ReplicaState("marker b", 1, 0), epoch="f", scanned=False)
        assert (answer.accepted, answer.known) == (True, 0)
        await d.say("b", scanned=True, epoch="f")
        assert [(order.do, order.path) for order in d.orders("b")] == [(Do.PUT, b"x")]
        assert not d.orders("a")


async def test_a_path_that_leads_out_of_its_root_is_refused() -> None:
    async with desk() as d:
        await d.say("a", stands(b"../x", "v1"), stands(b"y", "v2"))
        assert [order.path for order in d.orders("b")] == [b"y"]


async def test_a_paused_service_gets_no_orders() -> None:
    async with desk() as d:
        d.folder.links["b"].paused = True
        await d.say("a", stands(b"x", "v1"))
        assert not d.orders("b")
        assert d.orders("c")


async def test_a_dry_run_orders_nothing() -> None:
    async with desk(given=settings(dry_run=True)) as d:
        await d.say("a", stands(b"x", "v1"))
        assert not d.orders("b")
        assert await d.folder.store.todo_count() == 1


async def test_a_directory_that_an_order_needed_is_nobodys_and_goes_with_what_was_in_it() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", Event(Seen.STANDS, b"d", Version(Kind.DIRECTORY, mode=0o755), b"directory"))
        await d.say("a", stands(b"d/x", "v1"))
        orders = {order.path: order for order in d.orders("b")}
        await d.say("a", Event(Seen.GONE, b"d/x"), Event(Seen.GONE, b"d"))
        beside = Event(Seen.STANDS, b"d", Version(Kind.DIRECTORY, mode=0o755), b"directory", order=BESIDE)
        await d.say("b", beside, Event(Seen.DONE, b"d/x", orders[b"d/x"].version, b"tx", order=orders[b"d/x"].number))
        assert not d.orders("a")
        assert {order.path: order.do for order in d.orders("b")}[b"d/x"] is Do.DELETE
        nodes = await d.folder.store.nodes([b"d", b"d/x"])
        assert not any(node.head.exists for node in nodes.values())


async def test_what_waits_for_a_name_to_be_free_is_renamed_once_it_is() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1", mtime=9))
        (order,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"x", order.version, b"tx", order=order.number))
        await d.say("b", stands(b"y", "v2", b"ty"))
        await d.say("a", Event(Seen.MOVED, b"y", file("v1", 9), b"t", source=b"x"))
        (away,) = d.orders("b")
        assert (away.do, away.path) == (Do.MOVE, b"y")
        await d.say("b", Event(Seen.DONE, away.target, away.version, b"tz", source=b"y", order=away.number))
        (order,) = d.orders("b")
        assert (order.do, order.path, order.target) == (Do.MOVE, b"x", b"y")


async def test_what_waited_for_a_rename_that_came_too_late_is_copied() -> None:
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", stands(b"x", "v1"))
        (order,) = d.orders("b")
        await d.say("b", Event(Seen.DONE, b"x", order.version, b"tx", order=order.number))
        await d.say("a", Event(Seen.MOVED, b"y", file("v1"), b"t", source=b"x"))
        (rename,) = d.orders("b")
        assert (rename.do, rename.target) == (Do.MOVE, b"y")
        # Its user deletes it just now: that is told before the answer to the order, from which nothing new is learned.
        await d.say("b", Event(Seen.GONE, b"x"))
        await d.say("b", Event(Seen.GONE, b"x", order=rename.number))
        (order,) = d.orders("b")
        assert (order.do, order.path) == (Do.PUT, b"y")


async def test_what_was_left_out_as_an_order_was_under_way_at_its_other_end_is_planned_when_that_failed() -> None:
    async with desk() as d:
        await d.say("a", stands(b"x", "v1"))
        for service in ("b", "c"):
            (order,) = d.orders(service)
            await d.say(service, Event(Seen.DONE, b"x", order.version, b"t1", order=order.number))
        await d.say("b", stands(b"x", "vb", b"tb", mtime=2))
        d.orders("c")
        await d.say("a", stands(b"x", "va", b"ta", mtime=9))
        aside = next(order for order in d.orders("b") if order.keep)
        copy = next(order for order in d.orders("c") if order.path == aside.keep)
        await d.say("c", Event(Seen.DONE, copy.path, copy.version, b"tk", order=copy.number))
        await d.say("b", stands(b"x", "vb again", b"tb2", mtime=3))  # so that the copy is not to be had there any more
        assert aside.keep not in [order.path for order in d.orders("b")]
        failed = Event(Seen.FAILED, b"x", order=aside.number, trouble=Trouble.SOURCE_LOST, reason="it went")
        await d.say("b", failed)
        assert await d.until(lambda: [order for order in d.orders("b") if order.path == aside.keep])


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    """Little room in memory, and pages to match. How many nodes may be at hand."""
    monkeypatch.setattr(folder_module, "AT_HAND", 16)
    monkeypatch.setattr(folder_module, "PAGE", 8)
    return 16 + 8


def watch_the_view(store: MemoryStore, d: Desk) -> list[int]:
    """From now on, how many nodes were at hand at each call of the store."""
    seen: list[int] = []
    store.hook = lambda call: seen.append(len(d.folder.view))
    return seen


async def fill(d: Desk, number: int) -> None:
    for start in range(0, number, 8):
        await d.say("a", *(stands(b"%03d" % n, f"v{n}") for n in range(start, start + 8)))


async def test_a_service_with_nothing_to_do_reads_the_whole_index_and_keeps_little_of_it(small_pages: int) -> None:
    store = MemoryStore()
    async with desk(store, meet=False) as d:
        await d.meet("a")
        await fill(d, 160)
        seen = watch_the_view(store, d)
        d.folder.links["a"].restart()
        await d.settle()
        assert not d.folder.links["a"].behind
        assert max(seen) <= small_pages


async def test_what_was_dropped_is_fetched_a_page_at_a_time_for_planning(small_pages: int) -> None:
    store = MemoryStore()
    async with desk(store, meet=False) as d:
        await d.meet("a")
        await fill(d, 160)
        calls: list[str] = []
        store.hook = lambda call: calls.append(call.operation) if call.done else None
        await d.meet("b")
        assert len(d.orders("b")) == 100  # the credit
        assert calls.count("nodes") <= 160 // 8


async def test_a_replica_is_forgotten_without_having_the_folder_at_hand(
    small_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "PAGE", 8)
    store = MemoryStore()
    async with desk(store, meet=False) as d:
        await d.meet("a")
        await fill(d, 160)
        seen = watch_the_view(store, d)
        await d.folder.ask(lambda: d.folder.forget("a"))
        assert max(seen) <= small_pages
        assert not [node async for page in d.folder.store.walk() for node in page if "a" in node.held]


async def test_deletions_are_approved_without_having_the_folder_at_hand(small_pages: int) -> None:
    store = MemoryStore()
    async with desk(store, meet=False) as d:
        await d.meet("a")
        await fill(d, 160)
        d.folder.links["a"].guard.quarantined = True
        for start in range(0, 160, 8):
            await d.say("a", *(Event(Seen.GONE, b"%03d" % n) for n in range(start, start + 8)))
        seen = watch_the_view(store, d)
        assert await d.folder.ask(lambda: d.folder.approve("a")) == 160
        assert max(seen) <= small_pages


async def test_directories_go_with_all_that_was_in_them_however_many_deletions_were_held_back(small_pages: int) -> None:
    directory = Version(Kind.DIRECTORY)
    tree = [b"d", *(b"d/%02d" % n for n in range(20))]
    files = [b"%s/%d" % (path, n) for path in tree[1:] for n in range(8)]
    async with desk(given=settings(("a", "b"))) as d:
        await d.say("a", *(Event(Seen.STANDS, path, directory, b"directory") for path in tree))
        await d.say("a", *(stands(path, "v") for path in files))
        d.folder.links["a"].guard.quarantined = True
        await d.say("a", *(Event(Seen.GONE, path) for path in (*files, *reversed(tree))))
        assert len(files) > small_pages
        assert await d.folder.ask(lambda: d.folder.approve("a")) == len(tree) + len(files)
        nodes = await d.folder.store.nodes([*tree, *files])
        assert not [path for path, node in nodes.items() if node.head.exists]


async def test_a_rehearsal_is_planned_without_having_the_folder_at_hand(small_pages: int) -> None:
    store = MemoryStore()
    async with desk(store, meet=False, given=settings(dry_run=True)) as d:
        await d.meet("a")
        await fill(d, 1600)
        seen = watch_the_view(store, d)
        rows = await d.folder.ask(lambda: questions._planned(d.folder, 10_000))
        assert len(rows) == 2 * 1600
        assert max(seen) <= 16 + questions.PAGE


async def test_what_is_committed_after_the_reading_of_the_index_began_is_not_read_from_it(small_pages: int) -> None:
    store = MemoryStore()
    async with desk(store, meet=False) as d:
        await d.meet("a", scanned=False)
        await fill(d, 160)
        calls: list[str] = []
        store.hook = lambda call: calls.append(call.operation) if call.done else None
        await d.say("a", scanned=True)
        assert calls.count("todo") == 1
        assert not d.folder.links["a"].behind


async def test_everything_comes_to_a_service_that_is_far_behind(
    small_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "READY", 12)
    async with desk(given=settings(("a", "b")), meet=False) as d:
        await d.meet("a")
        await fill(d, 80)
        await d.meet("b", scanned=False)
        for start in range(80, 320, 8):
            await d.say("a", *(stands(b"%03d" % n, f"v{n}") for n in range(start, start + 8)))
        await d.say("b", scanned=True)
        came: set[bytes] = set()
        while orders := d.orders("b"):
            came |= {order.path for order in orders}
            await d.say("a", stands(b"%03d" % (len(came) % 320), f"again {len(came)}"))
            await d.say("b", *(Event(Seen.DONE, o.path, o.version, b"tb", order=o.number) for o in orders))
        assert came == {b"%03d" % n for n in range(320)}
        assert d.folder.links["b"].quiet
        assert await d.folder.store.todo_count() == 0


async def test_a_service_that_comes_late_gets_directories_before_what_is_in_them() -> None:
    directory = Event(Seen.STANDS, b"d", Version(Kind.DIRECTORY, mode=0o755), b"t")
    async with desk(given=settings(("a", "b")), meet=False) as at:
        await at.meet("a", scanned=False)
        await at.say("a", directory)
        await at.meet("b", scanned=False)
        await at.say("a", stands(b"d/f", "1"), scanned=True)
        await at.say("b", scanned=True)
        assert [order.path for order in at.orders("b")] == [b"d", b"d/f"]


async def test_a_service_that_comes_late_gets_deletions_in_the_order_in_which_they_were_told() -> None:
    directory = Event(Seen.STANDS, b"d", Version(Kind.DIRECTORY, mode=0o755), b"t")
    inside = [stands(b"d/%d" % number, "v", b"%d" % number) for number in range(3)]
    async with desk(given=settings(("a", "b"))) as at:
        others = [stands(b"other %d" % number, "v", b"%d" % number) for number in range(10)]
        await at.say("a", directory, *inside, *others)
        orders = at.orders("b")
        done = (Event(Seen.DONE, o.path, o.version, b"t", order=o.number) for o in orders)
        await at.say("b", *done)
        await at.meet("b", ReplicaState("marker b", 1, 1), epoch="f", scanned=False)
        await at.say("a", *(Event(Seen.GONE, event.path) for event in (*inside, directory)))
        await at.say("b", scanned=True, epoch="f")
        deleted = await at.until(lambda: at.orders("b"))
        assert [order.path for order in deleted] == [b"d/0", b"d/1", b"d/2", b"d"]


async def test_a_service_that_comes_late_is_to_remove_directories_after_all_that_is_in_them() -> None:
    """It is told what is left by paths, where a directory comes first: each would fail once for every level below it.
    Little credit loses none of them."""
    paths = [b"/".join([b"d"] * depth) for depth in range(1, 9)]
    inside = [stands(path + b"/a file", "v") for path in paths]
    async with desk(given=settings(("a", "b"))) as at:
        await at.say("a", *(Event(Seen.STANDS, path, Version(Kind.DIRECTORY), b"t") for path in paths), *inside)
        await at.say("a", *(stands(b"other %d" % number, "v") for number in range(40)))
        await at.say("b", *(Event(Seen.DONE, o.path, o.version, b"t", order=o.number) for o in at.orders("b")))
        await at.say("a", stands(b"x", "v"), *(Event(Seen.GONE, event.path) for event in inside))
        await at.say("a", *(Event(Seen.GONE, path) for path in reversed(paths)))
        at.orders("b")
        await at.meet("b", ReplicaState("marker b", 1, 1), epoch="f", scanned=False)
        at.folder.links["b"].credit = 2
        await at.say("b", scanned=True, epoch="f")
        came: list[bytes] = []
        while not at.folder.links["b"].quiet:
            orders = await at.until(lambda: at.orders("b"))
            assert len(orders) <= 2
            came += [order.path for order in orders]
            answers = (Event(Seen.DONE, o.path, o.version, b"t", order=o.number) for o in orders)
            await at.say("b", *answers, epoch="f")
        assert set(came[: -len(paths)]) == {b"x", *(event.path for event in inside)}
        assert came[-len(paths) :] == paths[::-1]


async def test_what_stands_where_a_directory_is_to_be_gives_way_before_anything_is_brought_into_it() -> None:
    """The service has told of it last, so that it is the last of what is left."""
    directories = [
        Event(Seen.STANDS, path, Version(Kind.DIRECTORY, mode=0o755), b"t") for path in (b"x", b"x/d", b"x/d/e")
    ]
    async with desk(given=settings(("a", "b"))) as at:
        await at.say("a", stands(b"x", "a file"), *(stands(b"other %d" % number, "v") for number in range(9)))
        await at.say("b", *(Event(Seen.DONE, o.path, o.version, b"t", order=o.number) for o in at.orders("b")))
        await at.say("a", *directories, stands(b"x/d/e/f", "new"))
        at.orders("b")
        await at.meet("b", ReplicaState("marker b", 1, 1), epoch="f", scanned=False)
        await at.say("b", stands(b"x", "a file", b"read again"), epoch="f")
        await at.say("b", scanned=True, epoch="f")
        assert [order.path for order in at.orders("b")] == [b"x", b"x/d", b"x/d/e", b"x/d/e/f"]


async def test_nothing_is_brought_below_a_file_that_is_under_way(autojump_clock: trio.testing.MockClock) -> None:
    """A directory is to be there by now, but the service is about to hold the file."""
    directory = Event(Seen.STANDS, b"x", Version(Kind.DIRECTORY, mode=0o755), b"t")
    async with desk(given=settings(("a", "b"))) as at:
        await at.say("a", stands(b"x", "a file"))
        (put,) = at.orders("b")
        await at.say("a", directory, stands(b"x/f", "new"))
        await trio.sleep(10)
        assert not at.orders("b")
        assert at.folder.links["b"].hopes  # to wait is no failure: no run ends for it
        await at.say("b", Event(Seen.DONE, b"x", put.version, b"t", order=put.number))
        orders = await at.until(lambda: [*at.orders("b")])
        while len(orders) < 2:
            orders += await at.until(lambda: at.orders("b"))
        assert [order.path for order in orders] == [b"x", b"x/f"]


async def test_what_stands_in_the_way_far_above_a_path_is_no_reason_to_give_it_up() -> None:
    directories = [
        Event(Seen.STANDS, path, Version(Kind.DIRECTORY, mode=0o755), b"t") for path in (b"x", b"x/d", b"x/d/e")
    ]
    async with desk(given=settings(("a", "b"))) as at:
        await at.say("a", stands(b"x", "a file"))
        (put,) = at.orders("b")
        await at.say("b", Event(Seen.DONE, b"x", put.version, b"t", order=put.number))
        await at.say("a", *directories, stands(b"x/d/e/f", "new"))
        way, *rest = at.orders("b")
        assert (way.path, way.do) == (b"x", Do.PUT)
        refused = Event(Seen.STANDS, b"x", put.version, b"another token", order=way.number)
        reason = "a parent is no directory"
        failed = (Event(Seen.FAILED, o.path, order=o.number, trouble=Trouble.NAME_CLASH, reason=reason) for o in rest)
        await at.say("b", refused, *failed)
        assert not at.folder.troubled
        assert at.folder.links["b"].hopes
