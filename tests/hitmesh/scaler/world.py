"""A datacenter in virtual time: collectors that share a demand, hosts that start and stop them, and a scaler that decides."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from hitmesh import config as settings
from hitmesh.config import Config
from hitmesh.config.scaler import SCALED, Sized
from hitmesh.scaler.deciding import Decider
from hitmesh.scaler.figures import Figures, Host
from hitmesh.scaler.outcome import Full, Outcome, Seen
from hitmesh.settings.wanted import Change, Wanted

STOPS_S = 4.0  # from the word to the farewell
STARTS_S = 3.0  # from the word to the first heartbeat
WALL = 1_000_000.0


def configured(collector: int = 1, nodes: int = 2, **scaler: Any) -> Config:
    """A datacenter of `nodes` hosts, a, b, ..., each with so many collectors and a scaler."""
    one = {"nexus": 1, "processor": 1, "collector": collector, "scaler": 1}
    data = {
        "name": "dc",
        "insecure": True,
        "nodes": {chr(97 + at): {"address": f"10.0.0.{at + 1}", **one} for at in range(nodes)},
        "ports": {"balancer_admin": 0},
        "scaler": {"collector": {"max": 6, "node_max": 3, **scaler}},
    }
    return settings.parse(data, source="test")


class World:
    """Each step is a second."""

    def __init__(self, config: Config, demand: Callable[[float], float] = lambda _: 0.0) -> None:
        self.config, self.demand = config, demand
        self.now = 0.0
        self.deciders = [Decider(config)]
        self.wanted: Wanted | None = None
        self.came = {name: [-100.0] * node.collector for name, node in config.nodes.items()}  # when each collector came
        self.hosts = {name: Host(name=name, cpus=4, busy=0.2, free_mb=4096, is_able=True) for name in config.nodes}
        self.hold = self.missing = ""
        self.over: dict[str, float] = {}  # by node: since when it has too many
        self.out: dict[str, int] = {}  # by node: how many of its collectors can't be counted on
        self.starts = True
        self.says: dict[Sized, str] = {}
        self.fulls: list[Full] = []
        self.slowest = self.late_s = 0.0
        self.done: list[Change] = []

    def count(self) -> int:
        """Collectors that live."""
        return sum(at <= self.now for each in self.came.values() for at in each)

    def figures(self) -> Figures:
        warm_s = self.config.scaler.warm_s
        by_node = {name: sum(at <= self.now for at in each) for name, each in self.came.items()}
        new = sum(self.now - warm_s < at <= self.now for each in self.came.values() for at in each)
        out = sum(self.out.values())
        counted = max(sum(by_node.values()) - out, 0)
        busy = min(self.demand(self.now) / counted, 1.0) if counted else 0.0
        self.slowest = p99_ms = 5.0 / max(1.0 - busy, 0.02)
        return Figures(
            serving=counted - new, new=[f"new-{n}" for n in range(new)], out=[f"out-{n}" for n in range(out)],
            by_node=by_node, busy=busy * counted, p99_ms=p99_ms, missing=self.missing,
        )  # fmt: skip

    def seen(self) -> Seen:
        roles: dict[Sized, Figures] = {role: Figures(serving=2, by_node={"a": 1, "b": 1}, busy=0.1) for role in SCALED}
        return Seen(roles={**roles, "collector": self.figures()}, hosts=self.hosts, hold=self.hold)

    def step(self, by: int = 0) -> Outcome:
        """A second goes by; the decider `by` decides, all look."""
        self.now += 1.0 + self.late_s
        seen, bounds = self.seen(), self.config.scaler
        for decider in self.deciders:
            decider.look(seen, bounds, self.now)
        outcome = self.deciders[by].step(seen, self.wanted, bounds, self.now, WALL + self.now)
        before = self.wanted.changes if self.wanted else ()
        self.done = [*self.done, *(each for each in outcome.wanted.changes if each not in before)]
        self.wanted = outcome.wanted
        self.says = dict(outcome.says)
        self.fulls += [outcome.full] if outcome.full else []
        self._act()
        return outcome

    def run(self, seconds: float) -> list[Change]:
        """So many seconds; the changes of collectors meanwhile."""
        known = len(self.done)
        for _ in range(int(seconds)):
            self.step()
        return self.done[known:]

    def become(self, **scaler: Any) -> None:
        """Live settings change."""
        self.config = msgspec.structs.replace(
            self.config,
            scaler=msgspec.structs.replace(
                self.config.scaler, collector=msgspec.structs.replace(self.config.scaler.collector, **scaler)
            ),
        )

    def _act(self) -> None:
        assert self.wanted is not None
        for name, each in self.came.items():
            here = self.wanted.on(name)
            if here is None or name not in self.hosts or not self.starts:
                continue
            goal = max(here["collector"], self.config.nodes[name].collector)
            each += [self.now + STARTS_S] * (goal - len(each))
            since = self.over.setdefault(name, self.now) if len(each) > goal else self.over.pop(name, self.now)
            if self.now - since >= STOPS_S:
                del each[-1:]


def reversals(changes: list[Change]) -> int:
    """How often more follow less, or less more."""
    ways = [each.now > each.was for each in changes]
    return sum(a != b for a, b in pairwise(ways))
