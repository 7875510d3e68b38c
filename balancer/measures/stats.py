"""What a worker counts, and the picture of it. Pure: no clock, no socket, nothing of HTTP.

The hot path increments attributes (`front.requests += 1`, `backend.classes[status // 100] += 1`),
which cost least in classes with slots. What can be worked out later is: rates and averages come
from `sample`, once a second.

A picture (`snapshot`) is a plain dict, ready for JSON; `balancer.admin.merging` puts those of several
workers together. Times are in seconds, `now` is monotonic, and a picture holds ages, no instants.

Invariant: a service's counters never go down, also when a backend leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from balancer.measures.rates import Average, Rate
from hitmesh.state.histogram import Histogram

Picture = dict[str, Any]
Pause = Callable[[], None]  # called between pieces of long work; whoever gives one may let others go on in it
Status = Literal["UP", "DOWN", "DRAIN", "MAINT"]

TIMES: Final = ("queue", "connect", "first_byte", "total")  # what is measured of a request

MAX_REASONS: Final = 32  # by which a service's failures are told apart: each is a line on every page

# What a service sums up over its backends, also over those that have left.
SUMMED: Final = (
    *("sessions_total", "bytes_in", "bytes_out", "connects", "reuses", "answered"),
    *("connect_errors", "response_errors", "retries", "redispatches", "client_aborts", "server_aborts"),
    *("check_failures", "downs"),
)

_FRONT: Final = (
    *("sessions", "sessions_max", "sessions_total", "sessions_limit", "requests", "bytes_in", "bytes_out", "denied"),
    *("denied_connections", "handshake_failures", "client_aborts", "intercepted"),
)
_WAITING: Final = tuple(f"{which}{what}" for which in ("queue", "held") for what in ("", "_max", "_total", "_limit"))


def no_pause() -> None:
    """Of work that nobody waits for."""


def _no_answers() -> list[int]:
    return [0] * 10  # by the first digit of the status: an index, whatever a backend says


@dataclass(slots=True, eq=False)
class FrontStats:
    """One listener's clients: connections (sessions), requests, answers."""

    now: float  # when it began
    sessions_limit: int = 0  # 0: none
    sessions: int = 0  # connections that are open
    sessions_max: int = 0
    sessions_total: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    requests: int = 0
    denied: int = 0  # requests over a client's rate (429)
    denied_connections: int = 0  # over a limit, closed at once
    handshake_failures: int = 0  # of TLS, or of a PROXY header
    client_aborts: int = 0  # clients that left before their answer was out
    intercepted: int = 0  # requests that a route of ours answers: a redirect, a static page
    errors: dict[int, int] = field(default_factory=dict)  # requests that couldn't be taken, by status
    classes: list[int] = field(default_factory=_no_answers)
    request_rate: Rate = field(init=False)
    session_rate: Rate = field(init=False)

    def __post_init__(self) -> None:
        self.request_rate = Rate(self.now)
        self.session_rate = Rate(self.now)

    def opened(self) -> None:
        """A connection has been accepted."""
        self.sessions += 1
        self.sessions_total += 1
        self.sessions_max = max(self.sessions_max, self.sessions)

    def refused(self, status: int) -> None:
        """A request was answered with an error of the client's: 429 is denied, all others are errors."""
        if status == 429:
            self.denied += 1
        else:
            self.errors[status] = self.errors.get(status, 0) + 1

    def sample(self, now: float) -> None:
        """Take the rates; once a second."""
        self.request_rate.sample(self.requests, now)
        self.session_rate.sample(self.sessions_total, now)

    def snapshot(self, now: float) -> Picture:
        """Everything, as a plain dict."""
        self.sample(now)
        return {
            **{counter: getattr(self, counter) for counter in _FRONT},
            "session_rate": round(self.session_rate.current, 3),
            "session_rate_max": round(self.session_rate.max, 3),
            "request_rate": round(self.request_rate.current, 3),
            "request_rate_max": round(self.request_rate.max, 3),
            "errors": {str(status): count for status, count in sorted(self.errors.items())},
            "classes": _classes(self.classes),
        }


@dataclass(slots=True, eq=False)
class BackendStats:
    """One backend of a service, as this worker sees it. A session is a request that it has in hand."""

    address: str
    now: float  # when it began
    sessions_limit: int = 0  # 0: none
    status: Status = "UP"
    sessions: int = 0
    sessions_max: int = 0
    sessions_total: int = 0  # requests that were given to it
    bytes_in: int = 0  # sent to it
    bytes_out: int = 0  # that came from it
    connects: int = 0  # connections made
    reuses: int = 0  # requests that found one made before
    idle: int = 0  # connections that wait for a request
    connect_errors: int = 0
    response_errors: int = 0  # answers that were cut, garbage, or too late
    retries: int = 0  # tries here that failed and were followed by another try, wherever
    redispatches: int = 0  # ... by one with another backend
    client_aborts: int = 0
    server_aborts: int = 0
    classes: list[int] = field(default_factory=_no_answers)
    answered: int = 0  # requests whose times are in the four sums below
    queue_s: float = 0.0  # waited for a connection
    connect_s: float = 0.0
    first_byte_s: float = 0.0  # from the request's last byte to the answer's first
    total_s: float = 0.0
    weight: float = 1.0  # its share in force, of 1: load and slow start are in it
    check_text: str = ""  # how the last check ended; empty before the first one
    check_ok: bool = True
    check_code: int = 0  # its HTTP status; 0 when there was none
    check_s: float = 0.0  # how long it took
    check_failures: int = 0
    downs: int = 0  # times that it went down
    last_used: float | None = None
    rate: Rate = field(init=False)
    _averages: tuple[Average, ...] = field(init=False)
    _since: float = field(init=False)  # of its status
    _down_s: float = 0.0  # of earlier times

    def __post_init__(self) -> None:
        self.rate = Rate(self.now)
        self._averages = tuple(Average() for _ in TIMES)
        self._since = self.now

    def took(self, now: float) -> None:
        """A request has been given to it."""
        self.sessions += 1
        self.sessions_total += 1
        self.sessions_max = max(self.sessions_max, self.sessions)
        self.last_used = now

    def checked(self, text: str, *, ok: bool, duration_s: float, code: int = 0) -> None:
        """A check of its health has ended; `text` says how, for people."""
        self.check_text = text
        self.check_ok = ok
        self.check_code = code
        self.check_s = duration_s
        self.check_failures += not ok

    def become(self, status: Status, now: float) -> None:
        """Its status is this one now; does nothing when it was before."""
        if status == self.status:
            return
        if self.status == "DOWN":
            self._down_s += now - self._since
        self.downs += status == "DOWN"
        self.status = status
        self._since = now

    def sample(self, now: float) -> None:
        """Take the rate and the averages; once a second."""
        self.rate.sample(self.sessions_total, now)
        for each, average in zip(TIMES, self._averages, strict=True):
            average.sample(self.answered, getattr(self, f"{each}_s"))

    def snapshot(self, now: float) -> Picture:
        """Everything, as a plain dict."""
        self.sample(now)
        since_s = now - self._since
        return {
            "address": self.address,
            "status": self.status,
            "statuses": {self.status: 1},  # in how many workers
            "status_s": round(since_s, 3),
            "downtime_s": round(self._down_s + (since_s if self.status == "DOWN" else 0.0), 3),
            "weight": round(self.weight, 3),
            "check": {
                "text": self.check_text,
                "ok": self.check_ok,
                "code": self.check_code,
                "s": round(self.check_s, 6),
            },
            **{counter: getattr(self, counter) for counter in SUMMED},
            "sessions": self.sessions,
            "sessions_max": self.sessions_max,
            "sessions_limit": self.sessions_limit,
            "idle": self.idle,
            "rate": round(self.rate.current, 3),
            "rate_max": round(self.rate.max, 3),
            "classes": _classes(self.classes),
            "sums_s": {each: round(getattr(self, f"{each}_s"), 6) for each in TIMES},
            "mean_s": {each: round(average.mean, 6) for each, average in zip(TIMES, self._averages, strict=True)},
            "last_used_s": None if self.last_used is None else round(now - self.last_used, 3),
        }


@dataclass(slots=True, eq=False)
class ServiceStats:
    """One service: its waiting requests, what no backend answered, and the sums over all its backends."""

    now: float  # when it began
    queue_limit: int = 0
    held_limit: int = 0
    queue: int = 0  # requests that wait for a connection
    queue_max: int = 0
    queue_total: int = 0
    held: int = 0  # requests that wait for a backend to live
    held_max: int = 0
    held_total: int = 0
    failures: dict[str, int] = field(default_factory=dict)  # requests that no backend answered, by "STATUS reason"
    backends: dict[str, BackendStats] = field(default_factory=dict)
    requests: Histogram = field(default_factory=Histogram)  # that a backend answered: from the head to the whole answer
    first_bytes: Histogram = field(default_factory=Histogram)  # from the connection to the first byte of the answer
    rate: Rate = field(init=False)
    _gone: dict[str, int | float] = field(default_factory=lambda: dict.fromkeys(SUMMED, 0))
    _gone_classes: list[int] = field(default_factory=_no_answers)

    def __post_init__(self) -> None:
        self.rate = Rate(self.now)
        self._gone |= {f"{each}_s": 0.0 for each in TIMES}

    def queued(self) -> None:
        """One more request waits for a connection."""
        self.queue += 1
        self.queue_total += 1
        self.queue_max = max(self.queue_max, self.queue)

    def hold(self) -> None:
        """One more request waits for a backend to live."""
        self.held += 1
        self.held_total += 1
        self.held_max = max(self.held_max, self.held)

    def failed(self, status: int, reason: str) -> None:
        """A request got 502, 503 or 504 from the balancer; `reason` is one of a few fixed ones, without numbers."""
        key = f"{status} {reason}"
        if key not in self.failures and len(self.failures) >= MAX_REASONS:
            key = f"{status} other"
        self.failures[key] = self.failures.get(key, 0) + 1

    def forget(self, name: str) -> None:
        """A backend has left for good, with nothing under way; what it counted stays in the sums."""
        gone = self.backends.pop(name)
        for counter in self._gone:
            self._gone[counter] += getattr(gone, counter)
        self._gone_classes = [a + b for a, b in zip(self._gone_classes, gone.classes, strict=True)]

    def sample(self, now: float) -> None:
        """Take the rates and averages, the backends' too; once a second."""
        for backend in self.backends.values():
            backend.sample(now)
        self.rate.sample(int(self._sum("sessions_total")), now)

    def snapshot(self, now: float, pause: Pause = no_pause) -> Picture:
        """Everything, as a plain dict."""
        self.sample(now)
        columns = zip(self._gone_classes, *(each.classes for each in self.backends.values()), strict=True)
        told: Picture = {
            **{counter: getattr(self, counter) for counter in _WAITING},
            "failures": dict(sorted(self.failures.items())),
            **{counter: self._sum(counter) for counter in SUMMED},
            "rate": round(self.rate.current, 3),
            "rate_max": round(self.rate.max, 3),
            "classes": _classes([sum(column) for column in columns]),
            "sums_s": {each: round(self._sum(f"{each}_s"), 6) for each in TIMES},
            "times": {"request": self.requests.snapshot(), "backend": self.first_bytes.snapshot()},
            "backends": {},
        }
        for name, backend in list(self.backends.items()):  # one may leave meanwhile
            told["backends"][name] = backend.snapshot(now)
            pause()
        return told

    def _sum(self, counter: str) -> int | float:
        values: list[int | float] = [getattr(backend, counter) for backend in self.backends.values()]
        return self._gone[counter] + sum(values)


def picture(
    now: float,
    *,
    about: Picture,
    fronts: Mapping[str, FrontStats],
    services: Mapping[str, ServiceStats],
    pause: Pause = no_pause,
) -> Picture:
    """A worker's whole picture. `about`: name, version, pid, uptime_s, state ("up" or "draining") and so on."""
    return {
        **about,
        "workers": 1,
        "fronts": {name: front.snapshot(now) for name, front in fronts.items()},
        "services": {name: service.snapshot(now, pause) for name, service in services.items()},
    }


def _classes(counts: list[int]) -> dict[str, int]:
    return {**{f"{digit}xx": counts[digit] for digit in range(1, 6)}, "other": counts[0] + sum(counts[6:])}
