"""Without the newer system calls the same orders have the same outcomes, and the capabilities say what is weaker."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from onitu.drivers.local import LocalDriver, private, syscalls
from onitu.model.events import Seen
from onitu.model.orders import Do
from onitu.plug.driver import Identity

from .conftest import Local, directory_version, file_version, link_version


def without_renameat2(patch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    patch.setattr(syscalls, "rename_new", absent)
    patch.setattr(syscalls, "exchange", absent)


def without_openat2(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(syscalls._State, "openat2", False)


def without_leases(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(syscalls, "open_for_writing", lambda fd: None)
    patch.setattr(syscalls, "hold_writers", lambda fd: False)


def without_fine_stamps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(private, "fine_stamps", lambda directory: False)


@pytest.mark.parametrize("without", [without_renameat2, without_openat2, without_leases, without_fine_stamps])
async def test_orders_work_without_it(without, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch)
    root, source = tmp_path / "root", tmp_path / "source"
    root.mkdir()
    source.mkdir()
    async with (driver := LocalDriver("disk", {}, {"f": str(root)})).open():
        await driver.identify("f")
        await driver.mark("f", Identity("m", 1))
        assert driver.capabilities("f").compare_and_swap is (without is not without_renameat2)
        local = Local(driver, root, source)
        (first,) = await local.put(b"a/f", b"1")
        (second,) = await local.put(b"a/f", b"2", expect=first.token, held=file_version(b"1"))
        assert (second.seen, (root / "a/f").read_bytes()) == (Seen.DONE, b"2")
        assert [event.seen for event in await local.put(b"a/f", b"3", expect=first.token)] == [Seen.STANDS]
        assert [event.seen for event in await local.put(b"a/f", b"3")] == [Seen.STANDS]
        (meta,) = await local.order(Do.META, b"a/f", file_version(b"2", 5), expect=second.token)
        assert (meta.seen, (root / "a/f").stat().st_mtime_ns) == (Seen.DONE, 5)
        (moved,) = await local.order(Do.MOVE, b"a/f", file_version(b"2", 5), expect=meta.token, target=b"b/g")
        assert moved.seen is Seen.DONE
        (link,) = await local.order(Do.PUT, b"b/g", link_version(b"x"), expect=moved.token, held=file_version(b"2", 5))
        (directory,) = await local.order(
            Do.PUT, b"b/g", directory_version(), expect=link.token, held=link_version(b"x")
        )
        (deleted,) = await local.order(Do.DELETE, b"b/g", expect=directory.token)
        assert [event.seen for event in (link, directory, deleted)] == [Seen.DONE] * 3
        os.symlink(tmp_path, root / "out")
        assert await driver.stat("f", [b"out/source"]) == [None]
        await local.settled()
    assert local.names() == ["a", "b", "out"]
