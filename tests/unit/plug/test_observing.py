"""What a plug tells of what it sees."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.lowlevel
from blake3 import blake3
from msgspec.structs import replace

from onitu.model.events import Seen, Trouble
from onitu.model.settings import Filter
from onitu.plug import observer, report
from onitu.plug.driver import Entry, Hint, HintKind, Listing

from .kit import Stage, put, stage


async def test_a_first_scan_tells_everything_without_a_lookup(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a/b/c", b"content")
        at.driver.write(b"top", b"more")
        await at.started()
        assert sorted(at.referee.seen(Seen.STANDS)) == [b"a", b"a/b", b"a/b/c", b"top"]
        told = at.referee.seen(Seen.STANDS)
        assert told.index(b"a") < told.index(b"a/b") < told.index(b"a/b/c")
        assert at.referee.rows[b"top"].version.digests["blake3"]
        assert not at.referee.lookups


async def test_a_scan_of_what_is_known_says_and_reads_nothing(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a/b", b"content")
        at.referee.rows = {path: at.driver.known(path) for path in (b"a", b"a/b")}
        await at.started()
        assert at.referee.events == []
        assert "read" not in at.driver.counts


async def test_a_changed_file_is_read_and_told(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"old")
        at.driver.write(b"b", b"same")
        at.referee.rows = {path: at.driver.known(path) for path in (b"a", b"b")}
        at.driver.write(b"a", b"new content")
        await at.started()
        (event,) = at.referee.events
        assert (event.seen, event.path, event.version.size) == (Seen.STANDS, b"a", 11)
        assert at.driver.counts["read"] == 1


async def test_what_a_complete_listing_lacks_is_gone(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        at.driver.write(b"b", b"2")
        at.referee.rows = {path: at.driver.known(path) for path in (b"a", b"b")}
        at.driver.remove(b"a")
        await at.started()
        assert [(e.seen, e.path) for e in at.referee.events] == [(Seen.GONE, b"a")]


async def test_what_is_known_in_another_spelling_of_a_directory_is_gone_only_if_it_is(runtime: str) -> None:
    """Of two directories whose names differ in the Unicode form only one is held, but what is in either of them."""
    both = "\u00e9".encode(), "e\u0301".encode()
    one = "\u00f6".encode(), "o\u0308".encode()
    async with stage(runtime) as at:
        at.driver.write(one[0] + b"/file", b"")
        for path in (*both, one[1]):
            at.driver.write(path + b"/in/file", path)
        inside = (path + inner for path in (*both, one[1]) for inner in (b"/in", b"/in/file"))
        at.referee.rows = {path: at.driver.known(path) for path in (both[0], one[0], one[0] + b"/file", *inside)}
        at.driver.remove(one[1])
        await at.started()
        assert at.referee.seen(Seen.GONE) == [one[1] + b"/in/file", one[1] + b"/in"]


async def test_a_vanished_directory_goes_with_all_that_was_known_in_it_the_inner_first(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/e/f", b"1")
        at.driver.write(b"keep", b"2")
        at.referee.rows = {path: at.driver.known(path) for path in (b"d", b"d/e", b"d/e/f", b"keep")}
        at.driver.remove(b"d")
        await at.started()
        assert at.referee.seen(Seen.GONE) == [b"d/e/f", b"d/e", b"d"]


@pytest.mark.parametrize(
    "hint", [Hint(HintKind.CHANGED, b"a"), Hint(HintKind.MOVED, b"d/a", b"a")], ids=["it went", "it moved"]
)
async def test_what_a_scan_found_came_from_where_the_watcher_tells_a_moment_later(runtime: str, hint: Hint) -> None:
    """Renamed into a directory that was just made, and is not watched yet, or only just."""
    async with stage(runtime) as at, trio.open_nursery() as nursery:
        at.driver.write(b"a", b"content")
        at.referee.rows = {b"a": at.driver.known(b"a")}
        await at.started()
        at.driver.write(b"d/old", b"")
        at.driver.rename(b"a", b"d/a")
        scan = at.driver.scan

        async def late() -> None:
            await trio.sleep(0.005)
            await at.hint(hint)

        async def scanned(folder: str, directories: Sequence[bytes]) -> list[Listing]:
            nursery.start_soon(late)
            return await scan(folder, directories)

        at.driver.scan = scanned  # type: ignore[method-assign]
        await at.hint(Hint(HintKind.CHANGED, b"d", deep=True, directory=True))
        await at.referee.until(lambda: at.referee.seen(Seen.MOVED))
        (moved,) = [event for event in at.referee.events if event.path == b"d/a"]
        assert (moved.seen, moved.source) == (Seen.MOVED, b"a")


async def test_a_renamed_file_is_told_as_a_move_once_it_was_read(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"content")
        at.referee.rows = {b"a": at.driver.known(b"a")}
        at.driver.rename(b"a", b"z")
        await at.started()
        (event,) = at.referee.events
        assert (event.seen, event.path, event.source) == (Seen.MOVED, b"z", b"a")
        assert event.version.digests
        assert at.driver.counts["read"] == 1


@pytest.mark.parametrize("watched", [False, True])
async def test_a_file_that_was_edited_and_renamed_is_no_move_whatever_its_size_and_time(
    runtime: str, watched: bool
) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"before")
        at.referee.rows = {b"a": at.driver.known(b"a")}
        if watched:
            await at.started()
        at.driver.sneak(b"a", b"behind")
        at.driver.rename(b"a", b"z")
        if watched:
            await at.hint(Hint(HintKind.MOVED, b"z", b"a"))
        else:
            await at.started()
        await at.referee.until(lambda: b"a" in at.referee.seen(Seen.GONE))
        told = {event.path: event for event in at.referee.events}
        assert at.referee.seen(Seen.STANDS) == [b"z"]
        assert told[b"z"].version.digests["blake3"] == blake3(b"behind").digest()


async def test_a_rename_is_told_as_one_though_the_echo_of_what_stood_there_was_not_looked_at_yet(runtime: str) -> None:
    """A user may rename what an order has put there a moment before."""
    async with stage(runtime) as at:
        await at.started()
        at.driver.write(b"a", b"content")
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        await at.referee.until(lambda: b"a" in at.referee.seen(Seen.STANDS))
        at.driver.rename(b"a", b"z")
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        await at.hint(Hint(HintKind.MOVED, b"z", b"a"))
        await at.referee.until(lambda: b"z" in [event.path for event in at.referee.events])
        await at.referee.quiet()
        assert [(event.seen, event.path) for event in at.referee.events[1:]] == [(Seen.MOVED, b"z")]


async def test_nobody_asks_for_a_directory_to_tell_the_rename_of_a_file_in_it(runtime: str) -> None:
    async with stage(runtime) as at:
        names = [b"d", *(b"d/%d" % number for number in range(20))]
        for name in names[1:]:
            at.driver.write(name, b"content of " + name)
        at.referee.rows = {name: at.driver.known(name) for name in names}
        await at.started()
        before = len(at.referee.lookups)
        at.driver.rename(b"d/7", b"d/seven")
        await at.hint(Hint(HintKind.MOVED, b"d/seven", b"d/7"))
        await at.referee.until(lambda: b"d/seven" in at.referee.seen(Seen.MOVED))
        asked = at.referee.lookups[before:]
        assert [(lookup.directories, lookup.paths) for lookup in asked] == [((), (b"d/7",))]


async def told_rename(at: Stage) -> Hint:
    """A file is renamed, which is told; the hint that told of it."""
    at.driver.write(b"old", b"1")
    at.referee.rows = {b"old": at.driver.known(b"old")}
    await at.started()
    at.driver.rename(b"old", b"new")
    rename = Hint(HintKind.MOVED, b"new", b"old")
    await at.hint(rename)
    await at.referee.until(lambda: b"new" in at.referee.seen(Seen.MOVED))
    await at.referee.quiet()
    return rename


async def test_nobody_asks_about_a_rename_that_was_told_already(runtime: str) -> None:
    """As of each that an order asked for, of which the watcher tells too."""
    async with stage(runtime) as at:
        rename = await told_rename(at)
        before = len(at.referee.lookups)
        await at.hint(rename)
        at.driver.write(b"other", b"2")
        await at.hint(Hint(HintKind.CHANGED, b"other"))
        await at.referee.until(lambda: b"other" in at.referee.seen(Seen.STANDS))
        await at.referee.quiet()
        assert len(at.referee.lookups) == before
        assert at.referee.seen(Seen.MOVED) == [b"new"]


async def test_what_cannot_be_read_any_more_is_told_though_its_rename_was_told_already(runtime: str) -> None:
    async with stage(runtime) as at:
        rename = await told_rename(at)
        real = at.driver.entry

        def denied(path: bytes):  # type: ignore[no-untyped-def]
            found = real(path)
            return found and replace(found, trouble=Trouble.DENIED, reason="permission denied")

        at.driver.entry = denied  # type: ignore[method-assign]
        await at.hint(rename)
        await at.referee.until(lambda: b"new" in at.referee.seen(Seen.HIDDEN))


async def test_an_empty_file_is_never_taken_for_a_move(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"")
        at.referee.rows = {b"a": at.driver.known(b"a")}
        at.driver.rename(b"a", b"z")
        await at.started()
        assert [(e.seen, e.path) for e in at.referee.events] == [(Seen.STANDS, b"z"), (Seen.GONE, b"a")]


async def test_an_incomplete_listing_concludes_nothing_of_what_is_below(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/e/f", b"1")
        at.referee.rows = {path: at.driver.known(path) for path in (b"d", b"d/e", b"d/e/f")}
        at.driver.incomplete.add(b"d")
        await at.started()
        (event,) = at.referee.events
        assert (event.seen, event.path, event.trouble) == (Seen.HIDDEN, b"d", Trouble.DENIED)


async def test_a_directory_that_cannot_be_read_is_told_once_and_again_when_it_can(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/e", b"1")
        at.referee.rows = {path: at.driver.known(path) for path in (b"d", b"d/e")}
        at.driver.incomplete.add(b"d")
        await at.started()
        await at.hint(Hint(HintKind.OVERFLOW))
        await at.referee.until(lambda: at.referee.scans == 2)
        assert at.referee.seen(Seen.HIDDEN) == [b"d"]
        at.driver.incomplete.clear()
        await at.hint(Hint(HintKind.OVERFLOW))
        await at.referee.until(lambda: at.referee.scans == 3)
        assert at.referee.seen(Seen.STANDS) == [b"d"]


async def test_a_root_that_cannot_be_listed_is_unavailable_and_nothing_is_gone(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        at.referee.rows = {b"a": at.driver.known(b"a")}
        at.driver.incomplete.add(b"")
        at.start()
        await at.referee.until(lambda: any(h.replicas["docs"].trouble for h in at.referee.hellos))
        assert at.referee.events == []


async def test_what_the_rules_hide_is_forgotten_and_never_gone(runtime: str) -> None:
    async with stage(runtime, Filter(blacklist=("Private/", "*.bak"))) as at:
        at.driver.write(b"Private/x", b"1")
        at.driver.write(b"a.bak", b"2")
        at.driver.write(b"b.bak", b"3")
        at.driver.write(b"unknown.bak", b"4")
        at.referee.rows = {p: at.driver.known(p) for p in (b"Private", b"Private/x", b"a.bak", b"b.bak")}
        at.driver.remove(b"b.bak")
        at.driver.remove(b"Private/x")
        await at.started()
        assert {e.seen for e in at.referee.events} == {Seen.HIDDEN}
        assert sorted(e.path for e in at.referee.events) == [b"Private", b"Private/x", b"a.bak", b"b.bak"]
        await at.hint(Hint(HintKind.OVERFLOW))
        await at.referee.until(lambda: at.referee.scans == 2)
        assert len(at.referee.events) == 4


async def test_hidden_rows_in_a_vanished_directory_are_not_gone(runtime: str) -> None:
    async with stage(runtime, Filter(blacklist=("*.bak",))) as at:
        at.driver.write(b"d/a.bak", b"1")
        at.driver.write(b"d/b", b"2")
        at.driver.write(b"keep", b"3")
        at.referee.rows = {p: at.driver.known(p) for p in (b"d", b"d/a.bak", b"d/b", b"keep")}
        at.driver.remove(b"d")
        await at.started()
        assert at.referee.seen(Seen.HIDDEN) == [b"d/a.bak"]
        assert at.referee.seen(Seen.GONE) == [b"d/b", b"d"]


async def test_what_could_not_be_read_is_gone_with_its_directory_but_what_a_rule_hid_is_not(runtime: str) -> None:
    async with stage(runtime) as at:
        for path in (b"d/a", b"d/b", b"keep"):
            at.driver.write(path, b"1")
        at.referee.rows = {path: at.driver.known(path) for path in (b"d", b"keep")}
        at.referee.rows[b"d/a"] = at.driver.known(b"d/a", hidden=True)
        at.referee.rows[b"d/b"] = at.driver.known(b"d/b", hidden=True, unread=True)
        at.driver.remove(b"d")
        await at.started()
        assert at.referee.seen(Seen.GONE) == [b"d/b", b"d"]


async def test_a_file_in_a_directorys_place_is_told_after_what_was_in_the_directory(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/e", b"1")
        at.referee.rows = {path: at.driver.known(path) for path in (b"d", b"d/e")}
        at.driver.remove(b"d")
        at.driver.write(b"d", b"a file now")
        await at.started()
        assert [(e.seen, e.path) for e in at.referee.events] == [(Seen.GONE, b"d/e"), (Seen.STANDS, b"d")]


async def test_a_hint_is_followed_by_a_look(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        at.driver.write(b"a", b"1")
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        await at.referee.until(lambda: at.referee.seen(Seen.STANDS) == [b"a"])
        at.driver.remove(b"a")
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        await at.referee.until(lambda: at.referee.seen(Seen.GONE) == [b"a"])
        await at.referee.until(lambda: at.referee.busy[-1] == 0)


async def test_a_file_that_is_replaced_by_way_of_a_deletion_is_never_gone(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        await at.started()
        at.driver.remove(b"a")
        before = at.driver.counts["stat"]
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        with trio.fail_after(5):
            while at.driver.counts["stat"] == before:
                await trio.lowlevel.checkpoint()
        at.driver.write(b"a", b"2")
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        await at.referee.until(lambda: len(at.referee.seen(Seen.STANDS)) == 2)
        assert not at.referee.seen(Seen.GONE)


async def test_a_renamed_directory_moves_its_files(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/e/f", b"1")
        at.driver.write(b"d/g", b"2")
        await at.started()
        at.referee.events.clear()
        read = at.driver.counts["read"]
        at.driver.rename(b"d", b"n")
        await at.hint(Hint(HintKind.MOVED, b"n", b"d", directory=True))
        await at.referee.until(lambda: b"d" in at.referee.seen(Seen.GONE))
        told = [(e.seen, e.path) for e in at.referee.events]
        assert told[:2] == [(Seen.STANDS, b"n"), (Seen.STANDS, b"n/e")]
        assert sorted(told[2:4]) == [(Seen.MOVED, b"n/e/f"), (Seen.MOVED, b"n/g")]
        assert told[4:] == [(Seen.GONE, b"d/e"), (Seen.GONE, b"d")]
        assert at.driver.counts["read"] == read


async def test_a_directory_is_not_told_gone_before_a_file_that_was_renamed_out_of_it_and_on_is_told(
    runtime: str,
) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/e/f", b"1")
        at.driver.write(b"d/e/g", b"2")
        await at.started()
        at.referee.events.clear()
        at.driver.rename(b"d", b"n")
        listed = at.driver.scan

        async def late(folder, directories):  # type: ignore[no-untyped-def]
            found = await listed(folder, directories)
            if b"n/e" in directories and b"n/e/f" in at.driver.things:
                at.driver.rename(b"n/e/f", b"on")  # after the listing, before anything is told of it
            return found

        at.driver.scan = late  # type: ignore[method-assign]
        await at.hint(Hint(HintKind.MOVED, b"n", b"d", directory=True))
        await at.referee.until(lambda: b"n/e/g" in at.referee.seen(Seen.MOVED))
        await at.hint(Hint(HintKind.MOVED, b"on", b"n/e/f"))
        await at.referee.until(lambda: b"d" in at.referee.seen(Seen.GONE))
        told = [(event.seen, event.path, event.source) for event in at.referee.events]
        left = [place for place, (seen, path, source) in enumerate(told) if b"d/e/f" in (path, source)]
        assert left
        assert min(left) < told.index((Seen.GONE, b"d/e", b"")) < told.index((Seen.GONE, b"d", b""))


async def test_whose_old_paths_are_known_need_not_wait_for_the_watcher(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "ARRIVING", 3600.0)
    async with stage(runtime) as at:
        at.driver.write(b"d/a", b"content")
        at.referee.rows = {path: at.driver.known(path) for path in (b"d", b"d/a")}
        await at.started()
        at.driver.rename(b"d", b"e")
        await at.hint(Hint(HintKind.MOVED, b"e", b"d", directory=True))
        await at.referee.until(lambda: at.referee.seen(Seen.GONE))
        assert [(e.seen, e.path, e.source) for e in at.referee.events if e.path == b"e/a"] == [
            (Seen.MOVED, b"e/a", b"d/a")
        ]


async def test_hints_that_come_together_are_looked_at_together(runtime: str) -> None:
    async with stage(runtime) as at:
        files = [b"%d" % number for number in range(200)]
        for path in files:
            at.driver.write(path, path)
        at.referee.rows = {path: at.driver.known(path) for path in files}
        await at.started()
        before = at.driver.counts.get("stat", 0)
        for path in files:
            at.driver.remove(path)
        assert at.driver.hints is not None
        for path in files:
            at.driver.hints.send_nowait(Hint(HintKind.CHANGED, path))
        await at.referee.until(lambda: len(at.referee.seen(Seen.GONE)) == len(files))
        assert at.driver.counts["stat"] - before <= 4  # two looks at what vanished, and one before it is told


async def test_an_overflow_costs_a_full_scan(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        at.driver.write(b"unseen", b"1")
        await at.hint(Hint(HintKind.OVERFLOW))
        await at.referee.until(lambda: at.referee.scans == 2)
        assert at.referee.seen(Seen.STANDS) == [b"unseen"]


async def test_a_file_that_changes_while_it_is_read_is_told_as_what_it_became(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"old")

        def change() -> None:
            at.driver.before_fingerprint = None
            at.driver.write(b"a", b"new one")

        at.driver.before_fingerprint = change
        await at.started()
        assert [e.version.size for e in at.referee.events] == [7]


@pytest.mark.parametrize("size", [7, 3 * report.PORTION_BYTES])
async def test_a_file_that_never_rests_is_told_as_such_and_follows_once_it_rests(
    runtime: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(observer, "FIRST_AGAIN", 0.01)
    monkeypatch.setattr(report, "PATIENCE", 0.01)
    async with stage(runtime) as at:
        at.driver.write(b"a", bytes(size))
        at.driver.write(b"b", b"rests")
        reads = 0

        def change() -> None:
            nonlocal reads
            reads += 1
            at.driver.write(b"a", bytes(size + reads))

        at.driver.before_fingerprint = change
        await at.started()
        assert [(e.seen, e.path) for e in at.referee.events] == [(Seen.STANDS, b"b"), (Seen.HIDDEN, b"a")]
        assert reads <= 12
        assert at.referee.events[-1].reason == report.RESTLESS
        at.driver.before_fingerprint = None
        await at.referee.until(lambda: at.referee.seen(Seen.STANDS) == [b"b", b"a"])


async def test_an_observation_that_an_order_overtook_is_never_told_after_it(runtime: str) -> None:
    async with stage(runtime) as at:
        peer = at.peer("p1", b"ordered")
        at.driver.write(b"a", b"by a user")
        stands = at.driver.entry(b"a")
        assert stands is not None
        at.driver.before_perform = lambda: None
        reading = trio.Event()
        original = at.driver.fingerprint

        async def slow(folder, entries):  # type: ignore[no-untyped-def]
            found = await original(folder, entries)
            if not at.driver.performed:
                await at.referee.order(put(1, b"a", b"ordered", "p1", expect=stands.token))
                reading.set()
                with trio.fail_after(5):
                    while not at.driver.performed:
                        await trio.lowlevel.checkpoint()
            return found

        at.driver.fingerprint = slow  # type: ignore[method-assign]
        await at.started()
        assert peer.fetched
        kinds = [(e.seen, e.version.size) for e in at.referee.events if e.path == b"a"]
        assert kinds[0] == (Seen.DONE, 7)
        assert all(size == 7 for _, size in kinds)


async def test_what_stands_again_when_it_is_told_is_not_gone(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        at.driver.write(b"b", b"2")
        at.referee.rows = {path: at.driver.known(path) for path in (b"a", b"b")}
        at.driver.remove(b"a")
        at.driver.remove(b"b")
        listed = at.driver.scan

        async def late(folder, directories):  # type: ignore[no-untyped-def]
            found = await listed(folder, directories)
            at.driver.write(b"a", b"again")  # after the listing, before anything is told of it
            return found

        at.driver.scan = late  # type: ignore[method-assign]
        await at.started()
        await at.referee.until(lambda: at.referee.seen(Seen.STANDS) == [b"a"])
        assert at.referee.seen(Seen.GONE) == [b"b"]


async def test_the_echo_of_an_order_is_not_told(runtime: str) -> None:
    async with stage(runtime) as at:
        at.peer("p1", b"ordered")
        await at.started()
        await at.referee.order(put(1, b"a", b"ordered", "p1"))
        await at.referee.until(lambda: at.referee.answer(1))
        read = at.driver.counts.get("read", 0)
        await at.hint(Hint(HintKind.CHANGED, b"a"))
        at.driver.write(b"b", b"marker")
        await at.hint(Hint(HintKind.CHANGED, b"b"))
        await at.referee.until(lambda: b"b" in at.referee.rows)
        assert [e.seen for e in at.referee.events if e.path == b"a"] == [Seen.DONE]
        assert at.driver.counts["read"] == read + 1


async def test_a_stale_row_does_not_hide_a_directory_that_came_back(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"d/e", b"1")
        await at.started()
        at.referee.acks = at.referee.learns = False
        at.driver.remove(b"d")
        await at.hint(Hint(HintKind.CHANGED, b"d", directory=True))
        await at.referee.until(lambda: b"d" in at.referee.seen(Seen.GONE))
        at.driver.write(b"d/e", b"1")
        at.referee.events.clear()
        await at.hint(Hint(HintKind.OVERFLOW))
        await at.referee.until(lambda: at.referee.scans == 2)
        assert b"d" in at.referee.seen(Seen.STANDS)


async def test_a_lost_root_is_trouble_and_its_return_a_full_scan(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onitu.plug.replica.FIRST_RETRY", 0.01)
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        await at.started()
        at.driver.unavailable = "it is not mounted"
        at.driver.things.clear()
        await at.hint(Hint(HintKind.LOST))
        await at.referee.until(lambda: at.referee.hellos[-1].replicas["docs"].trouble)
        at.driver.unavailable = ""
        at.driver.write(b"a", b"1")
        await at.referee.until(lambda: at.referee.scans == 2)
        assert not at.referee.seen(Seen.GONE)


async def test_an_unreadable_thing_is_hidden_and_blocks_nothing_else(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        at.driver.write(b"b", b"2")
        at.referee.rows = {b"a": at.driver.known(b"a")}
        entry = at.driver.entry

        def troubled(path: bytes):  # type: ignore[no-untyped-def]

            found = entry(path)
            if path != b"a" or found is None:
                return found
            return replace(found, trouble=Trouble.UNSUPPORTED, reason="it is a socket")

        at.driver.entry = troubled  # type: ignore[method-assign]
        await at.started()
        assert sorted((e.seen, e.path) for e in at.referee.events) == [(Seen.STANDS, b"b"), (Seen.HIDDEN, b"a")]


async def test_what_could_not_be_read_is_looked_at_again_though_nothing_tells(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "FIRST_AGAIN", 0.001)
    monkeypatch.setattr(observer, "LAST_AGAIN", 0.002)
    async with stage(runtime) as at:
        at.driver.write(b"f", b"1")
        at.driver.write(b"d/e", b"1")
        at.driver.incomplete.add(b"d")
        read, failing, tries = at.driver.fingerprint, True, 0

        async def fingerprint(folder: str, entries: Sequence[Entry]) -> list[Entry | None]:
            nonlocal tries
            tries += 1
            if failing:
                return [replace(entry, trouble=Trouble.IO, reason="an error") for entry in entries]
            return await read(folder, entries)

        monkeypatch.setattr(at.driver, "fingerprint", fingerprint)
        await at.started()
        with trio.fail_after(10):
            while tries < 5:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert sorted(at.referee.seen(Seen.HIDDEN)) == [b"d", b"f"], "each once"
        failing = False
        at.driver.incomplete.clear()
        await at.referee.until(lambda: {b"d", b"d/e", b"f"} <= set(at.referee.seen(Seen.STANDS)))


async def test_a_hidden_row_that_is_hidden_no_more_is_told_again_without_a_read(runtime: str) -> None:
    async with stage(runtime) as at:
        at.driver.write(b"a", b"1")
        at.referee.rows = {b"a": at.driver.known(b"a", hidden=True)}
        await at.started()
        (event,) = at.referee.events
        assert event.seen is Seen.STANDS
        assert event.version.digests
        assert "read" not in at.driver.counts


async def test_a_poll_scans_everything(runtime: str) -> None:
    async with stage(runtime) as at:
        await at.started()
        at.driver.write(b"a", b"1")
        await at.hint(Hint(HintKind.POLL))
        await at.referee.until(lambda: at.referee.scans == 2)
        assert at.referee.seen(Seen.STANDS) == [b"a"]
