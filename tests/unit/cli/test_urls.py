from __future__ import annotations

import os
from pathlib import Path

import pytest

from onitu.cli import urls
from onitu.model.errors import ConfigurationError


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


def made(tmp_path: Path, *names: str) -> list[str]:
    for name in names:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    return [str(tmp_path / name) for name in names]


def refused(*arguments: str, **options: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        urls.plan(arguments, **options)  # type: ignore[arg-type]
    return "\n".join(caught.value.problems)


def services(*arguments: str) -> dict[str, str]:
    settings = urls.plan(arguments).settings
    return {name: service.replicas["sync"].path for name, service in settings.services.items()}


def test_services_are_named_after_their_directories(tmp_path: Path) -> None:
    a, b = made(tmp_path, "laptop", "usb stick")
    assert services(a, b) == {"laptop": a, "usb stick": b}


def test_names_that_clash_take_in_the_directories_above(tmp_path: Path) -> None:
    a, b, c = made(tmp_path, "home/docs", "usb/docs", "other")
    assert services(a, b, c) == {"home-docs": a, "usb-docs": b, "other": c}


def test_names_that_cannot_be_told_apart_are_numbered(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a/b:c", "a/b;c")
    assert len(services(a, b)) == 2


def test_odd_and_long_names_are_made_harmless(tmp_path: Path) -> None:
    a, b = made(tmp_path, "-{x}*", "n" * 200)
    names = list(services(a, b))
    assert "x" in names
    assert all(len(name.encode()) <= 40 for name in names)


def test_the_order_of_the_arguments_does_not_matter(tmp_path: Path) -> None:
    a, b, c = made(tmp_path, "a", "b", "x/a")
    one, other = urls.plan([a, b, c]).settings, urls.plan([c, a, b]).settings
    assert one == other


def test_another_set_of_replicas_has_another_state(tmp_path: Path, state: Path) -> None:
    a, b, c = made(tmp_path, "a", "b", "c")
    states = {urls.plan(replicas).settings.state for replicas in ([a, b], [a, c], [a, b, c])}
    assert len(states) == 3
    assert all(Path(found).parent == state / "onitu" for found in states)


def test_a_relative_path_a_link_and_a_url_name_the_same_replica(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a b", "b")
    (tmp_path / "link").symlink_to(b)
    assert (
        urls.plan(["a b", "link"]).settings
        == urls.plan([f"file://{a.replace(' ', '%20')}", f"file://localhost{b}"]).settings
    )


def test_the_last_directory_may_be_missing_and_is_made(tmp_path: Path) -> None:
    (a,) = made(tmp_path, "a")
    plan = urls.plan([a, "new"])
    assert plan.missing == (tmp_path / "new",)
    assert not (tmp_path / "new").exists()
    urls.make_missing(plan.missing)
    assert (tmp_path / "new").is_dir()


def test_nothing_is_made_below_a_missing_directory(tmp_path: Path) -> None:
    (a,) = made(tmp_path, "a")
    assert "neither this directory nor the one above it exists" in refused(a, "x/y")


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    (a,) = made(tmp_path, "a")
    assert "a dry run makes nothing" in refused(a, "new", dry_run=True)  # type: ignore[arg-type]


def test_a_replica_that_is_gone_since_the_last_run_is_not_made_anew(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a", "b")
    settings = urls.plan([a, b]).settings
    made(tmp_path, os.path.relpath(settings.state, tmp_path) + "/store")
    (tmp_path / "b").rmdir()
    assert "is gone since the last run; mount it" in refused(a, b)


def test_two_missing_directories_are_a_mistake(tmp_path: Path) -> None:
    assert "none of the replicas exists" in refused("x", "y")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("ftp://me:secret@/x", "ftp://me:***@/x: the host is missing: ftp://USER@HOST/PATH"),
        ("sftp:///x", "sftp:///x: the host is missing: sftp://USER@HOST/PATH"),
        ("davs://me@/x", "davs://me@/x: the host is missing: davs://USER@HOST/PATH"),
        ("rclone:remote", "rclone:remote: a remote of your rclone.conf is written rclone:REMOTE:PATH"),
        ("smb://nas/x", "smb:// is no kind of replica; allowed are a path, file://, sftp://"),
        ("file://nas/x", "a file:// URL has no host"),
        ("me@nas:/x", "a place on another host is a URL, like sftp://USER@HOST/PATH"),
        ("", "'' is not a path"),
        ("file", "is not a directory"),
        ("a/inner", "lies inside"),
        ("a/../a", "is the same directory as"),
        (os.fsdecode(b"\xff"), r"\xff: the path of a replica must be UTF-8"),
    ],
)
def test_what_is_no_replica_is_refused(tmp_path: Path, argument: str, expected: str) -> None:
    (a,) = made(tmp_path, "a")
    made(tmp_path, "a/inner")
    (tmp_path / "file").touch()
    assert expected in refused(a, argument)


def test_one_replica_is_too_few(tmp_path: Path) -> None:
    assert "name at least two replicas" in refused(*made(tmp_path, "a"))


def test_the_state_may_not_be_in_a_replica(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a", "b")
    assert "the state directory" in refused(a, b, state=a + "/state")


def test_the_preferred_replica_is_named_as_an_argument_a_path_or_a_service(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a", "b")
    for prefer in (b, "b", "./b", f"file://{b}"):
        assert urls.plan([a, b], prefer=prefer).settings.folders["sync"].conflict == "prefer:b"
    assert urls.plan([a, b]).settings.folders["sync"].conflict == "newest"


def test_a_preferred_stranger_is_refused(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a", "b")
    assert "--prefer c: is none of the replicas" in refused(a, b, prefer="c")
