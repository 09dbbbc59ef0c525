"""What goes in comes out: every kind of name, every size, times, modes, links, directories."""

from __future__ import annotations

import random

import pytest

from onitu.model.events import Seen, Trouble
from onitu.model.orders import Do, Order
from onitu.model.versions import BLAKE3, Kind, Version

from .bench import LONG_AGO, Bench, answer, file_version, skip
from .server import Denied

NAMES = {
    "plain": b"plain.txt",
    "spaces": b"with  two spaces .txt",
    "leading": b" leading and trailing ",
    "dots": b".hidden",
    "dotted": b"ends in dots...",
    "like ours": b".onitu-not",
    "composed": "caf\u00e9.txt".encode(),
    "decomposed": "cafe\u0301.txt".encode(),
    "kanji": "\u65e5\u672c\u8a9e.txt".encode(),
    "emoji": "\U0001f5c2\ufe0f".encode(),
    "percent": b"100%.txt",
    "encoded": b"a%2Fb%00.txt",
    "query": b"what?a=b&c=d;e",
    "fragment": b"c#.txt",
    "plus": b"a+b c.txt",
    "quotes": b"'single' \"double\" `back`",
    "brackets": b"[a]{b}(c)<d>|e*",
    "backslash": b"a\\b",
    "dash": b"-rf",
    "tilde": b"~user",
    "colon": b"C: and $HOME",
    "newline": b"a\nb",
    "control": b"a\x01\x7fb",
    "latin": b"caf\xe9.txt",
    "longest": b"n" * 255,
    "longest in letters": "\u00e9".encode() * 127,
    "deep": b"/".join([b"deep"] * 20),
}

REFUSALS = {Trouble.NAME_IMPOSSIBLE, Trouble.NAME_CLASH}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_name_is_kept_or_refused(bench: Bench, name: bytes) -> None:
    data = b"the file " + name
    done = answer(await bench.put(name, data))
    if done.seen is Seen.FAILED:
        assert done.trouble in REFUSALS, done.reason
        assert (await bench.tree()).get(name) is None
        return
    assert done.seen is Seen.DONE, done
    assert (await bench.tree())[name] == data
    entry = (await bench.listed())[name]
    assert entry.token == done.token or done.token != (await bench.entry(name)).token  # the second: not to be believed
    assert await bench.read(name, entry.token, len(data)) == data
    gone = await bench.do(Do.DELETE, name, Version(Kind.NOTHING), done.token, file_version(data))
    assert gone.seen is Seen.DONE, gone
    assert name not in await bench.tree()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_users_name_is_seen_as_it_is(bench: Bench, name: bytes) -> None:
    try:
        entry = await bench.write(name, b"a user's")
    except Denied as error:
        skip(f"this server's user cannot: {error}")
    assert (await bench.listed())[name] == entry
    assert entry.version.size == 8
    (read,) = await bench.driver.fingerprint("docs", [entry])
    assert read is not None
    assert read.version.digests[BLAKE3] == file_version(b"a user's").digests[BLAKE3]


EDGES = [0, 1, 65_535, 65_536, 131_072, 131_073, 1_048_575, 1_048_576, 1_048_577, 4_194_304, 5_242_880, 8_388_609]


@pytest.mark.parametrize("size", [*EDGES, "largest"])
async def test_every_size_arrives_whole_and_is_read_whole(bench: Bench, size: int | str, largest: int) -> None:
    count = largest if isinstance(size, str) else min(size, largest)
    data = random.Random(count).randbytes(count)  # noqa: S311  # content only
    done = answer(await bench.put(b"file", data))
    assert done.seen is Seen.DONE, done
    assert (await bench.tree())[b"file"] == data
    entry = await bench.entry(b"file")
    assert entry.version.size == count
    assert await bench.read(b"file", entry.token, count) == data


async def test_any_range_can_be_read(bench: Bench) -> None:
    data = random.Random(1).randbytes(300_000)  # noqa: S311  # content only
    entry = await bench.write(b"file", data)
    for offset, length in [(0, 1), (299_999, 1), (299_999, 100), (150_000, 65_536), (1, 299_999)]:
        read = await bench.driver.read("docs", b"file", entry.token, offset, length)
        assert read == data[offset : offset + length]


async def test_an_mtime_is_kept_as_far_as_the_capabilities_say(bench: Bench) -> None:
    step = bench.able.mtimes
    if not step:
        skip("this service keeps no mtimes")
    for number, mtime in enumerate([LONG_AGO + 123_456_789, 1_000_000_000, 4_000_000_000_123_456_789]):
        order = Order(1, Do.PUT, b"file%d" % number, file_version(b"x", mtime))
        assert answer(await bench.carry_out(order, b"x")).seen is Seen.DONE
        assert (await bench.entry(order.path)).version.mtime // step == mtime // step


async def test_a_mode_is_kept_where_there_are_modes(bench: Bench) -> None:
    if not bench.able.modes:
        skip("this service keeps no modes")
    for mode in (0o600, 0o644, 0o755):
        order = Order(1, Do.PUT, b"file%o" % mode, file_version(b"x", mode=mode))
        assert answer(await bench.carry_out(order, b"x")).seen is Seen.DONE
        assert (await bench.entry(order.path)).version.mode == mode


async def test_a_link_is_kept_or_refused(bench: Bench) -> None:
    order = Order(1, Do.PUT, b"link", Version(Kind.LINK, link=b"../anywhere", mtime=LONG_AGO))
    event = answer(await bench.carry_out(order))
    if not bench.able.links:
        assert (event.seen, event.trouble) == (Seen.FAILED, Trouble.UNSUPPORTED)
        return
    assert event.seen is Seen.DONE, event
    entry = await bench.entry(b"link")
    assert (entry.kind, entry.version.link) == (Kind.LINK, b"../anywhere")


async def test_an_empty_directory_stands(bench: Bench) -> None:
    if not bench.able.directories:
        skip("this service has no empty directories")
    event = answer(await bench.carry_out(Order(1, Do.PUT, b"a/b", Version(Kind.DIRECTORY, mode=0o755))))
    assert event.seen is Seen.DONE, event
    assert await bench.tree() == {b"a": None, b"a/b": None}
    assert {path: entry.kind for path, entry in (await bench.listed()).items()} == {
        b"a": Kind.DIRECTORY,
        b"a/b": Kind.DIRECTORY,
    }
