"""The alerts of one dashboard: judges what it is shown, agrees with the datacenter's others, and has the notices sent.

Invariants:
- Whatever a server or the settings store does, `look` and `shown` return at once.
- Who leads is the first by name of the dashboards that live and can do their work: it alone says what fires.
- While the settings store is away for longer than ALONE_S, who leads goes on by itself: an alert that comes twice is
  better than one that doesn't come. What it told meanwhile is written when the store is back.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

from gevent.event import Event
from msgspec import Struct

from hitmesh.config import Config
from hitmesh.config.alerts import RULES
from hitmesh.dashboard.alerts.dead_man import DeadMan
from hitmesh.dashboard.alerts.machine import Machine
from hitmesh.dashboard.alerts.memory import Firing, Memory, decode, encode, joined, key_of
from hitmesh.dashboard.alerts.outbox import Outbox
from hitmesh.dashboard.alerts.rules import Seen, judge
from hitmesh.dashboard.alerts.shares import Shares
from hitmesh.dashboard.alerts.silences import MAX_SHOWN, live_among
from hitmesh.dashboard.alerts.ways import ways_of
from hitmesh.dashboard.status import Alert, Datacenter, Part, Silence, WayStatus
from hitmesh.errors import StoreUnknown
from hitmesh.mesh.duty import spawn
from hitmesh.settings import SettingsStore
from hitmesh.settings.agreement import Agreement
from hitmesh.settings.live import Live
from hitmesh.state.dues import FAILING
from hitmesh.state.standing import DRAINING
from hitmesh.state.view import MeshView

AUTHOR: Final = "alerts"
STEP_S: Final = 1.0  # between two steps
ALONE_S: Final = 10.0  # a leader of Consul's is elected within that
AGAIN_S: Final = 3.0  # between two tries to write, while the store is away
FRESH_S: Final = 15.0  # for which what was judged last says something: a store that is away takes some of it
TROUBLE_S: Final = 10.0  # that a way has failed before the dashboard says so
UNTOLD_S: Final = 120.0  # that nobody could be told: then all isn't well, whatever the rules say

log = logging.getLogger(__name__)


class Turn(Struct, frozen=True):
    """An alert has begun to fire, or has recovered: an event."""

    name: str
    says: str


class Shown(Struct, frozen=True):
    """What a dashboard shows of it."""

    alerts: Sequence[Alert] = ()
    silences: Sequence[Silence] = ()
    ways: Sequence[WayStatus] = ()
    troubles: Mapping[str, str] = {}  # by way: why it fails, and has for a while
    unagreed: str = ""  # why what was told can't be written, and couldn't for a while


NONE_SHOWN: Final = Shown()


class Alerting:
    """The alerts of datacenter `config.name`, as the dashboard instance `who` sees them."""

    def __init__(self, config: Config, *, who: str, store: SettingsStore, live: Live) -> None:
        settings = config.alerts
        self._rules, self._live, self._who = settings.rules, live, who
        # A step before its time: what was sent is written at once, or it is sent again after a kill.
        self._due = Event()
        self._agreement = Agreement(
            key_of(config.name), store, live, decode=decode, encode=encode, author=AUTHOR, what="remember alerts"
        )
        self._boxes = [Outbox(config.name, way, self._may_send, self._due.set) for way in ways_of(settings)]
        self._dead_man = (
            DeadMan(settings.dead_man, settings.dead_man_s, self._is_well) if settings.dead_man else None
        )  # fmt: skip
        rules = {name: getattr(settings.rules, name) for name in RULES}
        self._machine = Machine(
            config.name,
            who=who,
            for_s={name: rule.for_s for name, rule in rules.items() if not rule.off},
            repeat_s=settings.repeat_s,
            ways=[box.name for box in self._boxes],
            new_id=lambda: secrets.token_hex(8),
        )
        self._shares = Shares()
        self._seen: Seen | None = None
        self._leads = False
        self._seen_at = self._judged_at = float("-inf")
        self._alone: Memory | None = None  # what we go on with while the store is away
        self._away_since: float | None = None
        self._away_why = ""
        self._again_at = float("-inf")
        self._alerts: Sequence[Alert] = ()
        self._firings: Mapping[str, Firing] | None = None  # those that events were made of
        self._turns: list[Turn] = []
        self._stopped = False

    def start(self) -> None:
        """Begin to judge and to send; returns at once."""
        spawn("alerts", self._run)
        for box in self._boxes:
            box.start()
        if self._dead_man is not None:
            self._dead_man.start()

    def stop(self) -> None:
        """Begin nothing any more; what is owed is another dashboard's to send, or ours when we are back."""
        self._stopped = True
        for box in self._boxes:
            box.stop()
        if self._dead_man is not None:
            self._dead_man.stop()

    def look(self, part: Part, dcs: Mapping[str, Datacenter], view: MeshView, now: float, wall: float) -> None:
        """This is what the dashboard knows now."""
        share = self._shares.look(part.instances, now)
        if not (view.known and view.connected):
            return  # nothing is known of who lives, and it is no news that nobody is heard
        self._seen = Seen(part=part, dcs=dcs, share=share, wall=wall)
        self._seen_at = now
        fit = [one for one in view.live("dashboard") if not one.state.startswith((DRAINING, FAILING))]
        first = min(((one.name, one.id) for one in fit), default=("", self._who))
        self._leads = first[1] == self._who

    def shown(self, now: float) -> Shown:
        """What there is to be shown."""
        ways = [box.shown() for box in self._boxes] + ([self._dead_man.shown()] if self._dead_man else [])
        failing = [box for box in self._boxes if box.failing_since is not None and now - box.failing_since >= TROUBLE_S]
        troubles = {box.name: box.shown().why for box in failing}
        if self._dead_man is not None and (why := self._dead_man.shown().why):
            troubles["the dead man's URL"] = why
        is_away = self._away_since is not None and now - self._away_since >= TROUBLE_S
        unagreed = self._away_why if is_away else ""
        silences = live_among(self._live.settings, time.time())[:MAX_SHOWN]
        return Shown(self._alerts, silences, ways, troubles, unagreed)

    def turns(self) -> list[Turn]:
        """What has begun to fire or recovered since this was asked last."""
        found, self._turns = self._turns, []
        return found

    # --- the greenlet ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            self._due.clear()
            self._step()
            self._due.wait(STEP_S)

    def _step(self) -> None:
        now, wall, seen = time.monotonic(), time.time(), self._seen
        if seen is None or now - self._seen_at > FRESH_S:
            return
        memory = self._memory
        done = frozenset[tuple[str, int, str]]().union(*(box.done for box in self._boxes))
        step = self._machine.step(
            judge(seen, self._rules), live_among(self._live.settings, wall), memory, now, wall,
            leads=self._leads, done=done,
        )  # fmt: skip
        self._alerts = step.alerts
        if step.memory is not memory or self._alone is not None:
            self._change(step.memory, now)
        for box in self._boxes:
            box.offer(self._memory.notices, now)
        self._turn()
        self._judged_at = time.monotonic()

    # --- within ---------------------------------------------------------------------------

    @property
    def _memory(self) -> Memory:
        return self._agreement.agreed if self._alone is None else self._alone

    def _change(self, memory: Memory, now: float) -> None:
        """Have it remembered, if that can be."""
        if now < self._again_at:
            self._go_on(memory, now)
            return
        try:
            is_written = self._agreement.write(memory)
        except StoreUnknown as error:
            if self._away_since is None:
                log.warning("alerts can't be agreed upon: %s", error)
                self._away_since = now
            self._away_why = str(error)
            self._again_at = now + AGAIN_S
            self._go_on(memory, now)
            return
        self._away_since = None
        if is_written:
            self._alone = None
        elif self._alone is not None:
            self._alone = joined(self._agreement.agreed, self._alone)

    def _go_on(self, memory: Memory, now: float) -> None:
        if self._leads and self._away_since is not None and now - self._away_since >= ALONE_S:
            self._alone = memory

    def _turn(self) -> None:
        """What has changed since the last step, for the events."""
        if not self._live.known and self._alone is None:
            return
        firings = self._memory.firings
        before = {} if self._firings is None else self._firings
        if self._firings is not None:
            self._turns += [Turn(name, one.says) for name, one in firings.items() if _is_other(before.get(name), one)]
            self._turns += [
                Turn(name, f"recovered: {one.says}")
                for name, one in before.items()
                if _is_other(firings.get(name), one)
            ]
        self._firings = dict(firings)

    def _may_send(self) -> bool:
        return not self._stopped and self._machine.may_send(self._memory, time.monotonic())

    def _is_well(self) -> bool:
        """Whether this dashboard judges, nothing bad fires, and people could be told if it did."""
        now = time.monotonic()
        bad = any(each.state == "firing" and each.level == "bad" for each in self._alerts)
        untold = any(box.failing_since is not None and now - box.failing_since > UNTOLD_S for box in self._boxes)
        return now - self._judged_at <= FRESH_S and not bad and not untold


def _is_other(one: Firing | None, other: Firing) -> bool:
    return one is None or one.id != other.id
