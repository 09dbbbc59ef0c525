from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from onitu.cli import asking, configuration, failing
from onitu.cli.main import cli
from onitu.model.errors import ConfigurationError, OnituError, PeerGone, StateError, Unavailable

GOOD = """\
name: test
folders: {docs: }
services:
  a: {driver: local_storage, folders: {docs: a}}
  b: {driver: local_storage, folders: {docs: b}}
"""

COMMANDS = sorted(cli.commands)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(cli, list(arguments), input=typed)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("completion", "conflicts", "stop")])
def test_help_has_examples(command: str) -> None:
    assert f"onitu {command}" in run(command, "--help").stdout


def test_the_version_is_told() -> None:
    assert run("--version").stdout.startswith("onitu ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    assert "_ONITU_COMPLETE" in run("completion", shell).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["sync"],
        ["sync", "--nope"],
        ["sync", "a", "b", "--dry-run", "--watch"],
        ["log", "-n", "0"],
        ["explain"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error:" in result.stderr
    assert result.stdout == ""


COMMANDS_WITH_FILE = ["start", "stop", "status", "pause", "resume", "rescan", "approve", "conflicts", "log", "check"]


@pytest.mark.parametrize("command", COMMANDS_WITH_FILE)
def test_a_configuration_error_is_told_and_nothing_is_started(command: str, place: Path) -> None:
    (place / "onitu.yaml").write_text(GOOD.replace("a}", "b}"))
    result = run(command)
    assert result.exit_code == 2
    assert result.stderr.startswith("onitu: onitu.yaml:5: services.b.folders.docs: ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (place.parent / "state").exists()


@pytest.mark.parametrize("command", [*COMMANDS_WITH_FILE[1:-1], "explain"])
def test_without_a_daemon_there_is_nobody_to_ask(command: str, place: Path) -> None:
    (place / "onitu.yaml").write_text(GOOD)
    result = run(command, *(["x"] if command == "explain" else []))
    assert result.exit_code == 2
    assert "no daemon is running on" in result.stderr
    assert "`onitu start`" in result.stderr


def test_without_a_configuration_the_usual_places_are_named(place: Path) -> None:
    result = run("status")
    assert result.exit_code == 2
    assert "there is no onitu.yaml here and no" in result.stderr


def test_the_configuration_is_found_in_the_usual_places(place: Path) -> None:
    other = place.parent / "config" / "onitu" / "onitu.yaml"
    other.parent.mkdir(parents=True)
    other.write_text(GOOD)
    assert asking.configuration_file("") == other
    (place / "onitu.yaml").write_text(GOOD)
    assert asking.configuration_file("") == Path("onitu.yaml")
    assert asking.configuration_file("x.yaml") == Path("x.yaml")


def test_sync_refuses_what_is_no_replica_and_starts_nothing(place: Path) -> None:
    (place / "a").mkdir()
    result = run("sync", "a", "smb://bucket", "ftp:///x")
    assert result.exit_code == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["smb://bucket", "ftp:///x"]
    assert not (place.parent / "state").exists()


def test_drivers_lists_options_for_people_and_for_programs() -> None:
    assert "local_storage: " in run("drivers").stdout
    lines = [json.loads(line) for line in run("drivers", "--json").stdout.splitlines()]
    assert {"local_storage", "local"} <= {line["name"] for line in lines}
    assert run("drivers", "nope").exit_code == 2


# --- init -------------------------------------------------------------------------------------------------------


def test_init_writes_a_configuration_that_loads(place: Path) -> None:
    (place / "b").mkdir()
    result = run("init", typed="my home\ndocs\na\ny\nlaptop\nb\nusb\n\nn\n")
    assert result.exit_code == 0, result.output
    settings = configuration.load(place / "onitu.yaml").settings
    assert settings.name == "my home"
    assert {name: s.replicas["docs"].path for name, s in settings.services.items()} == {
        "laptop": str(place / "a"),
        "usb": str(place / "b"),
    }
    assert (place / "a").is_dir()


def test_init_does_not_write_over_a_file(place: Path) -> None:
    (place / "onitu.yaml").write_text("mine")
    assert run("init").exit_code == 2
    assert (place / "onitu.yaml").read_text() == "mine"


def test_init_does_not_take_a_directory_for_a_file(place: Path) -> None:
    result = run("init", "--force", "-c", str(place))
    assert result.exit_code == 2
    assert "is a directory: name the file" in result.stderr


@pytest.mark.parametrize("words", [("drivers", "--json"), ("--help",), ("sync", "--help")])
def test_what_the_host_is_short_of_is_no_bug(words: tuple[str, ...]) -> None:
    """As where standard output goes to a disk that is full."""
    command = [sys.executable, "-m", "onitu", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "onitu: no space left on device\n"


@pytest.mark.parametrize("name", ["x" * 300, "d/" * 2500], ids=["a name", "a path"])
def test_a_replica_with_a_name_that_no_file_system_has_is_no_bug(place: Path, name: str) -> None:
    (place / "a").mkdir()
    command = [sys.executable, "-m", "onitu", "sync", "a", name]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("file name too long\n")
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 300


def test_init_writes_nothing_that_would_not_load(place: Path) -> None:
    for name in ("a", "a/b"):
        (place / name).mkdir()
    result = run("init", typed="home\ndocs\na\none\na/b\ntwo\n\nn\n")
    assert result.exit_code == 2
    assert "lies inside" in result.stderr
    assert sorted(os.listdir(place)) == ["a"]


def test_init_asks_again_for_an_impossible_name(place: Path) -> None:
    result = run("init", typed="a/b\nhome\ndocs\na\ny\none\nb\ny\ntwo\n\nn\n")
    assert result.exit_code == 0
    assert "'a/b' cannot be a name" in result.stderr


# --- failing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigurationError(["one", "two"]), 2, "onitu: one\nonitu: two\n"),
        (StateError("in use"), 2, "onitu: in use\n"),
        (Unavailable("not mounted"), 1, "onitu: not mounted\n"),
        (OnituError("odd"), 1, "onitu: odd\n"),
        (PeerGone("x"), 3, "onitu: x\nonitu: `onitu.log` in the state directory tells what led to it\n"),
        (asking.NotRunning("nobody"), 2, "onitu: nobody\n"),
        (KeyboardInterrupt(), 130, "onitu: interrupted\n"),
        (click.Abort(), 130, "onitu: interrupted\n"),
        (ExceptionGroup("g", [StateError("x"), ExceptionGroup("h", [Unavailable("y")])]), 2, "onitu: x\nonitu: y\n"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError()]), 130, "onitu: interrupted\n"),
    ],
)
def test_an_error_has_its_exit_code_and_no_traceback(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing.exit_code(error) == code
    assert capsys.readouterr().err == said


def test_an_internal_error_shows_its_traceback_and_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing.exit_code(ExceptionGroup("g", [ValueError("oops")])) == 3
    said = capsys.readouterr().err
    assert "ValueError: oops" in said
    assert "onitu.log" in said


# --- as a process -----------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    script = f"{sys.executable} -m onitu drivers --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() in ("0", "1")
    assert done.stderr == ""


def test_help_imports_neither_trio_nor_zeromq(place: Path) -> None:
    script = "import sys, onitu.cli.main; print([m for m in ('trio', 'zmq', 'rich', 'ruamel') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
