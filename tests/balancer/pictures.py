"""A worker that has seen a lot, for the tests of what is shown of it."""

from __future__ import annotations

from balancer.measures.stats import BackendStats, FrontStats, Picture, ServiceStats, picture

ABOUT: Picture = {
    "name": "balancer-1",
    "dc": "eu-west",
    "version": "0.1.0",
    "pid": 4711,
    "uptime_s": 93_784.2,
    "state": "up",
}
STARTED = 1000.0
NOW = STARTED + 100.0


def front() -> FrontStats:
    """A listener with a bit of everything."""
    stats = FrontStats(STARTED, sessions_limit=20_000)
    for _ in range(1200):
        stats.opened()
    stats.sessions = 64
    stats.requests = 1_234_567
    stats.bytes_in, stats.bytes_out = 170_000_000, 1_900_000_000
    for status in (400, 400, 408, 431, 429, 429, 429):
        stats.refused(status)
    stats.denied_connections = 2
    stats.client_aborts = 5
    stats.intercepted = 17
    stats.classes[2], stats.classes[3], stats.classes[4], stats.classes[5] = 1_200_000, 30_000, 4_500, 67
    return stats


def service() -> ServiceStats:
    """Three backends: one up, one down, one that drains; and one that has left."""
    stats = ServiceStats(STARTED, queue_limit=1024, held_limit=1024)
    for number in (1, 2, 3, 4):
        backend = BackendStats(f"127.0.0.1:801{number}", STARTED, sessions_limit=1024)
        backend.sessions_total = 100_000 * number
        backend.sessions, backend.sessions_max = number, 10 * number
        backend.bytes_in, backend.bytes_out = 10_000 * number, 90_000 * number
        backend.classes[2], backend.classes[5] = 99_000 * number, 1000 * number
        backend.answered = 100_000 * number
        backend.first_byte_s, backend.total_s = 120.0 * number, 150.0 * number
        backend.connects, backend.reuses = 40, 99_960
        backend.last_used = NOW - 1.5
        backend.checked("200 OK", ok=True, duration_s=0.0012, code=200)
        stats.backends[f"collector-{number}"] = backend
    stats.backends["collector-4"].sessions = 0
    stats.forget("collector-4")
    down = stats.backends["collector-2"]
    down.connect_errors, down.retries, down.redispatches = 12, 9, 9
    down.checked("connection refused", ok=False, duration_s=0.0003)
    down.become("DOWN", NOW - 30.0)
    stats.backends["collector-3"].become("DRAIN", NOW - 3.0)
    for _ in range(7):
        stats.queued()
    stats.queue = 3
    stats.hold()
    stats.failed(503, "no backend")
    stats.failed(503, "no backend")
    stats.failed(504, "no answer in time")
    return stats


def full() -> Picture:
    """A picture with two listeners and two services, one of which never had a backend."""
    fronts = {"http": front(), "tls": FrontStats(STARTED)}
    return picture(NOW, about=ABOUT, fronts=fronts, services={"collector": service(), "empty": ServiceStats(STARTED)})
