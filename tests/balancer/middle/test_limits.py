"""What one client may ask for, and that keeping count of many costs little."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.middle.limits import ClientLimits, client_of

A, B = "192.0.2.1", "192.0.2.2"
ADDRESSES = st.sampled_from([A, B, "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])


# --- connections ----------------------------------------------------------------------------


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), ADDRESSES), max_size=60))
def test_a_client_has_as_many_connections_as_it_may(most: int, steps: list[tuple[bool, str]]) -> None:
    limits = ClientLimits(most, 0, 0)
    open_now: Counter[str] = Counter()
    for opens, address in steps:
        client = client_of(address)
        if opens:
            assert limits.opened(address) == (open_now[client] < most)
            open_now[client] = min(open_now[client] + 1, most)
        elif open_now[client]:
            limits.closed(address)
            open_now[client] -= 1
        assert len(limits) == sum(count > 0 for count in open_now.values())


def test_without_a_limit_connections_are_not_counted() -> None:
    limits = ClientLimits(0, 5, 0)
    assert all(limits.opened(A) for _ in range(100))
    limits.closed(A)
    assert len(limits) == 0


# --- requests -------------------------------------------------------------------------------


def test_a_burst_goes_through_and_then_the_rate() -> None:
    limits = ClientLimits(0, 10, 5)
    assert [limits.request(A, 100.0) for _ in range(5)] == [0.0] * 5
    assert limits.request(A, 100.0) == pytest.approx(0.1)
    assert limits.request(A, 100.06) == pytest.approx(0.04)
    assert limits.request(A, 100.1) == 0.0
    assert limits.request(A, 100.1) == pytest.approx(0.1)
    assert limits.request(B, 100.1) == 0.0
    assert [limits.request(A, 200.0) for _ in range(5)] == [0.0] * 5
    assert limits.request(A, 200.0) > 0


@pytest.mark.parametrize(("rps", "burst", "at_once"), [(7, 0, 7), (7, 3, 3), (7, 20, 20), (0.5, 0, 1), (1, 0, 1)])
def test_without_a_burst_it_is_a_seconds_requests(rps: float, burst: int, at_once: int) -> None:
    limits = ClientLimits(0, rps, burst)
    assert sum(limits.request(A, 50.0) == 0.0 for _ in range(100)) == at_once


@given(
    st.sampled_from([0.3, 1.0, 3.0, 7.0, 1000.0]),
    st.integers(1, 6),
    st.lists(st.floats(0, 2), max_size=60),
    st.floats(1, 1e7),
)
def test_it_is_a_token_bucket(rps: float, burst: int, gaps: list[float], start: float) -> None:
    """As usually written: tokens that drip in, up to `burst`."""
    limits = ClientLimits(0, rps, burst)
    now, tokens = start, float(burst)
    for gap in gaps:
        tokens = min(burst, tokens + gap * rps)
        now += gap
        wait_s = limits.request(A, now)
        slack = 1e-4 * max(rps, 1.0)
        if wait_s == 0.0:
            assert tokens >= 1 - slack
            tokens -= 1
        else:
            assert tokens < 1 + slack
            assert wait_s == pytest.approx((1 - tokens) / rps, abs=1e-4)


@given(st.floats(0.1, 1e5), st.integers(0, 50), st.integers(0, 300), st.floats(1, 1e7))
def test_who_comes_when_told_to_is_let_in(rps: float, burst: int, before: int, now: float) -> None:
    limits = ClientLimits(0, rps, burst)
    for _ in range(before):
        wait_s = limits.request(A, now)
        if wait_s:
            assert limits.request(A, now + wait_s) == 0.0
            return


@given(st.integers(1, 50), st.integers(1, 10), st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_nobody_gets_more_than_a_burst_and_the_rate(rps: int, burst: int, gaps: list[float]) -> None:
    limits = ClientLimits(0, rps, burst)
    start = now = 1000.0
    passed = 0
    for gap in gaps:
        now += gap
        passed += limits.request(A, now) == 0.0
    assert passed <= burst + rps * (now - start) + 1e-3


def test_a_steady_client_at_just_the_rate_is_never_refused() -> None:
    limits = ClientLimits(0, 10, 1)
    assert all(limits.request(A, 1000.0 + number / 10) == 0.0 for number in range(10_000))


def test_without_a_limit_requests_are_not_counted() -> None:
    limits = ClientLimits(5, 0, 0)
    assert all(limits.request(A, 1.0) == 0.0 for _ in range(1000))
    assert len(limits) == 0


def test_no_limit_at_all_is_told() -> None:
    assert not ClientLimits(0, 0, 0).enabled
    assert ClientLimits(1, 0, 0).enabled
    assert ClientLimits(0, 1, 0).enabled


# --- memory ---------------------------------------------------------------------------------


def test_idle_clients_are_forgotten_as_others_come() -> None:
    limits = ClientLimits(0, 10, 20)  # idle after at most 2 s
    for number in range(20_000):
        limits.request(f"10.0.{number // 256}.{number % 256}", 1000.0 + number / 100)
    assert len(limits) <= 250


def test_a_client_that_is_not_idle_is_not_forgotten_for_others() -> None:
    limits = ClientLimits(0, 1, 100)
    for _ in range(100):
        limits.request(A, 1000.0)
    for number in range(500):
        limits.request(f"10.0.{number // 256}.{number % 256}", 1000.0)
    assert limits.request(A, 1000.0) > 0


def test_a_flood_of_clients_is_bounded_and_shuts_nobody_out() -> None:
    limits = ClientLimits(0, 1, 5, max_clients=1000)
    for number in range(5000):
        assert limits.request(f"10.0.{number // 256}.{number % 256}", 1000.0) == 0.0
        assert len(limits) <= 1000


def test_who_asked_the_longest_ago_is_forgotten_first() -> None:
    limits = ClientLimits(0, 1, 2, max_clients=3)
    for address in (A, B, "192.0.2.3", A):
        assert limits.request(address, 1000.0) == 0.0
    assert limits.request("192.0.2.4", 1000.0) == 0.0  # no room: B goes, not A
    assert limits.request(A, 1000.0) > 0.0


# --- who is a client ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (A, A, True),
        (A, B, False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:DB8:0:0:aaaa:bbbb:cccc:dddd", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", A, True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("unix", "unix", True),
        ("no:address", "no:address", True),
    ],
)
def test_a_client_is_an_address_or_a_network_of_64_bits(one: str, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


@given(st.text(max_size=30))
def test_any_text_is_somebody(text: str) -> None:
    assert client_of(text) or not text
    assert client_of(client_of(text)) == client_of(text)
