"""The driver `sftp` where something fails: connections, keys, rights, disks. It is told in a sentence, and heals."""

from __future__ import annotations

import getpass
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from onitu.drivers.sftp import SftpDriver, ssh, wire
from onitu.drivers.sftp.options import SftpOptions
from onitu.drivers.sftp.remote import SftpRemote
from onitu.drivers.sftp.target import Target, ahead
from onitu.model.errors import Unavailable
from onitu.model.events import Seen, Trouble
from onitu.plug import Refused
from onitu.plug.ahead import give
from onitu.plug.options import given
from onitu.plug.remote import Content, Thing, calls
from tests.integration.test_disks import memory_disk
from tests.servers.sftp import Sshd, agent, make_key, proxied, rclone, sshd

from .sftp_stage import FOLDER, MINE, NEW, OLD, Stage, answer, file_version, opened

BIG = random.Random("big").randbytes(12 << 20)
SECRET = "s3cret; $(wörd) '\""


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd(password=True) as server:
        yield server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries that fail are repeated soon."""
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.02)


async def identified(server: Sshd, **options: object) -> None:
    """Raises what a person is told."""
    driver = SftpDriver("nas", server.options(**options), {FOLDER: str(server.root)})
    async with driver.open():
        await driver.identify(FOLDER)


async def refusal(server: Sshd, **options: object) -> str:
    with pytest.raises(Unavailable) as caught:
        await identified(server, **options)
    return str(caught.value)


# --- ciphers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "asked_for"),
    [
        (
            "aes256-ctr,aes256-gcm@openssh.com,aes128-gcm@openssh.com",
            "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes256-ctr",
        ),
        ("aes256-gcm@openssh.com,aes256-ctr", ""),
        ("chacha20-poly1305@openssh.com,aes256-ctr", ""),
    ],
    ids=["others first", "first already", "not allowed"],
)
async def test_the_fastest_of_the_ciphers_that_the_configuration_allows_come_first(
    allowed: str, asked_for: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "knows_aes", lambda: True)
    (tmp_path / "config").write_text(f"Host nas\n  Ciphers {allowed}\n")
    target = Target(host="nas", config=str(tmp_path / "config"))
    assert await ssh.ciphers_for(target) == asked_for


async def test_a_processor_without_instructions_for_aes_has_the_ciphers_as_ssh_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "knows_aes", lambda: False)
    (tmp_path / "config").write_text("Ciphers aes256-ctr,aes256-gcm@openssh.com\n")
    assert await ssh.ciphers_for(Target(host="nas", config=str(tmp_path / "config"))) == ""


@pytest.mark.parametrize("secret", [{}, {"password": "x"}, {"passphrase": "x"}])
def test_a_connection_is_begun_ahead_only_where_no_secret_is_to_be_told(secret: dict[str, str]) -> None:
    assert (ahead({"host": "nas", **secret}) is None) is bool(secret)


def test_no_connection_is_begun_ahead_where_there_is_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert ahead({"host": "nas"}) is None


@pytest.fixture
def begun_ahead(server: Sshd) -> Iterator[Callable[..., int]]:
    """Begins what a driver with these options takes for its first connection; a child of this process, who reaps it."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(**options: Any) -> int:
        pipe = subprocess.PIPE
        command = Target.of(given(SftpOptions, {**server.options(), **options})).command()
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        processes.append(process)
        streams = process.stdin, process.stdout, process.stderr
        give(process.pid, *(os.dup(stream.fileno()) for stream in streams if stream is not None))
        for stream in filter(None, streams):
            stream.close()
        return process.pid

    yield begin
    for process in processes:
        process.wait(10)


async def test_a_connection_that_was_begun_ahead_is_the_first_one_and_another_follows_it(
    server: Sshd, begun_ahead: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = begun_ahead()
    made, make = [], trio.lowlevel.open_process

    async def counted(command: list[str], **more: Any) -> trio.Process:
        made.append(command)
        return await make(command, **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(trio.lowlevel, "open_process", counted)
    async with opened(server, server.root / "ahead") as stage:
        await stage.put(b"a")
        assert made == []
        os.kill(pid, signal.SIGKILL)
        await stage.put(b"b")
        assert len(made) == 1


async def test_what_a_connection_says_that_was_begun_ahead_is_told(
    server: Sshd, begun_ahead: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / "nobody").touch()
    begun_ahead(known_hosts=str(tmp_path / "nobody"))
    with pytest.raises(Unavailable, match="is not known: run"):
        async with opened(server, server.root / "ahead"):
            pass
    async with opened(server, server.root / "ahead") as stage:  # with the right ones
        await stage.put(b"a")


# --- connections ----------------------------------------------------------------------------------------------------


async def test_an_upload_goes_on_where_a_cut_connection_stopped_it(server: Sshd) -> None:
    with proxied(server) as proxy:
        async with opened(server, server.root / "resume", port=proxy.port, sessions=1) as stage:
            proxy.cut_at = proxy.upstream + 9_000_000
            before = proxy.upstream
            event = answer(await stage.put(b"big", BIG))
            assert event.seen is Seen.DONE, event
            assert stage.visible() == {"big": BIG}
            assert proxy.connections == 2
            # From the start again it would be 9 MB more; what was on its way when it was cut is sent twice.
            assert proxy.upstream - before < len(BIG) + 5_000_000


async def test_an_upload_starts_again_where_the_server_cannot_read_what_is_being_written() -> None:
    with rclone("me", SECRET) as server, proxied(server) as proxy:
        options = {"user": "me", "password": SECRET, "identity": "", "port": proxy.port, "sessions": 1}
        async with opened(server, server.root / "docs", root="docs", **options) as stage:
            proxy.cut_at = proxy.upstream + 5_000_000
            event = answer(await stage.put(b"big", BIG))
            assert event.seen is Seen.DONE, event
            assert stage.visible() == {"big": BIG}
            assert proxy.connections == 2
            assert stage.hidden() == []


async def test_what_another_life_left_of_an_upload_is_used_as_far_as_it_is_right(server: Sshd) -> None:
    with proxied(server) as proxy:
        async with opened(server, server.root / "left", port=proxy.port) as stage:
            await stage.put(b"first", b"makes the directories")
            left = stage.there / ".onitu" / "tmp" / f"{file_version(BIG).digests['blake3'].hex()}-{len(BIG)}"
            cases = {
                "its beginning": (BIG[:8_000_000], 8_000_000),
                "a wrong byte in the middle": (BIG[:5_000_000] + b"?" + BIG[5_000_001:8_000_000], 4_000_000),
                "too much": (BIG + b"more", 12_000_000),
                "all of it, and read-only": (BIG, 12_000_000),
                "nothing that is right": (b"\0" * 9_000_000, 0),
            }
            for name, (data, saved) in cases.items():
                left.write_bytes(data)
                left.chmod(0o400)
                before = proxy.upstream
                assert answer(await stage.put(name.encode(), BIG)).seen is Seen.DONE
                assert stage.visible()[name] == BIG, name
                assert proxy.upstream - before < len(BIG) - saved + 1_500_000, name


async def test_a_rename_whose_answer_was_lost_is_not_taken_for_a_foreign_one(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a replacement: what stood there goes to the limbo, that is looked at, and what is new comes."""
    async with opened(server, server.root / "unsure") as stage:
        put = answer(await stage.put(b"file", OLD))
        wait, lost = wire.Reply.wait, 3

        async def deaf(reply: wire.Reply, kind: int) -> wire.Reader:
            nonlocal lost
            answered = await wait(reply, kind)
            if renaming and lost:
                lost -= 1
                raise wire.Cut("the connection was closed")
            return answered

        rename = SftpRemote.rename
        renaming = False

        async def noticed(remote: SftpRemote, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
            nonlocal renaming
            renaming = lost > 0
            try:
                return await rename(remote, path, target, expect)
            finally:
                renaming = False

        monkeypatch.setattr(wire.Reply, "wait", deaf)
        monkeypatch.setattr(SftpRemote, "rename", noticed)
        monkeypatch.setattr(SftpRemote, "_ready", only_session)
        events = await stage.put(b"file", NEW, expect=put.token, held=put.version)
        assert lost == 0
        assert [event.seen for event in events] == [Seen.DONE]
        assert stage.visible() == {"file": NEW}
        assert stage.hidden() == []


async def test_what_stepped_aside_without_an_answer_is_not_replaced_by_what_came_to_its_path_since(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two values that nobody has seen: one that comes just before the rename, one that comes just after it."""
    theirs = b"what a user wrote once it was away"
    async with opened(server, server.root / "twice") as stage:
        put = answer(await stage.put(b"file", OLD))
        wait, rename = wire.Reply.wait, SftpRemote.rename
        lost = False

        async def deaf(reply: wire.Reply, kind: int) -> wire.Reader:
            answered = await wait(reply, kind)
            (stage.there / "file").write_bytes(theirs)
            monkeypatch.setattr(wire.Reply, "wait", wait)
            raise wire.Cut(f"the connection was closed before {answered}")

        async def noticed(remote: SftpRemote, path: bytes, target: bytes, expect: bytes | None) -> Thing | None:
            nonlocal lost
            if path == b"file" and not lost:
                lost = True
                (stage.there / "file").write_bytes(MINE)
                monkeypatch.setattr(wire.Reply, "wait", deaf)
            return await rename(remote, path, target, expect)

        monkeypatch.setattr(SftpRemote, "rename", noticed)
        monkeypatch.setattr(SftpRemote, "_ready", only_session)
        events = await stage.put(b"file", NEW, expect=put.token, held=put.version)
        assert lost
        assert answer(events).seen is Seen.STANDS
        assert sorted(stage.visible().values()) == sorted([MINE, theirs])
        assert stage.visible()["file"] == theirs
        assert stage.hidden() == []


async def test_an_upload_that_is_begun_too_late_does_not_empty_what_another_one_brought(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server, server.root / "late") as stage:
        await stage.put(b"first", b"makes the directories")
        open_, asked = wire.Session.open, list[tuple[bytes, int, int]]()

        async def noted(session: wire.Session, path: bytes, flags: int, mode: int = -1) -> bytes:
            asked.append((path, flags, mode))
            return await open_(session, path, flags, mode)

        monkeypatch.setattr(wire.Session, "open", noted)
        version = file_version(NEW)
        for _ in range(2):  # also where there is something from an earlier try
            await stage.remote.put(b".onitu/tmp/new", Content(version, NEW), None)
        session = await stage.remote.pool.session()
        for late in asked:
            with pytest.raises(wire.Status):
                await open_(session, *late)
        assert (stage.there / ".onitu/tmp/new").read_bytes() == NEW


async def only_session(remote: SftpRemote, *changed: bytes) -> wire.Session:
    return await remote.pool.session()


async def test_a_connection_that_is_cut_between_calls_is_made_again(server: Sshd) -> None:
    with proxied(server) as proxy:
        async with opened(server, server.root / "cut", port=proxy.port) as stage:
            (stage.there / "file").write_bytes(MINE)
            for _ in range(3):
                proxy.cut()
                assert await stage.content(b"file", len(MINE)) == MINE


async def test_a_connection_that_stalls_ends_in_bounded_time_and_heals(server: Sshd) -> None:
    with proxied(server) as proxy:
        async with opened(server, server.root / "stall", port=proxy.port) as stage:
            patient_for(stage, 0.5)
            proxy.stall()
            with trio.fail_after(60), pytest.raises(Unavailable, match=r"no answer|did not answer|is not reached"):
                await stage.scan()
            with trio.fail_after(60), pytest.raises(Unavailable):  # the root is looked at first
                await stage.put(b"file", BIG[: 1 << 20])
            patient_for(stage, 20.0)
            proxy.go_on()
            proxy.cut()
            with trio.fail_after(60):
                while answer(await stage.put(b"file", BIG[: 1 << 20])).seen is not Seen.DONE:
                    pass
            assert stage.visible() == {"file": BIG[: 1 << 20]}


def patient_for(stage: Stage, seconds: float) -> None:
    """How long no answer is borne from now on."""
    pool = stage.driver._pool
    assert pool is not None
    pool.target = attrs.evolve(pool.target, timeout=seconds)
    for session in pool._sessions:
        session._quiet = seconds


async def test_another_connection_is_opened_beside_those_that_are_busy_for_a_while(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server, server.root / "crowd", sessions=2) as stage:
        pool = stage.driver._pool
        assert pool is not None
        first = await pool.session()
        monkeypatch.setattr(ssh, "CROWDED", 0)
        monkeypatch.setattr(ssh, "PATIENCE", 1e9)
        assert await pool.session() is first
        assert not pool._growing
        monkeypatch.setattr(ssh, "PATIENCE", 0.0)
        assert await pool.session() is first  # nobody waits for the new one
        with trio.fail_after(60):
            while len(pool._sessions) < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert await pool.session() in pool._sessions
        assert not pool._growing  # there are as many as there may be


async def test_nobody_at_the_port_is_told(server: Sshd) -> None:
    told = await refusal(server, port=1)
    assert told.startswith("nas: cannot use the root: 127.0.0.1 port 1 is not reached: ")
    assert told.endswith("Connection refused")


# --- keys and passwords ---------------------------------------------------------------------------------------------


async def test_a_wrong_password_and_a_wrong_key_are_told_and_the_password_is_nowhere(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "other")
    lines: list[list[str]] = []
    process = trio.lowlevel.open_process

    async def noticed(command: list[str], **more: object) -> trio.Process:
        lines.append(command)
        return await process(command, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(trio.lowlevel, "open_process", noticed)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    told = await refusal(server, identity=str(tmp_path / "other"), password=SECRET, user="me")
    assert told == (
        f"nas: me@127.0.0.1 port {server.port} lets nobody in with the password that was given;"
        " it takes publickey or password"
    )
    assert "lets nobody in with the keys that ssh found" in await refusal(server, identity=str(tmp_path / "other"))
    assert SECRET not in str(lines)
    assert len(lines) == 2


async def test_a_host_that_is_not_known_is_refused_with_what_to_do_and_accepted_where_that_is_wanted(
    server: Sshd, tmp_path: Path
) -> None:
    known = tmp_path / "known hosts"
    told = await refusal(server, known_hosts=str(known), user="me")
    assert told.startswith(f"nas: the host key of 127.0.0.1 port {server.port} is not known: run `ssh ")
    assert f"-p {server.port} me@127.0.0.1` once, compare the fingerprint" in told
    await identified(server, known_hosts=str(known), accept_new=True)
    await identified(server, known_hosts=str(known))


@pytest.mark.parametrize("accept_new", [False, True])
async def test_a_host_key_that_changed_is_refused_loudly_and_nothing_is_sent(
    server: Sshd, tmp_path: Path, accept_new: bool
) -> None:
    make_key(tmp_path / "other")
    server.know(server.port, tmp_path / "other")
    try:
        told = await refusal(server, accept_new=accept_new)
    finally:
        server.know(server.port)
    fingerprint = (await trio.run_process(["ssh-keygen", "-lf", server.host_key], capture_stdout=True)).stdout.decode()
    assert told.startswith(
        f"nas: THE HOST KEY OF 127.0.0.1 port {server.port} HAS CHANGED (now {fingerprint.split()[1]})"
    )
    assert f'ssh-keygen -R "[127.0.0.1]:{server.port}"' in told


async def test_a_key_with_a_passphrase_and_a_key_in_the_agent_get_in(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "locked", SECRET)
    make_key(tmp_path / "held")
    keys = [server.home / "authorized", tmp_path / "locked.pub", tmp_path / "held.pub"]
    keys[0].write_text("".join(key.read_text() for key in keys))
    await identified(server, identity=str(tmp_path / "locked"), passphrase=SECRET)
    assert "lets nobody in" in await refusal(server, identity=str(tmp_path / "locked"), passphrase="wrong")
    with agent(tmp_path / "held") as where:
        monkeypatch.setenv("SSH_AUTH_SOCK", where)
        await identified(server, identity="")


async def test_the_configuration_of_ssh_is_followed_with_aliases_and_jumps(server: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"""
        Host first
          HostName 127.0.0.1
          Port {server.port}
        Host second
          HostName 127.0.0.1
          Port {server.port}
          ProxyJump first
          ControlMaster auto
          RemoteCommand echo this is no SFTP
        Host *
          User {getpass.getuser()}
          IdentityFile {server.home}/key
          UserKnownHostsFile {server.home}/known
        """
    )
    for host in ("first", "second"):
        await identified(server, host=host, port=0, identity="", known_hosts="", config=str(config))


# --- what the server does not do ------------------------------------------------------------------------------------


async def test_what_is_not_permitted_is_told_and_the_rest_goes_on() -> None:
    with sshd("Subsystem sftp internal-sftp -P rmdir,symlink") as server:
        async with opened(server, server.root / "denied") as stage:
            os.mkdir(stage.there / "dir")
            with pytest.raises(Refused, match="permission denied") as caught:
                await stage.driver._roots[FOLDER].replica.calls.call(
                    "remove", b"dir", lambda: stage.remote.remove_directory(b"dir")
                )
            assert caught.value.reason == "nas: cannot remove dir: permission denied"
            assert caught.value.trouble is Trouble.DENIED
            assert answer(await stage.put(b"dir/file")).seen is Seen.DONE


async def test_a_server_that_lets_nobody_write_is_told() -> None:
    with sshd("Subsystem sftp internal-sftp -R") as server:
        with pytest.raises(Unavailable, match=r"the marker of .* cannot be written: .*permission denied"):
            async with opened(server, server.root / "read-only"):
                pass


async def test_a_server_without_sftp_and_one_that_talks_first_are_told() -> None:
    with sshd("") as server:
        assert (await refusal(server)).endswith(f"127.0.0.1 port {server.port} has no SFTP")
    with sshd("Subsystem sftp internal-sftp\nForceCommand echo Welcome to this server!") as server:
        assert (await refusal(server)).endswith("sent what is not SFTP (does a login script of it print something?)")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
async def test_a_full_disk_is_told_as_one_and_nothing_is_left_on_it(server: Sshd) -> None:
    with memory_disk(server.root / "small", "4m") as disk:
        async with opened(server, disk) as stage:
            assert answer(await stage.put(b"fits", BIG[: 1 << 20])).seen is Seen.DONE
            with pytest.raises(Refused, match="nas: cannot write big: no space is left") as caught:
                await stage.put(b"big", BIG)
            assert caught.value.trouble is Trouble.NO_SPACE
            assert stage.hidden() == []
            assert answer(await stage.put(b"fits too", BIG[: 1 << 20])).seen is Seen.DONE


async def test_a_name_that_is_too_long_is_told(server: Sshd) -> None:
    async with opened(server, server.root / "long") as stage:
        assert answer(await stage.put(b"x" * 300)).trouble is Trouble.NAME_IMPOSSIBLE
        assert answer(await stage.put(b"y" * 255)).seen is Seen.DONE
