"""The state machine of alerts, in virtual time: what fires, what is told, by whom, and when."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from hitmesh.dashboard.alerts.machine import BEAT_S, CLAIM_S, CLEAR_S, Machine
from hitmesh.dashboard.alerts.memory import MAX_FIRINGS, MAX_NOTICES, Claim, Memory, Notice, decode, encode
from hitmesh.dashboard.alerts.rules import Judged, Sign
from hitmesh.dashboard.status import Alert, Level, Silence

FOR_S, REPEAT_S, WALL = 10.0, 100.0, 1_000_000.0


def judged(
    *names: str, level: Level = "warn", says: str = "x", unjudged: Collection[str] = (), begins: bool = True
) -> Judged:
    signs = {}
    for name in names:
        rule, _, subject = name.partition("/")
        signs[name] = Sign(rule=rule, subject=subject, level=level, says=says, begins=begins)
    return Judged(signs, frozenset(unjudged))


def silence(name: str, until_s: float, dc: str = "*") -> Silence:
    return Silence(
        key=f"deploys/alerts/silences/{dc}/{name}", name=name, dc=dc, until=WALL + until_s, who="ann", why=""
    )


class Stage:
    """The dashboards of one datacenter, and the memory that they share. All that is owed is taken at once."""

    def __init__(self, *names: str, ways: Collection[str] = ("mail",)) -> None:
        self.memory, self.now, self.told = Memory(), 0.0, list[tuple[float, str, Notice]]()
        self.ids = (f"id-{number}" for number in itertools.count())
        self.ways = list(ways)
        self.machines = {name: self.machine(name) for name in names or ("a",)}
        self.alerts: dict[str, list[Alert]] = {}
        self.done: dict[str, set[tuple[str, int, str]]] = {name: set() for name in self.machines}
        self.takes = True  # whether what is sent is taken

    def machine(self, name: str) -> Machine:
        for_s = {"disk": FOR_S, "books": FOR_S}
        return Machine("eu", who=name, for_s=for_s, repeat_s=REPEAT_S, ways=self.ways, new_id=lambda: next(self.ids))

    def restart(self, name: str) -> None:
        self.machines[name], self.done[name] = self.machine(f"{name}.{next(self.ids)}"), set()

    def step(
        self, found: Judged, *, who: str = "a", silences: Iterable[Silence] = (), leads: bool = True, sends: bool = True
    ) -> None:
        """One dashboard looks, writes, and sends what is its to send."""
        machine, wall = self.machines[who], WALL + self.now
        step = machine.step(found, list(silences), self.memory, self.now, wall, leads=leads, done=self.done[who])
        self.memory = decode(encode(step.memory)) if step.memory is not self.memory else self.memory
        self.alerts[who] = list(step.alerts)
        owed = {each.key for each in self.memory.notices}
        self.done[who] = {each for each in self.done[who] if each[:2] in owed}
        if sends and self.takes and machine.may_send(self.memory, self.now):
            for notice in self.memory.notices:
                for way in notice.owed:
                    if (*notice.key, way) not in self.done[who]:
                        self.told.append((self.now, way, notice))
                        self.done[who].add((*notice.key, way))

    def run(self, seconds: float, found: Judged, **how: object) -> None:
        """A step each second."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.step(found, **how)  # type: ignore[arg-type]

    def kinds(self) -> list[str]:
        return [f"{notice.kind} {notice.name}" for _, _, notice in self.told]


NOTHING = judged()


def test_it_fires_when_it_has_lasted_and_recovers_when_it_has_been_gone() -> None:
    stage = Stage()
    stage.run(FOR_S, judged("disk/app-1"))
    assert stage.kinds() == []
    assert [each.state for each in stage.alerts["a"]] == ["pending"]
    stage.run(5, judged("disk/app-1"))
    assert stage.kinds() == ["firing disk/app-1"]
    assert [(each.state, each.since) for each in stage.alerts["a"]] == [("firing", WALL + 1)]
    stage.run(CLEAR_S, NOTHING)
    assert stage.kinds() == ["firing disk/app-1"]
    stage.run(5, NOTHING)
    assert stage.kinds() == ["firing disk/app-1", "recovered disk/app-1"]
    (_, _, first), (_, _, last) = stage.told
    assert (first.id, first.number, last.id, last.number) == ("id-0", 1, "id-0", 2)
    assert stage.memory == Memory()


def test_what_comes_and_goes_is_one_alert() -> None:
    stage = Stage()
    stage.run(15, judged("disk"))
    for _ in range(5):
        stage.run(CLEAR_S - 2, NOTHING)
        stage.run(2, judged("disk"))
    assert stage.kinds() == ["firing disk"]


def test_it_is_told_again_each_repeat_s_with_the_words_of_then() -> None:
    stage = Stage()
    stage.run(15, judged("disk"))
    stage.run(2 * REPEAT_S, judged("disk", says="fuller"))
    assert stage.kinds() == ["firing disk", "still firing disk", "still firing disk"]
    (first, _, _), (second, _, notice), (third, _, _) = stage.told
    assert (notice.says, notice.number) == ("fuller", 2)
    assert second - first >= REPEAT_S
    assert third - second >= REPEAT_S


def test_what_becomes_bad_is_told_at_once_and_only_once() -> None:
    stage = Stage()
    stage.run(15, judged("disk", level="warn"))
    stage.run(40, judged("disk", level="bad"))
    stage.run(20, judged("disk", level="warn"))
    stage.run(20, judged("disk", level="bad"))
    assert stage.kinds() == ["firing disk", "worse disk"]
    assert stage.memory.firings["disk"].level == "bad"


def test_what_cannot_be_judged_neither_begins_nor_ends() -> None:
    stage = Stage()
    stage.run(60, judged(unjudged=["books"]))
    assert stage.kinds() == []
    stage.run(15, judged("books"))
    stage.run(60, judged(unjudged=["books"]))
    assert stage.kinds() == ["firing books"]
    stage.run(CLEAR_S + 3, NOTHING)
    assert stage.kinds() == ["firing books", "recovered books"]


def test_what_is_gone_must_be_seen_to_be_gone_for_all_of_the_time() -> None:
    stage = Stage()
    stage.run(15, judged("books"))
    stage.run(CLEAR_S - 3, NOTHING)
    stage.run(3, judged(unjudged=["books"]))
    stage.run(CLEAR_S - 3, NOTHING)
    assert stage.kinds() == ["firing books"]
    stage.run(6, NOTHING)
    assert stage.kinds() == ["firing books", "recovered books"]


def test_a_sign_that_begins_nothing_keeps_what_fires() -> None:
    stage = Stage()
    stage.run(30, judged("disk", begins=False))
    assert (stage.kinds(), stage.alerts["a"]) == ([], [])
    stage.run(15, judged("disk"))
    stage.run(60, judged("disk", begins=False))
    assert stage.kinds() == ["firing disk"]


def test_a_silence_is_kept_and_what_still_fires_at_its_end_is_told_then() -> None:
    stage = Stage()
    held = [silence("disk", 50)]
    stage.run(40, judged("disk/app-1"), silences=held)
    assert (stage.kinds(), stage.alerts["a"][0].state) == ([], "silenced")
    stage.run(20, judged("disk/app-1"), silences=held)
    assert stage.kinds() == ["firing disk/app-1"]
    assert stage.told[0][0] >= 50


def test_what_recovers_in_a_silence_is_told_to_whoever_was_told_of_it() -> None:
    stage = Stage()
    stage.run(15, judged("disk", "books"))
    held = [silence("disk", 1e6), silence("books", 1e6)]
    stage.run(3 * REPEAT_S, judged("disk"), silences=held)
    assert stage.kinds() == ["firing disk", "firing books", "recovered books"]


def test_one_that_was_silenced_all_the_time_recovers_in_silence() -> None:
    stage = Stage()
    stage.run(15, judged("disk"), silences=[silence("disk", 1e6)])
    stage.run(30, NOTHING)
    assert (stage.kinds(), stage.memory) == ([], Memory())


def test_a_silence_of_one_alert_or_datacenter_holds_for_no_other() -> None:
    stage = Stage()
    held = [silence("disk/app-1", 1e6), silence("disk", 1e6, dc="us")]
    stage.run(15, judged("disk/app-1", "disk/app-10", "disk/app-2"), silences=held)
    assert sorted(stage.kinds()) == ["firing disk/app-10", "firing disk/app-2"]


def test_of_two_dashboards_one_tells_and_the_other_knows() -> None:
    stage = Stage("a", "b")
    for _ in range(300):
        stage.now += 1.0
        stage.step(judged("disk"), who="a")
        stage.step(judged("disk"), who="b", leads=False)
    assert stage.kinds() == ["firing disk", "still firing disk", "still firing disk"]
    assert stage.alerts["a"] == stage.alerts["b"]


def test_two_that_see_different_things_do_not_take_turns() -> None:
    stage = Stage("a", "b")
    for _ in range(90):
        stage.now += 1.0
        stage.step(judged("disk"), who="a")
        stage.step(judged("books"), who="b", leads=False)
    assert stage.kinds() == ["firing disk"]


def test_two_that_both_think_they_lead_tell_once() -> None:
    stage = Stage("a", "b")
    for _ in range(60):
        stage.now += 1.0
        stage.step(judged("disk"), who="a")
        stage.step(judged("disk"), who="b")
    for _ in range(60):
        stage.now += 1.0
        stage.step(NOTHING, who="b")
        stage.step(NOTHING, who="a")
    assert stage.kinds() == ["firing disk", "recovered disk"]


def test_who_takes_over_sends_nothing_twice_and_does_not_forget_the_recovery() -> None:
    stage = Stage("a", "b")
    for _ in range(30):
        stage.now += 1.0
        stage.step(judged("disk"), who="a")
        stage.step(judged("disk"), who="b", leads=False)
    stage.run(50, judged("disk"), who="b")
    assert stage.kinds() == ["firing disk"]
    stage.run(CLEAR_S + 5, NOTHING, who="b")
    assert stage.kinds() == ["firing disk", "recovered disk"]
    assert {notice.id for *_, notice in stage.told} == {"id-0"}


def test_what_a_dead_dashboard_owed_is_sent_by_the_other_when_its_claim_is_over() -> None:
    stage = Stage("a", "b")
    for _ in range(12):
        stage.now += 1.0
        stage.step(judged("disk"), who="a", sends=False)
        stage.step(judged("disk"), who="b", leads=False)
    assert stage.memory.claim == Claim("a", 1)
    stage.run(CLAIM_S - 3, judged("disk"), who="b")
    assert stage.kinds() == [], "the other may still be at it"
    stage.run(6, judged("disk"), who="b")
    assert stage.kinds() == ["firing disk"]


def test_a_claim_lasts_as_long_as_its_holder_tries() -> None:
    stage = Stage("a", "b")
    stage.takes = False
    for _ in range(200):
        stage.now += 1.0
        stage.step(judged("disk"), who="a")
        stage.step(judged("disk"), who="b")
    assert stage.memory.claim is not None
    assert (stage.memory.claim.who, stage.memory.claim.beat) == ("a", 1 + 190 // (BEAT_S + 1) // 1)


def test_who_was_stopped_for_long_sends_nothing_before_it_has_looked_again() -> None:
    stage = Stage()
    stage.takes = False
    stage.run(13, judged("disk"))
    machine = stage.machines["a"]
    assert machine.may_send(stage.memory, stage.now)
    assert not machine.may_send(stage.memory, stage.now + CLAIM_S)


def test_after_a_restart_what_was_told_is_not_told_again_before_its_time() -> None:
    stage = Stage()
    stage.run(60, judged("disk"))
    stage.restart("a")
    stage.run(40, judged("disk"))
    assert stage.kinds() == ["firing disk"]
    stage.run(20, judged("disk"))
    assert stage.kinds() == ["firing disk", "still firing disk"]


def test_a_rule_that_was_taken_out_recovers() -> None:
    stage = Stage()
    stage.run(15, judged("disk"))
    stage.machines["a"] = Machine("eu", who="a", for_s={}, repeat_s=REPEAT_S, ways=["mail"], new_id=str)
    stage.run(5, NOTHING)
    assert stage.kinds() == ["firing disk", "recovered disk"]


def test_what_is_owed_to_a_way_that_was_taken_out_is_owed_no_more() -> None:
    stage = Stage()
    stage.takes = False
    stage.run(12, judged("disk"))
    assert stage.memory.notices[0].owed == ("mail",)
    stage.machines["a"] = Machine(
        "eu", who="a", for_s={"disk": FOR_S}, repeat_s=REPEAT_S, ways=["webhook 1"], new_id=lambda: next(stage.ids)
    )
    stage.run(3, judged("disk"))
    assert (stage.memory.notices, stage.memory.claim) == ((), None)


def test_a_clock_that_begins_in_1970_keeps_nothing_from_being_remembered() -> None:
    machine = Stage().machines["a"]
    machine.step(judged("disk"), [], Memory(), 0.0, 3.0)
    memory = machine.step(judged("disk"), [], Memory(), 12.0, 3.0).memory
    assert decode(encode(memory)) == memory
    assert memory.firings["disk"].since == 0


def test_without_ways_what_fires_is_known_and_nothing_is_owed() -> None:
    stage = Stage(ways=())
    stage.run(15, judged("disk"))
    assert ([*stage.memory.firings], stage.memory.notices, stage.memory.claim) == (["disk"], (), None)


def test_what_fires_and_is_owed_is_bounded_and_fits_into_a_setting() -> None:
    stage = Stage()
    stage.takes = False
    names = [f"disk/{'n' * 100}{number}" for number in range(4 * MAX_FIRINGS)]
    stage.run(400, judged(*names, says="ü" * 200))
    stage.run(CLEAR_S + 2, NOTHING)
    assert (len(stage.memory.firings), len(stage.memory.notices)) == (0, MAX_NOTICES)
    stage.run(400, judged(*names, says="ü" * 200))
    assert len(stage.memory.firings) <= MAX_FIRINGS
    assert len(encode(stage.memory)) < 64 * 1024


def test_what_does_not_read_as_a_memory_is_an_empty_one() -> None:
    for value in (None, b"", b"[]", b"\xff", b'{"firings": 1}', b"[" * 100_000):
        assert decode(value) == Memory()


turns = st.tuples(
    st.sets(st.sampled_from(["disk", "books", "disk/a"])),
    st.integers(1, 60),
    st.sampled_from(["a", "b", "ab", "restart a"]),
    st.booleans(),
)


@settings(max_examples=60)
@given(st.lists(turns, min_size=1, max_size=8))
def test_whatever_happens_each_that_fires_is_told_once_repeated_seldom_and_recovers(
    story: list[tuple[set[str], int, str, bool]],
) -> None:
    stage = Stage("a", "b")
    for names, last, leader, is_silent in story:
        if leader == "restart a":
            stage.restart("a")
            leader = "a"
        held = [silence("disk", 1e9)] if is_silent else []
        for _ in range(last):
            stage.now += 1.0
            for who in "ab":
                stage.step(judged(*sorted(names)), who=who, silences=held, leads=who in leader)
    for _ in range(int(CLEAR_S + CLAIM_S + 10)):
        stage.now += 1.0
        stage.step(NOTHING, who="a")
        stage.step(NOTHING, who="b", leads=False)
    assert stage.memory == Memory()
    received = {notice.key: (at, notice) for at, _, notice in reversed(stage.told)}  # the first of each
    assert len(received) == len(stage.told) or any(leader == "restart a" for _, _, leader, _ in story), "sent twice"
    by_name: dict[str, list[tuple[float, Notice]]] = {}
    for at, notice in reversed(received.values()):
        by_name.setdefault(notice.name, []).append((at, notice))
    for told in by_name.values():
        fires = False
        last_at = 0.0
        for _, notice in sorted(told, key=lambda each: (each[0], each[1].at)):
            if notice.kind == "firing":
                assert not fires, "told twice that it fires"
                fires = True
            elif notice.kind == "still firing":
                assert fires
                assert notice.at - last_at >= REPEAT_S
            else:
                assert (notice.kind, fires) == ("recovered", True)
                fires = False
            last_at = notice.at
        assert not fires, "nobody was told that it recovered"
