"""What a driver takes on trust in its next life, and how it finds out where it should not have."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from onitu.model.events import Seen
from onitu.model.settings import Filter
from onitu.plug.driver import Hint, HintKind
from onitu.plug.familiar import Familiar, Proof, tally_of
from onitu.plug.sheet import FileSheet
from onitu.wire.messages import Known

from .kit import Stage, put, stage

OTHERS = (b"p", b"q", b"r", b"s")
"""Directories in which nothing ever changes."""
TREE = (b"a/one", b"a/two", b"b/below/three", b"b/four", b"five", *(name + b"/six" for name in OTHERS))


async def furnished(at: Stage) -> trio.CancelScope:
    """A life after which everything is familiar: all is known already."""
    for path in TREE:
        at.driver.write(path, path)
    at.referee.rows = {path: at.driver.known(path) for path in at.driver.things}
    return await at.started()


def asked(at: Stage) -> set[bytes]:
    """The directories whose rows the driver has asked for; those where nothing ever changes count as one."""
    found = {directory for lookup in at.referee.lookups for directory in lookup.directories}
    assert found.isdisjoint(OTHERS) or found.issuperset(OTHERS)
    return found.difference(OTHERS[1:])


async def test_only_directories_that_have_changed_are_asked_for(runtime: str, tmp_path: Path) -> None:
    async with stage(runtime, watch=False, state=str(tmp_path)) as at:
        life = await furnished(at)
        assert asked(at) == {b"", b"a", b"b", b"b/below", b"p"}
        at.driver.write(b"b/below/three", b"edited")
        at.driver.write(b"b/new", b"new")
        at.driver.remove(b"a/one")
        life = await at.another(life)
        assert asked(at) == {b"b", b"b/below", b"a"}
        assert {event.path: event.seen for event in at.referee.events} == {
            b"a/one": Seen.GONE,
            b"b/below/three": Seen.STANDS,
            b"b/new": Seen.STANDS,
        }
        # Of what was told nothing is familiar; the rest is still.
        life = await at.another(life)
        assert asked(at) == {b"b", b"b/below", b"a"}
        assert at.referee.events == []
        await at.another(life)
        assert asked(at) == set()


async def test_a_rename_of_a_directory_is_seen_with_all_that_is_in_it(runtime: str, tmp_path: Path) -> None:
    async with stage(runtime, watch=False, state=str(tmp_path)) as at:
        life = await furnished(at)
        at.driver.rename(b"b", b"a/c")
        life = await at.another(life)
        assert sorted((event.source, event.path) for event in at.referee.events if event.seen is Seen.MOVED) == [
            (b"b/below/three", b"a/c/below/three"),
            (b"b/four", b"a/c/four"),
        ]
        assert at.referee.seen(Seen.GONE) == [b"b/below", b"b"]
        for _ in range(2):
            life = await at.another(life)
            assert at.referee.events == []


@pytest.mark.parametrize("known", ["less", "more", "other"])
async def test_what_the_referee_knows_otherwise_is_found_all_the_same(runtime: str, tmp_path: Path, known: str) -> None:
    """As where the store, or what is kept here, was put back to another time."""
    async with stage(runtime, watch=False, state=str(tmp_path)) as at:
        life = await furnished(at)
        row = at.referee.rows[b"a/one"]
        if known == "less":
            del at.referee.rows[b"a/one"]
        elif known == "more":
            at.referee.rows[b"a/lost"] = Known(b"a/lost", b"9:9", row.version)
        else:
            at.referee.rows[b"a/one"] = Known(b"a/one", b"9:9", row.version)
        life = await at.another(life)
        assert asked(at) == {b"", b"a", b"b", b"b/below", b"p"}
        (event,) = at.referee.events
        assert event.path == (b"a/lost" if known == "more" else b"a/one")
        assert event.seen is (Seen.GONE if known == "more" else Seen.STANDS)
        life = await at.another(life)
        assert asked(at) == {b"", b"a", b"b", b"b/below", b"p"}
        assert at.referee.events == []
        await at.another(life)
        assert asked(at) == set()


async def test_a_directory_that_can_be_read_again_is_told_though_nothing_in_it_has_changed(
    runtime: str, tmp_path: Path
) -> None:
    async with stage(runtime, state=str(tmp_path)) as at:
        life = await furnished(at)
        at.driver.incomplete.add(b"b/below")
        await at.hint(Hint(HintKind.OVERFLOW))
        await at.referee.until(lambda: at.referee.seen(Seen.HIDDEN) == [b"b/below"])
        at.driver.incomplete.clear()
        await at.another(life)
        assert at.referee.seen(Seen.STANDS) == [b"b/below"]
        assert asked(at) == {b"b"}


async def test_what_another_filter_hides_is_told_though_nothing_has_changed(runtime: str, tmp_path: Path) -> None:
    """Or an order could touch it as if it were managed."""
    async with stage(runtime, watch=False, state=str(tmp_path)) as at:
        await furnished(at)
        things, rows, marker = at.driver.things, at.referee.rows, at.driver.marker
    async with stage(runtime, Filter(blacklist=("two",)), watch=False, state=str(tmp_path)) as at:
        at.driver.things, at.referee.rows, at.driver.marker = things, rows, marker
        await at.started()
        assert at.referee.seen(Seen.HIDDEN) == [b"a/two"]


async def test_what_an_order_did_is_not_familiar(runtime: str, tmp_path: Path) -> None:
    async with stage(runtime, watch=False, state=str(tmp_path)) as at:
        life = await furnished(at)
        life = await at.another(life)
        at.peer("p1", b"new")
        await at.referee.order(put(1, b"a/three", b"new", "p1"))
        await at.referee.until(lambda: at.referee.answer(1))
        at.driver.write(b"a/three", b"edited")
        await at.another(life)
        assert asked(at) == {b"a"}
        assert at.referee.seen(Seen.STANDS) == [b"a/three"]


async def test_a_life_that_was_killed_leaves_nothing_to_trust(tmp_path: Path) -> None:
    sheet = FileSheet(str(tmp_path / "familiar" / "one"))
    familiar = Familiar(sheet)
    familiar.meet(b"a", b"x" * 64)
    familiar.keep()
    assert Familiar(sheet).recall()
    assert not Familiar(sheet).recall()


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x81\xa1a", b"no map"])
async def test_what_is_damaged_is_not_there(tmp_path: Path, damage: bytes) -> None:
    sheet = FileSheet(str(tmp_path / "familiar" / "one"))
    sheet.replace(damage)
    familiar = Familiar(sheet)
    assert not familiar.recall()
    assert familiar.tallies([b"a"]) == {}


async def test_what_was_told_of_a_path_takes_its_directory_out(tmp_path: Path) -> None:
    sheet = FileSheet(str(tmp_path / "familiar" / "one"))
    familiar = Familiar(sheet)
    for directory in (b"", b"a", b"a/b", b"c"):
        familiar.meet(directory, directory.ljust(64))
    familiar.looked(4)
    familiar.forget(b"a/b")
    familiar.keep()
    kept = Familiar(sheet)
    assert kept.recall()
    assert set(kept.tallies([b"", b"a", b"a/b", b"c"])) == {b"", b"a/b", b"c"}


async def test_where_less_than_half_is_familiar_nothing_is_kept(tmp_path: Path) -> None:
    sheet = FileSheet(str(tmp_path / "familiar" / "one"))
    familiar = Familiar(sheet)
    familiar.meet(b"a", b"x" * 64)
    familiar.looked(3)
    familiar.keep()
    assert not Familiar(sheet).recall()


async def test_where_it_cannot_be_kept_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "familiar").write_text("in the way")
    familiar = Familiar(FileSheet(str(tmp_path / "familiar" / "one")))
    familiar.meet(b"a", b"x" * 64)
    familiar.keep()
    assert not familiar.recall()


async def test_a_proof_is_the_tally_of_all_that_was_told_and_trusted(runtime: str) -> None:
    async with stage(runtime) as at:
        for path in TREE:
            at.driver.write(path, path)
        rows = {path: at.driver.known(path) for path in at.driver.things}
        whole, parts = Proof(), Proof()
        whole.told(rows.values())
        entries = [entry for path in (b"a/one", b"a/two") if (entry := at.driver.entry(path)) is not None]
        parts.trust(tally_of(entries))
        parts.told(row for path, row in rows.items() if not path.startswith(b"a/"))
        assert bytes(whole) == bytes(parts)
        parts.trust(tally_of(entries))
        assert bytes(whole) != bytes(parts)
