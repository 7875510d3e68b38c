"""Alerts of a real mesh: what isn't well reaches a web server and a mail server once, and recovers, though the dashboard
that told of it is killed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hitmesh.dashboard.alerts.memory import Memory, decode, key_of
from hitmesh.settings.sqlite import SqliteSettings
from tests.balancer.certificates import make_certificate
from tests.services import START_S, wait_for
from tests.services.receivers import Hook, Mailbox, texts
from tests.system.mesh import Mesh

PAIR = ("dashboard-1", "dashboard-2")
SOON_S = 120.0  # a quiet machine takes 2 s, and 17 to recover


class Told:
    """Whoever is told."""

    def __init__(self, certificate: Path) -> None:
        self.hook, self.slow = Hook(certificate), Hook()
        self.box = Mailbox(certificate, user="me", password="hunter2")
        self.slow.may_answer.clear()

    def kinds(self) -> set[tuple[str, str]]:
        """What came by the webhook: its kind and the alert."""
        return {(each["kind"], each["name"]) for each in self.hook.alerts}

    def pings(self) -> int:
        """How often the dead man's URL was called."""
        return sum(method == "GET" for method, *_ in list(self.hook.requests))

    def close(self) -> None:
        self.hook.close()
        self.slow.close()
        self.box.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whoever is told, and of the balancer; it ends in five days."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost", days=5)


@pytest.fixture(scope="module")
def told(certificate: Path) -> Iterator[Told]:
    with contextlib.closing(Told(certificate)) as one:
        yield one


@pytest.fixture(scope="module")
def mesh(told: Told, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One of each role, and two dashboards. The disk is full from a hundredth on."""
    folder = tmp_path_factory.mktemp("mesh")
    password, url = folder / "password", f"https://localhost:{told.hook.port}/"
    password.write_text("hunter2\n")
    password.chmod(0o600)
    alerts = {
        "webhook": [{"url": told.slow.url}, {"url": url}],
        "mail": {
            "server": f"localhost:{told.box.port}", "user": "me", "password_file": str(password),
            "sender": "a@example.com", "to": ["b@example.com"],
        },
        "dead_man": f"{url}alive",
        "dead_man_s": 1.0,
        "rules": {"disk": {"threshold": 0.01, "for_s": 0.0}, "instance_dead": {"for_s": 0.0}, "trouble": {"for_s": 0.0}},
    }  # fmt: skip
    balancer = {"tls": {"certificates": [str(certificate)], "admin": True}}
    env = {"dashboard": {"SSL_CERT_FILE": str(certificate)}}
    with Mesh(folder, alerts=alerts, balancer=balancer, env=env, timing={"missed_heartbeats": 20}) as one:
        one.start("balancer-1", *PAIR)
        yield one


def status(mesh: Mesh, name: str) -> Any:
    url = next(each.instance.endpoints["http"] for each in mesh.living() if each.instance.name == name)
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=START_S)
    with contextlib.closing(connection):
        connection.request("GET", "/status.json")
        return json.loads(connection.getresponse().read())


def fires(mesh: Mesh) -> set[str]:
    """What the dashboard that stays shows to fire."""
    return {each["name"] for each in status(mesh, "dashboard-2")["alerts"] if each["state"] == "firing"}


def events(mesh: Mesh) -> list[str]:
    """What it says has happened."""
    return [each["says"] for each in status(mesh, "dashboard-2")["events"] if each["kind"] == "alert"]


def remembered(mesh: Mesh) -> Memory:
    """What the dashboards share."""
    found = SqliteSettings(mesh.folder / mesh.config.name / "settings.db").get(key_of(mesh.config.name))
    return decode(found.value if found else None)


def test_what_is_not_well_is_told_once_and_so_is_its_recovery_though_a_dashboard_is_killed(
    mesh: Mesh, told: Told
) -> None:
    at_first = {("firing", "certificate/balancer-1"), ("firing", "disk/local")}
    wait_for(lambda: told.kinds() >= at_first, within_s=SOON_S, what="the certificate and the disk")
    wait_for(lambda: told.pings() > 2, within_s=SOON_S, what="the dead man's URL to be called: these are warnings")

    mesh.kill("collector-1")
    dead = {("firing", "instance_dead/collector-1"), ("firing", "trouble/role-collector")}
    wait_for(lambda: told.kinds() >= at_first | dead, within_s=SOON_S, what="the collector's death to be told")
    wait_for(lambda: fires(mesh) >= {name for _, name in at_first | dead}, within_s=SOON_S, what="the other to show it")
    wait_for(lambda: all(each["id"] in texts(told.box) for each in told.hook.alerts), within_s=SOON_S, what="the mails")

    assert told.slow.requests, "a server that is silent, which held up nobody"
    told.slow.may_answer.set()
    # Who is killed between sending and writing that down has it sent again, by the other: nobody can help that.
    wait_for(lambda: not remembered(mesh).notices, within_s=SOON_S, what="it to be written that it was sent")
    mesh.kill("dashboard-1")
    pings = told.pings()
    mesh.start("collector-1")
    back = {("recovered", "instance_dead/collector-1"), ("recovered", "trouble/role-collector")}
    wait_for(lambda: told.kinds() >= back, within_s=SOON_S, what="the recovery")
    wait_for(lambda: told.pings() > pings, within_s=SOON_S, what="the dead man's URL to be called again")

    counts = Counter((each["id"], each["number"]) for each in told.hook.alerts)
    assert set(counts.values()) == {1}, told.hook.alerts
    ids = {name: {each["id"] for each in told.hook.alerts if each["name"] == name} for _, name in dead | at_first}
    assert {len(each) for each in ids.values()} == {1}
    assert {each["id"] for each in told.slow.alerts} == {each["id"] for each in told.hook.alerts}, "it got all, later"
    wait_for(lambda: texts(told.box).count("recovered: ") >= 2, within_s=SOON_S, what="the mail of the recovery")
    wait_for(lambda: any("recovered: collector-1 of dc-test" in each for each in events(mesh)), what="the event")
    for name in PAIR:
        log = mesh.log(name)
        assert "Traceback" not in log
        assert "hunter2" not in log
