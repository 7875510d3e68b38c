"""Datacenters at random: hits, losses, deaths, wiped stores, cut links, in any order; in the end all agree."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.examples import examples
from tests.hitmesh.processor.datacenters import TICK_S, World

NAMES = ("ap", "eu", "us")
names = st.sampled_from(NAMES)
PAGES = ("s/a", "s/b", "s/c", "s/d")


class Datacenters(RuleBasedStateMachine):
    """Parts are resent after every step that may have lost them, as spools and collectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*NAMES)
        self.world.run(2)
        self.hits: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.highest: dict[tuple[str, str, str], int] = {}
        self.lost: set[str] = set()  # datacenters whose store was wiped with something that nobody else had

    @rule(dc=names, page=st.sampled_from(PAGES), count=st.integers(1, 5))
    def hit(self, dc: str, page: str, count: int) -> None:
        self.world[dc].hit(page, count)
        self.hits[dc][page] = self.hits[dc].get(page, 0) + count

    @rule(dc=names, unknown=st.booleans())
    def commit(self, dc: str, unknown: bool) -> None:
        self.world[dc].steps(unknown=unknown)

    @rule(dc=names)
    def tick(self, dc: str) -> None:
        self.world[dc].tick()
        self.world.now_s += TICK_S

    @rule(index=st.integers(0, 50))
    def deliver(self, index: int) -> None:
        if self.world.mail:
            self.world.deliver(index % len(self.world.mail))

    @rule(index=st.integers(0, 50))
    def lose(self, index: int) -> None:
        if self.world.mail:
            self.world.mail.pop(index % len(self.world.mail))

    @rule(index=st.integers(0, 50))
    def repeat(self, index: int) -> None:
        if self.world.mail:
            self.world.mail.append(self.world.mail[index % len(self.world.mail)])

    @rule(one=names, other=names)
    def cut_or_heal(self, one: str, other: str) -> None:
        if one != other:
            self.world.cut ^= {frozenset((one, other))}

    @rule(seconds=st.integers(1, 4))
    def run(self, seconds: int) -> None:
        self.world.run(seconds)

    @rule(dc=names)
    def kill(self, dc: str) -> None:
        self.world[dc].start()
        self.world[dc].offer_all()

    @rule(dc=names)
    def wipe(self, dc: str) -> None:
        """What nobody else has is lost; the spool isn't."""
        if any(self.world[name].head.restoring for name in NAMES if name != dc):
            self.lost.update(NAMES)  # who is being brought back may have been told that there is nothing so far
        left = [name for name in NAMES if name != dc and not self.world[name].head.restoring]
        for origin in NAMES:
            if any(
                count > max((self.world[name].rows(origin).get(page, 0) for name in left), default=0)
                for page, count in self.world[dc].rows(origin).items()
            ):
                self.lost.add(origin)
        self.world[dc].wipe()
        # What is under way to others is of a connection that broke with the process.
        self.world.mail = [mail for mail in self.world.mail if mail[0] != dc]

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        for store in NAMES:
            for origin in NAMES:
                for page, count in self.world[store].rows(origin).items():
                    assert count <= self.hits[origin].get(page, 0), (store, origin, page)

    @invariant()
    def what_others_have_of_a_datacenter_never_goes_back(self) -> None:
        for store in NAMES:
            for origin in NAMES:
                if store == origin or origin in self.lost or self.world[store].head.restoring:
                    continue
                rows = self.world[store].rows(origin)
                for page in PAGES:
                    key = (store, origin, page)
                    assert rows.get(page, 0) >= self.highest.get(key, 0), key
                    self.highest[key] = rows.get(page, 0)

    def teardown(self) -> None:
        world = self.world
        world.cut.clear()
        world.run(12)
        while any(world[name].head.restoring for name in NAMES) and world.now_s < 1000:
            world.run(12)  # those that were wiped again and again wait for each other
        for name in NAMES:
            world[name].offer_all()
        world.run(8)
        for origin in NAMES:
            head = world[origin].head
            assert not head.restoring
            if origin in self.lost:
                continue  # its datacenter may have begun another history since
            found = [world[name].rows(origin) for name in NAMES]
            assert found[0] == found[1] == found[2] == self.hits[origin], (origin, found, self.hits[origin])
            assert sum(found[0].values()) == head.hits, origin
            assert head.lost == 0, origin


def _case() -> Any:
    case = Datacenters.TestCase
    case.settings = settings(
        max_examples=examples(150),
        stateful_step_count=40,
        deadline=None,
        # no shrinking: it takes minutes, and the steps are printed anyway
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return case


TestDatacenters = _case()
