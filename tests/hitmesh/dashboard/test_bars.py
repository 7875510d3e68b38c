"""The bars: the worst of each minute and day, and why."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.dashboard.bars import DAY_S, GAP_S, MAX_NAMES, MAX_REASONS, MINUTE_S, Bars, letter_of, worst
from hitmesh.dashboard.status import DAYS, MINUTES

START = 20_000.0 * DAY_S + 7 * 3600.0
STATES = ["up", "starting", "draining", "silent", "dead"]


def tell(
    bars: Bars, wall: float, state: str = "up", *, failing: bool = False, why: str = "", name: str = "c-1"
) -> None:
    bars.tell(name, state, failing=failing, why=why, since=wall, wall=wall)


def test_a_minute_has_the_letter_of_the_worst_in_it() -> None:
    bars = Bars()
    for at, state in enumerate(["up", "silent", "dead", "up"]):
        tell(bars, START + at, state)
    tell(bars, START + MINUTE_S, "up", failing=True)
    tell(bars, START + 2 * MINUTE_S, "draining")
    hour, days = bars.shown("c-1", START + 2 * MINUTE_S)
    assert (hour, days) == (" " * (MINUTES - 3) + "xfd", " " * (DAYS - 1) + "x")


def test_what_nobody_watched_is_blank() -> None:
    bars = Bars()
    tell(bars, START)
    tell(bars, START + 3 * MINUTE_S)
    assert bars.shown("c-1", START + 3 * MINUTE_S)[0].endswith(" u  u")
    assert bars.shown("c-2", START) == (" " * MINUTES, " " * DAYS)


def test_reasons_are_told_with_their_time_the_newest_first() -> None:
    bars = Bars()
    for at in range(10):
        state = "silent" if at in (2, 3) else "dead" if at in (4, 5, 6) else "up"
        tell(bars, START + at, state, why={"silent": "missing", "dead": "stopped"}.get(state, ""))
    assert [(each.state, each.why, each.start - START, each.end - START) for each in bars.reasons("c-1")] == [
        ("dead", "stopped", 4.0, 7.0),
        ("silent", "missing", 2.0, 4.0),
    ]


def test_a_reason_does_not_go_on_while_nobody_watches() -> None:
    bars = Bars()
    tell(bars, START, "dead", why="stopped")
    tell(bars, START + 1, "dead", why="stopped")
    tell(bars, START + 2 + GAP_S, "dead", why="stopped")
    assert [(each.start - START, each.end - START) for each in bars.reasons("c-1")] == [
        (2 + GAP_S, 2 + GAP_S), (0.0, 1.0)
    ]  # fmt: skip


def test_the_past_is_kept_as_bytes() -> None:
    bars, again = Bars(), Bars()
    tell(bars, START, "dead", why="stopped")
    tell(bars, START + DAY_S)
    assert again.unpack({"c-1": bars.packed("c-1"), "c-2": b"\xff", "c-3": b""}, START + DAY_S) == 2
    assert again.shown("c-1", START + DAY_S) == bars.shown("c-1", START + DAY_S)
    assert again.reasons("c-1") == bars.reasons("c-1")
    assert again.states(START + DAY_S + 5, within_s=10.0) == {"c-1": ("up", START + DAY_S)}
    assert again.states(START + DAY_S + 50, within_s=10.0) == {}


def test_what_has_changed_is_told_once() -> None:
    bars = Bars()
    tell(bars, START)
    assert bars.changed() == {"c-1"}
    tell(bars, START + 1)
    assert bars.changed() == set()
    tell(bars, START + 2, "silent")
    assert bars.changed() == {"c-1"}


def test_a_clock_that_is_put_back_leaves_no_future() -> None:
    bars = Bars()
    tell(bars, START + 40 * MINUTE_S, "dead")
    tell(bars, START)
    assert bars.shown("c-1", START + 40 * MINUTE_S)[0].strip() == "u"


def test_it_is_bounded() -> None:
    bars = Bars()
    for at in range(MAX_REASONS + 50):
        tell(bars, START + at, "dead" if at % 2 else "silent", why=str(at) * 1000)
    assert len(bars.reasons("c-1")) == MAX_REASONS
    assert len(bars.packed("c-1")) < 40_000
    for at in range(MAX_NAMES + 10):
        tell(bars, START + 1000 + at, name=f"n-{at}")
    assert bars.shown("c-1", START)[0].strip() == ""
    assert bars.shown(f"n-{MAX_NAMES + 9}", START + 2000 + MAX_NAMES)[0].strip() == "u"


@given(
    st.lists(st.tuples(st.integers(0, 5 * MINUTE_S), st.sampled_from(STATES), st.booleans()), max_size=60),
    st.randoms(use_true_random=False),
)
def test_whatever_the_order_a_bar_is_the_worst_of_its_minute(
    told: list[tuple[int, str, bool]], chance: random.Random
) -> None:
    """Within a minute; minutes come one after the other, as they do."""
    by_minute: dict[int, list[tuple[int, str, bool]]] = {}
    for each in told:
        by_minute.setdefault(each[0] // MINUTE_S, []).append(each)
    bars, other = Bars(), Bars()
    for minute in sorted(by_minute):
        for at, state, failing in by_minute[minute]:
            tell(bars, START + at, state, failing=failing)
        chance.shuffle(by_minute[minute])
        for at, state, failing in by_minute[minute]:
            tell(other, START + at, state, failing=failing)
    end = START + 5 * MINUTE_S
    expected = "".join(
        worst(letter_of(state, failing=failing) for _, state, failing in by_minute.get(minute, []))
        for minute in range(6)
    )
    assert bars.shown("c-1", end)[0] == other.shown("c-1", end)[0] == " " * (MINUTES - 6) + expected
