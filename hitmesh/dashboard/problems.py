"""What isn't well, in words: the rules, and how long each problem has been one. Pure: `now` comes in.

Every rule is a line of RULES. It gets what is known of one datacenter (`Facts`) and gives its faults; `Problems` makes
problems of them, with a beginning that stays. The bounds are here, each with its reason.

Invariants:
- The same trouble has the same key, whatever its words; it has begun when it was first seen.
- What hits suffer from is shown at once, all else when it has lasted (`after_s`); it goes GONE_S after it is mended,
  and one that is back until then was never away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from hitmesh.dashboard.status import Balancer, Books, Instance, Kind, Level, Link, Problem, Spool, Store
from hitmesh.state.outgoing import DROPPED
from hitmesh.state.senders import REFUSED_PUTS
from hitmesh.state.standing import (
    BEHIND_S,
    DATABASE_AWAY_S,
    DEAD,
    DRY_RUN,
    ENTRIES_DROPPED,
    HOOK_MISSING,
    HOOKS_FAILED,
    SILENT,
    STARTING,
    SUPERVISOR,
)
from hitmesh.visible import visible

GONE_S: Final = 2.0  # a problem that comes and goes faster is one problem
WARN_S: Final = 0.7  # that a fault must last which nobody suffers from: a single late heartbeat on a busy host is none
MAX_PROBLEMS: Final = 200  # that are shown: who sees these has enough to do

RESTARTED_S: Final = 6.0  # for which it is said that one died and is back: long enough to be seen by whoever looks
LOOP_DEATHS: Final = 3  # within LOOP_S: it isn't bad luck any more
LOOP_S: Final = 600.0
HUB_LAG_S: Final = 0.5  # answers take that much longer; at heartbeat_s it would look dead
DEEP_JOBS: Final = 5_000  # a spool takes some 300 jobs a second, and each is deleted within one: this is 15 s of them
VERY_DEEP_JOBS: Final = 50_000
OLD_S: Final = 30.0  # a job's delay (5 s) and two claims (10 s each) are over, and nobody could commit it
VERY_OLD_S: Final = 300.0
COMMIT_LAG_S: Final = 5.0  # commits come each quarter of a second, and a take-over ends within 4 s
LONG_COMMIT_LAG_S: Final = 15.0  # from then on processors call themselves failing
GREW: Final[Mapping[str, float]] = {
    "log_lost": 60.0,
    "conflicts": 60.0,
    "faults": 600.0,
    REFUSED_PUTS: 5.0,
    DROPPED: 60.0,
    ENTRIES_DROPPED: 60.0,
    HOOKS_FAILED: 600.0,  # `scaler.hook_s`: by then it is run again, where it is still needed
}
"""For how long the growth of a counter is said, by figure: what somebody must look for in a log for longer."""
SCALER_BEHIND_S: Final = 60.0  # one that starts takes three, and then whoever decides doesn't wait for it either
DATABASE_S: Final = 30.0  # a database that is restarted takes less
WAITING_S: Final = 5.0  # requests wait for a connection: for less it is a burst
HELD_S: Final = 2.0  # requests wait for a backend to live: a restart of all collectors takes less
DISK_SHARE: Final = 0.90  # of the state folder's disk
FULL_DISK_SHARE: Final = 0.97
LEAST_BYTES: Final = 256 * 1024 * 1024  # some minutes of a busy spool
SETTINGS_S: Final = 15.0  # a change is everywhere within seconds, over a link that is cut and comes back too
LATE_ROWS_S: Final = 3.0  # rows come each half second; an age is told with heartbeats
CUT_ROWS_S: Final = 15.0
MADE_S: Final = 2.5  # a store that a processor has made is seen within two: it is looked at each second
PART_S: Final = 3.0  # without a word of a datacenter's dashboard, which speaks twice a second

_KINDS: Final = (
    *("datacenter", "store", "books", "spool", "partition", "instance", "balancer", "link", "disk", "settings"),
    "dashboard",
)  # the worst first, among those of one level
_SHOWN: Final = 3  # names in one sentence
_SUFFERS: Final = {
    "collector": "hits are refused",
    "processor": "hits are spooled and not counted",
    "nexus": "nobody notices who dies",
    "balancer": "nobody is let in",
    "dashboard": "nobody watches",
    "recorder": "what is logged is kept nowhere",
    "scaler": "nobody changes how many run",
}
_ONLY_LOOK: Final = ("dashboard", "recorder", "scaler")  # roles without which hits and totals are as with them
_PLURALS: Final = {"nexus": "Nexuses"}


class Fault(Struct, frozen=True, kw_only=True):
    """Something that isn't well now."""

    key: str
    level: Level
    kind: Kind
    dc: str
    who: str = ""
    says: str
    after_s: float | None = None  # that it must have lasted; None: the rule of its level


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of one datacenter."""

    dc: str
    instances: Sequence[Instance] = ()
    deaths: Mapping[str, Sequence[float]] = {}  # by name: how long ago each, the last one first
    spools: Sequence[Spool] = ()
    store: Store = Store()
    books: Books | None = None
    balancers: Sequence[Balancer] = ()
    links: Sequence[Link] = ()
    grew: Mapping[str, Sequence[str]] = {}  # a figure of the heartbeats -> whose has grown lately
    disk_used: float | None = None  # share of the state folder's disk
    disk_free_bytes: int = 0
    past_why: str = ""  # the past can't be kept
    untold: Mapping[str, str] = {}  # ways in which people aren't told of alerts, and why
    unagreed: str = ""  # why the dashboards can't agree on what was told
    settings: Mapping[str, int] = {}  # by datacenter, the version of its live settings
    settings_why: str = ""  # the settings store can't be read
    refused: Mapping[str, str] = {}  # live settings that don't apply, and why


Rule = Callable[[Facts], Iterator[Fault]]


@dataclass(slots=True)
class _Known:
    fault: Fault
    began: float
    since: float  # wall clock
    seen: float


class Problems:
    """The faults that are there, each with its beginning."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}  # by datacenter and key

    def update(self, faults: Iterable[Fault], now: float, wall: float) -> list[Problem]:
        """These are there now; the problems, the worst first."""
        for fault in faults:
            place = fault.dc, fault.key
            known = self._known.get(place)
            if known is None:
                self._known[place] = _Known(fault, now, wall, now)
            else:
                known.fault, known.seen = fault, now
        for place in [place for place, known in self._known.items() if now - known.seen > GONE_S]:
            del self._known[place]
        shown = [known for known in self._known.values() if known.seen - known.began >= _after_s(known.fault)]
        return worst_first(_problem(known) for known in shown)[:MAX_PROBLEMS]


def faults(facts: Facts) -> Iterator[Fault]:
    """All that isn't well in a datacenter."""
    for rule in RULES:
        yield from rule(facts)


def worst_first(problems: Iterable[Problem]) -> list[Problem]:
    """In the order in which they are shown."""
    return sorted(problems, key=lambda one: (one.level != "bad", _KINDS.index(one.kind), one.since, one.key))


def sentence(problems: Sequence[Problem]) -> str:
    """The one at the top of the page."""
    if not problems:
        return "all is well"
    more = len(problems) - 1
    return problems[0].says + (f", and {more} more problem{'s' if more > 1 else ''}" if more else "")


# --- the rules ----------------------------------------------------------------------------------


def _roles_down(facts: Facts) -> Iterator[Fault]:
    """No instance of a role works."""
    for role, rows in _by_role(facts).items():
        if all(row.state in (DEAD, SILENT) for row in rows) and any(row.state == DEAD for row in rows):
            plural = _PLURALS.get(role, f"{role}s")
            both = (
                rows[0].name if len(rows) == 1 else f"both {plural}" if len(rows) == 2 else f"all {len(rows)} {plural}"
            )
            verb = "is" if len(rows) == 1 else "are"
            yield Fault(
                key=f"role {role}", level="warn" if role in _ONLY_LOOK else "bad", kind="instance", dc=facts.dc,
                who=rows[0].name if len(rows) == 1 else "",
                says=f"{both} of {facts.dc} {verb} dead: {_SUFFERS.get(role, 'its work is not done')}",
            )  # fmt: skip


def _instances(facts: Facts) -> Iterator[Fault]:
    """An instance is dead or silent; one that starts or drains is well."""
    down = {
        row.name
        for rows in _by_role(facts).values()
        if all(row.state in (DEAD, SILENT) for row in rows) and any(row.state == DEAD for row in rows)
        for row in rows
    }
    for row in facts.instances:
        if row.state in (DEAD, SILENT) and row.name not in down:
            why = f": {visible(row.why)}" if row.why else ""
            yield Fault(
                key=f"instance {row.name}", level="warn", kind="instance", dc=facts.dc, who=row.name,
                says=f"{row.name} of {facts.dc} is {row.state}{why}",
            )  # fmt: skip


def _failing(facts: Facts) -> Iterator[Fault]:
    """An instance lives and says that it can't do its work."""
    for role, rows in _by_role(facts).items():
        bad = all(row.failing or row.state in (DEAD, SILENT) for row in rows) and role not in _ONLY_LOOK
        for row in rows:
            if row.failing:
                yield Fault(
                    key=f"failing {row.name}", level="bad" if bad else "warn", kind="instance", dc=facts.dc, who=row.name,
                    says=f"{row.name} of {facts.dc} fails: {visible(row.why)}",
                )  # fmt: skip


def _restarts(facts: Facts) -> Iterator[Fault]:
    """An instance died and is back, or dies again and again."""
    up = {row.name for row in facts.instances if row.state not in (DEAD, SILENT)}
    for name, ages in facts.deaths.items():
        recent = [age for age in ages if age <= LOOP_S]
        if len(recent) >= LOOP_DEATHS:
            yield Fault(
                key=f"loop {name}", level="warn", kind="instance", dc=facts.dc, who=name, after_s=0.0,
                says=f"{name} of {facts.dc} dies again and again: {len(recent)} times in the last 10 minutes",
            )  # fmt: skip
        elif name in up and recent and recent[0] <= RESTARTED_S:
            yield Fault(
                key=f"restart {name}", level="warn", kind="instance", dc=facts.dc, who=name, after_s=0.0,
                says=f"{name} of {facts.dc} died and is back",
            )  # fmt: skip


def _rivals(facts: Facts) -> Iterator[Fault]:
    """Two processes use one name."""
    count = max((int(row.load.get("rivals", 0)) for row in facts.instances if row.role == "nexus"), default=0)
    if count:
        yield Fault(
            key="rivals", level="warn", kind="instance", dc=facts.dc,
            says=f"{count} name{'s' if count > 1 else ''} in {facts.dc} are used by two processes; the Nexuses' logs name them",
        )  # fmt: skip


def _hub_lag(facts: Facts) -> Iterator[Fault]:
    """A process is so busy that all its answers are late."""
    for row in facts.instances:
        if row.load.get("hub_lag_s", 0.0) > HUB_LAG_S and row.state not in (DEAD, SILENT):
            yield Fault(
                key=f"lag {row.name}", level="warn", kind="instance", dc=facts.dc, who=row.name,
                says=f"{row.name} of {facts.dc} is too busy: all that it does is late",
            )  # fmt: skip


def _log_lost(facts: Facts) -> Iterator[Fault]:
    """Lines of its log couldn't be written."""
    for name in facts.grew.get("log_lost", ()):
        yield Fault(
            key=f"log {name}", level="warn", kind="instance", dc=facts.dc, who=name, after_s=0.0,
            says=f"{name} of {facts.dc} loses lines of its log: its disk is full, or nobody reads them",
        )  # fmt: skip


def _recorders(facts: Facts) -> Iterator[Fault]:
    """Lines and figures get lost, or don't reach PostgreSQL."""
    if names := facts.grew.get(DROPPED, ()):
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        yield Fault(
            key="records", level="warn", kind="instance", dc=facts.dc, who=names[0], after_s=0.0,
            says=f"lines that {shown} of {facts.dc} logged are lost: no recorder takes them",
        )  # fmt: skip
    for name in facts.grew.get(ENTRIES_DROPPED, ()):
        yield Fault(
            key=f"entries {name}", level="warn", kind="instance", dc=facts.dc, who=name, after_s=0.0,
            says=f"{name} of {facts.dc} can't keep what it is sent: lines are lost",
        )  # fmt: skip
    for row in facts.instances:
        if row.load.get(DATABASE_AWAY_S, 0.0) > 0 and row.state not in (DEAD, SILENT):
            yield Fault(
                key=f"database {row.name}", level="warn", kind="instance", dc=facts.dc, who=row.name, after_s=DATABASE_S,
                says=f"{row.name} of {facts.dc} can't bring statistics to PostgreSQL; its volumes keep them",
            )  # fmt: skip


def _scalers(facts: Facts) -> Iterator[Fault]:
    """A scaler can't do on its host what is wanted there, or its hook failed."""
    for row in facts.instances:
        if row.role != "scaler" or row.state in (DEAD, SILENT) or row.load.get(DRY_RUN):
            continue
        says = ""
        if row.load.get(SUPERVISOR) == 0:
            says = "can't start or stop anything: the supervisord of its host doesn't answer"
        elif row.load.get(BEHIND_S, 0.0) >= SCALER_BEHIND_S:
            for_s = _about(row.load[BEHIND_S])
            says = f"hasn't brought its host to what is wanted for more than {for_s}: its log says what it tries"
        if says:
            yield Fault(
                key=f"scaler {row.name}", level="warn", kind="instance", dc=facts.dc, who=row.name,
                says=f"{row.name} of {facts.dc} {says}",
            )  # fmt: skip
    for row in facts.instances:
        if row.load.get(HOOK_MISSING) and row.state not in (DEAD, SILENT):
            yield Fault(
                key=f"hook {row.name}", level="warn", kind="instance", dc=facts.dc, who=row.name,
                says=f"the hook of {row.name} of {facts.dc} can't be run: its log says why",
            )  # fmt: skip
    for name in facts.grew.get(HOOKS_FAILED, ()):
        yield Fault(
            key=f"hook failed {name}", level="warn", kind="instance", dc=facts.dc, who=name, after_s=0.0,
            says=f"the hook of {name} of {facts.dc} failed: its log has its first line",
        )  # fmt: skip


def _spool_copies(facts: Facts) -> Iterator[Fault]:
    """A copy of the spool can't be used."""
    bad = [one for one in facts.spools if not one.usable]
    if bad and len(bad) == len(facts.spools):
        yield Fault(
            key="spools", level="bad", kind="spool", dc=facts.dc, who=bad[0].name,
            says=f"the spool of {facts.dc} can't be used, hits are refused: {visible(bad[0].why)}",
        )  # fmt: skip
        return
    for one in bad:
        yield Fault(
            key=f"spool {one.name}", level="warn", kind="spool", dc=facts.dc, who=one.name, after_s=0.0,
            says=f"a copy of the spool of {facts.dc} can't be used: {visible(one.name)}: {visible(one.why)}",
        )  # fmt: skip


def _refused_puts(facts: Facts) -> Iterator[Fault]:
    """Collectors couldn't put hits into the spool, and answered with an error."""
    names = facts.grew.get(REFUSED_PUTS, ())
    if names:
        yield Fault(
            key="refused", level="bad", kind="spool", dc=facts.dc, who=names[0] if len(names) == 1 else "",
            says=f"{', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''} of {facts.dc} can't put hits into the "
            "spool: they are refused",
        )  # fmt: skip


def _spool_depth(facts: Facts) -> Iterator[Fault]:
    """Too much waits in the spool, or for too long."""
    depth = max((one.depth or 0 for one in facts.spools), default=0)
    oldest_s = max((one.oldest_s or 0.0 for one in facts.spools), default=0.0)
    if depth > DEEP_JOBS:
        yield Fault(
            key="depth", level="bad" if depth > VERY_DEEP_JOBS else "warn", kind="spool", dc=facts.dc,
            says=f"{depth} jobs wait in the spool of {facts.dc}: they aren't committed as fast as they come",
        )  # fmt: skip
    if oldest_s > OLD_S:
        yield Fault(
            key="oldest", level="bad" if oldest_s > VERY_OLD_S else "warn", kind="spool", dc=facts.dc,
            says=f"hits have waited in the spool of {facts.dc} for more than {_about(oldest_s)}",
        )  # fmt: skip


def _buried(facts: Facts) -> Iterator[Fault]:
    """Jobs were set aside, which nobody can count."""
    count = sum(one.buried for one in facts.spools)
    if count:
        yield Fault(
            key="buried", level="warn", kind="spool", dc=facts.dc,
            says=f"{count} job{'s' if count > 1 else ''} in the spool of {facts.dc} {'are' if count > 1 else 'is'} set aside: "
            "nobody could tell what is in them; the collectors' logs say why",
        )  # fmt: skip


def _store(facts: Facts) -> Iterator[Fault]:
    """The totals store doesn't answer, or nobody makes it: processors that start do."""
    store = facts.store
    if not store.reachable and not (store.absent and _all_start(facts, "processor")):
        yield Fault(
            key="store", level="bad", kind="store", dc=facts.dc, after_s=MADE_S if store.absent else None,
            says=f"the totals store of {facts.dc} can't be read: {visible(facts.store.why)}",
        )  # fmt: skip


def _commit_lag(facts: Facts) -> Iterator[Fault]:
    """Hits that were answered aren't committed."""
    lag_s = facts.store.commit_lag_s or 0.0
    if lag_s > COMMIT_LAG_S:
        yield Fault(
            key="lag", level="bad" if lag_s > LONG_COMMIT_LAG_S else "warn", kind="store", dc=facts.dc,
            says=f"hits of {facts.dc} have waited for more than {_about(lag_s)} to be committed",
        )  # fmt: skip


def _conflicts(facts: Facts) -> Iterator[Fault]:
    """Processors contradict each other about who owns a partition."""
    for name in facts.grew.get("conflicts", ()):
        yield Fault(
            key=f"conflict {name}", level="warn", kind="partition", dc=facts.dc, who=name, after_s=0.0,
            says=f"{name} of {facts.dc} had a partition taken from it, or was told of an owner that is none",
        )  # fmt: skip


def _faults(facts: Facts) -> Iterator[Fault]:
    """A processor has found something in a store that can't be."""
    for name in facts.grew.get("faults", ()):
        yield Fault(
            key=f"fault {name}", level="bad", kind="store", dc=facts.dc, who=name,
            says=f"{name} of {facts.dc} has found a store that isn't as it was left: its log says where",
        )  # fmt: skip


def _partitions(facts: Facts) -> Iterator[Fault]:
    """Partitions without an owner, that can't be read, or that are being brought back."""
    store = facts.store
    if store.orphans:
        what = f"{len(store.orphans)} of {len(store.owners)} partitions"
        yield Fault(
            key="owners", level="bad", kind="partition", dc=facts.dc,
            says=f"nobody owns {what} of {facts.dc}: their hits wait",
        )  # fmt: skip
    if store.unreadable:
        some = ", ".join(map(str, store.unreadable[:_SHOWN])) + (" ..." if len(store.unreadable) > _SHOWN else "")
        yield Fault(
            key="unreadable", level="bad", kind="partition", dc=facts.dc,
            says=f"{len(store.unreadable)} partition{'s' if len(store.unreadable) > 1 else ''} of {facts.dc} can't be read: {some}",
        )  # fmt: skip
    if store.restoring:
        yield Fault(
            key="restoring", level="warn", kind="partition", dc=facts.dc, after_s=3.0,
            says=f"{store.restoring} partitions of {facts.dc} are being brought back from other datacenters",
        )  # fmt: skip


def _books(facts: Facts) -> Iterator[Fault]:
    """The books don't balance."""
    books = facts.books
    if books is not None and not books.balanced:
        first = visible(books.problems[0]) if books.problems else "nobody says where"
        more = f", and {len(books.problems) - 1} more" if len(books.problems) > 1 else ""
        by = f" by {books.off} hit{'s' if books.off > 1 else ''}" if books.off else ""
        yield Fault(
            key="books", level="bad", kind="books", dc=facts.dc,
            says=f"the books of {facts.dc} are off{by}: {first}{more}",
        )  # fmt: skip


def _balancers(facts: Facts) -> Iterator[Fault]:
    """A balancer can't be asked, or has backends that it can't use, or requests that wait."""
    living = {row.name for row in facts.instances if row.state not in (DEAD, SILENT, STARTING)}
    for one in facts.balancers:
        if one.why and one.name in living:
            yield Fault(
                key=f"ask {one.name}", level="warn", kind="balancer", dc=facts.dc, who=one.name, after_s=WAITING_S,
                says=f"{one.name} of {facts.dc} doesn't tell its figures: {visible(one.why)}",
            )  # fmt: skip
        yield from _backends(facts, one)
        if one.held:
            yield Fault(
                key=f"held {one.name}", level="bad", kind="balancer", dc=facts.dc, who=one.name, after_s=HELD_S,
                says=f"{one.name} of {facts.dc} has requests that wait for a backend to live",
            )  # fmt: skip
        if one.waiting:
            yield Fault(
                key=f"waiting {one.name}", level="warn", kind="balancer", dc=facts.dc, who=one.name, after_s=WAITING_S,
                says=f"{one.name} of {facts.dc} has requests that wait for a free connection",
            )  # fmt: skip


def _backends(facts: Facts, balancer: Balancer) -> Iterator[Fault]:
    services: dict[str, list[int]] = {}
    for at, each in enumerate(balancer.backends):
        services.setdefault(each.service, []).append(at)
    for service, members in services.items():
        out = [balancer.backends[at] for at in members if balancer.backends[at].status.startswith("DOWN")]
        if not out:
            continue
        why = f": {visible(out[0].why)}" if out[0].why else ""
        if len(out) == len(members):
            says = f"{balancer.name} of {facts.dc} has no backend left for {visible(service)}{why}"
        else:
            names = ", ".join(visible(each.name) for each in out[:_SHOWN]) + (" ..." if len(out) > _SHOWN else "")
            says = f"{balancer.name} of {facts.dc} can't use {names}{why}"
        yield Fault(
            key=f"out {balancer.name} {service}", level="bad" if len(out) == len(members) else "warn", kind="balancer",
            dc=facts.dc, who=balancer.name, says=says,
        )  # fmt: skip


def _links(facts: Facts) -> Iterator[Fault]:
    """Rows of another datacenter come late, or not at all."""
    for one in facts.links:
        if one.state == "cut":
            yield Fault(
                key=f"link {one.source}", level="bad", kind="link", dc=facts.dc, who=one.key,
                says=f"the link from {one.source} to {one.target} is cut: {visible(one.why)}",
            )  # fmt: skip
        elif one.state == "late":
            yield Fault(
                key=f"link {one.source}", level="warn", kind="link", dc=facts.dc, who=one.key, after_s=0.0,
                says=f"the link from {one.source} to {one.target} is late: {visible(one.why)}",
            )  # fmt: skip


def _disk(facts: Facts) -> Iterator[Fault]:
    """The disk of the state folder is nearly full."""
    if facts.disk_used is None or (facts.disk_used < DISK_SHARE and facts.disk_free_bytes >= LEAST_BYTES):
        return
    full = facts.disk_used >= FULL_DISK_SHARE or facts.disk_free_bytes < LEAST_BYTES
    yield Fault(
        key="disk", level="bad" if full else "warn", kind="disk", dc=facts.dc, after_s=0.0,
        says=f"the disk with the state folder of {facts.dc} is {100 * facts.disk_used:.0f}% full",
    )  # fmt: skip


def _settings(facts: Facts) -> Iterator[Fault]:
    """Live settings can't be read, don't apply, or aren't the same everywhere."""
    if facts.settings_why:
        yield Fault(
            key="settings", level="warn", kind="settings", dc=facts.dc,
            says=f"the settings store of {facts.dc} can't be read: {visible(facts.settings_why)}",
        )  # fmt: skip
    for key, why in sorted(facts.refused.items())[:_SHOWN]:
        yield Fault(
            key=f"refused {key}", level="warn", kind="settings", dc=facts.dc,
            says=f"the live setting {visible(key)} doesn't apply in {facts.dc}: {visible(why)}",
        )  # fmt: skip
    mine = facts.settings.get(facts.dc)
    for other, version in sorted(facts.settings.items()):
        if mine is not None and version < mine:
            yield Fault(
                key=f"differ {other}", level="warn", kind="settings", dc=facts.dc, who=other, after_s=SETTINGS_S,
                says=f"{other} hasn't taken over the live settings of {facts.dc}",
            )  # fmt: skip


def _past(facts: Facts) -> Iterator[Fault]:
    """The dashboard can't keep the past."""
    if facts.past_why:
        yield Fault(
            key="past", level="warn", kind="dashboard", dc=facts.dc,
            says=f"the dashboard of {facts.dc} can't keep the past: {visible(facts.past_why)}",
        )  # fmt: skip


def _untold(facts: Facts) -> Iterator[Fault]:
    """Nobody can be told of alerts in some way, or two might tell."""
    for way, why in sorted(facts.untold.items()):
        yield Fault(
            key=f"alerts {way}", level="warn", kind="dashboard", dc=facts.dc, after_s=0.0,
            says=f"alerts of {facts.dc} don't get out by {visible(way)}: {visible(why)}",
        )  # fmt: skip
    if facts.unagreed:
        yield Fault(
            key="alerts", level="warn", kind="dashboard", dc=facts.dc, after_s=0.0,
            says=f"the dashboards of {facts.dc} can't agree on who tells of alerts: {visible(facts.unagreed)}",
        )  # fmt: skip


RULES: Final[tuple[Rule, ...]] = (
    _roles_down,
    _instances,
    _failing,
    _restarts,
    _rivals,
    _hub_lag,
    _log_lost,
    _recorders,
    _scalers,
    _spool_copies,
    _refused_puts,
    _spool_depth,
    _buried,
    _store,
    _commit_lag,
    _conflicts,
    _faults,
    _partitions,
    _books,
    _balancers,
    _links,
    _disk,
    _settings,
    _past,
    _untold,
)


# --- within -------------------------------------------------------------------------------------


def _by_role(facts: Facts) -> dict[str, list[Instance]]:
    found: dict[str, list[Instance]] = {}
    for row in facts.instances:
        found.setdefault(row.role, []).append(row)
    return found


def _all_start(facts: Facts, role: str) -> bool:
    rows = [row for row in facts.instances if row.role == role]
    return bool(rows) and all(row.state == STARTING for row in rows)


def _after_s(fault: Fault) -> float:
    if fault.after_s is not None:
        return fault.after_s
    return 0.0 if fault.level == "bad" else WARN_S


def _problem(known: _Known) -> Problem:
    fault = known.fault
    return Problem(
        key=f"{fault.dc} {fault.key}", level=fault.level, kind=fault.kind, dc=fault.dc, who=fault.who, says=fault.says,
        since=known.since,
    )  # fmt: skip


def _about(seconds: float) -> str:
    """A time that grows, in steps: a sentence that changes twice a second can't be read."""
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)
    step = max((each for each in steps if each <= seconds), default=5)
    if step < 120:
        return f"{step} s"
    return f"{step // 60} min" if step < 7200 else f"{step // 3600} h"
