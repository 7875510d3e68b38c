"""A real Prometheus scrapes a real mesh of two datacenters: what it is told, and what the rules and the dashboard see."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from hitmesh import __version__
from tests.hitmesh.cli.meshes import Mesh, hit, meshes, status_of
from tests.hitmesh.metrics.rules import FOLDER, REPOSITORY, RULES, alerts, compared
from tests.services import PATIENCE_S, wait_for
from tests.services.prometheus import Prometheus

ROLES: Final = ("balancer", "collector", "processor", "nexus", "dashboard", "recorder", "scaler")
DCS: Final = ("eu-west", "us-west")
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
SOON_S: Final = 90.0  # for what takes some seconds on a quiet machine
# What there is only once something has happened that doesn't happen here, and rules that look at nothing else.
SELDOM: Final = {
    "hitmesh_turned_away_total",
    "hitmesh_recorder_database_rows_total",
    "hitmesh_recorder_database_away_seconds",
    "hitmesh_balancer_frontend_request_errors_total",
    "hitmesh_balancer_service_failures_total",
    "hitmesh_balancer_virtual_ip",
    "hitmesh_scaler_wanted_instances",  # of a role that is scaled
}
SILENT: Final = {"HitmeshTurnedAway", "HitmeshDatabaseAway"}  # nobody was, and there is no database
# What rises in both datacenters while somebody hits them.
BUSY: Final = (
    "hitmesh_collector_accepted_hits_total",
    "hitmesh_collector_hit_duration_seconds_count",
    "hitmesh_collector_spool_put_duration_seconds_count",
    "hitmesh_collector_commit_duration_seconds_count",
    "hitmesh_processor_applied_hits_total",
    "hitmesh_processor_commit_duration_seconds_count",
    "hitmesh_balancer_service_request_duration_seconds_count",
    "hitmesh_balancer_service_backend_duration_seconds_count",
    "hitmesh_hub_lag_seconds_count",
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("scraped") / "var"
    with meshes(folder, nexus=1, processor=1, collector=1, balancer=1, dashboard=1, recorder=1, scaler=1) as mesh:
        mesh.up(",".join(DCS))
        yield mesh


@pytest.fixture(scope="module")
def targets(mesh: Mesh) -> str:
    """What Prometheus is given."""
    return mesh.run("endpoints", "--prometheus").stdout


@pytest.fixture(scope="module")
def visitors(mesh: Mesh) -> Iterator[None]:
    """Somebody who hits both datacenters all the time."""
    gone = threading.Event()
    found = mesh.json("endpoints")
    balancers = [found[dc]["balancer"][0] for dc in DCS]

    def visit() -> None:
        while not gone.wait(0.1):
            for url in balancers:
                hit(url, "metrics/page")

    visitor = threading.Thread(target=visit)
    visitor.start()
    yield
    gone.set()
    visitor.join()


@pytest.fixture(scope="module")
def server(targets: str, visitors: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), targets=targets, rules=RULES)
    server.start()
    yield server
    server.stop()


def scraped(targets: str, role: str, accept: str = "", path: str = "/metrics") -> tuple[int, str, str]:
    """What the first instance of a role tells: status, Content-Type, text."""
    [at] = next(group["targets"] for group in json.loads(targets) if group["labels"]["role"] == role)
    connection = http.client.HTTPConnection(at, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def wait_for_none(find: Callable[[], Collection[str]]) -> None:
    """Until nothing is found; what was, is in the error."""
    found: Collection[str] = ()

    def none() -> bool:
        nonlocal found
        found = find()
        return not found

    try:
        wait_for(none, within_s=SOON_S)
    except AssertionError as error:
        raise AssertionError(f"still after {SOON_S:g} s: {sorted(found)}") from error


def documented() -> dict[str, set[str]]:
    """The metrics of each role, by the tables of the operations guide."""
    found: dict[str, set[str]] = {}
    for section in (REPOSITORY / "docs" / "operations" / "metrics.md").read_text().split("\n### ")[1:]:
        found[section.partition("\n")[0].lower()] = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    return {
        role: found[role] | found["every role"] | (found["the process"] if role != "balancer" else set())
        for role in ROLES
    }


def exported(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_tells_is_what_the_guide_says(targets: str, visitors: None, role: str) -> None:
    known = documented()[role]
    # The dashboard has to have looked at the books first, a processor to have heard of the other datacenter.
    may_lack = SELDOM | ({"hitmesh_live_settings_refused"} if role == "nexus" else set())
    if role not in ("collector", "processor", "nexus"):
        may_lack = may_lack | {"hitmesh_bad_frames_total"}

    def lacking() -> set[str]:
        status, _, text = scraped(targets, role)
        assert status == 200
        unknown = exported(text) - known
        assert not unknown, f"docs/operations/metrics.md doesn't have {sorted(unknown)}"
        return known - exported(text) - may_lack

    wait_for_none(lacking)


@pytest.mark.parametrize("role", ROLES)
def test_the_official_parsers_read_it(targets: str, role: str) -> None:
    status, content_type, text = scraped(targets, role)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in prometheus(text)}
    [about] = families["hitmesh_build_info"].samples
    assert about.labels == {"version": __version__, "dc": "eu-west", "role": role, "name": f"{role}-1"}
    status, content_type, text = scraped(targets, role, OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    read: Callable[[str], Iterator[Any]] = openmetrics
    assert {family.name for family in read(text)} >= {"hitmesh_build", "hitmesh_hub_lag_seconds"}


@pytest.mark.parametrize("role", ROLES)
def test_health_is_told_beside_it(targets: str, role: str) -> None:
    status, _, text = scraped(targets, role, path="/health")
    assert (status, json.loads(text)["status"]) == (200, "up")


def test_prometheus_scrapes_every_instance(server: Prometheus) -> None:
    def up() -> set[tuple[str, str, str]]:
        found = server.query('up{job="hitmesh"} == 1')
        return {(one["metric"]["dc"], one["metric"]["role"], one["metric"]["name"]) for one in found}

    wait_for(
        lambda: up() == {(dc, role, f"{role}-1") for dc in DCS for role in ROLES}, within_s=SOON_S, what="all of them"
    )
    # What happens is counted, by all who have to do with it.
    wait_for_none(lambda: {name for name in BUSY if len(server.query(f"sum by (dc) ({name}) > 0")) < len(DCS)})


def test_requests_that_are_refused_are_counted_by_reason(mesh: Mesh, targets: str) -> None:
    url = mesh.urls("eu-west", "collector")[0]
    assert status_of(url, "GET", "/hit/a%00b") == 400
    assert status_of(url, "POST", "/hits", "nonsense") == 415
    assert status_of(url, "GET", "/hit/a", host="two words") == 400
    text = scraped(targets, "collector")[2]
    found = dict(re.findall(r'hitmesh_collector_refused_requests_total\{reason="(\w+)"\} (\S+)', text))
    assert (float(found["bad_request"]), float(found["unreadable"]), float(found["not_counted"])) == (2, 1, 0)


def panels() -> list[Any]:
    found: list[Any] = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def test_every_query_of_the_grafana_dashboard_gives_something(server: Prometheus) -> None:
    exprs = {target["expr"] for panel in panels() for target in panel["targets"]}
    assert len(exprs) > 30

    def empty() -> list[str]:
        filled = {expr: expr.replace("$dc", ".*").replace("$__rate_interval", "30s") for expr in exprs}
        return [expr for expr, query in filled.items() if not server.query(query)]

    wait_for_none(empty)


def test_the_grafana_dashboard_is_in_the_form_that_grafana_imports() -> None:
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    assert dashboard["id"] is None and dashboard["uid"] == "hitmesh" and dashboard["schemaVersion"] >= 36
    assert [one["name"] for one in dashboard["templating"]["list"]] == ["datasource", "dc"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    taken = {
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    }
    assert len(taken) == sum(at["w"] * at["h"] for at in places)  # none on another
    assert max(x for x, _ in taken) < 24
    for panel in panels():
        assert panel["title"] and panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_every_rule_has_something_to_look_at_and_none_fires_for_long_in_a_mesh_that_is_well(server: Prometheus) -> None:
    rules = alerts()

    def silent() -> set[str]:
        return {name for name, rule in rules.items() if not server.query(compared(rule["expr"]))}

    wait_for_none(lambda: silent() - SILENT)
    loaded = server.ask("rules")["groups"]
    assert {rule["name"] for group in loaded for rule in group["rules"]} == set(rules)
    assert [rule["lastError"] for group in loaded for rule in group["rules"] if rule.get("lastError")] == []

    def firing() -> list[str]:
        return [one["labels"]["alertname"] for one in server.ask("alerts")["alerts"] if one["state"] == "firing"]

    wait_for_none(firing)
