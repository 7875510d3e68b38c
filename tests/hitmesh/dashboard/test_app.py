"""What a dashboard answers: to look at, nothing to change, nothing to be put into somebody else's page."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

import pytest
from falcon import testing

from hitmesh.dashboard.app import make_app
from hitmesh.http.access import Access
from hitmesh.http.files import File, file_of
from hitmesh.metrics.text import Answer

PAGE = b"<!doctype html><script src='/static/app.js'></script>"
PATHS = [
    "/",
    "/static/app.js",
    "/status.json",
    "/history.json?dc=eu&name=c-1",
    "/page.json?page=a",
    "/metrics",
    "/health",
    "/none",
]


class FakeProvider:
    def __init__(self) -> None:
        self.reason = ""
        self.encoded = b'{"ok":true}'
        self.stream: list[bytes] | None = [b"event: status\ndata: {}\n\n"]
        self.asked: list[tuple[str, ...]] = []

    def health(self) -> str:
        return self.reason

    def status(self) -> bytes:
        return self.encoded

    def events(self) -> Iterable[bytes] | None:
        self.asked.append(("events",))
        return self.stream

    def history(self, dc: str, name: str) -> Any | None:
        self.asked.append((dc, name))
        if dc == "us":
            return "only the dashboards of us know what c-1 went through"
        return None if name == "nobody" else [{"from": 1.0, "to": 2.0, "state": "dead", "why": "it was killed"}]

    def page(self, page: str) -> Any | None:
        self.asked.append((page,))
        return None if page == "nobody" else {"page": page}

    def metrics(self, accept: str) -> Answer:
        return Answer(b"up 1\n", accept or "text/plain")


def files() -> dict[str, File]:
    found = {"index.html": file_of("index.html", PAGE), "app.js": file_of("app.js", b"go()")}
    return {name: file for name, file in found.items() if file is not None}


def client(provider: FakeProvider | None = None, token: str = "", hosts: Iterable[str] = ()) -> testing.TestClient:
    return testing.TestClient(
        make_app(provider or FakeProvider(), files(), Access(token, list(hosts))), headers={"Host": "127.0.0.1"}
    )


def test_the_page_and_its_files_are_served_and_nothing_else_of_the_folder() -> None:
    answer = client().simulate_get("/")
    assert (answer.content, answer.headers["content-type"]) == (PAGE, "text/html; charset=utf-8")
    script = client().simulate_get("/static/app.js")
    assert (script.content, script.headers["content-type"]) == (b"go()", "text/javascript; charset=utf-8")
    assert client().simulate_get("/static/app.py").status_code == 404
    assert client().simulate_get("/static/../status.py").status_code == 404
    assert client().simulate_get("/static/..%2fstatus.py").status_code == 404
    assert file_of("status.py", b"x") is None


def test_a_browser_that_has_a_file_is_not_sent_it_again() -> None:
    first = client().simulate_get("/static/app.js")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    again = client().simulate_get("/static/app.js", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client().simulate_get("/static/app.js", headers={"If-None-Match": '"x"'}).status_code == 200
    other = file_of("app.js", b"gone()")
    assert other is not None
    assert other.tag != tag


def test_the_status_is_there_once_something_is_known() -> None:
    provider = FakeProvider()
    answer = client(provider).simulate_get("/status.json")
    assert (answer.json, answer.headers["content-type"]) == ({"ok": True}, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    provider.encoded = b""
    answer = client(provider).simulate_get("/status.json")
    assert (answer.status_code, answer.json["description"]) == (503, "nothing is known yet: it has just started")


def test_the_stream_is_one_that_no_proxy_holds_back() -> None:
    answer = client().simulate_get("/events")
    assert (answer.status_code, answer.text) == (200, "event: status\ndata: {}\n\n")
    assert answer.headers["content-type"] == "text/event-stream"
    assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-store")
    assert "content-length" not in answer.headers


def test_who_asks_only_what_the_stream_would_be_takes_no_seat() -> None:
    provider = FakeProvider()
    answer = client(provider).simulate_head("/events")
    assert (answer.status_code, answer.headers["content-type"], provider.asked) == (200, "text/event-stream", [])


def test_when_all_seats_are_taken_it_says_so_in_words() -> None:
    provider = FakeProvider()
    provider.stream = None
    answer = client(provider).simulate_get("/events")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json["description"].startswith("as many listen as may")


def test_history_and_pages_are_asked_for_by_name() -> None:
    provider = FakeProvider()
    assert client(provider).simulate_get("/history.json?dc=eu&name=c-1").json[0]["why"] == "it was killed"
    assert client(provider).simulate_get("/page.json?page=a.example/%C3%BC%3Fq").json == {"page": "a.example/ü?q"}
    assert provider.asked == [("eu", "c-1"), ("a.example/ü?q",)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/history.json", 400),
        ("/history.json?dc=eu", 400),
        ("/history.json?dc=eu&name=<script>", 400),
        ("/history.json?dc=eu&name=" + "x" * 200, 400),
        ("/history.json?dc=eu&name=nobody", 404),
        ("/history.json?dc=us&name=c-1", 404),
        ("/page.json", 400),
        ("/page.json?page=" + "x" * 1025, 400),
        ("/page.json?page=nobody", 404),
        ("/page.json?page=" + "x" * 9000, 414),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(path: str, status: int) -> None:
    answer = client().simulate_get(path)
    assert answer.status_code == status
    assert set(answer.json) == {"title", "description"}
    assert "<script>" not in answer.text
    if "dc=us" in path:
        assert answer.json["description"] == "only the dashboards of us know what c-1 went through"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", PATHS)
def test_nothing_can_be_changed(method: str, path: str) -> None:
    answer = client().simulate_request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_keeps_the_page_to_itself(path: str) -> None:
    headers = client().simulate_get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert "set-cookie" not in headers
    assert not [name for name in headers if name.startswith("access-control-")]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer secret"}, 200),
        ({"Authorization": "Bearer secre"}, 401),
        ({"Authorization": "Basic ?"}, 401),
        (basic("anybody", "secret"), 200),
        (basic("", "secret"), 200),
        (basic("secret", ""), 401),
    ],
)
@pytest.mark.parametrize("path", ["/", "/status.json", "/events", "/static/app.js"])
def test_with_a_token_only_who_shows_it_may_look(path: str, headers: dict[str, str], status: int) -> None:
    answer = client(token="secret").simulate_get(path, headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert re.fullmatch(r'Basic realm="[^"]+", charset="UTF-8"', answer.headers["www-authenticate"])


def test_a_balancer_may_ask_for_its_health_without_one() -> None:
    provider = FakeProvider()
    assert client(provider, token="secret").simulate_get("/health").json == {"status": "up"}
    provider.reason = "it stops"
    answer = client(provider).simulate_get("/health")
    assert (answer.status_code, answer.json) == (503, {"status": "failing", "reason": "it stops"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:8030"}, 403),  # a name that was made to point here
        ({"Host": "evil.example", "X-Forwarded-For": "1.2.3.4"}, 403),  # which a script can say
        ({"Host": "dashboard.example", "Via": "1.1 hitmesh"}, 200),  # and this it can't
        ({"Host": "localhost:8030"}, 200),
        ({"Host": "[::1]:8030"}, 200),
        ({"Host": "192.0.2.7"}, 200),
        ({"Host": "APP-1.example:8030"}, 200),
    ],
)
def test_without_a_token_a_name_that_is_not_ours_leads_nowhere(headers: dict[str, str], status: int) -> None:
    assert client(hosts=["app-1.example"]).simulate_get("/status.json", headers=headers).status_code == status
