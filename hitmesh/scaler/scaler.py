"""A scaler: looks at its datacenter, agrees with the others on what is wanted, and brings its own host there.

One of a datacenter's decides (`office`). Each follows what is decided, and has the supervisord of its own host start and
stop what is wanted on its node (`local`). So two that decide at once do no harm: one's word isn't written.

Invariant: whatever supervisord, the settings store or a hook does, heartbeats go on, and what runs goes on running.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event

from hitmesh.config import Config, Role
from hitmesh.config.scaler import SCALED, SIZED, Sized
from hitmesh.mesh.client import MeshClient
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.network import Network
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.scaler import figures as seeing
from hitmesh.scaler.crews import busiest
from hitmesh.scaler.deciding import Decider
from hitmesh.scaler.figures import Figures, Host, nodes_of
from hitmesh.scaler.hook import Hook
from hitmesh.scaler.host import HostMeter
from hitmesh.scaler.local import Local
from hitmesh.scaler.office import Office
from hitmesh.scaler.outcome import Full, Outcome, Seen, hooked
from hitmesh.settings import SettingsStore
from hitmesh.settings import lock as locks
from hitmesh.settings.live import Live
from hitmesh.settings.wanted import Change, Wanted, words
from hitmesh.state.standing import DRY_RUN
from hitmesh.state.view import Sighting
from hitmesh.store.consul_service import ConsulService
from hitmesh.supervisord import Supervisord

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hitmesh.metrics.admin import AdminListener

STEP_S: Final = 1.0  # between two looks: as often as heartbeats come
STALE_S: Final = 5.0  # after which what the Nexuses have told is no ground for anything
AGAIN_S: Final = 60.0  # before the same is said again of why nothing changes
LEADS: Final = "leads"
"""Of a scaler's load: 1 of the one that decides."""
WANTED: Final = "wanted_"
"""Before a role, of a scaler's load: how many of it are wanted in the datacenter; workers in each balancer."""

log = logging.getLogger(__name__)


class Scaler:
    """One scaler process."""

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        settings: SettingsStore,
        network: Network,
        supervisord: Supervisord,
        admin: AdminListener | None = None,
        room: Callable[[], Mapping[str, float]] = dict,
        dry_run: bool = False,
    ) -> None:
        self._config, self._name, self._settings = config, name, settings
        self._admin, self._room, self._told_dry = admin, room, dry_run
        self._node = config.placement("scaler", name).node
        self._id = f"{name}.{secrets.token_hex(6)}"
        self._live = live = Live(config, settings, self._settings_changed)
        self._office = Office(config.name, self._id, settings, live)
        self._decider = Decider(config)
        self._local = Local(config, self._node, supervisord)
        self._meter = HostMeter()
        self._hook = Hook(config.scaler.hook, config.scaler.hook_timeout_s)
        placed: tuple[Role, ...] = (*SIZED, "scaler")
        self._nodes = {role: nodes_of(config, role) for role in placed}
        self._nodes["scaler"].setdefault(name, self._node)
        self._watchdog = Watchdog()
        self._news = Event()
        self._hold = "it has just started"
        self._figures: Mapping[Sized, Figures] = {}
        self._said: dict[Sized, tuple[str, float]] = {}
        self._leads = False
        self._decisions = 0
        self._stopped = False
        endpoints = {} if admin is None else {"admin": admin.url}
        self.mesh = MeshClient(
            config,
            role="scaler",
            name=name,
            instance_id=self._id,
            endpoints=endpoints,
            network=network,
            load=self._load,
            on_change=lambda _: None,
            late=self._watchdog.late,
            written=lambda: live.written,
            registered=ConsulService.of(config, role="scaler", name=name, instance_id=self._id, endpoints=endpoints),
        )

    def start(self) -> None:
        """Begin."""
        self._hook.start()
        self._watchdog.start()
        self._live.start()
        self.mesh.start()
        spawn("deciding", self._decide)
        spawn("bringing", self._bring)
        if self._admin is not None:
            self._admin.start(self._collect, self._watchdog.late)

    def stop(self) -> None:
        """Leave; what runs goes on."""
        self._stopped = True
        self._hook.stop()
        self._news.set()
        if self._admin is not None:
            self._admin.stop()
        self.mesh.stop()
        self._watchdog.stop()
        self._live.stop()
        self._settings.close()

    @property
    def _dry_run(self) -> bool:
        return self._told_dry or self._live.config.scaler.dry_run

    # --- what is wanted ---------------------------------------------------------------------

    def _decide(self) -> None:
        while not self._stopped:
            began = time.monotonic()
            self.mesh.refresh()
            self._step(began, time.time())
            gevent.sleep(max(STEP_S / 4, STEP_S - (time.monotonic() - began)))

    def _step(self, now: float, wall: float) -> None:
        view, bounds = self.mesh.view, self._live.config.scaler
        sightings = view.sightings()
        seen = self._seen(sightings, now, wall)
        self._hold, self._figures = seen.hold, seen.roles
        self._decider.look(seen, bounds, now)
        wanted = self._office.look(now)
        leads = self._dry_run or self._office.is_first(
            sightings, now if view.answered is None else view.answered, self._config.timing.heartbeat_s
        )
        if leads is not self._leads:
            self._leads = leads
            self.mesh.announce()
        if not leads or not self._live.known:
            return
        outcome = self._decider.step(seen, wanted, bounds, now, wall)
        if self._dry_run and not outcome.says and outcome.wanted.changes == (wanted or Wanted()).changes:
            outcome = self._decider.step(seen, outcome.wanted, bounds, now, wall)  # as if that were agreed upon
        if outcome.wanted is not wanted and not seen.hold:
            if other := self._office.leased_by(sightings, now):
                outcome = Outcome(outcome.wanted, dict.fromkeys(self._sized(), f"{other} has just decided"))
            else:
                self._change(wanted, outcome.wanted)
        for role, why in outcome.says.items():
            self._say(role, why, now)
        if outcome.full is not None:
            self._tell_hook(outcome.full, outcome.wanted, seen.hosts, now, wall)

    def _seen(self, sightings: list[Sighting], now: float, wall: float) -> Seen:
        view, bounds, timing = self.mesh.view, self._live.config.scaler, self._config.timing
        at = view.answered if view.answered is not None else now
        when = {"warm_s": bounds.warm_s, "heartbeat_s": timing.heartbeat_s}
        roles: dict[Sized, Figures] = {
            role: seeing.figures(sightings, role, self._nodes[role], at, **when) for role in SCALED
        }
        crews = seeing.crews(sightings, self._nodes["balancer"], at, **when)
        held = locks.held(self._lock(), "", wall)
        hold = held or seeing.restoring(sightings)
        if not (view.known and view.connected) or now - at > STALE_S:
            hold = "no Nexus says who is there"
        hosts = seeing.hosts(sightings, self._nodes["scaler"], dry_run=self._dry_run)
        return Seen(roles={**roles, "balancer": busiest(crews)}, crews=crews, hosts=hosts, hold=hold)

    def _lock(self) -> locks.Lock | None:
        setting = self._live.settings.get(locks.key_of(self._config.name))
        return locks.read_lock(setting.value) if setting is not None else None

    def _change(self, before: Wanted | None, after: Wanted) -> bool:
        """Have it written, and say so; false: it isn't."""
        changes = [each for each in after.changes if before is None or each not in before.changes]
        if self._dry_run:
            for each in changes:
                self._say(each.role, f"would change: {words(each)}: {each.why}", time.monotonic())
            return False
        if not self._office.write(after):
            return False
        self._decisions += len(changes)
        for each in changes:
            self._tell(each)
        self._news.set()
        return True

    def _tell(self, change: Change) -> None:
        bounds = self._live.config.scaler.of(change.role)
        fields: dict[str, str | int | float | bool] = {
            "scaled": change.role, "node": change.node, "was": change.was, "now": change.now,
            "min": bounds.min, "max": bounds.max, "busy": bounds.busy, **self._figures[change.role].fields(),
        }  # fmt: skip
        log.info("%s: %s", words(change), change.why, extra={"fields": fields})

    def _say(self, role: Sized, why: str, now: float) -> None:
        """Why nothing changes: once, and again when it is another reason or a while has gone by."""
        plain = re.sub(r"[\d.]+", "#", why)
        before, at = self._said.get(role, ("", float("-inf")))
        if plain != before or now - at >= AGAIN_S:
            self._said[role] = plain, now
            log.info("%s: nothing is changed: %s", role, why, extra={"fields": {"scaled": role}})

    def _tell_hook(self, full: Full, wanted: Wanted, hosts: Mapping[str, Host], now: float, wall: float) -> None:
        own = self._config.scaler
        if not own.hook or self._hook.is_running or now - self._office.hooked_at < own.hook_s:
            return
        if self._office.leased_by(self.mesh.view.sightings(), now):
            return
        if self._dry_run:
            self._office.hooked_at = now
            log.info("would run the hook %s: %s", self._config.scaler.hook, full.why)
        elif self._change(wanted, hooked(wanted, full, wall)):
            self._hook.run(
                {
                    "dc": self._config.name,
                    "role": full.role,
                    "wanted": full.needed,
                    "have": full.have,
                    "why": full.why,
                    "hosts": [
                        {"name": each.name, "cpus": each.cpus, "busy": each.busy, "free_mb": each.free_mb}
                        for each in hosts.values()
                    ],
                }
            )

    # --- what runs here ---------------------------------------------------------------------

    def _bring(self) -> None:
        while not self._stopped:
            self._news.wait(STEP_S)
            self._news.clear()
            with self._watchdog.expect("an answer of supervisord"):
                self._bring_once()

    def _bring_once(self) -> None:
        wanted = self._office.wanted
        here = wanted.on(self._node) if wanted is not None else None
        if self._dry_run or self._hold or here is None or not self._live.known:
            self._local.look()
            return
        scaled = {role: count for role, count in here.items() if self._live.config.scaler.of(role).max}
        for word in self._local.bring(
            scaled, {role: self._figures[role].living for role in SCALED if role in self._figures}
        ):
            log.info("%s", word)

    # --- within ---------------------------------------------------------------------------

    def _settings_changed(self) -> None:
        self._news.set()
        self.mesh.announce()

    def _wanted(self) -> dict[str, float]:
        wanted = self._office.wanted
        if wanted is None:
            return {}
        counts: dict[Sized, int] = {
            role: sum(roles.get(role, 0) for node, roles in wanted.counts.items() if node in self._config.nodes)
            for role in SCALED
        }
        counts["balancer"] = max(wanted.workers, self._config.balancer.workers)
        return {f"{WANTED}{role}": counts[role] for role in self._sized()}

    def _sized(self) -> list[Sized]:
        return [role for role in SIZED if self._live.config.scaler.of(role).max]

    def _load(self) -> dict[str, float]:
        return {
            DRY_RUN: int(self._dry_run),
            LEADS: int(self._leads),
            "decisions": self._decisions,
            **self._hook.load(),
            **self._local.load(),
            **self._wanted(),
            **self._meter.load(),
            **self._room(),
            **self._live.load(),
        }

    def _collect(self) -> Iterator[Metric]:
        from hitmesh.scaler import metrics  # with Prometheus's client, which nobody needs who isn't asked

        return metrics.collect(
            self._config.name, self._name, self.mesh.figures(), lag=self.mesh.lag(),
            is_failing=bool(self._watchdog.late()),
        )  # fmt: skip
