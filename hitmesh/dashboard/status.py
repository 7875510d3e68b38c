"""What a dashboard shows: `/status.json`, format 1. Pure; docs/operations/dashboard.md has it in words.

Times are seconds; moments (`at`, `since`, `now`) are of the wall clock, since the epoch. Lists of objects are in the order
in which they are shown; in the stream each is an object by its items' `key`, so that a merge patch (RFC 7396) fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

FORMAT: Final = 1
EVENTS: Final = 500  # that are kept, the newest first
MINUTES: Final = 60  # of the bars and charts of the last hour
DAYS: Final = 90

State = Literal["up", "starting", "draining", "silent", "dead"]
Level = Literal["bad", "warn"]
Kind = Literal[
    "datacenter", "instance", "link", "spool", "store", "books", "balancer", "partition", "disk", "settings", "dashboard"
]  # fmt: skip
"""What a problem is with."""
# One letter of a bar: up, failing, draining or starting, silent, dead, nothing known.
BAR: Final = "ufdsx "


class Problem(Struct, frozen=True, kw_only=True):
    """What isn't well: one line, in words."""

    key: str  # the same as long as it is the same problem
    level: Level  # bad: hits or totals suffer, or will; warn: somebody should look
    kind: Kind
    dc: str
    who: str = ""  # the instance, spool or link, where it is one's
    says: str  # a sentence without a full stop, such as "collector-1 of eu-west is dead"
    since: float


class Instance(Struct, frozen=True, kw_only=True):
    """One process of a role."""

    key: str  # its name
    name: str
    role: str
    node: str  # of the configuration; empty where it isn't in it
    state: State
    failing: bool = False  # it lives, and can't do its work
    why: str = ""  # it fails, or is silent or dead
    version: str = ""
    pid: int | None = None
    uptime_s: float | None = None
    heartbeat_age_s: float | None = None
    heartbeat_s: float = 1.0  # between two of them
    beats: int = 0  # heartbeats that were heard: each one more is a pulse
    since: float  # it has been in this state
    load: Mapping[str, float] = {}
    hour: str = ""  # MINUTES letters of BAR, the oldest first; the worst of each minute
    days: str = ""  # DAYS of them


class Spool(Struct, frozen=True, kw_only=True):
    """One copy of a datacenter's spool."""

    key: str  # its name, without secrets
    name: str
    depth: int | None  # jobs that wait; None: it can't be asked
    oldest_s: float | None  # of the oldest job; None: there is none, or it can't be told
    buried: int = 0
    usable: bool = True
    why: str = ""  # it isn't usable


class Store(Struct, frozen=True, kw_only=True):
    """A datacenter's totals store, and who owns its partitions."""

    reachable: bool = True
    why: str = ""  # it isn't reachable
    absent: bool = False  # it isn't reachable, as nobody has made it yet: it was never seen here
    commit_lag_s: float | None = None  # the oldest hit that is accepted and not committed
    owners: Sequence[str | None] = ()  # by partition: the processor's name
    orphans: Sequence[int] = ()  # partitions that nobody owns, and that aren't just being handed over
    unreadable: Sequence[int] = ()  # partitions
    restoring: int = 0  # partitions that are being brought back
    conflicts: int = 0  # false claims, and owners that stepped down
    pages: int | None = None


class Books(Struct, frozen=True, kw_only=True):
    """accepted = committed + spooled + in flight, as `hitmesh audit` has it."""

    balanced: bool
    accepted: int = 0
    committed: int = 0
    spooled: int = 0
    in_flight: int = 0
    unknown: int = 0
    lost: int = 0
    off: int = 0  # by how much they don't balance
    problems: Sequence[str] = ()
    age_s: float  # since they were looked at


class Backend(Struct, frozen=True, kw_only=True):
    """One backend of one service, as a balancer sees it: HAProxy's columns."""

    key: str  # service and address
    service: str
    name: str
    address: str
    status: str  # UP, DOWN, DRAIN, MAINT
    why: str = ""  # the last check's words
    sessions: int = 0
    queue: int = 0
    requests_per_s: float = 0.0
    classes: Mapping[str, int] = {}  # answers by class: "2xx"
    retries: int = 0
    mean_s: float | None = None
    weight: float = 1.0
    downtime_s: float = 0.0


class Balancer(Struct, frozen=True, kw_only=True):
    """What one balancer says of itself."""

    key: str  # its name
    name: str
    requests_per_s: float = 0.0
    classes: Mapping[str, int] = {}  # answers since its start, by class
    connections: int = 0
    waiting: int = 0
    held: int = 0
    has_virtual_ip: bool | None = None  # None: there is no virtual IP
    backends: Sequence[Backend] = ()
    why: str = ""  # it couldn't be asked


class Hits(Struct, frozen=True, kw_only=True):
    """A datacenter's part of the one total."""

    count: int | None  # None: nobody knows yet
    per_s: float = 0.0
    age_s: float = 0.0


class Top(Struct, frozen=True, kw_only=True):
    """One of the pages with the most hits."""

    key: str  # the page
    page: str
    total: int
    minutes: Sequence[int] = ()  # hits of the last MINUTES, the oldest first


class PagePart(Struct, frozen=True, kw_only=True):
    """What one datacenter has counted of one page."""

    key: str  # the datacenter
    count: int | None  # None: nobody knows
    age_s: float | None = None


class Page(Struct, frozen=True, kw_only=True):
    """`/page.json`: one page, asked for just now."""

    page: str
    total: int | None  # None: it can't be had, for `why`
    parts: Sequence[PagePart] = ()
    dc: str = ""  # whose store was read
    instance: str = ""  # the dashboard that has read it
    minutes: Sequence[int] = ()  # as in Top; empty: they aren't known
    why: str = ""


class Event(Struct, frozen=True, kw_only=True):
    """What has happened."""

    key: str  # datacenter and number there
    at: float
    dc: str
    kind: Literal[
        "joined", "died", "left", "drained", "failed", "recovered", "took over", "deployed", "set", "scaled", "alert"
    ]
    who: str = ""
    says: str
    cause: str = ""


class Alert(Struct, frozen=True, kw_only=True):
    """What people are told of: it fires, or is about to."""

    key: str  # datacenter and name
    dc: str
    name: str  # the rule's, and whom it is about: "hub_lag/collector-1"
    rule: str
    level: Level
    state: Literal["pending", "firing", "silenced"]  # pending: it hasn't lasted long enough; silenced: it fires
    says: str
    since: float  # there has been a sign of it
    id: str = ""  # of this firing
    told: int = 0  # how often people were told that it fires
    silence: str = ""  # the key of the one that holds


class Silence(Struct, frozen=True, kw_only=True):
    """Alerts that nobody is told of."""

    key: str  # its setting's
    name: str  # a rule's, or an alert's
    dc: str  # "*": everywhere
    until: float
    who: str
    why: str


class WayStatus(Struct, frozen=True, kw_only=True):
    """A way in which people are told, as a dashboard uses it."""

    key: str  # its name, such as "mail"
    sent: int = 0  # alerts that it took
    failed: int = 0  # tries that failed
    lost: int = 0  # alerts that were given up
    why: str = ""  # the last try has failed


class Part(Struct, frozen=True, kw_only=True):
    """One datacenter, as its own dashboard sees it: what dashboards tell each other."""

    dc: str
    at: float  # when this was seen
    who: str = ""  # the dashboard that tells this, by its instance id
    offsets: Mapping[str, float] = {}
    """Of other datacenters' dashboards, by id: by how many seconds our clock was beyond the `at` of what came, at least."""
    hits: Hits
    instances: Sequence[Instance] = ()
    spools: Sequence[Spool] = ()
    store: Store = Store()
    books: Books | None = None  # not looked at yet
    balancers: Sequence[Balancer] = ()
    virtual_ip: str = ""
    links: Sequence[Link] = ()
    problems: Sequence[Problem] = ()
    top: Sequence[Top] = ()  # all datacenters' hits, as this one has them
    events: Sequence[Event] = ()  # the newest first
    heard: Mapping[str, float] = {}  # of other datacenters: how long ago
    alerts: Sequence[Alert] = ()
    silences: Sequence[Silence] = ()
    ways: Sequence[WayStatus] = ()  # of the dashboard that tells this


class Link(Struct, frozen=True, kw_only=True):
    """One direction between two datacenters, as the one that hears sees it."""

    key: str  # "eu-west>us-west": what us-west hears of eu-west
    source: str
    target: str
    state: Literal["up", "late", "cut"]
    delay_s: float | None = None  # half of the way there and back
    rows_age_s: float | None = None  # how old the copy of `source`'s counts in `target` is
    why: str = ""


class Datacenter(Struct, frozen=True, kw_only=True):
    """A datacenter in `Status`: its part, and how old that is."""

    key: str  # its name
    state: Literal["up", "silent", "dead", "retired"]  # silent: its dashboard isn't heard; dead: nobody there is
    age_s: float
    hits: Hits
    instances: Sequence[Instance] = ()
    spools: Sequence[Spool] = ()
    store: Store = Store()
    books: Books | None = None
    balancers: Sequence[Balancer] = ()
    virtual_ip: str = ""
    ways: Sequence[WayStatus] = ()


class SeenFrom(Struct, frozen=True, kw_only=True):
    """Whose view this is."""

    dc: str
    name: str
    version: str
    uptime_s: float


class Total(Struct, frozen=True, kw_only=True):
    """The one number."""

    hits: int | None
    per_s: float = 0.0
    pages: int | None = None


class Status(Struct, frozen=True, kw_only=True):
    """All of it."""

    format: int = FORMAT
    ok: bool
    says: str  # "all is well", or the worst problem and how many more
    now: float
    seen_from: SeenFrom
    total: Total
    problems: Sequence[Problem] = ()
    dcs: Mapping[str, Datacenter] = {}
    links: Sequence[Link] = ()
    top: Sequence[Top] = ()
    events: Sequence[Event] = ()
    alerts: Sequence[Alert] = ()
    silences: Sequence[Silence] = ()
