from __future__ import annotations

import os
from pathlib import Path

import pytest

from onitu.model.errors import StateError
from onitu.supervisor import runtime
from onitu.supervisor.runtime import LONGEST_SOCKET, control_endpoint, prepared, runtime_directory


@pytest.fixture
def state(tmp_path: Path) -> str:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return str(state)


def test_the_directory_follows_from_the_state_directory_alone(state: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(state)
    assert runtime_directory(state) == runtime_directory(str(link)) == runtime_directory(state + "/")
    assert runtime_directory(state) != runtime_directory(str(tmp_path))


def test_the_directories_are_private_and_the_run_takes_its_own_away(state: str) -> None:
    with prepared(state) as endpoints:
        directory = endpoints.runtime
        assert os.stat(directory).st_mode & 0o777 == 0o700
        assert os.stat(os.path.dirname(directory)).st_mode & 0o777 == 0o700
        assert control_endpoint(state) == endpoints.control
    assert not os.path.exists(os.path.dirname(directory))


def test_the_control_endpoint_is_found_from_another_environment(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with prepared(state) as endpoints:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert control_endpoint(state) == endpoints.control


def test_the_control_endpoint_is_known_without_a_run(state: str) -> None:
    expected = f"ipc://{runtime_directory(state)}/control"
    assert control_endpoint(state) == expected
    with prepared(state) as endpoints:
        assert endpoints.control == expected


@pytest.mark.parametrize("given", ["/tmp/" + "x" * 90, "relative", "/nowhere/at/all", ""])
def test_a_runtime_directory_of_no_use_is_not_used(given: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    assert runtime_directory(state).startswith(f"/tmp/onitu-{os.geteuid()}/")


def test_there_is_room_for_the_name_of_a_drivers_socket(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with prepared(state) as endpoints:
        assert len(endpoints.runtime) + 1 + runtime.LONGEST_NAME <= LONGEST_SOCKET


def test_leftovers_of_a_dead_run_go_but_for_its_log_records(state: str) -> None:
    directory = Path(runtime_directory(state))
    (directory / "old").mkdir(parents=True)
    directory.parent.chmod(0o700)
    directory.chmod(0o700)
    (directory / "old" / "events").touch()
    (directory / "old" / "17.spill").write_text("{}\n")
    (directory / "control").touch()
    with prepared(state) as endpoints:
        assert os.listdir(directory) == [os.path.basename(endpoints.runtime)]
        assert os.listdir(endpoints.runtime) == ["17.spill"]
        os.unlink(os.path.join(endpoints.runtime, "17.spill"))


def refused(state: str, why: str) -> None:
    with pytest.raises(StateError, match=why):
        with prepared(state):
            pass


def test_a_link_in_its_place_is_refused(state: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    directory = Path(runtime_directory(state))
    directory.parent.mkdir(mode=0o700)
    directory.symlink_to(elsewhere)
    refused(state, "a link or a file")
    assert os.listdir(elsewhere) == []


def test_a_directory_that_is_open_to_others_is_refused(state: str) -> None:
    directory = Path(runtime_directory(state))
    directory.parent.mkdir(mode=0o700)
    directory.mkdir()
    directory.chmod(0o755)
    refused(state, "open to others")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(state: str) -> None:
    directory = Path(runtime_directory(state))
    directory.parent.mkdir(mode=0o700)
    os.chown(directory.parent, 12345, 12345)
    refused(state, "belongs to another user")
