"""Which store a URL names."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hitmesh.config import Config, Node, Stores
from hitmesh.errors import ConfigError
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.open import open_store
from hitmesh.store.sqlite import SqliteTotals


def config(url: str) -> Config:
    """A datacenter whose totals are at `url`."""
    return Config(name="dc", nodes={"n": Node(address="127.0.0.1")}, stores=Stores(totals=url))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///totals.db", "/base/totals.db"),
        ("sqlite:///below/totals.db", "/base/below/totals.db"),
        ("sqlite:////srv/totals.db", "/srv/totals.db"),
        ("sqlite:///a%20b.db", "/base/a b.db"),
    ],
)
def test_a_sqlite_url_names_a_path(url: str, path: str) -> None:
    store = open_store(config(url), Path("/base"))
    assert isinstance(store, SqliteTotals)
    assert store.path == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "consul://127.0.0.1:8500/hitmesh",
        "consul://a.example:8500,b-c.example:8501/mesh/eu-west/",
        "consul://[::1]:8500/hitmesh",
    ],
)
def test_a_consul_url_names_hosts_and_a_prefix(url: str) -> None:
    store = open_store(config(url), Path())
    assert isinstance(store, ConsulTotals)
    assert store.endpoint == url.removesuffix("/")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://totals.db",
        "sqlite:totals.db",
        "sqlite:///",
        "sqlite:///folder/",
        "sqlite:///totals.db?mode=ro",
        "consul://127.0.0.1:8500",
        "consul://127.0.0.1:8500/",
        "consul://127.0.0.1:8500//hitmesh",
        "consul://127.0.0.1:8500/../hitmesh",
        "consul://127.0.0.1:8500/hit%20mesh",
        "consul://127.0.0.1:8500/" + "x" * 65,
        "consul://127.0.0.1/hitmesh",
        "consul://127.0.0.1:0/hitmesh",
        "consul://127.0.0.1:99999/hitmesh",
        "consul://127.0.0.1:8500,/hitmesh",
        "consul://user@127.0.0.1:8500/hitmesh",
        "redis://127.0.0.1/0",
        "",
    ],
)
def test_a_url_of_no_store_is_an_error_that_says_what_would_be_right(url: str) -> None:
    with pytest.raises(ConfigError, match=r"it is written (sqlite:///PATH|consul://HOST:PORT)"):
        open_store(config(url), Path("/base"))


def make_foreign(url: str, config: Config, base: Path) -> SqliteTotals:
    """A store of somebody else's."""
    assert (url, config.name) == ("foreign://x", "dc")
    return SqliteTotals(base / "foreign.db")


def test_a_registered_scheme_opens_somebody_elses_store(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("foreign", f"{__name__}:make_foreign", "hitmesh.stores")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == point.group else [])
    store = open_store(config("foreign://x"), Path("/base"))
    assert isinstance(store, SqliteTotals)
    assert store.path == Path("/base/foreign.db")
