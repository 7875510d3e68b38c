"""Routes that change while a pair of balancers runs, each with two workers."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hitmesh.settings.sqlite import SqliteSettings
from tests.balancer.stage import (
    Gate,
    Instance,
    ask,
    backends,
    proxy,
    reason,
    requests_to,
    said,
    sized,
    staged_pair,
)
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.balancer.wire.visitor import Visitor
from tests.services import free_port, wait_for

WORKERS = 2
# Enough that both workers of a balancer are among those who answer, or that would be one in a million.
ALL_WORKERS = 20
Pair = tuple[Instance, Instance]


@pytest.fixture(scope="module")
def two() -> Iterator[list[ScriptedBackend]]:
    with backends(2) as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text("<p>configured</p>")
    return path


@pytest.fixture(scope="module")
def pair(two: list[ScriptedBackend], page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    hold = {"action": "hold", "hold": 10, "hold_s": 120.0}
    routes = {
        "moves.example": proxy(two[0].port),
        "held.example": hold,
        "kept.example": hold,
        "dead.example": proxy(free_port(), hold=10, hold_s=120.0),
        "alias.example": {"action": "alias", "of": "held.example"},
        "page.example": {"action": "static", "file": str(page)},
    }
    with staged_pair(tmp_path_factory.mktemp("live"), routes, balancer={"workers": WORKERS}) as started:
        yield started


def everywhere(pair: Pair, host: str, condition: Callable[[Instance], bool]) -> bool:
    with ThreadPoolExecutor(4) as pool:
        return all(pool.map(condition, [each for each in pair for _ in range(ALL_WORKERS)]))


def wait_for_status(pair: Pair, host: str, status: int, path: str = "/") -> None:
    wait_for(
        lambda: everywhere(pair, host, lambda each: ask(each.port, host, path).status == status),
        what=f"{host} to be answered {status} by all workers",
    )


def settings_of(pair: Pair) -> Path:
    """The file of their settings store."""
    return pair[0].folder / "var" / "stage" / "settings.db"


def stored(balancer: Instance) -> list[object]:
    """All routes, whether they are in force by now or not."""
    return [(each["host"], each["route"], each["version"]) for each in balancer.admin("GET", "/routes")["routes"]]


def test_a_live_route_is_in_force_in_every_worker_of_both_and_gone_when_it_is_deleted(pair: Pair) -> None:
    wait_for_status(pair, "new.example", 404)
    pair[0].put_route("new.example", {"action": "empty", "status": 410})
    wait_for_status(pair, "new.example", 410)
    pair[1].put_route("new.example", {"action": "static", "body": "hello", "status": 203})
    wait_for_status(pair, "new.example", 203)
    pair[0].admin("DELETE", "/routes/new.example")
    wait_for_status(pair, "new.example", 404)


def test_a_changed_route_closes_no_connection_and_cuts_no_request(pair: Pair, two: list[ScriptedBackend]) -> None:
    gate = two[0].scripts["/slow"] = Gate()
    assert isinstance(gate, Gate)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(Visitor(each.port)) for each in pair for _ in range(4)]
        kept = [stack.enter_context(Visitor(each.port)) for each in pair for _ in range(4)]
        for visitor in slow:
            visitor.send(said("/slow", "moves.example"))
        wait_for(lambda: gate.arrived == len(slow), what="the requests to arrive")
        assert {visitor.get("/quick", host="moves.example").status for visitor in kept} == {200}
        pair[0].put_route("moves.example", proxy(two[1].port))
        wait_for(
            lambda: (
                everywhere(pair, "", lambda each: ask(each.port, "moves.example", "/probe").status == 200)
                and requests_to(two[:1], "/quick") == len(kept)
            ),
            what="the route",
        )
        wait_for(lambda: _all_at(pair, two[1]), what="the other backend to have all requests")
        before = requests_to(two[1:], "/after")
        assert {visitor.get("/after", host="moves.example").status for visitor in kept} == {200}
        assert not any(visitor.ended for visitor in kept)
        assert requests_to(two[1:], "/after") == before + len(kept)
        gate.let()
        assert {visitor.answer().body for visitor in slow} == {b"late"}
        assert {visitor.get("/after", host="moves.example").status for visitor in slow} == {200}


def _all_at(pair: Pair, backend: ScriptedBackend) -> bool:
    before = requests_to([backend], "/where")
    everywhere(pair, "", lambda each: bool(ask(each.port, "moves.example", "/where")))
    return requests_to([backend], "/where") == before + len(pair) * ALL_WORKERS


def test_those_who_are_held_go_on_when_the_route_changes(pair: Pair, two: list[ScriptedBackend]) -> None:
    bodies: list[bytes] = []

    def script(turn: Turn) -> None:
        bodies.append(turn.body())
        turn.say(sized(b"came"))

    two[0].scripts["/held"] = script
    chunks = b"3\r\nabc\r\n0\r\n\r\n"
    questions = [
        said("/held", "held.example"),
        said("/held", "alias.example", method="POST", body=b"hello"),
        said("/held", "held.example", method="POST", more=b"Transfer-Encoding: chunked\r\n") + chunks,
        said("/held", "dead.example", method="PUT", body=b"x" * 200_000),
    ]
    with contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(each.port)) for each in pair for _ in questions]
        with ThreadPoolExecutor(len(visitors)) as pool:
            for visitor, question in zip(visitors, 2 * questions, strict=True):
                pool.submit(visitor.send, question)
            for each in pair:
                wait_for(lambda each=each: each.waiting("held.example") == 3, what="three to be held")  # type: ignore[misc]
                wait_for(lambda each=each: each.waiting("dead.example") == 1, what="one to be held")  # type: ignore[misc]
            for host in ("held.example", "dead.example"):
                pair[0].put_route(host, proxy(two[0].port))
            assert [(visitor.answer().status) for visitor in visitors] == [200] * len(visitors)
    assert sorted(bodies, key=len) == sorted(2 * [b"", b"hello", chunks, b"x" * 200_000], key=len)


def test_those_who_are_held_get_whatever_answer_the_new_route_has(pair: Pair) -> None:
    with Visitor(pair[0].port) as visitor, Visitor(pair[1].port) as other:
        for each in (visitor, other):
            each.send(said("/", "kept.example"))
        for balancer in pair:
            wait_for(lambda balancer=balancer: balancer.waiting("kept.example") == 1, what="it to be held")  # type: ignore[misc]
        pair[1].put_route("kept.example", {"action": "redirect", "to": "https://www.example"})
        assert visitor.answer().value(b"location") == b"https://www.example/"
        assert other.answer().status == 301
        assert other.get("/", host="kept.example").status == 301, "it stays connected"


@pytest.mark.parametrize(
    ("host", "body"),
    [
        ("wrong.example", "no JSON"),
        ("wrong.example", '{"action": "proxy"}'),
        ("wrong.example", '{"action": "proxy", "backends": ["nowhere"]}'),
        ("wrong.example", '{"action": "fly"}'),
        ("wrong.example", '{"action": "static", "file": "/etc/passwd"}'),
        ("wrong.example", "[" * 100_000),
        ("-not a host-", '{"action": "empty"}'),
    ],
)
def test_a_wrong_route_is_refused_and_changes_nothing(host: str, body: str, pair: Pair) -> None:
    before = stored(pair[0])
    with pytest.raises(AssertionError, match="title"):
        pair[0].admin("PUT", f"/routes/{host.replace(' ', '%20')}", body)
    assert stored(pair[0]) == before
    assert ask(pair[0].port, "wrong.example").status == 404


@contextlib.contextmanager
def paused(pair: Pair, host: str, for_s: float = 3600.0, **how: object) -> Iterator[None]:
    """A route is paused meanwhile, or until its time is over."""
    with contextlib.closing(SqliteSettings(settings_of(pair))) as store:
        value = json.dumps({"until": time.time() + for_s, **how}).encode()
        store.set(f"pauses/{host}", value, author="anna")
        try:
            yield
        finally:
            store.delete(f"pauses/{host}", author="anna")


def test_a_paused_route_answers_its_text_in_every_worker_and_in_those_that_come(
    pair: Pair, two: list[ScriptedBackend]
) -> None:
    for name, route in (
        ("sold.example", proxy(two[0].port)),
        ("also.example", {"action": "alias", "of": "sold.example"}),
    ):
        pair[0].put_route(name, route)
    wait_for_status(pair, "also.example", 200)
    with paused(pair, "sold.example", text="back at ten"):
        for host in ("sold.example", "also.example"):
            wait_for_status(pair, host, 503)
            answer = ask(pair[0].port, host)
            assert (answer.body, answer.value(b"retry-after")) == (b"back at ten", b"60")
        workers = pair[0].workers()
        pair[0].signal(signal.SIGHUP)
        wait_for(lambda: not set(workers) & set(pair[0].workers()), what="new workers")
        assert everywhere(pair, "", lambda each: ask(each.port, "sold.example").status == 503)
        told = pair[0].admin("GET", "/routes/sold.example")
        assert (told["paused"]["text"], told["route"]["action"], told["in_force"]) == ("back at ten", "proxy", True)
    wait_for_status(pair, "also.example", 200)


def test_a_pause_ends_by_itself(pair: Pair) -> None:
    pair[0].put_route("short.example", {"action": "empty", "status": 410})
    wait_for_status(pair, "short.example", 410)
    with paused(pair, "short.example", for_s=3600.0, text="x"):
        wait_for_status(pair, "short.example", 503)
        with paused(pair, "short.example", for_s=0.5, text="x"):
            wait_for_status(pair, "short.example", 410)
            assert "a pause is over" in pair[0].log()


def test_those_who_wait_at_a_paused_route_go_on_when_it_is_resumed(pair: Pair, two: list[ScriptedBackend]) -> None:
    pair[0].put_route("waits.example", proxy(two[0].port))
    wait_for_status(pair, "waits.example", 200)
    with contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(each.port)) for each in pair]
        with paused(pair, "waits.example", hold_s=300.0):
            for each, visitor in zip(pair, visitors, strict=True):
                # each of its workers says so
                wait_for(lambda each=each: each.log().count("are paused: waits.example") == WORKERS, what="the pause")  # type: ignore[misc]
                visitor.send(said("/wait", "waits.example"))
                wait_for(lambda each=each: each.waiting("waits.example") == 1, what="one to be held")  # type: ignore[misc]
        assert [visitor.answer().status for visitor in visitors] == [200, 200]


def test_who_waits_too_long_at_a_paused_route_is_told_that_it_is_paused_and_when_to_come_again(
    pair: Pair, two: list[ScriptedBackend]
) -> None:
    pair[0].put_route("tired.example", proxy(two[0].port))
    wait_for_status(pair, "tired.example", 200)
    with paused(pair, "tired.example", hold_s=0.3):
        wait_for_status(pair, "tired.example", 503)
        answer = ask(pair[0].port, "tired.example")
        assert "the route is paused; waited for 0.3 s" in reason(answer)
        assert answer.value(b"retry-after") == b"60"


def test_who_waits_too_long_where_the_route_itself_holds_is_told_so_and_when_to_come_again(pair: Pair) -> None:
    pair[0].put_route("holds.example", {"action": "hold", "hold": 1, "hold_s": 0.3})
    wait_for_status(pair, "holds.example", 503)
    answer = ask(pair[0].port, "holds.example")
    assert "the route holds its requests for 0.3 s" in reason(answer)
    assert answer.value(b"retry-after") == b"5"


def test_what_stands_in_the_store_and_is_no_route_stops_no_other(pair: Pair) -> None:
    store = SqliteSettings(settings_of(pair))
    workers = [each.workers() for each in pair]
    for number, value in enumerate((b"", b"nothing", b"null", b"[" * 60_000, b'{"action": "empty", "status": 99}')):
        store.set(f"routes/odd-{number}.example", value, author="test")
    store.set("routes/Not-Normal.Example.", b'{"action": "empty"}', author="test")
    store.set("routes/good.example", json.dumps({"action": "empty", "status": 418}).encode(), author="test")
    wait_for_status(pair, "good.example", 418)
    assert [each.workers() for each in pair] == workers


def test_a_configured_page_outlives_its_file_until_the_balancer_is_reloaded(pair: Pair, page: Path) -> None:
    workers = [each.workers() for each in pair]
    page.unlink()
    pair[0].put_route("after-the-file.example", {"action": "empty", "status": 204})
    wait_for_status(pair, "after-the-file.example", 204)
    assert ask(pair[0].port, "page.example").body == b"<p>configured</p>"
    assert [each.workers() for each in pair] == workers
