"""A picture as families of Prometheus's samples. Pure.

Every metric of a balancer's own begins with `hitmesh_balancer_`. Averages and rates are left out: Prometheus makes its
own, from the sums and counts here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import Metric

from balancer.measures.stats import TIMES, Picture
from hitmesh.metrics.families import Counted, Gauged, Labels, Table, common, counter, gauge, histogram
from hitmesh.state.standing import VIRTUAL_IP

STATUSES: Final = ("UP", "DOWN", "DRAIN", "MAINT")

Sample = tuple[Labels, float]

# Of what is one number of one thing; a row's key is the picture's.
_FRONT: Final[Table] = (
    Gauged("sessions", "current_sessions", "Open client connections"),
    Gauged("sessions_limit", "sessions_limit", "Client connections allowed, 0 for no limit"),
    Counted("sessions_total", "sessions", "Client connections accepted"),
    Counted("requests", "requests", "Requests read"),
    Counted("bytes_in", "received_bytes", "Bytes from clients"),
    Counted("bytes_out", "sent_bytes", "Bytes to clients"),
    Counted("denied", "denied_requests", "Requests over a client's rate (429)"),
    Counted("denied_connections", "denied_sessions", "Client connections over a limit"),
    Counted("handshake_failures", "handshake_failures", "Failed TLS handshakes and PROXY headers"),
    Counted("client_aborts", "client_aborts", "Clients that left before their answer was out"),
    Counted("intercepted", "intercepted_requests", "Requests answered by a route of the balancer's own"),
)
_SERVICE: Final[Table] = (
    Gauged("queue", "current_queue", "Requests that wait for a connection"),
    Gauged("queue_limit", "queue_limit", "Requests that may wait for a connection"),
    Counted("queue_total", "queued", "Requests that waited for a connection"),
    Gauged("held", "current_held", "Requests that wait for a backend to live"),
    Gauged("held_limit", "held_limit", "Requests that may wait for a backend to live"),
    Counted("held_total", "held", "Requests that waited for a backend to live"),
    Counted("sessions_total", "sessions", "Requests given to backends, also to those that have left"),
)
_BACKEND: Final[Table] = (
    Gauged("sessions", "current_sessions", "Requests that the backend has in hand"),
    Gauged("sessions_limit", "sessions_limit", "Requests that the backend may have in hand, 0 for no limit"),
    Counted("sessions_total", "sessions", "Requests given to the backend"),
    Gauged("idle", "idle_connections", "Connections that wait for a request"),
    Gauged("weight", "weight", "Share of the requests that the backend gets, of 1"),
    Counted("bytes_in", "sent_bytes", "Bytes to the backend"),
    Counted("bytes_out", "received_bytes", "Bytes from the backend"),
    Counted("connects", "connections", "Connections made to the backend"),
    Counted("reuses", "reuses", "Requests sent on a connection made before"),
    Counted("connect_errors", "connection_errors", "Connections that could not be made"),
    Counted("response_errors", "response_errors", "Answers that were cut, wrong or too late"),
    Counted("retries", "retries", "Tries that failed and were followed by another"),
    Counted("redispatches", "redispatches", "Tries that failed and were followed by one elsewhere"),
    Counted("client_aborts", "client_aborts", "Requests given up by their client"),
    Counted("server_aborts", "server_aborts", "Answers given up by the backend"),
    Counted("check_failures", "check_failures", "Failed checks"),
    Counted("downs", "downs", "Times that the backend went down"),
    Counted("downtime_s", "downtime_seconds", "Time that the backend was down"),
    Counted("answered", "timed_requests", "Requests whose times are in time_seconds_total"),
)
# How long requests took that a backend answered: all of it, and the backend's part to its first byte.
_TIMES: Final = {
    "request": "Requests that a backend answered, from the head on until the whole answer was sent",
    "backend": "Of them, from the connection to the backend until the first byte of its answer",
}


def families(picture: Picture, *, why_not: str) -> Iterator[Metric]:
    """All of it. `why_not` says why the balancer can't pass requests on; empty when it can."""
    yield from common(
        dc=picture.get("dc", ""),
        role="balancer",
        name=picture.get("name", ""),
        figures=picture.get("figures", {}),
        lag=picture.get("hub_lag"),
        is_failing=bool(why_not),
    )
    yield gauge("balancer_workers", "Worker processes in these numbers", [({}, picture["workers"])])
    if VIRTUAL_IP in picture.get("figures", {}):
        text = "Whether its host has the virtual IP"
        yield gauge("balancer_virtual_ip", text, [({}, picture["figures"][VIRTUAL_IP])])
    if "workers_hung" in picture:
        text = "Worker processes that were killed because they hung"
        yield counter("balancer_workers_hung", text, [({}, picture["workers_hung"])])
    if "uptime_s" in picture:
        yield gauge("balancer_uptime_seconds", "Since the start", [({}, picture["uptime_s"])])
    yield from _fronts(picture["fronts"])
    yield from _services(picture["services"])


def _fronts(fronts: Mapping[str, Picture]) -> Iterator[Metric]:
    named = [({"listener": name}, front) for name, front in fronts.items()]
    yield from _plain("frontend", _FRONT, named)
    yield counter(
        "balancer_frontend_request_errors",
        "Requests that could not be taken, by the status of their answer",
        _spread(named, "status", lambda front: front["errors"]),
    )
    yield counter(
        "balancer_frontend_responses",
        "Answers to clients, by class",
        _spread(named, "class", lambda front: front["classes"]),
    )


def _services(services: Mapping[str, Picture]) -> Iterator[Metric]:
    named = [({"service": name}, service) for name, service in services.items()]
    yield from _plain("service", _SERVICE, named)
    failures = []
    for labels, service in named:
        for key, count in service["failures"].items():
            status, _, reason = key.partition(" ")
            failures.append(({**labels, "status": status, "reason": reason}, count))
    yield counter("balancer_service_failures", "Requests that no backend answered, by reason", failures)
    yield counter(
        "balancer_service_responses",
        "Answers of backends, also of those that have left, by class",
        _spread(named, "class", lambda service: service["classes"]),
    )
    for kind, text in _TIMES.items():
        times = [(labels, service["times"][kind]) for labels, service in named if "times" in service]
        yield histogram(f"balancer_service_{kind}_duration_seconds", text, times)
    yield from _backends(named)


def _backends(services: Iterable[tuple[Labels, Picture]]) -> Iterator[Metric]:
    named = [
        ({**labels, "backend": name}, backend)
        for labels, service in services
        for name, backend in service["backends"].items()
    ]
    yield from _plain("backend", _BACKEND, named)
    yield gauge(
        "balancer_backend_status",
        "Workers that see the backend so",
        _spread(named, "status", lambda backend: {each: backend["statuses"].get(each, 0) for each in STATUSES}),
    )
    yield counter(
        "balancer_backend_responses",
        "Answers of the backend, by class",
        _spread(named, "class", lambda backend: backend["classes"]),
    )
    yield counter(
        "balancer_backend_time_seconds",
        "Time of requests: in the queue, to connect, to the first byte, in all",
        _spread(named, "phase", lambda backend: {each: backend["sums_s"][each] for each in TIMES}),
    )


def _plain(prefix: str, table: Table, named: Iterable[tuple[Labels, Picture]]) -> Iterator[Metric]:
    for row in table:
        make = counter if isinstance(row, Counted) else gauge
        samples = [(labels, picture[row.key]) for labels, picture in named]
        yield make(f"balancer_{prefix}_{row.name}", row.text, samples)


def _spread(
    named: Iterable[tuple[Labels, Picture]], label: str, of: Callable[[Picture], dict[str, Any]]
) -> Iterator[Sample]:
    return (({**labels, label: key}, value) for labels, picture in named for key, value in of(picture).items())
