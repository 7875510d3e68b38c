"""Which backend gets a request, and which gets none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.balancer.stage import (
    Gate,
    Instance,
    ask,
    ask_at_once,
    backends,
    on_all,
    proxy,
    requests_to,
    sized,
    staged,
    statuses,
)
from tests.balancer.wire.scripted import ScriptedBackend
from tests.balancer.wire.visitor import Visitor
from tests.services import free_port, wait_for

FALL, RISE = 3, 2


@pytest.fixture(scope="module")
def three() -> Iterator[list[ScriptedBackend]]:
    with backends(3) as started:
        for number, each in enumerate(started):
            each.scripts["/who"] = lambda turn, number=number: turn.say(sized(b"%d" % number))  # type: ignore[misc]
        yield started


@pytest.fixture(scope="module")
def gone() -> int:
    return free_port()


@pytest.fixture(scope="module")
def balancer(three: list[ScriptedBackend], gone: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    ports = [each.port for each in three]
    checked = {"check_path": "/health", "check_s": 0.2, "rise": RISE, "fall": FALL}
    routes = {
        "even.example": proxy(*ports),
        "page.example": proxy(*ports, sticky="page"),
        "client.example": proxy(*ports, sticky="client"),
        "page-without.example": proxy(*ports[:2], gone, sticky="page"),
        "checked.example": proxy(*ports[:2], slow_start_s=3600.0, **checked),
        "missing.example": proxy(ports[0], gone, hold=1, check_s=0.2),
    }
    with staged(tmp_path_factory.mktemp("choosing"), routes) as instance:
        yield instance


def asked(balancer: Instance, host: str, path: str) -> bytes:
    answer = ask(balancer.port, host, path)
    assert answer.status == 200
    return answer.body


def test_requests_under_way_are_spread_evenly(balancer: Instance, three: list[ScriptedBackend]) -> None:
    gates = [Gate() for _ in three]
    for each, gate in zip(three, gates, strict=True):
        each.scripts["/even"] = gate
    answers = ask_at_once(30, lambda _: ask(balancer.port, "even.example", "/even"))
    wait_for(lambda: sum(gate.arrived for gate in gates) == 30, what="all requests to arrive")
    assert [gate.arrived for gate in gates] == [10, 10, 10]
    gates[1].let(5)
    wait_for(lambda: sum(each.done() for each in answers) == 5, what="five to be answered")
    more = ask_at_once(5, lambda _: ask(balancer.port, "even.example", "/even"))
    wait_for(lambda: sum(gate.arrived for gate in gates) == 35, what="all requests to arrive")
    assert [gate.arrived for gate in gates] == [10, 15, 10], "the one with the fewest has them all"
    for gate in gates:
        gate.let()
    assert statuses(answers + more) == [200] * 35


def test_one_request_after_the_other_is_spread_too(balancer: Instance) -> None:
    with Visitor(balancer.port) as visitor:
        found = Counter(visitor.get("/who", host="even.example").body for _ in range(60))
    assert set(found) == {b"0", b"1", b"2"}
    assert min(found.values()) >= 5


def test_a_page_stays_with_its_backend_whatever_the_client_and_the_query(
    balancer: Instance, three: list[ScriptedBackend]
) -> None:
    for number in range(12):
        asked(balancer, "page.example", f"/stays?{number}")
    assert sorted(sum(b" /stays?" in each for each in one.heads) for one in three) == [0, 0, 12]


def test_pages_are_spread_over_all_backends(balancer: Instance, three: list[ScriptedBackend]) -> None:
    for number in range(60):
        asked(balancer, "page.example", f"/page-{number}")
    counts = [sum(b" /page-" in each for each in one.heads) for one in three]
    assert sum(counts) == 60
    assert min(counts) >= 8


def test_a_page_goes_to_another_backend_while_its_own_is_gone(balancer: Instance, three: list[ScriptedBackend]) -> None:
    seen = {}
    for number in range(12):
        path = f"/orphan-{number}"
        assert {ask(balancer.port, "page-without.example", path).status for _ in range(3)} == {200}
        seen[path] = [requests_to([each], path) for each in three[:2]]
    assert all(sorted(counts) == [0, 3] for counts in seen.values()), seen


def test_a_client_stays_with_its_backend_whatever_the_page(balancer: Instance, three: list[ScriptedBackend]) -> None:
    for number in range(12):
        asked(balancer, "client.example", f"/client-{number}")
    assert sorted(sum(b" /client-" in each for each in one.heads) for one in three) == [0, 0, 12]


def test_a_backend_that_refuses_connections_gets_no_more_requests_until_a_check_passes(
    balancer: Instance, gone: int
) -> None:
    def backend() -> str:
        status: str = balancer.service("missing.example")["backends"][f"127.0.0.1:{gone}"]["status"]
        return status

    answers = [ask(balancer.port, "missing.example").status for _ in range(12)]
    assert answers == [200] * 12
    service = balancer.service("missing.example")["backends"][f"127.0.0.1:{gone}"]
    assert (service["status"], service["connect_errors"]) == ("DOWN", 1)
    returned = ScriptedBackend(gone)
    wait_for(lambda: backend() == "UP", what="the check to pass")
    for _ in range(20):
        ask(balancer.port, "missing.example", "/back")
    assert requests_to([returned], "/back") > 0
    returned.stop()


def test_a_backend_whose_checks_fail_leaves_and_returns_when_they_pass_with_a_small_share(
    balancer: Instance, three: list[ScriptedBackend]
) -> None:
    well = sized(b"")
    ill = sized(b"", b"503 Service Unavailable")
    sick, other = three[:2]
    other.scripts["/health"] = lambda turn: turn.say(well)
    name = f"127.0.0.1:{sick.port}"

    def backend() -> dict[str, object]:
        found: dict[str, object] = balancer.service("checked.example")["backends"][name]
        return found

    def checks(answer: bytes, count: int) -> None:
        """Let so many checks end like this; the next one waits."""
        gate = Gate(answer)
        former, sick.scripts["/health"] = sick.scripts.get("/health"), gate
        if isinstance(former, Gate):
            former.let()  # the check that waits there, if one does: its outcome changes nothing
        wait_for(lambda: gate.arrived == 1, what="a check")
        gate.let(count)
        wait_for(lambda: gate.arrived == count + 1, what=f"{count} checks to have ended")
        gates.append(gate)

    gates: list[Gate] = []
    sick.scripts["/health"] = lambda turn: turn.say(well)
    checks(ill, FALL - 1)
    assert backend()["status"] == "UP"
    assert {asked(balancer, "checked.example", "/who") for _ in range(40)} == {b"0", b"1"}
    gates[-1].let(1)
    wait_for(lambda: backend()["status"] == "DOWN", what="it to be down")
    assert {asked(balancer, "checked.example", "/who") for _ in range(20)} == {b"1"}

    checks(well, RISE - 1)
    assert backend()["status"] == "DOWN"
    gates[-1].let(1)
    wait_for(lambda: backend()["status"] == "UP", what="it to be up again")
    on_all(three, "/share", busy := Gate())
    answers = ask_at_once(20, lambda _: ask(balancer.port, "checked.example", "/share"))
    wait_for(lambda: busy.arrived == 20, what="all requests to arrive")
    assert 1 <= requests_to([sick], "/share") <= 3, "a tenth of the other's"
    busy.let()
    assert statuses(answers) == [200] * 20
    gates[-1].let()
