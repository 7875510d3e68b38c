"""The admin listener: what it tells, who may ask, and routes by REST on a real settings store."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from falcon.testing import Result, TestClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from balancer.admin.access import Access
from balancer.admin.app import make_admin
from balancer.measures.stats import Pause, Picture, no_pause
from balancer.middle.routes import KEYS, RouteTable
from hitmesh.config import Empty, Proxy, Route, parse_stored
from hitmesh.config.hands import Hands
from hitmesh.config.pauses import TEXT, RoutePause, parse_pause
from hitmesh.errors import StoreUnknown
from hitmesh.http.access import MetricsAccess
from hitmesh.settings import Setting
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.state.handling import Known
from tests.balancer.pictures import full

T = TypeVar("T")

TOKEN = "s3cret"
LOCAL = {"Host": "127.0.0.1:8005"}
CONFIGURED: dict[str, Route] = {"default": Proxy(service="collector"), "www.example.com": Empty(status=204)}
PEOPLE = [
    Known("collector-1", "collector", "up"),
    Known("collector-2", "collector", "up"),
    Known("processor-1", "processor", "up"),
    Known("processor-2", "processor", "-"),
    Known("nexus-1", "nexus", "up"),
    Known("10.0.0.1:80", "backend", "up", "www.example.com"),
]
EMPTY = {"action": "empty", "status": 404}


class Client(TestClient):
    """Asks from this machine, unless told otherwise."""

    def simulate_request(self, *args: Any, **kwargs: Any) -> Result:
        return super().simulate_request(*args, **({"remote_addr": "127.0.0.1"} | kwargs))


class Worker:
    """What the admin listener is told from; `follow` does what a worker's watch does."""

    def __init__(self) -> None:
        self.ill = ""
        self.said = Hands()
        self.routes = RouteTable(CONFIGURED, {})

    def shown(self, form: Callable[[Picture, Pause], T]) -> T:
        return form(full(), no_pause)

    def pause(self) -> Pause:
        return no_pause

    def table(self) -> RouteTable:
        return self.routes

    def health(self) -> tuple[bool, str]:
        return not self.ill, self.ill

    def known(self) -> Sequence[Known]:
        return PEOPLE

    def hands(self) -> Hands:
        return self.said

    def follow(self, settings: SqliteSettings) -> None:
        found = settings.list(KEYS).items()
        live = {key.removeprefix(KEYS): parse_stored(key.removeprefix(KEYS), each.value) for key, each in found}
        self.routes = RouteTable(CONFIGURED, live)


class Silent(SqliteSettings):
    """A store that doesn't answer."""

    def list(self, prefix: str = "") -> Mapping[str, Setting]:
        raise StoreUnknown("no answer", op="list settings")

    def set(self, key: str, value: bytes, *, author: str, expect_version: int | None = None) -> Setting:
        raise StoreUnknown("no answer", op=f"set {key}")


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def settings(tmp_path: Path) -> SqliteSettings:
    return SqliteSettings(tmp_path / "settings.db")


@pytest.fixture
def admin(worker: Worker, settings: SqliteSettings) -> Client:
    return Client(make_admin(worker, settings, dc="eu-west"), headers=LOCAL)


def put(admin: Client, pattern: str, route: object, **headers: str) -> Result:
    return admin.simulate_put(f"/routes/{pattern}", body=json.dumps(route), headers=LOCAL | headers)


def assert_error(answer: Result, status: int, *words: str) -> None:
    """An error in the form that every one of them has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert sorted(answer.json) == ["description", "title"]
    assert answer.json["title"]
    for word in words:
        assert word in answer.json["description"]


def routes_of(admin: Client) -> dict[str, dict[str, Any]]:
    return {each["host"]: each for each in admin.simulate_get("/routes").json["routes"]}


# --- what it tells ------------------------------------------------------------------------------


def test_stats_are_a_page_for_people(admin: Client) -> None:
    answer = admin.simulate_get("/stats")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "collector-1" in answer.text and "www.example.com" in answer.text
    assert 'http-equiv="refresh" content="2"' in answer.text


def test_the_page_is_refreshed_as_often_as_asked(admin: Client) -> None:
    assert 'content="10"' in admin.simulate_get("/stats?refresh=10").text
    assert "http-equiv" not in admin.simulate_get("/stats?refresh=0").text
    for wrong in ("", "-1", "x", "99999"):
        assert_error(admin.simulate_get(f"/stats?refresh={wrong}"), 400)


@pytest.mark.parametrize("path", ["/stats;csv", "/stats.csv", "/stats?format=csv"])
def test_stats_are_csv_as_haproxys(admin: Client, path: str) -> None:
    answer = admin.simulate_get(path)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith("# pxname,svname,")


@pytest.mark.parametrize("path", ["/stats;json", "/stats.json", "/stats?format=json"])
def test_stats_are_json(admin: Client, path: str) -> None:
    assert admin.simulate_get(path).json == full()


def test_stats_in_another_format_are_refused(admin: Client) -> None:
    assert_error(admin.simulate_get("/stats?format=xml"), 400, "html, json or csv")


def test_metrics_are_for_prometheus(admin: Client) -> None:
    answer = admin.simulate_get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'hitmesh_balancer_frontend_requests_total{listener="http"} 1.234567e+06' in answer.text


def test_metrics_are_openmetrics_for_who_wants_them(admin: Client, worker: Worker) -> None:
    worker.ill = "no backend is alive"
    answer = admin.simulate_get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    read: Callable[[str], Iterator[Any]] = text_string_to_metric_families
    found = {family.name: family for family in read(answer.text)}
    assert found["hitmesh_failing"].samples[0].value == 1
    assert found["hitmesh_balancer_frontend_sessions"].samples[0].name == "hitmesh_balancer_frontend_sessions_total"


def test_health_says_up_or_why_not(admin: Client, worker: Worker) -> None:
    assert admin.simulate_get("/health").json == {"status": "up"}
    worker.ill = "draining"
    assert_error(admin.simulate_get("/health"), 503, "draining")


def test_the_root_leads_to_the_page(admin: Client) -> None:
    answer = admin.simulate_get("/")
    assert (answer.status_code, answer.headers["location"]) == (302, "/stats")


@pytest.mark.parametrize("path", ["/stats", "/metrics", "/health", "/routes", "/routes/default", "/stats.json"])
def test_head_is_get_without_the_body(admin: Client, path: str) -> None:
    answer = admin.simulate_head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_what_is_not_there_and_what_is_not_possible_are_told_in_json(admin: Client) -> None:
    assert_error(admin.simulate_get("/nothing"), 404, "/stats")
    assert_error(admin.simulate_post("/routes"), 405, "POST", "GET")
    assert_error(admin.simulate_get("/routes/a/b"), 404)


@pytest.mark.parametrize("path", ["/stats", "/routes", "/nothing"])
def test_no_answer_is_kept_framed_or_mistaken_for_something_else(admin: Client, path: str) -> None:
    headers = admin.simulate_get(path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


# --- routes -------------------------------------------------------------------------------------


def test_all_routes_are_listed_with_their_origin(admin: Client) -> None:
    answer = admin.simulate_get("/routes").json
    assert answer["settings"] == {"available": True, "reason": ""}
    assert [(each["host"], each["origin"], each["in_force"]) for each in answer["routes"]] == [
        ("default", "config", True),
        ("www.example.com", "config", True),
    ]
    assert answer["routes"][0]["route"]["action"] == "proxy"
    assert answer["routes"][0]["route"]["service"] == "collector"


def test_a_route_that_was_put_is_stored_and_answered_with_its_version_and_author(
    admin: Client, settings: SqliteSettings
) -> None:
    answer = put(admin, "new.example.com", EMPTY)
    assert answer.status_code == 200, answer.text
    assert answer.json["route"] == EMPTY
    assert (answer.json["origin"], answer.json["version"], answer.json["author"]) == ("live", 1, "admin at 127.0.0.1")
    assert answer.headers["etag"] == '"1"'
    assert json.loads(settings.list(KEYS)["routes/new.example.com"].value) == EMPTY


def test_a_route_that_was_put_is_listed_as_in_force_once_it_is(
    admin: Client, settings: SqliteSettings, worker: Worker
) -> None:
    assert put(admin, "www.example.com", EMPTY).json["in_force"] is False
    assert routes_of(admin)["www.example.com"]["in_force"] is False
    worker.follow(settings)
    told = routes_of(admin)["www.example.com"]
    assert (told["in_force"], told["origin"], told["version"]) == (True, "live", 1)
    assert told["hides"] == {"action": "empty", "status": 204}
    assert admin.simulate_get("/routes/www.example.com").json == told


def test_a_pattern_is_written_in_one_way(admin: Client, settings: SqliteSettings) -> None:
    put(admin, "WWW.Example.ORG.", EMPTY)
    put(admin, "*.Example.ORG", EMPTY)
    put(admin, "%2A.example.net", EMPTY)
    put(admin, "[::1]", EMPTY)
    assert sorted(settings.list(KEYS)) == [
        *("routes/*.example.net", "routes/*.example.org", "routes/[::1]", "routes/www.example.org")
    ]


@pytest.mark.parametrize("pattern", ["a%20b", "*", "www.example.com:80", "a..b", "%2e%2e", "-", "%ff", "x" * 300])
def test_a_pattern_that_is_no_host_is_refused(admin: Client, settings: SqliteSettings, pattern: str) -> None:
    assert_error(put(admin, pattern, EMPTY), 400)
    assert_error(admin.simulate_get(f"/routes/{pattern}"), 400)
    assert_error(admin.simulate_delete(f"/routes/{pattern}"), 400)
    assert not settings.list(KEYS)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["not JSON"]),
        (b"{", ["not JSON"]),
        (b'"\xff"', ["not JSON"]),
        (b"[" * 100_000, ["not JSON"]),
        (b"null", ["JSON object"]),
        (b"{}", ["action"]),
        (b'{"action":"nothing"}', ["nothing"]),
        (b'{"action":"empty","status":42}', ["status", "42"]),
        (b'{"action":"empty","staus":204}', ["staus", "status"]),
        (b'{"action":"proxy"}', ["service and backends"]),
        (b'{"action":"redirect"}', ["to"]),
        (b'{"action":"redirect","to":"//evil.example.net"}', ["to"]),
        (b'{"action":"static","file":"/etc/passwd"}', ["file"]),
    ],
)
def test_a_wrong_route_is_refused_with_the_key_named_and_nothing_is_stored(
    admin: Client, settings: SqliteSettings, body: bytes, words: list[str]
) -> None:
    answer = admin.simulate_put("/routes/new.example.com", body=body)
    assert_error(answer, 400, "new.example.com", *words)
    assert not settings.list(KEYS)


def test_a_route_beyond_the_limit_of_a_setting_is_refused(admin: Client, settings: SqliteSettings) -> None:
    assert_error(put(admin, "new.example.com", {"action": "static", "body": "\u20ac" * 40_000}), 400, "limit")
    assert not settings.list(KEYS)


def test_an_alias_that_leads_nowhere_is_stored_and_says_so(admin: Client) -> None:
    assert "no route" in put(admin, "a.example.com", {"action": "alias", "of": "nowhere.example.com"}).json["problem"]
    assert put(admin, "b.example.com", {"action": "alias", "of": "WWW.example.com"}).json["problem"] == ""


def test_a_live_route_is_deleted_and_the_configured_one_told(
    admin: Client, settings: SqliteSettings, worker: Worker
) -> None:
    put(admin, "www.example.com", EMPTY)
    worker.follow(settings)
    answer = admin.simulate_delete("/routes/www.example.com")
    assert answer.json == {"host": "www.example.com", "deleted": True, "route": {"action": "empty", "status": 204}}
    assert not settings.list(KEYS)


def test_a_configured_route_can_not_be_deleted(admin: Client) -> None:
    assert_error(admin.simulate_delete("/routes/www.example.com"), 409, "in the configuration")


def test_a_route_that_is_not_there_is_not_found(admin: Client) -> None:
    assert_error(admin.simulate_get("/routes/new.example.com"), 404)
    assert_error(admin.simulate_delete("/routes/new.example.com"), 404)


def test_a_stored_value_that_is_no_route_is_listed_with_what_is_wrong(admin: Client, settings: SqliteSettings) -> None:
    settings.set("routes/www.example.com", b"{}", author="somebody")
    settings.set("routes/UPPER.example.com", b'{"action":"empty"}', author="somebody")
    told = routes_of(admin)
    assert told["www.example.com"]["in_force"] is False
    assert told["www.example.com"]["route"] == {"action": "empty", "status": 204}
    assert "action" in told["www.example.com"]["problem"]
    assert "no Host" in told["UPPER.example.com"]["problem"]


@pytest.mark.parametrize("condition", ["header", "parameter"])
def test_a_change_can_expect_a_version(admin: Client, settings: SqliteSettings, condition: str) -> None:
    def change(method: str, version: int) -> Result:
        query = f"?expect_version={version}" if condition == "parameter" else ""
        headers = {"If-Match": f'"{version}"'} if condition == "header" else {}
        return admin.simulate_request(
            method, f"/routes/new.example.com{query}", body=json.dumps(EMPTY), headers=LOCAL | headers
        )

    put(admin, "new.example.com", EMPTY)
    assert change("PUT", 1).json["version"] == 2
    assert_error(change("PUT", 1), 412, "version 2", "version 1")
    assert_error(change("DELETE", 1), 412)
    assert settings.list(KEYS)["routes/new.example.com"].version == 2
    assert change("DELETE", 2).status_code == 200


def test_a_change_can_expect_that_nothing_is_there(admin: Client) -> None:
    star = {"If-None-Match": "*"}
    assert put(admin, "new.example.com", EMPTY, **star).status_code == 200
    assert_error(put(admin, "new.example.com", EMPTY, **star), 412)
    assert_error(admin.simulate_put("/routes/new.example.com?expect_version=0", body=json.dumps(EMPTY)), 412)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?expect_version=x", {}),
        ("?expect_version=", {}),
        ("", {"If-Match": "1"}),
        ("", {"If-Match": 'W/"1"'}),
        ("", {"If-None-Match": '"1"'}),
        ("?expect_version=1", {"If-Match": '"1"'}),
    ],
)
def test_a_condition_that_is_not_understood_changes_nothing(
    admin: Client, settings: SqliteSettings, query: str, headers: dict[str, str]
) -> None:
    answer = admin.simulate_put(f"/routes/new.example.com{query}", body=json.dumps(EMPTY), headers=LOCAL | headers)
    assert_error(answer, 400)
    assert not settings.list(KEYS)


def test_without_a_settings_store_routes_are_shown_and_not_changed(worker: Worker) -> None:
    admin = Client(make_admin(worker, None), headers=LOCAL)
    answer = admin.simulate_get("/routes").json
    assert len(answer["routes"]) == 2
    assert answer["settings"]["available"] is False
    assert "without a settings store" in answer["settings"]["reason"]
    assert_error(put(admin, "new.example.com", EMPTY), 409, "without a settings store")
    assert_error(admin.simulate_delete("/routes/www.example.com"), 409, "without a settings store")


def test_a_store_that_does_not_answer_hides_no_route_in_force(worker: Worker, tmp_path: Path) -> None:
    worker.routes = RouteTable(CONFIGURED, {"new.example.com": Empty(status=404)})
    admin = Client(make_admin(worker, Silent(tmp_path / "settings.db")), headers=LOCAL)
    answer = admin.simulate_get("/routes").json
    assert answer["settings"]["available"] is False
    assert routes_of(admin)["new.example.com"]["route"] == EMPTY
    assert admin.simulate_get("/routes/new.example.com").json["origin"] == "live"


def test_a_write_whose_outcome_is_unknown_is_a_503_that_says_so(worker: Worker, tmp_path: Path) -> None:
    admin = Client(make_admin(worker, Silent(tmp_path / "settings.db")), headers=LOCAL)
    answer = put(admin, "new.example.com", EMPTY)
    assert_error(answer, 503, "no answer")
    assert answer.json["title"] == "Perhaps done"
    assert answer.headers["retry-after"] == "1"


# --- who may ask --------------------------------------------------------------------------------

EVERYTHING = [
    "/stats",
    "/stats.json",
    "/stats;csv",
    "/metrics",
    "/health",
    "/routes",
    "/routes/default",
    "/instances",
    "/instances/collector-1",
    "/",
    "/nothing",
]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def guarded(worker: Worker, settings: SqliteSettings) -> Client:
    return Client(make_admin(worker, settings, token=TOKEN), headers={"Host": "balancer.example.com:8005"})


@pytest.mark.parametrize("path", EVERYTHING)
def test_with_a_token_nothing_is_told_without_it(guarded: Client, path: str) -> None:
    answer = guarded.simulate_get(path)
    assert_error(answer, 401)
    assert "Bearer" in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        f"Token {TOKEN}",
        "Basic %%%",
    ],
)
def test_a_wrong_token_is_refused(guarded: Client, authorization: str) -> None:
    assert_error(guarded.simulate_get("/stats", headers={"Authorization": authorization}), 401)


READER = "reads-metrics"


@pytest.mark.parametrize(
    ("metrics", "path", "authorization", "status"),
    [
        (MetricsAccess(READER), "/metrics", f"Bearer {READER}", 200),
        (MetricsAccess(READER), "/metrics", f"Bearer {TOKEN}", 200),
        (MetricsAccess(READER), "/metrics", "Bearer wrong", 401),
        (MetricsAccess(READER), "/metrics", "", 401),
        (MetricsAccess(READER), "/stats", f"Bearer {READER}", 401),
        (MetricsAccess(READER), "/routes", f"Bearer {READER}", 401),
        (MetricsAccess(is_open=True), "/metrics", "", 200),
        (MetricsAccess(is_open=True), "/stats", "", 401),
    ],
)
def test_the_metrics_have_a_token_of_their_own_which_opens_nothing_else(
    worker: Worker, settings: SqliteSettings, metrics: MetricsAccess, path: str, authorization: str, status: int
) -> None:
    app = Client(make_admin(worker, settings, token=TOKEN, metrics=metrics), headers=LOCAL)
    answer = app.simulate_get(path, headers={"Authorization": authorization}, remote_addr="203.0.113.9")
    assert answer.status_code == status
    changed = app.simulate_put(
        "/routes/a.example", body=json.dumps(EMPTY), headers={"Authorization": f"Bearer {READER}"}
    )
    assert changed.status_code == 401


def test_with_a_token_for_the_metrics_this_machine_needs_it_too(worker: Worker) -> None:
    app = Client(make_admin(worker, None, metrics=MetricsAccess(READER)), headers=LOCAL)
    assert app.simulate_get("/metrics").status_code == 401
    assert app.simulate_get("/stats").status_code == 200


def test_with_the_token_anybody_may_ask_from_anywhere(guarded: Client, settings: SqliteSettings) -> None:
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"bearer  {TOKEN}"}):
        answer = guarded.simulate_get("/stats", headers=headers, remote_addr="203.0.113.9")
        assert answer.status_code == 200
    answer = guarded.simulate_put(
        "/routes/new.example.com",
        body=json.dumps(EMPTY),
        headers={"Authorization": f"Bearer {TOKEN}"},
        remote_addr="203.0.113.9",
    )
    assert answer.status_code == 200
    assert settings.list(KEYS)["routes/new.example.com"].author == "admin at 203.0.113.9"


def test_a_browser_may_show_the_token_as_a_password_and_the_name_is_the_author(guarded: Client) -> None:
    assert guarded.simulate_get("/stats", headers=basic("ann", TOKEN)).status_code == 200
    assert_error(guarded.simulate_get("/stats", headers=basic(TOKEN, "")), 401)
    answer = guarded.simulate_put("/routes/new.example.com", body=json.dumps(EMPTY), headers=basic("ann", TOKEN))
    assert answer.json["author"] == "ann at 127.0.0.1"
    for name in ("a\nb", "x" * 65):
        answer = guarded.simulate_put("/routes/new.example.com", body=json.dumps(EMPTY), headers=basic(name, TOKEN))
        assert_error(answer, 400)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_without_a_token_this_machine_may_ask(admin: Client, address: str) -> None:
    assert admin.simulate_get("/stats", remote_addr=address).status_code == 200


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "x"])
def test_without_a_token_nobody_else_may_ask(admin: Client, address: str) -> None:
    for path in EVERYTHING:
        assert_error(admin.simulate_get(path, remote_addr=address), 403, "only this machine")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_without_a_token_nothing_may_come_through_a_proxy(admin: Client, name: str) -> None:
    assert_error(admin.simulate_get("/stats", headers=LOCAL | {name: "127.0.0.1"}), 403, "proxy")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8005", "localhost", "LOCALHOST.:8005", "[::1]:8005", "192.0.2.1", "lb-1:8005"]
)
def test_without_a_token_it_is_asked_by_address_or_by_a_name_of_its_own(worker: Worker, host: str) -> None:
    admin = Client(make_admin(worker, None, hosts=["LB-1"]))
    assert admin.simulate_get("/stats", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example.net", "evil.example.net:8005", "127.0.0.1.evil.example.net", "localhost.evil"]
)
def test_without_a_token_a_name_that_was_made_to_point_here_is_refused(admin: Client, host: str) -> None:
    for path in EVERYTHING:
        assert_error(admin.simulate_get(path, headers={"Host": host}), 403, "no name")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.net"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8006"},
        {"Origin": "http://127.0.0.1:8005.evil.example.net"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_page_from_elsewhere_changes_nothing(
    worker: Worker, settings: SqliteSettings, headers: dict[str, str], token: str
) -> None:
    admin = Client(make_admin(worker, settings, token=token))
    headers = LOCAL | headers | {"Authorization": f"Bearer {TOKEN}"}
    body = json.dumps(EMPTY)
    assert_error(admin.simulate_put("/routes/new.example.com", body=body, headers=headers), 403, "a page")
    assert_error(admin.simulate_delete("/routes/new.example.com", headers=headers), 403)
    assert_error(admin.simulate_post("/routes", headers=headers), 403)
    assert not settings.list(KEYS)


def test_a_page_of_its_own_may_change_something(admin: Client) -> None:
    headers = {"Origin": "http://127.0.0.1:8005", "Sec-Fetch-Site": "same-origin"}
    assert put(admin, "new.example.com", EMPTY, **headers).status_code == 200


def test_an_origin_is_not_believed_without_a_host_to_compare() -> None:
    refusal = Access("").refusal({"REQUEST_METHOD": "PUT", "HTTP_ORIGIN": "null", "REMOTE_ADDR": "127.0.0.1"})
    assert refusal is not None and refusal.status == 403


# --- instances and backends by REST -------------------------------------------------------------


def put_hand(admin: Client, name: str, body: object, query: str = "") -> Result:
    return admin.simulate_put(f"/instances/{name}", body=json.dumps(body), query_string=query)


def stored(settings: SqliteSettings) -> dict[str, str]:
    return {key: each.value.decode() for key, each in settings.list().items()}


def test_instances_are_listed_with_what_operators_say_of_them(admin: Client, worker: Worker) -> None:
    worker.said = Hands(frozenset({"collector-1"}), {"10.0.0.1:80": 50})
    found = {each["name"]: each for each in admin.simulate_get("/instances").json["instances"]}
    assert list(found) == [one.name for one in PEOPLE]
    assert found["collector-1"] == {
        "name": "collector-1",
        "role": "collector",
        "route": None,
        "state": "up",
        "drained": True,
        "weight": 100,
    }
    assert (found["10.0.0.1:80"]["route"], found["10.0.0.1:80"]["weight"]) == ("www.example.com", 50)
    assert admin.simulate_get("/instances/collector-1").json == found["collector-1"]


def test_an_instance_is_drained_and_weighed_by_put_and_both_taken_back_by_delete(
    admin: Client, worker: Worker, settings: SqliteSettings
) -> None:
    answer = put_hand(admin, "collector-1", {"drained": True, "weight": 25})
    assert (answer.status_code, answer.json["drained"], answer.json["weight"]) == (200, True, 25)
    assert stored(settings) == {"drained/eu-west/collector-1": "drained", "weights/eu-west/collector-1": "25"}
    assert settings.list()["drained/eu-west/collector-1"].author == "admin at 127.0.0.1"
    assert put_hand(admin, "collector-1", {"weight": 25}).json["drained"] is False
    assert stored(settings) == {"weights/eu-west/collector-1": "25"}
    answer = admin.simulate_delete("/instances/collector-1")
    assert (answer.status_code, answer.json["weight"]) == (200, 100)
    assert stored(settings) == {}


def test_what_was_said_of_one_that_is_gone_can_be_taken_back(
    admin: Client, worker: Worker, settings: SqliteSettings
) -> None:
    settings.set("drained/eu-west/collector-7", b"drained", author="anna")
    worker.said = Hands(frozenset({"collector-7"}))
    assert admin.simulate_delete("/instances/collector-7").status_code == 200
    assert stored(settings) == {}


def test_the_last_one_is_drained_by_force_only(admin: Client, settings: SqliteSettings) -> None:
    assert_error(put_hand(admin, "processor-1", {"drained": True}), 409, "the last processor", "?force=1 drains it")
    assert_error(put_hand(admin, "10.0.0.1:80", {"drained": True}), 409, "the last backend of the route")
    assert stored(settings) == {}
    assert put_hand(admin, "processor-1", {"drained": True}, "force=1").status_code == 200
    assert stored(settings) == {"drained/eu-west/processor-1": "drained"}


def test_of_two_that_are_drained_in_the_same_moment_not_both_are(
    admin: Client, worker: Worker, settings: SqliteSettings
) -> None:
    """What the other one has written isn't in force here yet."""
    names = [one.name for one in PEOPLE if one.role == "collector"]
    for other in names[1:]:
        settings.set(f"drained/eu-west/{other}", b"drained", author="somebody else")
    answer = put_hand(admin, names[0], {"drained": True, "weight": 25})
    assert_error(answer, 409, "it works on: others were drained in the same moment", "?force=1 drains it")
    assert stored(settings) == {f"drained/eu-west/{other}": "drained" for other in names[1:]}
    assert put_hand(admin, names[0], {"drained": True}, "force=1").status_code == 200


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("colector-1", {"drained": True}, 404, "did you mean collector-1?"),
        ("nexus-1", {"drained": True}, 409, "can't be drained"),
        ("processor-1", {"weight": 50}, 409, "a processor has no weight"),
        ("collector-1", {"weight": 0}, 400, "must be a whole number >= 1"),
        ("collector-1", {"weight": 1001}, 400, "must be a whole number <= 1000"),
        ("collector-1", {"drain": True}, 400, "drain is not a setting; did you mean drained?"),
        ("collector-1", {"drained": "yes"}, 400, "drained must be true or false"),
        ("collector-1", [], 400, "must be"),
        ("collector-1", None, 400, "must be"),
    ],
)
def test_a_wrong_word_about_an_instance_is_refused(
    admin: Client, settings: SqliteSettings, name: str, body: object, status: int, words: str
) -> None:
    assert_error(put_hand(admin, name, body), status, words)
    assert stored(settings) == {}


def test_without_a_settings_store_nobody_is_drained(worker: Worker) -> None:
    admin = Client(make_admin(worker, None), headers=LOCAL)
    assert_error(put_hand(admin, "collector-1", {"drained": True}), 409, "without a settings store")


# --- pauses by REST -----------------------------------------------------------------------------


def put_pause(admin: Client, pattern: str, body: object) -> Result:
    return admin.simulate_put(f"/pauses/{pattern}", body=json.dumps(body))


def test_a_route_is_paused_by_put_and_resumed_by_delete(admin: Client, settings: SqliteSettings) -> None:
    before = time.time()
    answer = put_pause(admin, "WWW.example.com", {"text": "back at ten", "for_s": 60})
    assert (answer.status_code, answer.json["host"]) == (200, "www.example.com")
    [(key, setting)] = settings.list("pauses/").items()
    pause = parse_pause(key, setting.value)
    assert (key, pause.text, pause.hold_s) == ("pauses/www.example.com", "back at ten", 0.0)
    assert before + 59 <= pause.until <= time.time() + 60
    assert put_pause(admin, "www.example.com", {"hold_s": 20}).json["paused"]["text"] == ""
    assert put_pause(admin, "www.example.com", {}).json["paused"]["text"] == TEXT
    assert admin.simulate_delete("/pauses/www.example.com").json == {"host": "www.example.com", "paused": None}
    assert settings.list("pauses/") == {}
    assert_error(admin.simulate_delete("/pauses/www.example.com"), 404, "isn't paused")


@pytest.mark.parametrize(
    ("pattern", "body", "status", "words"),
    [
        ("new.example.com", {}, 404, "there is no route new.example.com"),
        ("a b", {}, 400, "must be a name"),
        ("default", {"text": "x", "hold_s": 1}, 400, "text or hold_s, not both"),
        ("default", {"text": " \n"}, 400, "text says nothing"),
        ("default", {"for_s": 0}, 400, "for_s must be a number >= 1"),
        ("default", {"hold_s": 601}, 400, "hold_s must be a number <= 600"),
        ("default", {"txt": "x"}, 400, "did you mean text?"),
        ("default", [], 400, "must be"),
    ],
)
def test_a_wrong_pause_is_refused(
    admin: Client, settings: SqliteSettings, pattern: str, body: object, status: int, words: str
) -> None:
    assert_error(put_pause(admin, pattern, body), status, words)
    assert settings.list("pauses/") == {}


def test_what_is_paused_stands_with_the_route(admin: Client, worker: Worker) -> None:
    worker.routes = RouteTable(CONFIGURED, {}, {"default": RoutePause(until=2e9, text="back at ten")})
    told = routes_of(admin)
    assert told["default"]["paused"] == {"until": 2e9, "text": "back at ten", "hold_s": 0.0}
    assert (told["default"]["route"]["action"], told["www.example.com"]["paused"]) == ("proxy", None)
