from __future__ import annotations

from pathlib import Path

import pytest

from balancer.front import configured, standalone
from balancer.process.listeners import Address
from hitmesh.config import Proxy, Static
from hitmesh.errors import ConfigError

FILE = Path("/nowhere/eu-west.toml")
NODES = """
name = "eu-west"
[nodes.n1]
address = "127.0.0.1"
nexus = 1
processor = 1
collector = 1
balancer = 2
"""


def of(text: str = "", *, name: str | None = None):  # type: ignore[no-untyped-def]
    return configured((NODES + text).encode(), file=FILE, name=name, state_dir=Path("/state"))


def test_an_instance_listens_where_the_configuration_says() -> None:
    front = of("[ports]\nbalancer = 9000\nbalancer_admin = 9010\n", name="balancer-2")
    assert front.listen == {"http": Address("127.0.0.1", 9001), "admin": Address("127.0.0.1", 9011)}


def test_the_tls_listener_is_there_if_it_is_configured() -> None:
    front = of('[ports]\nbalancer_tls = 9443\nbalancer_admin = 0\n[balancer.tls]\ncertificates = ["own.pem"]\n')
    assert front.listen == {"http": Address("127.0.0.1", 8000), "tls": Address("127.0.0.1", 9443)}
    assert front.balancer.tls.certificates == ("/nowhere/own.pem",)  # beside the file


def test_without_a_name_it_is_the_first_instance() -> None:
    assert of().name == "balancer-1"


def test_an_instance_that_is_not_configured_listens_on_any_port() -> None:
    assert set(of(name="balancer-9").listen.values()) == {Address("127.0.0.1", 0)}


def test_an_instance_that_is_not_configured_needs_the_admin_token_too() -> None:
    beyond = NODES.replace("127.0.0.1", "192.0.2.7").replace("balancer = 2", "") + "[ports]\n"
    with pytest.raises(ConfigError, match=r"eu-west.toml: balancer.admin_token is missing: .*192.0.2.7.* is beyond"):
        configured(f"insecure = true\n{beyond}".encode(), file=FILE, name="balancer-9", state_dir=Path("/state"))


def test_a_configuration_says_what_it_says() -> None:
    front = of(
        "[balancer]\nworkers = 3\n[timing]\ndrain_s = 2.5\n"
        '[routes.default]\naction = "static"\nfile = "sorry.html"\n'
    )  # fmt: skip
    assert (front.workers, front.drain_s, front.standalone) == (3, 2.5, False)
    assert front.routes == {"default": Static(file="/nowhere/sorry.html")}
    assert front.state_dir == Path("/state")
    plan = front.plan(b"text")
    assert (plan.listen, plan.workers, plan.drain_s, plan.text) == (front.listen, 3, 2.5, b"text")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"name = ", "eu-west.toml: not TOML"),
        (b"\xff", "eu-west.toml: not TOML"),
        (NODES.encode() + b"[balancer]\nworker = 2\n", "eu-west.toml: .*workers"),
    ],
)
def test_a_mistake_names_the_file(text: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(text, file=FILE, name=None, state_dir=Path())


def test_a_standalone_instance_passes_everything_on_without_asking_for_health_and_holds_nothing() -> None:
    front = standalone(listen="[::1]:8000", backends=["127.0.0.1:8010", "[::1]:8011"], admin="127.0.0.1:8005")
    assert front.listen == {"http": Address("::1", 8000), "admin": Address("127.0.0.1", 8005)}
    assert front.routes == {"default": Proxy(backends=("127.0.0.1:8010", "[::1]:8011"), check_path="", hold=0)}
    assert (front.config, front.state_dir, front.standalone, front.drain_s) == (None, None, True, 8.0)


def test_the_access_log_of_a_standalone_instance_is_below_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")

    def written(file: str) -> str:
        log: str = standalone(listen="[::1]:0", backends=["b:1"], access_log=file).balancer.access_log
        return log

    assert [written(file) for file in ("x.log", "/y.log", "-", "")] == ["/x.log", "/y.log", "-", ""]
