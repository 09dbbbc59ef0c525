from __future__ import annotations

from pathlib import Path

import pytest

from onitu.cli import configuration
from onitu.cli.configuration import Configuration
from onitu.model.errors import ConfigurationError
from onitu.model.filters import hides
from onitu.model.settings import Filter, Folder, Rule
from onitu.model.versions import Kind, Version

GOOD = """\
name: home
folders:
  docs: {blacklist: ["*.bak", Private/], whitelist: [], mimetypes: ["text/*"], file_size: {min: 1, max: 15M}}
services:
  laptop: {driver: local_storage, folders: {docs: laptop}}
  nas: {driver: local_storage, velocity: 0.4, folders: {docs: {path: nas, mode: w}}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return home


def load(directory: Path, text: str, **variables: str) -> Configuration:
    file = directory / "onitu.yaml"
    file.write_text(text)
    return configuration.load(file, variables=variables)


def problems(directory: Path, text: str, **variables: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(directory, text, **variables)
    return [problem.removeprefix(str(directory) + "/") for problem in caught.value.problems]


def test_everything_in_a_good_file_becomes_settings(home: Path) -> None:
    settings = load(home, GOOD).settings
    assert settings.name == "home"
    assert settings.folders == {
        "docs": Folder("docs", Filter(("*.bak", "Private/"), (), ("text/*",), 1, 15_000_000), "rw", "newest")
    }
    assert settings.services["laptop"].replicas["docs"].path == str(home / "laptop")
    assert settings.services["nas"].replicas["docs"].mode == "w"
    assert settings.services["nas"].velocity == 0.4
    assert settings.rules is None
    assert settings.store == ""
    assert settings.state == str(home.parent / "state" / "onitu" / "home")


# --- files of the first Onitu -----------------------------------------------------------------------------------

LATER = """\
name: example

folders:
  music:
    mimetypes:
      - "audio/*"
  docs:
    blacklist:
      - "*.bak"
      - Private/
  backup:
    blacklist:
      - ".*"
    file_size:
      max: 2G

services:
  A:
    driver: local_storage
    folders:
      music: ~/Music
      docs: ~/Docs
      backup:
        path: ~/
        mode: ro
  B:
    driver: local_storage
    folders:
      music: ~/My Music
      docs: ~/My Documents
      backup:
        path: ~/
        mode: ro
  C:
    driver: local_storage
    folders:
      backup:
        path: backup
        mode: wo
"""

EARLIER = """\
name: example
folders:
  music: {type: [audio/]}
  backup: {max-size: 2G, min-size: 1 ki}
services:
  A: {driver: local_storage, root: example/service_a, folders: {music: Music, backup: {mode: ro}}}
  C: {driver: local_storage, root: example/service_c, folders: {backup: {path: backup, mode: wo}}}
"""


def test_a_later_file_of_the_first_onitu_loads_unchanged(home: Path, tmp_path: Path) -> None:
    found = load(tmp_path, LATER)
    a, b, c = (found.settings.services[name] for name in "ABC")
    assert a.replicas["music"].path == str(home / "Music")
    assert b.replicas["docs"].path == str(home / "My Documents")
    assert a.replicas["backup"].mode == "r"
    assert c.replicas["backup"].mode == "w"
    assert c.replicas["backup"].path == str(tmp_path / "backup")
    assert found.settings.folders["backup"].filter.size_max == 2_000_000_000


def test_one_directory_that_two_services_only_read_is_read_once(home: Path, tmp_path: Path) -> None:
    found = load(tmp_path, LATER)
    assert "backup" not in found.settings.services["B"].replicas
    assert any("read once for both" in note for note in found.notes)


def test_a_read_only_replica_around_others_does_not_see_what_onitu_keeps_there(home: Path, tmp_path: Path) -> None:
    replica = load(tmp_path, LATER).settings.services["A"].replicas["backup"]
    file = Version(Kind.FILE, 1)
    assert hides([replica.filter], b"My Music/.onitu/marker", file) is not None
    assert hides([replica.filter], b"My Music/song.ogg", file) is None


def test_an_earlier_file_of_the_first_onitu_loads_unchanged(home: Path) -> None:
    settings = load(home, EARLIER).settings
    assert settings.services["A"].replicas["music"].path == str(home / "example/service_a/Music")
    assert settings.services["A"].replicas["backup"].path == str(home / "example/service_a")
    assert settings.folders["music"].filter.mimetypes == ("audio/*",)
    assert (settings.folders["backup"].filter.size_min, settings.folders["backup"].filter.size_max) == (1024, 2 * 10**9)


def test_rules_of_the_first_onitu_are_kept_in_order(home: Path) -> None:
    text = (
        GOOD
        + """\
rules:
  - {match: {path: /}, sync: [laptop]}
  - {match: {path: /photos/, mime: [image/png], file_size: {max: 1M}}, sync: nas, ban: [laptop]}
"""
    )
    assert load(home, text).settings.rules == (
        Rule("/", (), Filter(), ("laptop",), ()),
        Rule("/photos/", ("image/png",), Filter(size_max=10**6), ("nas",), ("laptop",)),
    )


def test_an_empty_list_of_rules_is_no_rules(home: Path) -> None:
    assert load(home, GOOD + "rules: []\n").settings.rules is None


# --- values -----------------------------------------------------------------------------------------------------


def test_variables_and_home_are_expanded(home: Path) -> None:
    text = GOOD.replace("docs: laptop", "docs: '~/${WHERE}/$${x}'")
    assert load(home, text, WHERE="there").settings.services["laptop"].replicas["docs"].path == str(home / "there/${x}")


def test_yaml_1_2_has_no_surprises(home: Path) -> None:
    text = GOOD.replace("Private/]", "no, 12:30, 012]")
    assert load(home, text).settings.folders["docs"].filter.blacklist == ("*.bak", "no", "12:30", "012")


def test_merge_keys_and_anchors_work(home: Path) -> None:
    text = """\
folders: {a: &common {blacklist: [x], mode: r}, b: {<<: *common, mode: rw}}
services:
  one: {driver: local, folders: {a: a1, b: b1}}
  two: {driver: local, folders: {a: a2, b: b2}}
"""
    folders = load(home, text).settings.folders
    assert folders["b"] == Folder("b", Filter(blacklist=("x",)), "rw")


def test_the_name_has_a_default_and_the_state_follows_it(home: Path) -> None:
    found = load(home, GOOD.replace("name: home\n", ""))
    assert found.settings.name == "onitu"
    assert found.settings.state.endswith("/state/onitu/onitu")


def test_a_given_state_goes_before_the_files_own(home: Path, tmp_path: Path) -> None:
    file = home / "onitu.yaml"
    file.write_text(GOOD + "state: ../theirs\n")
    assert configuration.load(file).settings.state == str(tmp_path / "theirs")
    assert configuration.load(file, state=str(tmp_path / "ours")).settings.state == str(tmp_path / "ours")


@pytest.mark.parametrize("url", ["redis://host", "redis://host:6380/3", "rediss://u:p@host/0", "unix:///run/v.sock"])
def test_a_store_may_be_elsewhere(home: Path, url: str) -> None:
    assert load(home, GOOD + f"store: {url}\n").settings.store == url


@pytest.mark.parametrize(
    ("written", "read"), [("first", "first"), ("prefer:nas", "prefer:nas"), ("{prefer: nas}", "prefer:nas")]
)
def test_a_conflict_policy_is_read(home: Path, written: str, read: str) -> None:
    text = GOOD.replace("folders: {docs: laptop}", f"folders: {{docs: {{path: x, conflict: {written}}}}}")
    assert load(home, text).settings.services["laptop"].replicas["docs"].conflict == read


def test_a_folder_on_one_service_is_noted(home: Path) -> None:
    notes = load(home, GOOD.replace("docs: {bl", "more: {}\n  docs: {bl")).notes
    assert notes == ("folder 'more' is on none only: nothing to keep it the same with",)


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "name: home",
            "nam: home",
            "nam: unknown key; allowed are name, folders, services, rules, store, state; did you mean 'name'?",
        ),
        ("name: home", "name: a/b", "onitu.yaml:1: name: 'a/b' cannot be a name"),
        ("name: home", "name: home\nentries: {}", "onitu.yaml:2: entries: is from before there were folders"),
        (
            "name: home",
            "name: home\nrequests_addr: x",
            "onitu.yaml:2: requests_addr: was for the first Onitu's remote client",
        ),
        ("name: home", "name: home\nname: away", "onitu.yaml:2: name: this key stands here twice, first in line 1"),
        ("name: home", "name: home\n? [1]\n: 2", "onitu.yaml:2: a key must be a text"),
        ("name: home", 'name: "a\\0b"', "onitu.yaml:1: name: a NUL character stands here"),
        ("name: home", "name: [home]", "onitu.yaml:1: name: a list stands here, but it must be a text"),
        ("name: home", "name: !x home", "onitu.yaml:1: name: the tag !x means nothing here"),
        ("*.bak", "!*.bak", "onitu.yaml:3: folders.docs.blacklist[0]: '!*.bak': no pattern can be negated"),
        ("*.bak", "../x", "onitu.yaml:3: folders.docs.blacklist[0]: '../x' can never match"),
        ("text/*", "text plain", "onitu.yaml:3: folders.docs.mimetypes[0]: 'text plain' is not a MIME type"),
        (
            "15M",
            "15X",
            "onitu.yaml:3: folders.docs.file_size.max: '15X' is not a size, 'x' is no unit: a number of bytes",
        ),
        ("min: 1,", "min: -1,", "onitu.yaml:3: folders.docs.file_size.min: '-1' is not a size"),
        (
            "min: 1,",
            "min: 16M,",
            "onitu.yaml:3: folders.docs.file_size.min: 16000000 bytes at least and 15000000 at most",
        ),
        (
            "{min: 1, max: 15M}",
            "15M",
            "onitu.yaml:3: folders.docs.file_size: '15M' stands here, but it must be a mapping",
        ),
        (
            "{min: 1,",
            "{mix: 1,",
            "onitu.yaml:3: folders.docs.file_size.mix: unknown key; allowed are min, max; did you mean 'min'?",
        ),
        ("whitelist: []", "type: x", "onitu.yaml:3: folders.docs.type: is the older name of `mimetypes`"),
        ("whitelist: []", "max-size: 1", "onitu.yaml:3: folders.docs.max-size: is the older name of `file_size"),
        (
            "whitelist: []",
            "conflict: newst",
            "docs.conflict: 'newst' is not allowed; allowed are newest, first, prefer:SERVICE; did you mean 'newest'?",
        ),
        (
            "whitelist: []",
            "conflict: prefer:nass",
            "docs.conflict: 'nass' is no service with this folder; those are laptop, nas; did you mean 'nas'?",
        ),
        (
            "whitelist: []",
            "mode: x",
            "onitu.yaml:3: folders.docs.mode: 'x' is not allowed; allowed are rw, wr, r, ro, w, wo",
        ),
        ("mode: w", "mod: w", "onitu.yaml:6: services.nas.folders.docs.mod: unknown key"),
        (
            "path: nas, ",
            "",
            "onitu.yaml:6: services.nas.folders.docs: the `path` of this folder on this service is missing",
        ),
        (
            "docs: laptop",
            "docs: ~",
            "laptop.folders.docs: the `path` of this folder on this service is missing (a lone ~ is nothing)",
        ),
        (
            "docs: laptop",
            "dosc: laptop",
            "services.laptop.folders.dosc: folder 'dosc' is not defined; defined are docs; did you mean 'docs'?",
        ),
        ("docs: laptop", "", "onitu.yaml:5: services.laptop: there is no folder here"),
        (
            "docs: laptop",
            "docs: '${NOPE}/x'",
            "onitu.yaml:5: services.laptop.folders.docs: the environment variable 'NOPE' is not set",
        ),
        (
            "laptop: {driver: local_storage",
            "laptop: {driver: local_storag",
            "onitu.yaml:5: services.laptop.driver: 'local_storag' is not allowed; allowed are local_storage, local",
        ),
        (
            "laptop: {driver: local_storage, ",
            "laptop: {",
            "onitu.yaml:5: services.laptop: `driver` is missing; installed are local_storage",
        ),
        (
            "driver: local_storage, velocity",
            "options: {kernel_cpy: true}, driver: local_storage, velocity",
            "onitu.yaml:6: services.nas.options.kernel_cpy: unknown option; those of local_storage are",
        ),
        (
            "driver: local_storage, velocity",
            "options: {kernel_copy: 3}, driver: local_storage, velocity",
            "onitu.yaml:6: services.nas.options.kernel_copy: '3' stands here, but it must be true or false",
        ),
        (
            "driver: local_storage, velocity",
            "options: {durability: none}, driver: local_storage, velocity",
            "onitu.yaml:6: services.nas.options.durability: 'none' stands here, but it must be one of full, normal",
        ),
        (
            "velocity: 0.4",
            "velocity: 0",
            "onitu.yaml:6: services.nas.velocity: '0' is not allowed; it must be a number above 0",
        ),
        ("velocity: 0.4", "velocity: fast", "onitu.yaml:6: services.nas.velocity: 'fast' is not allowed"),
        ("laptop:", "lap/top:", "onitu.yaml:5: services.lap/top: 'lap/top' cannot be a name"),
        ("path: nas", "path: laptop", "is the same directory as services.laptop.folders.docs"),
        ("path: nas", "path: laptop/x", "lies inside services.laptop.folders.docs"),
        ("path: nas", "path: onitu.yaml", "onitu.yaml' is not a directory"),
        ("name: home", "state: laptop/state", "onitu.yaml:1: state: the state directory "),
        ("name: home", "state: .", "lies inside the state directory"),
        (
            "name: home",
            "store: http://x",
            "onitu.yaml:1: store: 'http://x': it must start with one of redis://, rediss://",
        ),
        ("name: home", "store: 'redis://x:port'", "onitu.yaml:1: store: 'redis://x:port': Port could not be cast"),
        ("name: home", "store: 'redis:///0'", "onitu.yaml:1: store: 'redis:///0': the host is missing"),
        ("name: home", "store: 'unix:'", "onitu.yaml:1: store: 'unix:': the path of the socket is missing"),
        ("name: home", "rules: {a: 1}", "onitu.yaml:1: rules: a mapping stands here, but it must be a list of rules"),
        (
            "name: home",
            "rules: [{match: {path: /x/}}]",
            "onitu.yaml:1: rules[0]: a rule without `sync` and `ban` does nothing",
        ),
        (
            "name: home",
            "rules: [{sync: [nass]}]",
            "onitu.yaml:1: rules[0].sync[0]: 'nass' is not allowed; allowed are laptop, nas; did you mean 'nas'?",
        ),
        (
            "name: home",
            "rules: [{math: {}, sync: nas}]",
            "onitu.yaml:1: rules[0].math: unknown key; allowed are match, sync, ban; did you mean 'match'?",
        ),
        (
            "name: home",
            "rules: [{match: {mime: [x y]}, sync: nas}]",
            "onitu.yaml:1: rules[0].match.mime[0]: 'x y' is not a MIME type",
        ),
    ],
)
def test_an_error_names_line_key_and_what_is_allowed(home: Path, old: str, new: str, expected: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    found = problems(home, text)
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "onitu.yaml:1: the file is empty"),
        ("# nothing\n", "onitu.yaml:1: the file is empty"),
        ("- a\n", "onitu.yaml:1: this must be a mapping"),
        ("a: [1\nb: 2\n", "onitu.yaml:2: this is not YAML: expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", "onitu.yaml:2: this is not YAML"),
        ("a: \x01\n", "onitu.yaml:1: this is not YAML"),
        ("a: 1\n---\nb: 2\n", "onitu.yaml:2: this is not YAML"),
        ("a: *x\n", "onitu.yaml:1: this is not YAML: found undefined alias 'x'"),
        ("folders: {a: }\n", "onitu.yaml:1: there is no service; `services` must name at least one"),
        ("services: {}\n", "onitu.yaml:1: services: there is no service; `services` must name at least one"),
        ("services: {}\n", "onitu.yaml:1: there is no folder; `folders` must name at least one"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(home: Path, text: str, expected: str) -> None:
    found = problems(home, text)
    assert any(problem.startswith(expected) for problem in found), found


def test_a_file_that_is_not_utf_8_is_refused(home: Path) -> None:
    (home / "onitu.yaml").write_bytes(b"name: x\nfolders: \xff\n")
    with pytest.raises(ConfigurationError, match=r"onitu\.yaml:2: this is not UTF-8"):
        configuration.load(home / "onitu.yaml")


def test_a_missing_file_is_refused(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        configuration.load(home / "nope.yaml")


def test_a_directory_is_no_file(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        configuration.load(home)


def test_all_errors_are_told_at_once_in_the_order_of_lines(home: Path) -> None:
    text = GOOD.replace("name", "nam").replace("15M", "15X").replace("0.4", "-1").replace("mode: w", "mode: q")
    lines = [problem.split(":")[1] for problem in problems(home, text)]
    assert lines == ["1", "3", "6", "6"]


def test_a_secret_is_never_shown(home: Path) -> None:
    from ruamel.yaml import YAML

    from onitu.cli.document import Place, Problems
    from onitu.cli.replicas import _option
    from onitu.plug.options import Option

    found = Problems("f")
    _option(
        Option("password", int, None, "", secret=True),
        Place(YAML().compose("hunter2"), "options.password", 1, found, {}),
    )
    assert found.found == [(1, "f:1: options.password: a secret stands here, but it must be a whole number")]


# --- overlaps ---------------------------------------------------------------------------------------------------


def test_a_second_way_through_a_link_is_the_same_directory(home: Path) -> None:
    (home / "laptop").mkdir()
    (home / "nas").symlink_to(home / "laptop")
    assert "is the same directory as services.laptop.folders.docs" in problems(home, GOOD)[0]


def test_a_replica_inside_another_through_a_link_is_seen(home: Path) -> None:
    (home / "laptop" / "deep").mkdir(parents=True)
    (home / "elsewhere").symlink_to(home / "laptop" / "deep")
    assert "lies inside" in problems(home, GOOD.replace("path: nas", "path: elsewhere/x"))[0]


def test_a_replica_that_the_outer_one_hides_may_lie_in_it(home: Path) -> None:
    text = GOOD.replace("path: nas", "path: laptop/Private/nas")
    assert load(home, text).settings.services["nas"].replicas["docs"].path.endswith("laptop/Private/nas")


def test_a_state_directory_that_the_replica_hides_may_lie_in_it(home: Path) -> None:
    assert load(home, GOOD + "state: laptop/Private/state\n").settings.state == str(home / "laptop/Private/state")


def test_replicas_of_two_folders_may_not_lie_in_each_other_where_the_outer_one_is_written(home: Path) -> None:
    text = """\
folders: {a: , b: }
services:
  one: {driver: local, folders: {a: x, b: x/y}}
  two: {driver: local, folders: {a: a2, b: b2}}
"""
    assert "services.one.folders.b: " in problems(home, text)[0]
