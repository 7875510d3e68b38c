"""Spools by URL."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from hitmesh.config import Config, Node, Stores
from hitmesh.errors import ConfigError
from hitmesh.spool import open as spool_open
from hitmesh.spool.beanstalk import BeanstalkSpool
from hitmesh.spool.open import is_same, open_spool
from hitmesh.spool.pair import PairSpool
from hitmesh.spool.sqlite import SqliteSpool


def config(*urls: str, required: int = 0) -> Config:
    return Config(name="dc", nodes={"a": Node(address="::1")}, stores=Stores(spools=urls, spool_copies=required))


def test_a_relative_sqlite_path_is_below_the_base(tmp_path: Path) -> None:
    spool = open_spool(config("sqlite:///some/spool.db"), tmp_path)
    spool.check()
    assert isinstance(spool, SqliteSpool)
    assert (tmp_path / "some" / "spool.db").is_file()


def test_four_slashes_make_an_absolute_path(tmp_path: Path) -> None:
    open_spool(config(f"sqlite:///{tmp_path}/spool.db"), Path("/nowhere")).check()
    assert (tmp_path / "spool.db").is_file()


def test_a_beanstalk_url_names_host_port_and_tube(tmp_path: Path) -> None:
    spool = open_spool(config("beanstalk://[::1]:11300/jobs-1"), tmp_path)
    assert isinstance(spool, BeanstalkSpool)
    assert spool_open.beanstalk_address("beanstalk://[::1]:11300/jobs-1") == ("::1", 11300, "jobs-1")


def test_several_urls_make_a_pair(tmp_path: Path) -> None:
    assert isinstance(open_spool(config("sqlite:///a.db", "sqlite:///b.db"), tmp_path), PairSpool)


def test_a_pair_of_files_works_like_any_pair(tmp_path: Path) -> None:
    spool = open_spool(config("sqlite:///a.db", "sqlite:///b.db", required=2), tmp_path)
    job = spool.put(b"x", 30)
    assert [copy.waiting for copy in spool.stats()] == [1, 1]
    assert spool.done([job]) == [True]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://spool.db",
        "sqlite:///",
        "sqlite:///folder/",
        "beanstalk://host/jobs",
        "beanstalk://:11300/jobs",
        "beanstalk://host:port/jobs",
        "beanstalk://host:99999/jobs",
        "beanstalk://host:11300",
        "beanstalk://host:11300/-jobs",
        "beanstalk://host:11300/a b",
        f"beanstalk://host:11300/{'x' * 201}",
    ],
)
def test_a_bad_url_is_an_error_that_says_what_would_be_right(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(write (sqlite:///PATH|beanstalk://HOST:PORT/TUBE)") as raised:
        open_spool(config(url), tmp_path)
    assert url in str(raised.value)


def test_an_unknown_scheme_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean beanstalk://\?"):
        open_spool(config("beanstalkd://host:11300/jobs"), tmp_path)


def third_party(url: str, config: Config, base: Path) -> object:
    return (url, config.name, base)


def test_a_third_partys_scheme_comes_from_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoint("mine", "tests.hitmesh.spool.test_open:third_party", spool_open.GROUP)
    monkeypatch.setattr(spool_open, "entry_points", lambda group: EntryPoints([found]).select(group=group))
    assert open_spool(config("mine://there"), tmp_path) == ("mine://there", "dc", tmp_path)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sqlite:///spool.db", "sqlite:////base/spool.db", True),
        ("sqlite:///spool.db", "sqlite:///../base/spool.db", True),
        ("sqlite:///spool.db", "sqlite:///other.db", False),
        ("beanstalk://127.0.0.1:11300/jobs", "beanstalk://localhost:11300/jobs", True),
        ("beanstalk://127.0.0.1:11300/jobs", "beanstalk://127.0.0.1:11301/jobs", False),
        ("beanstalk://127.0.0.1:11300/jobs", "beanstalk://127.0.0.1:11300/other", False),
        ("beanstalk://no-such-host.invalid:1/jobs", "beanstalk://no-such-host.invalid:1/jobs", True),
        ("sqlite:///spool.db", "beanstalk://127.0.0.1:11300/jobs", False),
        ("other://x", "other://x", True),
    ],
)
def test_a_place_is_the_same_however_it_is_spelt(one: str, other: str, same: bool) -> None:
    base = Path("/base")
    assert is_same(one, base, other, base) is is_same(other, base, one, base) is same
