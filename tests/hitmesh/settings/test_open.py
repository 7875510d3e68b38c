"""Which settings store a URL names."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hitmesh.errors import ConfigError
from hitmesh.settings.consul import ConsulSettings
from hitmesh.settings.open import open_settings
from hitmesh.settings.sqlite import SqliteSettings


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///settings.db", "/base/settings.db"),
        ("sqlite:///below/settings.db", "/base/below/settings.db"),
        ("sqlite:////srv/settings.db", "/srv/settings.db"),
        ("sqlite:///a%20b.db", "/base/a b.db"),
    ],
)
def test_a_sqlite_url_names_a_path(url: str, path: str) -> None:
    store = open_settings(url, Path("/base"))
    assert isinstance(store, SqliteSettings)
    assert store.path == Path(path)


def test_a_path_with_odd_characters_is_that_path(tmp_path: Path) -> None:
    store = open_settings("sqlite:///a%3Fmode=memory&%20b%25.db", tmp_path)
    store.set("a", b"v", author="anna")
    assert (tmp_path / "a?mode=memory& b%.db").is_file()


@pytest.mark.parametrize(
    "url",
    [
        "consul://127.0.0.1:8500/hitmesh",
        "consul://a.example:8500,b-c.example:8501/mesh/eu-west/",
        "consul://[::1]:8500/hitmesh",
    ],
)
def test_a_consul_url_names_hosts_and_a_prefix(url: str) -> None:
    store = open_settings(url, Path())
    assert isinstance(store, ConsulSettings)
    assert store.endpoint == url.removesuffix("/")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://settings.db",
        "sqlite:settings.db",
        "sqlite:///",
        "sqlite:///folder/",
        "sqlite:///settings.db?mode=ro",
        "consul://127.0.0.1:8500",
        "consul://127.0.0.1:8500//hitmesh",
        "consul://127.0.0.1:8500/../hitmesh",
        "consul://127.0.0.1:8500/" + "x" * 65,
        "consul://127.0.0.1/hitmesh",
        "consul://127.0.0.1:0/hitmesh",
        "consul://127.0.0.1:8500,/hitmesh",
        "redis://127.0.0.1/0",
        "",
    ],
)
def test_a_url_of_no_store_is_an_error_that_says_what_would_be_right(url: str) -> None:
    with pytest.raises(ConfigError, match=r"stores\.settings: .* it is written (sqlite:///PATH|consul://HOST:PORT)"):
        open_settings(url, Path("/base"))


def make_foreign(url: str, base: Path) -> SqliteSettings:
    """A store of somebody else's."""
    assert url == "foreign://x"
    return SqliteSettings(base / "foreign.db")


def test_a_registered_scheme_opens_somebody_elses_store(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("foreign", f"{__name__}:make_foreign", "hitmesh.settings")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == point.group else [])
    store = open_settings("foreign://x", Path("/base"))
    assert isinstance(store, SqliteSettings)
    assert store.path == Path("/base/foreign.db")
