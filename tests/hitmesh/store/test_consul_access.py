"""A Consul that speaks HTTPS, wants a client certificate and an ACL token: both from files, and what is said of wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hitmesh.config import dump, parse
from hitmesh.errors import ConfigError, StoreUnknown
from hitmesh.settings.consul_query import BlockingQuery
from hitmesh.settings.open import open_settings
from hitmesh.store import Done, Row, Unknown, Write
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.consul_host import NoAnswer
from hitmesh.store.urls import consul_place
from nexus.catalogue import _request
from tests.balancer.certificates import openssl
from tests.hitmesh.store.patience import PATIENT
from tests.services import START_S
from tests.services.consul import MASTER_TOKEN
from tests.services.guarded_consul import AccessFiles, Guarded
from tests.services.nexus import free_ports

UNKNOWN_TOKEN = "00000000-0000-4000-8000-00000000000f"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> AccessFiles:
    return AccessFiles(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def guarded(files: AccessFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    one = Guarded(tmp_path_factory.mktemp("guarded"), files.tls)
    yield one
    one.server.stop()


Url = Callable[..., str]


@pytest.fixture
def url(guarded: Guarded, files: AccessFiles, prefix: str) -> Url:
    def made(**named: Path | str | None) -> str:
        """With everything right, but for what is `named`."""
        right = {"ca": files.tls.ca, "cert": files.client, "token": files.token}
        query = "&".join(f"{name}={file}" for name, file in {**right, **named}.items() if file is not None)
        return f"consul+https://127.0.0.1:{guarded.server.ports.http}/{prefix}?{query}"

    return made


def totals(url: str, role: str = "operator") -> ConsulTotals:
    return ConsulTotals(*consul_place("stores.totals", url, role), timeouts=PATIENT)


def trouble(url: str) -> str:
    """Why nothing can be read there; the catalogue and a watch of the settings say the same."""
    store = totals(url)
    with pytest.raises(StoreUnknown) as unknown:
        store.check()
    store.close()
    hosts, prefix = consul_place("stores.settings", url)
    for ask in (
        lambda: _request(hosts[0], "GET", "/v1/agent/self"),
        BlockingQuery(hosts, f"{prefix}/settings/", wait_s=0.1).ask,
    ):
        with pytest.raises(NoAnswer) as failure:
            ask()
        assert str(failure.value).partition(": ")[2][-30:] == unknown.value.message[-30:]
    return unknown.value.message


def test_totals_settings_watches_and_the_catalogue_show_both(url: Url, files: AccessFiles) -> None:
    right = url(cert=files.client.with_suffix(".crt"), key=files.client.with_suffix(".key"))
    store = totals(right)
    assert isinstance(store.write([Write(1, 0, b"head", [Row("a/b", "eu", 5, 1)])])[0], Done)
    assert store.load(1) == [Row("a/b", "eu", 5, 1)]
    store.close()
    settings = open_settings(right, Path())
    settings.set("routes/a", b"1", author="me")
    settings.close()
    hosts, prefix = consul_place("stores.settings", right)
    query = BlockingQuery(hosts, f"{prefix}/settings/", wait_s=0.1)
    assert query.ask()
    query.close()
    assert _request(hosts[0], "GET", "/v1/agent/self")[0] == 200


def test_roles_show_both_too(url: Url) -> None:
    """They run on gevent, which patches sockets and not TLS."""
    code = """
import gevent.monkey
gevent.monkey.patch_all(ssl=False)
import sys
from pathlib import Path
from hitmesh.settings.consul_query import BlockingQuery
from hitmesh.settings.open import open_settings
from hitmesh.store import Done, Write
from hitmesh.store.consul import ConsulTotals, Timeouts
from hitmesh.store.urls import consul_place
from nexus.catalogue import _request
hosts, prefix = consul_place("stores.totals", sys.argv[1])
store = ConsulTotals(hosts, prefix, timeouts=Timeouts(30, 30, 30))
assert isinstance(store.write([Write(7, 0, b"head", [])])[0], Done)
open_settings(sys.argv[1], Path()).set("routes/b", b"2", author="me")
assert BlockingQuery(hosts, prefix + "/settings/", wait_s=0.1).ask()
assert _request(hosts[0], "GET", "/v1/agent/self")[0] == 200
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, url()], capture_output=True, text=True, timeout=START_S, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")


def test_the_environment_names_the_files_as_for_consuls_own_programs(
    url: Url, files: AccessFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = url(ca=None, cert=None, token=None).removesuffix("?")
    monkeypatch.setenv("CONSUL_CACERT", str(files.tls.ca))
    monkeypatch.setenv("CONSUL_CLIENT_CERT", str(files.client.with_suffix(".crt")))
    monkeypatch.setenv("CONSUL_CLIENT_KEY", str(files.client.with_suffix(".key")))
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", UNKNOWN_TOKEN)
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(files.token))
    store = totals(bare)
    store.check()
    store.close()


def test_each_role_has_a_file_of_its_own_where_the_url_says_so(url: Url, files: AccessFiles) -> None:
    files.secret("nexus.token", MASTER_TOKEN)
    files.secret("operator.token", UNKNOWN_TOKEN)
    named = url(token=f"{files.folder}/{{role}}.token")
    store = totals(named, "nexus")
    store.check()
    store.close()
    assert "operator.token is unknown there" in trouble(named)
    with pytest.raises(ConfigError, match=r"collector\.token: can't be read: No such file"):
        totals(named, "collector")


# --- what an agent refuses ----------------------------------------------------------------------


def test_a_missing_client_certificate_is_said_in_words(url: Url) -> None:
    assert "it wants a client certificate: name one with cert=FILE&key=FILE" in trouble(url(cert=None))


def test_a_client_certificate_that_nobody_knows_there_is_said_in_words(url: Url, files: AccessFiles) -> None:
    assert f"it doesn't take the client certificate in {files.stranger}" in trouble(url(cert=files.stranger))


def test_an_unknown_ca_is_said_in_words(url: Url, files: AccessFiles) -> None:
    assert "its certificate isn't trusted: self-signed certificate" in trouble(url(ca=files.client))


def test_an_unknown_token_is_said_in_words_and_isnt_shown(url: Url, files: AccessFiles) -> None:
    other = files.secret("other", UNKNOWN_TOKEN)
    said = trouble(url(token=other))
    assert f"403: ACL not found: the ACL token in {other} is unknown there" in said
    assert UNKNOWN_TOKEN not in said


def test_no_token_is_said_in_words(url: Url) -> None:
    assert "there is no ACL token (?token=FILE at the URL's end" in trouble(url(token=None))


# --- files that can't be used -------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
@pytest.mark.parametrize("what", ["token", "key"])
def test_a_secret_that_others_can_read_or_change_is_refused(url: Url, files: AccessFiles, what: str, mode: int) -> None:
    text = files.client.with_suffix(".key").read_text() if what == "key" else MASTER_TOKEN
    open_to_all = files.secret(f"open-{what}", text, mode)
    named = {"cert": files.client.with_suffix(".crt"), what: open_to_all}
    with pytest.raises(
        ConfigError, match=rf"stores\.totals: {open_to_all}: others can read this secret \(mode 0{mode:o}"
    ):
        totals(url(**named))


def test_files_that_are_none_are_errors_at_the_start(url: Url, files: AccessFiles) -> None:
    crt, key = files.client.with_suffix(".crt"), files.client.with_suffix(".key")
    encrypted = files.folder / "encrypted.key"
    openssl("ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", encrypted)
    encrypted.chmod(0o600)
    os.mkfifo(files.folder / "pipe")
    for named, words in (
        ({"token": files.folder / "pipe"}, "pipe: is not a file"),
        ({"token": "/nowhere/token"}, "/nowhere/token: can't be read: No such file"),
        ({"token": files.folder}, "Is a directory"),
        ({"token": files.secret("empty", "\n")}, "empty: holds no ACL token"),
        ({"token": files.secret("two", "two words")}, "two: holds no ACL token"),
        ({"token": files.secret("letters", "t\u00f6ken")}, "letters: holds no ACL token"),
        ({"cert": "/nowhere/cert", "key": key}, "/nowhere/cert and .* can't be read as a certificate and its key: no such"),
        ({"cert": crt, "key": "/nowhere/key"}, "/nowhere/key: can't be read: No such file"),
        ({"cert": crt}, "can't be read as a certificate and its key: "),
        ({"cert": crt, "key": files.stranger.with_suffix(".key")}, "its key: key values mismatch"),
        ({"cert": crt, "key": encrypted}, "its key: the key is encrypted"),
        ({"cert": None, "key": key}, "a key with its certificate"),
        ({"token": "token"}, "FILE with its whole path"),
        ({"toke": "/token"}, "it is written consul"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            totals(url(**named))


@pytest.mark.parametrize("query", [f"?token={UNKNOWN_TOKEN}", f"?tok=/{UNKNOWN_TOKEN}"])
@pytest.mark.parametrize("scheme", ["consul", "consul+https"])
def test_a_token_that_somebody_wrote_into_the_url_is_refused_and_not_repeated(scheme: str, query: str) -> None:
    with pytest.raises(ConfigError, match="it is written consul") as error:
        totals(f"{scheme}://127.0.0.1:8500/hitmesh{query}")
    assert UNKNOWN_TOKEN not in str(error.value)


def test_a_token_in_the_environment_that_is_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "s3cret\r\nX-Other: 1")
    with pytest.raises(ConfigError, match="CONSUL_HTTP_TOKEN: holds no ACL token") as error:
        totals("consul://127.0.0.1:8500/hitmesh")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("command", ["hitmesh collector", "hitmesh processor", "nexus", "balancer"])
def test_a_role_that_may_not_use_its_token_says_so_in_a_line(command: str, tmp_path: Path) -> None:
    token = tmp_path / f"{command.rsplit(maxsplit=1)[-1]}.token"
    token.write_text(MASTER_TOKEN)
    token.chmod(0o644)
    place = f"consul://127.0.0.1:1/hitmesh{{}}?token={tmp_path}/{{{{role}}}}.token"
    first = free_ports(6)
    data = {
        "name": "stage",
        "nodes": {"local": {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1, "balancer": 1}},
        "ports": {"nexus": first, "collector": first + 3, "balancer": first + 4, "balancer_admin": first + 5},
        "stores": {"totals": place.format(""), "settings": place.format("-settings")},
    }
    file = tmp_path / "stage.toml"
    file.write_text(dump(parse(data, source="test")))
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "--config", file, "--state-dir", tmp_path],
        capture_output=True, text=True, timeout=START_S, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"{token}: others can read this secret (mode 0644) (chmod 600)" in done.stderr
    assert "Traceback" not in done.stderr
    assert MASTER_TOKEN not in done.stdout + done.stderr


# --- files that are replaced ----------------------------------------------------------------------


def test_a_token_that_is_replaced_counts_with_the_next_request(url: Url, files: AccessFiles) -> None:
    changing = files.secret("changing", UNKNOWN_TOKEN)
    store = totals(url(token=changing))
    with pytest.raises(StoreUnknown, match="ACL not found"):
        store.check()
    changing.write_text(MASTER_TOKEN)
    store.check()
    changing.chmod(0o644)
    with pytest.raises(StoreUnknown, match="others can read this secret"):
        store.check()
    assert store.write([Write(1, 0, b"head", [])]) == [Unknown(f"Consul: {_at(url)}: {changing}: {OPEN}")]
    store.close()


OPEN = "others can read this secret (mode 0644) (chmod 600)"


def _at(url: Url) -> str:
    return url().partition("://")[2].partition("/")[0]


def test_a_client_certificate_that_is_replaced_counts_with_the_next_request(url: Url, files: AccessFiles) -> None:
    changing = files.secret("changing.pem", files.stranger.read_text())
    store = totals(url(cert=changing))
    with pytest.raises(StoreUnknown, match="it doesn't take the client certificate"):
        store.check()
    renewed = files.secret("renewed.pem", files.client.read_text())
    os.replace(renewed, changing)  # noqa: PTH105 - as who renews one does it
    store.check()
    store.close()
