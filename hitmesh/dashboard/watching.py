"""What one dashboard watches of its own datacenter: from the mesh's picture, the stores, spools and balancers to a `Part`,
and from all parts to the `Status`.

It wires the pure modules to the readers. Everything that may wait is in the readers' greenlets; `part`, `status`,
`history` and `page` look at what is known and return at once, but for `page`, which asks the store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import gevent

from hitmesh import __version__
from hitmesh.books.audit import Worker
from hitmesh.books.reading import worker_of
from hitmesh.config import Config
from hitmesh.dashboard.alerts.alerting import NONE_SHOWN, Shown, Turn
from hitmesh.dashboard.balancers import Balancers
from hitmesh.dashboard.bars import Bars
from hitmesh.dashboard.counting import Counters, Counting
from hitmesh.dashboard.events import Events
from hitmesh.dashboard.growth import Growth
from hitmesh.dashboard.instances import Instances, expected
from hitmesh.dashboard.keeping import Past
from hitmesh.dashboard.merging import Around, Merging, Told
from hitmesh.dashboard.orphans import Orphans
from hitmesh.dashboard.pacing import pause_s
from hitmesh.dashboard.problems import CUT_ROWS_S, GREW, LATE_ROWS_S, LOOP_S, Facts, Problems, faults
from hitmesh.dashboard.rates import Rates
from hitmesh.dashboard.spooled import Spools
from hitmesh.dashboard.status import Hits, Instance, Link, Page, PagePart, Part, SeenFrom, Status, Store
from hitmesh.dashboard.totalling import Totalling
from hitmesh.errors import HitmeshError
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.room import Room
from hitmesh.protocol.pages import check_page, partition_of, trim
from hitmesh.settings.live import LOAD, Live
from hitmesh.state.ages import AGE_PREFIX
from hitmesh.state.senders import UNACKED_S
from hitmesh.state.standing import STARTING, VIRTUAL_IP, program_of
from hitmesh.state.view import MeshView

SAVE_S: Final = 5.0  # between two writes of the past: what a kill takes
REMEMBERED_S: Final = 120.0  # for which a state of before a restart of the dashboard may still be so
CONFLICTS: Final = ("false_claims", "step_downs")

log = logging.getLogger(__name__)


class Watch:
    """All that the dashboard `name` knows. `live` are the settings that it follows; relative stores are below
    `state_dir`, the folder of the datacenter.
    """

    def __init__(self, config: Config, *, state_dir: Path, name: str, live: Live, room: Room, id: str = "") -> None:
        now, wall = time.monotonic(), time.time()
        self._config, self._live = config, live
        self._dc, self._name, self._id = config.name, name, id
        self._instances = Instances(
            expected(config),
            heartbeat_s=config.timing.heartbeat_s,
            missed=config.timing.missed_heartbeats,
            now=now,
            wall=wall,
        )
        self._bars = Bars()
        self._events = Events(config.name)
        self._problems = Problems()
        self._growth = Growth(GREW)
        self._accepted = Rates()
        self._past = Past(state_dir / ("dashboard.db" if name == "dashboard-1" else f"{name}.db"))
        self._past_why = ""
        self._spools = Spools(config, state_dir)
        self._counters = Counters({}, {}, whole=False)
        self._counting = Counting(config, state_dir, counters=lambda: self._counters, spooled=self._spools.look)
        self._balancers = Balancers(config)
        self._merging = Merging(SeenFrom(dc=config.name, name=name, version=__version__, uptime_s=0.0), now)
        self._room = room
        self._orphans = Orphans(config.partitions)
        self._totalling = Totalling()
        self._totalled_at = 0.0
        self._last: Part | None = None
        self._stopped = False

    def start(self) -> None:
        """Bring the past back, and begin to look; returns when the past is there."""
        wall = time.time()
        kept = self._past.load()
        bad = self._bars.unpack(kept.bars, wall) + self._events.unpack(kept.events)
        if kept.why or bad:
            self._past_why = kept.why or f"{bad} records of {self._past.path.name} can't be read"
            log.warning("the past: %s", self._past_why)
        self._instances.remember(self._bars.states(wall, REMEMBERED_S))
        self._spools.start()
        self._counting.start()
        spawn("the past", self._keep)

    def stop(self) -> None:
        """Keep what there is, and look no more."""
        self._stopped = True
        self._counting.stop()
        self._balancers.stop()
        self._save()
        self._past.close()
        self._spools.close()

    # --- what is shown ------------------------------------------------------------------------

    def part(
        self,
        view: MeshView,
        now: float,
        wall: float,
        alerts: Shown = NONE_SHOWN,
        *,
        offsets: Mapping[str, float] | None = None,
    ) -> Part:
        """This datacenter, as of now, with its `alerts`, and `offsets` as they are in a `Part`. Call it twice a second."""
        sightings = view.sightings()
        turns = self._instances.look(
            sightings, known=view.known, connected=view.connected, answered=view.answered, now=now, wall=wall
        )
        self._events.turned(turns, now, wall)
        owners = {number: owner.instance.name for number, owner in view.owners().items()}
        if view.known and view.connected:
            self._events.owned(owners, now, wall)
        if self._live.known:
            self._events.changed(self._live.editions, wall)
        for name, state, failing, why, since in self._instances.states():
            self._bars.tell(name, state, failing=failing, why=why, since=since, wall=wall)
        bars = {name: self._bars.shown(name, wall) for name, *_ in self._instances.states()}
        rows = self._instances.rows(now, bars)
        self._count(view, now)
        links = self._links(view, now)
        shown = {program_of(row.name) for row in rows if row.role == "balancer"}
        self._balancers.follow(
            {
                one.name: one.endpoints["admin"]
                for one in view.live("balancer")
                if program_of(one.name) == one.name and "admin" in one.endpoints
            }
        )
        holders = {one.name: one.load[VIRTUAL_IP] > 0 for one in view.live("balancer") if VIRTUAL_IP in one.load}
        balancers = self._balancers.shown(sorted(shown), holders)
        store = self._store(view, owners, rows, now)
        books = self._counting.ledger.books(now)
        spools = self._spools.shown()
        disk = self._room.look()
        facts = Facts(
            dc=self._dc,
            instances=rows,
            deaths=self._instances.deaths(now, LOOP_S),
            spools=spools,
            store=store,
            books=books,
            balancers=balancers,
            links=links,
            grew=self._grew(view, now),
            disk_used=disk.used if disk is not None else None,
            disk_free_bytes=disk.free_bytes if disk is not None else 0,
            past_why=self._past_why,
            untold=alerts.troubles,
            unagreed=alerts.unagreed,
            settings=self._settings_versions(view),
            refused=self._live.refused,
        )
        problems = self._problems.update(faults(facts), now, wall)
        self._last = Part(
            dc=self._dc,
            at=wall,
            who=self._id,
            offsets=offsets or {},
            hits=self._hits(now),
            instances=rows,
            spools=spools,
            store=store,
            books=books,
            balancers=balancers,
            virtual_ip=self._config.virtual_ip.address,
            links=links,
            problems=problems,
            top=self._counting.charts.shown(wall),
            events=self._events.newest(),
            heard=self._heard(view, now),
            alerts=alerts.alerts,
            silences=alerts.silences,
            ways=alerts.ways,
        )
        return self._last

    def status(self, parts: Mapping[str, Part], now: float, wall: float) -> Status:
        """All datacenters. `parts` are the others', and this one's by `part`; their `at` is by our wall clock."""
        own = parts.get(self._dc) or self._last
        assert own is not None, "part is called first"
        others = {dc: Told(part, max(0.0, wall - part.at)) for dc, part in parts.items() if dc != self._dc}
        copies = self._copies(wall)
        around = Around(expected={*self._config.peers, *copies}, retired=self._live.retired, copies=copies)
        return self._merging.status(own, others, around, now, wall)

    def alerted(self, turns: Iterable[Turn], wall: float) -> None:
        """Alerts have begun to fire, or have recovered."""
        for turn in turns:
            self._events.add("alert", turn.name, turn.says, "", wall)

    def history(self, dc: str, name: str) -> list[dict[str, Any]] | None:
        """The reasons behind an instance's bars, the newest first; None of one that nobody knows here."""
        if dc != self._dc:
            return None
        found = [
            {"from": each.start, "to": each.end, "state": each.state, "why": each.why}
            for each in self._bars.reasons(name)
        ]
        known = any(name == known for known, *_ in self._instances.states())
        return found if found or known else None

    def page(self, page: str) -> Page | None:
        """One page, as this datacenter's store has it now; None of what can't be a page's name. Asks the store."""
        try:
            page = check_page(page)
        except HitmeshError:
            return None
        if self._live.config.pages.trailing_slash == "drop":
            page = trim(page)
        wall = time.time()
        found = self._counting.read_page(partition_of(page, self._config.partitions), page)
        minutes = self._counting.charts.minutes(page, wall)
        if isinstance(found, str):
            return Page(page=page, total=None, dc=self._dc, instance=self._name, minutes=minutes, why=found)
        tally = self._counting.ledger.tally
        as_of_s = tally.as_of_s if tally is not None else {}
        parts = [
            PagePart(
                key=dc, count=count, age_s=0.0 if dc == self._dc else round(max(0.0, wall - as_of_s.get(dc, wall)), 1)
            )
            for dc, count in sorted(found.items())
        ]
        return Page(
            page=page, total=sum(found.values()), parts=parts, dc=self._dc, instance=self._name, minutes=minutes
        )  # fmt: skip

    # --- greenlets ----------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._stopped:
            gevent.sleep(SAVE_S)
            began = time.monotonic()
            self._save()
            gevent.sleep(pause_s(time.monotonic() - began))

    def _save(self) -> None:
        bars = {name: self._bars.packed(name) for name in self._bars.changed()}
        events = self._events.unsaved()
        if not bars and not events:
            return
        why = self._past.save(bars, events, time.time())
        if why and why != self._past_why:
            log.warning("the past isn't kept: %s", why)
        self._past_why = why

    # --- within ---------------------------------------------------------------------------

    def _count(self, view: MeshView, now: float) -> None:
        """Take in what the collectors have counted."""
        workers: dict[str, Worker] = {}
        numbers: dict[str, int] = {}
        whole = view.known and view.connected
        for one in view.sightings():
            instance = one.instance
            if instance.role != "collector" or not one.alive:
                continue
            try:
                workers[instance.id] = worker_of(instance)
            except KeyError:
                whole = False
                continue
            numbers[instance.id] = one.number
            self._accepted.tell(instance.id, workers[instance.id].accepted, one.heard)
        self._accepted.keep(workers.keys())
        self._totalling.heard({id: worker.accepted for id, worker in workers.items()})
        ledger = self._counting.ledger
        if ledger.found is not None and ledger.found_at != self._totalled_at:
            self._totalled_at = ledger.found_at
            self._totalling.looked(ledger.found, ledger.living)
        self._counters = Counters(workers, numbers, whole)

    def _hits(self, now: float) -> Hits:
        ledger = self._counting.ledger
        age_s = max(0.0, now - ledger.at) if ledger.store_why else 0.0
        return Hits(count=self._totalling.count(), per_s=round(self._accepted.total(now), 1), age_s=round(age_s, 1))

    def _copies(self, wall: float) -> dict[str, Hits]:
        """The other datacenters' hits, as the store here has them."""
        tally = self._counting.ledger.tally
        if tally is None:
            return {}
        return {
            dc: Hits(count=count, age_s=round(max(0.0, wall - tally.as_of_s.get(dc, wall)), 1))
            for dc, count in tally.sums.items()
            if dc != self._dc
        }

    def _store(self, view: MeshView, owners: Mapping[int, str], rows: Iterable[Instance], now: float) -> Store:
        ledger, why = self._counting.ledger, self._counting.why(now)
        collectors, processors = view.live("collector"), view.live("processor")
        lags = [one.load[UNACKED_S] for one in collectors if UNACKED_S in one.load]
        return Store(
            reachable=not why,
            why=why,
            absent=bool(why) and self._counting.is_absent,
            commit_lag_s=max(lags, default=None),
            owners=[owners.get(number) for number in range(self._config.partitions)],
            orphans=self._orphans_of(view, owners, rows, now),
            unreadable=sorted(ledger.tally.unreadable) if ledger.tally is not None else (),
            restoring=int(sum(one.load.get("restoring", 0) for one in processors)),
            conflicts=int(sum(one.load.get(figure, 0) for one in processors for figure in CONFLICTS)),
            pages=ledger.tally.pages if ledger.tally is not None else None,
        )

    def _orphans_of(self, view: MeshView, owners: Mapping[int, str], rows: Iterable[Instance], now: float) -> list[int]:
        starts = all(row.state == STARTING for row in rows if row.role == "processor")
        if starts or not (view.known and view.connected):
            self._orphans.forget()
            return []
        return self._orphans.look(owners, now)

    def _grew(self, view: MeshView, now: float) -> dict[str, list[str]]:
        """Whose counters of what shouldn't happen have grown lately."""
        for one in view.sightings():
            if one.alive:
                load, instance = one.instance.load, one.instance
                figures = {figure: load.get(figure, 0.0) for figure in GREW}
                figures["conflicts"] = sum(load.get(figure, 0.0) for figure in CONFLICTS)
                for figure, value in figures.items():
                    self._growth.tell(figure, instance.name, instance.id, value, now)
        return self._growth.grown(now)

    def _settings_versions(self, view: MeshView) -> dict[str, int]:
        """Of each datacenter the version of the live settings that its Nexuses know."""
        found = {}
        for dc in (self._dc, *sorted(view.others)):
            versions = [int(one.load[LOAD]) for one in view.live("nexus", dc) if LOAD in one.load]
            if versions and dc not in self._live.retired:
                found[dc] = max(versions)
        return found

    def _heard(self, view: MeshView, now: float) -> dict[str, float]:
        found: dict[str, float] = {}
        for dc in view.others:
            moments = [view.heard(one.id) for role in ("nexus", "processor") for one in view.live(role, dc)]
            heard = [moment for moment in moments if moment is not None]
            if heard:
                found[dc] = round(max(0.0, now - max(heard)), 1)
        return found

    def _links(self, view: MeshView, now: float) -> list[Link]:
        """What is heard here of the others' rows; nothing before everybody can have been heard."""
        if not view.known:
            return []
        ages: dict[str, float] = {}
        for one in view.live("processor"):
            heard = view.heard(one.id)
            for figure, value in one.load.items():
                if figure.startswith(AGE_PREFIX) and heard is not None:
                    dc = figure.removeprefix(AGE_PREFIX)
                    ages[dc] = max(ages.get(dc, 0.0), value + max(0.0, now - heard))
        known = {*ages, *view.others, *self._config.peers} - {self._dc} - set(self._live.retired)
        wan_s = self._config.timing.wan_heartbeat_s * 2
        heard_of = self._heard(view, now)
        return [_link(dc, self._dc, ages.get(dc), heard_of.get(dc), wan_s) for dc in sorted(known)]


def _link(source: str, target: str, age_s: float | None, heard_s: float | None, wan_s: float) -> Link:
    state, why = "up", ""
    if heard_s is None:
        state, why = "cut", f"nobody of {source} is heard"
    elif age_s is not None and age_s > CUT_ROWS_S:
        state, why = "cut", f"its rows are more than {CUT_ROWS_S:g} s old"
    elif age_s is not None and age_s > LATE_ROWS_S:
        state, why = "late", f"its rows are more than {LATE_ROWS_S:g} s old"
    elif heard_s > wan_s:
        state, why = "late", f"its Nexuses haven't been heard for {wan_s:g} s"
    return Link(
        key=f"{source}>{target}", source=source, target=target, state=state,  # type: ignore[arg-type]
        rows_age_s=None if age_s is None else round(age_s, 1), why=why,
    )  # fmt: skip
