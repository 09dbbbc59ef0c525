"""Services that are not on this host: in URLs, in a configuration, in `onitu drivers` and `onitu init`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from onitu.cli import configuration, targets, urls
from onitu.cli.main import cli
from onitu.model.errors import ConfigurationError, OnituError
from onitu.model.settings import Settings
from onitu.plug import catalogue
from onitu.plug.catalogue import Known

CUPBOARD = Known(("cupboard",), "tests.unit.plug.cupboard:CupboardDriver", "cupboard", ("cupboard",))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "OWN", (*catalogue.OWN, CUPBOARD))
    monkeypatch.setitem(catalogue._BY_NAME, "cupboard", CUPBOARD)
    (tmp_path / "a").mkdir()
    return tmp_path


def plan(*arguments: str, asked: str = "") -> Settings:
    return urls.plan(arguments, ask=(lambda question: asked) if asked else None).settings


def refused(*arguments: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        plan(*arguments)
    return str(caught.value)


# --- URLs -----------------------------------------------------------------------------------------------------------


def test_a_url_names_driver_options_root_and_service() -> None:
    service = plan("a", "cupboard://me:open%20sesame@hall/top/shelf?swaps=false").services["hall"]
    assert service.driver == "cupboard"
    assert service.replicas["sync"].path == "hall/top/shelf"
    given = {name: service.options[name] for name in ("key", "swaps", "renames", "poll_most")}
    assert given == {"key": "open sesame", "swaps": False, "renames": True, "poll_most": 60.0}


def test_two_places_of_one_host_are_told_apart() -> None:
    assert set(plan("a", "cupboard://:k@hall/x", "cupboard://:k@hall/y").services) == {"a", "x-hall", "y-hall"}


def test_a_password_is_in_no_name_no_sentence_and_no_repr() -> None:
    settings = plan("a", "cupboard://me:hunter2@hall/x")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.state
    assert settings.state == plan("a", "cupboard://me:other@hall/x").state
    for wrong in ("cupboard://me:hunter2@hall/x?odd=1", "cupboard://me:hunter2@hall:x/", "nope://me:hunter2@hall/x"):
        assert "me:***@hall" in refused("a", wrong)
        assert "hunter2" not in refused("a", wrong)
    assert "hunter2" not in repr(targets.Target.read("cupboard://me:hunter2@hall/x"))


def test_a_secret_that_nothing_tells_is_asked_for() -> None:
    assert plan("a", "cupboard://hall/x", asked="hunter2").services["hall"].options["key"] == "hunter2"
    assert "its key is needed, and there is no terminal" in refused("a", "cupboard://hall/x")


def test_one_place_twice_is_refused() -> None:
    assert "are one place, or in each other" in refused("a", "cupboard://:k@hall/x", "cupboard://:other@hall/x/y")
    assert set(plan("a", "cupboard://:k@hall/x", "cupboard://:k@hall/xy").services) == {"a", "x-hall", "xy-hall"}


def test_the_order_of_the_arguments_does_not_matter() -> None:
    assert plan("a", "cupboard://:k@hall/x") == plan("cupboard://:k@hall/x", "a")


# --- the catalogue --------------------------------------------------------------------------------------------------


def test_a_driver_whose_package_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "needing.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setitem(catalogue._BY_NAME, "s3", Known(("s3",), "needing:S3Driver", "s3"))
    with pytest.raises(OnituError) as caught:
        catalogue.load("s3")
    expected = "the driver 's3' needs no_such_package_at_all, which is not installed: pip install 'onitu[s3]'"
    assert str(caught.value) == expected


def test_a_url_of_a_driver_whose_package_is_missing_says_so_though_the_driver_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    (place / "needing.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(str(place))
    known = msgspec.structs.replace(
        catalogue._BY_NAME["webdav"], where="needing:WebdavDriver", needs="no_such_package_at_all"
    )
    monkeypatch.setitem(catalogue._BY_NAME, "webdav", known)
    expected = "dav://hall/x: the driver 'webdav' needs no_such_package_at_all, which is not installed: pip install"
    assert expected in refused("a", "dav://hall/x")


def test_no_driver_and_no_trio_is_loaded_to_read_what_is_said_of_a_service() -> None:
    code = """if True:
        import sys
        from onitu.cli import registry, targets
        for url in ("sftp://me@h/x", "s3://b/x", "dav://me:x@h/x", "ftp://h/x", "ftps://h/x", "rclone:r:x"):
            targets.Target.read(url)
        registry.options("local_storage")
        drivers = [f"onitu.drivers.{name}.driver" for name in ("sftp", "s3", "webdav", "ftp", "rclone", "local")]
        assert not {"trio", "zmq", "httpx", "botocore", "onitu.plug.driver", *drivers} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("known", catalogue.OWN, ids=lambda known: known.names[0])
def test_what_may_be_said_of_a_driver_is_what_it_declares(known: Known) -> None:
    driver = catalogue.load(known.names[0])
    assert driver.Options is catalogue.options(known.names[0])
    assert known.names[0] in catalogue.LOCAL or driver.schemes == known.schemes


def test_a_scheme_of_a_driver_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(catalogue, "OWN", catalogue.OWN[:-1])
    monkeypatch.delitem(catalogue._BY_NAME, "cupboard")
    (place / "kitchen-1.0.dist-info").mkdir()
    text = f"[{catalogue.GROUP}]\nkitchen = {CUPBOARD.where}\n"
    (place / "kitchen-1.0.dist-info" / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(str(place))
    assert plan("a", "cupboard://:k@hall/x").services["hall"].driver == "kitchen"


def test_what_is_no_kind_of_replica_is_told_with_the_schemes_of_drivers_of_other_packages() -> None:
    shown = CliRunner().invoke(cli, ["sync", "/tmp", "smb://nas/x"])
    assert shown.exit_code == 2
    assert "cupboard://" in shown.stderr


def test_drivers_are_listed_with_schemes_and_options() -> None:
    lines = CliRunner().invoke(cli, ["drivers", "cupboard"]).stdout.splitlines()
    assert "  for `onitu sync`: cupboard:" in lines
    assert "  key (str, needed, secret): what opens it" in lines
    found = json.loads(CliRunner().invoke(cli, ["drivers", "cupboard", "--json"]).stdout)
    assert found["schemes"] == ["cupboard"]
    assert {key: value for key, value in found["options"][1].items() if key != "help"} == {
        "name": "swaps",
        "type": "bool",
        "default": True,
        "secret": False,
        "choices": [],
    }


# --- configuration --------------------------------------------------------------------------------------------------

TEXT = """\
folders: {docs: }
services:
  one: {driver: local, folders: {docs: a}}
  two: {driver: DRIVER, options: {OPTIONS}, folders: {docs: hall/x}}
"""


def load(place: Path, driver: str, options: str) -> configuration.Configuration:
    file = place / "onitu.yaml"
    file.write_text(TEXT.replace("DRIVER", driver).replace("OPTIONS", options))
    return configuration.load(file, variables={"KEY": "hunter2"})


def test_secrets_come_from_the_environment_and_from_files(place: Path) -> None:
    assert load(place, "cupboard", 'key: "${KEY}"').settings.services["two"].options["key"] == "hunter2"
    (place / "secret").write_text("hunter3\nsecond line\n")
    assert load(place, "cupboard", "key: 'file:secret'").settings.services["two"].options["key"] == "hunter3"
    with pytest.raises(ConfigurationError, match=r"options.key: the secret cannot be read from the file 'gone'"):
        load(place, "cupboard", "key: 'file:gone'")


def test_an_option_that_is_needed_is_missed(place: Path) -> None:
    with pytest.raises(ConfigurationError, match="the option `key` of cupboard is missing: what opens it"):
        load(place, "cupboard", "swaps: true")


@pytest.mark.parametrize("name", ["dropbox", "google_drive", "hubic"])
def test_what_rclone_reaches_today_is_taken_and_says_so(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "fake_rclone.py").write_text(
        "import attrs\nfrom onitu.plug import option\nfrom onitu.plug.options import Options\n"
        "from onitu.drivers.local import LocalDriver\n"
        "@attrs.frozen(kw_only=True)\nclass O(Options):\n    remote: str = option(help='the remote')\n"
        "class D(LocalDriver):\n    Options = O\n"
    )
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setitem(catalogue._BY_NAME, "rclone", Known(("rclone",), "fake_rclone:D", "rclone"))
    loaded = load(place, name, "")
    assert (loaded.settings.services["two"].driver, loaded.settings.services["two"].options["remote"]) == (
        "rclone",
        name,
    )
    assert any(f"{name!r} means an rclone remote today" in note for note in loaded.notes)
    assert load(place, name, "remote: mine").settings.services["two"].options["remote"] == "mine"


# --- init -----------------------------------------------------------------------------------------------------------


def test_init_takes_a_url_and_writes_no_secret(place: Path) -> None:
    typed = "home\ndocs\na\nlaptop\nnope://x\ncupboard://me:hunter2@hall/x\n\n\n\nn\n"
    result = CliRunner().invoke(cli, ["init"], input=typed)
    assert result.exit_code == 0, result.output
    text = (place / "onitu.yaml").read_text()
    assert "hunter2" not in text
    settings = configuration.load(place / "onitu.yaml", variables={"HALL_KEY": "hunter2"}).settings
    assert settings.services["hall"].options["key"] == "hunter2"
    assert settings.services["hall"].replicas["docs"].path == "hall/x"


def test_a_secret_that_is_typed_where_a_variable_is_asked_for_is_neither_shown_nor_written(place: Path) -> None:
    typed = "home\ndocs\na\nlaptop\ncupboard://me:hunter2@127.0.0.1/x\nhunter2SECRET\np@ss w0rd$\n\nnas\n\nn\n"
    result = CliRunner().invoke(cli, ["init"], input=typed)
    assert result.exit_code == 0, result.output
    text = (place / "onitu.yaml").read_text()
    assert "${ONITU_127_0_0_1_KEY}" in text
    assert "SECRET" not in text
    assert result.output.count("that is no name of a variable") == 2
