from __future__ import annotations

import itertools
from collections.abc import Iterable

from balancer.vip.judging import FAULT, GOOD, LATE_S, SILENT_S, STEADY_S, UNREACHED, UNREACHED_S, Judge
from balancer.vip.word import Beat, Said, Stage

LOOK_S = 0.05


def said(now: float, *, silent_s: float = 0.0, unreached_s: float = 0.0, stage: Stage = Stage.SERVES) -> Said:
    return Said(1, stage, (Beat(now - silent_s, now - unreached_s),))


class Looks:
    """A judge who looks again and again, each time soon after the last one."""

    def __init__(self, *, is_sticky: bool = True) -> None:
        self.judge = Judge(is_sticky=is_sticky)
        self.now = 1000.0
        self.after()

    def after(self, s: float = 2 * STEADY_S, *, is_here: bool = False, is_alive: bool = True, **words: object) -> int:
        """The verdict when all that time the balancer says this."""
        for _ in range(round(s / LOOK_S)):
            verdict = self.once(said(self.now + LOOK_S, **words), is_here=is_here, is_alive=is_alive)  # type: ignore[arg-type]
        return verdict

    def once(self, word: Said | None, *, is_here: bool = False, is_alive: bool = True, s: float = LOOK_S) -> int:
        self.now += s
        return self.judge.look(word, is_alive=is_alive, is_here=is_here, now=self.now)


def are_apart(numbers: Iterable[int]) -> bool:
    """Whether these go down, at any two priorities that are configured."""
    return all(a - 49 > b for a, b in itertools.pairwise(numbers))


def test_a_balancer_that_lives_and_reaches_a_collector_is_good() -> None:
    assert Looks().after() == GOOD


def test_one_that_has_never_been_heard_of_is_a_fault() -> None:
    assert Judge(is_sticky=True).look(None, is_alive=False, is_here=True, now=1.0) == FAULT


def test_dead_silent_and_leaving_ones_are_faults_even_where_the_address_is() -> None:
    assert Looks().after(LOOK_S, is_here=True, is_alive=False) == FAULT
    assert Looks().after(LOOK_S, is_here=True, silent_s=SILENT_S + 0.01) == FAULT
    assert Looks().after(LOOK_S, is_here=True, stage=Stage.GONE) == FAULT


def test_one_that_still_takes_clients_before_it_leaves_is_good() -> None:
    assert Looks().after(stage=Stage.LEAVES) == GOOD


def test_one_of_several_workers_that_is_silent_is_enough() -> None:
    looks = Looks()
    word = said(looks.now)
    assert looks.once(Said(1, Stage.SERVES, (*word.beats, Beat(looks.now - SILENT_S - 0.1, looks.now)))) == FAULT


def test_one_of_several_workers_that_reaches_a_collector_is_enough() -> None:
    looks = Looks()
    word = said(looks.now, unreached_s=10.0)
    assert looks.once(Said(1, Stage.SERVES, (*word.beats, Beat(looks.now, looks.now)))) == GOOD


def test_without_a_collector_it_is_behind_all_that_have_one_and_keeps_the_address_among_its_like() -> None:
    alone = Looks().after(unreached_s=UNREACHED_S + 0.1)
    holder = Looks().after(unreached_s=UNREACHED_S + 0.1, is_here=True)
    assert alone == UNREACHED
    assert are_apart([Looks().after(is_here=True), Looks().after(), holder, alone, FAULT])


def test_where_the_first_host_takes_it_back_nobody_keeps_it() -> None:
    assert Looks(is_sticky=False).after(is_here=True) == GOOD


def test_what_a_silent_worker_can_not_know_is_not_held_against_it() -> None:
    looks = Looks()
    silent_s = UNREACHED_S + 0.1
    assert looks.after(LOOK_S, silent_s=silent_s, unreached_s=silent_s) == GOOD


def test_good_is_believed_only_when_it_lasts() -> None:
    looks = Looks()
    looks.after(LOOK_S, unreached_s=10.0)
    assert looks.after(STEADY_S - 2 * LOOK_S) == UNREACHED
    assert looks.after(3 * LOOK_S) == GOOD


def test_a_look_that_is_late_itself_proves_no_silence_but_it_proves_a_death() -> None:
    looks = Looks()
    assert looks.once(said(looks.now), s=LATE_S + SILENT_S) == GOOD
    assert looks.once(said(looks.now - 10.0)) == FAULT  # it was on time again
    looks = Looks()
    assert looks.once(said(looks.now), s=LATE_S + SILENT_S, is_alive=False) == FAULT


def test_a_beat_from_before_the_machine_started_again_is_none() -> None:
    looks = Looks()
    assert looks.once(said(looks.now + 10_000.0)) == FAULT
