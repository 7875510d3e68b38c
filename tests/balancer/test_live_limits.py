"""Limits that change while a balancer runs, for connections that are there already too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hitmesh.settings.sqlite import SqliteSettings
from tests.balancer.caller import Caller
from tests.balancer.live import LiveLimits
from tests.balancer.stage import Instance, ask, backends, proxy, said, sized, staged
from tests.balancer.wire.scripted import ScriptedBackend, says_and_waits
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

Limit = Callable[..., None]


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        one.scripts["/length"] = lambda turn: turn.say(sized(b"%d" % len(turn.body())))
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with staged(tmp_path_factory.mktemp("live"), {"default": proxy(backend.port)}) as one:
        yield one


@pytest.fixture
def limit(balancer: Instance) -> Iterator[Limit]:
    """Sets live limits, waits until they are in force, and unsets them after the test."""
    live = LiveLimits(balancer.folder / "var" / "stage" / "settings.db", balancer.port)
    yield live.set
    live.unset()


def test_a_body_may_have_what_is_live_now(balancer: Instance, limit: Limit) -> None:
    with Visitor(balancer.port) as visitor:
        request = said("/length", "a.example", method="POST", body=b"x" * 2000)
        assert visitor.ask(request).body == b"2000"
        limit(body_bytes=1000)
        assert visitor.ask(request).status == 413


@pytest.mark.parametrize(
    ("limits", "status"), [({"header_bytes": 256}, 431), ({"headers": 2}, 431), ({"head_bytes": 1024}, 431)]
)
def test_a_head_that_was_let_in_before_is_looked_at_again(
    balancer: Instance, limit: Limit, limits: dict[str, int], status: int
) -> None:
    more = b"A: %b\r\nB: %b\r\nC: %b\r\n" % (b"a" * 400, b"b" * 400, b"c" * 400)
    with Visitor(balancer.port) as visitor:
        for _ in range(3):
            assert visitor.get("/quick", more=more).status == 200
        changes = {"header_bytes": 800, "line_bytes": 800, **limits} if "head_bytes" in limits else limits
        limit(**changes)
        assert visitor.get("/quick", more=more).status == status


def test_a_request_line_that_was_let_in_before_is_looked_at_again(balancer: Instance, limit: Limit) -> None:
    with Visitor(balancer.port) as visitor:
        path = "/" + "x" * 500
        assert visitor.get(path).status == 200
        limit(line_bytes=300)
        assert visitor.get(path).status == 414


def test_a_clients_connections_that_were_there_before_count(balancer: Instance, limit: Limit) -> None:
    address = "127.0.2.1"
    with contextlib.ExitStack() as stack:

        def caller() -> Caller:
            return stack.enter_context(Caller(balancer.port, address))

        quick = said("/quick", "a.example")

        def is_let_in() -> bool:
            found = caller().ask(quick)
            return found is not None and found.status == 200

        early = [caller() for _ in range(3)]
        assert all(each.ask(quick) for each in early)
        limit(client_connections=3)
        assert not is_let_in()
        early[0].__exit__()
        wait_for(is_let_in, what="one more, after one has gone")
        assert not is_let_in()
        limit(client_connections=5)
        assert is_let_in()
        limit(client_connections=0)
        assert all(is_let_in() for _ in range(5))
        limit(client_connections=1)
        assert not is_let_in()


def test_a_clients_rate_counts_from_when_it_is_live(balancer: Instance, limit: Limit) -> None:
    quick = said("/quick", "a.example")
    with Caller(balancer.port, "127.0.2.2") as caller:
        statuses = [getattr(caller.ask(quick), "status", 0) for _ in range(10)]
        assert set(statuses) == {200}
        limit(client_rps=1, client_burst=2)
        statuses = [getattr(caller.ask(quick), "status", 0) for _ in range(30)]
        assert statuses[:2] == [200, 200]
        assert 429 in statuses


def test_a_backend_has_the_time_that_is_live(balancer: Instance, backend: ScriptedBackend, limit: Limit) -> None:
    backend.scripts["/never"] = says_and_waits(b"")
    limit(first_byte_s=0.2)
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/never").status == 504


def test_an_idle_client_is_let_go_after_the_time_that_is_live(balancer: Instance, limit: Limit) -> None:
    limit(idle_s=0.2)
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/quick").status == 200
        assert visitor.has_ended()


def test_connections_to_backends_are_kept_for_the_time_that_is_live(
    balancer: Instance, backend: ScriptedBackend, limit: Limit
) -> None:
    limit(backend_idle_s=0.1)
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/quick").status == 200

    def kept() -> int:
        service = balancer.service("default")
        return sum(each["idle"] for each in service["backends"].values())

    wait_for(lambda: kept() == 0, what="the connection to be closed")


def test_what_is_wrong_in_the_store_changes_nothing_and_is_said(balancer: Instance, limit: Limit) -> None:
    limit(line_bytes=20_000, body_bytes=1000)  # more than a whole head may have; and a right one
    assert ask(balancer.port, "a.example", "/length", method="POST", body=b"x" * 2000).status == 413
    assert ask(balancer.port, "a.example", "/" + "x" * 9000).status == 414
    assert "balancer.limits.line_bytes doesn't apply here" in balancer.log()


def test_live_limits_are_in_force_for_the_first_client(backend: ScriptedBackend, tmp_path: Path) -> None:
    store = SqliteSettings(tmp_path / "var" / "stage" / "settings.db")
    store.set("balancer.limits.body_bytes", b"1000", author="anna")
    store.set("routes/gone.example", b'{"action": "empty", "status": 410}', author="anna")
    with staged(tmp_path, {"default": proxy(backend.port)}) as balancer:
        assert ask(balancer.port, "gone.example").status == 410
        assert ask(balancer.port, "a.example", "/length", method="POST", body=b"x" * 2000).status == 413
