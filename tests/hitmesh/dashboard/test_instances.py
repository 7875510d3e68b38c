"""States of instances: what was heard, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.dashboard.instances import Expected, Instances, Turn
from hitmesh.dashboard.status import Instance as Row
from hitmesh.state.standing import STARTING_S
from hitmesh.state.view import Sighting
from tests.hitmesh.dashboard.seen import instance, sighting

BEAT_S = 1.0
MISSED = 3
WALL = 1_000_000.0
C1, P1 = Expected("collector", "collector-1", "a"), Expected("processor", "processor-1", "a")
N1 = Expected("nexus", "nexus-1", "a")


class Watched:
    """Instances, and a clock that only goes where it is told."""

    def __init__(self, *expect: Expected) -> None:
        self.now = 100.0
        self.known = Instances(expect, heartbeat_s=BEAT_S, missed=MISSED, now=self.now, wall=WALL)

    def look(
        self, *sightings: Sighting, after_s: float = 0.5, known: bool = True, connected: bool = True, fresh: bool = True
    ) -> list[Turn]:
        self.now += after_s
        return self.known.look(
            sightings,
            known=known,
            connected=connected,
            answered=self.now if fresh else None,
            now=self.now,
            wall=WALL + self.now,
        )

    def row(self, name: str = "collector-1") -> Row:
        return {row.name: row for row in self.known.rows(self.now)}[name]


def kinds(turns: Sequence[Turn]) -> list[str]:
    return [turn.kind for turn in turns]


def test_a_spare_is_missed_by_nobody_and_where_it_runs_is_known() -> None:
    watched = Watched(C1, Expected("collector", "collector-2", "b", is_spare=True))
    watched.look(sighting(instance("collector-1"), 1, watched.now), after_s=30.0)
    assert [row.name for row in watched.known.rows(watched.now)] == ["collector-1"]
    watched.look(sighting(instance("collector-2"), 1, watched.now))
    assert watched.row("collector-2").node == "b"
    leaving = instance("collector-2", state="draining")
    assert kinds(watched.look(sighting(leaving, 2, watched.now))) == ["drained"]
    one = sighting(instance("collector-1"), 2, watched.now)
    assert "left" in kinds(watched.look(one)), "it has said goodbye, and nobody tells of it any more"
    watched.look(one, after_s=1.0)
    assert [row.name for row in watched.known.rows(watched.now)] == ["collector-1"]


def test_who_is_heard_is_up_and_each_heartbeat_is_counted() -> None:
    watched = Watched(C1)
    one = instance("collector-1", load={"up_s": 7.0, "accepted": 3.0})
    watched.look(sighting(one, 5, watched.now))
    watched.look(sighting(one, 6, watched.now))
    watched.look(sighting(one, 6, watched.now))
    watched.look(sighting(one, 8, watched.now))
    row = watched.row()
    assert (row.state, row.beats, row.node, row.pid) == ("up", 4, "a", 4711)
    assert row.load == {"accepted": 3.0}
    assert row.uptime_s == 7.5


def test_who_misses_a_heartbeat_is_silent_after_one_and_a_half_intervals() -> None:
    watched = Watched(C1)
    heard = watched.now
    one = instance("collector-1")
    watched.look(sighting(one, 5, heard), after_s=1.4)
    assert watched.row().state == "up"
    watched.look(sighting(one, 5, heard), after_s=0.2)
    assert (watched.row().state, watched.row().why) == ("silent", "its heartbeats are missing")
    watched.look(sighting(one, 6, watched.now))
    assert watched.row().state == "up"


def test_nobody_is_silent_of_whom_nobody_was_asked() -> None:
    """A Nexus doesn't tell of a heartbeat without news until it is asked."""
    watched = Watched(C1)
    heard = watched.now
    one = instance("collector-1")
    watched.look(sighting(one, 5, heard))
    watched.look(sighting(one, 5, heard), after_s=20.0, fresh=False)
    assert watched.row().state == "up"


def test_dead_is_what_the_nexuses_say() -> None:
    watched = Watched(C1)
    heard = watched.now
    one = instance("collector-1")
    watched.look(sighting(one, 5, heard))
    turns = watched.look(sighting(one, 5, heard, alive=False), after_s=2.6)
    assert [(turn.kind, turn.name, turn.cause) for turn in turns] == [("died", "collector-1", "no heartbeat for 3.1 s")]
    row = watched.row()
    assert (row.state, row.pid, row.uptime_s, row.load) == ("dead", None, None, {})
    watched.look(after_s=400.0)  # the Nexus has forgotten it
    assert watched.row().state == "dead"


def test_who_was_heard_again_is_back_and_its_beats_go_on() -> None:
    watched = Watched(C1)
    one = instance("collector-1")
    watched.look(sighting(one, 5, watched.now))
    watched.look(sighting(one, 5, watched.now - 4, alive=False), after_s=4.0)
    turns = watched.look(sighting(one, 9, watched.now))
    assert kinds(turns) == ["joined"]
    assert (watched.row().state, watched.row().beats) == ("up", 5)


def test_one_that_was_killed_and_started_again_at_once_has_died() -> None:
    watched = Watched(C1)
    watched.look(sighting(instance("collector-1", id="a"), 50, watched.now))
    turns = watched.look(sighting(instance("collector-1", id="b"), 1, watched.now))
    assert kinds(turns) == ["died", "joined"]
    assert watched.row().state == "up"
    assert watched.known.deaths(watched.now + 3.0, 10.0) == {"collector-1": [3.0]}
    assert watched.known.deaths(watched.now + 30.0, 10.0) == {}


def test_one_that_drained_before_another_took_its_place_has_left() -> None:
    watched = Watched(C1)
    watched.look(sighting(instance("collector-1", id="a"), 50, watched.now))
    turns = watched.look(sighting(instance("collector-1", id="a", state="draining"), 51, watched.now))
    assert kinds(turns) == ["drained"]
    assert (watched.row().state, watched.row().why) == ("draining", "it was told to stop")
    turns = watched.look(sighting(instance("collector-1", id="b"), 1, watched.now))
    assert kinds(turns) == ["left", "joined"]
    assert watched.known.deaths(watched.now, 10.0) == {}


def test_a_configured_one_that_left_is_expected_back_for_a_moment_and_then_dead() -> None:
    watched = Watched(C1)
    watched.look(sighting(instance("collector-1"), 5, watched.now))
    assert kinds(watched.look()) == ["left"]
    assert watched.row().state == "starting"
    watched.look(after_s=STARTING_S + 0.1)
    assert (watched.row().state, watched.row().why) == ("dead", "it left, and hasn't come back")


def test_one_that_is_not_configured_goes_with_its_farewell() -> None:
    watched = Watched(C1)
    watched.look(sighting(instance("collector-7"), 5, watched.now))
    assert {row.name for row in watched.known.rows(watched.now)} == {"collector-1", "collector-7"}
    assert kinds(watched.look()) == ["left"]
    assert {row.name for row in watched.known.rows(watched.now)} == {"collector-1"}


def test_one_that_never_came_is_starting_and_then_dead() -> None:
    watched = Watched(C1)
    watched.look(known=False, connected=False)
    assert watched.row().state == "starting"
    watched.look(after_s=60.0, known=False, connected=False)
    assert watched.row().state == "starting", "nobody could be asked"
    watched.look(after_s=1.0)
    assert watched.row().state == "starting"
    watched.look(after_s=STARTING_S + 0.1)
    assert (watched.row().state, watched.row().why, watched.row().heartbeat_age_s) == (
        "dead",
        "it was never heard",
        None,
    )


def test_without_a_nexus_the_nexuses_are_dead_and_nobody_else_is() -> None:
    watched = Watched(N1, C1)
    heard = watched.now
    told = [sighting(instance("nexus-1"), 5, heard), sighting(instance("collector-1"), 5, heard)]
    watched.look(*told)
    turns = [turn for _ in range(8) for turn in watched.look(*told, connected=False)]
    assert [(turn.kind, turn.name) for turn in turns] == [("died", "nexus-1")]
    assert watched.row("nexus-1").state == "dead"
    assert (watched.row().state, watched.row().why) == ("silent", "no Nexus is heard, so nobody says how it is")
    turns = watched.look(
        sighting(instance("nexus-1"), 9, watched.now), sighting(instance("collector-1"), 9, watched.now)
    )
    assert kinds(turns) == ["joined"]
    assert (watched.row("nexus-1").state, watched.row().state) == ("up", "up")


def test_who_was_stopped_itself_judges_nobody_by_that_while() -> None:
    watched = Watched(N1, C1)
    told = [sighting(instance("nexus-1"), 5, watched.now), sighting(instance("collector-1"), 5, watched.now)]
    watched.look(*told)
    assert watched.look(*told, after_s=60.0, connected=False) == []
    assert (watched.row("nexus-1").state, watched.row().state) == ("up", "up")
    for _ in range(8):
        watched.look(*told, connected=False)
    assert (watched.row("nexus-1").state, watched.row().state) == ("dead", "silent"), (
        "nobody has said a word since then"
    )


def test_who_fails_is_up_and_says_why() -> None:
    watched = Watched(P1)
    fine = instance("processor-1", owns={1: 1})
    watched.look(sighting(fine, 5, watched.now))
    failing = instance("processor-1", state="failing: a put has been under way for 15 s", owns={1: 1})
    assert kinds(watched.look(sighting(failing, 6, watched.now))) == ["failed"]
    row = watched.row("processor-1")
    assert (row.state, row.failing, row.why) == ("up", True, "a put has been under way for 15 s")
    assert kinds(watched.look(sighting(fine, 7, watched.now))) == ["recovered"]


def test_a_processor_that_owns_nothing_yet_is_starting() -> None:
    watched = Watched(P1)
    watched.look()
    watched.look(sighting(instance("processor-1", load={"up_s": 0.0}), 1, watched.now))
    assert watched.row("processor-1").state == "starting"
    watched.look(sighting(instance("processor-1", load={"up_s": 1.0}, owns={3: 1}), 2, watched.now))
    assert watched.row("processor-1").state == "up"


def test_what_is_there_at_the_first_look_has_not_just_joined() -> None:
    watched = Watched(C1)
    assert watched.look(sighting(instance("collector-1"), 5, watched.now)) == []
    assert kinds(
        watched.look(
            sighting(instance("collector-1"), 6, watched.now), sighting(instance("collector-2"), 1, watched.now)
        )
    ) == ["joined"]


def test_a_state_of_before_a_restart_has_begun_when_it_had() -> None:
    watched = Watched(C1)
    watched.known.remember({"collector-1": ("dead", 42.0)})
    watched.look()
    watched.look(after_s=STARTING_S + 1)
    assert (watched.row().state, watched.row().since) == ("dead", 42.0)


def test_rows_are_by_role_and_number() -> None:
    watched = Watched(C1, Expected("collector", "collector-10", "a"), Expected("collector", "collector-2", "b"), N1, P1)
    assert [row.name for row in watched.known.rows(watched.now)] == [
        "nexus-1", "processor-1", "collector-1", "collector-2", "collector-10"
    ]  # fmt: skip


STEPS = ["beat", "quiet", "die", "restart", "leave", "drain", "fail", "blind", "unasked"]
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0.2, 0.5, 1.0, 2.0, 7.0])), max_size=40)
SAYS = {"beat": "up", "restart": "up", "drain": "draining", "fail": "failing: it"}


class Life:
    """One instance that does as it is told, and what a Nexus says of it."""

    def __init__(self, now: float) -> None:
        self.life, self.number, self.heard, self.state, self.there, self.alive = 1, 1, now, "up", True, True

    def step(self, step: str, now: float) -> list[Sighting]:
        self.alive = not (step == "die" and self.there)
        if step in SAYS:
            self.life, self.number = (self.life + 1, 1) if step == "restart" else (self.life, self.number + 1)
            self.heard, self.state, self.there = now, SAYS[step], True
        elif step == "leave":
            self.there = False
        one = instance("collector-1", id=f"c.{self.life}", state=self.state)
        return [sighting(one, self.number, self.heard, alive=self.alive)] if self.there else []


def check(step: str, life: Life, row: Row, last: Row, now: float) -> None:
    silence_s = now - life.heard
    if step in ("beat", "restart"):
        assert (row.state, row.failing) == ("up", False)
    if step in ("fail", "drain"):
        assert (row.state, row.failing) == (("up", True) if step == "fail" else ("draining", False))
    if not life.alive:
        assert row.state == "dead"
    if row.state == "silent":
        assert silence_s > 1.5 * BEAT_S
    if step in ("quiet", "unasked") and life.there and silence_s <= 1.5 * BEAT_S:
        assert row.state != "silent"
    if step == "unasked" and life.there and last.state == "up":
        assert row.state == "up", "nobody was asked, so nothing more is known"
    if (row.state, row.failing) == (last.state, last.failing):
        assert row.since == last.since
    else:
        assert row.since == WALL + now
    assert row.beats >= last.beats


@given(steps)
def test_in_whatever_order_things_happen_no_state_lies(steps: list[tuple[str, float]]) -> None:
    watched = Watched(C1)
    life = Life(watched.now)
    last = watched.row()
    for step, after_s in steps:
        told = life.step(step, watched.now + after_s)
        turns = watched.look(*told, after_s=after_s, connected=step != "blind", fresh=step not in ("unasked", "blind"))
        row = watched.row()
        check(step, life, row, last, watched.now)
        assert kinds(turns).count("died") <= 1
        last = row


def worker(watched: Watched, id: str, generation: int, up_s: float, state: str = "up") -> Sighting:
    """A balancer's second worker; so many of its master's generations there have been."""
    one = instance("balancer-1-w1", id=id, state=state, load={"generation": float(generation), "up_s": up_s})
    return sighting(one, 1, watched.now)


def test_a_balancer_that_replaces_its_workers_loses_none_though_two_have_one_name_for_a_while() -> None:
    watched = Watched()
    watched.look(worker(watched, "old", 4, 50.0))
    [turn] = watched.look(worker(watched, "new", 5, 0.1))
    assert (turn.kind, turn.cause) == ("joined", "its balancer replaces its workers")
    assert watched.look(worker(watched, "old", 4, 51.0)) == [], "it speaks again, and has its name back"
    assert watched.look(worker(watched, "new", 5, 1.1)) == []
    assert watched.known.deaths(watched.now, 600.0) == {}
    assert kinds(watched.look(worker(watched, "new", 5, 2.1, state="draining"))) == ["drained"]
    watched.look()
    assert watched.known.rows(watched.now) == [], "one that is too many leaves, and nobody misses it"


def test_a_worker_that_was_killed_has_died_and_so_have_those_of_a_balancer_that_begins_anew() -> None:
    watched = Watched()
    watched.look(worker(watched, "one", 4, 50.0))
    assert kinds(watched.look(worker(watched, "again", 4, 0.1))) == ["died", "joined"]
    watched.look(worker(watched, "again", 4, 30.0))
    assert kinds(watched.look(worker(watched, "anew", 1, 0.1))) == ["died", "joined"]
    assert [turn.cause for turn in watched.look(worker(watched, "next", 2, 0.1))] == [
        "its balancer replaces its workers"
    ]
    assert len(watched.known.deaths(watched.now, 600.0)["balancer-1-w1"]) == 2
