"""The backends of services while routes and members change at the same time."""

from __future__ import annotations

import gevent
import pytest

from balancer.members.services import Services
from balancer.middle.routes import RouteTable
from hitmesh.config import BalancerLimits, Proxy
from hitmesh.protocol.messages import Instance

INSTANCE = Instance("one", "collector", "collector-1", "id-1", "up", 1, 1, {"http": "http://a.example:80"}, {}, {})


def test_an_instance_joins_once_however_many_look_while_its_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int) -> tuple[int, object]:
        gevent.sleep(0.01)  # as it is when a name server is asked: others run
        return 2, ("127.0.0.1", port)

    monkeypatch.setattr("balancer.members.services._resolve", resolve)
    gevent.get_hub().loop.update_now()  # the hub hasn't run since who knows when, and the time-out counts from its clock
    services = Services(BalancerLimits(), lambda role: [INSTANCE])
    table = RouteTable({"default": Proxy(service="collector", check_path="")}, {})
    in_force: list[RouteTable] = []
    jobs = [gevent.spawn(services.adopt, table, in_force.append)] + [gevent.spawn(services.sync) for _ in range(3)]
    gevent.joinall(jobs, timeout=30, raise_error=True)
    assert in_force == [table]
    [service] = services
    assert list(services.backends) == list(service.backends)
    assert [each.id for each in service.backends] == ["id-1"]
    services.stop()
