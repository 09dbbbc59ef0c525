"""A store's URL is checked before it is used, and shown without its secrets."""

from __future__ import annotations

import pytest

from onitu.model.errors import ConfigurationError
from onitu.store.urls import check_url, client, masked


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:secret@db.example:6380/2",
        "redis://[::1]:6379",
        "rediss://:secret@db.example:6380/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
        "unix:///run/onitu/store.sock",
        "unix://:secret@/run/store.sock?db=3",
        "unix:///run/with%20space/store.sock",
    ],
)
def test_good_urls_make_a_client(url: str) -> None:
    assert check_url(url) == url
    client(url).close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://x", "must start with one of redis://, rediss://, unix://"),
        ("localhost:6379", "must start with one of"),
        ("", "must start with one of"),
        ("redis://", "host is missing"),
        ("redis://:6379", "host is missing"),
        ("redis://h:99999", "ort"),
        ("redis://h:port", "ort"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h/name", "database 'name' is not a number"),
        ("redis://h?db=x", "database 'x' is not a number"),
        ("redis://h?decode_responses=yes", "'decode_responses' is not an option of redis://"),
        ("redis://h?ssl_ca_certs=x", "'ssl_ca_certs' is not an option of redis://"),
        ("unix://run/x.sock", "must be absolute"),
        ("unix://", "missing"),
        ("redis://:p@h#ss", "'#' must be written %23"),
    ],
)
def test_a_wrong_url_is_refused_with_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url)
    assert sentence in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url("redis:///name?a=1&b=2")
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("redis://user:hunter2@h:1", "redis://user:***@h:1"),
        ("redis://:hunter2@h", "redis://:***@h"),
        ("redis://hunter2@h", "redis://:***@h"),
        ("redis://:hunter2@hunter2@h", "redis://:***@h"),
        ("redis://u:hun/ter2?x#y@h", "redis://u:***@h"),
        ("unix:///run/s?password=hunter2&db=1", "unix:///run/s?password=***&db=1"),
        ("unix:///run/a@b/s", "unix:///run/a@b/s"),
        ("unix:///run/s?password=hunter@2", "unix:///run/s?password=***"),
        ("rediss://h?ssl_keyfile=/k&PassWord=hunter2", "rediss://h?ssl_keyfile=***&PassWord=***"),
        ("u:hunter2@h", "h"),
    ],
)
def test_secrets_are_masked_for_display(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url", ["redis://u:hunter2@h:x", "http://u:hunter2@h", "redis://u:hunter2@h/x?password=hunter2&q=1"]
)
def test_no_error_shows_a_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url)
    assert "hunter2" not in str(caught.value)
