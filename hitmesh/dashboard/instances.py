"""The instances of a datacenter: who should be there, who is heard, and what state that makes. Pure: `now` comes in.

It is told what the Nexuses say (`look`) and keeps, for each name, the process that is or was there. It must not know
how their words arrive, nor what follows from a state.

Invariants:
- A state is what was heard, never a guess: `dead` is the Nexuses' word, or that of a process that gave its place
  to another without having left; who was not heard because nobody was asked is not silent.
- Who was stopped itself judges nobody by the silence of that while.
- `since` is when the state began, and stays while the state does.
- An instance of the configuration has a row always. Another one has one while it lives, or its death is told of.
- A name that is used again is the same row: its heartbeats go on being counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from hitmesh.config import ROLES, Config
from hitmesh.dashboard import status
from hitmesh.protocol import formats
from hitmesh.protocol.messages import Instance
from hitmesh.state.ages import UPTIME
from hitmesh.state.standing import (
    DEAD,
    DRAINING,
    GENERATION,
    SILENT,
    STARTING,
    STARTING_S,
    UP,
    Standing,
    heartbeat_names,
    is_exchange,
    place_in_list,
    standing,
)
from hitmesh.state.view import Sighting

MAX_ROWS: Final = 4096  # a Nexus keeps no more instances than that

NO_NEXUS: Final = "no Nexus is heard, so nobody says how it is"


class Expected(Struct, frozen=True):
    """One that the configuration has."""

    role: str
    name: str
    node: str
    is_spare: bool = False  # a scaler may start it: it is missed by nobody


class Turn(Struct, frozen=True):
    """An instance's state has changed, or another process has its name."""

    kind: str  # joined, died, left, drained, failed, recovered
    name: str
    role: str
    cause: str


def expected(config: Config) -> list[Expected]:
    """Under which names a datacenter's instances heartbeat."""
    found = []
    for role in ROLES:
        workers = config.balancer.workers if role == "balancer" else 1
        for place in config.instances(role):
            found += [Expected(role, name, place.node) for name in heartbeat_names(place.name, workers)]
        found += [Expected(role, place.name, place.node, is_spare=True) for place in config.spares(role)]
    return found


@dataclass(slots=True)
class _Row:
    role: str
    name: str
    node: str
    configured: bool
    began: float  # when it was first missed or heard
    since: float  # of its state; wall clock
    state: str = STARTING
    failing: bool = False
    why: str = ""
    instance: Instance | None = None
    number: int = 0
    heard: float = 0.0
    beats: int = 0
    left_at: float | None = None  # when it said goodbye
    died_at: float | None = None
    gone: bool = False  # nobody tells of it any more
    remembered: bool = False  # its state is of before this process began
    unheard: bool = False  # a Nexus of which nothing is heard here, though nobody says that it is dead
    generation: float = 0.0  # of a balancer's worker: the last one that was heard in this name
    deaths: list[float] = field(default_factory=list)  # the last ones, monotonic


class Instances:
    """Every instance of one datacenter, as its dashboard knows it.

    `heartbeat_s` is between two heartbeats of anybody there; `missed` of them make one dead.
    """

    def __init__(self, expect: Iterable[Expected], *, heartbeat_s: float, missed: int, now: float, wall: float) -> None:
        self.heartbeat_s = heartbeat_s
        self._missed_s = heartbeat_s * missed
        expect = tuple(expect)
        self._rows: dict[str, _Row] = {
            each.name: _Row(each.role, each.name, each.node, configured=True, began=now, since=wall)
            for each in expect
            if not each.is_spare
        }
        self._spares = {each.name: each.node for each in expect if each.is_spare}  # where each runs, when it does
        self._known_at: float | None = None  # when everybody alive could be known
        self._looked = now
        self._resumed = now  # when we looked again after a pause of our own, in which we could hear nobody

    def remember(self, states: Mapping[str, tuple[str, float]]) -> None:
        """In which state each was, and since when, before this process began: it may be in it still."""
        for name, (state, since) in states.items():
            if name in self._rows:
                row = self._rows[name]
                row.state, row.since, row.remembered = state, since, True

    def look(
        self,
        sightings: Iterable[Sighting],
        *,
        known: bool,
        connected: bool,
        answered: float | None,
        now: float,
        wall: float,
    ) -> list[Turn]:
        """Take in what the Nexuses say; what has changed. `answered` is when one of them told all that it had heard."""
        if now - self._looked > self._missed_s / 2:
            self._resumed = now
        self._looked = now
        told = {one.instance.name: one for one in sorted(sightings, key=lambda one: one.alive)}  # the living win
        first = self._known_at is None
        if known and first:
            self._known_at = now
        turns: list[Turn] = []
        for one in told.values():
            row = self._row(one.instance, now, wall)
            if row is not None:
                turns += self._hear(row, one, now, first=first)
        for name, row in self._rows.items():
            was = row.state, row.failing
            if known and connected and name not in told:
                turns += self._miss(row, now)
            found = self._judge(row, connected=connected, answered=answered, now=now)
            row.why = found.why
            row.state, row.failing = found.state, found.failing
            if row.state != was[0] or row.failing != was[1]:
                row.since = wall
                turns += self._turn(row, *was, now, first=first)
        for name in [name for name, row in self._rows.items() if row.gone and not row.configured]:
            del self._rows[name]
        return turns

    def rows(self, now: float, bars: Mapping[str, tuple[str, str]] = {}) -> list[status.Instance]:
        """All of them as they are shown, by role and number; `bars` are the hour and the days of each."""
        ordered = sorted(self._rows.values(), key=lambda row: place_in_list(row.role, row.name, ROLES))
        return [self._shown(row, now, bars.get(row.name, ("", ""))) for row in ordered]

    def states(self) -> Iterator[tuple[str, str, bool, str, float]]:
        """Of each its name, state, whether it fails, why, and since when."""
        for name, row in self._rows.items():
            yield name, row.state, row.failing, row.why, row.since

    def deaths(self, now: float, within_s: float) -> dict[str, list[float]]:
        """Who died within that time, and how long ago each time, the last one first."""
        found = {}
        for name, row in self._rows.items():
            ages = [now - at for at in reversed(row.deaths) if now - at <= within_s]
            if ages:
                found[name] = ages
        return found

    # --- within ---------------------------------------------------------------------------

    def _row(self, one: Instance, now: float, wall: float) -> _Row | None:
        row = self._rows.get(one.name)
        if row is None and len(self._rows) < MAX_ROWS:
            row = self._rows[one.name] = _Row(
                one.role, one.name, self._spares.get(one.name, ""), configured=False, began=now, since=wall
            )
        return row

    def _hear(self, row: _Row, one: Sighting, now: float, *, first: bool) -> list[Turn]:
        turns: list[Turn] = []
        before = row.instance
        if before is None or before.id != one.instance.id:
            if before is not None and is_exchange(before, one.instance):
                if one.instance.load[GENERATION] > row.generation:
                    turns.append(Turn("joined", row.name, row.role, "its balancer replaces its workers"))
            else:
                if before is not None and row.left_at is None and row.died_at is None:
                    turns += self._replaced(row, before, now)
                if one.alive and not first:
                    turns.append(Turn("joined", row.name, row.role, "" if before is None else "it was started again"))
                row.generation = 0.0
            row.generation = max(row.generation, one.instance.load.get(GENERATION, 0.0))
            row.left_at = row.died_at = None
            row.unheard = False
            row.began = now
            row.number = 0
        elif one.alive and (row.died_at is not None or row.left_at is not None):
            turns.append(Turn("joined", row.name, row.role, f"it is heard again after {now - row.heard:.1f} s"))
            row.died_at = row.left_at = None
        row.role, row.gone = one.instance.role, False
        row.beats += max(0, one.number - row.number) if row.number else 1
        row.instance, row.number, row.heard = one.instance, max(row.number, one.number), one.heard
        if not one.alive and row.died_at is None:
            row.died_at = now
            if not first:
                turns.append(self._died(row, f"no heartbeat for {now - row.heard:.1f} s", now))
        return turns

    def _replaced(self, row: _Row, before: Instance, now: float) -> list[Turn]:
        """Another process has its name."""
        if before.state == DRAINING:
            return [Turn("left", row.name, row.role, "it was draining, and another process took its place")]
        return [self._died(row, "it didn't say goodbye, and another process took its place", now)]

    def _died(self, row: _Row, cause: str, now: float) -> Turn:
        row.deaths = [*row.deaths[-9:], now]
        return Turn("died", row.name, row.role, cause)

    def _miss(self, row: _Row, now: float) -> list[Turn]:
        """No Nexus tells of it, and they would."""
        if row.instance is None:
            return []
        row.gone = True
        if row.left_at is None and row.died_at is None:
            row.left_at = now
            return [Turn("left", row.name, row.role, "it said goodbye")]
        return []

    def _absent(self, row: _Row, *, connected: bool, now: float) -> Standing | None:
        """How one is that isn't there; None of one that is."""
        if row.instance is None:
            waited_from = row.began if self._known_at is None else max(row.began, self._known_at)
            if now - waited_from > STARTING_S and connected:
                return Standing(DEAD, why="it was never heard")
            if row.remembered:
                return Standing(row.state, why=row.why)
            return Standing(STARTING, why="it hasn't been heard yet")
        if row.died_at is not None:
            return Standing(DEAD, why="its heartbeats stopped")
        if row.left_at is not None:
            if now - row.left_at <= STARTING_S:
                return Standing(STARTING, why="it left, and is expected back")
            return Standing(DEAD, why="it left, and hasn't come back")
        return None

    def _judge(self, row: _Row, *, connected: bool, answered: float | None, now: float) -> Standing:
        absent = self._absent(row, connected=connected, now=now)
        if absent is not None:
            return absent
        assert row.instance is not None
        if not connected:
            age_s = now - max(row.heard, self._resumed)
            if age_s <= self._missed_s:
                return standing(row.instance.state, alive=True, age_s=age_s, heartbeat_s=self.heartbeat_s)
            if row.role == "nexus":
                return Standing(DEAD, why="it isn't heard any more")
            return Standing(SILENT, why=NO_NEXUS)
        # Of heartbeats since the last answer nobody has told: they may have been heard.
        evident_s = max(row.heard, answered or 0.0) - row.heard
        found = standing(row.instance.state, alive=True, age_s=evident_s, heartbeat_s=self.heartbeat_s)
        if found.state == SILENT:
            return Standing(SILENT, why="its heartbeats are missing")
        if found.state == UP and row.role == "processor" and self._is_settling(row, now):
            return Standing(STARTING, why="it owns no partition yet")
        if found.state == DRAINING:
            return Standing(DRAINING, why=found.why or "it was told to stop")
        return found

    def _is_settling(self, row: _Row, now: float) -> bool:
        assert row.instance is not None
        return not row.instance.owns and now - row.began <= STARTING_S and 0 <= _uptime_s(row, now) <= STARTING_S

    def _turn(self, row: _Row, state: str, failing: bool, now: float, *, first: bool) -> list[Turn]:
        if first:
            return []
        if row.failing and not failing:
            return [Turn("failed", row.name, row.role, row.why)]
        if failing and not row.failing and row.state == UP:
            return [Turn("recovered", row.name, row.role, "")]
        if row.state == DRAINING:
            return [Turn("drained", row.name, row.role, row.why)]
        if row.state == DEAD and row.role == "nexus" and row.died_at is None and row.left_at is None and row.instance:
            row.unheard = True
            return [self._died(row, f"nothing was heard of it for {now - row.heard:.1f} s", now)]
        if row.unheard and row.state != DEAD:
            row.unheard = False
            return [Turn("joined", row.name, row.role, "it is heard again")]
        return []

    def _shown(self, row: _Row, now: float, bars: tuple[str, str]) -> status.Instance:
        one = row.instance
        lives = one is not None and row.left_at is None and row.died_at is None and row.state != DEAD
        load: Mapping[str, float] = {}
        if one is not None and lives:
            load = {key: each for key, each in formats.without(one.load).items() if key != UPTIME}
        state: status.State = row.state  # type: ignore[assignment]
        return status.Instance(
            key=row.name,
            name=row.name,
            role=row.role,
            node=row.node,
            state=state,
            failing=row.failing,
            why=row.why,
            version=formats.release_of(one).version if one is not None and lives else "",
            pid=one.pid if one is not None and lives else None,
            uptime_s=round(_uptime_s(row, now), 1) if one is not None and lives else None,
            heartbeat_age_s=None if one is None else round(max(0.0, now - row.heard), 1),
            heartbeat_s=self.heartbeat_s,
            beats=row.beats,
            since=row.since,
            load=load,
            hour=bars[0],
            days=bars[1],
        )


def _uptime_s(row: _Row, now: float) -> float:
    assert row.instance is not None
    up_s = row.instance.load.get(UPTIME)
    return now - row.began if up_s is None else max(0.0, up_s) + max(0.0, now - row.heard)
