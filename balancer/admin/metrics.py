"""A picture as Prometheus text (exposition format 0.0.4). Pure.

Every metric begins with `hitmesh_balancer_`, times are in seconds, counters end in `_total`. Averages
and rates are left out: Prometheus makes its own, from the sums and counts here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final, Literal

from balancer.stats import TIMES, Pause, Picture, no_pause

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "hitmesh_balancer_"
STATUSES: Final = ("UP", "DOWN", "DRAIN", "MAINT")

Labels = dict[str, str]
Sample = tuple[Labels, float]

# (name, kind, help, the picture's key), for what is one number of one thing.
_FRONT: Final = (
    ("sessions", "gauge", "Open client connections", "sessions"),
    ("sessions_limit", "gauge", "Client connections allowed, 0 for no limit", "sessions_limit"),
    ("sessions_total", "counter", "Client connections accepted", "sessions_total"),
    ("requests_total", "counter", "Requests read", "requests"),
    ("received_bytes_total", "counter", "Bytes from clients", "bytes_in"),
    ("sent_bytes_total", "counter", "Bytes to clients", "bytes_out"),
    ("denied_requests_total", "counter", "Requests over a client's rate (429)", "denied"),
    ("denied_sessions_total", "counter", "Client connections over a limit", "denied_connections"),
    ("handshake_failures_total", "counter", "Failed TLS handshakes and PROXY headers", "handshake_failures"),
    ("client_aborts_total", "counter", "Clients that left before their answer was out", "client_aborts"),
    ("intercepted_requests_total", "counter", "Requests answered by a route of the balancer's own", "intercepted"),
)
_SERVICE: Final = (
    ("queue", "gauge", "Requests that wait for a connection", "queue"),
    ("queue_limit", "gauge", "Requests that may wait for a connection", "queue_limit"),
    ("queued_total", "counter", "Requests that waited for a connection", "queue_total"),
    ("held", "gauge", "Requests that wait for a backend to live", "held"),
    ("held_limit", "gauge", "Requests that may wait for a backend to live", "held_limit"),
    ("held_total", "counter", "Requests that waited for a backend to live", "held_total"),
    ("sessions_total", "counter", "Requests given to backends, also to those that have left", "sessions_total"),
)
_BACKEND: Final = (
    ("sessions", "gauge", "Requests that the backend has in hand", "sessions"),
    ("sessions_limit", "gauge", "Requests that the backend may have in hand, 0 for no limit", "sessions_limit"),
    ("sessions_total", "counter", "Requests given to the backend", "sessions_total"),
    ("idle_connections", "gauge", "Connections that wait for a request", "idle"),
    ("weight", "gauge", "Share of the requests that the backend gets, of 1", "weight"),
    ("sent_bytes_total", "counter", "Bytes to the backend", "bytes_in"),
    ("received_bytes_total", "counter", "Bytes from the backend", "bytes_out"),
    ("connections_total", "counter", "Connections made to the backend", "connects"),
    ("reuses_total", "counter", "Requests sent on a connection made before", "reuses"),
    ("connection_errors_total", "counter", "Connections that could not be made", "connect_errors"),
    ("response_errors_total", "counter", "Answers that were cut, wrong or too late", "response_errors"),
    ("retries_total", "counter", "Tries that failed and were followed by another", "retries"),
    ("redispatches_total", "counter", "Tries that failed and were followed by one elsewhere", "redispatches"),
    ("client_aborts_total", "counter", "Requests given up by their client", "client_aborts"),
    ("server_aborts_total", "counter", "Answers given up by the backend", "server_aborts"),
    ("check_failures_total", "counter", "Failed checks", "check_failures"),
    ("downs_total", "counter", "Times that the backend went down", "downs"),
    ("downtime_seconds_total", "counter", "Time that the backend was down", "downtime_s"),
    ("timed_requests_total", "counter", "Requests whose times are in time_seconds_total", "answered"),
)


def metrics(picture: Picture, pause: Pause = no_pause) -> str:
    """All of it, as text."""
    lines = []
    for line in chain(_about(picture), _fronts(picture["fronts"]), _services(picture["services"])):
        lines.append(line)
        pause()
    return "\n".join([*lines, ""])


def _about(picture: Picture) -> Iterator[str]:
    told: Labels = {key: str(picture[key]) for key in ("name", "dc", "version") if key in picture}
    yield from _metric("info", "gauge", "What this is", [(told, 1)])
    yield from _metric("workers", "gauge", "Worker processes in these numbers", [({}, picture["workers"])])
    if "workers_hung" in picture:
        told_hung = "Worker processes that were killed because they hung"
        yield from _metric("workers_hung_total", "counter", told_hung, [({}, picture["workers_hung"])])
    if "uptime_s" in picture:
        yield from _metric("uptime_seconds", "gauge", "Since the start", [({}, picture["uptime_s"])])


def _fronts(fronts: dict[str, Picture]) -> Iterator[str]:
    named = [({"listener": name}, front) for name, front in fronts.items()]
    yield from _plain("frontend", _FRONT, named)
    yield from _metric(
        "frontend_request_errors_total",
        "counter",
        "Requests that could not be taken, by the status of their answer",
        _spread(named, "status", lambda front: front["errors"]),
    )
    yield from _metric(
        "frontend_responses_total",
        "counter",
        "Answers to clients, by class",
        _spread(named, "class", lambda front: front["classes"]),
    )


def _services(services: dict[str, Picture]) -> Iterator[str]:
    named = [({"service": name}, service) for name, service in services.items()]
    yield from _plain("service", _SERVICE, named)
    failures = []
    for labels, service in named:
        for key, count in service["failures"].items():
            status, _, reason = key.partition(" ")
            failures.append(({**labels, "status": status, "reason": reason}, count))
    yield from _metric("service_failures_total", "counter", "Requests that no backend answered, by reason", failures)
    yield from _metric(
        "service_responses_total",
        "counter",
        "Answers of backends, also of those that have left, by class",
        _spread(named, "class", lambda service: service["classes"]),
    )
    backends = [
        ({**labels, "backend": name}, backend)
        for labels, service in named
        for name, backend in service["backends"].items()
    ]
    yield from _plain("backend", _BACKEND, backends)
    yield from _metric(
        "backend_status",
        "gauge",
        "Workers that see the backend so",
        _spread(backends, "status", lambda backend: {each: backend["statuses"].get(each, 0) for each in STATUSES}),
    )
    yield from _metric(
        "backend_responses_total",
        "counter",
        "Answers of the backend, by class",
        _spread(backends, "class", lambda backend: backend["classes"]),
    )
    yield from _metric(
        "backend_time_seconds_total",
        "counter",
        "Time of requests: in the queue, to connect, to the first byte, in all",
        _spread(backends, "phase", lambda backend: {each: backend["sums_s"][each] for each in TIMES}),
    )


def _plain(
    prefix: str, table: Iterable[tuple[str, str, str, str]], named: Iterable[tuple[Labels, Picture]]
) -> Iterator[str]:
    for name, kind, told, key in table:
        yield from _metric(f"{prefix}_{name}", kind, told, ((labels, picture[key]) for labels, picture in named))


def _spread(
    named: Iterable[tuple[Labels, Picture]], label: str, of: Callable[[Picture], dict[str, Any]]
) -> Iterator[Sample]:
    return (({**labels, label: key}, value) for labels, picture in named for key, value in of(picture).items())


def _metric(name: str, kind: Literal["gauge", "counter"] | str, told: str, samples: Iterable[Sample]) -> Iterator[str]:
    for number, (labels, value) in enumerate(samples):
        if number == 0:
            yield f"# HELP {PREFIX}{name} {told}"
            yield f"# TYPE {PREFIX}{name} {kind}"
        yield f"{PREFIX}{name}{_labels(labels)} {value}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
