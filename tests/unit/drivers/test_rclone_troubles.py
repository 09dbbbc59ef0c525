"""What goes wrong with rclone and its remotes: it is told, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from onitu.drivers.rclone import rcd, remote
from onitu.drivers.rclone.errors import Failed
from onitu.model import paths
from onitu.model.errors import Unavailable
from onitu.model.events import Seen, Trouble
from onitu.plug.driver import Identity
from onitu.plug.remote import Busy
from tests.servers.rclone import Cloud, binary, cloud

from .rclones import FOLDER, Stage, opened, staged


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged("disk", tmp_path) as stage:
        yield stage


# --- troubles -------------------------------------------------------------------------------------------------------


async def identified(here: Cloud, tmp_path: Path, **options: str | bool) -> None:
    async with opened(here, tmp_path / "workspace", **options) as driver:
        await driver.identify(FOLDER)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"remote": "nowhere"}, r"there is no remote nowhere in .*/rclone\.conf: `rclone config` makes one"),
        ({"program": "/nowhere/rclone"}, "there is no program /nowhere/rclone"),
        ({"program": sys.executable}, "is no rclone: 1.65 or newer is needed"),
    ],
)
async def test_a_configuration_that_cannot_work_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], sentence: str
) -> None:
    monkeypatch.setattr(rcd, "START", 1.0)
    with pytest.raises(Unavailable, match=sentence):
        await identified(cloud(tmp_path, "disk"), tmp_path, **change)


async def test_an_old_rclone_is_refused_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcd, "START", 1.0)
    old = tmp_path / "rclone"
    old.write_text("#!/bin/sh\necho rclone v1.60.1-DEV\n")
    old.chmod(0o755)
    with pytest.raises(Unavailable, match=r"is rclone v1\.60\.1-DEV: 1\.65 or newer is needed"):
        await identified(cloud(tmp_path, "disk"), tmp_path, program=str(old))


async def test_an_rclone_that_ends_at_once_is_told_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rcd, "START", 1.0)
    ill = tmp_path / "rclone"
    fails = "echo '2026/01/02 03:04:05 CRITICAL: Failed to load config file: it is encrypted' >&2; exit 1"
    ill.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo rclone v1.70.0 && exit\n{fails}\n')
    ill.chmod(0o755)
    with pytest.raises(Unavailable, match="CRITICAL: Failed to load config file: it is encrypted"):
        await identified(cloud(tmp_path, "disk"), tmp_path, program=str(ill))


async def test_a_program_that_hangs_is_no_rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcd, "START", 0.2)
    hangs = tmp_path / "rclone"
    hangs.write_text("#!/bin/sh\nexec sleep 1000\n")
    hangs.chmod(0o755)
    with pytest.raises(Unavailable, match=r"rclone does not run: (it does not answer|.* is no rclone)"):
        await identified(cloud(tmp_path, "disk"), tmp_path, program=str(hangs))


async def test_a_root_that_is_not_there_is_none_and_is_not_made(tmp_path: Path) -> None:
    here = cloud(tmp_path, "disk")
    here.files.rmdir()
    with pytest.raises(Unavailable, match=f"there is no directory disk:{here.files}"):
        await identified(here, tmp_path)
    assert not here.files.exists()


async def test_an_encrypted_configuration_is_opened_by_its_password_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RCLONE_CONFIG_PASS", raising=False)
    here = cloud(tmp_path, "disk")
    subprocess.run(  # noqa: ASYNC221  # nothing else runs
        [binary(), "--config", here.config, "config", "encryption", "set"],
        **{"input": b"open sesame\nopen sesame\n", "capture_output": True, "check": True},
    )
    assert b"type = local" not in here.config.read_bytes()
    for given in ("open nothing", ""):
        with pytest.raises(Unavailable, match="onfig") as caught:
            await identified(here, tmp_path, config_password=given)
        assert "open nothing" not in str(caught.value)
    async with opened(here, tmp_path / "workspace", config_password="open sesame") as driver:
        assert await driver.identify(FOLDER) == Identity()
        pid = (await driver.rcd.ask("core/pid"))["pid"]
        assert b"sesame" not in await trio.Path(f"/proc/{pid}/cmdline").read_bytes()
        assert "sesame" not in repr(driver.options) + repr(driver.rcd)


async def test_settings_that_would_hide_files_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_EXCLUDE", "*")
    monkeypatch.setenv("RCLONE_DRY_RUN", "true")
    async with staged("disk", tmp_path) as stage:
        assert (await stage.put(b"file", b"data")).seen is Seen.DONE
        assert set(await stage.tree()) == {b"file"}


async def test_a_transfer_is_not_disturbed_by_the_end_of_one_that_was_cancelled(
    disk: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was cancelled is cleared away by rclone a moment later; the same content may be on its way again by then."""
    data = os.urandom(4_000_000)
    transfer, names = rcd.Rcd.transfer, []

    async def noted(self: rcd.Rcd, command: str, **given: Any) -> None:
        names.append(given["_config"]["PartialSuffix"])
        await transfer(self, command, **given)

    monkeypatch.setattr(rcd.Rcd, "transfer", noted)
    for turn in range(30):
        name = b"file %d" % turn
        with trio.move_on_after(0.002 + turn / 2_000):
            await disk.put(name, data)
        if await disk.driver.stat(FOLDER, [name]) != [None]:
            continue
        # Or what was cancelled came through all the same, after that look.
        assert (await disk.put(name, data)).seen in (Seen.DONE, Seen.STANDS), turn
        assert await disk.content(name) == data
    assert names
    assert len(set(names)) == len(names), "two may be on their way under one name"


async def test_rclone_is_started_again_when_it_dies(disk: Stage) -> None:
    await disk.put(b"file", b"one")
    pid = (await disk.driver.rcd.ask("core/pid"))["pid"]
    os.kill(pid, signal.SIGKILL)
    with trio.fail_after(60):
        while not disk.driver.rcd.deaths:  # noqa: ASYNC110
            await trio.sleep(0.01)  # between two looks at a condition
    assert await disk.content(b"file") == b"one"
    assert (await disk.driver.rcd.ask("core/pid"))["pid"] != pid


DRIVE = """
import sys, trio
from onitu.drivers.rclone import RcloneDriver

async def main():
    config, program, root, workspace = sys.argv[1:]
    driver = RcloneDriver("nas", {"remote": "disk", "config": config, "program": program}, {"docs": root})
    driver.workspace = workspace
    async with driver.open():
        print((await driver.rcd.ask("core/pid"))["pid"], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_rclone_does_not_outlive_a_driver_that_was_killed(tmp_path: Path) -> None:
    here = cloud(tmp_path, "disk")
    command = [sys.executable, "-c", DRIVE, here.config, binary(), here.files, tmp_path / "workspace"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        pid = int(await trio.to_thread.run_sync(process.stdout.readline))
        descriptor = os.pidfd_open(pid)
        process.kill()
        try:
            with trio.fail_after(60):
                await trio.lowlevel.wait_readable(descriptor)  # it is dead
        finally:
            os.close(descriptor)


async def test_a_directory_that_cannot_be_written_refuses_and_the_others_go_on(disk: Stage) -> None:
    denied = disk.cloud.files / "denied"
    denied.mkdir()
    if subprocess.run(["chattr", "+i", denied], capture_output=True, check=False).returncode:  # noqa: ASYNC221
        pytest.skip("this file system has no immutable directories")
    try:
        event = await disk.put(b"denied/file", b"data")
        assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.DENIED)
        assert event.reason.startswith("nas: cannot rename denied/file: ") or "denied/file" in event.reason
        assert (await disk.put(b"free", b"data")).seen is Seen.DONE
    finally:
        subprocess.run(["chattr", "-i", denied], check=True)  # noqa: ASYNC221


async def test_a_directory_that_cannot_be_listed_hides_no_other(disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await disk.guest.write("good/file", b"data")
    await disk.guest.write("bad/file", b"data")
    ask = rcd.Rcd.ask

    async def failing(self: rcd.Rcd, command: str, **given: object) -> dict[str, object]:
        if command == "operations/list" and (given["remote"] == "bad" or given["opt"].get("recurse")):  # type: ignore[attr-defined]
            raise Failed("error in ListJSON: failed to open directory bad: permission denied")
        return await ask(self, command, **given)

    monkeypatch.setattr(rcd.Rcd, "ask", failing)
    top, good, bad = await disk.driver.scan(FOLDER, [paths.ROOT, b"good", b"bad"])
    assert [entry.path for entry in (*top.entries, *good.entries)] == [b"bad", b"good", b"good/file"]
    assert not bad.complete
    assert "permission denied" in bad.reason


async def test_a_transfer_that_stalls_is_given_up(disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcd, "STALLED", 0.3)
    asked: list[str] = []
    ask = rcd.Rcd.ask

    async def stuck(self: rcd.Rcd, command: str, **given: object) -> dict[str, object]:
        asked.append(command)
        if command == "operations/copyfile":
            await trio.sleep_forever()
        return await ask(self, command, **given)

    monkeypatch.setattr(rcd.Rcd, "ask", stuck)
    with trio.fail_after(60), pytest.raises(Busy, match=r"nothing moved for 0\.3 s"):
        await disk.driver.rcd.transfer("operations/copyfile")
    assert "core/stats" in asked


async def test_several_things_of_one_name_are_left_alone(disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await disk.guest.write("twice", b"data")
    await disk.guest.write("once", b"data")
    ask = rcd.Rcd.ask

    async def doubled(self: rcd.Rcd, command: str, **given: object) -> dict[str, object]:
        answer = await ask(self, command, **given)
        if command == "operations/list":
            answer["list"] = [item for item in answer["list"] for _ in range(1 + (item["Path"] == "twice"))]  # type: ignore[attr-defined]
        return answer

    monkeypatch.setattr(rcd.Rcd, "ask", doubled)
    tree = await disk.tree()
    assert tree[b"twice"].trouble is Trouble.UNSUPPORTED
    assert not tree[b"once"].trouble


async def test_a_service_whose_clock_is_an_hour_off_is_known_as_that(
    disk: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = 3600 * 10**9
    list_ = remote.RcloneRemote._list

    async def ahead(self: remote.RcloneRemote, directory: bytes, recurse: bool = False) -> dict[bytes, object]:
        found = await list_(self, directory, recurse)
        return {path: msgspec.structs.replace(thing, mtime=thing.mtime + hour) for path, thing in found.items()}

    monkeypatch.setattr(remote.RcloneRemote, "_list", ahead)
    await disk.driver.identify(FOLDER)
    await disk.driver.mark(FOLDER, Identity("me", 2, 3))
    replica = disk.driver._root(FOLDER).replica
    assert replica.ahead is not None
    assert abs(replica.ahead - hour) < 30 * 10**9
    assert replica.young(time.time_ns() + hour)
    assert not replica.young(time.time_ns())
