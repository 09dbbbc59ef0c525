"""The audit: what stands is read, and compared with what is known of it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from msgspec.structs import replace

from onitu.model.settings import Filter
from onitu.model.versions import Kind, Version
from onitu.plug import audit
from onitu.plug.audit import differing_meta
from onitu.plug.driver import Capabilities, Hint, HintKind
from onitu.wire.messages import Audit, Known

from .kit import FOLDER, MemoryDriver, Stage, Thing, stage


def fill(driver: MemoryDriver, number: int = 5) -> None:
    for n in range(number):
        driver.write(b"d/f%d" % n, b"content %d" % n)


def rot(driver: MemoryDriver, path: bytes) -> None:
    """The content changes, and neither size, nor time, nor token tell."""
    thing = driver.things[path]
    thing.data = bytes(reversed(thing.data))


def forge(at: Stage, path: bytes, **more: Any) -> None:
    """Something else is known of the path than what stands there."""
    row = at.referee.rows[path]
    at.referee.rows[path] = Known(row.path, row.token, replace(row.version, **more))


async def test_nothing_disagrees_where_all_is_as_it_was_told(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver)
        await at.started()
        assert await at.referee.audit() == {}
        report = at.referee.last_report(1)
        assert (report.checked, report.read, report.trouble) == (6, 5 * 9, "")


async def test_content_that_rots_under_an_unchanged_token_is_found(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver)
        await at.started()
        rot(at.driver, b"d/f3")
        assert await at.referee.audit() == {b"d/f3": audit.DAMAGED}


async def test_what_went_came_or_changed_unseen_is_found(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver)
        at.driver.write(b"gone/x", b"x")
        await at.started()
        told = len(at.referee.events)
        at.driver.write(b"d/f0", b"another")  # nobody hints at any of it
        at.driver.write(b"d/f1", b"CONTENT 1")
        at.driver.remove(b"d/f2")
        at.driver.things[b"d/f3"] = Thing(Kind.DIRECTORY)
        at.driver.write(b"d/new", b"new")
        at.driver.remove(b"gone")
        assert await at.referee.audit() == {
            b"d/f0": "it has 7 bytes, known are 9",
            b"d/f1": audit.DIFFERENT,
            b"d/f2": audit.MISSING,
            b"d/f3": "a directory stands here, known is a file",
            b"d/new": audit.UNKNOWN,
            b"gone": audit.MISSING_DIRECTORY,
        }
        assert len(at.referee.events) == told  # an audit tells nothing, and so nothing follows from it


async def test_mode_and_time_are_compared(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver)
        await at.started()
        forge(at, b"d/f0", mode=0o600)
        forge(at, b"d/f1", mtime=5)
        forge(at, b"d", mode=0o700)
        forge(at, b"d/f2", mode=0)  # a service that keeps no modes told it
        found = await at.referee.audit()
        assert found.keys() == {b"d", b"d/f0", b"d/f1"}
        assert found[b"d/f0"] == "its mode is 0644, known is 0600"


async def test_what_is_not_managed_here_may_stand_as_it_likes(runtime: str) -> None:
    async with stage(runtime, Filter(blacklist=("*.tmp", "private/"))) as at:
        fill(at.driver)
        await at.started()
        at.driver.write(b"d/x.tmp", b"x")
        at.driver.write(b"private/x", b"x")
        for path, more in ((b"d/f0", {"hidden": True}), (b"d/f1", {"gone": True})):
            at.referee.rows[path] = at.driver.known(path, **more)
            at.driver.remove(path)
        assert await at.referee.audit() == {}


async def test_a_service_that_is_only_written_may_have_more(runtime: str) -> None:
    async with stage(runtime) as at:
        here = at.charter.settings.services["here"]
        here.replicas[FOLDER] = attrs.evolve(here.replicas[FOLDER], mode="w")
        fill(at.driver)
        await at.started()
        at.driver.write(b"d/own", b"x")
        assert await at.referee.audit() == {}


async def test_an_edit_in_between_is_no_disagreement(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver)
        await at.started()

        def edit() -> None:
            at.driver.before_fingerprint = None
            at.driver.write(b"d/f0", b"edited while the audit read the others")
            at.driver.remove(b"d/f1")
            assert at.driver.hints is not None
            for path in (b"d/f0", b"d/f1"):
                at.driver.hints.send_nowait(Hint(HintKind.CHANGED, path))

        at.driver.before_fingerprint = edit
        assert await at.referee.audit() == {}


async def test_reports_are_bounded_and_none_is_lost(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver, 1500)
        await at.started()
        for n in range(1500):
            if n != 77:
                rot(at.driver, b"d/f%d" % n)
        with trio.fail_after(20):
            found = await at.referee.audit()
        assert found.keys() == {b"d/f%d" % n for n in range(1500) if n != 77}
        assert max(len(report.found) for report in at.referee.audited) <= audit.FOUND
        assert at.referee.last_report(1).checked == 1501


async def test_a_new_audit_ends_the_one_before(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "EVERY", 0.0)
    async with stage(runtime) as at:
        fill(at.driver)
        await at.started()
        reading = at.driver.fingerprint

        async def hang(*_: object) -> list[object]:
            await trio.sleep_forever()
            return []

        monkeypatch.setattr(at.driver, "fingerprint", hang)
        await at.referee.send(Audit(FOLDER, 1))
        await at.referee.until(lambda: at.referee.last_report(1).reading)
        monkeypatch.setattr(at.driver, "fingerprint", reading)
        assert await at.referee.audit(2) == {}
        assert not at.referee.last_report(1).done


async def test_a_root_that_goes_away_ends_it_with_the_reason(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver)
        await at.started()
        at.driver.unavailable = "the disk is gone"
        assert await at.referee.audit() == {}
        assert at.referee.last_report(1).trouble == "the disk is gone"


async def test_a_directory_that_cannot_be_listed_is_told(runtime: str) -> None:
    async with stage(runtime) as at:
        fill(at.driver)
        await at.started()
        at.driver.incomplete.add(b"d")
        assert await at.referee.audit() == {b"d": "no access"}


def test_a_directory_whose_mode_the_service_does_not_tell_differs_in_nothing() -> None:
    known = Version(Kind.DIRECTORY, mode=0o755)
    assert differing_meta(known, Version(Kind.DIRECTORY), Capabilities()) is None
    assert differing_meta(known, Version(Kind.DIRECTORY, mode=0o700), Capabilities()) is not None
    file = Version(Kind.FILE, mode=0o644)
    assert differing_meta(file, Version(Kind.FILE), Capabilities()) is not None
