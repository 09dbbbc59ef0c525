"""Whose password ~/.netrc has."""

from __future__ import annotations

from pathlib import Path

import pytest

from onitu.model.errors import Unavailable
from onitu.plug.netrc import netrc_of

ENTRY = b"machine nas login me password hunter2\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """~/.netrc, of nobody else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    path = tmp_path / ".netrc"
    path.write_bytes(ENTRY)
    path.chmod(0o600)
    return path


def test_it_is_that_of_the_host_and_of_the_user_where_one_is_named(file: Path) -> None:
    assert netrc_of("nas") == netrc_of("nas", "me") == ("me", "hunter2")
    assert netrc_of("nas", "you") == netrc_of("cloud") == ("", "")
    file.unlink()
    assert netrc_of("nas") == ("", "")


def test_another_file_may_be_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.write_bytes(ENTRY.replace(b"hunter2", b"another"))
    monkeypatch.setenv("NETRC", str(other))
    assert netrc_of("nas") == ("me", "another")


def test_a_password_that_others_can_read_is_not_used(file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(Unavailable, match="others can read it: `chmod 600 ") as caught:
        netrc_of("nas")
    assert "hunter2" not in str(caught.value)
    assert netrc_of("cloud") == ("", ""), "who needs no password of it is not held up"


@pytest.mark.parametrize("content", [b"machine nas login me secret\n", b"machine nas password \xff\xfe\n"])
def test_what_is_no_netrc_is_told_without_what_is_in_it(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Unavailable, match="cannot be read for the password of nas") as caught:
        netrc_of("nas")
    assert "secret" not in str(caught.value)
