"""The choice of a backend: even, by weight, among those that can take it, and steady where that is asked for."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.middle.choice import LAG_S, LEAST_WEIGHT, Candidate, choose, choose_sticky, weight_of

LOAD = "hub_lag_s"  # what every role says of itself in its heartbeats (hitmesh.mesh.client)
KEYS = [b"/hit/site/page-%d" % number for number in range(2000)]


def one(name: str, *, outstanding: int = 0, weight: float = 1.0, limit: int = 1024, usable: bool = True) -> Candidate:
    made = Candidate(name, limit)
    made.outstanding, made.weight, made.usable = outstanding, weight, usable
    return made


def some(count: int) -> list[Candidate]:
    return [one(f"collector-{number}") for number in range(count)]


def backends() -> st.SearchStrategy[list[Candidate]]:
    each = st.builds(
        one,
        name=st.uuids().map(str),
        outstanding=st.integers(0, 5),
        weight=st.floats(LEAST_WEIGHT, 1.0),
        limit=st.integers(1, 6),
        usable=st.booleans(),
    )
    return st.lists(each, max_size=8)


def served(group: list[Candidate], requests: int, seed: int, *, busy: int) -> Counter[str]:
    """How many each got, with `busy` requests under way at a time, which end in random order."""
    drawn = random.Random(seed)
    under_way: list[Candidate] = []
    shares: Counter[str] = Counter()
    for _ in range(requests):
        if len(under_way) >= busy:
            under_way.pop(drawn.randrange(len(under_way))).outstanding -= 1
        chosen = choose(group, drawn.random)
        assert chosen is not None
        chosen.outstanding += 1
        under_way.append(chosen)
        shares[chosen.name] += 1
    return shares


# --- choose ---------------------------------------------------------------------------------


@given(backends(), st.floats(0, 1, exclude_max=True))
def test_nobody_has_less_to_do_for_its_weight_than_the_chosen_one(group: list[Candidate], number: float) -> None:
    fit = [one for one in group if one.usable and one.outstanding < one.limit]
    chosen = choose(group, lambda: number)
    if not fit:
        assert chosen is None
    else:
        assert chosen in fit
        least = min((one.outstanding + 1) / one.weight for one in fit)
        assert (chosen.outstanding + 1) / chosen.weight == least


def test_of_no_backends_nobody_is_chosen() -> None:
    assert choose([], random.random) is None
    assert choose_sticky([], b"key") is None


def test_a_full_one_and_one_that_is_not_usable_are_passed_over() -> None:
    full, down, busy = one("full", outstanding=3, limit=3), one("down", usable=False), one("busy", outstanding=900)
    for group in ([full, down, busy], [busy, down, full]):
        assert choose(group, random.random) is busy
        assert all(choose_sticky(group, key) is busy for key in KEYS[:50])
    assert choose([full, down], random.random) is None
    assert choose_sticky([full, down], b"key") is None


@pytest.mark.parametrize("count", [2, 3, 8])
def test_ties_go_to_each_as_often(count: int) -> None:
    drawn = random.Random(1)
    group = [one("busy", outstanding=9), *some(count)]
    shares = Counter(chosen.name for _ in range(4000) if (chosen := choose(group, drawn.random)))
    assert len(shares) == count
    expected = 4000 / count
    assert all(abs(share - expected) < 5 * math.sqrt(expected) for share in shares.values())


@pytest.mark.parametrize("busy", [1, 3, 40])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_ones_get_equal_shares(count: int, busy: int) -> None:
    shares = served(some(count), 5000, seed=2, busy=busy)
    assert max(shares.values()) - min(shares.values()) < 0.1 * 5000 / count + 1


def test_shares_follow_weights_under_load() -> None:
    group = some(3)
    group[0].weight, group[1].weight = 0.5, 0.25
    shares = served(group, 20_000, seed=3, busy=200)
    for one, share in zip(group, (2 / 7, 1 / 7, 4 / 7), strict=True):
        assert shares[one.name] / 20_000 == pytest.approx(share, rel=0.1)


def test_one_that_is_slow_gets_less_without_being_told() -> None:
    slow, fast = one("slow"), one("fast")
    slow.outstanding = 10  # nothing of it ends
    shares: Counter[str] = Counter()
    for _ in range(100):
        chosen = choose([slow, fast], random.random)
        assert chosen is not None
        shares[chosen.name] += 1
    assert shares == {"fast": 100}


# --- choose_sticky --------------------------------------------------------------------------


def homes(group: list[Candidate]) -> dict[bytes, str]:
    chosen = {key: choose_sticky(group, key) for key in KEYS}
    return {key: one.name for key, one in chosen.items() if one is not None}


def test_a_key_goes_to_the_same_one_whatever_the_order_and_the_work() -> None:
    group = some(5)
    before = homes(group)
    for number, one in enumerate(group):
        one.outstanding = number
    group.reverse()
    assert homes(group) == before


@pytest.mark.parametrize("how", ["gone", "down", "full"])
def test_only_the_keys_of_the_lost_one_move_and_to_all_others(how: str) -> None:
    group = some(5)
    before = homes(group)
    lost = group[2]
    if how == "gone":
        group.remove(lost)
    elif how == "down":
        lost.usable = False
    else:
        lost.outstanding = lost.limit
    after = homes(group)
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved == {key for key in KEYS if before[key] == lost.name}
    assert Counter(after[key] for key in moved).keys() == {one.name for one in group} - {lost.name}


@given(st.integers(2, 12), st.binary(max_size=40))
def test_each_next_in_order_takes_over(count: int, key: bytes) -> None:
    group = some(count)
    order = []
    while (chosen := choose_sticky(group, key)) is not None:
        order.append(chosen.name)
        chosen.usable = False
    assert sorted(order) == sorted(one.name for one in group)
    # Whoever comes back is at its old place again.
    group[0].usable = True
    group[-1].usable = True
    first = choose_sticky(group, key)
    assert first is not None
    assert first.name == min((group[0].name, group[-1].name), key=order.index)


@pytest.mark.parametrize("count", [2, 5, 16])
def test_keys_are_spread_evenly(count: int) -> None:
    shares = Counter(homes(some(count)).values())
    expected = len(KEYS) / count
    assert sum((shares[f"collector-{n}"] - expected) ** 2 / expected for n in range(count)) < count + 5 * math.sqrt(
        2 * count
    )


def test_a_weight_that_changes_moves_no_key() -> None:
    group = some(4)
    before = homes(group)
    group[0].weight = LEAST_WEIGHT
    assert homes(group) == before


def test_every_process_makes_the_same_choice() -> None:
    # Written down once: workers, both balancers of a pair and later versions have to agree.
    group = some(5)
    chosen = [choose_sticky(group, key) for key in KEYS[:10]]
    assert [one.name[-1] for one in chosen if one is not None] == list("1020103101")


# --- weight_of ------------------------------------------------------------------------------


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 60))
def test_a_weight_is_between_a_tenth_and_one(lag_s: float, age_s: float, slow_start_s: float) -> None:
    assert LEAST_WEIGHT <= weight_of({LOAD: lag_s}, age_s, slow_start_s) <= 1.0


@pytest.mark.parametrize(
    ("lag_s", "weight"), [(0.0, 1.0), (LAG_S, 0.5), (3 * LAG_S, 0.25), (9 * LAG_S, 0.1), (5.0, 0.1), (-1.0, 1.0)]
)
def test_who_lags_gets_less(lag_s: float, weight: float) -> None:
    assert weight_of({"jobs": 3.0, LOAD: lag_s}, 100.0, 10.0) == pytest.approx(weight)


@pytest.mark.parametrize(("age_s", "weight"), [(0.0, 0.1), (5.0, 0.55), (9.999, 0.9999), (10.0, 1.0), (-0.1, 0.1)])
def test_a_newcomers_share_grows_evenly(age_s: float, weight: float) -> None:
    assert weight_of({}, age_s, 10.0) == pytest.approx(weight, abs=1e-4)


def test_without_slow_start_a_newcomer_has_its_share_at_once() -> None:
    assert weight_of({}, 0.0, 0.0) == 1.0


def test_a_lag_that_is_no_number_is_no_reason() -> None:
    assert weight_of({LOAD: math.nan}, 100.0, 10.0) == 1.0
