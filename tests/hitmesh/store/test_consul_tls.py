"""A Consul that speaks HTTPS alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hitmesh.errors import ConfigError, StoreUnknown
from hitmesh.settings.consul_query import BlockingQuery
from hitmesh.settings.open import open_settings
from hitmesh.store import Done, Row, Write
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.consul_host import NoAnswer
from hitmesh.store.urls import consul_place
from nexus.catalogue import _request
from tests.balancer.certificates import make_certificate
from tests.hitmesh.store.patience import PATIENT
from tests.services import PATIENCE_S, START_S, wait_for
from tests.services.consul import ConsulCluster, ConsulServer, TlsFiles

Url = Callable[..., str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate that has signed itself, so that it is its own CA."""
    folder = tmp_path_factory.mktemp("certificates")
    made = make_certificate(folder, file="consul", extension="subjectAltName=IP:127.0.0.1")
    return TlsFiles(made.with_suffix(".crt"), made.with_suffix(".crt"), made.with_suffix(".key"))


@pytest.fixture(scope="module")
def server(files: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    one = ConsulServer(tmp_path_factory.mktemp("consul"), tls=files)
    one.start()
    wait_for(one.has_leader, within_s=START_S, what="Consul's leader")
    yield one
    one.stop()


@pytest.fixture
def url(server: ConsulServer, prefix: str) -> Url:
    def made(scheme: str = "consul+https", query: str = "") -> str:
        return f"{scheme}://127.0.0.1:{server.ports.http}/{prefix}{query}"

    return made


def totals(url: str) -> ConsulTotals:
    return ConsulTotals(*consul_place("stores.totals", url), timeouts=PATIENT)


def test_totals_settings_watches_and_the_catalogue_speak_https(url: Url, files: TlsFiles, prefix: str) -> None:
    right = url(query=f"?ca={files.ca}")
    store = totals(right)
    assert isinstance(store.write([Write(1, 0, b"head", [Row("a/b", "eu", 5, 1)])])[0], Done)
    assert store.load(1) == [Row("a/b", "eu", 5, 1)]
    assert store.read_head(2) is None
    store.close()
    settings = open_settings(right, Path())
    settings.set("routes/a", b"1", author="me")
    assert settings.list()["routes/a"].value == b"1"
    settings.close()
    hosts, _ = consul_place("stores.settings", right)
    query = BlockingQuery(hosts, f"{prefix}/settings/", wait_s=0.1)
    assert query.ask()
    query.close()
    assert _request(hosts[0], "GET", "/v1/catalog/datacenters") == (200, b'["dc-test"]')


def test_roles_speak_https_too(url: Url, files: TlsFiles, prefix: str) -> None:
    """They run on gevent, which patches sockets and not TLS."""
    code = f"""
import gevent.monkey
gevent.monkey.patch_all(ssl=False)
from pathlib import Path
from hitmesh.settings.consul_query import BlockingQuery
from hitmesh.settings.open import open_settings
from hitmesh.store import Done, Write
from hitmesh.store.consul import ConsulTotals, Timeouts
from hitmesh.store.urls import consul_place
from nexus.catalogue import _request
url = {url(query=f"?ca={files.ca}")!r}
hosts, prefix = consul_place("stores.totals", url)
turns = []
def turn():
    while True:
        turns.append(1)
        gevent.sleep(0)
gevent.spawn(turn)
store = ConsulTotals(hosts, prefix, timeouts=Timeouts(30, 30, 30))
assert isinstance(store.write([Write(7, 0, b"head", [])])[0], Done)
assert store.read_head(7).body == b"head"
settings = open_settings(url, Path())
settings.set("routes/b", b"2", author="me")
assert BlockingQuery(hosts, prefix + "/settings/", wait_s=0.1).ask()
assert _request(hosts[0], "GET", "/v1/catalog/datacenters")[0] == 200
assert len(turns) > 10
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=START_S, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_the_environment_names_the_ca_as_for_consuls_own_programs(
    url: Url, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_CACERT", str(files.ca))
    store = totals(url())
    store.check()
    store.close()


def test_a_certificate_of_an_unknown_ca_is_refused_in_words(url: Url) -> None:
    store = totals(url())
    with pytest.raises(StoreUnknown, match=r"its certificate isn't trusted: self-signed certificate; name its CA with"):
        store.check()
    store.close()


def wait_for_words(ask: Callable[[], object], words: str) -> None:
    """Until it is refused with these: the server resets a connection whose request it hasn't read, now and then before
    its own words have been read.
    """

    def says_so() -> bool:
        with pytest.raises((StoreUnknown, NoAnswer)) as refused:
            ask()
        return words in str(refused.value)

    wait_for(says_so, within_s=PATIENCE_S, what=words)


def test_http_to_a_server_of_https_says_what_would_be_right(url: Url, prefix: str) -> None:
    store = totals(url("consul"))
    wait_for_words(store.check, "it speaks HTTPS only: write consul+https://")
    store.close()
    hosts, _ = consul_place("stores.settings", url("consul"))
    wait_for_words(BlockingQuery(hosts, f"{prefix}/settings/", wait_s=0.1).ask, "it speaks HTTPS only")


def test_https_to_a_server_of_http_says_what_would_be_right(
    consul: ConsulCluster, prefix: str, files: TlsFiles
) -> None:
    right = f"consul+https://127.0.0.1:{consul.http(0)}/{prefix}?ca={files.ca}"
    store = totals(right)
    with pytest.raises(StoreUnknown, match=r"it doesn't speak HTTPS there: write consul://"):
        store.check()
    store.close()
    hosts, _ = consul_place("stores.settings", right)
    with pytest.raises(NoAnswer, match=r"it doesn't speak HTTPS there"):
        BlockingQuery(hosts, f"{prefix}/settings/", wait_s=0.1).ask()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?ca=/nowhere/ca.pem", r"stores\.totals: /nowhere/ca\.pem can't be read as certificates: No such file"),
        ("?ca=/dev/null", r"stores\.totals: /dev/null can't be read as certificates: "),
        (
            "?ca=ca.pem",
            r"it is written consul\+https://HOST:PORT\[,HOST:PORT...\]/PREFIX\[\?ca=FILE.*\], FILE with its whole",
        ),
        ("?verify=no", r"it is written consul\+https://HOST:PORT"),
    ],
)
def test_a_ca_that_is_none_is_an_error_at_the_start(url: Url, query: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        totals(url(query=query))


def test_a_url_without_https_takes_no_ca(url: Url) -> None:
    with pytest.raises(ConfigError, match="it is written consul://HOST:PORT"):
        totals(url("consul", "?ca=/etc/ca.pem"))
