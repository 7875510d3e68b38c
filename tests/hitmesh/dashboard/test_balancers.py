"""What a balancer says of itself, as it is shown; and one that says nothing, or nonsense."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import msgspec
import pytest

from balancer.measures.stats import BackendStats, FrontStats, ServiceStats, picture
from hitmesh.config import Balancer as BalancerConfig
from hitmesh.config import Config, Node
from hitmesh.dashboard.balancers import ask, understood

CONFIG = Config(
    name="eu", nodes={"here": Node(address="127.0.0.1")}, balancer=BalancerConfig(admin_token="sesame")
)  # fmt: skip


def said() -> bytes:
    """A real picture, of the balancer's own making."""
    front, admin, service = FrontStats(0.0), FrontStats(0.0), ServiceStats(0.0)
    front.requests, front.sessions, front.classes[2] = 30, 4, 29
    admin.requests, admin.sessions = 500, 1
    service.backends["collector-1"] = up = BackendStats("10.0.0.1:8010", 0.0)
    service.backends["collector-2"] = down = BackendStats("10.0.0.2:8010", 0.0)
    up.classes[2], up.sessions, up.answered, up.total_s = 29, 2, 29, 0.29
    down.checked("connection refused", ok=False, duration_s=0.1)
    down.become("DOWN", 1.0)
    service.queued()
    service.hold()
    fronts, services = {"http": front, "admin": admin}, {"collector": service}
    return msgspec.json.encode(picture(10.0, about={"name": "balancer-1"}, fronts=fronts, services=services))


def test_its_figures_are_shown_and_those_of_its_admin_listener_are_not() -> None:
    found = understood("balancer-1", said())
    assert (found.why, found.connections, found.waiting, found.held) == ("", 4, 1, 1)
    assert found.requests_per_s == 3.0
    assert found.classes["2xx"] == 29
    assert [(each.name, each.status, each.address) for each in found.backends] == [
        ("collector-1", "UP", "10.0.0.1:8010"),
        ("collector-2", "DOWN", "10.0.0.2:8010"),
    ]
    assert (found.backends[1].why, found.backends[1].downtime_s) == ("connection refused", 9.0)
    assert found.backends[0].key == "collector 10.0.0.1:8010"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"fronts": {"http": {"sessions": "many"}}}', b"[" * 100_000])
def test_nonsense_is_a_reason(body: bytes) -> None:
    found = understood("balancer-1", body)
    assert found.why.startswith("what it says can't be understood")
    assert len(found.why) <= 200


class _Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/stats.json" or self.headers["Authorization"] != "Bearer sesame":
            self.send_error(401)
            return
        body = said()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def admin() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Admin)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_is_asked_with_the_token(admin: str) -> None:
    assert ask("balancer-1", admin, CONFIG).connections == 4
    without = msgspec.structs.replace(CONFIG, balancer=BalancerConfig())
    assert ask("balancer-1", admin, without).why == "it answers 401 Unauthorized"


REFUSED = "no connection: refused, or nobody there"


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("http://127.0.0.1:1", REFUSED),
        ("https://127.0.0.1:1", REFUSED),
        ("http://127.0.0.1:x", "it can't be asked: Port could not be cast"),
        ("nonsense", "it can't be asked: "),
    ],
)
def test_one_that_cannot_be_asked_is_a_reason(endpoint: str, why: str) -> None:
    assert ask("balancer-1", endpoint, CONFIG).why.startswith(why)
