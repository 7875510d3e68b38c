"""What a dashboard could show: a healthy mesh of three datacenters, a sick one, and one of a thousand instances.

Every function takes `now`, of the wall clock; with the same `now` it says the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from hitmesh.dashboard.status import (
    DAYS,
    MINUTES,
    Alert,
    Backend,
    Balancer,
    Books,
    Datacenter,
    Event,
    Hits,
    Instance,
    Level,
    Link,
    Problem,
    SeenFrom,
    Silence,
    Spool,
    State,
    Status,
    Store,
    Top,
    Total,
    WayStatus,
)

VERSION = "0.4.0"
DCS = ("eu-west", "us-west", "ap-south")
PARTITIONS = 32
HOURS_UP = 53.0
# What strangers write: markup, a right-to-left override, an escape, and a very long one.
HOSTILE_PAGES = (
    "example.com/<script>alert(1)</script>",
    "example.com/\u202egnp.exe",
    "example.com/\x1b[2Jgone",
    "example.com/\"onmouseover='x'&amp;",
    "example.com/" + "long/" * 120,
)


def healthy(now: float) -> Status:
    """Three datacenters, all well."""
    dcs = {dc: _datacenter(dc, now, count) for dc, count in zip(DCS, (41_203_118, 38_114_902, 9_870_553), strict=True)}
    return _status(now, dcs, events=_quiet_events(now))


def sick(now: float) -> Status:
    """The same with every kind of problem."""
    eu, us, ap = (
        _datacenter(dc, now, count) for dc, count in zip(DCS, (41_203_118, 38_114_902, 9_870_553), strict=True)
    )
    eu = replace(
        eu,
        ways=[WayStatus(key="webhook 1", sent=5), WayStatus(key="mail", sent=3, failed=2, why="no answer within 10 s")],
        instances=[
            _ailing(one, now)
            for one in [*eu.instances, _instance("eu-west", "processor", 5, "eu-2", now)]
        ],
        spools=[
            replace(eu.spools[0], depth=18_204, oldest_s=312.0, buried=2),
            Spool(
                key="beanstalk://10.1.0.2:11300/hits", name="beanstalk://10.1.0.2:11300/hits", depth=None, oldest_s=None,
                usable=False, why="no room on its disk or in its memory",
            ),
        ],
        store=replace(
            eu.store,
            commit_lag_s=9.5,
            owners=[None if number in (3, 17) else owner for number, owner in enumerate(eu.store.owners)],
            orphans=[3, 17],
            unreadable=[9],
            conflicts=3,
        ),
        books=Books(
            balanced=False, accepted=41_203_165, committed=41_203_118, spooled=0, in_flight=7, off=40, age_s=1.2,
            problems=["partition 7: its rows sum to 1287540, its head says 1287500 hits"],
        ),
        balancers=[
            replace(
                eu.balancers[0], waiting=41, held=12,
                backends=[
                    replace(each, status="DOWN", why="connection refused", sessions=0, requests_per_s=0.0, downtime_s=42.0)
                    if number == 0
                    else each
                    for number, each in enumerate(eu.balancers[0].backends)
                ],
            ),
            replace(eu.balancers[1], requests_per_s=0.0, why="it doesn't answer: timed out", backends=[], classes={}),
        ],
    )  # fmt: skip
    us = replace(
        us, store=replace(us.store, reachable=False, why="no answer from 10.2.0.1:8500: timed out", restoring=4)
    )
    ap = replace(ap, state="silent", age_s=41.0, hits=replace(ap.hits, age_s=41.0, per_s=0.0))
    links = [
        replace(each, state="cut", delay_s=None, rows_age_s=41.0, why="nothing of ap-south was heard for 41 s")
        if each.source == "ap-south"
        else replace(each, state="late", rows_age_s=17.0, why="its rows are 17 s old")
        if each.key == "us-west>eu-west"
        else each
        for each in _links(DCS)
    ]
    problems = list(_problems(now))
    says = f"{problems[0].says}, and {len(problems) - 1} more"
    healthy_ones = {"eu-west": eu, "us-west": us, "ap-south": ap}
    status = _status(now, healthy_ones, events=[*_sick_events(now), *_quiet_events(now)])
    top = [
        Top(key=page, page=page, total=5_000 - 100 * at, minutes=_minutes(page, 3.0))
        for at, page in enumerate(HOSTILE_PAGES)
    ]
    return replace(
        status, ok=False, says=says, problems=problems, links=links, top=[*status.top, *top][:20], alerts=_alerts(now),
        silences=[
            Silence(
                key="deploys/alerts/silences/*/disk", name="disk", dc="*", until=now + 7200, who="ann@desk", why="room is made"
            )
        ],
    )  # fmt: skip


def _alerts(now: float) -> list[Alert]:
    def one(name: str, level: Level, state: Any, says: str) -> Alert:
        rule = name.partition("/")[0]
        return Alert(
            key=f"eu-west {name}", dc="eu-west", name=name, rule=rule, level=level, state=state, says=says, since=now - 312,
            id="4f1c", told=int(state == "firing"), silence="deploys/alerts/silences/*/disk" if state == "silenced" else "",
        )  # fmt: skip

    return [
        one("spool_deep", "bad", "firing", "18,204 jobs wait in the spool of eu-west: more than 5000"),
        one(
            "hub_lag/collector-2",
            "warn",
            "pending",
            "collector-2 of eu-west is too busy: all that it does is 0.8 s late",
        ),
        one("disk/eu-1", "warn", "silenced", "the disk with the state folder of eu-1 in eu-west is 93% full"),
    ]


def thousand(now: float, count: int = 1000) -> Status:
    """Three datacenters with `count` instances in all."""
    each, more = divmod(count, len(DCS))
    dcs = {dc: _datacenter(dc, now, 12_000_000, instances=each + (at < more)) for at, dc in enumerate(DCS)}
    return _status(now, dcs, events=_quiet_events(now))


def parts_of_minutes(now: float) -> list[Mapping[str, object]]:
    """What `/history.json` says of one instance, the newest first."""
    return [
        {"from": now - 600, "to": now - 540, "state": "silent", "why": "no heartbeat for 1.6 s"},
        {"from": now - 7200, "to": now - 7164, "state": "dead", "why": "no heartbeat for 3.0 s"},
        {"from": now - 86_400, "to": now - 86_395, "state": "draining", "why": "it was told to stop"},
    ]


# --- what they are made of -------------------------------------------------------------------


def _status(now: float, dcs: Mapping[str, Datacenter], *, events: Sequence[Event]) -> Status:
    counts = [each.hits.count or 0 for each in dcs.values()]
    return Status(
        ok=True,
        says="all is well",
        now=now,
        seen_from=SeenFrom(dc=DCS[0], name="dashboard-1", version=VERSION, uptime_s=HOURS_UP * 3600),
        total=Total(hits=sum(counts), per_s=sum(each.hits.per_s for each in dcs.values()), pages=21_407),
        dcs=dcs,
        links=_links(tuple(dcs)),
        top=[
            Top(key=page, page=page, total=int(2_000_000 / (at + 1)), minutes=_minutes(page, 900 / (at + 1)))
            for at, page in enumerate(f"example.com/blog/{number}" for number in range(12))
        ],
        events=events,
    )


def _datacenter(dc: str, now: float, count: int, instances: int = 0) -> Datacenter:
    roles = _roles(instances)
    made = [
        _instance(dc, role, number + 1, f"{dc[:2]}-{number % 2 + 1}", now)
        for role, many in roles.items()
        for number in range(many)
    ]
    collectors = [one.name for one in made if one.role == "collector"]
    return Datacenter(
        key=dc,
        state="up",
        age_s=0.4,
        hits=Hits(count=count, per_s=round(count / 30_000, 1), age_s=0.3),
        instances=made,
        spools=[
            Spool(key=url, name=url, depth=3, oldest_s=0.8)
            for url in ("beanstalk://10.1.0.1:11300/hits", "beanstalk://10.1.0.2:11300/hits")
        ],
        store=Store(
            commit_lag_s=0.2,
            owners=[f"processor-{number % roles['processor'] + 1}" for number in range(PARTITIONS)],
            pages=21_407,
        ),
        books=Books(balanced=True, accepted=count + 7, committed=count, in_flight=7, age_s=1.1),
        balancers=[
            _balancer(name, collectors[:24], has_ip=at == 0)
            for at, name in enumerate(one.name for one in made if one.role == "balancer")
        ],
        virtual_ip="10.1.0.100/24",
    )


def _roles(instances: int) -> dict[str, int]:
    if not instances:
        return {"nexus": 2, "processor": 4, "collector": 4, "balancer": 2, "dashboard": 1}
    rest = max(3, instances - 2 - 2 - 1)
    return {"nexus": 2, "processor": rest // 3, "collector": rest - rest // 3, "balancer": 2, "dashboard": 1}


def _instance(dc: str, role: str, number: int, node: str, now: float, state: State = "up") -> Instance:
    name = f"{role}-{number}"
    chance = random.Random(f"{dc} {name}")
    up_s = HOURS_UP * 3600 - chance.randrange(3600)
    days = " " * (DAYS - 40) + "".join(chance.choices("ud", weights=(60, 1), k=40))
    return Instance(
        key=name,
        name=name,
        role=role,
        node=node,
        state=state,
        version=VERSION,
        pid=chance.randrange(1000, 60_000),
        uptime_s=up_s,
        heartbeat_age_s=round(chance.random(), 2),
        beats=int(up_s),
        since=now - up_s,
        load={
            "nexus": {"hub_lag_s": 0.001, "settings": 4.0},
            "processor": {"hits": 1_250_000.0, "pages": 2_600.0, "partitions": 8.0, "restoring": 0.0, "hub_lag_s": 0.002},
            "collector": {"accepted": 10_400_000.0, "acked": 10_399_998.0, "jobs": 1.0, "unacked_s": 0.0, "hub_lag_s": 0.004},
            "balancer": {"requests": 21_000_000.0, "failed": 14.0, "connections": 212.0, "waiting": 0.0, "hub_lag_s": 0.003},
        }.get(role, {"hub_lag_s": 0.001}),
        hour="u" * MINUTES,
        days=days,
    )  # fmt: skip


def _ailing(one: Instance, now: float) -> Instance:
    """Instances of eu-west in every state."""
    found: dict[str, Instance] = {
        "nexus-2": replace(
            one, state="dead", why="no heartbeat for 92 s", heartbeat_age_s=92.4, since=now - 89, pid=None, uptime_s=None,
            load={}, hour="u" * 57 + "sxx", days=one.days[:-1] + "x",
        ),
        "processor-2": replace(
            one, failing=True, why="partitions have waited for the totals store for 15 s", since=now - 31,
            hour="u" * 59 + "f", days=one.days[:-1] + "f",
        ),
        "processor-5": replace(
            one, state="starting", uptime_s=0.9, since=now - 0.9, beats=1, load={}, hour=" " * 59 + "d", days=" " * 89 + "d"
        ),
        "collector-1": replace(
            one, state="silent", why="no heartbeat for 1.8 s", heartbeat_age_s=1.8, since=now - 0.3,
            hour="u" * 59 + "s", days=one.days[:-1] + "s",
        ),
        "collector-3": replace(
            one, state="draining", why="it was told to stop", since=now - 4, hour="u" * 59 + "d", days=one.days[:-1] + "d"
        ),
        "collector-4": replace(
            one, state="dead", why="it was never heard", version="", pid=None, uptime_s=None, heartbeat_age_s=None,
            beats=0, since=now - 600, load={}, hour=" " * 50 + "x" * 10, days=" " * 89 + "x",
        ),
    }  # fmt: skip
    return found.get(one.name, one)


def _balancer(name: str, collectors: Sequence[str], *, has_ip: bool) -> Balancer:
    return Balancer(
        key=name,
        name=name,
        requests_per_s=691.4,
        classes={"1xx": 0, "2xx": 10_492_118, "3xx": 112, "4xx": 804, "5xx": 14, "other": 0},
        connections=212,
        has_virtual_ip=has_ip,
        backends=[
            Backend(
                key=f"collectors 10.1.0.{1 + at % 2}:{8010 + at}", service="collectors", name=collector,
                address=f"10.1.0.{1 + at % 2}:{8010 + at}", status="UP", why="200 in 1 ms", sessions=2,
                requests_per_s=345.7, classes={"2xx": 5_246_059, "4xx": 402, "5xx": 7}, mean_s=0.0021,
            )
            for at, collector in enumerate(collectors)
        ],
    )  # fmt: skip


def _links(dcs: Sequence[str]) -> list[Link]:
    return [
        Link(key=f"{source}>{target}", source=source, target=target, state="up", delay_s=0.07, rows_age_s=0.4)
        for source in dcs
        for target in dcs
        if source != target
    ]


def _minutes(page: str, mean: float) -> list[int]:
    chance = random.Random(page)
    return [int(mean * (0.6 + 0.8 * chance.random())) for _ in range(MINUTES)]


def _problems(now: float) -> Iterator[Problem]:
    said: tuple[tuple[str, str, str, str, str, float], ...] = (
        ("bad", "store", "us-west", "", "the totals store of us-west can't be reached: no answer from 10.2.0.1:8500", 12),
        ("bad", "books", "eu-west", "", ("the books of eu-west are off by 40 hits: partition 7: its rows sum to 1287540, its "
            "head says 1287500 hits"), 3),
        ("bad", "datacenter", "ap-south", "", "the dashboard of ap-south hasn't been heard for 41 s; its last count stands", 38),
        ("bad", "link", "ap-south", "ap-south>eu-west", "the link from ap-south to eu-west is cut", 38),
        ("bad", "instance", "eu-west", "collector-4", "collector-4 of eu-west is dead: it was never heard", 600),
        ("bad", "spool", "eu-west", "beanstalk://10.1.0.2:11300/hits", ("a copy of eu-west's spool can't be used: "
            "beanstalk://10.1.0.2:11300/hits: no room on its disk or in its memory"), 25),
        ("bad", "partition", "eu-west", "", "nobody owns 2 partitions of eu-west: 3, 17", 6),
        ("bad", "partition", "eu-west", "9", "partition 9 of eu-west can't be read", 20),
        ("bad", "store", "eu-west", "", "hits of eu-west have waited for 9.5 s to be committed", 8),
        ("bad", "disk", "eu-west", "", "the disk of eu-west's state folder is 96% full: 1.2 GB are left", 4000),
        ("warn", "instance", "eu-west", "nexus-2", "nexus-2 of eu-west is dead: no heartbeat for 92 s", 89),
        ("warn", "instance", "eu-west", "processor-2", ("processor-2 of eu-west fails: partitions have waited for the totals "
            "store for 15 s"), 31),
        ("warn", "instance", "eu-west", "collector-1", "collector-1 of eu-west is silent: no heartbeat for 1.8 s", 0.3),
        ("warn", "link", "us-west", "us-west>eu-west", "rows of us-west come to eu-west 17 s late", 14),
        ("warn", "spool", "eu-west", "", "18204 jobs wait in eu-west's spool, the oldest for 5 min", 200),
        ("warn", "partition", "us-west", "", "4 partitions of us-west are being brought back from other datacenters", 12),
        ("warn", "balancer", "eu-west", "balancer-1", "balancer-1 of eu-west can't use collector-1: connection refused", 42),
        ("warn", "settings", "ap-south", "", "eu-west and ap-south have different live settings", 38),
        ("warn", "dashboard", "eu-west", "dashboard-1", "a disk without room: the past isn't kept", 50),
    )  # fmt: skip
    for at, (level, kind, dc, who, says, ago_s) in enumerate(said):
        yield Problem(
            key=f"{kind} {dc} {who} {at}", level=level, kind=kind, dc=dc, who=who, says=says, since=now - ago_s,  # type: ignore[arg-type]
        )  # fmt: skip


def _quiet_events(now: float) -> list[Event]:
    made = [
        Event(key="us-west 3", at=now - 4_000, dc="us-west", kind="set", who="ann", says="timing.commit_s is 0.5"),
        Event(
            key="eu-west 2", at=now - 86_000, dc="eu-west", kind="deployed", who="ann", says="deploy of 0.4.0: done",
            cause="in 41 s",
        ),
    ]  # fmt: skip
    made += [
        Event(
            key=f"{dc} 1", at=now - HOURS_UP * 3600, dc=dc, kind="joined", who="nexus-1", says=f"nexus-1 of {dc} joined"
        )
        for dc in DCS
    ]
    return made


def _sick_events(now: float) -> list[Event]:
    said = (
        ("took over", "processor-1", "processor-1 took over 16 partitions of processor-3", "processor-3 died", 40),
        ("died", "processor-3", "processor-3 died", "no heartbeat for 3.1 s", 43),
        ("drained", "collector-3", "collector-3 drains", "it was told to stop", 44),
        ("left", "collector-2", "collector-2 left", "it said goodbye", 50),
        ("failed", "processor-2", "processor-2 fails", "partitions have waited for the totals store for 15 s", 31),
        ("recovered", "processor-4", "processor-4 is well again", "", 60),
        ("scaled", "ann", "collectors from 2 to 4", "", 900),
        ("alert", "<b>pager</b>", "an alert was sent", "", 910),
    )
    events = [
        Event(key=f"eu-west {90 + at}", at=now - ago, dc="eu-west", kind=kind, who=who, says=says, cause=cause)  # type: ignore[arg-type]
        for at, (kind, who, says, cause, ago) in enumerate(said)
    ]
    return sorted(events, key=lambda each: -each.at)
